"""Read certificates from PEM files written by acme.sh, certbot, lego or an operator."""

from __future__ import annotations

import codecs
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certferry.adapters.files.directory import LARGEST
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import bundle_of, parse_chain, parse_key
from certferry.core.desired.certificate import PemFiles
from certferry.core.redaction import Secret
from certferry.errors import CertificateError, PlanRefused, system_words
from certferry.text import Text

_KEY = "PRIVATE KEY-----"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DER = b"\x30"  # a SEQUENCE (X.690 §8.9.1) begins every certificate and every key


class PemFileSource:
    """Reads certificates with their keys from pairs of files. The results are cached, because the
    check of an RSA key may take 0.3 seconds.
    """

    def __init__(self) -> None:
        # For each pair of files: the texts read last, and the certificate in the texts.
        self._judged: dict[PemFiles, tuple[tuple[str, Secret], CertificateBundle]] = {}

    def read(self, files: PemFiles) -> CertificateBundle:
        """See `ports.source.CertificateSource.read`."""
        texts = _text(files.fullchain, "x509"), Secret(_text(files.privkey, "pkey"))
        cached = self._judged.get(files)
        if cached is not None and cached[0] == texts:
            return cached[1]
        bundle = _judge(*texts, files)
        self._judged[files] = (texts, bundle)
        return bundle


def _judge(fullchain: str, privkey: Secret, files: PemFiles) -> CertificateBundle:
    _must_be_what_it_is_called(fullchain, privkey.reveal(), files)
    with _about(files.fullchain):
        certificates = parse_chain(fullchain)
    with _about(files.privkey):
        key = parse_key(privkey)
    with _about(files.fullchain):
        bundle = bundle_of(certificates, key)
    _must_belong_together(bundle, files)
    return bundle


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Add the file's path to errors of the block."""
    try:
        yield
    except CertificateError as error:
        message = Text("{path}: {problem}", path=path, problem=error.message)
        raise CertificateError(message, hint=error.hint) from None


def _text(path: str, program: str) -> str:
    """Read a PEM file. `program` is the OpenSSL command that converts DER, for the hint.

    Raises `CertificateError`.
    """
    hint = Text("set `fullchain` and `privkey` to files that certferry's user can read")
    data = contents_of(Path(path), hint=hint)
    if data.startswith(_UTF_16):
        problem = Text("{path}: is UTF-16 text", path=path)
        raise CertificateError(problem, hint=Text("save the file as UTF-8, or copy the file again"))
    if data.startswith(_DER):
        hint = Text(
            "convert the file to PEM: {command}",
            command=f"openssl {program} -inform der -in {shlex.quote(path)} -out FILE.pem",
        )
        raise CertificateError(Text("{path}: is DER, not PEM text", path=path), hint=hint)
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def _must_be_what_it_is_called(fullchain: str, privkey: str, files: PemFiles) -> None:
    held = Text("{path}: contains {kind}")
    if _CERTIFICATE not in fullchain:
        kind = Text("a private key") if _KEY in fullchain else Text("no certificate")
        hint = Text("set `fullchain` to the file with the leaf and its issuer certificates")
        raise CertificateError(held.filled(path=files.fullchain, kind=kind), hint=hint)
    if _KEY not in privkey:
        kind = Text("a certificate") if _CERTIFICATE in privkey else Text("no private key")
        hint = Text("set `privkey` to the file with the certificate's private key")
        raise CertificateError(held.filled(path=files.privkey, kind=kind), hint=hint)


def _must_belong_together(bundle: CertificateBundle, files: PemFiles) -> None:
    if not bundle.key_matches:
        sentence = Text("{privkey} is not the key of {fullchain}")
        hint = Text(
            "another client may be writing the files right now: try again in a moment. If the "
            "error persists, check that both paths belong to the same certificate"
        )
        message = sentence.filled(privkey=files.privkey, fullchain=files.fullchain)
        raise PlanRefused(message, hint=hint)
    if not bundle.chain_complete:
        problem = Text("{path}: the chain is incomplete or in the wrong order")
        hint = Text(
            "a fullchain contains the leaf first, then each issuer certificate; acme.sh writes "
            "it with --fullchain-file, certbot as fullchain.pem, lego without --no-bundle"
        )
        raise PlanRefused(problem.filled(path=files.fullchain), hint=hint)


def contents_of(path: Path, *, hint: Text | None = None) -> bytes:
    """Read a whole file. Raises `CertificateError` for an unreadable or too large file."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # `fdopen` raises the right error for a directory.
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                data = file.read(LARGEST + 1) if is_regular else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        problem = Text("{path}: {problem}", path=path, problem=system_words(error))
        raise CertificateError(problem, hint=hint) from error
    if not is_regular:
        raise CertificateError(Text("{path}: is not a regular file", path=path), hint=hint)
    if len(data) > LARGEST:
        message = Text(
            "{path}: too large for a certificate, a key or a client's settings", path=path
        )
        raise CertificateError(message)
    return data
