"""The table of the looks at the hosts of `[[watch]]`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from certferry.adapters.state import columns
from certferry.adapters.state.database import Reader, Row, Table, Tables, Transaction, writes
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import FORGOTTEN_AFTER, WatchedHost, continued
from certferry.errors import Problem, Severity

_SEVERITY = columns.Column(from_value=lambda value: columns.read_as(Severity, value))

_LOOKS = Table(
    "watched_host",
    WatchedHost,
    *("name", "port", "host"),
    port=columns.NUMBER,
    by=columns.PLAIN.named("host"),
    looked_at=columns.MOMENT,
    since=columns.MOMENT,
    problem=None,
    more=columns.NUMBER,
    addresses=columns.NUMBER,
    valid=columns.NUMBER,
    not_before=columns.VALIDITY,
    not_after=columns.VALIDITY,
    is_silent=columns.FLAG,
    message=columns.TEXT,
    hint=columns.TEXT,
    severity=_SEVERITY,
)


class WatchTables(Tables):
    """See `WatchStore`. The rows have no proof: a program that can change a row could as well
    delete the row, and the next look stores the row anew.
    """

    def watched_hosts(self) -> tuple[WatchedHost, ...]:
        return self._database.read(_looks)

    @writes
    def save_looks(
        self,
        transaction: Transaction,
        looks: Iterable[WatchedHost],
        declared: Collection[Host],
        now: datetime,
    ) -> None:
        before = {look.key: look for look in _looks(transaction)}
        for look in looks:
            after = continued(before.get(look.key), look)
            if after != before.get(look.key):
                _LOOKS.save(transaction, after, **_problem_values(after.problem))
        for look in before.values():
            if look.by == self.host and look.host in declared:
                continue
            if look.by == self.host or now - look.looked_at >= FORGOTTEN_AFTER:
                _LOOKS.remove(transaction, look)


def _looks(reader: Reader) -> tuple[WatchedHost, ...]:
    query, values = _LOOKS.query("ORDER BY name, port, host")
    return _LOOKS.read(reader.rows(query, *values), _problem_of)


def _problem_of(row: Row) -> Mapping[str, object]:
    if row["code"] is None:
        return {"problem": None}
    message, hint = columns.TEXT.read(row["message"]), columns.TEXT.read(row["hint"])
    severity = _SEVERITY.read(row["severity"])
    return {"problem": Problem(columns.PLAIN.read(row["code"]), message, hint, severity)}


def _problem_values(problem: Problem | None) -> Mapping[str, columns.Value]:
    if problem is None:
        return dict.fromkeys(("code", "message", "hint", "severity"))
    return {
        "code": problem.code,
        "message": columns.TEXT.write(problem.message),
        "hint": columns.TEXT.write(problem.hint),
        "severity": problem.severity.value,
    }
