"""Render the hosts of `[[watch]]` for `certferry status`, as text and as a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from certferry.core.assessment.causes import Cause
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.watching import Watching, is_trouble
from certferry.core.certificates.certificate import first_of
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.present.language import Voice, one_or_many
from certferry.present.layout import Line, line
from certferry.present.run_log import rfc3339
from certferry.text import Text

MOST_NAMED = 3
"""The most hosts that are named with a cause."""


def lines(
    recorded: Recorded, causes: Iterable[Cause], voice: Voice, *, lists_all: bool = False
) -> Iterator[Line]:
    """Write the trouble of watched hosts, once for each cause, and a line that counts the hosts.
    With `lists_all`, write the trouble of each host. Write nothing if no host is watched.
    """
    watching = recorded.watching
    if watching is None:
        return
    yield line()
    for cause in causes:
        if not cause.watched:
            continue
        named = [first_of(cause.watched, MOST_NAMED)]
        if lists_all:
            named = [[host] for host in cause.watched]
        since, message = cause.problem.since, cause.problem.message
        if since is not None:
            message = Text("since {moment}: {problem}", moment=since, problem=message)
        for hosts in named:
            yield from voice.about(voice.say(Text("{hosts}", hosts=hosts)), message)
        yield from voice.hint(cause.problem.hint, 2)
    yield line(voice.say(counted(watching)))


def counted(watching: Watching) -> Text:
    """Return how many hosts are watched, and how many of these need attention."""
    count = len(watching.looks) + len(watching.unseen) + len(watching.owned)
    parts = [one_or_many(count, Text("1 watched host"), Text("{count} watched hosts"))]
    if troubles := len(watching.troubles):
        parts.append(
            one_or_many(troubles, Text("1 needs attention"), Text("{count} need attention"))
        )
    if watching.unseen:
        parts.append(Text("{count} not checked yet", count=len(watching.unseen)))
    if watching.looked_at is not None:
        parts.append(Text("last check {moment}", moment=watching.looked_at))
    return Text("{parts}", parts=parts)


def document(recorded: Recorded) -> Mapping[str, object]:
    """Return the part of `status --json` about watched hosts; empty if no host is watched."""
    watching = recorded.watching
    if watching is None:
        return {}
    return {
        "watched": [
            *map(_of_look, watching.looks),
            *(_of_host(host, "unknown") for host in watching.unseen),
            *(
                {**_of_host(host, "owned"), "certificate": lineage}
                for host, lineage in watching.owned.items()
            ),
        ]
    }


def _of_host(host: Host, state: str) -> dict[str, object]:
    return {"host": str(host), "name": host.name, "port": host.port, "state": state}


def _of_look(look: WatchedHost) -> dict[str, object]:
    problem = look.problem
    state = "trouble" if is_trouble(look) else "ok" if problem is None else "unsettled"
    return {
        **_of_host(look.host, state),
        "watch": look.watch,
        "looked_at": rfc3339(look.looked_at),
        "since": rfc3339(look.since),
        "addresses": look.addresses,
        "valid": look.valid,
        "fingerprint": look.fingerprint,
        "issuer": look.issuer or None,
        "not_before": look.not_before and rfc3339(look.not_before),
        "not_after": look.not_after and rfc3339(look.not_after),
        "problem": problem
        and {"code": problem.code, "message": problem.message, "hint": problem.hint},
        "more_problems": look.more,
    }
