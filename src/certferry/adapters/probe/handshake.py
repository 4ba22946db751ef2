"""One TLS handshake: which chain does this address present for this name?"""

from __future__ import annotations

import socket
import ssl

from certferry.adapters.probe.no_handshake import (
    NO_CERTIFICATE,
    NoHandshake,
    no_answer,
    not_connected,
    refused_handshake,
)

TIMEOUT = 10.0
"""Seconds for connecting, and again for the handshake."""


def served_chain(address: str, port: int, host: str, within: float = TIMEOUT) -> list[bytes]:
    """Shake hands with SNI, of which an address has none (RFC 6066 §3), and give what is served as
    DER, leaf first, unread: at least one. `within` so many seconds it connects, and answers.

    Raises `NoHandshake`.
    """
    try:
        with (
            socket.create_connection((address, port), within) as connection,
            _context().wrap_socket(connection, server_hostname=host) as session,
        ):
            chain_der = _chain(session)
    except TimeoutError as error:
        raise no_answer(int(within)) from error
    except ssl.SSLError as error:
        raise refused_handshake(error) from error
    except OSError as error:
        raise not_connected(error, address) from error
    if not chain_der:
        raise NoHandshake(NO_CERTIFICATE, silent=False)
    return chain_der


def _context() -> ssl.SSLContext:
    """A client that takes any certificate: it is judged afterwards, when it has been seen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _chain(session: ssl.SSLSocket) -> list[bytes]:
    """The chain as sent. Public from Python 3.13; before that on the wrapped object, which has
    had it since 3.10.
    """
    if hasattr(session, "get_unverified_chain"):
        return list(session.get_unverified_chain() or ())
    inner = session._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - the only way on 3.11 and 3.12
    sent = inner.get_unverified_chain() or ()
    return [ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in sent]
