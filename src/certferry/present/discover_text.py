"""Render the results of `discover`, `watch` and `doctor`.

`discover` shows a row for each domain and for each unused certificate, then the problems and the
numbers. `watch` shows a row for each address of a host, then the problems. `doctor` shows each
finding with the fix.
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
"""The widest name of a certificate in a table, in cells. Longer names are cut; `--json` has the
whole name.
"""

_DOMAINS = (
    *(Text("DOMAIN"), Text("STATE"), verbatim("HTTPS"), Text("OWNER"), Text("LEFT")),
    *(Text("COVERED BY"), Text("SERVED")),
)
_CERTIFICATES = (Text("CERTIFICATE"), Text("OWNER"), Text("LEFT"), Text("NAME"), Text("FOR"))

_OWNERS = {Owner.OURS: Tone.GOOD, Owner.FOREIGN: Tone.PLAIN, Owner.FREE: Tone.PENDING}
_AT_REST = "success"
"""The state of a domain whose last change at the CDN is complete."""


def domains(discovery: inventory.Discovery, now: datetime, voice: Voice) -> TextTable:
    """Render a row for each domain. If there are several accounts, each row names the account."""
    rows = [
        (domain(discovered, now, voice), discovered.account) for discovered in discovery.domains
    ]
    return _table(_DOMAINS, rows, discovery, voice)


def unused(discovery: inventory.Discovery, now: datetime, voice: Voice) -> TextTable:
    """Render a row for each unused certificate: no listed domain is bound to the certificate. If
    there are several accounts, each row names the account.
    """
    rows = [
        (certificate(discovered, now, voice), discovered.account) for discovered in discovery.unused
    ]
    return _table(_CERTIFICATES, rows, discovery, voice)


def _table(
    headers: Sequence[Text],
    rows: Sequence[tuple[tuple[Span, ...], str]],
    discovery: inventory.Discovery,
    voice: Voice,
) -> TextTable:
    several = len(discovery.accounts) > 1
    named = (*headers, Text("ACCOUNT")) if several else headers
    shown = tuple((*row, Span(account)) if several else row for row, account in rows)
    return TextTable(tuple(map(voice.say, named)), shown, hangs=True)


def remarks(discovery: inventory.Discovery, voice: Voice) -> Iterator[Line]:
    """Render the remarks on each domain (`remarks_on`), after the domain's name."""
    for discovered in discovery.domains:
        name = discovered.listed.domain
        for remark in remarks_on(discovered):
            words = once(name, voice.say(remark)).removeprefix(f"{name} ")
            yield from voice.about(name, words)


def heading(discovery: inventory.Discovery, voice: Voice) -> Line:
    """Render the heading of the table of unused certificates, with their number."""
    singular = Text("1 unused certificate (no domain listed here has it):")
    plural = Text("{count} unused certificates (no domain listed here has them):")
    return line(voice.say(one_or_many(len(discovery.unused), singular, plural)))


def summary(discovery: inventory.Discovery, everything: inventory.Discovery, voice: Voice) -> Line:
    """Count the domains and certificates of `discovery`, or say that there are none, or that none
    matches. `everything` is the discovery before the filters.
    """
    if not everything.domains and not everything.certificates:
        labels = [look.label for look in everything.accounts]
        message = Text("There are no domains and no certificates at {accounts}.", accounts=labels)
    elif not discovery.domains and not discovery.certificates:
        message = Text(
            "None of {domains} and {certificates} matches.",
            domains=_domain_count(len(everything.domains)),
            certificates=certificate_count(len(everything.certificates)),
        )
    else:
        uncovered = sum(discovered.is_uncovered for discovered in discovery.domains)
        foreign = sum(discovered.owner is Owner.FOREIGN for discovered in discovery.domains)
        message = Text(
            "{domains}: {uncovered} not covered, {foreign} with another owner's certificate."
            " {certificates}: {unused} unused.",
            domains=_domain_count(len(discovery.domains)),
            uncovered=uncovered,
            foreign=foreign,
            certificates=certificate_count(len(discovery.certificates)),
            unused=len(discovery.unused),
        )
    unread = [look.label for look in everything.accounts if look.failure is not None]
    if unread and (everything.domains or everything.certificates):
        message = Text("{said} Not read: {accounts}.", said=message, accounts=unread)
    return line(voice.say(message))


def _domain_count(count: int) -> Text:
    return one_or_many(count, Text("1 domain"), Text("{count} domains"))


# domains


def domain(discovered: inventory.DiscoveredDomain, now: datetime, voice: Voice) -> tuple[Span, ...]:
    """Render a domain's row: name, state, HTTPS, owner, time left, certificate, addresses."""
    found_domain = discovered.listed
    urgent = discovered.urgency(now) <= inventory.Urgency.TROUBLED
    return (
        Span(
            f"{found_domain.domain}{in_brackets(found_domain.kind)}",
            Tone.BAD if urgent else Tone.STRONG,
        ),
        _state(discovered, voice),
        _https(discovered, voice),
        _owner(discovered, voice),
        left(discovered.not_after, now, voice),
        _covered(discovered, voice),
        _served(discovered.served, voice),
    )


def _state(discovered: inventory.DiscoveredDomain, voice: Voice) -> Span:
    state = discovered.listed.state
    if state is None:
        return NOTHING
    return Span(state_word(state, voice), Tone.GOOD if state == _AT_REST else Tone.PENDING)


def state_word(state: str, voice: Voice) -> str:
    """Return the word, for people, for a domain's state at the target."""
    return voice.say(Text("ok")) if state == _AT_REST else voice.word(state)


def _https(discovered: inventory.DiscoveredDomain, voice: Voice) -> Span:
    """Render a domain's HTTPS settings: `301` if HTTP is redirected to HTTPS, `h2` for HTTP/2, and
    `on` if HTTPS has neither. Without HTTPS render `off`, or a dash if the target does not show
    which certificate is bound.
    """
    found_domain = discovered.listed
    if not found_domain.has_https:
        return (
            NOTHING if found_domain.binding_hidden else Span(voice.say(Text("off")), Tone.PENDING)
        )
    flags = [("301", found_domain.https.force_https), ("h2", found_domain.https.http2)]
    return Span(" ".join(word for word, is_on in flags if is_on) or voice.say(Text("on")))


def _owner(discovered: inventory.DiscoveredDomain, voice: Voice) -> Span:
    if discovered.owner is not None:
        return Span(voice.word(discovered.owner), _OWNERS[discovered.owner])
    is_unknown = discovered.bound is not None or discovered.listed.binding_hidden
    return Span(voice.word("unknown"), Tone.FAINT) if is_unknown else NOTHING


def left(end: datetime | None, now: datetime, voice: Voice) -> Span:
    """Render how long a certificate is still valid; a dash for an unknown end."""
    if end is None:
        return NOTHING
    if end <= now:
        return Span(voice.say(Text("expired")), Tone.BAD)
    return Span(voice.say(Text("{left}", left=end - now)))


def _covered(discovered: inventory.DiscoveredDomain, voice: Voice) -> Span:
    if discovered.deployed_by is not None:
        return Span(discovered.deployed_by)
    if discovered.covered_by:
        return Span(f"({discovered.covered_by[0]})", Tone.PENDING)
    return Span(voice.say(Text("none")), Tone.PENDING) if discovered.is_uncovered else NOTHING


def _served(addresses: Sequence[Served], voice: Voice) -> Span:
    """Render how many of the answering addresses present a valid certificate, and how many
    addresses are silent. Addresses that this machine cannot reach for lack of IPv6 do not count,
    unless no address answers.
    """
    counted = within_reach(addresses)
    right = sum(address.answered and address.valid for address in counted)
    answered = sum(address.answered for address in counted)
    tone = Tone.PLAIN if right == answered else Tone.BAD
    return served_by_addresses(right, counted, voice, tone)


def remarks_on(discovered: inventory.DiscoveredDomain) -> Iterator[Text]:
    """Yield the domain's problem, a remark if a declared certificate covers the domain and is not
    deployed to it or not used there, and the problems of the domain's addresses.
    """
    if discovered.problem is not None:
        yield discovered.problem.message
    if discovered.covered_by and discovered.deployed_by is None and discovered.listed.by_itself:
        yield Text(
            "{lineages} would cover the domain, but no deployment brings it to {account}",
            lineages=list(discovered.covered_by),
            account=discovered.account,
        )
    if discovered.deployed_by is not None and discovered.owner is Owner.FOREIGN:
        yield Text(
            "the domain does not use the certificate {lineage}", lineage=discovered.deployed_by
        )
    # The problem of a silent address is left out, unless all addresses are silent.
    counted = within_reach(discovered.served)
    shown = [address for address in counted if address.answered] or counted
    yield from dict.fromkeys(a.problem.message for a in shown if a.problem is not None)


# certificates


def certificate(
    discovered: inventory.DiscoveredCertificate, now: datetime, voice: Voice
) -> tuple[Span, ...]:
    """Render a certificate's row: id, owner, time left, name at the target, domains."""
    names = discovered.listed.names or ()
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return (
        Span(short(discovered.listed.remote_id), Tone.STRONG),
        Span(voice.word(discovered.owner), _OWNERS[discovered.owner]),
        left(discovered.listed.not_after, now, voice),
        Span(_shortened(discovered.listed.label)) if discovered.listed.label else NOTHING,
        Span(names[0] + more) if names else NOTHING,
    )


def _shortened(label: str) -> str:
    kept = label
    while width(kept) > (_LABEL if kept == label else _LABEL - 1):
        kept = kept[:-1]
    return label if kept == label else f"{kept}…"


def of_discovery(discovery: inventory.Discovery) -> Document:
    """Return a discovery as a JSON document; unknown values are null."""
    return {
        "ok": not any(problem.is_error for problem in discovery.problems),
        "accounts": [look.label for look in discovery.accounts],
        "domains": [_domain_document(row) for row in discovery.domains],
        "certificates": [_certificate_document(row) for row in discovery.certificates],
        "problems": [
            {"account": p.subject, "severity": p.severity.value, "problem": of_problem(p)}
            for p in discovery.problems
        ],
    }


def _domain_document(discovered: inventory.DiscoveredDomain) -> Document:
    found_domain = discovered.listed
    is_known = found_domain.has_https or not found_domain.binding_hidden
    return {
        "account": discovered.account,
        "domain": found_domain.domain,
        "kind": found_domain.kind.value,
        "state": found_domain.state,
        "https": found_domain.has_https if is_known else None,
        "settings": {
            "force_https": found_domain.https.force_https,
            "http2": found_domain.https.http2,
            "tls_versions": _listed(found_domain.https.tls_versions),
        },
        "bound": discovered.bound
        and {
            "remote_id": discovered.bound.remote_id,
            "fingerprint": discovered.bound.fingerprint,
            "names": _listed(discovered.bound.names),
            "not_after": moment(discovered.bound.not_after),
            "owner": discovered.bound.owner and discovered.bound.owner.value,
        },
        "not_after": moment(discovered.not_after),
        "covered_by": list(discovered.covered_by),
        "deployed_by": discovered.deployed_by,
        "by_itself": found_domain.by_itself,
        "served": [
            {**of_served(a, a.fingerprint), "not_after": moment(a.not_after)}
            for a in discovered.served
        ],
        "problem": None if discovered.problem is None else of_problem(discovered.problem.problem()),
    }


def _listed(words: Iterable[str] | None) -> list[str] | None:
    return None if words is None else list(words)


def _certificate_document(discovered: inventory.DiscoveredCertificate) -> Document:
    return {
        "account": discovered.account,
        "remote_id": discovered.listed.remote_id,
        "name": discovered.listed.label,
        "names": _listed(discovered.listed.names),
        "fingerprint": discovered.fingerprint,
        "not_after": moment(discovered.listed.not_after),
        "owner": discovered.owner.value,
        "bound_to": list(discovered.bound_to),
    }


# what hosts serve


_HEADERS = (
    *(Text("HOST"), Text("ADDRESS"), Text("FINGERPRINT"), Text("CHAIN")),
    *(Text("VALID"), Text("UNTIL"), Text("LEFT")),
)


def hosts(looks: Sequence[HostObservation], now: datetime, voice: Voice) -> TextTable:
    """Render a row for each address of each host."""
    rows = [_row(look, address, now, voice) for look in looks for address in look.served]
    return TextTable(tuple(map(voice.say, _HEADERS)), tuple(rows))


def below(looks: Sequence[HostObservation], voice: Voice) -> Iterator[Line]:
    """Render the problems of each host and its addresses, then each hint once."""
    hints = dict[Text, None]()
    for look in looks:
        problems = [(_where(look, address), address.problem) for address in look.served]
        problems += [(str(look.host), host_problem.problem) for host_problem in look.problems]
        for where, problem in problems:
            if problem is not None:
                yield from _at_host(where, look, problem.message, voice)
                hints |= {} if problem.hint is None else {problem.hint: None}
    for hint in hints:
        yield from voice.hint(hint)


def news(changes: Changes, look: HostObservation, now: datetime, voice: Voice) -> Iterator[Line]:
    """Render a line for each address whose answer has changed. If the problems of the addresses
    together have changed, also render all these problems, or that there are none.
    """
    at = voice.say(Text("{moment}", moment=now))
    for address, before in changes.addresses:
        yield from _at_host(f"{at} {_where(look, address)}", look, _changed(address, before), voice)
    if changes.problems:
        in_order = Text("the addresses of the host are in order again")
        for message in [p.problem.message for p in look.problems] or [in_order]:
            yield from _at_host(f"{at} {look.host}", look, message, voice)


def of_looks(looks: Sequence[HostObservation], now: datetime) -> Document:
    """Return the document of `watch --json`. `ok` is true if `HostObservation.ok` is true for every
    host.
    """
    documents = [_host(look, now) for look in looks]
    return {"ok": all(look.ok for look in looks), "at": moment(now), "hosts": documents}


def of_change(look: HostObservation, now: datetime) -> Document:
    """Return the document of `watch --follow --json` for a host, at the beginning and after each
    change.
    """
    return {"at": moment(now), **_host(look, now)}


def _changed(now: Served, before: Served | None) -> Text:
    if now.problem is not None:
        return now.problem.message
    expiry = now.not_after or Text("at an unknown time")
    serves = Text("serves {fingerprint} (expires {expiry})", fingerprint=_short(now), expiry=expiry)
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
    """Return a host as a document. `ok` is `HostObservation.ok`."""
    return {
        "host": look.host.name,
        "port": look.host.port,
        "ok": look.ok,
        "addresses": [_address(address, now) for address in look.served],
        "problems": [
            {
                "severity": host_problem.problem.severity.value,
                **of_problem(host_problem.problem),
                "addresses": list(host_problem.addresses),
            }
            for host_problem in look.problems
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
"""Codes of findings that the text of `doctor` leaves out if they are notices; `doctor --json` has
them. For people, `discover`, `status` and `history` show the same facts.
"""
FIX = Text("fix: ")
_INDENT = 2


def lines(findings: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Write the findings, then a sentence with the counts. Notices with codes in `_ELSEWHERE` are
    left out.
    """
    findings = [
        finding
        for finding in findings
        if finding.severity is not Severity.NOTICE or finding.code not in _ELSEWHERE
    ]
    for finding in findings:
        yield from _finding(finding, voice)
    if findings:
        yield line()
    yield line(voice.say(conclusion(findings)))


def error_lines(findings: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Write only the findings that are errors."""
    for finding in findings:
        if finding.is_error:
            yield from _finding(finding, voice)


def _finding(finding: Problem, voice: Voice) -> Iterator[Line]:
    words = once(finding.subject, voice.say(finding.message))
    if finding.subject.startswith("/"):
        words = words.removeprefix(f"{finding.subject} ")  # a path is long, so it appears only once
    described = f"{finding.subject}: {words} [{finding.code}]"
    if finding.severity is Severity.NOTICE:
        yield from labelled(voice.say(Text("info: ")), Tone.FAINT, described)
    else:
        yield from (voice.error(described) if finding.is_error else voice.warning(described))
    if finding.hint is not None:
        yield from labelled(voice.say(FIX), Tone.FAINT, voice.say(finding.hint), _INDENT)


def conclusion(findings: Sequence[Problem]) -> Text:
    """Return a sentence with the numbers of errors and warnings. Without errors and warnings, the
    sentence says that everything is in order.
    """
    counts = Counter(finding.severity for finding in findings)
    counted = [
        one_or_many(counts[severity], singular, plural)
        for severity, singular, plural in (
            (Severity.ERROR, Text("1 error"), Text("{count} errors")),
            (Severity.WARNING, Text("1 warning"), Text("{count} warnings")),
        )
        if counts[severity]
    ]
    if not counted:
        return Text("Everything that a run depends on is in order. Nothing was changed.")
    return Text("{counts}. Nothing was changed.", counts=counted)


LIBRARIES = ("acme", "cryptography", "dnspython", "msgspec", "requests", "urllib3")


def report(reports: Iterable[AccountReport], now: datetime, voice: Voice) -> Iterator[Line]:
    """Write the report of `doctor --report`, in Markdown, to paste into an issue: the versions of
    certferry, Python and libraries, and the answers of each account's service.
    """
    heading = Text("certferry {version}, report of {moment}", version=__version__, moment=now)
    yield line("## ", voice.say(heading))
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    system = f"Python {platform.python_version()}, {platform.system()}, {libraries}"
    yield from (line(), line(system))
    promise = Text(
        "Reading calls only. The text contains no secret, no ID, and no name of a domain, a"
        " bucket or a certificate."
    )
    yield from (line(), line(voice.say(promise)))
    for account in reports:
        yield from (line(), line("### ", account.service), line())
        yield from (line("- ", voice.say(answer_text)) for answer_text in account.lines)
