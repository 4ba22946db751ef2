"""How certificates and domains stand, as a person reads it: a row for each, then what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.access import Token, User
from certferry.core.assessment import status as assessed
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.hosts import HostStanding
from certferry.core.certificates.certificate import short
from certferry.core.discovery.watched import within_reach
from certferry.core.observed.observation import Served
from certferry.core.observed.records import Damage, HistoryBreak, HistoryEntry, VerifiedHistory
from certferry.core.planning.renewal import window_in_words
from certferry.core.planning.report import served_by
from certferry.core.reasons import ReasonCode
from certferry.errors import Severity, TargetStuck
from certferry.present.language import (
    Voice,
    at_target,
    certificate_count,
    in_brackets,
    once,
    one_or_many,
    voice_in,
)
from certferry.present.layout import Line, Span, TextTable, Tone, columns, line, without_empty
from certferry.text import Text, verbatim

_LANGUAGE = "zh"
"""The targets that certferry knows are in China, whatever the operator reads."""


def ticket(lines: Sequence[Text]) -> str:
    """Write a ticket, ready to be sent."""
    voice = voice_in(_LANGUAGE)
    return "\n".join(voice.say(line) for line in lines)


NOTHING = Span("—", Tone.FAINT)

_HEADERS = (
    *(Text("NAME"), Text("STATE"), Text("LEFT"), Text("RENEWAL")),
    *(Text("UPLOAD BY"), Text("BOUND"), Text("SERVED")),
)

_ALWAYS = 3
"""Columns that are there whatever they say: name, state, and what is left."""

_TONES = {Severity.OK: Tone.GOOD, Severity.ERROR: Tone.BAD}
"""Of what is in between, it is `PENDING`."""

_CERTIFICATES = {
    assessed.Standing.VALID: (Text("valid"), Tone.GOOD),
    assessed.Standing.DUE: (Text("due"), Tone.PENDING),
    assessed.Standing.EXPIRED: (Text("expired"), Tone.BAD),
    assessed.Standing.MISSING: (Text("missing"), Tone.PENDING),
    assessed.Standing.NOT_NEEDED: (Text("not needed"), Tone.PENDING),
    assessed.Standing.UNREADABLE: (Text("unreadable"), Tone.BAD),
}

_OfAccount = tuple[str, Text, Text | None]
"""An account, what is wrong with it, and what the last try ended in."""

_LONG = timedelta(minutes=1)
"""Between the first and the last failure, where there were several."""

_LEFT_ALONE = {TargetStuck.code, ReasonCode.FOUGHT_OVER.value}
"""Troubles in which no run writes to the domain: their hints say until when."""

_ON_ITS_WAY = {assessed.Standing.PENDING, assessed.Standing.PROCESSING}


def table(statuses: Sequence[assessed.LineageStatus], now: datetime, voice: Voice) -> TextTable:
    """Write certificates and their domains, what needs a person first, without empty columns."""
    rows = [
        row
        for status in statuses
        for row in (
            _certificate(status, now, voice),
            *(_domain(one, status, now, voice) for one in status.domains),
        )
    ]
    whole = TextTable(tuple(map(voice.say, _HEADERS)), tuple(rows), hangs=True)
    return without_empty(whole, NOTHING.words, _ALWAYS)


def remarks(statuses: Sequence[assessed.LineageStatus], voice: Voice) -> Iterator[Line]:
    """Write why a certificate is due, what is wrong with domains, and which are left out."""
    domains = _shown(statuses)
    for status in statuses:
        yield from _of_certificate(status, voice)
        for one in dict.fromkeys(status.notices):
            if not one.subject.domain:
                yield from voice.about(one.subject.target or status.lineage, one.problem.message)
        for domain in domains[status.lineage]:
            yield from _problem(domain, voice)
            for said in _edge_problems(domain):
                yield from voice.about(domain.domain, said)
            if domain.ticket:  # to be copied
                said = Text("ticket for the support of {target}:", target=domain.target)
                yield line(voice.say(said))
                yield from (line(f"  {row}") for row in ticket(domain.ticket).splitlines())
        for one in status.notices:
            if one.subject.domain:
                yield from voice.about(one.subject.domain, one.problem.message)


def _shown(statuses: Sequence[assessed.LineageStatus]) -> dict[str, list[assessed.DomainStatus]]:
    """Return the domains with lines of their own; an account out of reach is named once."""
    said = Counter(_of_account(one) for status in statuses for one in status.domains)
    named: set[_OfAccount] = set()
    domains: dict[str, list[assessed.DomainStatus]] = {}
    for status in statuses:
        shown = domains.setdefault(status.lineage, [])
        for one in status.domains:
            trouble = _of_account(one)
            if trouble is None or said[trouble] == 1:
                shown.append(one)
            elif trouble not in named:
                named.add(trouble)
                shown.append(replace(one, domain=assessed.WHOLE_ACCOUNT))
    return domains


def _of_account(domain: assessed.DomainStatus) -> _OfAccount | None:
    """Return what is wrong with an account, where that is why a domain cannot be read."""
    problem, failure = domain.problem, domain.last_failure
    if domain.standing is not assessed.Standing.UNKNOWN or problem is None:
        return None
    return domain.target, problem.message, None if failure is None else failure.problem.message


def _of_certificate(status: assessed.LineageStatus, voice: Voice) -> Iterator[Line]:
    name, window, problem = status.lineage, status.window, status.problem
    if problem is not None:  # its files cannot be read
        yield from voice.about(name, problem.message)
        if status.version is not None:
            shown = Text("shown is the certificate that was taken from them at {moment}")
            yield line(f"  {voice.say(shown.filled(moment=status.version.saved_at))}")
        yield from voice.hint(problem.hint, 2)
    if status.reason is not None:
        yield from voice.about(name, status.reason.message)
    elif window is not None and window.page is not None:
        yield from voice.about(name, window_in_words(window))
    if status.last_failure is not None:
        yield from _failed(name, status.last_failure, voice)
    for target, lineages in status.owned_elsewhere:
        yield from voice.about(name, f"{target}: {voice.say(served_by(lineages))}")


def of_runs(recorded: Recorded, voice: Voice) -> Iterator[Line]:
    """Write what is wrong with state and runs, and when the last one ended and succeeded."""
    yield from troubles(recorded, voice)
    last = recorded.last_run
    if last is None:
        yield line(Span(voice.say(Text("no run is recorded yet")), Tone.FAINT))
        return
    success = Text("none") if last.succeeded_at is None else Text("{moment}")
    ended = Text("{moment}")
    if not last.is_success:
        ended = Text("{moment} (failed or stopped)")
    rows = (
        (Text("last run"), ended.filled(moment=last.ended_at)),
        (Text("last success"), success.filled(moment=last.succeeded_at)),
    )
    yield from voice.facts(rows)


def troubles(recorded: Recorded, voice: Voice) -> Iterator[Line]:
    """Write what is wrong with the state and with runs themselves, and what is declared no more."""
    for gone in recorded.undeclared:
        yield from voice.warning(gone.problem.message)
        yield from voice.hint(gone.problem.hint, 2)
    for one in recorded.troubles_of_runs:
        said = Text("since {moment}: {problem}", moment=one.since, problem=one.problem.message)
        yield from voice.about(one.subject.channel or one.subject.host or "sync", said)
        yield from voice.hint(one.problem.hint, 2)
    if recorded.problem is not None:
        yield from voice.error(recorded.problem.message)
        yield from voice.hint(recorded.problem.hint, 2)


_OF_HOSTS = (
    *(Text("HOST"), Text("VERSION"), Text("LAST RUN"), Text("LAST SUCCESS")),
    *(Text("CERTIFICATES"), Text("CLOCK"), Text("RUNNING SINCE")),
    *(Text("WORKS ON"), Text("DECLARES AN OLDER")),
)


def hosts(found: Sequence[HostStanding], voice: Voice) -> TextTable:
    """Write a row for each host, without empty columns."""
    rows = tuple(host(one, voice) for one in found)
    whole = TextTable(tuple(map(voice.say, _OF_HOSTS)), rows, hangs=True)
    return without_empty(whole, NOTHING.words, _ALWAYS)


_OF_USERS = (Text("USER"), Text("ROLE"), Text("PASSWORD CHOSEN"), Text("LAST SEEN"))
_OF_TOKENS = (
    *(Text("TOKEN"), Text("ROLE"), Text("BEGINS WITH"), Text("MADE")),
    *(Text("GOOD UNTIL"), Text("LAST USED")),
)


def users(found: Sequence[User], voice: Voice) -> TextTable:
    """Write a row for each user of the console."""
    rows = tuple(
        (
            Span(one.name, Tone.STRONG),
            Span(one.role.value),
            _moment(one.password_at, voice),
            _moment(one.seen_at, voice),
        )
        for one in found
    )
    return TextTable(tuple(map(voice.say, _OF_USERS)), rows)


def tokens(found: Sequence[Token], now: datetime, voice: Voice) -> TextTable:
    """Write a row for each token of the API."""
    rows = tuple(
        (
            Span(one.name, Tone.BAD if one.is_over(now) else Tone.STRONG),
            Span(one.role.value),
            Span(one.begins + "…"),
            _moment(one.made_at, voice),
            _moment(one.expires_at, voice),
            _moment(one.used_at, voice),
        )
        for one in found
    )
    return TextTable(tuple(map(voice.say, _OF_TOKENS)), rows)


def _moment(one: datetime | None, voice: Voice) -> Span:
    return NOTHING if one is None else Span(voice.say(Text("{moment}", moment=one)))


def of_hosts(found: Sequence[HostStanding], voice: Voice) -> Iterator[Line]:
    """Write what is wrong with each host."""
    for one in found:
        for problem in one.problems:
            yield from voice.about(one.record.name, problem.message)
            yield from voice.hint(problem.hint, 2)


def host(one: HostStanding, voice: Voice) -> tuple[Span, ...]:
    """Write a host: its name, version, last run and success, certificates, clock, its work."""
    record, work, last = one.record, one.work, one.record.last_run
    ahead = record.clock_ahead or timedelta(0)
    off = Text("{amount} ahead") if ahead > timedelta(0) else Text("{amount} behind")
    name = Text("{host} (this one)", host=record.name) if one.is_this else verbatim(record.name)

    return (
        Span(voice.say(name), Tone.BAD if one.problems else Tone.STRONG),
        NOTHING if record.release is None else Span(record.release),
        _moment(None if last is None else last.ended_at, voice),
        _moment(None if last is None else last.succeeded_at, voice),
        Span(str(work.declares)),
        Span(voice.say(off.filled(amount=abs(ahead)))) if ahead else NOTHING,
        _moment(record.running_since, voice),
        Span(", ".join(work.holds)) if work.holds else NOTHING,
        Span(", ".join(work.outdated)) if work.outdated else NOTHING,
    )


def _problem(domain: assessed.DomainStatus, voice: Voice) -> Iterator[Line]:
    """Write what is wrong with a domain, and what the last try to mend it ended in, once."""
    name, failure, problem = _name(domain), domain.last_failure, domain.problem
    if problem is not None and (failure is None or failure.problem.message != problem.message):
        yield from voice.about(name, problem.message)
        if failure is None:
            yield from voice.hint(problem.hint, 2)
    if failure is not None:
        yield from _failed(name, failure, voice)


def _failed(name: str, failure: assessed.LastFailure, voice: Voice) -> Iterator[Line]:
    said = Text(
        "the last try at {moment} failed: {problem}",
        moment=failure.at,
        problem=once(name, voice.say(failure.problem.message)),
    )
    yield from voice.about(name, said)
    if failure.again_at is None:
        again = Text("the next run tries it again")
    else:
        again = Text("the next run after {moment} tries it again", moment=failure.again_at)
    if failure.at - failure.since >= _LONG:
        again = Text("it has failed since {since}; {again}", since=failure.since, again=again)
    if failure.problem.code not in _LEFT_ALONE:
        yield line(f"  {voice.say(again)}")
    yield from voice.hint(failure.problem.hint, 2)


def _edge_problems(domain: assessed.DomainStatus) -> Iterator[Text]:
    """Return each problem of addresses once, of how many; none before the first deployment."""
    served = () if domain.standing in _ON_ITS_WAY else domain.served
    wrong = [a.problem.message for a in within_reach(served) if a.problem is not None]
    total = len(served)
    for said, count in Counter(wrong).items():
        yield Text("at {count} of {all} addresses: {problem}", count=count, all=total, problem=said)


def _name(domain: assessed.DomainStatus) -> str:
    return domain.target if domain.domain == assessed.WHOLE_ACCOUNT else domain.domain


def _certificate(status: assessed.LineageStatus, now: datetime, voice: Voice) -> tuple[Span, ...]:
    name = Span(status.lineage, Tone.STRONG)
    empty = Span("")
    # What comes from files is renewed by the client that writes them.
    renewal = NOTHING if status.renew_at is None else Span(voice.day(status.renew_at))
    words, tone = _CERTIFICATES[status.standing]
    if status.standing is assessed.Standing.EXPIRED and status.until is not None:
        words = Text("expired {ago} ago", ago=now - status.until)
    state = Span(voice.say(words), tone)
    return (name, state, _left(status.until, now, voice), renewal, empty, empty, empty)


def _left(until: datetime | None, now: datetime, voice: Voice) -> Span:
    if until is None or until <= now:
        return NOTHING
    return Span(voice.say(Text("{left}", left=until - now)))


def _domain(
    domain: assessed.DomainStatus, status: assessed.LineageStatus, now: datetime, voice: Voice
) -> tuple[Span, ...]:
    version = status.version
    current = None if version is None else version.fingerprint
    current = domain.fingerprint or current
    right = sum(a.answered and a.valid and a.fingerprint == current for a in domain.served)
    # What lies at the target already would look overdue there, from that moment to the renewal.
    deadline = None if domain.is_uploaded else domain.upload_deadline
    empty = Span("")
    return (
        Span(f"  {_name(domain)}{in_brackets(domain.kind)}"),
        Span(voice.word(domain.standing), _TONES.get(domain.standing.severity, Tone.PENDING)),
        empty if domain.not_after == status.until else _left(domain.not_after, now, voice),
        empty,
        NOTHING if deadline is None else Span(voice.day(deadline)),
        NOTHING if domain.remote_id is None else Span(short(domain.remote_id)),
        served_by_addresses(right, domain.served, voice),
    )


def served_by_addresses(
    right: int, addresses: Sequence[Served], voice: Voice, tone: Tone = Tone.PLAIN
) -> Span:
    """Render how many addresses are right, of those that answered, and how many did not answer."""
    if not addresses:
        return NOTHING
    answered = sum(address.answered for address in addresses)
    said = Text("{count} of {all}", count=right, all=answered)
    if answered < len(addresses):
        said = Text("{said}, {silent} silent", said=said, silent=len(addresses) - answered)
    return Span(voice.say(said), tone)


_FOUND = re.compile(r"(\w+): ([^,]+)")
"""What another tool changed, as `core.observed.observation.in_one_line` writes it."""


def history(entries: Sequence[HistoryEntry], voice: Voice) -> list[Line]:
    """Render events in this order."""
    if not entries:
        return [line(voice.say(Text("Nothing has happened yet.")))]
    return columns(
        [
            (
                Span(voice.say(Text("{at}", at=entry.at)), Tone.FAINT),
                Span(entry.lineage, Tone.STRONG),
                Span(voice.word(entry.event)),
                Span(voice.say_on_one_line(verbatim(entry.who))),
                Span(voice.say_on_one_line(facts_of(entry, voice)), Tone.FAINT),
            )
            for entry in entries
        ]
    )


def verified(found: VerifiedHistory, voice: Voice) -> list[Line]:
    """Render where the history was damaged first, a line for each certificate; or its length."""
    whole = Text(
        "{entries}, unbroken; {older} older than the chain",
        entries=_verified_entries(found),
        older=found.older,
    )
    return [line(voice.say(one)) for one in list(map(history_break, found.breaks)) or [whole]]


def _verified_entries(found: VerifiedHistory) -> Text:
    console = Text("{entries} of the console", entries=_entry_count(found.of_console))
    lineages = found.lineages - bool(found.of_console)
    if found.of_console and not lineages:
        return console
    certificates = Text(
        "{entries} of {certificates}",
        entries=_entry_count(found.entries - found.of_console),
        certificates=certificate_count(lineages),
    )
    if not found.of_console:
        return certificates
    return Text("{certificates} and {console}", certificates=certificates, console=console)


def _entry_count(count: int) -> Text:
    return one_or_many(count, Text("1 entry"), Text("{count} entries"))


def history_break(one: HistoryBreak) -> Text:
    """Return the sentence for where the history was damaged."""
    entry = Text("entry {number} of {at}", number=one.number, at=one.at or "?")
    if one.number is None:
        entry = Text("its beginning")
    return _DAMAGE[one.damage].filled(name=one.lineage, entry=entry)


_DAMAGE = {
    Damage.CHANGED: Text("{name}: {entry} was changed, or put in"),
    Damage.REMOVED: Text("{name}: after {entry}, entries were removed, or the end was changed"),
    Damage.UNCONNECTED: Text(
        "{name}: {entry} does not continue what is before it, which was changed, removed or put in"
    ),
    Damage.GONE: Text("The whole history of a certificate was removed, or their number changed"),
}


def facts_of(entry: HistoryEntry, voice: Voice) -> Text:
    """Return the facts of an entry: place, certificate, the rest, labelled where need be."""
    facts = dict(entry.facts)
    if "found" in facts:
        facts["found"] = _in_words(facts["found"], voice)
    target, domain = facts.pop("target", None), facts.pop("domain", None)
    place = domain if target is None else str(at_target(target, domain))
    ids = [short(facts.pop(name)) for name in ("remote_id", "fingerprint") if name in facts]
    rest = [
        fact if name == "problem" else f"{voice.word(name)}={fact}" for name, fact in facts.items()
    ]
    return verbatim(" · ".join([*filter(None, [place]), *ids, *rest]))


def _in_words(fact: str, voice: Voice) -> str:

    def change(found: re.Match[str]) -> str:
        what, was = (voice.word(word) for word in found.groups())
        return voice.say(Text("{what}: {was}", what=what, was=was))

    return _FOUND.sub(change, fact)
