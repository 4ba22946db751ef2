"""Which certificates at the accounts are ours, by all that is remembered."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from certferry.core.certificate import Certificate
from certferry.core.lineage import marks, owner_of
from certferry.core.remembered import Remembered
from certferry.core.upload import NO_LINEAGE


class Owner(StrEnum):
    """Whose a certificate at a target is. One that is free is the target's own."""

    OURS = "ours"
    FOREIGN = "foreign"
    FREE = "free"


class Ledger:
    """Which certificates at the accounts are ours, by the state: what was uploaded, and what was
    issued, of every lineage.
    """

    def __init__(self, remembered: Iterable[tuple[str, Remembered]] = ()) -> None:
        self._uploaded: dict[tuple[str, str], str] = {}
        self._marked: dict[str, str] = {}
        self._issued: dict[str, Certificate] = {}
        for lineage, known in remembered:
            for upload in known.uploads:
                if upload.lineage != NO_LINEAGE:
                    self._uploaded[upload.target, upload.remote_id] = upload.fingerprint
            for version in known.versions:
                certificate = version.certificate
                self._issued[certificate.fingerprint] = certificate
                for label in marks(lineage, certificate.fingerprint):
                    self._marked[label] = certificate.fingerprint

    def fingerprint(self, account: str, remote_id: str, label: str) -> str | None:
        """Return what identifies a certificate of ours, as far as the state knows it."""
        return self._uploaded.get((account, remote_id)) or self._marked.get(label)

    def owner(self, account: str, remote_id: str, label: str) -> Owner:
        """Tell whose a certificate in an account's list is: a mark of ours counts, also where the
        state that knew it is another machine's, or gone.
        """
        known = self.fingerprint(account, remote_id, label) is not None
        return Owner.OURS if known or owner_of(label) is not None else Owner.FOREIGN

    def remote_id(self, account: str, fingerprint: str) -> str | None:
        """Return where the account has a certificate, if the state knows of one copy alone."""
        wanted = (account, fingerprint)
        ids = [id_ for (at, id_), one in self._uploaded.items() if (at, one) == wanted]
        return ids[0] if len(ids) == 1 else None

    def issued(self, fingerprint: str) -> Certificate | None:
        """Return the certificate of ours that has a fingerprint."""
        return self._issued.get(fingerprint)
