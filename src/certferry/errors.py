"""A problem, and the one scale of how bad it is: what errors, refusals and findings carry.
Everything that can go wrong, as one tree, and what ends a run without being wrong: each says what
happened, what to do, and whether trying again can help (`Reported`).

CertferryError                something went wrong
├── ConfigError               the operator edits a file or the environment
│   └── NoneDeclared          the file declares no certificate
├── CertificateError          a certificate or key that cannot be used
├── PlanRefused               safety said no
│   └── PlanChanged           the plan is not the one that an operator confirmed
├── DeclarationOutdated       another host declares the certificate differently, and later
├── IssuanceError             no certificate was issued
│   ├── RateLimited           the CA says when to come back
│   │   └── OrderPostponed    certferry does not ask before then
│   ├── AuthorizationFailed   the CA did not accept the proof for a name
│   ├── OrderFailed           the CA refused the order or the request
│   ├── CertificateRejected   what the CA gave is not what was ordered
│   └── CaUnavailable         the CA did not answer sensibly
├── DnsError                  the challenge record could not be written or seen
│   ├── ZoneNotFound          no zone of the account holds the name
│   ├── RecordMissing         neither an account nor a record proves the name
│   ├── DnsAccessDenied       the provider does not accept the credentials
│   ├── DnsRejected           the provider refused the change
│   ├── DnsUnavailable        the provider or a name server did not answer sensibly
│   └── PropagationTimeout    not every authoritative server showed the value in time
├── DeployError               a target does not have the certificate
│   ├── TargetAccessDenied    the target does not accept the credentials
│   ├── TargetRejected        the target refused the certificate or the domain
│   │   ├── AllExcluded       the file excludes every domain of a deployment
│   │   └── CopyGone          the copy that was to be bound is not at the target any more
│   ├── TargetBusy            the target is still carrying out an earlier change
│   │   └── TargetStuck       it has been at it for longer than it should take
│   ├── TargetInUse           the target still uses what was to be removed
│   ├── TargetUnavailable     the target did not answer sensibly
│   └── ClockWrong            this machine's clock is not the target's, which refuses what it dates
├── VerificationError         an edge does not serve the certificate
├── StateError                what certferry remembers could not be read or written
│   ├── LeaseHeld             another run is at work on the lineage
│   ├── StateForeign          a row of another program's
│   ├── StateMissing          there is its key file, and nothing is remembered
│   ├── StateMoved            it was moved while the run was at work
│   ├── StateTooNew           written by a newer version
│   └── StateUnavailable      disk full, no permission, locked for too long
│       └── DatabaseUnavailable   the state's server did not answer sensibly
├── RunCutShort               the system ended a scheduled run, or could not begin it
└── ScheduleError             the scheduled run could not be arranged with the system

RunEnded                      not an error: no handler of errors catches it
├── Interrupted               the run was stopped
└── LeaseLost                 another run took over the lineage
    └── StateNotStored        what the next call depends on cannot be stored
        └── StateOvertaken    another run has stored the state first
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from certferry.text import Text, naming, own_words, verbatim


class Severity(StrEnum):
    """How bad something is, in ascending order: in order, only to be known, a run may fail because
    of it, a run fails because of it.
    """

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """The place on the scale: a greater number is worse."""
        return tuple(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator should know or fix.

    `code` is stable and appears in JSON. `hint` is what to do, where there is something to do.
    `subject` is what it is about: a domain, an account, a file. `since` is when it was first seen
    (aware), where that is stored.
    """

    code: str
    message: Text
    hint: Text | None = None
    severity: Severity = Severity.ERROR
    subject: str = ""
    since: datetime | None = None

    @property
    def is_error(self) -> bool:
        """Whether it is a failure."""
        return self.severity is Severity.ERROR


@dataclass(frozen=True, slots=True)
class Retry:
    """Whether trying the same again can help: never, later, or not before a moment."""

    allowed: bool
    after: datetime | None = None

    NEVER: ClassVar[Retry]
    LATER: ClassVar[Retry]

    @classmethod
    def at(cls, moment: datetime) -> Self:
        """Not before this moment (aware)."""
        return cls(allowed=True, after=moment)


Retry.NEVER = Retry(allowed=False)
Retry.LATER = Retry(allowed=True)


class Reported(Exception):
    """Anything certferry itself reports. `code` is stable and appears in JSON."""

    code: ClassVar[str]
    default_retry: ClassVar[Retry] = Retry.NEVER

    def __init__(
        self, message: Text | str, *, hint: Text | None = None, retry: Retry | None = None
    ) -> None:
        self.message = verbatim(message) if isinstance(message, str) else message
        self.hint = hint
        self.retry = self.default_retry if retry is None else retry
        super().__init__(str(self.message))

    @property
    def lasting(self) -> Text:
        """What may be kept for ever: the message without what it quotes of others."""
        return own_words(self.message)

    def problem(
        self, subject: str = "", severity: Severity = Severity.ERROR, code: str = ""
    ) -> Problem:
        """Return what is reported as a value, under a `code` of its own where one is given."""
        return Problem(code or self.code, self.message, self.hint, severity, subject)

    def about(self, lineage: str) -> Self:
        """Return the same error with the certificate's name in the hint, where its author did not
        know it. This one stays as it is: others may be told of it under another name.
        """
        if self.hint is None:
            return self
        # No `copy`, which would call the constructor of a package's own error.
        named = type(self).__new__(type(self), *self.args)
        vars(named).update(vars(self))
        named.hint = naming(self.hint, lineage)
        return named

    def reworded(self, word: Callable[[Text], Text]) -> Self:
        """Return the same error with each of its sentences as `word` returns that sentence."""

        def worded(value: object) -> object:
            match value:
                case Text():
                    return word(value)
                case tuple():
                    return tuple(map(worded, value))
            return value

        facts = {name: worded(value) for name, value in vars(self).items()}
        other = type(self).__new__(type(self), str(facts["message"]))
        vars(other).update(facts)
        return other

    @property
    def is_early(self) -> bool:
        """Whether a CA has said when to come back: until then nothing is wrong."""
        return isinstance(self, IssuanceError) and self.retry.after is not None

    def __eq__(self, other: object) -> bool:
        """Errors are values too: plans and outcomes that carry them are compared."""
        if not isinstance(other, Reported):
            return NotImplemented
        mine = (type(self), self.message, self.hint, self.retry)
        return mine == (type(other), other.message, other.hint, other.retry)

    def __hash__(self) -> int:
        return hash((type(self), self.message))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()


class CertferryError(Reported):
    """Something went wrong. What else is at work goes on."""

    code: ClassVar[str] = "error"


class RunEnded(Reported):
    """This run may not go on with what it does. It passes every `except CertferryError`, so that
    no step takes it for its own failure.
    """

    default_retry = Retry.LATER


class ConfigError(CertferryError):
    """The operator edits a file or the environment. May carry several findings."""


class NoneDeclared(ConfigError):
    """The file declares no certificate, so that a run would renew nothing."""


class CertificateError(CertferryError):
    """A certificate or key that cannot be used."""


class PlanRefused(CertferryError):
    """Safety said no; nothing was sent."""


class PlanChanged(PlanRefused):
    """The plan is not the one that an operator confirmed; nothing was sent."""


class DeclarationOutdated(CertferryError):
    """Another host declares the certificate differently, and was the later to begin with that."""


class IssuanceError(CertferryError):
    """No certificate was issued."""


class RateLimited(IssuanceError):
    """The CA says when to come back (RFC 8555 §6.6)."""

    default_retry = Retry.LATER


class OrderPostponed(RateLimited):
    """The CA would refuse an order before the moment of `retry`, so that none is made."""

    code = "order_held_back"


class AuthorizationFailed(IssuanceError):
    """The CA did not accept the proof for a name; carries its problem document's words, and the
    `names`, where it says which.
    """

    default_retry = Retry.LATER

    def __init__(
        self,
        message: Text | str,
        *,
        hint: Text | None = None,
        retry: Retry | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, retry=retry)
        self.names = names


class OrderFailed(IssuanceError):
    """The CA refused the order, the request or the account."""


class CertificateRejected(IssuanceError):
    """What the CA gave is not what was ordered; it is neither kept nor sent anywhere."""


class CaUnavailable(IssuanceError):
    """The CA did not answer, or not sensibly."""

    default_retry = Retry.LATER


class DnsError(CertferryError):
    """The challenge record could not be written or seen."""


class ZoneNotFound(DnsError):
    """No zone of the account holds the name."""


class RecordMissing(DnsError):
    """No account can prove a name, and no record in its DNS does."""


class DnsAccessDenied(DnsError):
    """The provider does not accept the credentials. Never tried again by itself."""


class DnsRejected(DnsError):
    """The provider refused the change."""


class DnsUnavailable(DnsError):
    """The provider or a name server did not answer, or not sensibly."""

    default_retry = Retry.LATER


class PropagationTimeout(DnsError):
    """Not every authoritative server showed the value in time."""

    default_retry = Retry.LATER


class DeployError(CertferryError):
    """A target does not have the certificate."""


class TargetAccessDenied(DeployError):
    """The target does not accept the credentials. Never tried again by itself."""


class TargetRejected(DeployError):
    """The target refused the certificate or the domain."""


class AllExcluded(TargetRejected):
    """The file excludes every domain of a deployment."""


class CopyGone(TargetRejected):
    """The copy that was to be bound is not at the target any more."""


class TargetBusy(DeployError):
    """The target is still carrying out an earlier change."""

    default_retry = Retry.LATER


class TargetStuck(TargetBusy):
    """The target has been carrying out a change for longer than it should take. `ticket` is what
    to send to its support, a line each.
    """

    def __init__(
        self,
        message: Text | str,
        *,
        hint: Text | None = None,
        retry: Retry | None = None,
        ticket: tuple[Text, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, retry=retry)
        self.ticket = ticket


class TargetInUse(DeployError):
    """The target still uses what was to be removed."""

    default_retry = Retry.LATER


class TargetUnavailable(DeployError):
    """The target did not answer, or not sensibly."""

    default_retry = Retry.LATER


class ClockWrong(DeployError):
    """This machine's clock is so far from another's that requests are refused, or that what is
    issued now is not valid yet.
    """

    default_retry = Retry.LATER


class VerificationError(CertferryError):
    """An edge does not serve the certificate."""

    default_retry = Retry.LATER


class StateError(CertferryError):
    """What certferry remembers could not be read or written."""


class LeaseHeld(StateError):
    """Another run is at work on the lineage. Where several hosts share the state, it says on which
    `host`, `since` when, and that the lease ends at `until` unless that host renews it.
    """

    default_retry = Retry.LATER

    def __init__(
        self,
        message: Text | str,
        *,
        hint: Text | None = None,
        retry: Retry | None = None,
        host: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retry=retry)
        self.host = host
        self.since = since
        self.until = until


class StateForeign(StateError):
    """A row of the state was written or changed by another program: what it says does not count."""


class StateMissing(StateError):
    """There is a key file, and the state that it belongs to is not there, or new."""


class StateMoved(StateError):
    """The state was moved to another place while the run was at work: what the file names is in use
    no more.
    """


class StateTooNew(StateError):
    """The state was written by a newer version of certferry."""


class StateUnavailable(StateError):
    """Disk full, no permission, or locked for too long."""

    default_retry = Retry.LATER


class DatabaseUnavailable(StateUnavailable):
    """The server that has the state did not answer sensibly, or cannot write just now."""


class ScheduleError(CertferryError):
    """The scheduled run could not be arranged with the system, or looked up."""


class RunCutShort(CertferryError):
    """The system ended a scheduled run, or could not begin it; the next one goes on from there."""

    default_retry = Retry.LATER


class Interrupted(RunEnded):
    """The run was stopped; what was begun is picked up by the next one."""


class LeaseLost(RunEnded):
    """Another run took over; what this one still wanted to write is refused."""


class StateNotStored(LeaseLost):
    """What the next call depends on cannot be stored now: all of the run ends before that call."""


class StateOvertaken(StateNotStored):
    """Another run was first to store the state that both had read: that one goes on."""


_SYSTEM_SAYS = {
    known.template: known
    for known in (
        # As glibc words them: strerror(3), then gai_strerror(3).
        Text("Operation not permitted"),
        Text("No such file or directory"),
        Text("Input/output error"),
        Text("Argument list too long"),
        Text("Exec format error"),
        Text("Permission denied"),
        Text("Device or resource busy"),
        Text("File exists"),
        Text("Invalid cross-device link"),
        Text("Not a directory"),
        Text("Is a directory"),
        Text("Too many open files"),
        Text("Text file busy"),
        Text("File too large"),
        Text("No space left on device"),
        Text("Read-only file system"),
        Text("Broken pipe"),
        Text("File name too long"),
        Text("Too many levels of symbolic links"),
        Text("Network is unreachable"),
        Text("Connection reset by peer"),
        Text("Connection timed out"),
        Text("Connection refused"),
        Text("No route to host"),
        Text("Disk quota exceeded"),
        Text("Name or service not known"),
        Text("Temporary failure in name resolution"),
        Text("No address associated with hostname"),
    )
}
"""What the operating system says of a failure, so that it can be read in every language."""


def system_words(error: Exception) -> Text:
    """Return what the system says; of a failure that is not the system's, only the kind, since its
    words may quote anything. By the words and not by the number: `socket.gaierror` and
    `ssl.SSLError` are `OSError`s with numbers of their own.
    """
    if not isinstance(error, OSError):
        return verbatim(type(error).__name__)
    words = error.strerror or str(error) or type(error).__name__
    return _SYSTEM_SAYS.get(words) or verbatim(words)
