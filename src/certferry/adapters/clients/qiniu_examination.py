"""What a Qiniu account lets its keys do, by calls that are known to exist: a 401 at any other path
proves nothing (docs/facts/qiniu.md §1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_domains import NOT_SERVED_BY_ITSELF, name_here
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_ways import CallGroup
from certferry.core.findings import (
    Code,
    Finding,
    Severity,
    info,
    of_error,
    of_refusal,
    warning,
)
from certferry.text import Text

_SEVERITIES = {
    CallGroup.DOMAINS: Severity.ERROR,
    CallGroup.CERTIFICATES: Severity.ERROR,
    CallGroup.BUCKETS: Severity.WARNING,  # without them only source domains are not found
}


class Examiner:
    """Examines one account. Raises `QiniuFailure` where nothing can be asked."""

    def __init__(self, client: QiniuClient, account: QiniuAccount) -> None:
        self._client = client
        self._account = account

    def examine(self, account: str) -> tuple[Finding, ...]:
        """Make one reading call of each group, and tell which are refused and where the others are
        answered.
        """
        calls: Mapping[CallGroup, Callable[[], object]] = {
            CallGroup.DOMAINS: self._account.domains,
            CallGroup.CERTIFICATES: self._account.certificates,
            CallGroup.BUCKETS: self._client.list_buckets,
        }
        failures: dict[CallGroup, QiniuFailure] = {}
        for group, call in calls.items():
            try:
                call()
            except QiniuFailure as failure:
                failures[group] = failure
        if len(failures) == len(calls):
            raise failures[CallGroup.DOMAINS]
        refused = [_refusal(account, group, failure) for group, failure in failures.items()]
        kept = () if CallGroup.CERTIFICATES in failures else (self._kept(account),)
        return (*refused, *self._sub_account(account), self._ways(account, calls), *kept)

    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        return {
            name_here(item.name): item.cname.rstrip(".").lower()
            for item in self._account.domains().by_name.values()
            if item.cname and item.type not in NOT_SERVED_BY_ITSELF
        }

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.transport.clock_ahead()

    def _sub_account(self, account: str) -> tuple[Finding, ...]:
        """Say what reading cannot tell: only a change shows whether changes are allowed."""
        if not self._client.transport.with_iam_key:
            return ()
        message = Text(
            "the access key is a sub-account's (it begins with IAM-); that it may read is seen, and"
            " whether it may upload and bind is seen by a change alone, which is not tried here"
        )
        fix = Text(
            "allow it to change CDN domains and SSL certificates in Qiniu's console, or use a pair"
            " of the main account; source domains of Kodo want that in any case"
        )
        return (warning(Code.SUB_ACCOUNT_KEY, account, message, fix),)

    def _ways(self, account: str, asked: Iterable[CallGroup]) -> Finding:
        """Tell of the calls that are `asked` here alone: others are made beside them by now, or not
        yet.
        """
        proven = self._client.transport.proven
        ways = [
            Text("{calls} at {way}", calls=str(group), way=str(proven[group]))
            for group in asked
            if group in proven
        ]
        return info(Code.WAYS, account, Text("the keys are accepted: {ways}", ways=ways))

    def _kept(self, account: str) -> Finding:
        """Count the certificates. Qiniu does not tell its limit, and refuses with 400500 what is
        beyond it (§9).
        """
        count = len(self._account.certificates())
        message = Text(
            "certificates in the account: {count}; Qiniu does not tell how many it may hold",
            count=count,
        )
        return info(Code.CERTIFICATES_KEPT, account, message)


def _refusal(account: str, group: CallGroup, failure: QiniuFailure) -> Finding:
    if failure.is_denied:
        return of_error(Code.CALL_REFUSED, account, failure.error, _SEVERITIES[group])
    return of_refusal(account, failure.error)
