"""Who is trusted at the edge, and whether a served chain leads there."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certferry.errors import ConfigError
from certferry.text import Text


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
    return next((path for path in (*found, debian) if path.is_file()), Path(certifi.where()))


def _read(bundle: Path) -> list[x509.Certificate]:
    try:
        roots = x509.load_pem_x509_certificates(bundle.read_bytes())
    except OSError as error:
        raise _unreadable(bundle, error.strerror or str(error)) from error
    except ValueError as error:
        raise _unreadable(bundle, str(error)) from error
    return roots


def _unreadable(bundle: Path, problem: str) -> ConfigError:
    return ConfigError(
        Text("{path} is no bundle of certificates: {problem}", path=bundle, problem=problem),
        hint=Text("`ca_bundle` under [verify] names a PEM file of trusted roots"),
    )
