"""Make a card for each cause of trouble: the problem, the touched certificates, the beginning, the
deadline, and the fix. Also the page of all causes.

A hint names commands. `steps_of` puts a button or a link in place of each command whose work the
console can do.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.config.model import Settings
from certferry.console.site import render, site_of, voice_of
from certferry.console.snapshot import Snapshot
from certferry.console.surveying import Unmanaged
from certferry.console.tables import address, page_of_certificate
from certferry.core.assessment.agenda import Life, Need
from certferry.core.assessment.causes import Cause
from certferry.core.assessment.health import EARLIER_ENDS, Concern
from certferry.core.assessment.notices import REFUSED, Subject
from certferry.core.certificates.certificate import first_of
from certferry.core.observed.stored_runs import RunKind
from certferry.errors import Severity
from certferry.present.language import (
    READ_THE_FILE,
    Voice,
    at_target,
    certificate_count,
    of_lineage,
    one_or_many,
)
from certferry.present.status_text import MOST_NAMED, concern_subject
from certferry.text import Text, verbatim
from certferry.values import replace

PAGE = 20
"""The number of cards on each page of the list of all causes."""

MOST_IN_RUN = 10
"""The most certificates that a button names for a run. For more certificates the button starts a
run of all certificates, so the form stays small.
"""

MOST_ON_BUTTON = 2
"""The most certificates in the label of a button."""

_PAGES = {
    "discover": Text("Discover"),
    "doctor": Text("Doctor"),
    "history": Text("History"),
    "hosts": Text("Hosts"),
    "plan": Text("Plan"),
}
"""The commands for which the console has a page of the same name."""


class Fix(Struct, frozen=True):
    """A button that does a fix, or a link that leads to a fix."""

    #: The words on the button or link.
    label: Text
    #: The path of the page, or the path to which the form posts.
    path: str
    #: The fields of the form; `None` for a link.
    fields: tuple[tuple[str, str], ...] | None = None
    #: Whether the fix starts something, which viewers may not do.
    acts: bool = False
    #: The subject of the fix, which only screen readers read.
    about: Text | None = None


class Step(Struct, frozen=True):
    """A part of a hint: other words, or a command."""

    #: The words or the command.
    words: str
    #: Whether `words` are a command.
    is_command: bool = False
    #: The fix that the console offers in place of the command, if any.
    fix: Fix | None = None


class Consequence(Struct, frozen=True):
    """The consequences of a cause that have the same code."""

    #: The first of the consequences, in the order of the cause.
    concern: Concern
    #: The subject of `concern`.
    subject: Text
    #: The number of further consequences with the code.
    more: int


class Card(Struct, frozen=True):
    """A cause of trouble, with everything that a page shows about the cause."""

    #: The severity.
    level: Severity
    #: The certificate, target, channel or host; `None` if the sentence names the subject.
    subject: Text | None
    #: The path of the page about the subject; empty without such a page.
    page: str
    #: The problem.
    sentence: Text
    #: The numbers of certificates and of domains that the cause touches, each only if above one.
    reach: Text | None
    #: The first certificates, if the cause touches several.
    names: Text | None
    #: The present effect on visitors or operators; `None` if the sentence says enough.
    effect: Text | None
    #: The beginning of the trouble; `None` if unknown.
    since: datetime | None
    #: The next end of a certificate, or the last moment of an upload; `None` without a certificate.
    deadline: datetime | None
    #: The event at the deadline.
    event: Text
    #: The parts of the hint.
    steps: tuple[Step, ...]
    #: The fix, if no step has one.
    fix: Fix | None
    #: The consequences, one entry for each code.
    consequences: tuple[Consequence, ...]


def cards_of(
    causes: Iterable[Cause],
    needs: Sequence[Need],
    stored: Snapshot,
    voice: Voice,
    page_of: str = "",
) -> Iterator[Card]:
    """Yield a card for each cause. `needs` tell which causes a run ends (`Need.run`).

    If `page_of` is the name of a certificate, the cards are for the certificate's page. Such a card
    names only the target and domain as the subject, and offers no fix that leads to the same page.
    """
    runs = {id(need.concern): need.run for need in needs}
    lives = {life.lineage: life for life in stored.agenda.lives}
    for cause in causes:
        ends = tuple(_end_of(lives[name], stored.at) for name in cause.lineages if name in lives)
        card = _card(cause, _run_of(cause, runs), ends, stored, voice)
        yield _on_page_of(page_of, card, cause) if page_of else card


def _on_page_of(lineage: str, card: Card, cause: Cause) -> Card:
    own, about = page_of_certificate(lineage), cause.subject
    has_place = card.subject is not None and bool(about.target)
    leads_here = any(step.fix is not None and step.fix.path == own for step in card.steps)
    return replace(
        card,
        subject=at_target(about.target, about.domain) if has_place else None,
        steps=() if leads_here else card.steps,
        fix=None if card.fix is not None and card.fix.path == own else card.fix,
    )


def _run_of(cause: Cause, runs: Mapping[int, tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Return the certificates of the run that ends a cause: `()` for a run of all certificates,
    `None` if no run ends the cause (`Need.run`).
    """
    wanted = [runs.get(id(concern)) for concern in cause.concerns]
    if any(names is None for names in wanted):
        return None
    names = tuple(dict.fromkeys(name for some in wanted for name in some or ()))
    return names if len(names) <= MOST_IN_RUN else ()


End = tuple[datetime, Text]
"""A deadline, and the event at the deadline."""


def _end_of(life: Life, now: datetime) -> End | None:
    """Return the next deadline of a certificate: the last moment for an upload, or else the end of
    the certificate. Return `None` if neither is known. If a domain of the certificate has no HTTPS
    now, the end does not count.
    """
    if life.upload_until is not None and life.upload_until > now:
        return life.upload_until, Text("must be uploaded by")
    if life.until is None or any(place.serves_nothing for place in life.places):
        return None
    return life.until, Text("expired") if life.until <= now else Text("expires")


def _card(
    cause: Cause,
    run: tuple[str, ...] | None,
    ends: Iterable[End | None],
    stored: Snapshot,
    voice: Voice,
) -> Card:
    """Return the card of a cause. `ends` are the deadlines of the touched certificates, for a cause
    whose concerns have none.
    """
    problem, about = cause.problem, cause.subject
    subject = _subject(cause)
    if subject is not None and voice.say(subject) in voice.say(problem.message):
        subject = None
    steps: tuple[Step, ...] = ()
    if problem.hint is not None:
        steps = tuple(steps_of(voice.say(problem.hint), stored, run))
    fixes = [step.fix for step in steps if step.fix is not None]
    # A link to a page is no fix if a run ends the cause.
    has_fix = any(fix.acts for fix in fixes) if run is not None else bool(fixes)
    lineages = cause.lineages
    is_shared = len(lineages) > 1
    deadline, event = _deadline_of(cause, ends, stored.at)
    return Card(
        level=problem.severity,
        subject=subject,
        page=_page(about, stored.settings),
        sentence=problem.message,
        reach=_reach(cause),
        names=Text("{names}", names=first_of(lineages, MOST_NAMED)) if is_shared else None,
        effect=_effect(cause, stored),
        since=problem.since,
        deadline=deadline,
        event=event,
        steps=steps,
        fix=None if has_fix else _usual_fix(cause, run, stored),
        consequences=tuple(consequences_of(cause)),
    )


def _deadline_of(
    cause: Cause, ends: Iterable[End | None], now: datetime
) -> tuple[datetime | None, Text]:
    """Return the deadline of a card, and the event: those of the cause's concerns, otherwise the
    first of `ends`.
    """
    end = cause.next_end(now)
    if end is None or end.deadline is None:
        return min(filter(None, ends), key=itemgetter(0), default=(None, Text("expires")))
    is_over = end.deadline <= now
    if end.is_upload:
        event = Text("the last moment to upload was") if is_over else Text("must be uploaded by")
    elif end.problem.code == EARLIER_ENDS:
        event = Text("the certificate in use expired")
        event = event if is_over else Text("the certificate in use expires")
    else:
        event = Text("expired") if is_over else Text("expires")
    return end.deadline, event


def _effect(cause: Cause, stored: Snapshot) -> Text | None:
    """Return the present effect of a cause, if the sentence of the cause names only a technical
    failure: lost messages, domains without HTTPS, or an unusable account. Otherwise return `None`.
    """
    if channel := cause.subject.channel:
        refused = {n.subject.channel for n in stored.recorded.notices if n.problem.code == REFUSED}
        others = [name for name in stored.settings.channels if name not in {channel, *refused}]
        if not others:
            return Text("messages reach no channel now")
        return Text("messages are lost there; they still reach {others}", others=others)
    subjects = (concern.subject for concern in cause.everything)
    touched = {(about.lineage, about.target, about.domain) for about in subjects}
    dark = {
        place.domain
        for place in stored.recorded.sightings
        if place.serves_nothing and place.place in touched
    }
    if dark:
        return one_or_many(
            len(dark),
            Text("{domains} has no HTTPS now: no address serves a certificate"),
            Text("{domains} have no HTTPS now: no address serves a certificate"),
            domains=first_of(sorted(dark), MOST_NAMED),
        )
    if cause.is_of_account and cause.lineages:
        return Text("no certificate can be deployed to {account} now", account=cause.subject.target)
    return None


def _subject(cause: Cause) -> Text | None:
    about = cause.subject
    if about.lineage:
        return concern_subject(Concern(cause.problem, about))
    if cause.watched:
        return Text("{names}", names=first_of(cause.watched, MOST_NAMED))
    name = about.channel or about.target or about.host
    return verbatim(name) if name else None


def _page(about: Subject, settings: Settings) -> str:
    if about.watch:
        return "/watched"
    if about.lineage:
        return page_of_certificate(about.lineage)
    if about.channel:
        return "/channels"
    if about.target in settings.accounts:
        return f"/accounts#account-{about.target}"
    return "/hosts" if about.host else ""


def _reach(cause: Cause) -> Text | None:
    certificates = len(cause.lineages)
    domains = sum(bool(domain) for _, domain in cause.places)
    counted = []
    if certificates > 1:
        counted.append(certificate_count(certificates))
    if domains > 1:
        counted.append(Text("{count} domains", count=domains))
    if len(cause.watched) > 1:
        counted.append(Text("{count} watched hosts", count=len(cause.watched)))
    return Text("{counted}", counted=counted) if counted else None


def consequences_of(cause: Cause) -> Iterator[Consequence]:
    """Yield the consequences of a cause, one for each code."""
    by_code: dict[str, list[Concern]] = {}
    for concern in cause.consequences:
        by_code.setdefault(concern.problem.code, []).append(concern)
    for concerns in by_code.values():
        first = concerns[0]
        yield Consequence(first, concern_subject(first), len(concerns) - 1)


def _usual_fix(cause: Cause, run: tuple[str, ...] | None, stored: Snapshot) -> Fix | None:
    """Return the fix to offer for a cause if no command in the hint has a fix: a run that ends the
    cause, a test message, or a page about the subject. Return `None` if there is none of these.
    """
    about = cause.subject
    if about.watch:
        return Fix(Text("Watched hosts"), "/watched")
    if run is not None:
        return _sync(run)
    if about.channel in stored.settings.channels:
        return _test(about.channel)
    if about.lineage in stored.declared:
        return _open(about.lineage)
    if about.target in stored.settings.accounts:
        return Fix(Text("Accounts"), f"/accounts#account-{about.target}")
    return Fix(Text("Hosts"), "/hosts") if about.host else None


# what a page has found in order


class Recovered(Struct, frozen=True):
    """The places of earlier causes that a page has found in order since the last run."""

    #: The place, or the first certificates.
    subject: Text
    #: The path of the page about the certificate, or of the list.
    page: str
    sentence: Text


def recovered_of(stored: Snapshot, lineage: str = "") -> Recovered | None:
    """Return the places found in order, of one certificate or of all; `None` without such a place.
    The sentence names the earliest of the observations.
    """
    places = [place for place in stored.recovered if lineage in {"", place[0]}]
    if not places:
        return None
    names = list(dict.fromkeys(name for name, _, _ in places))
    subject = Text("{names}", names=first_of(names, MOST_NAMED))
    if lineage:
        domains = list(dict.fromkeys(domain or target for _, target, domain in places))
        subject = Text("{names}", names=first_of(domains, MOST_NAMED))
    elif len(places) == 1:
        subject = of_lineage(*places[0])
    return Recovered(
        subject,
        page_of_certificate(names[0]) if len(names) == 1 else "/certificates",
        Text(
            "in order at the check of {moment}; the next run records this",
            moment=min(stored.settled[place].at for place in places),
        ),
    )


# the expired domains outside certferry


class UnmanagedCard(Struct, frozen=True):
    """The expired domains outside certferry, as a card."""

    sentence: Text
    #: The effect on visitors.
    effect: Text
    #: The earliest of the ends.
    expired_at: datetime | None
    surveyed_at: datetime | None


def unmanaged_card(unmanaged: Unmanaged) -> UnmanagedCard:
    """Return the card of the expired domains outside certferry."""
    domains = unmanaged.domains
    sentence = one_or_many(
        len(domains),
        Text("{names}: the certificate has expired, and certferry does not manage the domain"),
        Text(
            "{names}: the certificates have expired, and certferry does not manage the {count}"
            " domains"
        ),
        names=first_of([domain.listed.domain for domain in domains], MOST_NAMED),
    )
    answered = [served for domain in domains for served in domain.served if served.answered]
    effect = Text("visitors get an error; Discover has the lines for the configuration file")
    if answered:
        effect = Text(
            "visitors get an error ({valid} of {count} addresses serve a valid certificate);"
            " Discover has the lines for the configuration file",
            valid=sum(served.valid for served in answered),
            count=len(answered),
        )
    return UnmanagedCard(sentence, effect, unmanaged.expired_at, unmanaged.surveyed_at)


# the fix in a hint

_COMMAND = re.compile(
    r"`(certferry [^`]+)`"
    rf"|(?:(?<=: )|(?<=：))(certferry (?:[{{-]|(?:init|{READ_THE_FILE})\b)[^`;,；，。]*)$"
)


def pieces(sentence: str) -> list[tuple[bool, str]]:
    """Split a sentence into commands of certferry and other words. A part is `True` with a command,
    or `False` with words. A command is in backquotes, or follows a colon at the sentence's end.
    """
    parts, begin = list[tuple[bool, str]](), 0
    for match in _COMMAND.finditer(sentence):
        parts += [(False, sentence[begin : match.start()]), (True, match[1] or match[2])]
        begin = match.end()
    return [*parts, (False, sentence[begin:])]


def steps_of(hint: str, stored: Snapshot, run: tuple[str, ...] | None) -> Iterator[Step]:
    """Yield the parts of a hint. `run` has the certificates of the run that ends the cause, as in
    `Need.run`.
    """
    for is_command, words in pieces(hint):
        yield Step(words, is_command, _fix_of(words, stored, run) if is_command else None)


def _fix_of(command: str, stored: Snapshot, run: tuple[str, ...] | None) -> Fix | None:
    """Return the fix that the console offers in place of a command, or `None`."""
    try:
        _, *words = shlex.split(command)
    except ValueError:  # a name with quotes
        return None
    if "--config" in words:
        place = words.index("--config")
        words[place : place + 2] = []
    names = [word for word in words if word in stored.declared]
    match words:
        case ["status", *_] if names:
            return _open(names[0])
        case ["sync", "--renew", *_] if names:
            path = f"{page_of_certificate(names[0])}/{RunKind.RENEW}"
            return Fix(Text("Renew…"), path, acts=True, about=verbatim(names[0]))
        case ["sync", "--rehearse", *_] if names:
            path = f"{page_of_certificate(names[0])}/{RunKind.REHEARSE}"
            return Fix(Text("Rehearse…"), path, acts=True, about=verbatim(names[0]))
        case ["sync", *rest] if run is not None and set(rest) <= set(names):
            return _sync(run)
        case ["notify", "test", channel] if channel in stored.settings.channels:
            return _test(channel)
        case [page, *_] if page in _PAGES:
            name = names[0] if names and page in {"history", "plan"} else ""
            return Fix(_PAGES[page], address(f"/{page}", name=name))
        case _:
            return None


def _open(lineage: str) -> Fix:
    return Fix(Text("Open {name}", name=lineage), page_of_certificate(lineage))


def _test(channel: str) -> Fix:
    path = f"/channels/{quote(channel, safe='')}/test"
    return Fix(Text("Send a test message"), path, (), acts=True, about=verbatim(channel))


def _sync(names: Sequence[str]) -> Fix:
    fields = [("kind", RunKind.SYNC.value), ("request", secrets.token_urlsafe(12))]
    fields += [("names", name) for name in names]
    label = Text("Sync all certificates now")
    if names:
        label = Text("Sync {names} now", names=first_of(names, MOST_ON_BUTTON))
    return Fix(label, "/runs", tuple(fields), acts=True)


# the page of all causes


class CausesView(Struct, frozen=True):
    """A page of the list of causes, the worst first."""

    #: The causes on this page.
    cards: tuple[Card, ...]
    #: The expired domains outside certferry, on the first page.
    unmanaged: UnmanagedCard | None
    #: The places of earlier causes that a page has found in order since the last run.
    recovered: Recovered | None
    #: The number of all causes.
    count: int
    #: The number of this page, from 1.
    number: int
    #: The number of pages.
    pages: int


def causes(request: Request) -> Response:
    """Render a page of the list of all causes. Raises `StateError`."""
    site, asked = site_of(request), request.query_params.get("page", "1")
    stored, unmanaged = site.stored.latest(), site.unmanaged
    count = len(stored.causes)
    pages = max(-(-count // PAGE), 1)
    number = page_number(asked, pages)
    shown = stored.causes[(number - 1) * PAGE : number * PAGE]
    cards = tuple(cards_of(shown, stored.agenda.needs, stored, voice_of(request)))
    card = unmanaged_card(unmanaged) if unmanaged is not None and number == 1 else None
    view = CausesView(cards, card, recovered_of(stored), count, number, pages)
    return render(request, "causes.html", view=view)


_DIGITS = 9
"""A page number has fewer digits than this. Longer numbers take long to parse."""


def page_number(asked: str, pages: int) -> int:
    """Return the number of the page in `asked`, or of the nearest page; 1 if `asked` is not a
    number, or a very long one.
    """
    is_number = asked.isascii() and asked.isdecimal() and len(asked) < _DIGITS
    return min(max(int(asked), 1), pages) if is_number else 1


ROUTES = (Route("/causes", causes, name="causes"),)
