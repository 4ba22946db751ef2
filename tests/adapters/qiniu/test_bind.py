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
from tests.adapters.qiniu.account import (
    LOST,
    SHORT,
    WWW,
    QiniuAccount,
    bundle_of,
    fault_id,
    refusal,
)
from tests.sandbox import qiniu_calls

# --- Binding at Qiniu: the right call, nothing else changed, nothing written without need


KEEP = DesiredHttps()


@pytest.fixture
def new(account: QiniuAccount) -> str:
    return qiniu_calls.seed(account.service, [WWW, "*.example.com"], "new")


@pytest.fixture
def old(account: QiniuAccount) -> str:
    """Have a domain with HTTPS, redirect, HTTP/2 and two TLS versions; return the bound id."""
    cert_id = qiniu_calls.seed(account.service, [WWW])
    account.service.add_domain(
        WWW, https=cert_id, force_https=True, http2=True, tls_versions=["TLSv1.2", "TLSv1.3"]
    )
    return cert_id


def bind(target: Qiniu, cert_id: str, desired: DesiredHttps = KEEP, domain: str = WWW) -> None:
    target.bind(domain, Kind.CDN, cert_id, desired)


def writes(account: QiniuAccount) -> list[tuple[str, Any]]:
    """Return the last word of the path and the body of every change that was asked for."""
    return [
        (request.path.rpartition("/")[2], json.loads(request.body))
        for request in account.service.requests("PUT *")
    ]


def https(account: QiniuAccount, domain: str = WWW) -> HttpsConf:
    return account.service.domain(domain).https


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_a_domain_without_https(
    absent: Any, account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """`sslize`, and no visitor is redirected unless the file asks for it."""
    account.service.domains.absent_https = absent
    account.service.add_domain(WWW)

    bind(target, new)

    assert [("sslize", {"certId": new, "forceHttps": False, "http2Enable": False})] == writes(
        account
    )
    assert new == account.service.bound(WWW)


def test_a_domain_without_https_or_desired_settings(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """What is asked for is set from the first moment on."""
    account.service.add_domain(WWW)

    bind(target, new, DesiredHttps(force_https=True, http2=True, tls_versions=("TLSv1.3",)))

    found = https(account)
    assert (True, True, ("TLSv1.3",)) == (found.force_https, found.http2, found.tls_versions)


def test_everything_else_stays(account: QiniuAccount, target: Qiniu, old: str, new: str) -> None:
    """`httpsconf` with redirect, HTTP/2 and TLS versions sent back as they were."""
    bind(target, new)

    body = {
        "certId": new,
        "forceHttps": True,
        "http2Enable": True,
        "tlsVersions": ["TLSv1.2", "TLSv1.3"],
    }
    assert [("httpsconf", body)] == writes(account)
    found = https(account)
    assert (True, True) == (found.force_https, found.http2)


def test_tls_versions_that_are_not_reported_are_left_out(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """Where the domain says nothing about them, neither do we."""
    account.service.add_domain(WWW, https=qiniu_calls.seed(account.service, [WWW]), http2=True)

    bind(target, new)

    assert [("httpsconf", {"certId": new, "forceHttps": False, "http2Enable": True})] == writes(
        account
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
    account: QiniuAccount,
    target: Qiniu,
    old: str,
    new: str,
) -> None:
    """Each setting by itself."""
    bind(target, new, desired)

    found = https(account)
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
    desired: DesiredHttps, account: QiniuAccount, target: Qiniu, old: str
) -> None:
    """Bound already and settings as desired, TLS versions in whatever order: only a look."""
    bind(target, old, desired)

    assert [] == account.service.writes()


def test_a_setting_alone_is_changed(account: QiniuAccount, target: Qiniu, old: str) -> None:
    """The certificate is the same, a setting differs from what is desired: one write."""
    bind(target, old, DesiredHttps(force_https=False))
    bind(target, old, DesiredHttps(force_https=False))

    assert 1 == len(writes(account))
    assert not https(account).force_https


def test_unchanged_is_success(account: QiniuAccount, target: Qiniu, old: str, new: str) -> None:
    """400910 says that the domain is as it was asked to be."""
    account.service.api.faults.add(refusal(400, 400910), on="PUT *")

    bind(target, new)

    assert 1 == len(writes(account))


# --- HTTPS that Qiniu does not show ------------------------------------------------------------


def test_a_free_certificate_of_qinius_own(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """It has no id, and is replaced by `httpsconf` with everything else as it was."""
    account.service.add_domain(WWW, free_certificate=True, force_https=True)

    bind(target, new)

    body = {"certId": new, "forceHttps": True, "http2Enable": False}
    assert [("httpsconf", body)] == writes(account)
    assert new == account.service.bound(WWW)


def test_a_change_that_began_a_moment_ago(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """At rest when it was read, at work when it was written: 400030 is later, not success."""
    account.service.api.faults.add(refusal(400, 400030), on="PUT *")

    with pytest.raises(TargetBusy, match="400030"):
        bind(target, new)

    assert old == account.service.bound(WWW)


def test_a_failed_change_that_left_its_certificate_behind(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu names the wanted certificate and says that it failed: asked for once more."""
    account.service.fail_next(WWW, sticks=True)
    bind(target, new)
    assert new == account.service.bound(WWW)

    bind(target, new)

    assert ["httpsconf", "httpsconf"] == [call for call, _ in writes(account)]
    assert "success" == account.service.domain(WWW).state


def test_a_failed_change_is_not_taken_for_the_next_one(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """The second attempt is lost on its way: what the first one left behind proves nothing."""
    account.service.fail_next(WWW, sticks=True)
    bind(target, new)
    account.service.api.faults.add(Fault.reset_before(), on="PUT *")

    bind(target, new)

    assert 3 == len(writes(account))
    assert "success" == account.service.domain(WWW).state


@pytest.mark.parametrize(
    "options",
    [{"state": "frozen"}, {"state": "offlined"}, {"could_operate": False}, {"type": "pan"}],
    ids=str,
)
def test_a_domain_that_is_unavailable(
    options: dict[str, Any], account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """Refused with a hint before anything is sent."""
    account.service.add_domain(WWW, **options)

    with pytest.raises(TargetRejected) as caught:
        bind(target, new)

    assert caught.value.hint
    assert [] == account.service.writes()


@pytest.mark.parametrize("kind", [Kind("video")])
def test_a_kind_that_is_not_deployed_to(kind: Kind, account: QiniuAccount, target: Qiniu) -> None:
    """Said before anything is asked."""
    with pytest.raises(TargetRejected, match=kind.value):
        target.bind(WWW, kind, "id", KEEP)

    assert 0 == account.count("*")


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
def test_a_lost_answer_to_a_change_that_takes_long(
    fault: Fault, account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Taken, as a look shows: it is being carried out."""
    account.service.hold(WWW)
    account.service.api.faults.add(fault, on="PUT *")

    bind(target, new)

    assert 1 == len(writes(account))
    account.service.release(WWW)
    assert new == account.service.bound(WWW)


def test_a_read_that_does_not_show_what_was_bound_yet(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Asked for again, and refused as unchanged: the domain and its settings are as desired."""
    account.service.domains.read_lag = timedelta(seconds=5)
    account.service.domains.refuse_unchanged = True
    bind(target, new)

    bind(target, new)

    found = https(account)
    assert (new, True, True) == (account.service.bound(WWW), found.force_https, found.http2)


def test_a_read_that_does_not_show_the_pending_change(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu refuses the second change: later, and the first one takes its course."""
    account.service.domains.read_lag = timedelta(seconds=5)
    account.service.hold(WWW)
    bind(target, new)

    with pytest.raises(TargetBusy, match="400030"):
        bind(target, new)

    account.service.release(WWW)
    assert new == account.service.bound(WWW)


def test_a_domain_that_cannot_be_read(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """What cannot be read is not written to."""
    account.service.api.faults.add(Fault.status(500), on="GET *", times=None)

    with pytest.raises(TargetUnavailable):
        bind(target, new)

    assert [] == account.service.writes()


def test_a_stuck_domain_stays_busy(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Hours later still at work: seen as processing, and no write is tried."""
    account.service.hold(WWW)
    bind(target, new)
    account.time.pause(10_000)

    with pytest.raises(TargetBusy):
        bind(target, new)

    [found] = target.observe(Scope("img", (WWW,), (WWW,), Kind.CDN, ())).domains
    assert (DomainState.PROCESSING, old) == (found.state, found.bound)
    assert 1 == len(writes(account))


def test_omitted_flags_are_never_needed(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """The same outcome whether Qiniu keeps or resets what is left out."""
    account.service.domains.omitted_flags = "kept"

    bind(target, new, DesiredHttps(force_https=False))

    found = https(account)
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
class FilledAccount:
    """An account with a domain of each kind, a certificate of ours, and one to upload."""

    account: QiniuAccount
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
    do: Callable[[FilledAccount, Qiniu], object]
    found: Callable[[FilledAccount], object]


WRITES = {
    "upload": Write(
        "POST /sslcert",
        lambda filled, target: target.upload("img", filled.made),
        lambda filled: [s.id for s in filled.account.service.certificates.stored()][-1],
    ),
    "removal": Write(
        "DELETE /sslcert/*",
        lambda filled, target: filled.retire(target),
        lambda filled: (
            filled.ours not in [s.id for s in filled.account.service.certificates.stored()]
        ),
    ),
    "CDN domain": Write(
        "PUT /domain/*",
        lambda filled, target: filled.bind(target, Kind.CDN, WWW),
        lambda filled: filled.account.service.bound(WWW),
    ),
    "source domain": Write(
        "POST /cert/bind",
        lambda filled, target: filled.bind(target, KODO, SRC),
        lambda filled: filled.account.service.bound_at_kodo(SRC),
    ),
    "live domain": Write(
        "POST /v2/*",
        lambda filled, target: filled.bind(target, PILI, LIVE),
        lambda filled: filled.account.service.bound_at_pili(LIVE),
    ),
}


@pytest.fixture
def filled(account: QiniuAccount) -> FilledAccount:
    """The account, whose list of certificates is older than what a target remembers."""
    service = account.service
    issued, made = qiniu_calls.issue(*NAMES), bundle_of(qiniu_calls.issue(*NAMES))
    there = bundle_of(issued)
    old = qiniu_calls.seed(service, [WWW])
    ours = service.add_certificate(issued, label_of("img", there.certificate.fingerprint))
    service.add_domain(WWW, https=old, force_https=True)
    service.add_bucket_domain(SRC, "pictures")
    service.add_live_domain(LIVE, "studio")
    account.time.pause(10)
    return FilledAccount(account, ours, old, there, made)


def disturb(filled: FilledAccount, write: Write, fault: Fault, times: int | None = 1) -> None:
    service = filled.account.service
    for host in (service.api, service.fusion, service.pili):
        host.faults.add(fault, on=write.request, times=times)


@pytest.mark.parametrize("lag", [0, 2, 5])
@pytest.mark.parametrize("fault", LOST, ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_whose_answer_is_lost(
    filled: FilledAccount, target: Qiniu, write: Write, fault: Fault, lag: float
) -> None:
    """Done, as a look shows, and not asked for again; also where lists and reads lag behind."""
    filled.account.service.certificates.list_lag = timedelta(seconds=lag)
    filled.account.service.domains.read_lag = timedelta(seconds=lag)
    disturb(filled, write, fault)

    assert write.do(filled, target) == write.found(filled)
    assert 1 == filled.account.count(write.request)


@pytest.mark.parametrize("fault", UNDONE, ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_write_that_was_not_done(
    filled: FilledAccount, target: Qiniu, write: Write, fault: Fault
) -> None:
    """No answer, and nothing there: asked for once more. An upload is looked for three times."""
    disturb(filled, write, fault)

    assert write.do(filled, target) == write.found(filled)
    assert 2 == filled.account.count(write.request)
    if write is WRITES["upload"]:
        assert [0.5, 1.5, 4.0] == [s for s in filled.account.time.pauses if 0.5 <= s < 10]


@pytest.mark.parametrize("write", [w for w in WRITES if w != "live domain"])
def test_write_that_is_late(filled: FilledAccount, write: str) -> None:
    """Carried out after the answer was given up: seen, and not asked for again."""
    filled.account.timeouts = SHORT
    disturb(filled, WRITES[write], Fault.delay(1.5))
    late = filled.account.target(pause=filled.account.until_all_is_done)

    assert WRITES[write].do(filled, late) == WRITES[write].found(filled)
    assert 1 == filled.account.count(WRITES[write].request)


@pytest.mark.parametrize("fault", [Fault.reset_before(), Fault.status(503)], ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_qiniu_that_stays_broken(
    filled: FilledAccount, target: Qiniu, write: Write, fault: Fault
) -> None:
    """Given up after a second attempt, for a later run, with everything as it was."""
    before = filled.account.labels()
    disturb(filled, write, fault, times=None)

    with pytest.raises(TargetUnavailable) as caught:
        write.do(filled, target)

    assert caught.value.retry.allowed
    assert 2 == filled.account.count(write.request)
    assert (before, filled.old) == (filled.account.labels(), filled.account.service.bound(WWW))
