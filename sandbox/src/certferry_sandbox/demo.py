"""`certferry demo`: the main job in a world on loopback. The proof of success comes from the world
itself, not from certferry's own report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

from certferry.cli.options import CommandContext
from certferry.config.load import VARIABLE, load
from certferry.core.certificates.certificate import short
from certferry.core.observed.observation import Served
from certferry.errors import VerificationError
from certferry.present.console import Console
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.reconcile.run import Run
from certferry.text import Text, verbatim
from certferry.values import replace
from certferry.wiring.network import probe_for
from certferry.wiring.settings import ADAPTERS
from certferry_sandbox.troubled import open_console
from certferry_sandbox.world import (
    ALIYUN_DOMAINS,
    DOMAINS,
    EVERYWHERE,
    TENCENT_DOMAINS,
    Pace,
    World,
    demonstration,
)

PACE = Pace(
    nameserver_lags=(0.5, 3.0),
    processing=timedelta(seconds=4),
    edge_lags=(timedelta(seconds=1), timedelta(seconds=4)),
)
"""Slow enough to watch: at Qiniu the same takes 8 to 15 minutes."""


SERVED = (*DOMAINS, *(name for name, _ in (*ALIYUN_DOMAINS, *TENCENT_DOMAINS)))
"""The domains of the demo at all vendors."""


@click.command()
@click.option("--fast", is_flag=True, help="Run at full speed.")
@click.option("--serve", is_flag=True, help="Open the console of a world with trouble in it.")
@click.pass_obj
def command(context: CommandContext, *, fast: bool, serve: bool) -> int:
    """Run the main job in a simulated world, and check every edge."""
    if serve:
        with tempfile.TemporaryDirectory(prefix="certferry-demo-") as directory:
            return open_console(context, Path(directory))
    console = context.console
    console.print_wrapped([line(console.voice.say(_OPENING))])
    with (
        tempfile.TemporaryDirectory(prefix="certferry-demo-") as directory,
        demonstration(Pace() if fast else PACE, has_others=True) as world,
    ):
        console.print_wrapped(_cast(world, console))
        return Demo(context, world, world.write_files(Path(directory), EVERYWHERE)).run()


class Demo:
    """One run of the demo: observe, plan, sync, observe again, sync again, and judge."""

    def __init__(self, context: CommandContext, world: World, config: Path) -> None:
        self._context = context
        self._world = world
        self._config = config
        environ = {**context.console.environ, **world.environment}
        self._console = replace(context.console, environ=environ)

    def run(self) -> int:
        """Run the demo. Raises `VerificationError` if the world contradicts certferry's report."""
        before = self._look()
        self._type("plan")
        first = self._type("sync")
        after, done = self._look(), Writes.of(self._world)
        second = self._type("sync")
        changes = [
            change
            for domain in SERVED
            for change in edge_changes(domain, before[domain], after[domain])
        ]
        rewritten = Writes.of(self._world).writes_since(done)
        self._console.print_wrapped(_proof(changes, done, rewritten, self._console))
        self._judge(changes, done, rewritten)
        return max(first, second)

    def _type(self, *words: str) -> int:
        """Run a command as a user would, in this process."""
        from certferry.cli.main import run

        self._console.print([line(), line(Span(f"$ certferry {' '.join(words)}", Tone.STRONG))])
        self._console.stdout.flush()
        # The environment names the file: printed commands would repeat `--config` with a path that
        # is gone at the end.
        environ = {**self._console.environ, VARIABLE: str(self._config)}
        console = replace(self._console, environ=environ)
        return run(["--lang", console.voice.language, *words], console)

    def _look(self) -> Mapping[str, tuple[Served, ...]]:
        settings = load(self._config, self._console.environ, ADAPTERS)
        run = Run()
        return probe_for(settings.verify, run.pause, run.now).served(SERVED)

    def _judge(self, changes: list[EdgeChange], done: Writes, rewritten: int) -> None:
        kept = self._world.qiniu.domain(DOMAINS[0]).https
        claims = {
            Text("every edge serves the same new certificate"): _is_one_and_new(changes),
            Text("redirect and HTTP/2 have survived"): kept.force_https and kept.http2,
            Text("no challenge record is left"): done.challenges_left == 0,
            Text("the second run wrote nothing"): rewritten == 0,
        }
        broken = [claim for claim, holds in claims.items() if not holds]
        if broken:
            raise VerificationError(
                Text("the demo did not prove: {claims}", claims=broken),
                hint=Text(
                    "the failure is a bug in certferry; please report it with the output above"
                ),
            )


def _is_one_and_new(changes: list[EdgeChange]) -> bool:
    fingerprints = {change.after for change in changes}
    (fingerprint,) = fingerprints if len(fingerprints) == 1 else (None,)
    return fingerprint is not None and all(change.is_new(fingerprint) for change in changes)


_OPENING = Text(
    "A world on loopback: a CA (Pebble), a DNS zone on two name servers of different speed, DNSPod,"
    " and the CDNs of Qiniu, Alibaba Cloud and Tencent Cloud, whose TLS edges pick a certificate up"
    " at different moments."
)


def _cast(world: World, console: Console) -> Iterator[Line]:
    aliyun, tencent = world.aliyun, world.tencentcloud
    edges = [*world.qiniu.edges.addresses]
    edges += [edge.address for edge in aliyun.edges] if aliyun else []
    edges += tencent.edges.addresses if tencent else []
    roles = (
        (verbatim("CA"), world.pebble.directory_url),
        (verbatim("DNSPod"), world.dnspod.url),
        (
            Text("name servers"),
            ", ".join(f"{s.address}:{world.dns.port}" for s in world.dns.servers),
        ),
        (Text("Qiniu"), world.qiniu.api_url),
        (Text("Alibaba Cloud"), ", ".join(e.url for e in aliyun.endpoints) if aliyun else ""),
        (Text("Tencent Cloud"), tencent.url if tencent else ""),
        (Text("edges"), ", ".join(f"{address}:{world.qiniu.edges.port}" for address in edges)),
    )
    rows = [(Span(console.voice.say(role)), Span(where)) for role, where in roles]
    return iter([line(), *columns(rows, "  ")])


def _proof(
    changes: list[EdgeChange], done: Writes, rewritten: int, console: Console
) -> Iterator[Line]:
    yield line()
    yield line(
        Span(
            console.voice.say(Text("Certificates served by each edge, before and after")),
            Tone.STRONG,
        )
    )
    rows = [
        (
            Span(change.domain),
            Span(change.address),
            Span(short(change.before or "—")),
            Span(f"→ {short(change.after or '—')}"),
        )
        for change in changes
    ]
    yield from columns(rows, "  ")
    yield line()
    for text in (
        Text(
            "first run: {qiniu} writes at Qiniu, {aliyun} at Alibaba Cloud, {tencent} at Tencent"
            " Cloud, {dnspod} at DNSPod, {left} challenge records left",
            qiniu=done.qiniu_writes,
            aliyun=done.aliyun_writes,
            tencent=done.tencent_writes,
            dnspod=done.dnspod_writes,
            left=done.challenges_left,
        ),
        Text("second run: {count} writes", count=rewritten),
    ):
        yield line(f"  {console.voice.say(text)}")


@dataclass(frozen=True, slots=True)
class Writes:
    """The writes at every service so far, and our challenges that are still in DNS."""

    qiniu_writes: int
    aliyun_writes: int
    tencent_writes: int
    dnspod_writes: int
    challenges_left: int

    @classmethod
    def of(cls, world: World) -> Writes:
        """Return the writes in the stand-ins' journals, and the challenges in the zones."""
        records = world.zones.records(rtype="TXT")
        return cls(
            qiniu_writes=len(world.qiniu.writes()),
            aliyun_writes=0 if world.aliyun is None else len(world.aliyun.writes()),
            tencent_writes=0 if world.tencentcloud is None else len(world.tencentcloud.writes()),
            dnspod_writes=len(world.dnspod.writes()),
            challenges_left=sum(record.name.startswith("_acme-challenge.") for record in records),
        )

    def writes_since(self, earlier: Writes) -> int:
        """Count the writes in between."""
        return self._all - earlier._all

    @property
    def _all(self) -> int:
        return self.qiniu_writes + self.aliyun_writes + self.tencent_writes + self.dnspod_writes


@dataclass(frozen=True, slots=True)
class EdgeChange:
    """What one edge presented for a domain before and after."""

    domain: str
    address: str
    before: str | None
    after: str | None

    def is_new(self, fingerprint: str) -> bool:
        """Whether the edge serves this certificate now, and did not before."""
        return self.after == fingerprint != self.before


def edge_changes(
    domain: str, before: tuple[Served, ...], after: tuple[Served, ...]
) -> tuple[EdgeChange, ...]:
    """Return, by address, the certificates presented before and after."""
    earlier = {seen.address: seen.fingerprint for seen in before}
    return tuple(
        EdgeChange(domain, seen.address, earlier.get(seen.address), seen.fingerprint)
        for seen in sorted(after, key=lambda seen: seen.address)
    )
