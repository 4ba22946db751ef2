"""The examination of an account at Tencent Cloud for `doctor`: the rights of the key, and the
answers to reading calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from certferry.adapters.cdn.failure import attempt
from certferry.adapters.http.exchange import journal
from certferry.adapters.http.journal import judged, reported
from certferry.adapters.tencentcloud.cdn import KNOWN_STATES
from certferry.adapters.tencentcloud.errors import TencentFailure
from certferry.adapters.tencentcloud.tc3 import action_of, code_of
from certferry.adapters.tencentcloud.tencent_client import CDN, SSL, TEO, Call, TencentClient
from certferry.ports.examination import AccountReport
from certferry.text import Text

PUBLIC = frozenset(
    {
        *(f"{api}.{site}tencentcloudapi.com" for api in (CDN, SSL, TEO) for site in ("", "intl.")),
        "DescribeDomainsConfig",
        "DescribeZones",
        "DescribeAccelerationDomains",
        "DescribeCertificates",
    }
)
"""The hosts and actions that a report may show."""


def _code_of(body: Mapping[str, Any]) -> str:
    return TencentFailure.shown_code(code_of(body))


def report_of(client: TencentClient) -> AccountReport:
    """See `ports.examination.Reporting.report`. The report also judges guesses
    (docs/facts/tencentcloud.md §6).
    """
    with journal() as made:
        shown = tuple(_asked(client))
    lines = (*shown, *reported(made, PUBLIC, action_of=action_of, code_of=_code_of))
    return AccountReport("Tencent Cloud", lines, credentials_work=bool(client.proven))


def _asked(client: TencentClient) -> Iterator[Text]:
    """Make the reading calls, and yield judgements on guesses
    (docs/facts/tencentcloud.md §6).
    """

    def first(service: str, action: str, key: str, **params: object) -> list[dict[str, object]]:
        call = Call(service, action, Text("the report"))
        body = attempt(partial(client.call, call, dict[str, object], **params), TencentFailure)
        listed = {} if isinstance(body, TencentFailure) else body
        content = listed.get(key)
        return (
            [item for item in content if isinstance(item, dict)]
            if isinstance(content, list)
            else []
        )

    domains = first(CDN, "DescribeDomainsConfig", "Domains", Limit=20)
    zones = first(TEO, "DescribeZones", "Zones", Limit=20)
    for zone in zones[:1]:
        first(TEO, "DescribeAccelerationDomains", "AccelerationDomains", ZoneId=zone.get("ZoneId"))
    stored = first(SSL, "DescribeCertificates", "Certificates", Limit=20)
    guess = Text("the list of certificates omits fingerprints and serials")
    proofs = {"fingerprint", "serial"}
    keys = {key.lower() for item in stored for key in item}
    has_proof = any(word in key for key in keys for word in proofs)
    yield judged("6.1", guess, not has_proof if stored else None)
    guess = Text("the list of certificates shows the kind of each key")
    yield judged(
        "6.3", guess, all(item.get("EncryptAlgorithm") for item in stored) if stored else None
    )
    guess = Text("certferry knows the state of every domain")
    is_sure = all(str(domain.get("Status")) in KNOWN_STATES for domain in domains)
    yield judged("6.4", guess, is_sure if domains else None)
