"""The settings of `[ct]`: the look at public logs of certificates."""

from __future__ import annotations

from msgspec import Struct

from certferry.config.secrets import SecretReference
from certferry.core.assessment.transparency import ExpectedCertificate


class TransparencySettings(Struct, frozen=True):
    """Whether runs look at public logs, and which certificates are expected there."""

    #: Whether runs look. The registered domains of the declared names then go to the service.
    watches: bool = False
    #: The address of the service; `None`: the usual service.
    api: str | None = None
    #: The key of an account at the service.
    token: SecretReference | None = None
    #: Certificates that others order with the operator's consent.
    expected: tuple[ExpectedCertificate, ...] = ()
