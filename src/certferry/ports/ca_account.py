"""The door to the account at a CA, and to what it may do with certificates that were issued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from certferry.core.certificate import CertificateBundle
from certferry.core.revocation import RevocationReason


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account as its CA shows it: `status` in ACME's words (RFC 8555 §7.1.2), `None` where the
    CA does not know it; whom the CA writes to.
    """

    url: str | None
    status: str | None
    contacts: tuple[str, ...] = ()


class CaAccount(Protocol):
    """The account at one directory. All raise `IssuanceError` and `StateError`; all but `revoke`
    and `look` raise `PlanRefused` where there is no account.
    """

    def look(self) -> AccountFacts | None:
        """Ask the CA for the account; `None` where there is none. Changes nothing there."""
        ...

    def rollover(self) -> None:
        """Give the account a new key. Killed in between, the next run has a key that is in force:
        both are kept until the CA has answered.
        """
        ...

    def deactivate(self) -> None:
        """Put the account out of use for ever, and forget it."""
        ...

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        """Revoke a certificate: as the account, or with the certificate's own key where the account
        may not. One that is revoked already is done. Raises `CertificateError` for a key that can
        sign no request.
        """
        ...


AccountAt = Callable[[str | None], CaAccount]
"""Gives the account at a directory; at the usual one where it is not known."""
