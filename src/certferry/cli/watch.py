"""`certferry watch`: the certificate that every address of a host serves, for any host."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import click

from certferry.cli.exits import Exit, UsageMistake, of_looks
from certferry.cli.options import CommandContext, json_option, note, number_option
from certferry.cli.selection import settings_or_defaults
from certferry.config.mistakes import config_error, joined, mistake_at
from certferry.config.watch import host_of
from certferry.core.discovery.watched import HostObservation, changes, judged
from certferry.core.network import Host
from certferry.errors import ConfigError, system_words
from certferry.ports.probe import Probe
from certferry.ports.progress import Pause
from certferry.present import discover_text
from certferry.present.console import Console
from certferry.present.progress import log_look
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.network import probe_for

EVERY = 60
"""Seconds between two observations by default. A change at a CDN takes minutes."""
_EVERY = f"Seconds between two checks of --follow. Default: {EVERY}."

MANY = 16
"""With this many hosts or more, a message first says how many are checked."""

_COMMENT = re.compile(r"(?:^|\s)#.*")
_HOW = Text("write one host per line, for example img.example.com, img.example.com:8443 or a URL")


@click.command("watch")
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(readable=False, allow_dash=True),
    help="Also check the hosts in this file, one per line; - for standard input.",
)
@number_option("--port", "PORT", 1, 65535, "The port to check. Default: [verify] port, or 443.")
@number_option("--expiring", "DAYS", 1, 3650, "Fail if a certificate expires within DAYS days.")
@click.option("--follow", is_flag=True, help="Keep checking, and print a line for each change.")
@number_option("--every", "SECONDS", 1, 86400, _EVERY)
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    hosts: tuple[str, ...],
    *,
    file: str | None,
    port: int | None,
    expiring: int | None,
    follow: bool,
    every: int | None,
    as_json: bool,
) -> Exit:
    """Show the certificate at every address of a host, and its expiry.

    A HOST is a name or an address, with or without :PORT, or a URL. Resolvers, port and trust come
    from [verify]; without a configuration file, from the system, with port 443.

    Exits 1 if an address does not present a valid certificate for the host, or if the addresses
    differ and the older certificate expires within a week. With --follow --json each change is one
    JSON document on one line.
    """
    if not hosts and file is None:
        raise UsageMistake(Text("give a HOST, or a file of hosts with --file"))
    if every is not None and not follow:
        raise UsageMistake(Text("--every needs --follow"))

    verify = settings_or_defaults(context).verify
    meant = hosts_meant(hosts, file, port or verify.port)
    if len(meant) >= MANY:
        note(context, Text("checking {count} hosts", count=len(meant)))
    pause, within = Run().pause, None if expiring is None else timedelta(days=expiring)
    probe = probe_for(verify, pause, now, alone=True)
    watch = Watch(probe, meant, context.console, now, within, as_json=as_json)
    return watch.follow(pause, every or EVERY) if follow else watch.once()


@dataclass(frozen=True)
class Watch:
    """Observes hosts, and prints the certificate that each address presents."""

    #: Completes a handshake with every address.
    probe: Probe
    #: The hosts to observe.
    hosts: Sequence[Host]
    #: Prints the certificates.
    console: Console
    #: Returns the time, aware and in UTC.
    now: Callable[[], datetime]
    #: Certificates with less time left count as failures; None: no limit.
    ends_within: timedelta | None = None
    #: Whether to print JSON in place of text.
    as_json: bool = False

    def once(self) -> Exit:
        """Observe the hosts once, print the result, and return the exit code."""
        return of_looks(self._begin(follows=False))

    def follow(self, pause: Pause, every: float) -> Exit:
        """Observe the hosts, print the result, and then every `every` seconds observe again and
        print the changes. The loop ends with the error that `pause` raises once the run is stopped.
        """
        looks = self._begin(follows=True)
        while True:
            self.console.flush()  # a program may read the output through a pipe
            pause(every)
            before, looks = looks, self._looks()
            for earlier, look in zip(before, looks, strict=True):
                if not (changed := changes(earlier, look)):
                    continue
                log_look(look, self.console.run_log, has_changed=True)
                if self.as_json:
                    self._print_document(look)
                else:
                    news = discover_text.news(changed, look, self.now(), self.console.voice)
                    self.console.print_wrapped(news)

    def _begin(self, *, follows: bool) -> list[HostObservation]:
        looks, now, voice = self._looks(), self.now(), self.console.voice
        for look in looks:
            log_look(look, self.console.run_log)
            if self.as_json and follows:
                self._print_document(look)
        if not self.as_json:
            below = discover_text.below(looks, voice)
            self.console.print_table(discover_text.hosts(looks, now, voice), below)
        elif not follows:
            self.console.print_json(discover_text.of_looks(looks, now))
        return looks

    def _print_document(self, look: HostObservation) -> None:
        document = discover_text.of_change(look, self.now())
        self.console.print_json(document, on_one_line=True)

    def _looks(self) -> list[HostObservation]:
        seen, now = self.probe.served_by(self.hosts), self.now()
        return [judged(host, seen[host], now, self.ends_within) for host in self.hosts]


def hosts_meant(words: Sequence[str], file: str | None, port: int) -> list[Host]:
    """Return the hosts of `words` and of the file, each host once; `port` is the default port.
    Raise `ConfigError` with every mistake in `words`; without any, with every mistake in the file,
    or for a file that is unreadable or empty.
    """
    hosts, wrong = _read(enumerate(words), port)
    if wrong:
        raise joined([error for _, error in wrong])
    if file is not None:
        rows = ((number, _COMMENT.sub("", row).strip()) for number, row in _lines(file))
        more, wrong = _read(((number, row) for number, row in rows if row), port)
        if wrong:
            mistakes = [
                mistake_at(Path(file), number, "", "", error.message) for number, error in wrong
            ]
            raise config_error(mistakes, hint=_HOW)
        if not more:
            raise ConfigError(Text("{path} contains no host", path=file), hint=_HOW)
        hosts += more
    return list(dict.fromkeys(hosts))


def _read(
    words: Iterable[tuple[int, str]], port: int
) -> tuple[list[Host], list[tuple[int, ConfigError]]]:
    """Return the hosts in numbered `words`, and the number and the error of each wrong word."""
    hosts: list[Host] = []
    wrong: list[tuple[int, ConfigError]] = []
    for number, word in words:
        try:
            hosts.append(host_of(word, port))
        except ConfigError as error:
            wrong.append((number, error))
    return hosts, wrong


def _lines(file: str) -> Iterator[tuple[int, str]]:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return enumerate(raw.decode("utf-8-sig").splitlines(), start=1)
    except OSError as error:
        problem = Text("cannot be read: {problem}", problem=system_words(error))
        raise ConfigError(Text("{path} {problem}", path=file, problem=problem)) from error
    except UnicodeDecodeError:
        raise ConfigError(Text("{path} is not UTF-8 text", path=file), hint=_HOW) from None
