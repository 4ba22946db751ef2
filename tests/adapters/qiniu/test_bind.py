"""Certificates bound to domains of Qiniu, including lost answers."""

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

# --- Binding at Qiniu: the right call, other settings unchanged, no needless write


KEEP = DesiredHttps()


@pytest.fixture
def new(account: QiniuAccount) -> str:
    return qiniu_calls.seed(account.service, [WWW, "*.example.com"], "new")


@pytest.fixture
def old(account: QiniuAccount) -> str:
    """Add a domain with HTTPS, redirect, HTTP/2 and two TLS versions; return the bound id."""
    cert_id = qiniu_calls.seed(account.service, [WWW])
    account.service.add_domain(
        WWW, https=cert_id, force_https=True, http2=True, tls_versions=["TLSv1.2", "TLSv1.3"]
    )
    return cert_id


def bind(target: Qiniu, cert_id: str, desired: DesiredHttps = KEEP, domain: str = WWW) -> None:
    target.bind(domain, Kind.CDN, cert_id, desired)


def writes(account: QiniuAccount) -> list[tuple[str, Any]]:
    """Return the last part of the path and the body of every change request."""
    return [
        (request.path.rpartition("/")[2], json.loads(request.body))
        for request in account.service.requests("PUT *")
    ]


def https(account: QiniuAccount, domain: str = WWW) -> HttpsConf:
    return account.service.domain(domain).https


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_domain_without_https(absent: Any, account: QiniuAccount, target: Qiniu, new: str) -> None:
    """The call is `sslize`, and visitors are redirected only if the file asks for redirects."""
    account.service.domains.absent_https = absent
    account.service.add_domain(WWW)

    bind(target, new)

    assert [("sslize", {"certId": new, "forceHttps": False, "http2Enable": False})] == writes(
        account
    )
    assert new == account.service.bound(WWW)


def test_desired_settings_of_a_domain_without_https(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """The desired settings are part of the first change."""
    account.service.add_domain(WWW)

    bind(target, new, DesiredHttps(force_https=True, http2=True, tls_versions=("TLSv1.3",)))

    conf = https(account)
    assert (True, True, ("TLSv1.3",)) == (conf.force_https, conf.http2, conf.tls_versions)


def test_other_settings_stay(account: QiniuAccount, target: Qiniu, old: str, new: str) -> None:
    """`httpsconf` repeats redirect, HTTP/2 and TLS versions."""
    bind(target, new)

    body = {
        "certId": new,
        "forceHttps": True,
        "http2Enable": True,
        "tlsVersions": ["TLSv1.2", "TLSv1.3"],
    }
    assert [("httpsconf", body)] == writes(account)
    conf = https(account)
    assert (True, True) == (conf.force_https, conf.http2)


def test_unreported_tls_versions_are_left_out(
    account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """A detail without TLS versions leads to a change without TLS versions."""
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
def test_desired_settings_change(
    desired: DesiredHttps,
    expected: tuple[object, ...],
    account: QiniuAccount,
    target: Qiniu,
    old: str,
    new: str,
) -> None:
    """Each desired setting changes independently of the others."""
    bind(target, new, desired)

    conf = https(account)
    assert expected == (conf.force_https, conf.http2, conf.tls_versions)


@pytest.mark.parametrize(
    "desired",
    [
        KEEP,
        DesiredHttps(force_https=True, http2=True),
        DesiredHttps(tls_versions=("TLSv1.3", "TLSv1.2")),
    ],
)
def test_desired_state_needs_no_write(
    desired: DesiredHttps, account: QiniuAccount, target: Qiniu, old: str
) -> None:
    """A bound certificate with the desired settings needs a read only; the order of TLS versions is
    irrelevant.
    """
    bind(target, old, desired)

    assert [] == account.service.writes()


def test_changed_setting_of_the_bound_certificate(
    account: QiniuAccount, target: Qiniu, old: str
) -> None:
    """A setting of the bound certificate differs: a single write changes the setting."""
    bind(target, old, DesiredHttps(force_https=False))
    bind(target, old, DesiredHttps(force_https=False))

    assert 1 == len(writes(account))
    assert not https(account).force_https


def test_unchanged_is_success(account: QiniuAccount, target: Qiniu, old: str, new: str) -> None:
    """Qiniu's 400910 states that the domain is already as requested."""
    account.service.api.faults.add(refusal(400, 400910), on="PUT *")

    bind(target, new)

    assert 1 == len(writes(account))


# --- Hidden HTTPS of Qiniu ---------------------------------------------------------------------


def test_free_certificate_of_qiniu(account: QiniuAccount, target: Qiniu, new: str) -> None:
    """The free certificate has no id; `httpsconf` replaces the certificate and keeps the
    settings.
    """
    account.service.add_domain(WWW, free_certificate=True, force_https=True)

    bind(target, new)

    body = {"certId": new, "forceHttps": True, "http2Enable": False}
    assert [("httpsconf", body)] == writes(account)
    assert new == account.service.bound(WWW)


def test_change_that_began_after_the_read(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """The domain is idle when read and busy when written: 400030 is an error to retry later."""
    account.service.api.faults.add(refusal(400, 400030), on="PUT *")

    with pytest.raises(TargetBusy, match="400030"):
        bind(target, new)

    assert old == account.service.bound(WWW)


def test_failed_change_with_its_certificate_bound(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu shows the wanted certificate after a failed change, so the change is requested
    again.
    """
    account.service.fail_next(WWW, sticks=True)
    bind(target, new)
    assert new == account.service.bound(WWW)

    bind(target, new)

    assert ["httpsconf", "httpsconf"] == [call for call, _ in writes(account)]
    assert "success" == account.service.domain(WWW).state


def test_lost_change_after_a_failed_change(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """The second request is lost: the certificate of the failed change does not prove the second
    change.
    """
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
def test_unavailable_domain(
    options: dict[str, Any], account: QiniuAccount, target: Qiniu, new: str
) -> None:
    """The change is refused with a hint before any request."""
    account.service.add_domain(WWW, **options)

    with pytest.raises(TargetRejected) as caught:
        bind(target, new)

    assert caught.value.hint
    assert [] == account.service.writes()


@pytest.mark.parametrize("kind", [Kind("video")])
def test_unknown_kind(kind: Kind, account: QiniuAccount, target: Qiniu) -> None:
    """The error comes before any request."""
    with pytest.raises(TargetRejected, match=kind.value):
        target.bind(WWW, kind, "id", KEEP)

    assert 0 == account.count("*")


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
def test_lost_answer_to_a_long_change(
    fault: Fault, account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """The observation shows the change in progress, so the change is not requested again."""
    account.service.hold(WWW)
    account.service.api.faults.add(fault, on="PUT *")

    bind(target, new)

    assert 1 == len(writes(account))
    account.service.release(WWW)
    assert new == account.service.bound(WWW)


def test_outdated_read_after_a_change(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu refuses the repeated change as unchanged: domain and settings are as desired."""
    account.service.domains.read_lag = timedelta(seconds=5)
    account.service.domains.refuse_unchanged = True
    bind(target, new)

    bind(target, new)

    conf = https(account)
    assert (new, True, True) == (account.service.bound(WWW), conf.force_https, conf.http2)


def test_outdated_read_during_a_change(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """Qiniu refuses the second change for later, and the first change continues."""
    account.service.domains.read_lag = timedelta(seconds=5)
    account.service.hold(WWW)
    bind(target, new)

    with pytest.raises(TargetBusy, match="400030"):
        bind(target, new)

    account.service.release(WWW)
    assert new == account.service.bound(WWW)


def test_unreadable_domain(account: QiniuAccount, target: Qiniu, old: str, new: str) -> None:
    """An unreadable domain is not changed."""
    account.service.api.faults.add(Fault.status(500), on="GET *", times=None)

    with pytest.raises(TargetUnavailable):
        bind(target, new)

    assert [] == account.service.writes()


def test_stuck_domain_stays_busy(account: QiniuAccount, target: Qiniu, old: str, new: str) -> None:
    """After hours the domain is still observed as processing, and no write is tried."""
    account.service.hold(WWW)
    bind(target, new)
    account.time.pause(10_000)

    with pytest.raises(TargetBusy):
        bind(target, new)

    [observed] = target.observe(Scope("img", (WWW,), (WWW,), Kind.CDN, ())).domains
    assert (DomainState.PROCESSING, old) == (observed.state, observed.bound)
    assert 1 == len(writes(account))


def test_omitted_flags_are_irrelevant(
    account: QiniuAccount, target: Qiniu, old: str, new: str
) -> None:
    """The result is the same, whether Qiniu keeps or resets omitted flags."""
    account.service.domains.omitted_flags = "kept"

    bind(target, new, DesiredHttps(force_https=False))

    conf = https(account)
    assert (False, True, ("TLSv1.2", "TLSv1.3")) == (
        conf.force_https,
        conf.http2,
        conf.tls_versions,
    )


# --- Lost answers of Qiniu: every write takes effect once


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
"""Answers without a statement about the write, which Qiniu has not done."""


@dataclass
class FilledAccount:
    """An account with a domain of each kind, a certificate of certferry's, and another to
    upload.
    """

    account: QiniuAccount
    ours: str
    old: str
    uploaded: CertificateBundle
    made: CertificateBundle

    def retire(self, target: Qiniu) -> object:
        return target.retire(self.ours, label_of("img", self.uploaded.certificate.fingerprint))

    def bind(self, target: Qiniu, kind: Kind, domain: str) -> object:
        target.bind(domain, kind, self.ours, DesiredHttps())
        return self.ours


@dataclass(frozen=True)
class Write:
    """A kind of write: its request, its call, and a read of its effect."""

    request: str
    do: Callable[[FilledAccount, Qiniu], object]
    effect: Callable[[FilledAccount], object]


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
    """The account, with a list of certificates that is older than a target's memory."""
    service = account.service
    issued, made = qiniu_calls.issue(*NAMES), bundle_of(qiniu_calls.issue(*NAMES))
    uploaded = bundle_of(issued)
    old = qiniu_calls.seed(service, [WWW])
    ours = service.add_certificate(issued, label_of("img", uploaded.certificate.fingerprint))
    service.add_domain(WWW, https=old, force_https=True)
    service.add_bucket_domain(SRC, "pictures")
    service.add_live_domain(LIVE, "studio")
    account.time.pause(10)
    return FilledAccount(account, ours, old, uploaded, made)


def disturb(filled: FilledAccount, write: Write, fault: Fault, times: int | None = 1) -> None:
    service = filled.account.service
    for host in (service.api, service.fusion, service.pili):
        host.faults.add(fault, on=write.request, times=times)


@pytest.mark.parametrize("lag", [0, 2, 5])
@pytest.mark.parametrize("fault", LOST, ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_lost_answer_to_a_write(
    filled: FilledAccount, target: Qiniu, write: Write, fault: Fault, lag: float
) -> None:
    """An observation shows the effect, so the write is sent once, even while lists and reads
    lag.
    """
    filled.account.service.certificates.list_lag = timedelta(seconds=lag)
    filled.account.service.domains.read_lag = timedelta(seconds=lag)
    disturb(filled, write, fault)

    assert write.do(filled, target) == write.effect(filled)
    assert 1 == filled.account.count(write.request)


@pytest.mark.parametrize("fault", UNDONE, ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_lost_write(filled: FilledAccount, target: Qiniu, write: Write, fault: Fault) -> None:
    """The write had no effect and is repeated once. The effect of an upload is looked up three
    times before.
    """
    disturb(filled, write, fault)

    assert write.do(filled, target) == write.effect(filled)
    assert 2 == filled.account.count(write.request)
    if write is WRITES["upload"]:
        assert [0.5, 1.5, 4.0] == [s for s in filled.account.time.pauses if 0.5 <= s < 10]


@pytest.mark.parametrize("write", [w for w in WRITES if w != "live domain"])
def test_late_write(filled: FilledAccount, write: str) -> None:
    """The write takes effect after its time-out: the effect is observed, and the write is sent
    once.
    """
    filled.account.timeouts = SHORT
    disturb(filled, WRITES[write], Fault.delay(1.5))
    late = filled.account.target(pause=filled.account.until_all_is_done)

    assert WRITES[write].do(filled, late) == WRITES[write].effect(filled)
    assert 1 == filled.account.count(WRITES[write].request)


@pytest.mark.parametrize("fault", [Fault.reset_before(), Fault.status(503)], ids=fault_id)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_broken_qiniu(filled: FilledAccount, target: Qiniu, write: Write, fault: Fault) -> None:
    """A write is given up after a second try, a later run may retry, and the account is
    unchanged.
    """
    before = filled.account.labels()
    disturb(filled, write, fault, times=None)

    with pytest.raises(TargetUnavailable) as caught:
        write.do(filled, target)

    assert caught.value.retry.allowed
    assert 2 == filled.account.count(write.request)
    assert (before, filled.old) == (filled.account.labels(), filled.account.service.bound(WWW))
