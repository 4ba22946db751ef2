"""Render tables for a person: the status of certificates, domains and hosts, each table followed by
the problems. Also render the history, and the console's users and tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from certferry.core.access import Token, User
from certferry.core.assessment import status as assessed
from certferry.core.assessment.causes import Cause
from certferry.core.assessment.health import Concern, Recorded
from certferry.core.assessment.hosts import HostStanding
from certferry.core.assessment.notices import Subject
from certferry.core.certificates.certificate import first_of, short
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
    of_lineage,
    on_host,
    once,
    one_or_many,
    voice_in,
)
from certferry.present.layout import (
    Line,
    Span,
    TextTable,
    Tone,
    columns,
    labelled,
    line,
    without_empty,
)
from certferry.text import Text, verbatim
from certferry.values import replace

_LANGUAGE = "zh"
"""The language of tickets: the targets that certferry supports are in China."""


def ticket(lines: Sequence[Text]) -> str:
    """Return a ticket as text for the target's support, in the support's language."""
    voice = voice_in(_LANGUAGE)
    return "\n".join(voice.say(line) for line in lines)


NOTHING = Span("—", Tone.FAINT)

_HEADERS = (
    *(Text("NAME"), Text("STATE"), Text("LEFT"), Text("RENEWAL")),
    *(Text("UPLOAD BY"), Text("BOUND"), Text("SERVED")),
)

_ALWAYS = 3
"""The number of columns, from the left, that a table keeps even if they are empty: for certificates
the name, the state and the time left; for hosts the name, the version and the last run.
"""

_TONES = {Severity.OK: Tone.GOOD, Severity.ERROR: Tone.BAD}
"""The tones of these severities. Every other severity has the tone `PENDING`."""

_CERTIFICATES = {
    assessed.Standing.VALID: (Text("valid"), Tone.GOOD),
    assessed.Standing.DUE: (Text("due"), Tone.PENDING),
    assessed.Standing.EXPIRED: (Text("expired"), Tone.BAD),
    assessed.Standing.MISSING: (Text("missing"), Tone.PENDING),
    assessed.Standing.NOT_NEEDED: (Text("not needed"), Tone.PENDING),
    assessed.Standing.UNREADABLE: (Text("unreadable"), Tone.BAD),
}

_OfAccount = tuple[str, Text, Text | None]
"""An account, the problem of its domains, and the problem of the last failed try, if any."""

_LONG = timedelta(minutes=1)
"""If at least this much time lies between the first and the last failure, the time of the first is
shown too.
"""

_LEFT_ALONE = {TargetStuck.code, ReasonCode.FOUGHT_OVER.value}
"""Codes of problems after which runs try nothing more at the domain. So no next try is announced;
the hint says how to end the problem.
"""

_ON_ITS_WAY = {assessed.Standing.PENDING, assessed.Standing.PROCESSING}


def table(statuses: Sequence[assessed.LineageStatus], now: datetime, voice: Voice) -> TextTable:
    """Write a row for each certificate, followed by a row for each of its domains. Empty columns
    are left out, except the first columns (`_ALWAYS`).
    """
    rows = [
        row
        for status in statuses
        for row in (
            _certificate(status, now, voice),
            *(_domain(domain, status, now, voice) for domain in status.domains),
        )
    ]
    whole = TextTable(tuple(map(voice.say, _HEADERS)), tuple(rows), hangs=True)
    return without_empty(whole, NOTHING.words, _ALWAYS)


def concern_subject(concern: Concern) -> Text:
    """Name a concern's subject: a place of a certificate, a channel, a host, or else certferry."""
    about = concern.subject
    if about.lineage:
        return on_host(of_lineage(about.lineage, about.target, about.domain), about.host)
    host = about.domain if about.watch else about.host
    return verbatim(about.channel or host or "certferry")


def concern_in_words(concern: Concern) -> Text:
    """Return the subject of a concern and the problem's message, in one sentence."""
    subject, message = concern_subject(concern), concern.problem.message
    return Text("{subject}: {message}", subject=subject, message=message)


def cause_in_words(cause: Cause) -> Text:
    """Return the subject of a cause and the message of its first concern, in one sentence. The
    subject is a certificate, watched hosts, a channel, an account, a host, or certferry itself.
    """
    first, about = cause.concerns[0], cause.subject
    if about.lineage:
        return concern_in_words(first)
    hosts = first_of(cause.watched, MOST_NAMED)
    subject = hosts or about.channel or about.target or about.host or "certferry"
    return Text("{subject}: {message}", subject=subject, message=first.problem.message)


MOST_NAMED = 3
"""The most certificates that are named with a cause."""


def of_causes(causes: Iterable[Cause], voice: Voice) -> Iterator[Line]:
    """Write causes that several certificates share. A cause has the message, the number and first
    names of the certificates, the beginning and the first deadline if known, and the hint.
    """
    for cause in causes:
        count, since, deadline = len(cause.lineages), cause.problem.since, cause.deadline
        names = first_of(cause.lineages, MOST_NAMED)
        parts = [Text("{count} certificates ({names})", count=count, names=names)]
        if since is not None:
            parts.append(Text("since {moment}", moment=since))
        if deadline is not None:
            parts.append(Text("the first deadline is {moment}", moment=deadline))
        sentence = once("certferry", voice.say(cause_in_words(cause)))
        yield from labelled(voice.say(Text("cause: ")), Tone.BAD, sentence)
        yield line(f"  {voice.say(Text('{parts}', parts=parts))}")
        yield from voice.hint(cause.problem.hint, 2)


def remarks(
    statuses: Sequence[assessed.LineageStatus], voice: Voice, reported: Collection[Subject] = ()
) -> Iterator[Line]:
    """Write the problems of certificates and of domains, the reasons of renewals, and notices.

    The last failures of the subjects in `reported` are left out, because the caller has written
    the causes of these failures.
    """
    statuses = [_without_reported(status, reported) for status in statuses]
    domains = _shown(statuses)
    for status in statuses:
        yield from _of_certificate(status, voice)
        for notice in dict.fromkeys(status.notices):
            if not notice.subject.domain:
                yield from voice.about(
                    notice.subject.target or status.lineage, notice.problem.message
                )
        for domain in domains[status.lineage]:
            yield from _problem(domain, voice)
            for message in _edge_problems(domain):
                yield from voice.about(domain.domain, message)
            if domain.ticket:  # for the operator to copy
                heading = Text("ticket for the support of {target}:", target=domain.target)
                yield line(voice.say(heading))
                yield from (line(f"  {row}") for row in ticket(domain.ticket).splitlines())
        for notice in status.notices:
            if notice.subject.domain:
                yield from voice.about(notice.subject.domain, notice.problem.message)


def _without_reported(
    status: assessed.LineageStatus, reported: Collection[Subject]
) -> assessed.LineageStatus:
    """Return a status without the last failures of the subjects in `reported`."""

    def is_reported(domain: assessed.DomainStatus) -> bool:
        place = Subject(status.lineage, domain.target)
        return not {place, replace(place, domain=domain.domain)}.isdisjoint(reported)

    return replace(
        status,
        last_failure=None if Subject(status.lineage) in reported else status.last_failure,
        domains=tuple(
            replace(domain, last_failure=None) if is_reported(domain) else domain
            for domain in status.domains
        ),
    )


def _shown(statuses: Sequence[assessed.LineageStatus]) -> dict[str, list[assessed.DomainStatus]]:
    """Return, by lineage, the domains that get lines of their own. If `_of_account` is equal for
    several domains, one entry for the whole account replaces them, below the first lineage.
    """
    shared = Counter(_of_account(domain) for status in statuses for domain in status.domains)
    named: set[_OfAccount] = set()
    domains: dict[str, list[assessed.DomainStatus]] = {}
    for status in statuses:
        shown = domains.setdefault(status.lineage, [])
        for domain in status.domains:
            trouble = _of_account(domain)
            if trouble is None or shared[trouble] == 1:
                shown.append(domain)
            elif trouble not in named:
                named.add(trouble)
                shown.append(replace(domain, domain=assessed.WHOLE_ACCOUNT))
    return domains


def _of_account(domain: assessed.DomainStatus) -> _OfAccount | None:
    """Return the key that joins domains with the same trouble: account, problem and last failure.
    Return `None` unless the domain's standing is unknown because of a problem.
    """
    problem, failure = domain.problem, domain.last_failure
    if domain.standing is not assessed.Standing.UNKNOWN or problem is None:
        return None
    return domain.target, problem.message, None if failure is None else failure.problem.message


def _of_certificate(status: assessed.LineageStatus, voice: Voice) -> Iterator[Line]:
    name, window, problem = status.lineage, status.window, status.problem
    if problem is not None:  # the certificate's files are unreadable
        yield from voice.about(name, problem.message)
        if status.version is not None:
            shown = Text("shown below: the certificate read from the files at {moment}")
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
    """Write the problems of `troubles`, then the times of the last run and of the last success. If
    no run has ended, say so instead of the times.
    """
    yield from troubles(recorded, voice)
    last = recorded.last_run
    if last is None:
        said = Text("no run is recorded yet")
        if recorded.begun_at is not None:
            said = Text("no run has ended yet: one started at {moment}")
            said = said.filled(moment=recorded.begun_at)
        yield line(Span(voice.say(said), Tone.FAINT))
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
    """Write the certificates that the file no longer declares, and the problems of runs and of the
    state.
    """
    for gone in recorded.undeclared:
        yield from voice.warning(gone.problem.message)
        yield from voice.hint(gone.problem.hint, 2)
    for notice in recorded.troubles_of_runs:
        message = Text(
            "since {moment}: {problem}", moment=notice.since, problem=notice.problem.message
        )
        about = notice.subject
        yield from voice.about(about.channel or about.domain or about.host or "sync", message)
        yield from voice.hint(notice.problem.hint, 2)
    if recorded.problem is not None:
        yield from voice.error(recorded.problem.message)
        yield from voice.hint(recorded.problem.hint, 2)


_OF_HOSTS = (
    *(Text("HOST"), Text("VERSION"), Text("LAST RUN"), Text("LAST SUCCESS")),
    *(Text("CERTIFICATES"), Text("CLOCK"), Text("RUNNING SINCE")),
    *(Text("WORKS ON"), Text("DECLARES AN OLDER")),
)


def hosts(standings: Sequence[HostStanding], voice: Voice) -> TextTable:
    """Write a row for each host. Empty columns are left out, except the first (`_ALWAYS`)."""
    rows = tuple(host(standing, voice) for standing in standings)
    whole = TextTable(tuple(map(voice.say, _OF_HOSTS)), rows, hangs=True)
    return without_empty(whole, NOTHING.words, _ALWAYS)


_OF_USERS = (Text("USER"), Text("ROLE"), Text("PASSWORD CHOSEN"), Text("LAST SEEN"))
_OF_TOKENS = (
    *(Text("TOKEN"), Text("ROLE"), Text("BEGINS WITH"), Text("MADE")),
    *(Text("GOOD UNTIL"), Text("LAST USED")),
)


def users(console_users: Sequence[User], voice: Voice) -> TextTable:
    """Write a row for each user of the console."""
    rows = tuple(
        (
            Span(user.name, Tone.STRONG),
            Span(user.role.value),
            _moment(user.password_at, voice),
            _moment(user.seen_at, voice),
        )
        for user in console_users
    )
    return TextTable(tuple(map(voice.say, _OF_USERS)), rows)


def tokens(api_tokens: Sequence[Token], now: datetime, voice: Voice) -> TextTable:
    """Write a row for each token of the API."""
    rows = tuple(
        (
            Span(token.name, Tone.BAD if token.is_over(now) else Tone.STRONG),
            Span(token.role.value),
            Span(token.begins + "…"),
            _moment(token.made_at, voice),
            _moment(token.expires_at, voice),
            _moment(token.used_at, voice),
        )
        for token in api_tokens
    )
    return TextTable(tuple(map(voice.say, _OF_TOKENS)), rows)


def _moment(moment: datetime | None, voice: Voice) -> Span:
    return NOTHING if moment is None else Span(voice.say(Text("{moment}", moment=moment)))


def of_hosts(standings: Sequence[HostStanding], voice: Voice) -> Iterator[Line]:
    """Write the problems of each host."""
    for standing in standings:
        for problem in standing.problems:
            yield from voice.about(standing.record.name, problem.message)
            yield from voice.hint(problem.hint, 2)


def host(standing: HostStanding, voice: Voice) -> tuple[Span, ...]:
    """Write a host's row: name, version, last run, last success, number of declared certificates,
    difference of the clock, start of the current run, certificates that the host works on, and
    certificates whose declaration on the host is older than another host's.
    """
    record, work, last = standing.record, standing.work, standing.record.last_run
    ahead = record.clock_ahead or timedelta(0)
    off = Text("{amount} ahead") if ahead > timedelta(0) else Text("{amount} behind")
    name = (
        Text("{host} (this one)", host=record.name) if standing.is_this else verbatim(record.name)
    )

    return (
        Span(voice.say(name), Tone.BAD if standing.problems else Tone.STRONG),
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
    """Write a domain's problem and the last failed try. If both have the same message, write only
    the failed try.
    """
    name, failure, problem = _name(domain), domain.last_failure, domain.problem
    if problem is not None and (failure is None or failure.problem.message != problem.message):
        yield from voice.about(name, problem.message)
        if failure is None:
            yield from voice.hint(problem.hint, 2)
    if failure is not None:
        yield from _failed(name, failure, voice)


def _failed(name: str, failure: assessed.LastFailure, voice: Voice) -> Iterator[Line]:
    message = Text(
        "the last try at {moment} failed: {problem}",
        moment=failure.at,
        problem=once(name, voice.say(failure.problem.message)),
    )
    yield from voice.about(name, message)
    if failure.again_at is None:
        again = Text("the next run tries again")
    else:
        again = Text("the next run after {moment} tries again", moment=failure.again_at)
    if failure.at - failure.since >= _LONG:
        again = Text("failing since {since}; {again}", since=failure.since, again=again)
    if failure.problem.code not in _LEFT_ALONE:
        yield line(f"  {voice.say(again)}")
    yield from voice.hint(failure.problem.hint, 2)


def _edge_problems(domain: assessed.DomainStatus) -> Iterator[Text]:
    """Yield each problem of a domain's addresses once, with the number of addresses that have the
    problem. Yield nothing while a deployment to the domain is pending or in progress.
    """
    served = within_reach(() if domain.standing in _ON_ITS_WAY else domain.served)
    wrong = [address.problem.message for address in served if address.problem is not None]
    total = len(served)
    for message, count in Counter(wrong).items():
        yield Text(
            "at {count} of {all} addresses: {problem}", count=count, all=total, problem=message
        )


def _name(domain: assessed.DomainStatus) -> str:
    return domain.target if domain.domain == assessed.WHOLE_ACCOUNT else domain.domain


def _certificate(status: assessed.LineageStatus, now: datetime, voice: Voice) -> tuple[Span, ...]:
    name = Span(status.lineage, Tone.STRONG)
    empty = Span("")
    # Without `renew_at`, another client renews the certificate, or there is no certificate yet.
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
    # After an upload the deadline no longer matters. If the past deadline were shown until the
    # renewal, the upload would look overdue.
    deadline = None if domain.is_uploaded else domain.upload_deadline
    empty = Span("")
    return (
        Span(f"  {_name(domain)}{in_brackets(domain.kind)}"),
        Span(voice.word(domain.word), _TONES.get(domain.standing.severity, Tone.PENDING)),
        empty if domain.not_after == status.until else _left(domain.not_after, now, voice),
        empty,
        NOTHING if deadline is None else Span(voice.day(deadline)),
        NOTHING if domain.remote_id is None else Span(short(domain.remote_id)),
        served_by_addresses(right, domain.served, voice),
    )


def served_by_addresses(
    right: int, addresses: Sequence[Served], voice: Voice, tone: Tone = Tone.PLAIN
) -> Span:
    """Render `right` (the number of addresses with the right certificate), the number of answering
    addresses, and the number of silent addresses if there are any. Render a dash if there are no
    addresses.
    """
    if not addresses:
        return NOTHING
    answered = sum(address.answered for address in addresses)
    message = Text("{count} of {all}", count=right, all=answered)
    if answered < len(addresses):
        message = Text("{said}, {silent} silent", said=message, silent=len(addresses) - answered)
    return Span(voice.say(message), tone)


_FOUND = re.compile(r"(\w+): ([^,]+)")
"""Matches one change of a setting by another tool, `SETTING: VALUE`, in the history's fact `found`
(made by `core.observed.observation.in_one_line`).
"""


def history(entries: Sequence[HistoryEntry], voice: Voice) -> list[Line]:
    """Render entries of the history in the given order; for none, say that nothing has happened."""
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


def verified(verification: VerifiedHistory, voice: Voice) -> list[Line]:
    """Render the damages found by `verification`. If there are none, render the numbers of entries
    and of certificates.
    """
    whole = Text("{entries}, unbroken", entries=_verified_entries(verification))
    return [
        line(voice.say(message))
        for message in list(map(history_break, verification.breaks)) or [whole]
    ]


def _verified_entries(verification: VerifiedHistory) -> Text:
    console = Text("{entries} of the console", entries=_entry_count(verification.of_console))
    lineages = verification.lineages - bool(verification.of_console)
    if verification.of_console and not lineages:
        return console
    certificates = Text(
        "{entries} of {certificates}",
        entries=_entry_count(verification.entries - verification.of_console),
        certificates=certificate_count(lineages),
    )
    if not verification.of_console:
        return certificates
    return Text("{certificates} and {console}", certificates=certificates, console=console)


def _entry_count(count: int) -> Text:
    return one_or_many(count, Text("1 entry"), Text("{count} entries"))


def history_break(damage: HistoryBreak) -> Text:
    """Return a sentence that says where and how a history was damaged."""
    entry = Text("entry {number} of {at}", number=damage.number, at=damage.at or "?")
    if damage.number is None:
        entry = Text("the first entry")
    return _DAMAGE[damage.damage].filled(name=damage.lineage, entry=entry)


_DAMAGE = {
    Damage.CHANGED: Text("{name}: {entry} was changed or inserted"),
    Damage.REMOVED: Text("{name}: after {entry}, entries were removed, or the end was changed"),
    Damage.UNCONNECTED: Text(
        "{name}: {entry} does not continue the entry before, which was changed, removed or inserted"
    ),
    Damage.GONE: Text(
        "The whole history of a certificate was removed, or the number of histories was changed"
    ),
}


def facts_of(entry: HistoryEntry, voice: Voice) -> Text:
    """Return the facts of an entry on one line: the target and domain, the ids, then the other
    facts. Ids have labels, because certificates and uploads both have ids of hex digits; other
    facts have labels too, except a problem.
    """
    facts = {
        name: voice.say_on_one_line(fact) if isinstance(fact, Text) else fact
        for name, fact in entry.facts.items()
    }
    if "found" in facts:
        facts["found"] = _in_words(facts["found"], voice)
    target, domain = facts.pop("target", None), facts.pop("domain", None)
    place = domain if target is None else str(at_target(target, domain))
    ids = {name: short(facts.pop(name)) for name in ("fingerprint", "remote_id") if name in facts}
    rest = [
        fact
        if name == "problem"
        else voice.say(Text("{what}: {was}", what=voice.word(name), was=fact))
        for name, fact in (ids | facts).items()
    ]
    return verbatim(" · ".join([*filter(None, [place]), *rest]))


def _in_words(fact: str, voice: Voice) -> str:

    def change(match: re.Match[str]) -> str:
        setting, was = (voice.word(word) for word in match.groups())
        return voice.say(Text("{what}: {was}", what=setting, was=was))

    return _FOUND.sub(change, fact)
