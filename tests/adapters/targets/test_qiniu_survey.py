"""Everything that a Qiniu account serves, looked at before anything is declared."""

from __future__ import annotations

import json

import pytest

from certferry.adapters.clients.qiniu_kinds import KODO
from certferry.core.desired import Kind
from certferry.core.survey import FoundDomain
from certferry.errors import TargetAccessDenied, TargetUnavailable
from certferry.sandbox.faults import Fault
from certferry.sandbox.qiniu_kodo import DomainType
from tests.adapters.qiniu_place import Place, refusal
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY

IAM_KEY = "IAM-" + "k" * 40


def unseen(count: int, total: int) -> None:
    """Follow nothing."""
    del count, total


def found(place: Place) -> dict[str, FoundDomain]:
    """Survey, and give what was found by name."""
    return {domain.domain: domain for domain in place.target().survey(unseen).domains}


def test_each_domain_is_told_with_its_certificate(place: Place) -> None:
    """Whoever uploaded it, its end is known; a domain without HTTPS has none."""
    issued = qiniu_calls.issue("*.example.com")
    cert = place.service.add_certificate(issued, "by hand")
    place.service.add_domain("img.example.com", https=cert)
    place.service.add_domain(".w.example.com")
    place.service.add_bucket_domain("src.example.com", "pictures", https=cert)
    place.service.add_bucket_domain("img.example.com", "films", domain_type=DomainType.BOTH)

    domains = found(place)

    end = issued.leaf.not_valid_after_utc
    assert {
        "img.example.com": FoundDomain("img.example.com", Kind.CDN, has_https=True, not_after=end),
        "*.w.example.com": FoundDomain("*.w.example.com", Kind.CDN),
        "src.example.com": FoundDomain("src.example.com", KODO, has_https=True, not_after=end),
    } == domains
    assert [] == place.service.writes()


def test_domain_that_takes_no_certificate_says_why(place: Place) -> None:
    """Frozen, or a child of a wildcard domain, which follows its parent."""
    place.service.add_domain("ice.example.com", state="frozen")
    place.service.add_domain(".w.example.com")
    place.service.add_domain("a.w.example.com", type="pan", parent=".w.example.com")
    place.service.add_bucket_domain("src.example.com", "pictures", freeze_types=["icp"])

    domains = found(place)

    assert "is frozen at Qiniu" in str(domains["ice.example.com"].problem)
    assert domains["ice.example.com"].by_itself
    assert "takes its certificate from *.w.example.com" in str(domains["a.w.example.com"].problem)
    assert not domains["a.w.example.com"].by_itself
    assert "is frozen at Kodo" in str(domains["src.example.com"].problem)


def test_domain_that_vanishes_meanwhile_is_not_there(place: Place) -> None:
    """Removed between the list and the look, it is nobody's business."""
    place.service.add_domain("img.example.com")
    place.service.add_domain("gone.example.com")
    place.service.api.faults.add(refusal(404, 404001), on="GET /domain/gone.example.com")

    assert {"img.example.com"} == set(found(place))


def test_whoever_waits_is_told_how_far_it_is(place: Place) -> None:
    """Each domain is counted, also one that has vanished meanwhile."""
    for name in ("a.example.com", "b.example.com", "c.example.com"):
        place.service.add_domain(name)
    place.service.api.faults.add(refusal(404, 404001), on="GET /domain/b.example.com")
    told: list[tuple[int, ...]] = []

    place.target().survey(lambda *counted: told.append(counted))

    assert [(1, 3), (2, 3), (3, 3)] == told


def test_domain_that_may_not_be_read_is_told_as_such(place: Place) -> None:
    """One refusal does not hide the others."""
    place.service.add_domain("img.example.com")
    place.service.add_domain("odd.example.com")
    place.service.api.faults.add(refusal(400, 400999), on="GET /domain/odd.example.com")

    domains = found(place)

    assert domains["img.example.com"].problem is None
    assert domains["odd.example.com"].problem is not None


@pytest.mark.parametrize("seconds", [2**64, -(2**64), 2**40, 0])
def test_end_outside_the_calendar_is_an_end_unknown(place: Place, seconds: int) -> None:
    """One odd date in the list of certificates hides no domain."""
    cert = place.service.add_certificate(qiniu_calls.issue("*.example.com"), "by hand")
    place.service.add_domain("img.example.com", https=cert)
    entry = {"certid": cert, "name": "by hand", "not_before": seconds, "not_after": seconds}
    page = json.dumps({"code": 200, "certs": [entry], "marker": ""}).encode()
    place.service.fusion.faults.add(Fault.status(200, page), on="GET /sslcert", times=None)

    found_now = found(place)

    assert FoundDomain("img.example.com", Kind.CDN, has_https=True) == found_now["img.example.com"]


def test_keys_without_a_right_to_kodo_see_the_cdn(place: Place) -> None:
    """A sub-account's key cannot ask for bindings; that there may be more is said."""
    place.service.add_iam_key(IAM_KEY, "iam-secret", owner=ACCESS_KEY)
    place.service.add_domain("img.example.com")
    place.service.add_bucket_domain("src.example.com", "pictures")

    survey = place.target(access_key=IAM_KEY, secret="iam-secret").survey(unseen)

    assert {"img.example.com", "src.example.com"} == {d.domain for d in survey.domains}
    assert isinstance(survey.unseen, TargetAccessDenied)


def test_silence_is_an_error(place: Place) -> None:
    """An account that cannot be asked must not pass for an empty one."""
    place.service.api.faults.add(Fault.html(502), on="GET /domain", times=100)

    with pytest.raises(TargetUnavailable):
        place.target().survey(unseen)
