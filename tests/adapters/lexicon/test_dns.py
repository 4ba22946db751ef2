"""The library lexicon at a real PowerDNS, and failures of services behind lexicon."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
import requests
from lexicon._private.providers.gandi import Provider
from lexicon.config import ConfigResolver

from certferry.adapters.lexicon.dns import (
    LexiconCalls,
    LexiconErrors,
    LexiconRecords,
    is_no_zone,
    records_of,
)
from certferry.core.discovery.inventory import FoundZone
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Interrupted,
    LeaseLost,
    ZoneNotFound,
)
from certferry.ports.state import Lease, holding
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.testing.contracts.dns import OURS, THEIRS, VALUE
from tests.adapters.lexicon.account import at, connected
from tests.adapters.notify.channels import nothing_listens
from tests.adapters.recorded_pauses import RecordedPauses
from tests.adapters.test_lost_lease import store
from tests.support.powerdns import PowerDns
from tests.support.waiting import eventually

NAME = "_acme-challenge.img.example.com"
ZONE = "example.com"


class Unchanging:
    """A service with PowerDNS's API that accepts every change and keeps its first values."""

    def __init__(self, values: tuple[str, ...] = ()) -> None:
        self.values = values
        self.http = HttpService(self._answer)

    def _answer(self, request: Request) -> Response:
        if not request.path.endswith(f"/zones/{ZONE}."):
            return Response.json({"error": "Not Found"}, 404)
        if request.method == "PATCH":
            return Response(204, b"")
        records = [{"content": f'"{value}"', "disabled": False} for value in self.values]
        rrset = {"name": f"{NAME}.", "type": "TXT", "ttl": 60, "records": records}
        return Response.json({"kind": "Native", "rrsets": [rrset]})


class Gandi:
    """Gandi's LiveDNS (api.gandi.net/docs/livedns, v5), with the record sets of a single name."""

    def __init__(self, **sets: list[str]) -> None:
        self.sets = sets
        self.http = HttpService(self._answer)

    def _answer(self, request: Request) -> Response:
        _, _, at = request.path.partition(f"/domains/{ZONE}")
        _, _, rtype = at.removeprefix("/records/").partition("/")
        if at and rtype not in self.sets and request.method != "DELETE":
            return Response.json({"message": "Not Found"}, 404)
        if request.method == "DELETE":
            self.sets = {k: v for k, v in self.sets.items() if rtype and k != rtype}
            return Response(204, b"")
        if request.method == "PUT":
            self.sets[rtype] = [f'"{v}"' for v in json.loads(request.body)["rrset_values"]]
        rrset = {"rrset_type": rtype, "rrset_name": "_acme-challenge.img", "rrset_ttl": 300}
        return Response.json({**rrset, "rrset_values": self.sets.get(rtype)})


class AtGandi(LexiconCalls):
    """The library's own provider for Gandi, with another address in place of the fixed one."""

    def __init__(self, url: str) -> None:
        super().__init__("gandi", {}, timedelta(seconds=20), RecordedPauses())
        self._url = url

    @contextmanager
    def opened(self, zone: str) -> Iterator[Any]:
        options = {"auth_token": "k" * 40, "api_protocol": "rest"}
        config = {"provider_name": "gandi", "domain": zone, "gandi": options}
        provider: Any = Provider(ConfigResolver().with_dict(config))  # type: ignore[no-untyped-call]  # lexicon has no types here
        provider.api_endpoint = self._url
        provider.authenticate()
        yield provider


@pytest.fixture
def unchanging() -> Iterator[Unchanging]:
    """A service that reports success and changes nothing."""
    unchanging = Unchanging((THEIRS,))
    with unchanging.http:
        yield unchanging


def test_zone_is_the_longest_at_the_provider(powerdns: PowerDns) -> None:
    """The zone is found by authentication, because lexicon has no call for a list of zones."""
    assert FoundZone(ZONE) == at(powerdns).zone_of(NAME)
    assert at(powerdns).zones() is None


@pytest.mark.parametrize("fault", [Fault.status(502, b"{}"), Fault.reset_before()])
def test_failed_request_for_a_longer_zone_is_an_error(unchanging: Unchanging, fault: Fault) -> None:
    """The longer zone may exist, and resolvers would never see a record in the parent zone."""
    unchanging.http.faults.add(fault, times=1)
    provider = at(unchanging.http.url)

    with pytest.raises(DnsUnavailable, match=f"{NAME}.*powerdns"):
        provider.zone_of(NAME)
    assert FoundZone(ZONE) == provider.zone_of(NAME)


def test_zones_may_be_declared(powerdns: PowerDns) -> None:
    """Some providers authenticate for any zone, so the operator declares the zones."""
    provider = at(powerdns, zones=("Example.com.", "example.org"))

    assert (FoundZone(ZONE), FoundZone("example.org")) == provider.zones()
    assert FoundZone(ZONE) == provider.zone_of(NAME)
    with pytest.raises(ZoneNotFound, match=r"example\.net"):
        provider.add_txt("_acme-challenge.example.net", VALUE)
    chinese = at(powerdns, zones=("例子.中国",))
    assert FoundZone("xn--fsqu00a.xn--fiqs8s") == chinese.zone_of(
        "_acme-challenge.img.xn--fsqu00a.xn--fiqs8s"
    )


def test_other_values_stay(powerdns: PowerDns) -> None:
    """Other values at the name stay, although the service only knows whole record sets."""
    provider = at(powerdns)
    for value in (THEIRS, OURS):
        provider.add_txt(NAME, value)

    provider.remove_txt(NAME, OURS, OURS)

    assert [THEIRS] == powerdns.values(NAME)


def test_other_records_stay_at_a_service_with_ids_of_names() -> None:
    """A removal by Gandi's id would remove every record of the name, of any type."""
    gandi = Gandi(TXT=[f'"{THEIRS}"', f'"{OURS}"'], A=["192.0.2.1"])
    with gandi.http:
        provider = LexiconRecords(AtGandi(gandi.http.url), [ZONE], RecordedPauses())

        assert provider.remove_txt(NAME, OURS, OURS)
        assert {"TXT": [f'"{THEIRS}"'], "A": ["192.0.2.1"]} == gandi.sets

        assert provider.remove_txt(NAME, THEIRS, THEIRS)
        assert not provider.remove_txt(NAME, THEIRS, THEIRS)
        assert {"A": ["192.0.2.1"]} == gandi.sets


def test_missing_record_is_reported(unchanging: Unchanging) -> None:
    """The provider's list is read several times; another run searches for the record again."""
    waits = RecordedPauses()

    with pytest.raises(
        DnsUnavailable, match=f"{NAME}.*powerdns.*does not list the record"
    ) as reported:
        at(unchanging.http.url, pause=waits).add_txt(NAME, VALUE)

    assert "console" in str(reported.value.hint)
    assert 7 == waits.clock()


def test_remaining_record_is_reported(unchanging: Unchanging) -> None:
    """A later run has to remove the record."""
    with pytest.raises(DnsUnavailable, match=f"{NAME}.*still lists the record"):
        at(unchanging.http.url).remove_txt(NAME, THEIRS, None)


def test_existing_record_is_not_written_again(unchanging: Unchanging) -> None:
    """Some services would store the record twice."""
    at(unchanging.http.url).add_txt(NAME, THEIRS)

    assert [] == unchanging.http.writes()


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, DnsAccessDenied, "lexicon powerdns --help"),
        (403, DnsAccessDenied, "lexicon powerdns --help"),
        (422, DnsRejected, "lexicon powerdns --help"),
        (429, DnsUnavailable, "a few minutes"),
        (502, DnsUnavailable, "a few minutes"),
    ],
)
def test_refusal_is_reported(
    unchanging: Unchanging, status: int, kind: type[DnsError], advice: str
) -> None:
    """The error has the provider and the status, and hides the key."""
    unchanging.http.faults.add(Fault.status(status, b"{}"), on="PATCH *")

    with pytest.raises(kind, match=f"{NAME}.*powerdns.*{status}") as reported:
        at(unchanging.http.url, key="a-key-of-the-operator").add_txt(NAME, VALUE)

    assert advice in str(reported.value.hint)
    assert "a-key-of" not in f"{reported.value} {reported.value.hint}"


def test_web_page_instead_of_an_answer(unchanging: Unchanging) -> None:
    """The error is temporary, whatever exception lexicon raises."""
    unchanging.http.faults.add(Fault.html(200), times=None)

    with pytest.raises(DnsUnavailable, match=f"{NAME}.*powerdns"):
        at(unchanging.http.url).add_txt(NAME, VALUE)


def test_silent_provider_is_left_behind(unchanging: Unchanging) -> None:
    """Lexicon has no timeout of its own."""
    unchanging.http.faults.add(Fault.delay(60), times=None)

    with pytest.raises(DnsUnavailable, match=f"{NAME}.*does not answer") as reported:
        at(unchanging.http.url, timeout=timedelta(seconds=0.2)).add_txt(NAME, VALUE)

    assert "`timeout`" in str(reported.value.hint)


def test_calls_wait_for_a_call_that_was_left_behind(unchanging: Unchanging) -> None:
    """Two simultaneous calls would each write a whole record set, and with a silent service every
    certificate would wait as long.
    """
    gate = threading.Event()
    unchanging.http.faults.add(Fault.held_until(gate), times=None)
    provider = at(unchanging.http.url, timeout=timedelta(seconds=0.3))
    for _ in range(3):
        with pytest.raises(DnsUnavailable, match="does not answer"):
            provider.add_txt(NAME, THEIRS)
    assert len(unchanging.http.requests("*")) <= 1  # possibly none yet, on a busy machine

    def is_there() -> bool:
        with suppress(DnsUnavailable):
            return THEIRS == provider.add_txt(NAME, THEIRS)
        return False

    gate.set()
    assert eventually(is_there)


def test_stopped_run_ends_a_wait_for_lexicon(unchanging: Unchanging) -> None:
    """The stop ends a running call, and a call that waits for its turn."""
    stopped = threading.Event()

    def pause(_: float) -> None:
        if stopped.is_set():
            raise Interrupted("stopped")

    unchanging.http.faults.add(Fault.delay(60), times=None)
    provider = at(unchanging.http.url, pause=pause)
    ended: list[str] = []

    def call(value: str) -> None:
        try:
            provider.add_txt(NAME, value)
        except Interrupted:
            ended.append(value)

    threads = [threading.Thread(target=call, args=(value,)) for value in (OURS, VALUE)]
    for thread in threads:
        thread.start()
    stopped.set()
    for thread in threads:
        thread.join(20)

    assert {OURS, VALUE} == set(ended)


def test_missing_library_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command for the installation."""
    for name in [module for module in sys.modules if module.partition(".")[0] == "lexicon"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lexicon", None)

    with pytest.raises(ConfigError, match=r"pip install .* requirements/lexicon\.txt"):
        connected("gandi", {})


@pytest.mark.parametrize("provider", ["", "nosuch", "../cloudflare", "gandi.evil"])
def test_unknown_provider_is_reported(provider: str) -> None:
    """The error comes before the first request."""
    with pytest.raises(ConfigError, match="knows no provider") as reported:
        connected(provider, {})

    assert "lexicon --help" in str(reported.value.hint)


def test_provider_with_further_libraries_is_reported() -> None:
    """The hint has the command for the installation."""
    with pytest.raises(DnsRejected, match="more libraries") as reported:
        connected("localzone", {}).add_txt(NAME, VALUE)

    assert f"{sys.executable} -m pip install 'dns-lexicon[localzone]'" in str(reported.value.hint)


def test_error_hides_the_path_of_a_failed_request() -> None:
    """The library quotes the URL, which contains the key at some services."""
    with nothing_listens() as port, pytest.raises(DnsUnavailable) as reported:
        at(f"http://127.0.0.1:{port}/planted-in-the-path", zones=(ZONE,)).add_txt(NAME, VALUE)

    assert "cannot connect to 127.0.0.1: " in str(reported.value)
    assert "planted" not in str(reported.value)


def test_plain_http_to_another_host_is_refused() -> None:
    """The error comes before a connection, because others could read the key."""
    with pytest.raises(ConfigError, match="`pdns_server` must begin with https://"):
        at("http://nowhere.invalid:1", zones=(ZONE,))


def test_run_that_lost_its_lease_writes_nothing(unchanging: Unchanging) -> None:
    """The lease is checked between the read and each change."""
    with holding(store(1), Lease("img", "web-1", 1)), pytest.raises(LeaseLost):
        at(unchanging.http.url, zones=(ZONE,)).add_txt(NAME, VALUE)
    with holding(store(1), Lease("img", "web-1", 1)), pytest.raises(LeaseLost):
        at(unchanging.http.url, zones=(ZONE,)).remove_txt(NAME, THEIRS, None)

    assert unchanging.http.requests("*")
    assert [] == unchanging.http.writes()


def test_old_api_of_gandi_is_refused() -> None:
    """The old API is the library's default, and bypasses `requests`."""
    with pytest.raises(ConfigError, match=r'old API .* write api_protocol = "rest"'):
        connected("gandi", {"auth_token": Secret("k" * 40)})


def test_options_that_are_missing_are_reported(powerdns: PowerDns) -> None:
    """The error quotes the provider's own words."""
    provider = connected("powerdns", {"pdns_server": powerdns.url})

    with pytest.raises(DnsError, match="auth_token"):
        provider.add_txt(NAME, VALUE)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("No domain found", True),
        ("Domain example.com not found in account", True),
        ("No matching domain found", True),
        ("Requested domain is not among the owned domains", True),
        ("example.com domain does not exist", True),
        ("Incorrect API keys", False),
        ("Login failed", False),
        ("", False),
    ],
)
def test_message_distinguishes_a_missing_zone_from_refused_keys(
    message: str, *, expected: bool
) -> None:
    """Lexicon raises the same exception for a missing zone and for refused keys."""
    from lexicon.exceptions import AuthenticationError

    raised = AuthenticationError(message)

    assert expected == is_no_zone(raised)
    assert isinstance(LexiconErrors("gandi", []).of(raised, NAME), DnsAccessDenied)


def test_failed_request_is_temporary() -> None:
    """The fate of the request is unknown."""
    reported = LexiconErrors("gandi", []).of(requests.HTTPError("broken"), NAME)

    assert isinstance(reported, DnsUnavailable)


class Listed:
    def __init__(self, *records: dict[str, str]) -> None:
        self._records = records

    def list_records(self, rtype: str, name: str) -> list[dict[str, str]]:
        """Return the records, or raise `KeyError` for an empty list, as some providers do."""
        if not self._records:
            raise KeyError("records")
        return [record for record in self._records if rtype == record.get("type", "TXT")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"name": NAME, "content": VALUE}, True),
        ({"name": f"{NAME}.", "content": f'"{VALUE}"'}, True),
        ({"name": "_acme-challenge.img", "content": VALUE}, True),
        ({"name": NAME.upper(), "content": VALUE}, True),
        ({"name": "_acme-challenge", "content": VALUE}, False),
        ({"name": NAME, "content": OURS}, False),
        ({"name": NAME, "content": VALUE, "type": "SPF"}, False),
        ({}, False),
    ],
)
def test_record_is_recognised_in_every_form(record: dict[str, str], *, expected: bool) -> None:
    """The name is absolute or relative, with or without a final dot; the value may have quotes. An
    empty list may be a `KeyError`.
    """
    listed = Listed(record) if record else Listed()

    assert expected == bool(list(records_of(listed, ZONE, NAME, VALUE)))
