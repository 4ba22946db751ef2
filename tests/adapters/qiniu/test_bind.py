"""Certificates bound to domains of Qiniu, also when the answer is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import TargetBusy, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.domains import HttpsConf
from tests.adapters.qiniu.place import LOST, SHORT, WWW, Place, bundle_of, fault_id, refusal
from tests.sandbox import qiniu_calls

# --- Binding at Qiniu: the right call, nothing else changed, nothing written without need


KEEP = DesiredHttps()


@pytest.fixture
def new(place: Place) -> str:
    return qiniu_calls.seed(place.service, [WWW, "*.example.com"], "new")


@pytest.fixture
def old(place: Place) -> str:
    """Have a domain with HTTPS, redirect, HTTP/2 and two TLS versions; return the bound id."""
    cert_id = qiniu_calls.seed(place.service, [WWW])
    place.service.add_domain(
        WWW, https=cert_id, force_https=True, http2=True, tls_versions=["TLSv1.2", "TLSv1.3"]
    )
    return cert_id


def bind(target: Qiniu, cert_id: str, desired: DesiredHttps = KEEP, domain: str = WWW) -> None:
    target.bind(domain, Kind.CDN, cert_id, desired)


def writes(place: Place) -> list[tuple[str, Any]]:
    """Return the last word of the path and the body of every change that was asked for."""
    return [
        (request.path.rpartition("/")[2], json.loads(request.body))
        for request in place.service.requests("PUT *")
    ]


def https(place: Place, domain: str = WWW) -> HttpsConf:
    return place.service.domain(domain).https


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_a_domain_without_https(absent: Any, place: Place, target: Qiniu, new: str) -> None:
    """`sslize`, and no visitor is redirected unless the file asks for it."""
    place.service.domains.absent_https = absent
    place.service.add_domain(WWW)

    bind(target, new)

    assert [("sslize", {"certId": new, "forceHttps": False, "http2Enable": False})] == writes(place)
    assert new == place.service.bound(WWW)


def test_a_domain_without_https_or_desired_settings(place: Place, target: Qiniu, new: str) -> None:
    """What is asked for is set from the first moment on."""
    place.service.add_domain(WWW)

    bind(target, new, DesiredHttps(force_https=True, http2=True, tls_versions=("TLSv1.3",)))

    found = https(place)
    assert (True, True, ("TLSv1.3",)) == (found.force_https, found.http2, found.tls_versions)


def test_everything_else_stays(place: Place, target: Qiniu, old: str, new: str) -> None:
    """`httpsconf` with redirect, HTTP/2 and TLS versions sent back as they were."""
    bind(target, new)

    body = {
        "certId": new,
        "forceHttps": True,
        "http2Enable": True,
        "tlsVersions": ["TLSv1.2", "TLSv1.3"],
    }
    assert [("httpsconf", body)] == writes(place)
    found = https(place)
    assert (True, True) == (found.force_https, found.http2)


def test_tls_versions_that_are_not_reported_are_left_out(
    place: Place, target: Qiniu, new: str
) -> None:
    """Where the domain says nothing about them, neither do we."""
    place.service.add_domain(WWW, https=qiniu_calls.seed(place.service, [WWW]), http2=True)

    bind(target, new)

    assert [("httpsconf", {"certId": new, "forceHttps": False, "http2Enable": True})] == writes(
        place
    )


@pytest.mark.parametrize(
    ("desired", "expected"),
    [
        (DesiredHttps(force_https=False), (False, True, ("TLSv1.2", "TLSv1.3"))),
        (DesiredHttps(http2=False), (True, False, ("TLSv1.2", "TLSv1.3"))),
        (DesiredHttps(tls_versions=("TLSv1.3",)), (True, True, ("TLSv1.3",))),
        (DesiredHttps(force_https=True, http2=True), (True, True, ("TLSv1.2", "TLSv1.3"))),
    ],
)
def test_only_what_is_desired_changes(
    desired: DesiredHttps,
    expected: tuple[object, ...],
    place: Place,
    target: Qiniu,
    old: str,
    new: str,
) -> None:
    """Each setting by itself."""
    bind(target, new, desired)

    found = https(place)
    assert expected == (found.force_https, found.http2, found.tls_versions)


@pytest.mark.parametrize(
    "desired",
    [
        KEEP,
        DesiredHttps(force_https=True, http2=True),
        DesiredHttps(tls_versions=("TLSv1.3", "TLSv1.2")),
    ],
)
def test_nothing_is_written_when_all_is_as_desired(
    desired: DesiredHttps, place: Place, target: Qiniu, old: str
) -> None:
    """Bound already and settings as desired, TLS versions in whatever order: only a look."""
    bind(target, old, desired)

    assert [] == place.service.writes()


def test_a_setting_alone_is_changed(place: Place, target: Qiniu, old: str) -> None:
    """The certificate is the same, a setting differs from what is desired: one write."""
    bind(target, old, DesiredHttps(force_https=False))
    bind(target, old, DesiredHttps(force_https=False))

    assert 1 == len(writes(place))
    assert not https(place).force_https


def test_unchanged_is_success(place: Place, target: Qiniu, old: str, new: str) -> None:
    """400910 says that the domain is as it was asked to be."""
    place.service.api.faults.add(refusal(400, 400910), on="PUT *")

    bind(target, new)

    assert 1 == len(writes(place))


# --- HTTPS that Qiniu does not show ------------------------------------------------------------


def test_a_free_certificate_of_qinius_own(place: Place, target: Qiniu, new: str) -> None:
    """It has no id, and is replaced by `httpsconf` with everything else as it was."""
    place.service.add_domain(WWW, free_certificate=True, force_https=True)

    bind(target, new)

    body = {"certId": new, "forceHttps": True, "http2Enable": False}
    assert [("httpsconf", body)] == writes(place)
    assert new == place.service.bound(WWW)


def test_a_change_that_began_a_moment_ago(place: Place, target: Qiniu, old: str, new: str) -> None:
    """At rest when it was read, at work when it was written: 400030 is later, not success."""
    place.service.api.faults.add(refusal(400, 400030), on="PUT *")

    with pytest.raises(TargetBusy, match="400030"):
        bind(target, new)

    assert old == place.service.bound(WWW)


def test_a_failed_change_that_left_its_certificate_behind(
    place: Place, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu names the wanted certificate and says that it failed: asked for once more."""
    place.service.fail_next(WWW, sticks=True)
    bind(target, new)
    assert new == place.service.bound(WWW)

    bind(target, new)

    assert ["httpsconf", "httpsconf"] == [call for call, _ in writes(place)]
    assert "success" == place.service.domain(WWW).state


def test_a_failed_change_is_not_taken_for_the_next_one(
    place: Place, target: Qiniu, old: str, new: str
) -> None:
    """The second attempt is lost on its way: what the first one left behind proves nothing."""
    place.service.fail_next(WWW, sticks=True)
    bind(target, new)
    place.service.api.faults.add(Fault.reset_before(), on="PUT *")

    bind(target, new)

    assert 3 == len(writes(place))
    assert "success" == place.service.domain(WWW).state


@pytest.mark.parametrize(
    "options",
    [{"state": "frozen"}, {"state": "offlined"}, {"could_operate": False}, {"type": "pan"}],
    ids=str,
)
def test_a_domain_that_is_unavailable(
    options: dict[str, Any], place: Place, target: Qiniu, new: str
) -> None:
    """Refused with a hint before anything is sent."""
    place.service.add_domain(WWW, **options)

    with pytest.raises(TargetRejected) as caught:
        bind(target, new)

    assert caught.value.hint
    assert [] == place.service.writes()


@pytest.mark.parametrize("kind", [Kind("video")])
def test_a_kind_that_is_not_deployed_to(kind: Kind, place: Place, target: Qiniu) -> None:
    """Said before anything is asked."""
    with pytest.raises(TargetRejected, match=kind.value):
        target.bind(WWW, kind, "id", KEEP)

    assert 0 == place.count("*")


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
def test_a_lost_answer_to_a_change_that_takes_long(
    fault: Fault, place: Place, target: Qiniu, old: str, new: str
) -> None:
    """Taken, as a look shows: it is being carried out."""
    place.service.hold(WWW)
    place.service.api.faults.add(fault, on="PUT *")

    bind(target, new)

    assert 1 == len(writes(place))
    place.service.release(WWW)
    assert new == place.service.bound(WWW)


def test_a_read_that_does_not_show_what_was_bound_yet(
    place: Place, target: Qiniu, old: str, new: str
) -> None:
    """Asked for again, and refused as unchanged: the domain and its settings are as desired."""
    place.service.domains.read_lag = timedelta(seconds=5)
    place.service.domains.refuse_unchanged = True
    bind(target, new)

    bind(target, new)

    found = https(place)
    assert (new, True, True) == (place.service.bound(WWW), found.force_https, found.http2)


def test_a_read_that_does_not_show_the_pending_change(
    place: Place, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu refuses the second change: later, and the first one takes its course."""
    place.service.domains.read_lag = timedelta(seconds=5)
    place.service.hold(WWW)
    bind(target, new)

    with pytest.raises(TargetBusy, match="400030"):
        bind(target, new)

    place.service.release(WWW)
    assert new == place.service.bound(WWW)


def test_a_domain_that_cannot_be_read(place: Place, target: Qiniu, old: str, new: str) -> None:
    """What cannot be read is not written to."""
    place.service.api.faults.add(Fault.status(500), on="GET *", times=None)

    with pytest.raises(TargetUnavailable):
        bind(target, new)

    assert [] == place.service.writes()


def test_a_stuck_domain_stays_busy(place: Place, target: Qiniu, old: str, new: str) -> None:
    """Hours later still at work: seen as processing, and no write is tried."""
    place.service.hold(WWW)
    bind(target, new)
    place.time.pause(10_000)

    with pytest.raises(TargetBusy):
        bind(target, new)

    [found] = target.observe(Scope("img", (WWW,), (WWW,), Kind.CDN, ())).domains
    assert (DomainState.PROCESSING, old) == (found.state, found.bound)
    assert 1 == len(writes(place))


def test_omitted_flags_are_never_needed(place: Place, target: Qiniu, old: str, new: str) -> None:
    """The same outcome whether Qiniu keeps or resets what is left out."""
    place.service.domains.omitted_flags = "kept"

    bind(target, new, DesiredHttps(force_https=False))

    found = https(place)
    assert (False, True, ("TLSv1.2", "TLSv1.3")) == (
        found.force_https,
        found.http2,
        found.tls_versions,
    )


# --- Answers of Qiniu that get lost: every write is done once, whatever becomes of its answer


NAMES = ("*.example.com", WWW)
SRC, LIVE = "src.example.com", "live.example.com"
UNDONE = [
    Fault.reset_before(),
    Fault.html(502),
    refusal(500, 500000),
    refusal(500, 500215),
    refusal(503, 500219),
    refusal(503, None, "unavailable"),
]
"""Answers that say nothing of the work, which was not done."""


@dataclass
class Account:
    """An account with a domain of each kind, a certificate of ours, and one to upload."""

    place: Place
    ours: str
    old: str
    there: CertificateBundle
    made: CertificateBundle

    def retire(self, target: Qiniu) -> object:
        return target.retire(self.ours, label_of("img", self.there.certificate.fingerprint))

    def bind(self, target: Qiniu, kind: Kind, domain: str) -> object:
        target.bind(domain, kind, self.ours, DesiredHttps())
        return self.ours


@dataclass(frozen=True)
class Write:
    """One kind of write: its request, how to ask for it, and what is there when it is done."""

    request: str
    do: Callable[[Account, Qiniu], object]
    found: Callable[[Account], object]


WRITES = {
    "upload": Write(
        "POST /sslcert",
        lambda it, target: target.upload("img", it.made),
        lambda it: [s.id for s in it.place.service.certificates.stored()][-1],
    ),
    "removal": Write(
        "DELETE /sslcert/*",
        lambda it, target: it.retire(target),
        lambda it: it.ours not in [s.id for s in it.place.service.certificates.stored()],
    ),
    "CDN domain": Write(
        "PUT /domain/*",
        lambda it, target: it.bind(target, Kind.CDN, WWW),
        lambda it: it.place.service.bound(WWW),
    ),
    "source domain": Write(
        "POST /cert/bind",
        lambda it, target: it.bind(target, KODO, SRC),
        lambda it: it.place.service.bound_at_kodo(SRC),
    ),
    "live domain": Write(
        "POST /v2/*",
        lambda it, target: it.bind(target, PILI, LIVE),
        lambda it: it.place.service.bound_at_pili(LIVE),
    ),
}


@pytest.fixture
def it(place: Place) -> Account:
    """The account, whose list of certificates is older than what a target remembers."""
    service = place.service
    issued, made = qiniu_calls.issue(*NAMES), bundle_of(qiniu_calls.issue(*NAMES))
    there = bundle_of(issued)
    old = qiniu_calls.seed(service, [WWW])
    ours = service.add_certificate(issued, label_of("img", there.certificate.fingerprint))
    service.add_domain(WWW, https=old, force_https=True)
    service.add_bucket_domain(SRC, "pictures")
    service.add_live_domain(LIVE, "studio")
    place.time.pause(10)
    return Account(place, ours, old, there, made)


def disturb(it: Account, write: Write, fault: Fault, times: int | None = 1) -> None:
    service = it.place.service
    for host in (service.api, service.fusion, service.pili):
        host.faults.add(fault, on=write.request, times=times)


@pytest.mark.parametrize("lag", [0, 2, 5])
@pytest.mark.parametrize("fault", LOST, ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_whose_answer_is_lost(
    it: Account, target: Qiniu, write: Write, fault: Fault, lag: float
) -> None:
    """Done, as a look shows, and not asked for again; also where lists and reads lag behind."""
    it.place.service.certificates.list_lag = timedelta(seconds=lag)
    it.place.service.domains.read_lag = timedelta(seconds=lag)
    disturb(it, write, fault)

    assert write.do(it, target) == write.found(it)
    assert 1 == it.place.count(write.request)


@pytest.mark.parametrize("fault", UNDONE, ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_that_was_not_done(it: Account, target: Qiniu, write: Write, fault: Fault) -> None:
    """No answer, and nothing there: asked for once more. An upload is looked for three times."""
    disturb(it, write, fault)

    assert write.do(it, target) == write.found(it)
    assert 2 == it.place.count(write.request)
    if write is WRITES["upload"]:
        assert [0.5, 1.5, 4.0] == [s for s in it.place.time.pauses if 0.5 <= s < 10]


@pytest.mark.parametrize("write", [w for w in WRITES if w != "live domain"])
def test_write_that_is_late(it: Account, write: str) -> None:
    """Carried out after the answer was given up: seen, and not asked for again."""
    it.place.timeouts = SHORT
    disturb(it, WRITES[write], Fault.delay(1.5))
    late = it.place.target(pause=it.place.until_all_is_done)

    assert WRITES[write].do(it, late) == WRITES[write].found(it)
    assert 1 == it.place.count(WRITES[write].request)


@pytest.mark.parametrize("fault", [Fault.reset_before(), Fault.status(503)], ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_qiniu_that_stays_broken(it: Account, target: Qiniu, write: Write, fault: Fault) -> None:
    """Given up after a second attempt, for a later run, with everything as it was."""
    before = it.place.labels()
    disturb(it, write, fault, times=None)

    with pytest.raises(TargetUnavailable) as caught:
        write.do(it, target)

    assert caught.value.retry.allowed
    assert 2 == it.place.count(write.request)
    assert (before, it.old) == (it.place.labels(), it.place.service.bound(WWW))
