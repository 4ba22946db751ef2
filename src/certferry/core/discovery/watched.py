"""Hosts that are watched, and what all addresses of one present together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.observed.observation import Served
from certferry.problem import Problem, Severity
from certferry.text import Text

HTTPS = 443  # RFC 9110 §4.2.2
SOON = timedelta(days=7)
"""An older certificate that ends within a week can be left by a change that has come to a halt."""

_ALL_END = Text("the certificate ends in {left}")
_SOME_END = Text("{count} of {all} addresses serve a certificate that ends in {left}")
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


def is_address(host: str) -> bool:
    """Tell whether a host is an IPv4 or IPv6 address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class HostProblem:
    """Something about several addresses of a host together. A difference is often a warning:
    during a change the addresses of a CDN differ.
    """

    problem: Problem
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostLook:
    """What every address of a host presents, at one moment."""

    host: Host
    served: tuple[Served, ...]
    problems: tuple[HostProblem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every address presents a valid certificate, and they differ in nothing that
        harms.
        """
        counted = within_reach(self.served)
        valid = all(a.answered and a.valid for a in counted)
        return bool(counted) and valid and not any(one.problem.is_error for one in self.problems)


def within_reach(served: Sequence[Served]) -> list[Served]:
    """Leave out the IPv6 addresses where this machine has no IPv6, and another address answers:
    they say nothing about the host.
    """
    if not any(address.answered for address in served):
        return list(served)
    return [
        address
        for address in served
        if address.problem is None or address.problem.code != EdgeProblemCode.NO_IPV6
    ]


def judged(
    host: Host, served: Sequence[Served], now: datetime, ends_within: timedelta | None = None
) -> HostLook:
    """Put what the addresses of a host present side by side. A certificate that ends in
    `ends_within` or less is a failure.
    """
    presenting = [address for address in served if address.fingerprint is not None]
    problems = (
        *_ending(presenting, now, ends_within),
        *_differing(presenting, now, ends_within or SOON),
        *_chains(presenting),
    )
    return HostLook(host, tuple(served), problems)


def _ending(
    presenting: Sequence[Served], now: datetime, within: timedelta | None
) -> Iterator[HostProblem]:
    if within is None:
        return
    for group in _by_certificate([address for address in presenting if address.valid]):
        ends = group[0].not_after
        if ends is not None and ends - now <= within:
            words = _ALL_END if len(group) == len(presenting) else _SOME_END
            message = words.filled(count=len(group), all=len(presenting), left=ends - now)
            hint = Text("renew it: `certferry sync` does for those you declare")
            yield _problem(EdgeProblemCode.ENDS_SOON, message, hint, group, is_failure=True)


def _differing(
    presenting: Sequence[Served], now: datetime, soon: timedelta
) -> Iterator[HostProblem]:
    """Compare with the newest certificate that is valid: the one a change brings."""
    valid = [address for address in presenting if address.valid]
    if not valid:
        return
    newest = max(valid, key=_age)
    for group in _by_certificate(presenting):
        one = group[0]
        if one.fingerprint == newest.fingerprint:
            continue
        harms = not one.valid or one.not_after is None or one.not_after - now <= soon
        code, words = _compared(one, newest)
        until = one.not_after or Text("unknown")
        message = words.filled(count=len(group), all=len(presenting), until=until)
        yield _problem(code, message, _AT_CDN, group, is_failure=harms)


def _compared(one: Served, newest: Served) -> tuple[EdgeProblemCode, Text]:
    """Only what was right itself, and can be read, is a predecessor."""
    was_right = one.valid or (one.problem and one.problem.code == EdgeProblemCode.EXPIRED)
    if was_right and one.chain and _age(one) < _age(newest):
        return EdgeProblemCode.OLDER_CERTIFICATE, Text(
            "{count} of {all} addresses serve an older certificate (until {until})"
        )
    return EdgeProblemCode.CERTIFICATES_DIFFER, Text(
        "{count} of {all} addresses serve another certificate (until {until})"
    )


def _chains(presenting: Sequence[Served]) -> Iterator[HostProblem]:
    """An address that is wrong is told as such, so only those that are right are compared."""
    for group in _by_certificate([address for address in presenting if address.valid]):
        first = _issuers(group[0])
        others = [address for address in group if _issuers(address) != first]
        if others:
            message = Text(
                "{count} of {all} addresses serve the certificate with another chain",
                count=len(others),
                all=len(group),
            )
            code = EdgeProblemCode.CHAINS_DIFFER
            yield _problem(code, message, _AT_CDN, others, is_failure=False)


def _by_certificate(served: Sequence[Served]) -> list[list[Served]]:
    groups: dict[str | None, list[Served]] = {}
    for address in served:
        groups.setdefault(address.fingerprint, []).append(address)
    return list(groups.values())


def _age(address: Served) -> tuple[datetime, datetime]:
    """The later, the newer. What could not be read comes before all."""
    if not address.chain:
        never = datetime.min.replace(tzinfo=UTC)
        return never, never
    return address.chain[0].not_before, address.chain[0].not_after


def _issuers(address: Served) -> tuple[str, ...]:
    return tuple(issuer.fingerprint for issuer in address.chain[1:])


def _problem(
    code: EdgeProblemCode, message: Text, hint: Text, group: Sequence[Served], *, is_failure: bool
) -> HostProblem:
    severity = Severity.ERROR if is_failure else Severity.WARNING
    addresses = tuple(address.address for address in group)
    return HostProblem(Problem(code, message, hint, severity), addresses)


Presents = tuple[str | None, str | None]
"""What an address presents, and what is wrong with that."""


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """An address presents something else than before; `before` is `None` for a new one."""

    now: Served
    before: Served | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed at a host: at its addresses, and whether its `problems` are others."""

    addresses: tuple[AddressChanged, ...]
    problems: bool

    def __bool__(self) -> bool:
        return bool(self.addresses) or self.problems


def changes(before: HostLook, now: HostLook) -> Changes:
    """Compare two looks. A CDN names other addresses each time, so one that is new is news only
    when it presents what none did before, and one that is gone is none.
    """
    return Changes(tuple(_addresses(before, now)), _codes(before) != _codes(now))


def _addresses(before: HostLook, now: HostLook) -> Iterator[AddressChanged]:
    known = {address.address: address for address in before.served}
    told = set(map(presents, before.served))
    for address in now.served:
        earlier = known.get(address.address)
        if earlier is None and presents(address) in told:
            continue
        if earlier is None or presents(earlier) != presents(address):
            yield AddressChanged(address, earlier)


def presents(address: Served) -> Presents:
    """Give what an address presents, without what passes by itself, such as the days left."""
    return address.fingerprint, None if address.problem is None else address.problem.code


def _codes(look: HostLook) -> set[tuple[str, Severity]]:
    return {(one.problem.code, one.problem.severity) for one in look.problems}
