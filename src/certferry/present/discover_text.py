"""What accounts hold and what hosts serve, declared or not, for people and for programs: a row for
each domain, certificate or address, what is wrong with it, and how many there are; and the
findings of `doctor`, each with its fix.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version

from certferry import __version__
from certferry.core.certificates.certificate import short
from certferry.core.discovery import inventory
from certferry.core.discovery.watched import Changes, HostObservation, within_reach
from certferry.core.findings import Code
from certferry.core.observed.inferred import Owner
from certferry.core.observed.observation import Served
from certferry.errors import Problem, Severity
from certferry.ports.examination import AccountReport
from certferry.present.documents import Document, moment, of_problem, of_served
from certferry.present.language import Voice, certificate_count, in_brackets, once, one_or_many
from certferry.present.layout import Line, Span, TextTable, Tone, labelled, line, width
from certferry.present.status_text import NOTHING, served_by_addresses
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


def domains(found: inventory.Discovery, now: datetime, voice: Voice) -> TextTable:
    """Render a row for each domain; with several accounts, each names its own."""
    rows = [(domain(one, now, voice), one.account) for one in found.domains]
    return _table(_DOMAINS, rows, found, voice)


def unused(found: inventory.Discovery, now: datetime, voice: Voice) -> TextTable:
    """Render a row for each certificate that none of the domains is bound to."""
    rows = [(certificate(one, now, voice), one.account) for one in found.unused]
    return _table(_CERTIFICATES, rows, found, voice)


def _table(
    headers: Sequence[Text],
    rows: Sequence[tuple[tuple[Span, ...], str]],
    found: inventory.Discovery,
    voice: Voice,
) -> TextTable:
    several = len(found.accounts) > 1
    named = (*headers, Text("ACCOUNT")) if several else headers
    shown = tuple((*row, Span(account)) if several else row for row, account in rows)
    return TextTable(tuple(map(voice.say, named)), shown, hangs=True)


def remarks(found: inventory.Discovery, voice: Voice) -> Iterator[Line]:
    """Render what is wrong with a domain or at its edges, or why a certificate misses it."""
    for one in found.domains:
        name = one.found.domain
        for said in remarks_on(one):
            words = once(name, voice.say(said)).removeprefix(f"{name} ")
            yield from voice.about(name, words)


def heading(found: inventory.Discovery, voice: Voice) -> Line:
    """Render the heading of the second table."""
    one = Text("1 certificate that no domain seen here uses:")
    many = Text("{count} certificates that no domain seen here uses:")
    return line(voice.say(one_or_many(len(found.unused), one, many)))


def summary(found: inventory.Discovery, everything: inventory.Discovery, voice: Voice) -> Line:
    """Count what was found, or say that nothing was; `everything` is what it was chosen from."""
    if not everything.domains and not everything.certificates:
        labels = [look.label for look in everything.accounts]
        said = Text("There are no domains and no certificates at {accounts}.", accounts=labels)
    elif not found.domains and not found.certificates:
        said = Text(
            "None of {domains} and {certificates} matches.",
            domains=_domain_count(len(everything.domains)),
            certificates=certificate_count(len(everything.certificates)),
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
            certificates=certificate_count(len(found.certificates)),
            unused=len(found.unused),
        )
    return line(voice.say(said))


def _domain_count(count: int) -> Text:
    return one_or_many(count, Text("1 domain"), Text("{count} domains"))


# domains


def domain(one: inventory.DiscoveredDomain, now: datetime, voice: Voice) -> tuple[Span, ...]:
    """Render a domain: its name, state, HTTPS, owner, time left, certificate, addresses."""
    found = one.found
    urgent = one.urgency(now) <= inventory.Urgency.TROUBLED
    return (
        Span(f"{found.domain}{in_brackets(found.kind)}", Tone.BAD if urgent else Tone.STRONG),
        _state(one, voice),
        _https(one, voice),
        _owner(one, voice),
        left(one.not_after, now, voice),
        _covered(one, voice),
        _served(one.served, voice),
    )


def _state(one: inventory.DiscoveredDomain, voice: Voice) -> Span:
    state = one.found.state
    if state is None:
        return NOTHING
    if state == _AT_REST:
        return Span(voice.say(Text("ok")), Tone.GOOD)
    return Span(voice.word(state), Tone.PENDING)


def _https(one: inventory.DiscoveredDomain, voice: Voice) -> Span:
    """Render how it does HTTPS: 301 redirects to it, h2 is HTTP/2."""
    found = one.found
    if not found.has_https:
        return NOTHING if found.binding_hidden else Span(voice.say(Text("off")), Tone.PENDING)
    flags = [("301", found.https.force_https), ("h2", found.https.http2)]
    return Span(" ".join(word for word, is_on in flags if is_on) or voice.say(Text("on")))


def _owner(one: inventory.DiscoveredDomain, voice: Voice) -> Span:
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


def _covered(one: inventory.DiscoveredDomain, voice: Voice) -> Span:
    if one.deployed_by is not None:
        return Span(one.deployed_by)
    if one.covered_by:
        return Span(f"({one.covered_by[0]})", Tone.PENDING)
    return Span(voice.say(Text("none")), Tone.PENDING) if one.is_uncovered else NOTHING


def _served(addresses: Sequence[Served], voice: Voice) -> Span:
    """Count the addresses that present a certificate which is valid there, of all that answered."""
    counted = within_reach(addresses)
    right = sum(address.answered and address.valid for address in counted)
    answered = sum(address.answered for address in counted)
    tone = Tone.PLAIN if right == answered else Tone.BAD
    return served_by_addresses(right, counted, voice, tone)


def remarks_on(one: inventory.DiscoveredDomain) -> Iterator[Text]:
    """Yield what is wrong with a domain or at its edges, or why a certificate misses it."""
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


def certificate(
    one: inventory.DiscoveredCertificate, now: datetime, voice: Voice
) -> tuple[Span, ...]:
    """Render a certificate: its id, owner, time left, its name at the target, what it is for."""
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
    kept = label
    while width(kept) > (_LABEL if kept == label else _LABEL - 1):
        kept = kept[:-1]
    return label if kept == label else f"{kept}…"


def of_discovery(found: inventory.Discovery) -> Document:
    """Write all that was found in the `accounts` that were read, null for what is not known."""
    return {
        "ok": not any(one.is_error for one in found.problems),
        "accounts": [look.label for look in found.accounts],
        "domains": [_domain_document(one) for one in found.domains],
        "certificates": [_certificate_document(one) for one in found.certificates],
        "problems": [
            {"account": p.subject, "severity": p.severity.value, "problem": of_problem(p)}
            for p in found.problems
        ],
    }


def _domain_document(one: inventory.DiscoveredDomain) -> Document:
    found = one.found
    is_known = found.has_https or not found.binding_hidden
    return {
        "account": one.account,
        "domain": found.domain,
        "kind": found.kind.value,
        "state": found.state,
        "https": found.has_https if is_known else None,
        "settings": {
            "force_https": found.https.force_https,
            "http2": found.https.http2,
            "tls_versions": _listed(found.https.tls_versions),
        },
        "bound": one.bound
        and {
            "remote_id": one.bound.remote_id,
            "fingerprint": one.bound.fingerprint,
            "names": _listed(one.bound.names),
            "not_after": moment(one.bound.not_after),
            "owner": one.bound.owner and one.bound.owner.value,
        },
        "not_after": moment(one.not_after),
        "covered_by": list(one.covered_by),
        "deployed_by": one.deployed_by,
        "by_itself": found.by_itself,
        "served": [
            {**of_served(a, a.fingerprint), "not_after": moment(a.not_after)} for a in one.served
        ],
        "problem": None if one.problem is None else of_problem(one.problem.problem()),
    }


def _listed(words: Iterable[str] | None) -> list[str] | None:
    return None if words is None else list(words)


def _certificate_document(one: inventory.DiscoveredCertificate) -> Document:
    return {
        "account": one.account,
        "remote_id": one.found.remote_id,
        "name": one.found.label,
        "names": _listed(one.found.names),
        "fingerprint": one.fingerprint,
        "not_after": moment(one.found.not_after),
        "owner": one.owner.value,
        "bound_to": list(one.bound_to),
    }


# what hosts serve


_HEADERS = (
    *(Text("HOST"), Text("ADDRESS"), Text("FINGERPRINT"), Text("CHAIN")),
    *(Text("VALID"), Text("UNTIL"), Text("LEFT")),
)


def hosts(looks: Sequence[HostObservation], now: datetime, voice: Voice) -> TextTable:
    """Render a row per address."""
    rows = [_row(look, address, now, voice) for look in looks for address in look.served]
    return TextTable(tuple(map(voice.say, _HEADERS)), tuple(rows))


def below(looks: Sequence[HostObservation], voice: Voice) -> Iterator[Line]:
    """Render what is wrong at an address, what differs between those of a host, and what to do."""
    hints = dict[Text, None]()
    for look in looks:
        found = [(_where(look, one), one.problem) for one in look.served]
        found += [(str(look.host), one.problem) for one in look.problems]
        for where, problem in found:
            if problem is not None:
                yield from _at_host(where, look, problem.message, voice)
                hints |= {} if problem.hint is None else {problem.hint: None}
    for hint in hints:
        yield from voice.hint(hint)


def news(changes: Changes, look: HostObservation, now: datetime, voice: Voice) -> Iterator[Line]:
    """Render what changed at a host, a line for each."""
    at = voice.say(Text("{moment}", moment=now))
    for one, before in changes.addresses:
        yield from _at_host(f"{at} {_where(look, one)}", look, _changed(one, before), voice)
    if changes.problems:
        in_order = Text("the addresses of the host are in order again")
        for message in [one.problem.message for one in look.problems] or [in_order]:
            yield from _at_host(f"{at} {look.host}", look, message, voice)


def of_looks(looks: Sequence[HostObservation], now: datetime) -> Document:
    """Return what `watch --json` prints."""
    documents = [_host(look, now) for look in looks]
    return {"ok": all(look.ok for look in looks), "at": moment(now), "hosts": documents}


def of_change(look: HostObservation, now: datetime) -> Document:
    """Return what `--follow` prints on one line for a host: how it stands since a change."""
    return {"at": moment(now), **_host(look, now)}


def _changed(now: Served, before: Served | None) -> Text:
    if now.problem is not None:
        return now.problem.message
    until = now.not_after or Text("unknown")
    serves = Text("serves {fingerprint} (until {until})", fingerprint=_short(now), until=until)
    if before is None or before.fingerprint in {None, now.fingerprint}:
        return serves
    return Text("{now}, before {fingerprint}", now=serves, fingerprint=_short(before))


def _short(address: Served) -> str:
    return short(address.fingerprint or "")


def _where(look: HostObservation, address: Served) -> str:
    return f"{look.host} {address.address}".rstrip()


def _at_host(where: str, look: HostObservation, message: Text, voice: Voice) -> Iterator[Line]:
    return voice.about(where, once(look.host.name, voice.say(message)))


def _row(look: HostObservation, address: Served, now: datetime, voice: Voice) -> tuple[Span, ...]:
    issuers, until = ", ".join(issuer.subject for issuer in address.chain[1:]), address.not_after
    words, tone = (Text("yes"), Tone.GOOD) if address.valid else (Text("no"), Tone.BAD)
    return (
        Span(str(look.host), Tone.STRONG),
        Span(address.address) if address.address else NOTHING,
        Span(_short(address)) if address.fingerprint else NOTHING,
        Span(issuers) if issuers else NOTHING,
        Span(voice.say(words), tone) if address.answered else NOTHING,
        NOTHING if until is None else Span(voice.day(until)),
        left(until, now, voice),
    )


def _host(look: HostObservation, now: datetime) -> Document:
    """Return one host. It is ok when every address is valid, and no problem is an error."""
    return {
        "host": look.host.name,
        "port": look.host.port,
        "ok": look.ok,
        "addresses": [_address(address, now) for address in look.served],
        "problems": [
            {
                "severity": one.problem.severity.value,
                **of_problem(one.problem),
                "addresses": list(one.addresses),
            }
            for one in look.problems
        ],
    }


def _address(address: Served, now: datetime) -> Document:
    leaf, ends = address.chain[0] if address.chain else None, address.not_after
    return {
        **of_served(address, address.fingerprint),
        "not_after": moment(ends),
        "not_before": leaf and moment(leaf.not_before),
        "days_left": None if ends is None else (ends - now) // timedelta(days=1),
        "names": leaf and list(leaf.names),
        "issuer": leaf and leaf.issuer,
        "chain": [
            {
                "subject": issuer.subject,
                "issuer": issuer.issuer,
                "fingerprint": issuer.fingerprint,
                "not_after": moment(issuer.not_after),
            }
            for issuer in address.chain[1:]
        ],
    }


_ELSEWHERE = frozenset({Code.WAYS, Code.LAST_RUN, Code.LAST_CHANGE})
"""What programs read in `--json`, and people in `discover`, `status` and `history`."""
FIX = Text("fix: ")
_INDENT = 2


def lines(findings: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Write every finding but what is only to be known and stands elsewhere, and the count."""
    findings = [
        one for one in findings if one.severity is not Severity.NOTICE or one.code not in _ELSEWHERE
    ]
    for finding in findings:
        yield from _finding(finding, voice)
    if findings:
        yield line()
    yield line(voice.say(conclusion(findings)))


def error_lines(findings: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Write the errors alone."""
    for finding in findings:
        if finding.is_error:
            yield from _finding(finding, voice)


def _finding(finding: Problem, voice: Voice) -> Iterator[Line]:
    words = once(finding.subject, voice.say(finding.message))
    if finding.subject.startswith("/"):
        words = words.removeprefix(f"{finding.subject} ")  # a path is long
    said = f"{finding.subject}: {words} [{finding.code}]"
    if finding.severity is Severity.NOTICE:
        yield from labelled(voice.say(Text("info: ")), Tone.FAINT, said)
    else:
        yield from voice.error(said) if finding.is_error else voice.warning(said)
    if finding.hint is not None:
        yield from labelled(voice.say(FIX), Tone.FAINT, voice.say(finding.hint), _INDENT)


def conclusion(findings: Sequence[Problem]) -> Text:
    """Return how many findings of each kind there are."""
    counts = Counter(finding.severity for finding in findings)
    counted = [
        one_or_many(counts[severity], one, many)
        for severity, one, many in (
            (Severity.ERROR, Text("1 error"), Text("{count} errors")),
            (Severity.WARNING, Text("1 warning"), Text("{count} warnings")),
        )
        if counts[severity]
    ]
    if not counted:
        return Text("Everything that a run relies on is in order. Nothing was changed.")
    return Text("{counts}. Nothing was changed.", counts=counted)


LIBRARIES = ("acme", "cryptography", "dnspython", "msgspec", "requests", "urllib3")


def report(reports: Iterable[AccountReport], now: datetime, voice: Voice) -> Iterator[Line]:
    """Write the text for an issue, in Markdown: versions, and what each account answered."""
    heading = Text("certferry {version}, report of {moment}", version=__version__, moment=now)
    yield line("## ", voice.say(heading))
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    system = f"Python {platform.python_version()}, {platform.system()}, {libraries}"
    yield from (line(), line(system))
    said = Text(
        "Reading calls only. No secret is in this text, no id, and no name of a domain, a bucket or"
        " a certificate."
    )
    yield from (line(), line(voice.say(said)))
    for one in reports:
        yield from (line(), line("### ", one.service), line())
        yield from (line("- ", voice.say(said)) for said in one.lines)
