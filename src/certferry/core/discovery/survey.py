"""What is in the accounts, whatever is declared: domains that are served, with their
certificates, and zones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.errors import CertferryError
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class FoundDomain:
    """A domain of a target. `bound` is the remote id of its certificate, `not_after` that one's
    end, where the target tells them; `is_free`: the certificate is one of the target's own, which
    the target does not list. `state` is the target's own word.

    `problem` says why it cannot be changed; a domain that is not `by_itself` takes its certificate
    from another one, or none at all. `binding_hidden`: the target does not tell what is bound, and
    without `has_https` not even whether anything is. `failure` is why the last change of it failed;
    it can be changed all the same.
    """

    domain: str
    kind: Kind
    has_https: bool = False
    not_after: datetime | None = None
    problem: CertferryError | None = None
    by_itself: bool = True
    bound: str | None = None
    is_free: bool = False
    binding_hidden: bool = False
    state: str | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)
    failure: CertferryError | None = None


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """A certificate at a target, as the target lists it. `label` may be empty; `names` are `None`
    where the list does not have them.
    """

    remote_id: str
    label: str = ""
    names: tuple[str, ...] | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """The domains and the certificates of a target. `unread` is what could not be read, so that
    there may be more of them, or more to tell of them.
    """

    domains: tuple[FoundDomain, ...]
    unread: tuple[CertferryError, ...] = ()
    certificates: tuple[FoundCertificate, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundZone:
    """A zone of a DNS account. `problem` says why no record can be written into it."""

    name: str
    problem: Text | None = None
