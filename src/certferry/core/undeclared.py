"""Certificates that are valid still, and that the file declares no more."""

from __future__ import annotations

from dataclasses import dataclass

from certferry.core.certificate import Certificate
from certferry.text import Text

CODE = "undeclared"
"""Of the notice, of the finding and of the concern."""


@dataclass(frozen=True, slots=True)
class Undeclared:
    """One of them: certferry does not renew it any more. `renamed_to` is a declared certificate of
    exactly its names that has never been issued.
    """

    lineage: str
    certificate: Certificate
    renamed_to: str | None = None

    @property
    def message(self) -> Text:
        """Say what that means."""
        if self.renamed_to is not None:
            return Text(
                "{old} is not declared any more, and {new} has exactly its names",
                old=self.lineage,
                new=self.renamed_to,
            )
        return Text(
            "{lineage} is not declared any more: certferry no longer renews or deploys it; its"
            " certificate is valid until {moment}",
            lineage=self.lineage,
            moment=self.certificate.not_after,
        )

    @property
    def hint(self) -> Text:
        """Say how to end that."""
        if self.renamed_to is not None:
            return Text(
                "`certferry rename {old} {new}` keeps its certificate, and no new one is issued",
                old=self.lineage,
                new=self.renamed_to,
            )
        return Text(
            "declare it again, or, if it is meant to end, run `certferry forget {lineage}`",
            lineage=self.lineage,
        )
