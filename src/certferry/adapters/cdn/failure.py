"""Failed calls to a service: the facts that decide whether a call is repeated, and the errors that
callers of the port get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from certferry.adapters.http.exchange import Contact
from certferry.errors import DeployError, TargetAccessDenied, TargetRejected, TargetRightMissing
from certferry.text import Text

T = TypeVar("T")
F = TypeVar("F", bound="CallFailure")

LATER = Text("nothing to do: a later run tries again")
NETWORK = Text("a later run tries again; if the error persists, check network, proxy and clock")
OTHER_PROGRAM = Text("another program may be using the same account; a later run tries again")
SET_CLOCK = Text(
    "set this host's clock (`timedatectl set-ntp true`) and run certferry again; the keys are"
    " probably right"
)


class CallFailure(Exception):
    """A failed call. Each service has a subclass."""

    def __init__(
        self,
        error: DeployError,
        *,
        maybe_done: bool = False,
        contact: Contact | None = None,
        is_common: bool = False,
        is_passing: bool = False,
        is_full: bool = False,
    ) -> None:
        super().__init__(str(error))
        #: The error that callers of the port get in place of the failure.
        self.error = error
        #: Whether the service may have carried out the call.
        self.maybe_done = maybe_done
        #: Whether the answer did not come in time.
        self.silent = contact is Contact.SILENCE
        #: Whether any other call would fail too, because of keys, rate, clock or network.
        self.is_common = is_common or contact is Contact.NONE
        #: Whether the same call may succeed later.
        self.is_passing = is_passing or contact is not None
        #: Whether the service refused an upload, because the account is full.
        self.is_full = is_full

    @property
    def is_denied(self) -> bool:
        """Whether the keys lack the right to make the call."""
        return isinstance(self.error, TargetAccessDenied)

    @property
    def lacks_right(self) -> bool:
        """Whether the service knows the keys, which lack the right to make the call."""
        return isinstance(self.error, TargetRightMissing)

    @property
    def is_outage(self) -> bool:
        """Whether any other call would fail too, for a reason other than the keys."""
        return self.is_common and not self.is_denied


def attempt(call: Callable[[], T], failure: type[F]) -> T | F:
    """Return the call's result, or the service's failure as a value."""
    try:
        return call()
    except failure as failed:
        return failed


def unless_refused(call: Callable[[], T], failure: type[F], failures: list[F]) -> T | None:
    """Return the call's result. If the call fails for a reason of its own, add the failure to
    `failures` and return `None`. Raises a failure that any other call would share (`is_common`).
    """
    try:
        return call()
    except failure as failed:
        if failed.is_common:
            raise
        failures.append(failed)
    return None


@contextmanager
def translating_errors() -> Iterator[None]:
    """Replace a `CallFailure` by its field `error`: the port allows only `DeployError`."""
    try:
        yield
    except CallFailure as failure:
        raise failure.error from None


def rejected(
    sentence: Text,
    hint: Text | None,
    kind: type[DeployError] = TargetRejected,
    /,
    **values: object,
) -> DeployError:
    """Return an error with the sentence, filled with the values."""
    return kind(sentence.filled(**values), hint=hint)


def with_hint(error: DeployError, hint: Text, *, instead: bool = True) -> DeployError:
    """Return the error with a second hint: an alternative (`instead`), or an addition."""
    if error.hint is not None:
        joined = Text("{hint}; or {other}") if instead else Text("{hint}; {other}")
        hint = joined.filled(hint=error.hint, other=hint)
    return type(error)(error.message, hint=hint, retry=error.retry)
