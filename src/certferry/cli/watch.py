"""`certferry watch`: what every address of a host serves, and until when. Any host, ours or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.options import Front, WholeNumber, json_option
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.discovery.watched import Host, HostLook
    from certferry.ports.probe import HostProbe
    from certferry.ports.progress import Pause

_PORTS = WholeNumber(1, 65535)
_DAYS = WholeNumber(1, 3650)
_SECONDS = WholeNumber(1, 86400)

EVERY = 60
"""Seconds between two looks: a change at a CDN takes minutes."""

MANY = 16
"""Hosts from which on a person is told that the look takes a while."""


@click.command("watch")
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(readable=False, allow_dash=True),
    help="Look at the hosts in this file too, one on each line; - for standard input.",
)
@click.option(
    "--port",
    metavar="PORT",
    type=_PORTS,
    help="The port to look at. Default: [verify] port, or 443.",
)
@click.option(
    "--expiring",
    metavar="DAYS",
    type=_DAYS,
    help="Fail when a certificate ends within DAYS days.",
)
@click.option("--follow", is_flag=True, help="Go on, and print a line when something changes.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=_SECONDS,
    help=f"How long --follow waits between two looks. Default: {EVERY}.",
)
@json_option
@click.pass_obj
def command(
    front: Front,
    hosts: tuple[str, ...],
    *,
    file: str | None,
    port: int | None,
    expiring: int | None,
    follow: bool,
    every: int | None,
    as_json: bool,
) -> Exit:
    """Show what every address of a host serves, and until when.

    A HOST is a name or an address, with or without :PORT, or a URL. Resolvers, port and trust are
    those of [verify] where there is a configuration file, the system's and 443 elsewhere.

    Exits with 1 when an address does not present a certificate that is valid for the host, or when
    the addresses differ and the older certificate ends within a week. With --follow --json each
    change is one JSON document on one line.
    """
    if not hosts and file is None:
        raise UsageMistake(Text("name a HOST, or a file of hosts with --file"))
    if every is not None and not follow:
        raise UsageMistake(Text("--every needs --follow"))

    from certferry.cli.selection import settings_or_defaults
    from certferry.cli.watch_hosts import hosts_asked_for
    from certferry.reconcile.stopping import Stopping
    from certferry.wiring.watching import host_probe

    settings = settings_or_defaults(front)
    asked_for = hosts_asked_for(hosts, file, port or settings.verify.port)
    if len(asked_for) >= MANY and not front.quiet:
        told = Text("looking at {count} hosts", count=len(asked_for))
        front.console.remark([line(front.voice.say(told))])
    pause = Stopping().pause
    watch = Watch(
        host_probe(settings.verify, pause),
        asked_for,
        front.console,
        _now,
        ends_within=None if expiring is None else timedelta(days=expiring),
        as_json=as_json,
    )
    if follow:
        watch.follow(pause, every or EVERY)
    return watch.once()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Watch:
    """Looks at hosts, and shows what each address presents."""

    probe: HostProbe
    hosts: Sequence[Host]
    console: Console
    now: Callable[[], datetime]
    ends_within: timedelta | None = None
    as_json: bool = False

    def once(self) -> Exit:
        """Look once."""
        from certferry.present import documents as watch_documents
        from certferry.present.log_entries import log_looks

        looks = self._looks()
        log_looks(looks, self.console.run_log)
        if self.as_json:
            document = watch_documents.of_looks(looks, self.now(), self.console.voice)
            self.console.hand_out(document)
        else:
            self._show(looks)
        return exits.of_looks(looks)

    def follow(self, pause: Pause, every: float) -> None:
        """Look again and again, and tell what has changed, until the run is stopped."""
        looks = self._looks()
        self._begin(looks)
        while True:
            self.console.flush()  # a program reads it through a pipe
            pause(every)
            before, looks = looks, self._looks()
            for earlier, look in zip(before, looks, strict=True):
                self._tell(earlier, look)

    def _looks(self) -> list[HostLook]:
        from certferry.core.discovery.watched import judged

        seen = self.probe.look_at(self.hosts)
        now = self.now()
        return [judged(host, seen[host], now, self.ends_within) for host in self.hosts]

    def _begin(self, looks: Sequence[HostLook]) -> None:
        from certferry.present.log_entries import log_looks

        log_looks(looks, self.console.run_log)
        if not self.as_json:
            self._show(looks)
        else:
            self._hand_out(looks)

    def _show(self, looks: Sequence[HostLook]) -> None:
        from certferry.present import watch_text

        voice = self.console.voice
        self.console.show_table(
            watch_text.table(looks, self.now(), voice), watch_text.remarks(looks, voice)
        )

    def _tell(self, before: HostLook, look: HostLook) -> None:
        from certferry.core.discovery.watched import changes
        from certferry.present import watch_text
        from certferry.present.log_entries import log_in_order, log_looks

        changed = changes(before, look)
        if not changed:
            return
        log_looks([look], self.console.run_log)
        if look.ok:
            log_in_order(look, self.console.run_log)
        if self.as_json:
            self._hand_out([look])
        else:
            self.console.tell(watch_text.news(changed, look, self.now(), self.console.voice))

    def _hand_out(self, looks: Sequence[HostLook]) -> None:
        from certferry.present.documents import of_change

        for look in looks:
            document = of_change(look, self.now(), self.console.voice)
            self.console.hand_out(document, on_one_line=True)
