"""Render the domains, the proposal and the next steps of `certferry init`."""

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
"""The most certificates or domains that a sentence lists: for more, the sentence gives the number.
Also the most names that a sentence lists of one certificate.
"""

INTRODUCTION = 79
"""Cells: the introduction is at most this wide, also on a wider terminal."""


def found(
    places: proposals.Places,
    service: str,
    now: datetime,
    voice: Voice,
    numbered: Sequence[str] = (),
) -> TextTable:
    """Render a row for each domain: the kind and the state of the certificate, the account if there
    are several, and the zone if a DNS account (of `service`) was read. Domains in `numbered` come
    first, with their numbers from 1.
    """
    listed = [(target, domain) for target in places.targets for domain in target.domains]
    positions = {name: position for position, name in enumerate(numbered)}
    listed.sort(key=lambda pair: positions.get(pair[1].domain, len(numbered)))
    digits = len(str(len(numbered)))
    numbers = {name: f"{number:>{digits}}  " for number, name in enumerate(numbered, start=1)}
    free = " " * (digits + 2) if numbered else ""
    headers = [Text("DOMAIN"), Text("KIND"), Text("CERTIFICATE")]
    rows: list[tuple[Span, ...]] = [
        (
            Span(numbers.get(domain.domain, free) + domain.domain, Tone.STRONG),
            Span(domain.kind.value),
            Span(voice.say_on_one_line(_certificate(domain, now))),
        )
        for _, domain in listed
    ]
    if len(places.targets) > 1:
        headers.append(Text("ACCOUNT"))
        labels = [Span(target.label) for target, _ in listed]
        rows = [(*row, label) for row, label in zip(rows, labels, strict=True)]
    if places.dns and places.zones is not None:
        headers.append(Text("{service} ZONE", service=service))
        none = Span(voice.say(Text("none")), Tone.PENDING)
        zones = [places.zone_of(domain.domain) for _, domain in listed]
        held = [Span(zone.name) if zone else none for zone in zones]
        rows = [(*row, zone) for row, zone in zip(rows, held, strict=True)]
    first, *others = map(voice.say, headers)
    return TextTable((free + first, *others), tuple(rows))


def https_is_off(domains: Sequence[str], services: Sequence[proposals.Service]) -> Text:
    """Describe the effect of choosing domains that serve only HTTP."""
    message = Text(
        "HTTPS is off at {domains}: if you choose them, the first sync switches HTTPS on, and"
        " HTTPS requests may cost money ({service} bills them)."
    )
    if len(domains) > _SHOWN:
        message = Text(
            "HTTPS is off at {count} of the domains: if you choose them, the first sync switches"
            " HTTPS on, and HTTPS requests may cost money ({service} bills them)."
        )
    called = [service.called for service in services] or Text("the service")
    return message.filled(count=len(domains), domains=list(domains), service=called)


def grouped(grouping: proposals.Grouping, certificates: Sequence[Sequence[str]]) -> Text:
    """Describe how domains share certificates."""
    way = {
        proposals.Grouping.WILDCARD: Text(
            "one for each registered domain, with a wildcard for several domains below one name"
        ),
        proposals.Grouping.NAMES: Text("one for each registered domain"),
        proposals.Grouping.EACH: Text("one for each domain"),
    }[grouping]
    count = len(certificates)
    if count > _SHOWN:
        return Text("{said} ({count} certificates)", said=way, count=count)
    shown = [[*names[:_SHOWN], *(["…"] if len(names) > _SHOWN else [])] for names in certificates]
    return Text("{said}: {names}", said=way, names=" | ".join(map(", ".join, shown)))


def may_be_followed(certificate: OldCertificate, doubt: Text) -> Text:
    """Return the question whether to take over the copies and the command that the client's file
    notes for a certificate, although another user could change this file (`doubt`). The question
    shows the command.
    """
    message = Text(
        "{doubt}. Should certferry write {name} to {directory} as {user}, as the client's"
        " file says?"
    )
    if certificate.installed.reload:
        message = Text(
            "{doubt}. Should certferry write {name} to {directory} and run a command as {user},"
            " as the client's file says? The command: {command}"
        )
    return message.filled(
        doubt=doubt,
        name=certificate.lineage,
        directory=visible(certificate.installed.directory),
        user=user_name(os.geteuid()),
        command=visible(certificate.installed.reload),
    )


def left_out(proposal: proposals.Proposal, asked_for: Collection[str] = ()) -> Iterator[Text]:
    """Yield a sentence for each reason to leave names out of the proposal, then the remarks about
    the certificates of these names. Skip the names in `asked_for`.
    """
    others = [entry for entry in proposal.left_out if entry.name not in asked_for]
    for reason in dict.fromkeys(entry.reason for entry in others):
        names = [entry.name for entry in others if entry.reason == reason]
        if len(names) == 1:
            yield Text("{name} is left out: {reason}", name=names[0], reason=reason)
        else:
            yield Text("{names} are left out: {reason}", names=names, reason=reason)
    for entry in others:
        for remark in entry.certificate.remarks if entry.certificate is not None else ():
            yield Text("{name}: {reason}", name=entry.name, reason=remark)


def proposed(
    certificates: Sequence[proposals.ProposedCertificate], client: str, now: datetime, voice: Voice
) -> Iterator[Line]:
    """Render the certificates to declare, each as new or adopted, with the remarks about each."""
    for certificate in certificates:
        yield line(voice.say(standing_of(certificate, client, now)))
        for remark in certificate.remarks:
            yield line("  ", Span(voice.say_on_one_line(remark), Tone.FAINT))


def to_switch_off(home: OldHome, proposal: proposals.Proposal, voice: Voice) -> Iterator[Line]:
    """Render the commands that end the other client's renewals, or say that the client continues if
    the proposal takes over no certificate.
    """
    client = home.client.value
    taken = home.taken_over_by(proposal)
    if not taken:
        yield line(voice.say(Text("{client} continues as before.", client=client)))
        return
    heading = Text("Switch off in {client}, or the client keeps renewing:", client=client)
    if not home.renews_by_itself:
        # This client renews only if a crontab or a script runs the command on each line. Under the
        # first heading a reader could run the command, and the client would issue a certificate.
        heading = Text(
            "Remove from every crontab, timer and script, or {client} keeps renewing:",
            client=client,
        )
    yield line(voice.say(heading))
    yield from (line("  ", Span(certificate.stop, Tone.STRONG)) for certificate in taken)
    stale = Text(
        "The files in {home} are no longer renewed: programs that read them need a"
        " deployment to files.",
        home=home.home,
    )
    yield line(voice.say(stale))


def introduction(files: Files, voice: Voice) -> Iterator[Line]:
    """Render the interview's introduction."""
    for text in (
        Text("This interview writes {path}. Your accounts stay unchanged.", path=files.config),
        Text(
            "The interview asks for the keys of your DNS service and your CDN and checks each"
            " pair, reads the domains there, proposes certificates, and shows the file before"
            " writing. Typed keys go to {keys} (mode 0600). `back` returns to the previous"
            " question; Ctrl-C ends the interview.",
            keys=files.keys,
        ),
    ):
        cells = min(INTRODUCTION, shutil.get_terminal_size().columns)
        yield from map(line, wrapped(voice.say(text), cells))
    yield line()


def next_steps(*, has_channel: bool, has_heartbeat: bool, voice: Voice) -> Iterator[Line]:
    """Render the commands to run next, and the effect of each."""
    steps = {
        "plan": Text("shows what a sync would change"),
        "sync": Text("issues, deploys and verifies"),
        "schedule install": Text("runs `sync` twice a day, to renew certificates"),
    }
    if not has_channel:
        steps["help notify"] = Text("how a channel, [notify.ops], reports trouble")
    if not has_heartbeat:
        steps["help monitoring"] = Text("how a [heartbeat] reports stopped runs")
    yield line(voice.say(Text("Next:")))
    options = ["" if step.startswith("help ") else voice.options for step in steps]
    commands = [f"certferry{before} {step}" for before, step in zip(options, steps, strict=True)]
    widest, meanings = max(map(len, commands)), [*map(voice.say, steps.values())]
    is_wide = widest + 4 + max(map(width, meanings)) > shutil.get_terminal_size().columns
    for command, does in zip(commands, meanings, strict=True):
        if is_wide:  # half sentences in a column are hard to read
            yield line("  ", Span(command, Tone.STRONG))
            yield line("    ", does)
        else:
            yield line("  ", Span(command.ljust(widest), Tone.STRONG), "  ", does)


def standing_of(certificate: proposals.ProposedCertificate, client: str, now: datetime) -> Text:
    """Describe a certificate to declare: certferry will issue it, or adopts it, or `client` keeps
    renewing it.
    """
    if certificate.adopts is None:
        return Text(
            "{name}: will be issued for {names}", name=certificate.lineage, names=certificate.names
        )
    left = certificate.adopts.certificate.remaining(now)
    if certificate.files is None:
        return Text("{name}: imported, {left} left", name=certificate.lineage, left=left)
    return Text(
        "{name}: deploy only; {client} keeps renewing it, {left} left",
        name=certificate.lineage,
        client=client,
        left=left,
    )


def _certificate(domain: FoundDomain, now: datetime) -> Text:
    if domain.problem is not None:
        return domain.problem.message
    if proposals.has_https_off(domain):
        return Text("HTTPS is off")
    if domain.not_after is None:
        return Text("unknown")
    if domain.not_after <= now:
        return Text("expired at {moment}", moment=domain.not_after)
    return Text("{left} left", left=domain.not_after - now)
