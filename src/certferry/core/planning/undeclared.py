"""Certificates that are stored, and that the file no longer declares."""

from __future__ import annotations

from msgspec import Struct

from certferry.core.certificates.certificate import Certificate
from certferry.errors import Problem, Severity
from certferry.text import Text

CODE = "undeclared"
"""The code of a certificate that the file no longer declares."""


class Undeclared(Struct, frozen=True):
    """A certificate that is stored but no longer declared, and no longer renewed."""

    lineage: str
    certificate: Certificate
    renamed_to: str | None = None  #: A declared lineage with the same names.

    @property
    def problem(self) -> Problem:
        """The problem with a hint."""
        message = Text(
            "{lineage} is not declared any more: certferry no longer renews or deploys it; its"
            " certificate is valid until {moment}",
            lineage=self.lineage,
            moment=self.certificate.not_after,
        )
        hint = Text(
            "declare it again, or, if it is meant to end, run `certferry forget {lineage}`",
            lineage=self.lineage,
        )
        if self.renamed_to is not None:
            renamed = {"old": self.lineage, "new": self.renamed_to}
            message = Text(
                "{old} is not declared any more, and {new} has exactly its names", **renamed
            )
            hint = Text(
                "`certferry rename {old} {new}` keeps its certificate, and no new one is issued",
                **renamed,
            )
        return Problem(CODE, message, hint, Severity.WARNING, self.lineage)
