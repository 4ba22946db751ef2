"""Answers of Qiniu that get lost: every write is done once, whatever becomes of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.errors import TargetUnavailable
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.place import LOST, SHORT, WWW, Place, bundle_of, fault_id, refusal
from tests.sandbox import qiniu_calls

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
        """Remove ours."""
        return target.retire(self.ours, label_of("img", self.there.certificate.fingerprint))

    def bind(self, target: Qiniu, kind: Kind, domain: str) -> object:
        """Bind ours."""
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
    """Have requests for this write meet a fault."""
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
