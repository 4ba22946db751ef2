"""The mail channel, by SMTP and always with TLS.

`smtps://` uses TLS from the start (RFC 8314 §3.3), `smtp://` starts TLS by STARTTLS (RFC 3207).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from certferry.core.assessment.notices import Message
from certferry.core.redaction import Secret, quoted
from certferry.errors import ConfigError, system_words
from certferry.ports.adapter import Context, Variable
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood, Sent
from certferry.text import Text

if TYPE_CHECKING:  # loaded when a mail is sent
    import smtplib

SERVICE = "Mail"
CALLED = Text("Mail")
RANK = 60
ONLY_SENDS = True
ENVIRONMENT: tuple[Variable, ...] = ()

MOST_BYTES = 60_000
TIMEOUT = 5.0  # seconds for each answer
LATER = timedelta(minutes=15)
"""How long to wait after a temporary refusal: greylisting is over by then (RFC 6647 §5)."""
PORTS = {"smtps": 465, "smtp": 587}  # RFC 8314 §7.3, RFC 6409
_ME = "localhost"  # the name in EHLO: a resolver may take long to find this machine's own name
_FOR_NOW = range(400, 500)  # RFC 5321 §4.2.1
_CHECK_LOGIN = Text("check `user` and `password`; many services require an app password")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the channel: mail server, sender and recipients."""

    url: Annotated[str, Text("the mail server: smtps://host:465, or smtp://host:587 for STARTTLS")]
    from_: Annotated[str, Text("the sender's address")]
    to: Annotated[tuple[str, ...], Text("the recipients' addresses")]
    user: Annotated[str, Text("the user name at the server, if required")] = ""
    password: Annotated[Secret | None, Text("the password at the server")] = None
    ca_bundle: Annotated[
        Path | None, Text("the PEM file of the CA that signed the server's certificate")
    ] = None


def connect(settings: Settings, context: Context, /) -> Notifier:
    """See `ports.adapter.Adapter.connect`."""
    place = _place(settings.url)
    if not settings.to:
        raise ConfigError(Text("`to` is an empty list"))
    if bool(settings.user) != bool(settings.password):
        raise ConfigError(Text("`user` and `password` need each other"))
    return _Mail(settings, place, context)


def _place(url: str) -> SplitResult:
    try:
        place = urlsplit(url)
        complete = place.scheme in PORTS and bool(place.hostname) and place.port != 0
    except ValueError:
        complete = False
    if not complete or place.username is not None:
        raise ConfigError(Text("`url` must be smtps://host:465 or smtp://host:587"))
    return place


class _Refused(Exception):
    """Raised for a refused step; carries the result to return from `send`."""

    def __init__(self, answered: Answered) -> None:
        super().__init__()
        self.answered = answered


class _Mail(Struct, frozen=True):
    #: The settings of the channel.
    settings: Settings
    #: The parsed `url`.
    place: SplitResult
    #: The clock of the run.
    context: Context

    def send(self, message: Message, /) -> Answered:
        """See `ports.notifier.Notifier.send`."""
        import smtplib

        try:
            with self._opened() as server:
                return self._deliver(server, self._written(message))
        except _Refused as refused:
            return refused.answered
        except ssl.SSLCertVerificationError as error:
            problem = Text("the certificate of the mail server is not trusted: {reason}")
            problem = problem.filled(reason=error.verify_message)
            return RefusedForGood(problem, Text("set `ca_bundle`, or check the host in `url`"))
        except smtplib.SMTPResponseException as error:
            return self._answered(error.smtp_code, error.smtp_error)
        except (smtplib.SMTPException, OSError) as error:
            return self._later(_words(error))

    def _opened(self) -> smtplib.SMTP:
        """Connect, start TLS and log in; return the server. Raises `_Refused`, and the errors of
        smtplib.
        """
        import smtplib

        host, port = self.place.hostname or "", self.place.port or PORTS[self.place.scheme]
        trust = ssl.create_default_context(cafile=self.settings.ca_bundle)
        if self.place.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, _ME, timeout=TIMEOUT, context=trust)
        else:
            server = smtplib.SMTP(host, port, _ME, timeout=TIMEOUT)
        try:
            if self.place.scheme != "smtps":
                _begin_tls(server, trust)
            if self.settings.user and self.settings.password is not None:
                server.login(self.settings.user, self.settings.password.reveal())
        except BaseException as error:
            server.close()
            if isinstance(error, UnicodeEncodeError):  # smtplib sends only ASCII
                message = Text(
                    "`user` or `password` contains a non-ASCII character, so nothing was sent"
                )
                raise _Refused(RefusedForGood(message, _CHECK_LOGIN)) from None
            if isinstance(error, smtplib.SMTPAuthenticationError):
                answered = self._answered(error.smtp_code, error.smtp_error, _CHECK_LOGIN)
                raise _Refused(answered) from None
            raise
        return server

    def _deliver(self, server: smtplib.SMTP, mail: EmailMessage) -> Answered:
        """Send the mail to all recipients that the server accepts, and return the answer.

        The answer is `Sent` if the server accepted all recipients, and `AgainAt` if the server
        refused all recipients for now. Any other refusal of a recipient gives `RefusedForGood`. A
        refusal of the sender or of the mail itself gives the server's own answer.
        """
        server.ehlo_or_helo_if_needed()
        international = self._beyond_ascii()
        if international and not server.has_extn("smtputf8"):
            return _no_international(international)
        policy, options = (SMTPUTF8, ["SMTPUTF8"]) if international else (SMTP, [])
        code, words = server.mail(self.settings.from_, options)
        if code != 250:  # noqa: PLR2004 - RFC 5321 §4.2.3
            return self._answered(code, words)
        refusals: list[Answered] = []
        for address in self.settings.to:
            code, words = server.rcpt(address)
            if code not in {250, 251}:
                refusals.append(self._answered(code, words, Text("check {to}", to=address)))
        if len(refusals) < len(self.settings.to):
            code, words = server.data(mail.as_bytes(policy=policy))
            if code != 250:  # noqa: PLR2004 - RFC 5321 §4.2.3
                return self._answered(code, words)
        return self._in_sum(refusals)

    def _beyond_ascii(self) -> list[str]:
        """Return the addresses that need a server with SMTPUTF8 (RFC 6531)."""
        addresses = (self.settings.from_, *self.settings.to)
        return [address for address in addresses if not address.isascii()]

    def _in_sum(self, refusals: list[Answered]) -> Answered:
        partly = 0 < len(refusals) < len(self.settings.to)
        for refused in refusals:
            if isinstance(refused, RefusedForGood):
                return RefusedForGood(refused.problem, refused.hint, partly=partly)
        for later in refusals:
            if isinstance(later, AgainAt) and partly:
                return RefusedForGood(later.problem, partly=True)
            return later
        return Sent()

    def _answered(self, code: int, reply: bytes | str, hint: Text | None = None) -> Answered:
        words = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
        hidden = [self.settings.password] if self.settings.password else []
        problem = Text("the mail server refused the message: {words} ({code})")
        problem = problem.filled(words=quoted(words, hidden), code=code)
        if code in _FOR_NOW:
            return AgainAt(self.context.now() + LATER, problem)
        return RefusedForGood(problem, hint)

    def _later(self, reason: Text | str) -> AgainAt:
        problem = Text("no mail was sent: {reason}", reason=reason)
        return AgainAt(self.context.now() + timedelta(minutes=1), problem)

    def _written(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        domain = self.settings.from_.rpartition("@")[2] or "localhost"
        mail["From"] = self.settings.from_
        mail["To"] = ", ".join(self.settings.to)
        mail["Subject"] = message.title
        mail["Date"] = format_datetime(self.context.now())
        mail["Message-ID"] = make_msgid(domain=domain)
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: prevents automatic replies
        mail.set_content(message.body(MOST_BYTES))
        return mail


def _no_international(addresses: list[str]) -> RefusedForGood:
    problem = Text(
        "the mail server accepts no non-ASCII address (SMTPUTF8), for example {addresses}",
        addresses=addresses,
    )
    hint = Text("use an ASCII address, a domain in its xn-- form, or another server")
    return RefusedForGood(problem, hint)


def _begin_tls(server: smtplib.SMTP, trust: ssl.SSLContext) -> None:
    server.ehlo()
    if not server.has_extn("starttls"):
        problem = Text("the mail server does not offer TLS, so nothing was sent")
        hint = Text("write smtps:// if the server uses TLS from the start, or use another server")
        raise _Refused(RefusedForGood(problem, hint))
    server.starttls(context=trust)


def _words(error: Exception) -> Text | str:
    if isinstance(error, TimeoutError):
        return Text("the mail server did not answer in time")
    if isinstance(error, OSError) and error.strerror:
        return system_words(error)
    return quoted(" ".join(str(error).split())) or type(error).__name__
