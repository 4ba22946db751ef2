"""Hosts that are watched, and what all addresses of one present together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.observed.observation import Served
from certferry.errors import Problem, Severity
from certferry.text import Text

HTTPS = 443  # RFC 9110 §4.2.2
SOON = timedelta(days=7)
"""An older certificate that ends within a week can be left by a change that has come to a halt."""

_RENEW = Text("renew it: `certferry sync` does for those you declare")
_AT_CDN = Text(
    "a change at a CDN takes 8 to 15 minutes, sometimes hours: look again with --follow. If it"
    " stays like this, ask the CDN's support about these addresses"
)


@dataclass(frozen=True, slots=True)
class Host:
    """A name or an address, and the port to look at."""

    name: str
    port: int = HTTPS

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == HTTPS else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostProblem:
    """A problem of several addresses together; during a change those of a CDN differ."""

    problem: Problem
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostObservation:
    """What every address of a host presents, at one moment."""

    host: Host
    served: tuple[Served, ...]
    problems: tuple[HostProblem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every address presents a valid certificate, and no difference does harm."""
        counted = within_reach(self.served)
        valid = all(a.answered and a.valid for a in counted)
        return bool(counted) and valid and not any(one.problem.is_error for one in self.problems)


def within_reach(served: Sequence[Served]) -> list[Served]:
    """Leave out IPv6 addresses where this machine has no IPv6 and another address answers."""
    if not any(address.answered for address in served):
        return list(served)
    unreachable = EdgeProblemCode.NO_IPV6
    return [one for one in served if one.problem is None or one.problem.code != unreachable]


def judged(
    host: Host, served: Sequence[Served], now: datetime, ends_within: timedelta | None = None
) -> HostObservation:
    """Compare what the addresses of a host present. An end in `ends_within` is a failure."""
    presenting = [address for address in served if address.fingerprint is not None]
    groups = _by_certificate([address for address in presenting if address.valid])
    problems = (
        *(() if ends_within is None else _ending(groups, len(presenting), now, ends_within)),
        *_differing(presenting, now, ends_within or SOON),
        *_chains(groups),
    )
    return HostObservation(host, tuple(served), problems)


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
    """Compare with the newest certificate that is valid: the one a change brings."""
    newest = max((address for address in presenting if address.valid), key=_age, default=None)
    for group in _by_certificate(presenting):
        one = group[0]
        if newest is None or one.fingerprint == newest.fingerprint:
            continue
        harms = not one.valid or one.not_after is None or one.not_after - now <= soon
        code = EdgeProblemCode.CERTIFICATES_DIFFER
        words = Text("{count} of {all} addresses serve another certificate (until {until})")
        # Only what was right itself, and can be read, is a predecessor.
        was_right = one.valid or (one.problem and one.problem.code == EdgeProblemCode.EXPIRED)
        if was_right and one.chain and _age(one) < _age(newest):
            code = EdgeProblemCode.OLDER_CERTIFICATE
            words = Text("{count} of {all} addresses serve an older certificate (until {until})")
        until = one.not_after or Text("unknown")
        message = words.filled(count=len(group), all=len(presenting), until=until)
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
    """The later, the newer. What could not be read comes before all."""
    never = datetime.min.replace(tzinfo=UTC)
    chain = address.chain
    return (chain[0].not_before, chain[0].not_after) if chain else (never, never)


def _issuers(address: Served) -> tuple[str, ...]:
    return tuple(issuer.fingerprint for issuer in address.chain[1:])


def _problem(
    code: EdgeProblemCode, message: Text, hint: Text, group: Sequence[Served], severity: Severity
) -> HostProblem:
    return HostProblem(Problem(code, message, hint, severity), tuple(a.address for a in group))


@dataclass(frozen=True, slots=True)
class Changes:
    """The addresses that present something else, with what they did before, if they did."""

    addresses: tuple[tuple[Served, Served | None], ...]
    problems: bool

    def __bool__(self) -> bool:
        return bool(self.addresses) or self.problems


def changes(before: HostObservation, now: HostObservation) -> Changes:
    """Compare two observations; a new address counts if it presents what none did before."""
    known = {address.address: address for address in before.served}
    presented = {_presents(address) for address in before.served}
    changed = tuple(
        (one, earlier)
        for one, earlier in ((one, known.get(one.address)) for one in now.served)
        if _presents(one) not in (presented if earlier is None else {_presents(earlier)})
    )
    return Changes(changed, _codes(before) != _codes(now))


def _presents(address: Served) -> tuple[str | None, str | None]:
    """Return what an address presents, without what passes by itself, such as the days left."""
    return address.fingerprint, None if address.problem is None else address.problem.code


def _codes(seen: HostObservation) -> set[tuple[str, Severity]]:
    return {(one.problem.code, one.problem.severity) for one in seen.problems}
