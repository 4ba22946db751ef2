"""Doors of other people's adapters: what they raise that is none of certferry's errors is told as
one, with the package that it came from.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import HttpsWish, Kind
from certferry.core.discovery.survey import FoundZone, Survey
from certferry.core.findings import Finding
from certferry.core.observed.observation import ObservedTarget
from certferry.core.redaction import quoted
from certferry.core.secret import Secret
from certferry.errors import (
    CertferryError,
    DeployError,
    DnsError,
    DnsUnavailable,
    Reported,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import Delegated, Examined, PointedAt, Timed
from certferry.ports.http import NoAnswer
from certferry.ports.survey import Looked, Surveyed, ZoneFinder, ZoneKeeper
from certferry.ports.target import DeployTarget, Look
from certferry.text import Text
from certferry.wiring.adapters import BrokenAdapter, Described, in_short, wrong_with

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_WITHIN = timedelta(seconds=60)
"""How long a door may take to connect, which is to send nothing yet (`ports.adapter`)."""

Hidden = Callable[[], frozenset[Secret]]
"""Gives the secrets that a foreign error might repeat; asked when there is one."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Whom a door belongs to, and what its errors must not show."""

    whose: Described
    hidden: Hidden
    patience: timedelta = CONNECT_WITHIN

    @contextmanager
    def over(
        self, refused: type[CertferryError], unavailable: type[CertferryError]
    ) -> Iterator[None]:
        """Let certferry's own errors pass, and turn what else ends the block into them: `sys.exit`
        too, which would end a thread of work without a word.
        """
        try:
            yield
        except (Reported, KeyboardInterrupt):
            raise
        except NoAnswer as exc:
            raise unavailable(self._said(exc)) from exc
        except BaseException as exc:
            raise self._as(refused, exc) from exc

    def connecting(self, wanted: tuple[str, ...], connect: Callable[[], object]) -> object:
        """Connect, and see that the door has the methods that certferry calls. Raises
        `ConfigError`.
        """
        try:
            door = self._connected(connect)
        except (Reported, KeyboardInterrupt):
            raise
        except BaseException as exc:
            raise wrong_with(self.whose.package, self._logged(exc)) from exc
        missing = [name for name in wanted if not callable(getattr(door, name, None))]
        if missing:
            lacks = Text(
                "the object that {name} connects to has no {missing}",
                name=self.whose.name,
                missing=missing,
            )
            raise wrong_with(self.whose.package, lacks)
        return door

    def _connected(self, connect: Callable[[], object]) -> object:
        """Connect within a time: what hangs is left to itself, and keeps no process."""
        outcome: Future[object] = Future()

        def work() -> None:
            try:
                outcome.set_result(connect())
            except BaseException as exc:  # noqa: BLE001 - raised again where the caller waits
                outcome.set_exception(exc)

        threading.Thread(target=work, name="connect", daemon=True).start()
        if not wait([outcome], self.patience.total_seconds()).done:
            name, time = self.whose.name, self.patience
            late = Text("{name} does not connect within {time}", name=name, time=time)
            raise wrong_with(self.whose.package, late)
        return outcome.result()

    def _as(self, kind: type[CertferryError], exc: BaseException) -> CertferryError:
        wrong = wrong_with(self.whose.package, self._logged(exc))
        return kind(wrong.message, hint=wrong.hint)

    def _said(self, exc: NoAnswer) -> Text:
        return Text("{where}: {problem}", where=self.whose.adapter.SERVICE, problem=exc.problem)

    def _logged(self, exc: BaseException) -> Text:
        """Log what was raised, and say it in short."""
        hidden = self.hidden()  # while these are held here, the log shows none of them
        log.debug("%s", type(exc).__name__, exc_info=exc)
        words = quoted(in_short(exc), hidden)
        return Text("{name} failed: {problem}", name=self.whose.name, problem=words)


class ForeignDns:
    """A `DnsProvider` of a package's."""

    WANTED = ("add_txt", "remove_txt")

    def __init__(self, guard: Guard, door: DnsProvider) -> None:
        self._guard = guard
        self._door = door

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        with self._guard.over(DnsError, DnsUnavailable):
            return _given(self._door.add_txt(name, value), str)

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
        with self._guard.over(DnsError, DnsUnavailable):
            return self._door.remove_txt(name, value, handle)

    def zones(self) -> tuple[FoundZone, ...] | None:
        """See `ports.survey.ZoneKeeper.zones`; `None` where the door cannot list them."""
        if not hasattr(self._door, "zones"):
            return None
        with self._guard.over(DnsError, DnsUnavailable):
            return _given(cast("ZoneKeeper", self._door).zones(), tuple)

    def examine(self, account: str) -> tuple[Finding, ...]:
        """See `ports.examination.Examined.examine`; nothing where the door cannot be examined."""
        with self._guard.over(DnsError, DnsUnavailable):
            return _examined(self._door, account)

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        with self._guard.over(DnsError, DnsUnavailable):
            return _clock_ahead(self._door)

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        if not hasattr(self._door, "name_servers"):
            return frozenset()
        with self._guard.over(DnsError, DnsUnavailable):
            return _given(cast("Delegated", self._door).name_servers(zone), frozenset)


class ForeignZoneFinder(ForeignDns):
    """A `DnsProvider` of a package's that tells of a name which zone holds it."""

    def zone_of(self, name: str) -> FoundZone:
        """See `ports.survey.ZoneFinder.zone_of`."""
        with self._guard.over(DnsError, DnsUnavailable):
            return _given(cast("ZoneFinder", self._door).zone_of(name), FoundZone)


class ForeignTarget:
    """A `DeployTarget` of a package's."""

    WANTED = ("observe", "upload", "bind", "retire")

    def __init__(self, guard: Guard, door: DeployTarget) -> None:
        self._guard = guard
        self._door = door

    def observe(self, look: Look) -> ObservedTarget:
        """See `ports.target.DeployTarget.observe`."""
        with self._guard.over(DeployError, TargetUnavailable):
            return _given(self._door.observe(look), ObservedTarget)

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`."""
        with self._guard.over(DeployError, TargetUnavailable):
            return _given(self._door.upload(lineage, bundle), str)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> str | None:
        """See `ports.target.DeployTarget.bind`."""
        with self._guard.over(DeployError, TargetUnavailable):
            request_id = self._door.bind(domain, kind, remote_id, https)
            return None if request_id is None else _given(request_id, str)

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire`."""
        with self._guard.over(DeployError, TargetUnavailable):
            return self._door.retire(remote_id, label, unmanaged=unmanaged)

    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`; where the door cannot list domains, it says so."""
        if not hasattr(self._door, "survey"):
            said = Text("{name} cannot list its domains", name=self._guard.whose.name)
            return Survey((), (TargetRejected(said),))
        with self._guard.over(DeployError, TargetUnavailable):
            return _given(cast("Surveyed", self._door).survey(looked), Survey)

    def examine(self, account: str) -> tuple[Finding, ...]:
        """See `ports.examination.Examined.examine`; nothing where the door cannot be examined."""
        with self._guard.over(DeployError, TargetUnavailable):
            return _examined(self._door, account)

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        with self._guard.over(DeployError, TargetUnavailable):
            return _clock_ahead(self._door)

    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        if not hasattr(self._door, "cnames"):
            return {}
        with self._guard.over(DeployError, TargetUnavailable):
            return _given(cast("PointedAt", self._door).cnames(), dict)


def _examined(door: object, account: str) -> tuple[Finding, ...]:
    if not hasattr(door, "examine"):
        return ()
    return _given(cast("Examined", door).examine(account), tuple)


def _clock_ahead(door: object) -> timedelta | None:
    if not hasattr(door, "clock_ahead"):
        return None
    ahead = cast("Timed", door).clock_ahead()
    return None if ahead is None else _given(ahead, timedelta)


def _given(answer: object, kind: type[T]) -> T:
    """Give what a door has given, which is told as its mistake where it is something else."""
    if not isinstance(answer, kind):
        msg = f"gave {type(answer).__name__} and not {kind.__name__}"
        raise TypeError(msg)
    return answer


class BrokenDns:
    """A `DnsProvider` of a package's that cannot be used: it says so whenever it is asked."""

    def __init__(self, wrong: BrokenAdapter) -> None:
        self._wrong = wrong

    def add_txt(self, name: str, value: str) -> str:
        """Raise `DnsError`."""
        raise self._error()

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """Raise `DnsError`."""
        raise self._error()

    def zones(self) -> tuple[FoundZone, ...]:
        """Raise `DnsError`."""
        raise self._error()

    def _error(self) -> DnsError:
        return DnsError(self._wrong.message, hint=self._wrong.hint)


class BrokenTarget:
    """A `DeployTarget` of a package's that cannot be used: it says so whenever it is asked."""

    def __init__(self, wrong: BrokenAdapter) -> None:
        self._wrong = wrong

    def observe(self, look: Look) -> ObservedTarget:
        """Raise `DeployError`."""
        raise self._error()

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Raise `DeployError`."""
        raise self._error()

    def bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> str | None:
        """Raise `DeployError`."""
        raise self._error()

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Raise `DeployError`."""
        raise self._error()

    def _error(self) -> DeployError:
        return DeployError(self._wrong.message, hint=self._wrong.hint)
