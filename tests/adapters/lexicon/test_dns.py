"""The library lexicon at a real PowerDNS, and what may go wrong with it."""

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


class Deaf:
    """A service with PowerDNS's API that answers as it should, and does what a test says."""

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
    """Gandi's LiveDNS (api.gandi.net/docs/livedns, v5) with the sets of records at one name."""

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
        found = {"rrset_type": rtype, "rrset_name": "_acme-challenge.img", "rrset_ttl": 300}
        return Response.json({**found, "rrset_values": self.sets.get(rtype)})


class AtGandi(LexiconCalls):
    """The library's own provider, which cannot be given another address than Gandi's."""

    def __init__(self, url: str) -> None:
        super().__init__("gandi", {}, timedelta(seconds=20), RecordedPauses())
        self._url = url

    @contextmanager
    def opened(self, zone: str) -> Iterator[Any]:
        options = {"auth_token": "k" * 40, "api_protocol": "rest"}
        written = {"provider_name": "gandi", "domain": zone, "gandi": options}
        provider: Any = Provider(ConfigResolver().with_dict(written))  # type: ignore[no-untyped-call]  # lexicon types it not
        provider.api_endpoint = self._url
        provider.authenticate()
        yield provider


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    """A service that reports success and changes nothing."""
    deaf = Deaf((THEIRS,))
    with deaf.http:
        yield deaf


def test_zone_is_the_longest_that_the_provider_has(powerdns: PowerDns) -> None:
    """By authentication, as lexicon knows nothing else."""
    assert FoundZone(ZONE) == at(powerdns).zone_of(NAME)
    assert at(powerdns).zones() is None


@pytest.mark.parametrize("fault", [Fault.status(502, b"{}"), Fault.reset_before()])
def test_zone_above_is_not_taken_for_one_that_could_not_be_asked_for(
    deaf: Deaf, fault: Fault
) -> None:
    """The longer zone may be there, and no resolver would see what is put above it."""
    deaf.http.faults.add(fault, times=1)
    provider = at(deaf.http.url)

    with pytest.raises(DnsUnavailable, match=f"{NAME}.*powerdns"):
        provider.zone_of(NAME)
    assert FoundZone(ZONE) == provider.zone_of(NAME)


def test_zones_may_be_declared(powerdns: PowerDns) -> None:
    """For providers that authenticate for anything."""
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
    """Also where the service knows sets of records alone."""
    provider = at(powerdns)
    for value in (THEIRS, OURS):
        provider.add_txt(NAME, value)

    provider.remove_txt(NAME, OURS, OURS)

    assert [THEIRS] == powerdns.values(NAME)


def test_other_records_stay_where_an_id_is_that_of_a_name() -> None:
    """Gandi's is: by it, every record of the name would be removed, of whatever type."""
    gandi = Gandi(TXT=[f'"{THEIRS}"', f'"{OURS}"'], A=["192.0.2.1"])
    with gandi.http:
        provider = LexiconRecords(AtGandi(gandi.http.url), [ZONE], RecordedPauses())

        assert provider.remove_txt(NAME, OURS, OURS)
        assert {"TXT": [f'"{THEIRS}"'], "A": ["192.0.2.1"]} == gandi.sets

        assert provider.remove_txt(NAME, THEIRS, THEIRS)
        assert not provider.remove_txt(NAME, THEIRS, THEIRS)
        assert {"A": ["192.0.2.1"]} == gandi.sets


def test_record_that_was_silently_not_written_is_reported(deaf: Deaf) -> None:
    """The provider's list is asked, some times; another run looks for the record."""
    waits = RecordedPauses()

    with pytest.raises(
        DnsUnavailable, match=f"{NAME}.*powerdns.*does not list the record"
    ) as reported:
        at(deaf.http.url, pause=waits).add_txt(NAME, VALUE)

    assert "console" in str(reported.value.hint)
    assert 7 == waits.clock()


def test_record_that_was_silently_not_removed_is_reported(deaf: Deaf) -> None:
    """It is there still, and a later run is to remove it."""
    with pytest.raises(DnsUnavailable, match=f"{NAME}.*still lists the record"):
        at(deaf.http.url).remove_txt(NAME, THEIRS, None)


def test_record_that_is_there_is_not_written_again(deaf: Deaf) -> None:
    """Some services would have it twice."""
    at(deaf.http.url).add_txt(NAME, THEIRS)

    assert [] == deaf.http.writes()


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
def test_what_the_service_refuses_is_reported(
    deaf: Deaf, status: int, kind: type[DnsError], advice: str
) -> None:
    """With the provider and the status, and without the key."""
    deaf.http.faults.add(Fault.status(status, b"{}"), on="PATCH *")

    with pytest.raises(kind, match=f"{NAME}.*powerdns.*{status}") as reported:
        at(deaf.http.url, key="a-key-of-the-operator").add_txt(NAME, VALUE)

    assert advice in str(reported.value.hint)
    assert "a-key-of" not in f"{reported.value} {reported.value.hint}"


def test_answer_that_is_none_is_reported(deaf: Deaf) -> None:
    """Whatever the provider makes of it."""
    deaf.http.faults.add(Fault.html(200), times=None)

    with pytest.raises(DnsUnavailable, match=f"{NAME}.*powerdns"):
        at(deaf.http.url).add_txt(NAME, VALUE)


def test_provider_that_gives_no_answer_is_left_to_itself(deaf: Deaf) -> None:
    """Lexicon has no time-out of its own."""
    deaf.http.faults.add(Fault.delay(60), times=None)

    with pytest.raises(DnsUnavailable, match=f"{NAME}.*does not answer") as reported:
        at(deaf.http.url, timeout=timedelta(seconds=0.2)).add_txt(NAME, VALUE)

    assert "`timeout`" in str(reported.value.hint)


def test_nothing_is_begun_beside_work_that_was_left_to_itself(deaf: Deaf) -> None:
    """Both would write a set of records whole; and at a service that is silent, each certificate
    would wait for as long.
    """
    gate = threading.Event()
    deaf.http.faults.add(Fault.held_until(gate), times=None)
    provider = at(deaf.http.url, timeout=timedelta(seconds=0.3))
    for _ in range(3):
        with pytest.raises(DnsUnavailable, match="does not answer"):
            provider.add_txt(NAME, THEIRS)
    assert len(deaf.http.requests("*")) <= 1  # none yet on a busy machine

    def is_there() -> bool:
        with suppress(DnsUnavailable):
            return THEIRS == provider.add_txt(NAME, THEIRS)
        return False

    gate.set()
    assert eventually(is_there)


def test_run_that_is_stopped_waits_for_no_answer(deaf: Deaf) -> None:
    """Nor does a call whose turn has not come."""
    stopped = threading.Event()

    def pause(_: float) -> None:
        if stopped.is_set():
            raise Interrupted("stopped")

    deaf.http.faults.add(Fault.delay(60), times=None)
    provider = at(deaf.http.url, pause=pause)
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


def test_library_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to run."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "lexicon"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lexicon", None)

    with pytest.raises(ConfigError, match=r"pip install .* requirements/lexicon\.txt"):
        connected("gandi", {})


@pytest.mark.parametrize("provider", ["", "nosuch", "../cloudflare", "gandi.evil"])
def test_provider_that_lexicon_does_not_know_is_reported(provider: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="knows no provider") as reported:
        connected(provider, {})

    assert "lexicon --help" in str(reported.value.hint)


def test_provider_that_needs_more_libraries_is_reported() -> None:
    """As lexicon itself would say."""
    with pytest.raises(DnsRejected, match="more libraries") as reported:
        connected("localzone", {}).add_txt(NAME, VALUE)

    assert f"{sys.executable} -m pip install 'dns-lexicon[localzone]'" in str(reported.value.hint)


def test_request_without_an_answer_is_reported_without_its_address() -> None:
    """The library's words quote it, and some services have the key in it."""
    with nothing_listens() as port, pytest.raises(DnsUnavailable) as reported:
        at(f"http://127.0.0.1:{port}/planted-in-the-path", zones=(ZONE,)).add_txt(NAME, VALUE)

    assert "cannot connect to 127.0.0.1: " in str(reported.value)
    assert "planted" not in str(reported.value)


def test_plain_http_to_another_machine_is_refused() -> None:
    """No connection is made: the key would be read on its way."""
    with pytest.raises(ConfigError, match="`pdns_server` must begin with https://"):
        at("http://nowhere.invalid:1", zones=(ZONE,))


def test_run_that_lost_its_lease_writes_nothing(deaf: Deaf) -> None:
    """The lease is asked for again between reading and each change."""
    with holding(store(1), Lease("img", "web-1", 1)), pytest.raises(LeaseLost):
        at(deaf.http.url, zones=(ZONE,)).add_txt(NAME, VALUE)
    with holding(store(1), Lease("img", "web-1", 1)), pytest.raises(LeaseLost):
        at(deaf.http.url, zones=(ZONE,)).remove_txt(NAME, THEIRS, None)

    assert deaf.http.requests("*")
    assert [] == deaf.http.writes()


def test_old_api_of_gandi_is_not_used() -> None:
    """It is the usual one of the library, and is not spoken with `requests`."""
    with pytest.raises(ConfigError, match=r'old API .* write api_protocol = "rest"'):
        connected("gandi", {"auth_token": Secret("k" * 40)})


def test_options_that_are_missing_are_reported(powerdns: PowerDns) -> None:
    """In the provider's words."""
    provider = connected("powerdns", {"pdns_server": powerdns.url})

    with pytest.raises(DnsError, match="auth_token"):
        provider.add_txt(NAME, VALUE)


@pytest.mark.parametrize(
    ("said", "expected"),
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
def test_words_distinguish_a_zone_that_is_missing_from_keys_that_are_refused(
    said: str, *, expected: bool
) -> None:
    """Lexicon raises one and the same for both."""
    from lexicon.exceptions import AuthenticationError

    raised = AuthenticationError(said)

    assert expected == is_no_zone(raised)
    assert isinstance(LexiconErrors("gandi", []).of(raised, NAME), DnsAccessDenied)


def test_error_of_a_request_without_an_answer_may_pass() -> None:
    """Nothing is known of what became of it."""
    reported = LexiconErrors("gandi", []).of(requests.HTTPError("broken"), NAME)

    assert isinstance(reported, DnsUnavailable)


class Listed:
    def __init__(self, *records: dict[str, str]) -> None:
        self._records = records

    def list_records(self, rtype: str, name: str) -> list[dict[str, str]]:
        """Return them, or raise as some do where there are none."""
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
def test_record_is_known_however_its_name_is_written(
    record: dict[str, str], *, expected: bool
) -> None:
    """Absolute or relative, with a dot at its end, its value in quotes; an empty list may be a
    `KeyError`.
    """
    listed = Listed(record) if record else Listed()

    assert expected == bool(list(records_of(listed, ZONE, NAME, VALUE)))
