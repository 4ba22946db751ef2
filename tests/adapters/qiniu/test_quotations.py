"""A private key that was sent to Qiniu once, and that Qiniu quotes in any later answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.records import TargetTask
from certferry.errors import CertferryError
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.certificates import make_key
from tests.adapters.qiniu.account import WWW, QiniuAccount, open_account
from tests.support.quotations import QUOTATIONS, body_of, parts_of
from tests.support.tiers import sampled

KEY = make_key().reveal()
HEX = "65f0c3a1b2d4e5f60718293a"
SOURCE, LIVE = "source.example.com", "live.example.com"
SCOPE = Scope("img", ("*.example.com",), None, Kind.AUTO, (), others=True, anew=True)
NAMED = Scope("img", ("*.example.com",), (WWW, SOURCE, LIVE), Kind.AUTO, ())

PIECES = {
    f"piece of {length} from {start}": lambda _, start=start, length=length: body_of(KEY)[
        start : start + length
    ]
    for length in (16, 24, 32, 60)
    for start in (0, 50, 90)
}
WAYS: dict[str, Callable[[str], str]] = {
    **QUOTATIONS,
    **PIECES,
    "a host": lambda _: f"{body_of(KEY)[:60]}.example.com",
    "hosts": lambda _: ".".join(body_of(KEY)[at : at + 30] for at in range(0, 120, 30)) + ".com",
}


def lists(quoted: str, name: str) -> dict[str, Any]:
    """Return answers for every list, with the quotation in every text that certferry reads."""
    return {
        "GET /domain": {"domains": [detail(quoted, name), detail(quoted, quoted)], "marker": ""},
        "GET /sslcert": {
            "certs": [
                {"certid": quoted, "name": "another", "dnsnames": [WWW]},
                {"certid": HEX, "name": quoted, "dnsnames": [quoted, WWW]},
                {"certid": HEX[::-1], "name": f"certferry-img-{quoted}", "dnsnames": None},
            ],
            "marker": "",
        },
        "GET /buckets": ["pictures", quoted],
        "GET /v3/domains": [
            {"domain": SOURCE, "domaintype": 1, "freeze_types": [quoted]},
            {"domain": quoted, "domaintype": 1},
        ],
        "GET /cert/bindings": [
            {"domain": SOURCE, "certid": quoted},
            {"domain": quoted, "certid": HEX},
        ],
        "GET /v2/hubs": {"items": [{"name": "studio"}, {"name": quoted}]},
        "GET /v2/hubs/*": {
            "domains": [
                {"domain": LIVE, "type": quoted, "certEnable": True, "certName": quoted},
                {"domain": quoted, "certName": HEX},
            ]
        },
    }


def detail(quoted: str, name: str) -> dict[str, Any]:
    """Return a domain whose values are the quotation, except name, state and protocol."""
    words = ("cname", "operationType", "operatingStateDesc", "operTaskId", "modifyAt")
    https = {"certId": quoted, "tlsVersions": [quoted, "TLSv1.3"], "http2Enable": True}
    return {
        "name": name,
        "operatingState": "failed",
        "protocol": "https",
        "https": https,
        quoted: quoted,
        **dict.fromkeys(words, quoted),
    }


class Output:
    """Everything that a target returns, raises, logs and stores."""

    def __init__(self, account: QiniuAccount, log: pytest.LogCaptureFixture) -> None:
        self.account = account
        self._log = log
        self._texts: list[str] = []

    def call(self, call: Callable[[Qiniu], object]) -> None:
        """Make a call as a new process would."""
        try:
            self._texts.append(repr(call(self.account.target())))
        except CertferryError as error:
            self._texts.append(f"{error} {error.hint}")

    def all_calls(self) -> None:
        for call in (
            lambda target: target.observe(SCOPE),
            lambda target: target.observe(NAMED),
            lambda target: target.survey(lambda *_: None),
            lambda target: target.examine("qiniu"),
            lambda target: target.cnames(),
            lambda target: target.report(),
            lambda target: target.bind(WWW, Kind.CDN, HEX, DesiredHttps()),
            lambda target: target.bind(SOURCE, KODO, HEX, DesiredHttps()),
            lambda target: target.bind(LIVE, PILI, HEX, DesiredHttps()),
            lambda target: target.retire(HEX, "another", unmanaged=True),
        ):
            self.call(call)

    def quoted_parts(self, quoted: str) -> list[str]:
        stored = self.account.memory._notes  # noqa: SLF001 - what the state has of the account
        # Libraries log their own requests, which certferry's logs leave out.
        messages = [
            record.getMessage()
            for record in self._log.records
            if record.name.startswith("certferry")
        ]
        all_texts = "\n".join([*self._texts, *messages, json.dumps(stored, ensure_ascii=False)])
        assert len(all_texts) > 1000
        return [
            part for part in {*parts_of(quoted.removesuffix(".example.com"))} if part in all_texts
        ]


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> Iterator[Output]:
    caplog.set_level(logging.DEBUG)
    with open_account() as account:
        account.service.add_domain(WWW)
        account.service.add_bucket_domain(SOURCE, "pictures")
        account.service.add_live_domain(LIVE, "studio")
        yield Output(account, caplog)


@pytest.mark.parametrize("way", sampled(sorted(WAYS)))
def test_refusals(way: str, output: Output) -> None:
    """Refusals of every call quote the key in the message and in the request's id."""
    quoted = WAYS[way](KEY)
    header = quoted.encode("ascii", "ignore").decode().replace("\n", "")
    body = json.dumps({"code": 400999, "error": quoted}).encode()
    for service in output.account.service.services:
        service.faults.add(Fault.status(400, body, headers=[("X-Reqid", header)]), times=None)

    output.all_calls()

    assert [] == output.quoted_parts(quoted)


@pytest.mark.parametrize(
    ("way", "state"), sampled([*product(sorted(WAYS), ["failed", "success", "processing", ""])], 13)
)
def test_lists_and_domains(way: str, state: str, output: Output) -> None:
    """Lists quote the key in states, tasks, ids, names and hosts: a value without its proper form
    is hidden.
    """
    quoted = WAYS[way](KEY)
    answers = lists(quoted, WWW) | {f"GET /domain/{WWW}": detail(quoted, WWW)}
    answers[f"GET /domain/{WWW}"]["operatingState"] = state or quoted
    for call, answer in answers.items():
        body = json.dumps(answer).encode()
        for service in output.account.service.services:
            service.faults.add(Fault.status(200, body), on=call, times=None)

    output.all_calls()

    assert [] == output.quoted_parts(quoted)


def test_useful_details_stay(output: Output) -> None:
    """Messages, request ids, tasks, states, and names of certificates and hosts stay visible."""
    service = output.account.service
    service.api.faults.add(
        Fault.status(400, b'{"code": 400999, "error": "the origin img.example.com is refused"}'),
        on="PUT *",
    )
    with pytest.raises(CertferryError, match=r"400999 the origin img\.example\.com is refused"):
        output.account.target().bind(WWW, Kind.CDN, HEX, DesiredHttps())
    record = {"name": WWW, "operatingState": "processing", "operationType": "modify_https_crt"}
    record |= {"operTaskId": HEX}
    service.api.faults.add(Fault.status(200, json.dumps(record).encode()), on=f"GET /domain/{WWW}")

    [domain] = output.account.target().observe(Scope("img", (WWW,), (WWW,), Kind.AUTO, ())).domains

    assert TargetTask("processing", "modify_https_crt", None, HEX) == domain.task
