"""What an issue about Qiniu needs: how an account's reading calls are answered, by the client that
runs use, and what that shows of the guesses (docs/facts/qiniu.md §10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar

from certferry.adapters.http.client import journal
from certferry.adapters.http.journal import judged, reported, shown_host
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import QiniuFailure
from certferry.adapters.qiniu.records import NOT_SERVED_BY_ITSELF, SWITCHED_OFF
from certferry.adapters.qiniu.wire import CallGroup, endpoints_of
from certferry.core.network import WANTED
from certferry.ports.examination import AccountReport
from certferry.text import Text

PUBLIC = frozenset(
    {"QBox", "Qiniu", "domain", "domains", "sslcert", "buckets", "cert", "bindings", "v2", "v3"}
    | {"hubs", "marker", "limit", "tbl", "bucket", "type", "api.qiniu.com", "api.qiniuapi.com"}
    | {f"{name}.qiniuapi.com" for name in ("fusion", "uc", "kodo-config", "pili")}
)
KNOWN_STATES = SWITCHED_OFF | {"success", "processing", "failed", "waitCNAME"}
GATE = timedelta(days=30).total_seconds()  # less than this is said to be refused (§4.6)
FIRST_ENDPOINTS = (
    ("1.2", CallGroup.DOMAINS, "/domain"),
    ("1.2", CallGroup.CERTIFICATES, "/sslcert"),
    ("6.3", CallGroup.BINDINGS, "/cert/bindings"),
    ("7", CallGroup.LIVE, "/v2/hubs"),
)
T = TypeVar("T")


def report_of(client: QiniuClient) -> AccountReport:
    """See `ports.examination.Reporting.report`."""
    with journal() as made:
        shown = tuple(_asked(client))
    lines = (*shown, *reported(made, PUBLIC))
    return AccountReport("Qiniu", lines, credentials_work=bool(client.transport.proven))


def _asked(client: QiniuClient) -> Iterator[Text]:
    """Make one reading call of each group, as long as Qiniu answers and takes the keys."""
    try:
        ahead = client.transport.clock_ahead()
    except QiniuFailure:
        return
    # The answer's Date is cut to the second, so less than one says nothing.
    right = None if ahead is None else abs(ahead) <= WANTED + timedelta(seconds=1)
    yield judged("2.3", Text("this machine's clock is right, to 30 seconds"), right)
    domains = _unless_refused(client.list_domains) or []
    certificates = _unless_refused(client.list_certificates) or []
    buckets = _unless_refused(client.list_buckets) or []
    if not client.transport.proven:
        return
    served = [one for one in domains if one.type not in NOT_SERVED_BY_ITSELF]
    served.sort(key=lambda one: one.protocol != "https")
    details = [_unless_refused(partial(client.read_domain, one.name)) for one in served[:1]]
    for bucket in buckets[:1]:
        _unless_refused(partial(client.list_bucket_domains, bucket))
    _unless_refused(client.list_bindings)
    if client.pili.is_there:
        _unless_refused(client.pili.list_hubs)
    yield from _first_endpoints(client)
    known = all(str(one.operating_state) in KNOWN_STATES for one in domains) if domains else None
    yield judged("5.1", Text("certferry knows the state of every domain"), known)
    https = [one.https for one in details if one and one.https and one.https.cert_id]
    flags = [flag for one in https for flag in (one.force_https, one.http2_enable)]
    said = Text("the detail of a domain with HTTPS shows its redirect and its HTTP/2")
    yield judged("5.3", said, None not in flags if flags else None)
    lives = [c.not_after - c.create_time for c in certificates if c.not_after and c.create_time]
    said = Text("a certificate with less than 30 days left is refused")
    yield judged("4.6", said, False if any(0 < life < GATE for life in lives) else None)


def _first_endpoints(client: QiniuClient) -> Iterator[Text]:
    """Judge whether the endpoint that is tried first is the one that worked."""
    for section, group, call in FIRST_ENDPOINTS:
        proven = client.transport.proven.get(group)
        for endpoint in endpoints_of(client.transport.hosts)[group][:1]:
            said = Text(
                "{host} answers {call} under the {scheme} scheme",
                host=shown_host(endpoint.url, PUBLIC),
                call=call,
                scheme=str(endpoint.scheme),
            )
            yield judged(section, said, None if proven is None else proven == endpoint)


def _unless_refused(call: Callable[[], T]) -> T | None:
    with suppress(QiniuFailure):
        return call()
    return None
