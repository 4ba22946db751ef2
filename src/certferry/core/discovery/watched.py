"""Watched hosts: a comparison of the certificates at all addresses of a host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.errors import Problem, Severity
from certferry.text import Text
from certferry.values import replace

SOON = timedelta(days=7)
"""If addresses serve different certificates, and a certificate other than the newest ends within
this time, the difference is an error: the change to the newest certificate may have stopped.
"""

_RENEW = Text("renew the certificate: `certferry sync` does so for declared certificates")
_AT_CDN = Text(
    "a change at a CDN takes 8 to 15 minutes, sometimes hours: check again with --follow. If the"
    " error persists, ask the CDN's support about these addresses"
)


class HostProblem(Struct, frozen=True):
    """A problem of several addresses together, such as a difference during a change at a CDN."""

    problem: Problem  #: The problem.
    addresses: tuple[str, ...]  #: The addresses with the problem.


class HostObservation(Struct, frozen=True):
    """The certificates presented by all addresses of a host at one moment."""

    host: Host  #: The host.
    served: tuple[Served, ...]  #: The answer of each address.
    #: Problems found by comparing the addresses.
    problems: tuple[HostProblem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every address `within_reach` presents a valid certificate, and none of `problems`
        is an error. Without an address, false.
        """
        counted = within_reach(self.served)
        valid = all(a.answered and a.valid for a in counted)
        return (
            bool(counted)
            and valid
            and not any(host_problem.problem.is_error for host_problem in self.problems)
        )


def within_reach(served: Sequence[Served]) -> list[Served]:
    """Return the addresses, except those that this machine cannot reach for lack of IPv6. If no
    address answers, return all addresses.
    """
    if not any(address.answered for address in served):
        return list(served)
    unreachable = EdgeProblemCode.NO_IPV6
    return [
        address
        for address in served
        if address.problem is None or address.problem.code != unreachable
    ]


def judged(
    host: Host, served: Sequence[Served], now: datetime, ends_within: timedelta | None = None
) -> HostObservation:
    """Return the observation of a host: the answers, and the problems found by comparing the
    answers.

    A valid certificate that ends within `ends_within` is an error; `None` allows any end.
    """
    presenting = [address for address in served if address.fingerprint is not None]
    groups = _by_certificate([address for address in presenting if address.valid])
    problems = (
        *(() if ends_within is None else _ending(groups, len(presenting), now, ends_within)),
        *_differing(presenting, now, ends_within or SOON),
        *_chains(groups),
    )
    return HostObservation(host, tuple(served), problems)


def in_short(look: HostObservation, watch: str, by: str, at: datetime) -> WatchedHost:
    """Return the result of a look for the state. `watch` is the name of the `[[watch]]`, `by` the
    certferry host that looked, and `at` the moment of the look.
    """
    counted = within_reach(look.served)
    first = min(
        (address for address in counted if address.fingerprint is not None),
        key=lambda address: address.not_after or _NEVER,
        default=None,
    )
    leaf = first.chain[0] if first is not None and first.chain else None
    worst, *others = [*problems_of(look), None]
    return WatchedHost(
        look.host.name,
        look.host.port,
        by,
        watch,
        looked_at=at,
        since=at,
        problem=worst,
        more=len(others[:-1]),
        addresses=sum(bool(address.address) for address in counted),
        valid=sum(address.valid for address in counted),
        fingerprint=None if first is None else first.fingerprint,
        issuer="" if leaf is None else leaf.issuer,
        not_before=None if leaf is None else leaf.not_before,
        not_after=None if first is None else first.not_after,
        is_silent=any(address.silent for address in counted),
    )


_NEVER = datetime.max.replace(tzinfo=UTC)


def problems_of(look: HostObservation) -> tuple[Problem, ...]:
    """Return all problems of a look, the worst first: those of addresses `within_reach`, then those
    found by comparing the addresses. Addresses with the same problem share an entry.

    The sentences name moments in place of the time left, so they stay true until the next look.
    """
    counted = within_reach(look.served)
    by_code = defaultdict[str, list[Served]](list)
    first: dict[str, Problem] = {}
    for address in counted:
        if address.problem is not None and not address.valid:
            by_code[address.problem.code].append(address)
            first.setdefault(address.problem.code, address.problem)
    found = [_shared(first[code], group, len(counted)) for code, group in by_code.items()]
    by_address = {address.address: address for address in look.served}
    for compared in look.problems:
        addresses = [by_address[name] for name in compared.addresses if name in by_address]
        found.append(_lasting(compared.problem, addresses))
    return tuple(sorted(found, key=lambda problem: -problem.severity.rank))


def _shared(problem: Problem, group: Sequence[Served], count: int) -> Problem:
    """Return the problem that `group`, some of `count` addresses, have in common."""
    problem = _lasting(problem, group)
    if len(group) == count:
        return problem
    some = Text("{count} of {all} addresses: {problem}")
    message = some.filled(count=len(group), all=count, problem=problem.message)
    return replace(problem, message=message)


def _lasting(problem: Problem, addresses: Iterable[Served]) -> Problem:
    """Return a problem of some addresses for the state: with the first end of a certificate in
    place of the time left or gone by, and with a hint about hosts of `[[watch]]`.
    """
    problem = replace(problem, code=str(problem.code), hint=_HINTS.get(problem.code, problem.hint))
    ends = [address.not_after for address in addresses if address.not_after is not None]
    if not ends or problem.code not in {EdgeProblemCode.EXPIRED, EdgeProblemCode.ENDS_SOON}:
        return problem
    before, end = problem.message, min(ends)
    message = Text("the certificate ends at {end}", end=end)
    if problem.code == EdgeProblemCode.EXPIRED:
        message = Text("the certificate expired at {end}", end=end)
    elif "{all}" in before.template:
        message = Text("{count} of {all} addresses serve a certificate that ends at {end}")
        message = message.filled(count=before.values["count"], all=before.values["all"], end=end)
    return replace(problem, message=message)


_BY_THE_CLIENT = Text(
    "have the client that made the certificate renew it, and load the new certificate at the host"
)
_HINTS: Mapping[str, Text] = {
    EdgeProblemCode.EXPIRED: _BY_THE_CLIENT,
    EdgeProblemCode.ENDS_SOON: _BY_THE_CLIENT,
    EdgeProblemCode.UNTRUSTED_ISSUER: Text(
        "browsers trust no staging or private CA; for an intended private CA, set `ca_bundle` under"
        " [[watch]] to its root"
    ),
    EdgeProblemCode.NO_TLS: Text(
        "write the port of TLS after the name, as in img.example.com:8443"
    ),
}
"""The hints that differ from those of `certferry watch`, by the problem's code."""


def _ending(
    groups: Sequence[Sequence[Served]], presenting: int, now: datetime, within: timedelta
) -> Iterator[HostProblem]:
    for group in groups:
        ends = group[0].not_after
        if ends is not None and ends - now <= within:
            words = Text("the certificate ends in {left}")
            if len(group) < presenting:
                words = Text("{count} of {all} addresses serve a certificate that ends in {left}")
            message = words.filled(count=len(group), all=presenting, left=ends - now)
            yield _problem(EdgeProblemCode.ENDS_SOON, message, _RENEW, group, Severity.ERROR)


def _differing(
    presenting: Sequence[Served], now: datetime, soon: timedelta
) -> Iterator[HostProblem]:
    """Yield a problem for each certificate served instead of the newest valid certificate."""
    newest = max((address for address in presenting if address.valid), key=_age, default=None)
    for group in _by_certificate(presenting):
        sample = group[0]
        if newest is None or sample.fingerprint == newest.fingerprint:
            continue
        harms = not sample.valid or sample.not_after is None or sample.not_after - now <= soon
        code = EdgeProblemCode.CERTIFICATES_DIFFER
        words = Text("{count} of {all} addresses serve another certificate (expires {expiry})")
        # Only a certificate that is valid, or has no fault but its expiry, counts as older.
        was_right = sample.valid or (
            sample.problem and sample.problem.code == EdgeProblemCode.EXPIRED
        )
        if was_right and sample.chain and _age(sample) < _age(newest):
            code = EdgeProblemCode.OLDER_CERTIFICATE
            words = Text("{count} of {all} addresses serve an older certificate (expires {expiry})")
        expiry = sample.not_after or Text("at an unknown time")
        message = words.filled(count=len(group), all=len(presenting), expiry=expiry)
        severity = Severity.ERROR if harms else Severity.WARNING
        yield _problem(code, message, _AT_CDN, group, severity)


def _chains(groups: Sequence[Sequence[Served]]) -> Iterator[HostProblem]:
    for group in groups:
        first = _issuers(group[0])
        others = [address for address in group if _issuers(address) != first]
        if others:
            words = Text("{count} of {all} addresses serve the certificate with another chain")
            message = words.filled(count=len(others), all=len(group))
            code = EdgeProblemCode.CHAINS_DIFFER
            yield _problem(code, message, _AT_CDN, others, Severity.WARNING)


def _by_certificate(served: Iterable[Served]) -> list[list[Served]]:
    groups = defaultdict[str | None, list[Served]](list)
    for address in served:
        groups[address.fingerprint].append(address)
    return list(groups.values())


def _age(address: Served) -> tuple[datetime, datetime]:
    """Return a key that sorts older certificates first, and unreadable certificates before all."""
    never = datetime.min.replace(tzinfo=UTC)
    chain = address.chain
    return (chain[0].not_before, chain[0].not_after) if chain else (never, never)


def _issuers(address: Served) -> tuple[str, ...]:
    return tuple(issuer.fingerprint for issuer in address.chain[1:])


def _problem(
    code: EdgeProblemCode, message: Text, hint: Text, group: Sequence[Served], severity: Severity
) -> HostProblem:
    return HostProblem(Problem(code, message, hint, severity), tuple(a.address for a in group))


class Changes(Struct, frozen=True):
    """The differences between two observations of a host."""

    #: Each address with another answer than before: the answer, and the earlier answer (`None` for
    #: a new address).
    addresses: tuple[tuple[Served, Served | None], ...]
    #: Whether the problems of the host differ.
    problems: bool

    def __bool__(self) -> bool:
        return bool(self.addresses) or self.problems


def changes(before: HostObservation, now: HostObservation) -> Changes:
    """Return the differences between two observations.

    A new address counts only if no address gave the same answer before.
    """
    by_address = {address.address: address for address in before.served}
    presented = {_presents(address) for address in before.served}
    changed = tuple(
        (address, earlier)
        for address, earlier in (
            (address, by_address.get(address.address)) for address in now.served
        )
        if _presents(address) not in (presented if earlier is None else {_presents(earlier)})
    )
    return Changes(changed, _codes(before) != _codes(now))


def _presents(address: Served) -> tuple[str | None, str | None]:
    """Return the parts of an answer to compare. Messages are left out, because a message may
    contain the time left, which changes by itself.
    """
    return address.fingerprint, None if address.problem is None else address.problem.code


def _codes(seen: HostObservation) -> set[tuple[str, Severity]]:
    return {
        (host_problem.problem.code, host_problem.problem.severity) for host_problem in seen.problems
    }
