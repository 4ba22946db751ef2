"""A mail server for SMTP with TLS (RFC 5321, RFC 3207, RFC 8314) and a single user with a password.
The server checks the order of commands, and refuses some recipients.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import ssl
import threading
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from certferry_sandbox.authority import Authority
from certferry_sandbox.httpd import Connections, utc_now

HOST = "localhost"
USER, PASSWORD = "ops@example.com", "rHq7-Vt2k-Zx9m-Lp4w"
GONE, GREY = "gone@example.com", "grey@example.com"
"""Recipients that the server refuses: `GONE` for good, `GREY` for now."""


class MailServer:
    """A mail server on loopback.

    `tls`: `smtps` is TLS from the start, `starttls` offers STARTTLS, `never` offers no TLS. A
    connection without TLS cannot log in.
    `international`: accept addresses beyond ASCII, if the client asks for SMTPUTF8 (RFC 6531).
    `mails`: the accepted mails; `recipients` has the recipients of each mail, in the same order.
    `in_the_clear`: the commands that clients sent without TLS.
    """

    def __init__(self, tls: str = "smtps", *, international: bool = False) -> None:
        self.tls = tls
        self.international = international
        self.authority = Authority("Mail")
        now = utc_now()
        issued = self.authority.issue([HOST], now - timedelta(days=1), now + timedelta(days=30))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with TemporaryDirectory(prefix="certferry-mail-") as private:
            chain, key = Path(private, "fullchain.pem"), Path(private, "privkey.pem")
            chain.write_text(issued.fullchain_pem)
            key.write_text(issued.privkey_pem)
            self.context.load_cert_chain(chain, key)
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.in_the_clear: list[str] = []
        self._server: _Server | None = None

    @property
    def taken(self) -> list[str]:
        """The subject and the text of each mail."""
        return [f"{mail['Subject']}\n{mail.get_content()}" for mail in self.mails]

    @property
    def url(self) -> str:
        """The URL of the running server."""
        if self._server is None:
            raise RuntimeError("the service is not running")
        scheme = "smtps" if self.tls == "smtps" else "smtp"
        return f"{scheme}://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.connections.end()
            self._server = None


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, mail: MailServer) -> None:
        self.mail = mail
        self.connections = Connections()
        super().__init__(("127.0.0.1", 0), _Session)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: a client may hang up, or reject the certificate."""


class _Session(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Talk to a client until the connection ends."""
        self.socket: socket.socket = self.request
        self.lines = self.socket.makefile("rb")
        self.server.connections.opened(self.socket)
        try:
            with contextlib.suppress(OSError, ValueError):
                self._talk()
        finally:
            self._hang_up()

    def _talk(self) -> None:
        self.is_private = self.is_known = self.is_greeted = False
        self.sender = ""
        self.to: list[str] = []
        if self.server.mail.tls == "smtps":
            self._begin_tls()
        self._say("220 mail.example.com ESMTP")
        while line := self.lines.readline():
            word, _, rest = line.decode().strip().partition(" ")
            if not self.is_private:
                self.server.mail.in_the_clear.append(word.upper())
            if word.upper() == "QUIT":
                self._say("221 Bye")
                return
            if not self.is_greeted and word.upper() not in {"EHLO", "HELO"}:
                self._say("503 5.5.1 EHLO first")  # RFC 5321 §4.1.4
            elif not rest.isascii() and not self._takes_all_characters(rest):
                self._say("553 5.6.7 address beyond ASCII")
            else:
                self.is_greeted = True
                self._answer(word.upper(), rest)

    def _begin_tls(self) -> None:
        plain = self.socket
        self.socket = self.server.mail.context.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        )
        self.server.connections.opened(self.socket)
        self.server.connections.closed(plain)
        self.lines.close()
        self.lines = self.socket.makefile("rb")
        self.socket.do_handshake()
        self.is_private, self.is_greeted = True, False

    def _hang_up(self) -> None:
        self.lines.close()
        self.socket.close()
        self.server.connections.closed(self.socket)

    def _say(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _answer(self, word: str, rest: str) -> None:
        match word:
            case "EHLO" | "HELO":
                more = ["250-AUTH PLAIN LOGIN"] if self.is_private else []
                if not self.is_private and self.server.mail.tls == "starttls":
                    more = ["250-STARTTLS"]
                more += ["250-SMTPUTF8"] if self.server.mail.international else []
                self._say("250-mail.example.com", *more, "250 8BITMIME")
            case "STARTTLS" if self.server.mail.tls == "starttls" and not self.is_private:
                self._say("220 go ahead")
                self._begin_tls()
            case "AUTH" if self.is_private:
                self._log_in(rest)
            case "MAIL" if self.is_known:
                self.sender, self.to = rest, []
                self._say("250 OK")
            case "RCPT" if self.sender:
                self._recipient(rest.partition("<")[2].partition(">")[0])
            case "DATA" if self.to:
                self._data()
            case "RSET" | "NOOP":
                self._say("250 OK")
            case "MAIL" | "AUTH":
                self._say("530 5.7.0 Authentication required")
            case _:
                self._say("503 5.5.1 bad sequence of commands")

    def _takes_all_characters(self, rest: str) -> bool:
        sender = rest if rest.upper().startswith("FROM:") else self.sender
        return self.server.mail.international and sender.upper().endswith(" SMTPUTF8")

    def _log_in(self, rest: str) -> None:
        kind, _, proof = rest.partition(" ")
        wanted = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
        self.is_known = kind == "PLAIN" and proof == wanted
        ended = "235 2.7.0 OK" if self.is_known else "535 5.7.8 Authentication credentials invalid"
        self._say(ended)

    def _recipient(self, address: str) -> None:
        if address == GONE:
            self._say(f"550 5.1.1 <{address}>: no such user here")
        elif address == GREY:
            self._say(f"450 4.7.1 <{address}>: greylisted, come again")
        else:
            self.to.append(address)
            self._say("250 OK")

    def _data(self) -> None:
        self._say("354 end with .")
        lines: list[bytes] = []
        while (line := self.lines.readline()) != b".\r\n":
            if not line:
                return  # the client hung up
            lines.append(line)
        if not all(line.endswith(b"\r\n") for line in lines):
            self._say("550 5.6.0 bare line feed")  # RFC 5321 §2.3.8
            return
        received = [line.removeprefix(b".") for line in lines]
        mail = message_from_bytes(b"".join(received), policy=policy.default)
        self.server.mail.mails.append(mail)
        self.server.mail.recipients.append(self.to)
        self.sender, self.to = "", []
        self._say("250 queued")
