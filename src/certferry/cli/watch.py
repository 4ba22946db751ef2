"""`certferry watch`: what every address of a host serves, and until when. Any host, ours or not."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.options import Front, WholeNumber, json_option, note
from certferry.errors import ConfigError
from certferry.present.console import Console
from certferry.system_words import system_words
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.core.discovery.watched import Host, HostLook
    from certferry.ports.probe import HostProbe
    from certferry.ports.progress import Pause

EVERY = 60
"""Seconds between two looks: a change at a CDN takes minutes."""

MANY = 16
"""Hosts from which on a person reads that the look takes a while."""

_STDIN = "-"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_BRACKETS = re.compile(r"\[(?P<host>[^\]]*)\](?::(?P<port>.*))?")
_HOW = Text("write a host on each line, such as img.example.com, img.example.com:8443 or a URL")


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
    type=WholeNumber(1, 65535),
    help="The port to look at. Default: [verify] port, or 443.",
)
@click.option(
    "--expiring",
    metavar="DAYS",
    type=WholeNumber(1, 3650),
    help="Fail when a certificate ends within DAYS days.",
)
@click.option("--follow", is_flag=True, help="Go on, and print a line when something changes.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=WholeNumber(1, 86400),
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
    from certferry.reconcile.run import Run
    from certferry.wiring.network import probe_for

    verify = settings_or_defaults(front).verify
    meant = hosts_meant(hosts, file, port or verify.port)
    if len(meant) >= MANY:
        note(front, Text("looking at {count} hosts", count=len(meant)))
    pause, within = Run().pause, None if expiring is None else timedelta(days=expiring)
    probe = probe_for(verify, pause, alone=True)
    watch = Watch(probe, meant, front.console, now, within, as_json=as_json)
    if follow:
        watch.follow(pause, every or EVERY)
    return watch.once()


@dataclass(frozen=True)
class Watch:
    """Looks at hosts, and prints what each address presents."""

    probe: HostProbe
    hosts: Sequence[Host]
    console: Console
    now: Callable[[], datetime]
    ends_within: timedelta | None = None
    as_json: bool = False

    def once(self) -> Exit:
        """Look once."""
        from certferry.present.watch_text import of_looks

        looks = self._looks()
        self._log(looks)
        if self.as_json:
            self.console.print_json(of_looks(looks, self.now(), self.console.voice))
        else:
            self._print_table(looks)
        return exits.of_looks(looks)

    def follow(self, pause: Pause, every: float) -> None:
        """Look again and again, and print what has changed, until the run is stopped."""
        looks = self._looks()
        self._log(looks)
        if self.as_json:
            self._print_documents(looks)
        else:
            self._print_table(looks)
        while True:
            self.console.flush()  # a program reads it through a pipe
            pause(every)
            before, looks = looks, self._looks()
            for earlier, look in zip(before, looks, strict=True):
                self._print_changes(earlier, look)

    def _looks(self) -> list[HostLook]:
        from certferry.core.discovery.watched import judged

        seen = self.probe.served_by(self.hosts)
        now = self.now()
        return [judged(host, seen[host], now, self.ends_within) for host in self.hosts]

    def _log(self, looks: Sequence[HostLook]) -> None:
        from certferry.present.log_entries import log_looks

        log_looks(looks, self.console.run_log)

    def _print_table(self, looks: Sequence[HostLook]) -> None:
        from certferry.present import watch_text

        now, voice = self.now(), self.console.voice
        self.console.print_table(
            watch_text.table(looks, now, voice), watch_text.below(looks, voice)
        )

    def _print_documents(self, looks: Sequence[HostLook]) -> None:
        from certferry.present.watch_text import of_change

        for look in looks:
            document = of_change(look, self.now(), self.console.voice)
            self.console.print_json(document, on_one_line=True)

    def _print_changes(self, before: HostLook, look: HostLook) -> None:
        from certferry.core.discovery.watched import changes
        from certferry.present.log_entries import log_in_order
        from certferry.present.watch_text import news

        changed = changes(before, look)
        if not changed:
            return
        self._log([look])
        if look.ok:
            log_in_order(look, self.console.run_log)
        if self.as_json:
            self._print_documents([look])
        else:
            self.console.print_wrapped(news(changed, look, self.now(), self.console.voice))


def hosts_meant(written: Sequence[str], file: str | None, port: int) -> list[Host]:
    """Return every host once, those of the command line first. `port` is for those that name none.

    Raises `ConfigError`, with all that is wrong on the command line, or in the file.
    """
    from certferry.config.mistakes import Mistake, config_error, joined

    hosts, wrong = _read(enumerate(written), port)
    if wrong:
        errors = [error for _, error in wrong]
        raise errors[0] if len(errors) == 1 else joined(errors)
    if file is not None:
        rows = ((number, _COMMENT.sub("", row).strip()) for number, row in _lines(file))
        more, wrong = _read(((number, row) for number, row in rows if row), port)
        if wrong:
            path = Path(file)
            found = [Mistake(path, number, "", "", error.message) for number, error in wrong]
            raise config_error(found, hint=_HOW)
        if not more:
            raise ConfigError(Text("{path} names no host", path=file), hint=_HOW)
        hosts += more
    return list(dict.fromkeys(hosts))


def _read(
    written: Iterable[tuple[int, str]], port: int
) -> tuple[list[Host], list[tuple[int, ConfigError]]]:
    """Return the hosts, and what is wrong with each of the others, by its number."""
    hosts: list[Host] = []
    wrong: list[tuple[int, ConfigError]] = []
    for number, word in written:
        try:
            hosts.append(host_of(word, port))
        except ConfigError as error:
            wrong.append((number, error))
    return hosts, wrong


def _lines(file: str) -> Iterator[tuple[int, str]]:
    try:
        raw = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
        return enumerate(raw.decode("utf-8-sig").splitlines(), start=1)
    except OSError as error:
        problem = Text("cannot be read: {problem}", problem=system_words(error))
        raise ConfigError(Text("{path} {problem}", path=file, problem=problem)) from error
    except UnicodeDecodeError:
        raise ConfigError(Text("{path} is not UTF-8 text", path=file), hint=_HOW) from None


def host_of(written: str, port: int) -> Host:
    """Return the host of a name or an address, with or without a port, or of a URL with it.

    Raises `ConfigError` for anything else, a wildcard among it.
    """
    from certferry.core.discovery.watched import Host, is_address

    authority = re.split(r"[/?#]", _SCHEME.sub("", written.strip(), count=1))[0]
    name, own_port = authority.rpartition("@")[2], None
    if bracketed := _BRACKETS.fullmatch(name):
        name, own_port = bracketed["host"], bracketed["port"]
    elif name.count(":") == 1:  # several without brackets are an IPv6 address, or nothing
        name, _, own_port = name.partition(":")
    number = port if own_port is None else _port(own_port, written)
    if is_address(name):
        return Host(str(ipaddress.ip_address(name)), number)
    if ":" in name:
        hint = Text("write an IPv6 address in brackets: [2001:db8::1] or [2001:db8::1]:8443")
        raise ConfigError(Text("{host} is not a host", host=repr(written)), hint=hint)
    return Host(_domain(name, written), number)


def _port(port: str, written: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:  # noqa: PLR2004 - RFC 9293: ports have 16 bits
        said = Text("{host} names no port between 1 and 65535", host=repr(written))
        raise ConfigError(said, hint=Text("write it like img.example.com:8443"))
    return int(port)


def _domain(name: str, written: str) -> str:
    from certferry.core.certificates.names import is_wildcard, normalise

    try:
        domain = normalise(name)
    except ConfigError as error:
        hint = Text("write a host like img.example.com, img.example.com:8443, or a URL")
        raise ConfigError(error.message.filled(name=repr(written)), hint=hint) from None
    if is_wildcard(domain):
        one = Text("name one of them, such as {host}", host=domain.replace("*", "www", 1))
        raise ConfigError(Text("{name} stands for many hosts", name=domain), hint=one)
    return domain
