"""Answers of Qiniu that say something else: a wrong clock, other shapes, lists that are none."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from certferry.adapters.qiniu.records import KODO
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import (
    ClockWrong,
    TargetAccessDenied,
)
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.place import REQUEST_ID, WWW, Place, bundle, refusal
from tests.adapters.qiniu.test_production import (
    IMG,
    KEEP,
    SRC,
    bound,
    look,
    seed,
    the_domain,
)
from tests.sandbox import qiniu_calls

# --- the clock --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(hours=2), "this machine's clock is 2 hours ahead of Qiniu's"),
        (timedelta(minutes=-20), "this machine's clock is 20 minutes behind Qiniu's"),
    ],
)
def test_a_wrong_clock_is_told_before_the_keys(offset: timedelta, words: str, place: Place) -> None:
    """With how much, from the answer's Date; and what to do."""
    place.time.offset = offset

    with pytest.raises(ClockWrong, match=words) as caught:
        place.target().observe(look(WWW))

    assert "access_key" not in f"{caught.value} {caught.value.hint}"
    assert "timedatectl" in str(caught.value.hint)


def test_wrong_keys_with_a_right_clock_are_told_as_that(place: Place) -> None:
    """A second of difference explains nothing."""
    place.time.offset = timedelta(seconds=40)

    with pytest.raises(TargetAccessDenied, match="access_key and secret_key"):
        place.target(secret="wrong").observe(look(WWW))


# --- answers of another shape -----------------------------------------------------------------


SHAPES: dict[str, tuple[bytes, str, str]] = {
    "a list": (b"[]", "application/json", "got `array` - at `$`"),
    "a number as text": (b'{"name":"x","https":"1"}', "application/json", "at `$.https`"),
    "null": (b"null", "application/json", "got `null` - at `$`"),
    "html": (b"<html></html>", "text/html", "answered with a web page"),
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_an_answer_of_another_shape(shape: str, place: Place, target: Qiniu) -> None:
    """Told with the request's id and the path of the wrong value; the other domains go on."""
    body, content_type, words = SHAPES[shape]
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    fault = Fault.status(200, body, content_type, [("X-Reqid", REQUEST_ID)])
    place.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    broken, sound = target.observe(look(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (broken.state, sound.state)
    assert broken.problem is not None
    assert words in str(broken.problem)
    assert f"X-Reqid {REQUEST_ID}" in str(broken.problem.hint)


def test_a_number_that_is_written_as_text_is_a_number(place: Place, target: Qiniu) -> None:
    """Dates of certificates may come so, and mean the same."""
    made = bundle(WWW)
    cert_id = target.upload("img", made)
    [wire] = [stored.to_wire() for stored in place.service.certificates.stored()]
    wire |= {"not_after": str(wire["not_after"]), "not_before": str(wire["not_before"])}
    listed = json.dumps({"certs": [wire], "marker": ""}).encode()
    place.service.fusion.faults.add(Fault.status(200, listed), on="GET /sslcert", times=None)

    seen = place.target().observe(Scope("img", (WWW,), None, Kind.AUTO, (made.certificate,)))

    assert [cert_id] == [remote.remote_id for remote in seen.remotes]


# --- no single reading blocks the rest --------------------------------------------------------


def test_a_bucket_that_cannot_be_read(place: Place, target: Qiniu) -> None:
    """It hides its own domains; the others, and the CDN, go on, and it is told."""
    place.service.add_domain(IMG)
    place.service.add_bucket_domain(WWW, "broken")
    place.service.add_bucket_domain(SRC, "sound")
    fault = Fault.status(200, b'{"a":"list","was":"expected"}')
    place.service.uc.faults.add(fault, on="GET /v3/domains")

    seen = target.observe(look())

    assert {IMG, SRC} == {domain.domain for domain in seen.domains}
    [unread] = seen.unread
    assert "the domains of bucket broken" in str(unread)
    assert "set kind" in str(unread.hint)


def test_a_list_of_certificates_that_cannot_be_read(place: Place, target: Qiniu) -> None:
    """The domains are observed, the upload and the binding go on, and it is told."""
    bound(place)
    fault = Fault.status(200, b'["a", "list"]')
    place.service.fusion.faults.add(fault, on="GET /sslcert", times=None)

    seen = target.observe(look(WWW, known=[bundle(WWW).certificate]))
    new = target.upload("img", bundle(WWW))
    target.bind(WWW, Kind.CDN, new, KEEP)

    assert (DomainState.READY, True) == (seen.domains[0].state, seen.remotes_hidden)
    assert "the list of certificates cannot be read" in str(seen.unread[0])
    assert new == place.service.bound(WWW)


def test_a_list_of_domains_that_cannot_be_read(place: Place, target: Qiniu) -> None:
    """Named domains go on, CDN domains and source domains."""
    place.service.add_domain(IMG)
    place.service.add_bucket_domain(SRC, "pictures")
    place.service.api.faults.add(Fault.status(200, b"[]"), on="GET /domain", times=None)

    assert [IMG] == [d.domain for d in target.observe(look(IMG)).domains]
    seen = target.observe(look(SRC, kind=KODO))

    assert [(SRC, DomainState.READY)] == [(d.domain, d.state) for d in seen.domains]
    assert "the list of domains cannot be read" in str(seen.unread[0])


def test_buckets_that_cannot_be_listed(place: Place, target: Qiniu) -> None:
    """A domain that the file calls a source domain is bound as one."""
    place.service.add_bucket_domain(SRC, "pictures")
    place.service.uc.faults.add(refusal(403, None, "no"), on="GET /buckets", times=None)
    new = seed(place)

    [domain] = target.observe(look(SRC, kind=KODO)).domains
    target.bind(SRC, KODO, new, KEEP)

    assert (KODO, DomainState.READY, None) == (domain.kind, domain.state, domain.problem)
    assert new == place.service.bound_at_kodo(SRC)


def test_a_source_domain_is_known_by_its_binding(place: Place, target: Qiniu) -> None:
    """Without the buckets, the bindings say that it is one."""
    old = qiniu_calls.seed(place.service, [SRC])
    place.service.add_bucket_domain(SRC, "pictures", https=old)
    place.service.uc.faults.add(refusal(403, None, "no"), on="GET /buckets", times=None)

    found = the_domain(target, SRC)

    assert (KODO, old) == (found.kind, found.bound)
