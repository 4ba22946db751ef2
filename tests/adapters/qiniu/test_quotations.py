"""A private key that Qiniu was sent once, and quotes in any answer of any later run."""

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
    """Return answers of every list, with the quotation wherever certferry reads words."""
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
    """Return a domain of which every value but its name, and why it is shown, is a quotation."""
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


class Heard:
    """All that a target gives, raises, logs and stores."""

    def __init__(self, account: QiniuAccount, log: pytest.LogCaptureFixture) -> None:
        self.account = account
        self._log = log
        self._said: list[str] = []

    def call(self, call: Callable[[Qiniu], object]) -> None:
        """Make a call in a process of its own."""
        try:
            self._said.append(repr(call(self.account.target())))
        except CertferryError as error:
            self._said.append(f"{error} {error.hint}")

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

    def parts_that_left(self, quoted: str) -> list[str]:
        kept = self.account.memory._notes  # noqa: SLF001 - what the state has of the account
        # No log of certferry's takes what libraries say of their requests.
        ours = [one.getMessage() for one in self._log.records if one.name.startswith("certferry")]
        said = "\n".join([*self._said, *ours, json.dumps(kept, ensure_ascii=False)])
        assert len(said) > 1000
        return [part for part in {*parts_of(quoted.removesuffix(".example.com"))} if part in said]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    caplog.set_level(logging.DEBUG)
    with open_account() as account:
        account.service.add_domain(WWW)
        account.service.add_bucket_domain(SOURCE, "pictures")
        account.service.add_live_domain(LIVE, "studio")
        yield Heard(account, caplog)


@pytest.mark.parametrize("way", sampled(sorted(WAYS)))
def test_refusals(way: str, heard: Heard) -> None:
    """Of every call, by its words and by the id of the request."""
    quoted = WAYS[way](KEY)
    header = quoted.encode("ascii", "ignore").decode().replace("\n", "")
    body = json.dumps({"code": 400999, "error": quoted}).encode()
    for service in heard.account.service.services:
        service.faults.add(Fault.status(400, body, headers=[("X-Reqid", header)]), times=None)

    heard.all_calls()

    assert [] == heard.parts_that_left(quoted)


@pytest.mark.parametrize(
    ("way", "state"), sampled([*product(sorted(WAYS), ["failed", "success", "processing", ""])], 13)
)
def test_lists_and_domains(way: str, state: str, heard: Heard) -> None:
    """States, tasks, ids, names and hosts: whatever has not its form is not shown."""
    quoted = WAYS[way](KEY)
    answers = lists(quoted, WWW) | {f"GET /domain/{WWW}": detail(quoted, WWW)}
    answers[f"GET /domain/{WWW}"]["operatingState"] = state or quoted
    for call, answer in answers.items():
        body = json.dumps(answer).encode()
        for service in heard.account.service.services:
            service.faults.add(Fault.status(200, body), on=call, times=None)

    heard.all_calls()

    assert [] == heard.parts_that_left(quoted)


def test_what_an_operator_needs_stays(heard: Heard) -> None:
    """Words, the id of a request, a task, a state, and the names of certificates and hosts."""
    service = heard.account.service
    service.api.faults.add(
        Fault.status(400, b'{"code": 400999, "error": "the origin img.example.com is refused"}'),
        on="PUT *",
    )
    with pytest.raises(CertferryError, match=r"400999 the origin img\.example\.com is refused"):
        heard.account.target().bind(WWW, Kind.CDN, HEX, DesiredHttps())
    record = {"name": WWW, "operatingState": "processing", "operationType": "modify_https_crt"}
    record |= {"operTaskId": HEX}
    service.api.faults.add(Fault.status(200, json.dumps(record).encode()), on=f"GET /domain/{WWW}")

    [domain] = heard.account.target().observe(Scope("img", (WWW,), (WWW,), Kind.AUTO, ())).domains

    assert TargetTask("processing", "modify_https_crt", None, HEX) == domain.task
