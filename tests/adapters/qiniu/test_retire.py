"""Retiring at Qiniu: ours, unbound, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from certferry.adapters.qiniu.account import LIST_AGE
from certferry.adapters.qiniu.client import CERTIFICATES_PER_PAGE
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.errors import TargetInUse, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu import habits
from tests.adapters.qiniu.place import WWW, Place, bundle, refusal
from tests.sandbox import qiniu_calls


@pytest.fixture
def made() -> CertificateBundle:
    """Give a certificate of the lineage."""
    return bundle(WWW)


def test_what_is_removed_is_not_seen_any_more(
    place: Place, target: Qiniu, ours: str, label: str, made: CertificateBundle
) -> None:
    """Not even while the list still shows it."""
    listed = qiniu_calls.Client(place.service).certificates().content
    target.retire(ours, label)
    place.service.fusion.faults.add(Fault.status(200, listed), on="GET *", times=None)
    place.time.pause(6)

    assert () == target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,))).remotes


def test_a_copy_that_another_process_removed_and_the_list_still_shows(
    place: Place, target: Qiniu, ours: str, label: str
) -> None:
    """The list is wrong and Qiniu's refusal right: it was not there any more."""
    place.time.pause(10)
    place.service.certificates.list_lag = timedelta(seconds=5)
    assert place.target().retire(ours, label)

    assert not place.target().retire(ours, label)


def test_a_copy_that_is_not_in_an_old_list(
    place: Place, target: Qiniu, made: CertificateBundle, label: str
) -> None:
    """What another process uploaded after we last looked is found nevertheless."""
    target.observe(Scope("img", (WWW,), (), Kind.AUTO, ()))
    cert_id = place.target().upload("img", made)

    assert target.retire(cert_id, label)


def test_a_foreign_certificate(place: Place, target: Qiniu) -> None:
    """A label that is no mark of ours is refused, though the certificate carries it."""
    foreign = qiniu_calls.seed(place.service, [WWW], "www.example.com")

    with pytest.raises(TargetRejected, match="does not carry our mark") as caught:
        target.retire(foreign, "www.example.com")

    assert caught.value.hint
    assert ["www.example.com"] == place.labels()


@pytest.mark.parametrize(
    "label",
    ["certferry-", "certferry-img-", "certferry-img-0123", "x-certferry-img-" + "0" * 20, ""],
)
def test_something_like_a_mark(label: str, place: Place, target: Qiniu) -> None:
    """A name that only begins like ours is not ours."""
    foreign = qiniu_calls.seed(place.service, [WWW], label)

    with pytest.raises(TargetRejected):
        target.retire(foreign, label)

    assert 0 == place.count("DELETE *")


def test_a_lineage_without_latin_letters(place: Place, target: Qiniu) -> None:
    """Its mark has an empty middle, and is a mark all the same."""
    made = bundle(WWW)
    cert_id = target.upload("图片", made)

    assert target.retire(cert_id, label_of("图片", made.certificate.fingerprint))


def test_a_copy_that_is_bound(place: Place, target: Qiniu, ours: str, label: str) -> None:
    """The domain says so: it is not yet, not a failure, and Qiniu is not even asked."""
    place.service.add_domain(WWW)
    target.bind(WWW, Kind.CDN, ours, DesiredHttps())

    with pytest.raises(TargetInUse, match=f"{WWW} is still bound to {label}") as caught:
        target.retire(ours, label)

    assert caught.value.retry.allowed
    assert [label] == place.labels()
    assert 0 == place.count("DELETE *")


def test_a_copy_whose_domain_is_not_seen(
    place: Place, target: Qiniu, ours: str, label: str
) -> None:
    """400611 is the last check: of a domain that the list does not show yet, or cannot be read."""
    place.service.domains.list_lag = timedelta(hours=1)
    place.service.add_domain(WWW, https=ours)

    with pytest.raises(TargetInUse, match="400611"):
        target.retire(ours, label)

    place.service.domains.list_lag = timedelta(0)
    place.time.pause(LIST_AGE)
    place.service.api.faults.add(Fault.status(500), on=f"GET /domain/{WWW}", times=None)
    with pytest.raises(TargetInUse, match="400611"):
        target.retire(ours, label)
    assert [label] == place.labels()


def test_a_domain_that_it_does_not_cover_is_not_read(
    place: Place, target: Qiniu, ours: str, label: str
) -> None:
    """Nothing is bound to a certificate that does not cover it."""
    place.service.add_domain("img.example.com")

    assert target.retire(ours, label)
    assert 0 == place.count("GET /domain/*")


def test_nothing_is_removed_while_domains_cannot_be_seen(
    place: Place, target: Qiniu, ours: str, label: str
) -> None:
    """Refused keys say nothing of what is in use."""
    place.service.add_domain(WWW)
    place.service.api.faults.add(refusal(403, 403024), on=f"GET /domain/{WWW}", times=None)

    with pytest.raises(TargetUnavailable):
        target.retire(ours, label)
    assert 0 == place.count("DELETE *")


def test_a_copy_that_a_kodo_domain_uses(place: Place, target: Qiniu, ours: str, label: str) -> None:
    """The same for source domains, by their bindings, and by 400911 where these are hidden."""
    place.service.add_bucket_domain("src.example.com", "pictures", https=ours)

    with pytest.raises(TargetInUse, match=f"src.example.com is still bound to {label}"):
        target.retire(ours, label)
    assert 0 == place.count("DELETE *")
    habits.bindings_nowhere(place.service)
    with pytest.raises(TargetInUse, match="400911"):
        place.target().retire(ours, label)


# --- of any owner ---------------------------------------------------------------------------


def others(target: Qiniu) -> dict[str, tuple[str, datetime | None]]:
    """Give what is not ours: names and ends by id."""
    look = Scope("img", (WWW,), (), Kind.AUTO, (), others=True)
    return {o.remote_id: (o.label, o.not_after) for o in target.observe(look).others}


def test_every_page_of_others_is_read(place: Place, target: Qiniu) -> None:
    """Qiniu gives so many at a time."""
    issued = qiniu_calls.issue(WWW)
    ids = {
        place.service.add_certificate(issued, "theirs") for _ in range(CERTIFICATES_PER_PAGE + 1)
    }

    assert ids == set(others(target))
    assert 2 == place.count("GET /sslcert")


@pytest.mark.parametrize("end", ["null", "99999999999999999"])
def test_others_that_tell_little(end: str, place: Place, target: Qiniu) -> None:
    """No name, and no end or none that a calendar knows."""
    body = f'{{"code":200,"certs":[{{"certid":"x","name":null,"not_after":{end}}}]}}'
    place.service.fusion.faults.add(Fault.status(200, body.encode()), times=None)

    assert {"x": ("", None)} == others(target)


def test_unmanaged_that_a_domain_uses(place: Place, target: Qiniu) -> None:
    """A certificate that a domain is bound to stays, for every caller."""
    at_cdn, at_kodo = (qiniu_calls.seed(place.service, [WWW], "theirs") for _ in range(2))
    place.service.add_domain(WWW, https=at_cdn)
    place.service.add_bucket_domain("src.example.com", "pictures", https=at_kodo)

    for cert_id, domain in ((at_cdn, WWW), (at_kodo, "src.example.com")):
        with pytest.raises(TargetInUse, match=domain) as caught:
            target.retire(cert_id, "theirs", unmanaged=True)
        assert caught.value.retry.allowed

    assert ["theirs", "theirs"] == place.labels()


def test_unmanaged_without_a_name(place: Place, target: Qiniu) -> None:
    """An empty name is a name as well."""
    cert_id = qiniu_calls.seed(place.service, [WWW], "")

    assert target.retire(cert_id, "", unmanaged=True)
