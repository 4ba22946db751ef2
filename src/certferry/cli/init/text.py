"""Render what `certferry init` has found, and the next steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from certferry.cli.init.files import Files
from certferry.core.discovery import proposal as proposals
from certferry.core.discovery.inventory import FoundDomain
from certferry.file_trust import user_name
from certferry.migration.home import OldCertificate, OldHome
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, TextTable, Tone, line, visible, width, wrapped
from certferry.text import Text

_SHOWN = 3
"""So many certificates, and names of each, are shown where operators choose among ways."""

INTRODUCTION = 79
"""Cells of the introduction's lines, which are read whole, where the screen has so many."""


def found(
    places: proposals.Places,
    service: str,
    now: datetime,
    voice: Voice,
    numbered: Sequence[str] = (),
) -> TextTable:
    """Render a row for each domain: what it is, its certificate, and, of a DNS account of
    `service`, its zone. Those to choose from are `numbered` from 1.
    """
    digits = len(str(len(numbered)))
    numbers = {name: f"{number:>{digits}}  " for number, name in enumerate(numbered, start=1)}
    free = " " * (digits + 2) if numbered else ""
    headers = [Text("DOMAIN"), Text("KIND"), Text("CERTIFICATE")]
    rows: list[tuple[Span, ...]] = [
        (
            Span(numbers.get(one.domain, free) + one.domain, Tone.STRONG),
            Span(one.kind.value),
            Span(voice.say_on_one_line(_certificate(one, now))),
        )
        for one in places.domains
    ]
    if places.dns and places.zones is not None:
        headers.append(Text("{service} ZONE", service=service))
        none = Span(voice.say(Text("none")), Tone.PENDING)
        zones = [places.zone_of(one.domain) for one in places.domains]
        held = [Span(zone.name) if zone else none for zone in zones]
        rows = [(*row, zone) for row, zone in zip(rows, held, strict=True)]
    first, *others = map(voice.say, headers)
    return TextTable((free + first, *others), tuple(rows))


def https_is_off(domains: Sequence[str]) -> Text:
    """Describe what it means to choose domains that serve no HTTPS."""
    said = Text(
        "HTTPS is off at {domains}: chosen, it is switched on there by the first sync, and HTTPS"
        " requests may cost money (Qiniu bills them)."
    )
    if len(domains) > _SHOWN:
        said = Text(
            "HTTPS is off at {count} of these domains: where they are chosen, it is switched on by"
            " the first sync, and HTTPS requests may cost money (Qiniu bills them)."
        )
    return said.filled(count=len(domains), domains=list(domains))


def grouped(grouping: proposals.Grouping, certificates: Sequence[Sequence[str]]) -> Text:
    """Describe how domains share certificates."""
    said = {
        proposals.Grouping.WILDCARD: Text(
            "one for each registered domain, with a wildcard where several are below one name"
        ),
        proposals.Grouping.NAMES: Text("one for each registered domain"),
        proposals.Grouping.EACH: Text("one for each domain"),
    }[grouping]
    count = len(certificates)
    if count > _SHOWN:
        return Text("{said} ({count} certificates)", said=said, count=count)
    shown = [[*one[:_SHOWN], *(["…"] if len(one) > _SHOWN else [])] for one in certificates]
    return Text("{said}: {names}", said=said, names=" | ".join(map(", ".join, shown)))


def may_be_followed(one: OldCertificate, doubt: Text) -> Text:
    """Ask whether to do what notes say that another user could change; show the whole command."""
    said = Text(
        "{doubt}. Shall certferry write {name} to {directory} as {user}, as that file says?"
    )
    if one.installed.reload:
        said = Text(
            "{doubt}. Shall certferry write {name} to {directory} and run this command as {user},"
            " as that file says: {command}"
        )
    return said.filled(
        doubt=doubt,
        name=one.lineage,
        directory=visible(one.installed.directory),
        user=user_name(os.geteuid()),
        command=visible(one.installed.reload),
    )


def left_out(proposal: proposals.Proposal, asked_for: Collection[str] = ()) -> Iterator[Text]:
    """Render what nothing is declared for, without what an operator was `asked_for`."""
    others = [one for one in proposal.left_out if one.name not in asked_for]
    for reason in dict.fromkeys(one.reason for one in others):
        names = [one.name for one in others if one.reason == reason]
        if len(names) == 1:
            yield Text("{name} is left out: {reason}", name=names[0], reason=reason)
        else:
            yield Text("{names} are left out: {reason}", names=names, reason=reason)
    for one in others:
        for remark in one.certificate.remarks if one.certificate is not None else ():
            yield Text("{name}: {reason}", name=one.name, reason=remark)


def proposed(
    certificates: Sequence[proposals.ProposedCertificate], client: str, now: datetime, voice: Voice
) -> Iterator[Line]:
    """Render which certificates are declared from now on, and which of them are there already."""
    for one in certificates:
        yield line(voice.say(standing_of(one, client, now)))
        for remark in one.remarks:
            yield line("  ", Span(voice.say_on_one_line(remark), Tone.FAINT))


def to_switch_off(home: OldHome, proposal: proposals.Proposal, voice: Voice) -> Iterator[Line]:
    """Render what the other client must no longer do, command by command."""
    client = home.client.value
    taken = home.taken_over_by(proposal)
    if not taken:
        yield line(voice.say(Text("{client} goes on as before.", client=client)))
        return
    heading = Text("Switch off in {client}, or it goes on renewing:", client=client)
    if not home.renews_by_itself:
        # Who takes the command for one to be run issues a certificate beside certferry's.
        heading = Text(
            "No crontab, timer or script may run this any more, or {client} goes on renewing:",
            client=client,
        )
    yield line(voice.say(heading))
    yield from (line("  ", Span(one.stop, Tone.STRONG)) for one in taken)
    stale = Text(
        "The files in {home} are no longer renewed: programs that read them need a"
        " deployment to files.",
        home=home.home,
    )
    yield line(voice.say(stale))


def introduction(files: Files, voice: Voice) -> Iterator[Line]:
    """Render what the interview will do, before its first question."""
    for text in (
        Text("This interview writes {path}. It changes nothing at any account.", path=files.config),
        Text(
            "It asks for the keys of your DNS service and of your CDN and checks each pair at once,"
            " looks at the domains there, proposes certificates, and shows the file before it"
            " writes it. Typed keys go to {keys} (mode 0600). `back` returns to the question"
            " before; Ctrl-C ends it.",
            keys=files.keys,
        ),
    ):
        cells = min(INTRODUCTION, shutil.get_terminal_size().columns)
        yield from map(line, wrapped(voice.say(text), cells))
    yield line()


def next_steps(*, has_channel: bool, has_heartbeat: bool, voice: Voice) -> Iterator[Line]:
    """Render the commands to run next, and what each does."""
    steps = {
        "plan": Text("shows what a sync would do"),
        "sync": Text("issues, deploys and verifies"),
        "schedule install": Text("runs that twice a day, so that certificates renew"),
    }
    if not has_channel:
        steps["help notify"] = Text("how a channel, [notify.ops], tells you of trouble")
    if not has_heartbeat:
        steps["help monitoring"] = Text("how a [heartbeat] tells you that the runs stopped")
    yield line(voice.say(Text("Next:")))
    options = ["" if step.startswith("help ") else voice.options for step in steps]
    commands = [f"certferry{before} {step}" for before, step in zip(options, steps, strict=True)]
    widest, said = max(map(len, commands)), [*map(voice.say, steps.values())]
    is_wide = widest + 4 + max(map(width, said)) > shutil.get_terminal_size().columns
    for command, does in zip(commands, said, strict=True):
        if is_wide:  # half sentences in a column are hard to read
            yield line("  ", Span(command, Tone.STRONG))
            yield line("    ", does)
        else:
            yield line("  ", Span(command.ljust(widest), Tone.STRONG), "  ", does)


def standing_of(one: proposals.ProposedCertificate, client: str, now: datetime) -> Text:
    """Describe how a certificate that is declared now stands; `client` made what is there."""
    if one.adopts is None:
        return Text("{name}: to be issued for {names}", name=one.lineage, names=one.names)
    left = one.adopts.certificate.remaining(now)
    if one.files is None:
        return Text("{name}: adopted, {left} left", name=one.lineage, left=left)
    return Text(
        "{name}: deploy only; {client} keeps renewing it, {left} left",
        name=one.lineage,
        client=client,
        left=left,
    )


def _certificate(domain: FoundDomain, now: datetime) -> Text:
    if domain.problem is not None:
        return domain.problem.message
    if proposals.has_https_off(domain):
        return Text("HTTPS is off")
    if domain.not_after is None:
        return Text("not known")
    if domain.not_after <= now:
        return Text("expired at {moment}", moment=domain.not_after)
    return Text("{left} left", left=domain.not_after - now)
