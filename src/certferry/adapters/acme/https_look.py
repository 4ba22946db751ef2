"""Look at resolvers that are asked over HTTPS: whether they answer, and say what is true."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import dns.message
import dns.rcode
import dns.rdatatype

from certferry.adapters.acme.https_resolver import HttpsResolver, Unheard
from certferry.core.findings import Code, Finding, error, warning
from certferry.text import Text, verbatim

_NAME_ANOTHER = Text(
    "name one that answers in `doh` under [dns], such as https://223.5.5.5/dns-query, or look at"
    " the proxy on the way"
)


def look_at_resolvers(resolvers: Sequence[HttpsResolver]) -> Iterator[Finding]:
    """Ask each for a name of 16 random digits, which has not been registered. A silent one is a
    warning: it is a second opinion. Raises nothing for what it meets.
    """
    if not resolvers:
        return
    with ThreadPoolExecutor(len(resolvers)) as pool:
        yield from (found for found in pool.map(_look, resolvers) if found is not None)


def _look(resolver: HttpsResolver) -> Finding | None:
    query = dns.message.make_query(f"certferry-{secrets.token_hex(8)}.com.", dns.rdatatype.A)
    try:
        answer = resolver.ask(query)
    except Unheard as silence:
        return _silent(resolver.called, silence.problem)
    if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return _silent(resolver.called, verbatim(dns.rcode.to_text(answer.rcode())))
    addresses = [
        record.to_text()
        for records in answer.answer
        if records.rdtype == dns.rdatatype.A
        for record in records
    ]
    if not addresses:
        return None
    message = Text(
        "the resolver {resolver} says that a name which does not exist is at {addresses}",
        resolver=resolver.called,
        addresses=addresses,
    )
    return error(Code.RESOLVER_INVENTS, resolver.called, message, _NAME_ANOTHER)


def _silent(resolver: str, why: Text) -> Finding:
    message = Text("the resolver {resolver} does not answer: {why}", resolver=resolver, why=why)
    return warning(Code.RESOLVER_SILENT, resolver, message, _NAME_ANOTHER)
