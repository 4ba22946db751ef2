"""Who is trusted at the edge, and whether a served chain leads there."""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certferry.errors import ConfigError
from certferry.system_words import system_words
from certferry.text import Text

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Trust:
    """A set of trusted roots: a PEM bundle of the operator's, or the system's.

    Raises `ConfigError` when the bundle cannot be read or holds no certificate.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._store = Store(_read(ca_bundle or _system_bundle()))

    def problem(self, chain: Sequence[x509.Certificate], host: str, now: datetime) -> Text | None:
        """Say why a client would not accept the chain (leaf first) for the host; `None` if it
        would (RFC 5280 path validation, names per RFC 6125).
        """
        policy = PolicyBuilder().store(self._store).time(now)
        verifier = policy.build_server_verifier(x509.DNSName(host))
        try:
            verifier.verify(chain[0], list(chain[1:]))
        except VerificationError as error:
            return Text("not trusted: {problem}", problem=str(error))
        return None


def _system_bundle() -> Path:
    """The system's bundle, where it has one in a file; else the one that comes with `requests`."""
    cafile = ssl.get_default_verify_paths().cafile
    debian = Path("/etc/ssl/certs/ca-certificates.crt")
    found = [Path(cafile)] if cafile else []
    for path in (*found, debian):
        if path.is_file():
            return path
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return Path(DEFAULT_CA_BUNDLE_PATH)


def _read(bundle: Path) -> list[x509.Certificate]:
    """Read each certificate by itself: a system's bundle may hold one that the library, stricter
    than the others were (RFC 5280 §4.1.2.2), does not take, and that must not cost the rest.
    """
    try:
        blocks = _BLOCK.findall(bundle.read_bytes())
    except OSError as error:
        raise _unreadable(bundle, system_words(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        roots = [root for block in blocks if (root := _root(block)) is not None]
    if not roots:
        raise _unreadable(bundle, Text("no certificate in it"))
    return roots


def _root(block: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(block)
    except (ValueError, x509.InvalidVersion):
        return None


def _unreadable(bundle: Path, problem: Text) -> ConfigError:
    return ConfigError(
        Text("{path} is no bundle of certificates: {problem}", path=bundle, problem=problem),
        hint=Text("`ca_bundle` under [verify] names a PEM file of trusted roots"),
    )
