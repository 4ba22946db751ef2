"""Problems with their severity, and all errors of certferry as one tree.

Each error has a message, often a hint, and says whether a retry can help (`Reported`). `RunEnded`
ends a run without being an error.

CertferryError                something went wrong
├── ConfigError               the operator must edit a file or the environment
│   └── NoneDeclared          the file declares no certificate
├── CertificateError          a certificate or a key is unusable
├── PlanRefused               certferry refuses a plan, a file or a command
│   └── PlanChanged           the plan differs from the plan that an operator confirmed
├── DeclarationOutdated       another host declares the certificate differently, and later
├── IssuanceError             the issuance failed
│   ├── RateLimited           the CA asks to come back later
│   │   └── OrderPostponed    the CA would refuse an order now, so certferry waits
│   ├── AuthorizationFailed   the CA rejected the proof for a name
│   ├── OrderFailed           an order, or a request to the CA, failed or would fail
│   ├── CertificateRejected   the CA issued a certificate that differs from the order
│   └── CaUnavailable         the CA failed to answer sensibly
├── DnsError                  the challenge record could not be written or seen
│   ├── ZoneNotFound          the account has no zone for the name
│   ├── RecordMissing         neither a DNS account nor a record in the DNS proves the name
│   ├── DnsAccessDenied       the provider refused the credentials
│   ├── DnsRejected           the provider refused the change
│   ├── DnsUnavailable        the provider or a name server failed to answer sensibly
│   └── PropagationTimeout    some authoritative server failed to show the value in time
├── DeployError               a target cannot take or serve the certificate
│   ├── TargetAccessDenied    the target refused the credentials
│   │   ├── HostKeyUnknown    a server offered a public key that is not known
│   │   ├── HostKeyChanged    a server offered another public key than the known key
│   │   └── TargetRightMissing  the credentials are known and lack a right
│   ├── TargetRejected        the target refused the certificate or the domain
│   │   ├── AllExcluded       the file excludes every domain of a deployment
│   │   └── CopyGone          the copy to bind has gone from the target
│   ├── TargetBusy            the target is still carrying out an earlier change
│   │   └── TargetStuck       the change takes longer than it should
│   ├── TargetInUse           the target still uses the copy to remove
│   ├── TargetUnavailable     the target failed to answer sensibly
│   └── ClockWrong            this machine's clock is too wrong for requests or orders
├── VerificationError         no edge answers, or some edge does not serve the certificate
├── StateError                the state could not be read or written
│   ├── LeaseHeld             another run is at work on the lineage
│   ├── StateForeign          another program has changed the state
│   ├── StateMissing          the key file exists, but the state is empty
│   ├── StateMoved            the state was moved while this process was using the state
│   ├── StateTooNew           a newer version of certferry wrote the state
│   ├── StateTooOld           a version from before the first release wrote the state
│   └── StateUnavailable      the state cannot be used now, for example because the disk is full
│       └── DatabaseUnavailable   the state's server failed to answer sensibly
├── LogSearchFailed           the public logs of certificates could not be searched
├── RunCutShort               the system ended a scheduled run, or could not begin it
└── ScheduleError             the scheduled run could not be arranged with the system

RunEnded                      no error, so handlers of errors let it pass
├── Interrupted               the run was stopped
└── LeaseLost                 the run no longer holds the lease of the lineage
    └── StateNotStored        the state needed for the next call cannot be stored
        └── StateOvertaken    another run has stored the state first
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from msgspec import Struct

from certferry.text import Text, naming, own_words, verbatim


class Severity(StrEnum):
    """How bad a problem is; the members stand in ascending order."""

    OK = "ok"  #: There is no problem.
    NOTICE = "notice"  #: The fact is for information.
    WARNING = "warning"  #: A run may fail because of the problem.
    ERROR = "error"  #: A run fails because of the problem.

    @property
    def rank(self) -> int:
        """The position on the scale, from 0; a greater number is worse."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class Problem(Struct, frozen=True):
    """Something that an operator should know or fix."""

    #: A stable code, which appears in JSON.
    code: str
    #: The event, for the operator.
    message: Text
    #: The advice for the operator.
    hint: Text | None = None
    #: How bad the problem is.
    severity: Severity = Severity.ERROR
    #: The domain, account or file with the problem.
    subject: str = ""
    #: When the problem was first seen (aware), if stored.
    since: datetime | None = None

    @property
    def is_error(self) -> bool:
        """Whether the severity is ERROR."""
        return self.severity is Severity.ERROR


class Retry(Struct, frozen=True):
    """Whether a retry can help."""

    #: False: a retry fails in the same way.
    allowed: bool
    #: The earliest moment of a retry (aware); None if no moment is known.
    after: datetime | None = None

    #: A retry fails in the same way.
    NEVER: ClassVar[Retry]
    #: A retry can help; no earliest moment is known.
    LATER: ClassVar[Retry]

    @classmethod
    def at(cls, moment: datetime) -> Self:
        """Return a retry at this moment (aware) or later."""
        return cls(allowed=True, after=moment)


Retry.NEVER = Retry(allowed=False)
Retry.LATER = Retry(allowed=True)


class Reported(Exception):
    """The common base of `CertferryError` and `RunEnded`, with a message, a code and perhaps a
    hint.
    """

    #: A stable code, which appears in JSON. Derived from the class's name by default.
    code: ClassVar[str]
    #: The `retry` of an error that is raised without the argument `retry`.
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
        """The message for storage, with "…" in place of words quoted from a service."""
        return own_words(self.message)

    def problem(
        self, subject: str = "", severity: Severity = Severity.ERROR, code: str = ""
    ) -> Problem:
        """Return the error as a `Problem` about `subject`, with `code` if given, else the error's
        own code.
        """
        return Problem(code or self.code, self.message, self.hint, severity, subject)

    def about(self, lineage: str) -> Self:
        """Return a copy of the error whose hint has the lineage's name in each `Unnamed` place.
        Without a hint, return this error.

        The error itself stays unchanged, because other lineages may share the error.
        """
        if self.hint is None:
            return self
        # `copy` would call the constructor, which an adapter's own error may define differently.
        named = type(self).__new__(type(self), *self.args)
        vars(named).update(vars(self))
        named.hint = naming(self.hint, lineage)
        return named

    def reworded(self, word: Callable[[Text], Text]) -> Self:
        """Return a copy of the error, with `word` applied to the message, the hint and every other
        `Text` of the error.
        """

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
        """Whether this is an `IssuanceError` with a moment in `retry`, so the issuance only has to
        wait until the moment.
        """
        return isinstance(self, IssuanceError) and self.retry.after is not None

    def __eq__(self, other: object) -> bool:
        """Compare type, message, hint and retry. Plans and outcomes contain errors and are compared
        by value, so errors are compared by value as well.
        """
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
    """A failure of one piece of work. The run's other work goes on."""

    code: ClassVar[str] = "error"


class RunEnded(Reported):
    """The end of a run's work on a lineage, or of the whole run. `except CertferryError` does not
    catch a `RunEnded`, so no step mistakes the end of the run for a failure of the step.
    """

    default_retry = Retry.LATER


class ConfigError(CertferryError):
    """The operator must edit a file or the environment. The message may list several mistakes."""


class NoneDeclared(ConfigError):
    """The file declares no certificate, so a run would renew nothing."""


class CertificateError(CertferryError):
    """An unusable certificate or key."""


class PlanRefused(CertferryError):
    """A plan, a file or a command lacks a condition that certferry demands before a change, so
    certferry changed nothing.
    """


class PlanChanged(PlanRefused):
    """The plan differs from the plan that an operator confirmed, so the run carried out no step of
    the plan.
    """


class DeclarationOutdated(CertferryError):
    """Another host declares the certificate differently, and began to do so later."""


class IssuanceError(CertferryError):
    """The issuance failed."""


class RateLimited(IssuanceError):
    """The CA asks certferry to come back later (RFC 8555 §6.6). `retry` has the moment, if the CA
    named a moment.
    """

    default_retry = Retry.LATER


class OrderPostponed(RateLimited):
    """The CA would refuse an order before the moment in `retry`, so certferry orders only later."""

    code = "order_held_back"


class AuthorizationFailed(IssuanceError):
    """The CA rejected the proof for a name. The message quotes the CA's problem document; `names`
    are the rejected names, empty if the CA names none.
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
    """The CA refused an order, a request or the account; or the order failed; or certferry knows
    that the CA would refuse the order.
    """


class CertificateRejected(IssuanceError):
    """The CA issued a certificate that differs from the order, so certferry discarded the
    certificate. For a while afterwards, this error also stops further orders.
    """


class CaUnavailable(IssuanceError):
    """The CA failed to answer, or to answer sensibly."""

    default_retry = Retry.LATER


class DnsError(CertferryError):
    """The challenge record could not be written or seen."""


class ZoneNotFound(DnsError):
    """The account lacks a zone for the name."""


class RecordMissing(DnsError):
    """Neither a DNS account nor a record of dns-persist-01 in the DNS can prove the name."""


class DnsAccessDenied(DnsError):
    """The provider refused the credentials. Only an operator can mend the credentials, so retries
    are useless.
    """


class DnsRejected(DnsError):
    """The provider refused the change."""


class DnsUnavailable(DnsError):
    """The provider or a name server failed to answer, or to answer sensibly."""

    default_retry = Retry.LATER


class PropagationTimeout(DnsError):
    """Some authoritative server failed to show the value in time."""

    default_retry = Retry.LATER


class DeployError(CertferryError):
    """A target or a receiver cannot be read, or cannot take or serve the certificate."""


class TargetAccessDenied(DeployError):
    """The target refused the credentials. Only an operator can mend them, so retries are
    useless.
    """


class HostKeyUnknown(TargetAccessDenied):
    """A server offered a public key that the operator has not named."""


class HostKeyChanged(TargetAccessDenied):
    """A server offered another public key than the known key."""


class TargetRightMissing(TargetAccessDenied):
    """The target knows the credentials, which lack a right. The hint says how to give the right."""

    code = TargetAccessDenied.code


class TargetRejected(DeployError):
    """The target refused the certificate or the domain."""


class AllExcluded(TargetRejected):
    """The file excludes every domain of a deployment."""


class CopyGone(TargetRejected):
    """The copy to bind has gone from the target."""


class TargetBusy(DeployError):
    """The target is still carrying out an earlier change."""

    default_retry = Retry.LATER


class TargetStuck(TargetBusy):
    """The target has been carrying out a change for too long. `ticket` is a message for the
    target's support, line by line.
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
    """The target still uses the copy to remove."""

    default_retry = Retry.LATER


class TargetUnavailable(DeployError):
    """The target failed to answer, or to answer sensibly."""

    default_retry = Retry.LATER


class ClockWrong(DeployError):
    """This machine's clock is so wrong that servers refuse requests, or that a certificate issued
    now becomes valid only later.
    """

    default_retry = Retry.LATER


class VerificationError(CertferryError):
    """No edge answers, some edge does not serve the certificate, or a deployment was rolled
    back.
    """

    default_retry = Retry.LATER


class StateError(CertferryError):
    """The state could not be read or written."""


class LeaseHeld(StateError):
    """Another run is at work on the lineage, or on a host or a state that a command wants to
    change.

    `host` is the other run's host, if hosts share the state. `since` is the beginning of the lease
    (aware). `until` is the end of the lease unless the holder extends the lease (aware); `None` for
    a lease without a time limit. All three are `None` if unknown.
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
    """Another program has changed the state: a row, a table, or the mark of a moved state."""


class StateMissing(StateError):
    """The key file exists, but the state is empty: no run is stored, and no secret."""


class StateMoved(StateError):
    """The state was moved while this process was using the state. The place named by the
    configuration file is out of use.
    """


class StateTooNew(StateError):
    """A newer version of certferry wrote the state."""


class StateTooOld(StateError):
    """A version of certferry from before the first release wrote the state."""


class StateUnavailable(StateError):
    """The state, or the account of a CA in the state, cannot be used now: the disk is full, a
    permission is missing, another run is at work, or certferry starts no more runs.
    """

    default_retry = Retry.LATER


class DatabaseUnavailable(StateUnavailable):
    """The state's server failed to answer sensibly, or cannot write just now."""


class ScheduleError(CertferryError):
    """cron or systemd did not accept the schedule, or did not show the schedule."""


class LogSearchFailed(CertferryError):
    """The public logs of certificates could not be searched."""

    default_retry = Retry.LATER


class RunCutShort(CertferryError):
    """The system ended a scheduled run, or could not begin the run. The next run does the rest."""

    default_retry = Retry.LATER


class Interrupted(RunEnded):
    """The run was stopped. The next run does the rest."""


class LeaseLost(RunEnded):
    """The run does not hold the lease of the lineage. For example, another run took the lease over,
    or the lease could not be renewed in time. The state refuses further writes of this run to the
    lineage.
    """


class StateNotStored(LeaseLost):
    """The state could not be stored before a call that depends on the stored state, so the whole
    run ends.
    """


class StateOvertaken(StateNotStored):
    """Two runs read one state, and the other run stored its changes first. The other run goes
    on.
    """


_SYSTEM_SAYS = {
    sentence.template: sentence
    for sentence in (
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
"""Messages of the operating system as texts, so the messages have translations."""


def system_words(error: Exception) -> Text:
    """Return the operating system's message for an `OSError`. For any other error, return only the
    name of the error's type, because the error's words may quote secrets.

    The texts are found by the message, not by the number: `socket.gaierror` and `ssl.SSLError` are
    `OSError`s too, with other numbers.
    """
    if not isinstance(error, OSError):
        return verbatim(type(error).__name__)
    words = error.strerror or str(error) or type(error).__name__
    return _SYSTEM_SAYS.get(words) or verbatim(words)
