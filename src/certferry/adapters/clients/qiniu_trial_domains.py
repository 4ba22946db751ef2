"""Guesses about what Qiniu tells of CDN domains, tried on the list and on one domain's detail
(docs/facts/qiniu.md §5, §10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from certferry.adapters.clients.qiniu_domains import NOT_SERVED_BY_ITSELF, SWITCHED_OFF
from certferry.adapters.clients.qiniu_trial_calls import (
    QiniuReader,
    Question,
    Seen,
    fields_of,
    is_word,
    told_of,
)
from certferry.adapters.clients.qiniu_ways import CallGroup
from certferry.core.trial import Judged
from certferry.text import Text

ALL = "/domain?marker=&limit=1000"
DOMAINS = Question("/domain", ALL, field="domains")
NONSENSE = Question("/domain/no-domain.invalid/no-call")
NO_ID = "0" * 24  # spelled as the id of a certificate that does not exist

KNOWN_STATES = SWITCHED_OFF | {"success", "processing", "failed", "waitCNAME"}
ITEM_FIELDS = (
    "name",
    "type",
    "cname",
    "protocol",
    "product",
    "platform",
    "operatingState",
    "operatingStateDesc",
    "operationType",
    "couldOperateBySelf",
    "uidIsFreezed",
    "freezeType",
    "pareDomain",
    "operTaskId",
    "operTaskType",
    "operTaskErrCode",
)
"""Of a domain in the list (§5.1)."""
DETAIL_FIELDS = (*ITEM_FIELDS, "ipTypes", "https")
HTTPS_FIELDS = ("certId", "forceHttps", "http2Enable", "freeCert")
MAY_BE_THERE = {"testURLPath", "geoCover", "createAt", "modifyAt", "httpsOPTime", "tlsVersions"}
"""Known of as well, and not in every answer (§5.1, §5.2)."""

_NO_DOMAIN = Text("the account shows no domain with HTTPS")


def listed_domains(reader: QiniuReader) -> Seen:
    """Return the first page of the list, by the way that works for it."""
    return reader.first_success(CallGroup.DOMAINS, DOMAINS)


def first_scheme(reader: QiniuReader) -> Judged:
    """Judge whether `/domain` is answered by the way that is tried first."""
    by_way = reader.ask_by_all_ways(CallGroup.DOMAINS, DOMAINS)
    return by_way[0].is_answered, told_of(by_way)


def nonsense(reader: QiniuReader) -> Judged:
    """Judge whether a path that is no call answers 401 (1.12), by the way that works for the list,
    so that it is not the scheme which is refused.
    """
    seen = reader.ask(NONSENSE, listed_domains(reader).way)
    is_refused = seen.status is not None and seen.status >= HTTPStatus.BAD_REQUEST
    return seen.status == HTTPStatus.UNAUTHORIZED if is_refused else None, (seen.told,)


def settings(reader: QiniuReader) -> Judged:
    """Judge whether a domain's redirect and HTTP/2 are shown (1.6)."""
    detail, https = _https(reader)
    if detail is None:
        return None, (_NO_DOMAIN,)
    if https is None:
        return None, (detail.told,)
    shown = [name for name in fields_of(https) if https[name] is not None]
    fields = Text("`https` shows {fields}", fields=shown) if shown else Text("`https` is hidden")
    return {"forceHttps", "http2Enable"} <= set(shown), (detail.told, fields)


def versions(reader: QiniuReader) -> Judged:
    """Judge whether TLS versions are an array (1.11), where they are shown at all."""
    found = (_https(reader)[1] or {}).get("tlsVersions")
    if isinstance(found, list):
        return True, (Text("`tlsVersions` is shown as an array"),)
    if isinstance(found, str):
        return False, (Text("`tlsVersions` is shown as a string"),)
    return None, (Text("`tlsVersions` is not shown"),)


def certificate_filter(reader: QiniuReader) -> Judged:
    """Judge whether `certId` filters the list (1.13)."""
    listed = listed_domains(reader)
    if not listed.items:
        return None, (listed.told,)
    unknown = reader.ask(_with_certificate(NO_ID), listed.way)
    cert_id = (_https(reader)[1] or {}).get("certId")
    if not isinstance(cert_id, str) or not cert_id:
        return _filters(listed, unknown, None), told_of([listed, unknown])
    bound = reader.ask(_with_certificate(cert_id), listed.way)
    return _filters(listed, unknown, bound), told_of([listed, unknown, bound])


def fields(reader: QiniuReader) -> Judged:
    """Judge whether a domain has the fields that are known of (1.14)."""
    listed, detail = listed_domains(reader), _detail(reader)
    if detail is None:
        return None, (listed.told,)
    compared: list[tuple[Text, dict[str, Any], Sequence[str]]]
    compared = [(Text("an item of the list"), listed.objects[0], ITEM_FIELDS)]
    content, (_, https) = detail.content, _https(reader)
    if isinstance(content, dict):
        compared.append((Text("the detail"), content, DETAIL_FIELDS))
    if https:
        compared.append((Text("`https`"), https, HTTPS_FIELDS))
    told = [line for one in compared for line in _compared(*one)]
    is_complete = all(set(expected) <= set(fields_of(found)) for _, found, expected in compared)
    has_all = True if isinstance(content, dict) else None
    return has_all if is_complete else False, (detail.told, *told)


def states(reader: QiniuReader) -> Judged:
    """Judge whether certferry knows the state of every domain (1.17)."""
    listed = listed_domains(reader)
    found = {item.get("operatingState") for item in listed.objects}
    words = sorted(word for word in found if isinstance(word, str) and is_word(word))
    if not words:
        return None, (listed.told,)
    unknown = [word for word in words if word not in KNOWN_STATES]
    seen = (Text("states: {words}", words=words),)
    return not unknown, (*seen, Text("unknown: {words}", words=unknown)) if unknown else seen


def _shown_item(reader: QiniuReader) -> dict[str, Any] | None:
    """Return a domain of the list: with HTTPS if there is one, the first otherwise."""
    items = [
        item
        for item in listed_domains(reader).objects
        if item.get("type") not in NOT_SERVED_BY_ITSELF and isinstance(item.get("name"), str)
    ]
    with_https = (item for item in items if item.get("protocol") == "https")
    return next(with_https, items[0] if items else None)


def _detail(reader: QiniuReader) -> Seen | None:
    item = _shown_item(reader)
    if item is None:
        return None
    name = str(item["name"])
    question = Question("/domain/DOMAIN", f"/domain/{quote(name, safe='')}", names=(name,))
    return reader.ask(question, listed_domains(reader).way)


def _https(reader: QiniuReader) -> tuple[Seen | None, dict[str, Any] | None]:
    """Return the detail of a domain that speaks HTTPS, and what it shows of that."""
    item, detail = _shown_item(reader), _detail(reader)
    if item is None or detail is None or item.get("protocol") != "https":
        return None, None
    content = detail.content
    if not isinstance(content, dict):
        return detail, None
    https = content.get("https")
    return detail, https if isinstance(https, dict) else {}


def _with_certificate(cert_id: str) -> Question:
    told = f"/domain?certId={'NO-ID' if cert_id == NO_ID else 'ID'}"
    return Question(told, f"{ALL}&certId={quote(cert_id, safe='')}", "domains", (cert_id,))


def _filters(listed: Seen, unknown: Seen, bound: Seen | None) -> bool | None:
    """Judge by the numbers: none for an id that does not exist, some for one that a domain is bound
    to. All for the first is no filter.
    """
    if len(unknown.items) == len(listed.items):
        return False
    if bound is None or not bound.is_success:
        return None
    return (True if unknown.is_success else None) if bound.items else False


def _compared(what: Text, found: dict[str, Any], expected: Sequence[str]) -> Iterator[Text]:
    names = fields_of(found)
    lacks = [name for name in expected if name not in names]
    more = [name for name in names if name not in MAY_BE_THERE.union(expected)]
    if lacks:
        yield Text("{what} lacks {fields}", what=what, fields=lacks)
    if more:
        yield Text("{what} has {fields} as well", what=what, fields=more)
