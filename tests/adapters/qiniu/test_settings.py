"""TLS versions at Qiniu: whichever form its server takes, found out once, and told no drift."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from certferry.adapters.qiniu.account import LIST_AGE
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import ObservedDomain
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.drift import setting_changes
from certferry.errors import TargetRejected
from certferry.ports.target import Scope
from tests.adapters.qiniu.place import WWW, Place, refusal
from tests.sandbox import qiniu_calls

VERSIONS = ("TLSv1.2", "TLSv1.3")
WISH = DesiredHttps(force_https=True, http2=True, tls_versions=VERSIONS)


def seed(place: Place) -> str:
    """Have a certificate, and give its id."""
    return qiniu_calls.seed(place.service, [WWW])


def look(target: Qiniu, name: str = WWW) -> ObservedDomain:
    """Look at a domain."""
    [found] = target.observe(Scope("img", (name,), (name,), Kind.AUTO, ())).domains
    return found


def sent(place: Place) -> list[Any]:
    """Give the versions of every change that was asked for, as they were written."""
    bodies = (json.loads(request.body) for request in place.service.requests("PUT *"))
    return [body.get("tlsVersions") for body in bodies]


def test_a_server_that_wants_the_array(place: Place, target: Qiniu) -> None:
    """What the servers were seen to take is sent first, and that is all."""
    place.service.add_domain(WWW)

    target.bind(WWW, Kind.CDN, seed(place), WISH)

    assert [list(VERSIONS)] == sent(place)
    assert HttpsSettings(True, True, VERSIONS) == look(target).https  # noqa: FBT003 - as reported


@pytest.mark.parametrize("call", ["httpsconf", "sslize"])
def test_a_server_that_wants_the_string(call: str, place: Place, target: Qiniu) -> None:
    """Its complaint is understood, and the account is not asked with an array again."""
    place.service.domains.tls_versions = "string"
    place.service.add_domain(WWW, https=seed(place) if call == "httpsconf" else None)

    for _ in range(2):
        target.bind(WWW, Kind.CDN, seed(place), WISH)

    joined = ",".join(VERSIONS)
    assert [list(VERSIONS), joined, joined] == sent(place)
    assert call == place.service.requests("PUT *")[0].path.rpartition("/")[2]
    assert () == setting_changes(WISH, look(target))


def test_a_server_that_changes_its_mind(place: Place, target: Qiniu) -> None:
    """The other form is tried again, whichever it was."""
    place.service.add_domain(WWW)
    place.service.domains.tls_versions = "string"
    target.bind(WWW, Kind.CDN, seed(place), WISH)
    place.service.domains.tls_versions = "array"

    target.bind(WWW, Kind.CDN, seed(place), WISH)

    joined = ",".join(VERSIONS)
    assert [list(VERSIONS), joined, joined, list(VERSIONS)] == sent(place)


def test_a_complaint_about_something_else(place: Place, target: Qiniu) -> None:
    """It is not answered with another form: another field, no versions, or no complaint of Go's."""
    place.service.add_domain(WWW)
    cert_id = seed(place)
    about_a_flag = "json: cannot unmarshal string into Go struct field SslizeArgs.forceHttps"
    about_versions = "json: cannot unmarshal array into Go struct field SslizeArgs.tlsVersions"
    wishes = [
        (about_a_flag, WISH),
        (about_versions, DesiredHttps()),
        ("invalid tlsVersions", WISH),
    ]

    for words, wish in wishes:
        place.service.api.faults.add(refusal(400, 400000, words), on="PUT *")
        with pytest.raises(TargetRejected, match=r"400000"):
            target.bind(WWW, Kind.CDN, cert_id, wish)

    assert 3 == len(sent(place))


def test_a_server_that_takes_neither_form(place: Place, target: Qiniu) -> None:
    """It is told what the second answer was, and the array stays what is sent first."""
    place.service.add_domain(WWW)
    words = "json: cannot unmarshal value into Go struct field SslizeArgs.tlsVersions"
    place.service.api.faults.add(refusal(400, 400000, words), on="PUT *", times=2)

    with pytest.raises(TargetRejected, match="unmarshal"):
        target.bind(WWW, Kind.CDN, seed(place), WISH)
    target.bind(WWW, Kind.CDN, seed(place), WISH)

    assert [list(VERSIONS), ",".join(VERSIONS), list(VERSIONS)] == sent(place)


def test_versions_that_are_never_told(place: Place, target: Qiniu) -> None:
    """They are sent with every change, and differ for who does not remember that."""
    place.service.domains.tls_versions = "untold"
    place.service.add_domain(WWW)

    target.bind(WWW, Kind.CDN, seed(place), WISH)

    assert [list(VERSIONS)] == sent(place)
    found = look(target)
    assert None is found.https.tls_versions
    record = RolloutRecord("img", "qiniu", WWW, "3f", datetime.now(UTC), sent=WISH)
    assert () == setting_changes(WISH, replace(found, last=record))
    [change] = setting_changes(WISH, found)
    assert ("tls_versions", "unknown") == (change.what, change.was)


def test_versions_that_are_told_once_they_are_set(place: Place, target: Qiniu) -> None:
    """Before, they are unknown; set by another change, they are as wished; changed, they drift."""
    cert_id = seed(place)
    place.service.add_domain(WWW, https=cert_id)
    assert {"force_https": "false", "http2": "false", "tls_versions": "unknown"} == {
        change.what: change.was for change in setting_changes(WISH, look(target))
    }

    target.bind(WWW, Kind.CDN, cert_id, WISH)
    assert () == setting_changes(WISH, look(target))

    qiniu_calls.Client(place.service).httpsconf(
        WWW, cert_id, forceHttps=True, http2Enable=True, tlsVersions=["TLSv1.0"]
    )
    place.time.pause(LIST_AGE)
    [change] = setting_changes(WISH, look(target))
    assert ("tls_versions", "TLSv1.0", "TLSv1.2, TLSv1.3") == (
        change.what,
        change.was,
        change.becomes,
    )
