"""One TLS handshake: which chain does this address present for this name?"""

from __future__ import annotations

import errno
import socket
import ssl

from certferry.system_words import system_words
from certferry.text import Text

TIMEOUT = 10.0
"""Seconds for connecting, and again for the handshake."""


_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What this machine lacks, and says nothing about the address. Taken for its silence, an edge that
was not asked would count for nothing, and what it serves still be retired.
"""


class NoHandshake(Exception):
    """The address gave no certificate; `problem` says why, `silent` that it was not reached."""

    def __init__(self, problem: Text, *, silent: bool) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.silent = silent


def served_chain(address: str, port: int, host: str) -> list[bytes]:
    """Shake hands with SNI and give what is served as DER, leaf first, unread: at least one.

    Raises `NoHandshake`.
    """
    try:
        with (
            socket.create_connection((address, port), TIMEOUT) as connection,
            _context().wrap_socket(connection, server_hostname=host) as session,
        ):
            chain_der = _chain(session)
    except TimeoutError as error:
        problem = Text("no answer within {seconds} seconds", seconds=int(TIMEOUT))
        raise NoHandshake(problem, silent=True) from error
    except ssl.SSLError as error:
        problem = Text("the handshake failed ({alert})", alert=error.reason or str(error))
        raise NoHandshake(problem, silent=False) from error
    except OSError as error:
        problem = system_words(error)
        raise NoHandshake(problem, silent=error.errno not in _OURS) from error
    if not chain_der:
        raise NoHandshake(Text("it presents no certificate"), silent=False)
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
