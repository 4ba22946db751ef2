"""Certificates in PEM files, as acme.sh, certbot, lego and people leave them."""

from __future__ import annotations

from pathlib import Path

from certferry.core.certificate import CertificateBundle, parse_bundle
from certferry.core.desired import PemFiles
from certferry.core.secret import Secret
from certferry.errors import CertificateError, PlanRefused
from certferry.text import Text

LARGEST = 1 << 20
"""Bytes: a chain has a few thousand, and a wrong path may lead to anything."""

_KEY = "PRIVATE KEY-----"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


class PemFileSource:
    """Reads pairs of files. Holds what it has read, so that the same contents are judged once: a
    run looks again and again, and to prove an RSA key sound takes up to a third of a second.
    """

    def __init__(self) -> None:
        self._judged: dict[PemFiles, tuple[tuple[str, Secret], CertificateBundle]] = {}

    def read(self, files: PemFiles) -> CertificateBundle:
        """See `ports.source.CertificateSource.read`."""
        texts = _text(files.fullchain), Secret(_text(files.privkey))
        known = self._judged.get(files)
        if known is not None and known[0] == texts:
            return known[1]
        bundle = _judge(*texts, files)
        self._judged[files] = (texts, bundle)
        return bundle


def _judge(fullchain: str, privkey: Secret, files: PemFiles) -> CertificateBundle:
    _must_be_what_it_is_called(fullchain, privkey.reveal(), files)
    try:
        bundle = parse_bundle(fullchain, privkey)
    except CertificateError as error:
        message = Text("{path}: {problem}", path=_culprit(error, files), problem=error.message)
        raise CertificateError(message, hint=error.hint) from None
    _must_belong_together(bundle, files)
    return bundle


def _text(path: str) -> str:
    """Read a file as text, whatever an editor of another system did to it."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        problem = Text("{path}: {problem}", path=path, problem=error.strerror or str(error))
        hint = Text("`fullchain` and `privkey` name files that the user of certferry can read")
        raise CertificateError(problem, hint=hint) from error
    if len(data) > LARGEST:
        raise CertificateError(Text("{path}: too large for a certificate or a key", path=path))
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def _must_be_what_it_is_called(fullchain: str, privkey: str, files: PemFiles) -> None:
    if _CERTIFICATE not in fullchain:
        kind = Text("a private key") if _KEY in fullchain else Text("no certificate")
        raise CertificateError(
            Text("{path}: holds {kind}", path=files.fullchain, kind=kind),
            hint=Text("`fullchain` is the file with the leaf and its issuer certificates"),
        )
    if _KEY not in privkey:
        kind = Text("a certificate") if _CERTIFICATE in privkey else Text("no private key")
        raise CertificateError(
            Text("{path}: holds {kind}", path=files.privkey, kind=kind),
            hint=Text("`privkey` is the file with the certificate's private key"),
        )


def _culprit(error: CertificateError, files: PemFiles) -> str:
    """Tell which of the two files an error about the pair is about."""
    return files.privkey if "key" in error.message.template else files.fullchain


def _must_belong_together(bundle: CertificateBundle, files: PemFiles) -> None:
    if not bundle.key_matches:
        raise PlanRefused(
            Text(
                "{privkey} is not the key of {fullchain}",
                privkey=files.privkey,
                fullchain=files.fullchain,
            ),
            hint=Text(
                "another client may be writing them just now: the next run looks again. If it"
                " stays like this, check that both paths belong to the same certificate"
            ),
        )
    if not bundle.chain_complete:
        raise PlanRefused(
            Text("{path}: the chain is incomplete or in the wrong order", path=files.fullchain),
            hint=Text(
                "a fullchain holds the leaf first, then each issuer certificate; acme.sh writes it"
                " with --fullchain-file, certbot as fullchain.pem"
            ),
        )
