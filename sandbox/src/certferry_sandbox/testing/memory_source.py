"""Another client's files, in memory."""

from __future__ import annotations

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import PemFiles
from certferry.errors import CertferryError, CertificateError
from certferry.text import Text


class MemorySource:
    """A `CertificateSource` whose files are put there by a test."""

    def __init__(self) -> None:
        self._held: dict[PemFiles, CertificateBundle | CertferryError] = {}

    def put(self, files: PemFiles, held: CertificateBundle | CertferryError) -> None:
        """Let the files hold this, or let reading them fail like this."""
        self._held[files] = held

    def read(self, files: PemFiles) -> CertificateBundle:
        """See `ports.source.CertificateSource.read`."""
        held = self._held.get(files)
        if held is None:
            raise CertificateError(Text("there is no file {path}", path=files.fullchain))
        if isinstance(held, CertferryError):
            raise held
        return held
