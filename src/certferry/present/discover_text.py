"""What accounts hold, as a person reads it: a row for each domain, with what needs a person first;
then the certificates that nothing uses, and how many there are of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from certferry.core.certificates.certificate import short
from certferry.core.discovery.inventory import (
    DiscoveredCertificate,
    DiscoveredDomain,
    Discovery,
    Urgency,
)
from certferry.core.discovery.watched import within_reach
from certferry.core.observed.inferred import Owner
from certferry.core.observed.observation import Served
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Table, Tone, labelled, line, width
from certferry.present.status_text import NOTHING
from certferry.present.vocabulary import ERROR, HINT, WARNING, in_brackets, once, one_or_many
from certferry.problem import Problem
from certferry.text import Text, verbatim

_LABEL = 24
"""Cells of a certificate's name at its target; the whole is in `--json`."""

_DOMAINS = (
    *(Text("DOMAIN"), Text("STATE"), verbatim("HTTPS"), Text("OWNER"), Text("LEFT")),
    *(Text("COVERED BY"), Text("SERVED")),
)
_CERTIFICATES = (Text("CERTIFICATE"), Text("OWNER"), Text("LEFT"), Text("NAME"), Text("FOR"))

_OWNERS = {Owner.OURS: Tone.GOOD, Owner.FOREIGN: Tone.PLAIN, Owner.FREE: Tone.PENDING}
_AT_REST = "success"
"""A state that is no news."""


def domains(found: Discovery, now: datetime, voice: Voice) -> Table:
    """Render a row for each domain; with several accounts, each names its own."""
    rows = [(_domain(one, now, voice), one.account) for one in found.domains]
    return _table(_DOMAINS, rows, found, voice)


def unused(found: Discovery, now: datetime, voice: Voice) -> Table:
    """Render a row for each certificate that none of the domains is bound to."""
    rows = [(_certificate(one, now, voice), one.account) for one in found.unused]
    return _table(_CERTIFICATES, rows, found, voice)


def _table(
    headers: Sequence[Text],
    rows: Sequence[tuple[tuple[Span, ...], str]],
    found: Discovery,
    voice: Voice,
) -> Table:
    several = len(found.accounts) > 1
    named = (*headers, Text("ACCOUNT")) if several else headers
    shown = tuple((*row, Span(account)) if several else row for row, account in rows)
    return Table(tuple(map(voice.say, named)), shown, hangs=True)


def remarks(found: Discovery, voice: Voice) -> Iterator[Line]:
    """Render what is wrong with a domain or at its edges, or why a certificate misses it."""
    for one in found.domains:
        name = one.found.domain
        for said in _remarks(one):
            words = once(name, voice.say(said)).removeprefix(f"{name} ")
            yield from labelled(f"{name}: ", Tone.STRONG, words)


def problems(found: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Render which account, or which part of one, could not be read."""
    for one in found:
        label, tone = (ERROR, Tone.BAD) if one.is_error else (WARNING, Tone.PENDING)
        words = f"{one.subject}: {once(one.subject, voice.say(one.message))}"
        yield from labelled(voice.say(label), tone, words)
        if one.hint is not None:
            yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(one.hint))


def heading(found: Discovery, voice: Voice) -> Line:
    """Render the heading of the second table."""
    count, one = len(found.unused), Text("1 certificate that no domain seen here uses:")
    many = Text("{count} certificates that no domain seen here uses:", count=count)
    return line(voice.say(one_or_many(count, one, many)))


def summary(found: Discovery, everything: Discovery, voice: Voice) -> Line:
    """Count what was found, or say that nothing was; `everything` is what it was chosen from."""
    if not everything.domains and not everything.certificates:
        labels = [look.label for look in everything.accounts]
        said = Text("There are no domains and no certificates at {accounts}.", accounts=labels)
    elif not found.domains and not found.certificates:
        said = Text(
            "None of {domains} and {certificates} matches.",
            domains=_domain_count(len(everything.domains)),
            certificates=_certificate_count(len(everything.certificates)),
        )
    else:
        uncovered = sum(one.is_uncovered for one in found.domains)
        foreign = sum(one.owner is Owner.FOREIGN for one in found.domains)
        said = Text(
            "{domains}: {uncovered} not covered, {foreign} with a foreign certificate."
            " {certificates}: {unused} unused.",
            domains=_domain_count(len(found.domains)),
            uncovered=uncovered,
            foreign=foreign,
            certificates=_certificate_count(len(found.certificates)),
            unused=len(found.unused),
        )
    return line(voice.say(said))


def _domain_count(count: int) -> Text:
    return one_or_many(count, Text("1 domain"), Text("{count} domains", count=count))


def _certificate_count(count: int) -> Text:
    return one_or_many(count, Text("1 certificate"), Text("{count} certificates", count=count))


# domains


def _domain(one: DiscoveredDomain, now: datetime, voice: Voice) -> tuple[Span, ...]:
    found = one.found
    urgent = one.urgency(now) <= Urgency.TROUBLED
    return (
        Span(f"{found.domain}{in_brackets(found.kind)}", Tone.BAD if urgent else Tone.STRONG),
        _state(one, voice),
        _https(one, voice),
        _owner(one, voice),
        left(one.not_after, now, voice),
        _covered(one, voice),
        _served(one.served, voice),
    )


def _state(one: DiscoveredDomain, voice: Voice) -> Span:
    state = one.found.state
    if state is None:
        return NOTHING
    if state == _AT_REST:
        return Span(voice.say(Text("ok")), Tone.GOOD)
    return Span(voice.word(state), Tone.PENDING)


def _https(one: DiscoveredDomain, voice: Voice) -> Span:
    """Render how it does HTTPS: 301 redirects to it, h2 is HTTP/2."""
    found = one.found
    if not found.has_https:
        return NOTHING if found.binding_hidden else Span(voice.say(Text("off")), Tone.PENDING)
    flags = [("301", found.https.force_https), ("h2", found.https.http2)]
    return Span(" ".join(word for word, is_on in flags if is_on) or voice.say(Text("on")))


def _owner(one: DiscoveredDomain, voice: Voice) -> Span:
    if one.owner is not None:
        return Span(voice.word(one.owner), _OWNERS[one.owner])
    is_unknown = one.bound is not None or one.found.binding_hidden
    return Span(voice.word("unknown"), Tone.FAINT) if is_unknown else NOTHING


def left(end: datetime | None, now: datetime, voice: Voice) -> Span:
    """Render how long a certificate is valid still."""
    if end is None:
        return NOTHING
    if end <= now:
        return Span(voice.say(Text("expired")), Tone.BAD)
    return Span(voice.say(Text("{left}", left=end - now)))


def _covered(one: DiscoveredDomain, voice: Voice) -> Span:
    if one.deployed_by is not None:
        return Span(one.deployed_by)
    if one.covered_by:
        return Span(f"({one.covered_by[0]})", Tone.PENDING)
    return Span(voice.say(Text("none")), Tone.PENDING) if one.is_uncovered else NOTHING


def _served(addresses: Sequence[Served], voice: Voice) -> Span:
    """Count the addresses that present a certificate which is valid there, of all that answered."""
    if not addresses:
        return NOTHING
    counted = within_reach(addresses)
    answered = [address for address in counted if address.answered]
    right = sum(address.valid for address in answered)
    silent = len(counted) - len(answered)
    said = Text("{count} of {all}", count=right, all=len(answered))
    if silent:
        said = Text("{said}, {silent} silent", said=said, silent=silent)
    return Span(voice.say(said), Tone.PLAIN if right == len(answered) else Tone.BAD)


def _remarks(one: DiscoveredDomain) -> Iterator[Text]:
    if one.problem is not None:
        yield one.problem.message
    if one.covered_by and one.deployed_by is None and one.found.by_itself:
        yield Text(
            "{lineages} would cover it, and no deployment brings it to {account}",
            lineages=list(one.covered_by),
            account=one.account,
        )
    # An address that is silent is only counted, unless there is no other.
    counted = within_reach(one.served)
    shown = [address for address in counted if address.answered] or counted
    yield from dict.fromkeys(a.problem.message for a in shown if a.problem is not None)


# certificates


def _certificate(one: DiscoveredCertificate, now: datetime, voice: Voice) -> tuple[Span, ...]:
    names = one.found.names or ()
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return (
        Span(short(one.found.remote_id), Tone.STRONG),
        Span(voice.word(one.owner), _OWNERS[one.owner]),
        left(one.found.not_after, now, voice),
        Span(_shortened(one.found.label)) if one.found.label else NOTHING,
        Span(names[0] + more) if names else NOTHING,
    )


def _shortened(label: str) -> str:
    """Cut a name that is longer than its column."""
    kept = label
    while width(kept) > (_LABEL if kept == label else _LABEL - 1):
        kept = kept[:-1]
    return label if kept == label else f"{kept}…"
