"""Examine an account by calls that only read, and report which calls the service accepts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

from certferry.adapters.cdn.copies import Certificates
from certferry.adapters.cdn.failure import CallFailure, F, attempt
from certferry.adapters.cdn.parts import Wording
from certferry.core.findings import Code, error, info, of_refusal
from certferry.errors import Problem, Severity
from certferry.text import Text

K = TypeVar("K", bound=str)


def failures_of(calls: Mapping[K, Callable[[], object]], kind: type[F]) -> dict[K, F]:
    """Make each call, and return the failures by the call's name. If every call fails, raises the
    first failure that has another reason than a missing right.
    """
    results = {name: attempt(call, kind) for name, call in calls.items()}
    failures = {name: result for name, result in results.items() if isinstance(result, kind)}
    others = (failure for failure in failures.values() if not failure.lacks_right)
    if len(failures) == len(calls) and (other := next(others, None)) is not None:
        raise other
    return failures


def finding_of(account: str, failure: CallFailure, severity: Severity = Severity.ERROR) -> Problem:
    """Return the finding on a failed call. If the keys lack the right to make the call, the finding
    has the `severity`.
    """
    if failure.is_denied:
        return failure.error.problem(account, severity, Code.CALL_REFUSED)
    return of_refusal(account, failure.error)


def findings_of(
    account: str,
    names: Collection[str],
    failures: Mapping[str, CallFailure],
    wording: Wording,
    certificates: Certificates,
) -> Iterator[Problem]:
    """Yield a finding for each failed call, one for the accepted calls among `names`, and the
    number of certificates. A missing right for an optional call is a warning. Keys without any
    right are one finding.
    """
    if len(failures) == len(names):
        yield _without_rights(account, failures, wording)
        return
    for name, failure in failures.items():
        severity = Severity.WARNING if name in wording.optional else Severity.ERROR
        yield finding_of(account, failure, severity)
    ways = [name for name in names if name not in failures]
    yield info(Code.WAYS, account, wording.accepted.filled(ways=ways))
    if wording.store not in failures:
        counted = Text("certificates in the account's store: {count}")
        count = len(certificates.all())
        yield info(Code.CERTIFICATES_KEPT, account, counted.filled(count=count))


def _without_rights(account: str, failures: Mapping[str, CallFailure], wording: Wording) -> Problem:
    """Return the finding on keys that have no right for any of the calls."""
    first = next(iter(failures.values())).error
    sentence = Text(
        "{service} accepts the keys, and the keys have no right for {ways}: {problem}",
        service=wording.service,
        ways=list(failures),
        problem=first.message,
    )
    return error(Code.CALL_REFUSED, account, sentence, first.hint)
