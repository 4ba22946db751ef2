"""Observations of Qiniu: domains, their states, and copies of certferry's."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry.adapters.qiniu.account import DETAIL_AGE
from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import Certificate
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.planning.problems import stuck_error
from certferry.errors import TargetRejected
from certferry.ports.target import Scope
from certferry.present.status_text import ticket
from certferry.values import replace
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import REQUEST_ID, WWW, QiniuAccount, bundle, refusal
from tests.sandbox import qiniu_calls

IMG = "img.example.com"
OWN_ACCESS_KEY, OWN_SECRET_KEY = "aK7" * 13 + "x", "sK4_" * 10
SIGNATURE, KEY_LINE = "c2lnbmF0dXJlIG9mIHJlcXVlc3Q=", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49"
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n-----END PRIVATE KEY-----"
"""Secrets with real forms: masking recognises the form."""


def scope_of(
    *domains: str,
    names: tuple[str, ...] = (WWW,),
    kind: Kind = Kind.AUTO,
    certificates: tuple[Certificate, ...] = (),
) -> Scope:
    """Return the scope of these domains, or of every covered domain if none is given."""
    return Scope("img", names, domains or None, kind, certificates)


def the_domain(target: Qiniu, name: str = WWW) -> ObservedDomain:
    [observed] = target.observe(scope_of(name)).domains
    return observed


def test_every_covered_domain_is_observed(account: QiniuAccount, target: Qiniu) -> None:
    """A wildcard covers one label, and a wildcard domain appears under its own name only."""
    for name in (
        "example.com",
        IMG,
        WWW,
        "a.img.example.com",
        ".img.example.com",
        ".example.com",
        "example.org",
    ):
        account.service.add_domain(name)

    def observed_names(*names: str) -> set[str]:
        return {domain.domain for domain in target.observe(scope_of(names=names)).domains}

    assert {IMG, "a.img.example.com", "*.img.example.com"} == observed_names(
        IMG, "*.img.example.com"
    )
    assert {IMG, WWW, "*.example.com"} == observed_names("*.example.com")
    assert {"example.com"} == observed_names("example.com")
    assert set() == observed_names("img.example.net")


def test_children_and_trial_domains_are_skipped(account: QiniuAccount, target: Qiniu) -> None:
    """A child has its parent's certificate, and a trial domain belongs to Qiniu."""
    account.service.add_domain(".example.com")
    account.service.add_domain(IMG, type="pan", parent=".example.com")
    account.service.add_domain(WWW, type="test")

    domains = target.observe(scope_of(names=("*.example.com",))).domains

    assert ["*.example.com"] == [domain.domain for domain in domains]


@pytest.mark.parametrize("state", ["offlined", "frozen"])
def test_switched_off_domain(state: str, account: QiniuAccount, target: Qiniu) -> None:
    """A discovered domain is left out with a report; a named domain is unavailable."""
    account.service.add_domain(WWW, state=state)
    account.service.add_domain(IMG)

    observed = target.observe(scope_of(names=("*.example.com",)))

    assert [IMG] == [domain.domain for domain in observed.domains]
    assert [WWW] == [domain.domain for domain in observed.left_out]
    assert DomainState.UNAVAILABLE is the_domain(target).state


def test_frozen_account_is_reported(account: QiniuAccount, target: Qiniu) -> None:
    """Domains of a frozen account stay in the observation, because leaving all of them out would
    hide the problem.
    """
    account.service.add_domain(WWW)
    body = b'{"name":"www.example.com","operatingState":"success","uidIsFreezed":true}'
    account.service.api.faults.add(Fault.status(200, body), on=f"GET /domain/{WWW}")

    [domain] = target.observe(scope_of()).domains

    assert DomainState.UNAVAILABLE is domain.state


def test_domain_that_vanishes_during_an_observation(account: QiniuAccount, target: Qiniu) -> None:
    """An unnamed domain that disappears after the list was read is left out."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(refusal(404, 404001), on=f"GET /domain/{WWW}")

    domains = target.observe(scope_of(names=("*.example.com",))).domains

    assert [IMG] == [domain.domain for domain in domains]


def test_named_domains(account: QiniuAccount, target: Qiniu) -> None:
    """Named domains are read one by one, without the list."""
    account.service.add_domain(".example.com")
    account.service.add_domain(WWW)

    domains = target.observe(scope_of("*.example.com", WWW)).domains

    assert [("*.example.com", Kind.CDN), (WWW, Kind.CDN)] == [(d.domain, d.kind) for d in domains]
    assert 0 == account.count("GET /domain")


@pytest.mark.parametrize("kind", [Kind("video")])
def test_unknown_kind(kind: Kind, target: Qiniu) -> None:
    """The error comes before any request."""
    with pytest.raises(TargetRejected, match=kind.value):
        target.observe(scope_of(WWW, kind=kind))


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_domain_without_https(absent: Any, account: QiniuAccount, target: Qiniu) -> None:
    """The domain has no binding, and settings without effect are left out."""
    account.service.domains.absent_https = absent
    account.service.add_domain(WWW)

    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY) == the_domain(target)


def test_domain_with_https(account: QiniuAccount, target: Qiniu) -> None:
    """The observation has the bound id, the certificate's end, and the settings with TLS versions
    in rising order.
    """
    cert_id = qiniu_calls.seed(account.service, [WWW])
    account.service.add_domain(WWW, https=cert_id, http2=True, tls_versions=["TLSv1.3", "TLSv1.2"])

    settings = HttpsSettings(force_https=False, http2=True, tls_versions=("TLSv1.2", "TLSv1.3"))
    observed = the_domain(target)
    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY, cert_id, settings) == (
        replace(observed, bound_until=None)
    )
    assert account.service.certificates.stored()[0].leaf.not_valid_after_utc == observed.bound_until


def test_pending_change(account: QiniuAccount, target: Qiniu) -> None:
    """The domain is processing with the earlier binding, without a problem."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    account.service.add_domain(WWW, https=old)
    account.service.hold(WWW)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    observed = the_domain(target)

    assert (DomainState.PROCESSING, old, None) == (observed.state, observed.bound, observed.problem)
    account.service.release(WWW)
    observed = the_domain(target)
    assert (DomainState.READY, new) == (observed.state, observed.bound)


@pytest.mark.parametrize(
    ("description", "advice"),
    [
        (
            "verify https crt fail",
            "`certferry sync --renew NAME`, or have the certificate's client issue it",
        ),
        ("domain have no icp", "ICP"),
        ("源站测试失败", "console"),
    ],
)
def test_failed_change(description: str, advice: str, account: QiniuAccount, target: Qiniu) -> None:
    """The problem has Qiniu's description, and the earlier binding stays."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    account.service.add_domain(WWW, https=old)
    account.service.fail_next(WWW, description)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    observed = the_domain(target)

    assert (DomainState.FAILED, old) == (observed.state, observed.bound)
    assert f"Qiniu could not carry out modify_https_conf: {description}" == str(observed.problem)
    assert observed.problem is not None
    assert advice in str(observed.problem.hint)


def test_failed_change_with_a_quoted_key(account: QiniuAccount, target: Qiniu) -> None:
    """The quotation of Qiniu is a single line of limited length, without anything that resembles a
    key.
    """
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    key = secrets.token_urlsafe(40)
    account.service.add_domain(WWW, https=old)
    account.service.fail_next(WWW, f"bad pri {key}\x1b[2J\n" + "so it is " * 1000)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    reported = str(the_domain(target).problem)

    assert reported.startswith("Qiniu could not carry out modify_https_conf: bad pri •••")
    assert key not in reported
    assert not {"\x1b", "\n"} & set(reported)
    assert len(reported) < 1100


def test_failed_change_with_its_certificate_bound(account: QiniuAccount, target: Qiniu) -> None:
    """The domain has failed, although Qiniu shows the wanted certificate."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    account.service.add_domain(WWW, https=old)
    account.service.fail_next(WWW, sticks=True)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    observed = the_domain(target)

    assert (DomainState.FAILED, new) == (observed.state, observed.bound)
    assert "verify https crt fail" in str(observed.problem)


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_hidden_https(absent: Any, account: QiniuAccount, target: Qiniu) -> None:
    """The `protocol` is HTTPS without details: the domain is not HTTP, and its binding is
    hidden.
    """
    account.service.domains.absent_https = absent
    cert_id = qiniu_calls.seed(account.service, [WWW])
    account.service.add_domain(WWW, https=cert_id).hides_https = True

    observed = the_domain(target)

    assert (DomainState.READY, None, True) == (
        observed.state,
        observed.bound,
        observed.binding_hidden,
    )
    account.service.domain(WWW).hides_https = False
    account.time.pause(DETAIL_AGE)
    observed = the_domain(target)
    assert (DomainState.READY, cert_id, False) == (
        observed.state,
        observed.bound,
        observed.binding_hidden,
    )


def test_free_certificate_of_qiniu(account: QiniuAccount, target: Qiniu) -> None:
    """The domain has no binding of the account's, and its settings are observed."""
    account.service.add_domain(WWW, free_certificate=True, force_https=True)

    settings = HttpsSettings(force_https=True, http2=False)
    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY, https=settings) == the_domain(target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "frozen"}, "frozen"),
        ({"state": "offlined"}, "offline"),
        ({"state": "deleted"}, "deleted"),
        ({"could_operate": False}, "self-service"),
        ({"type": "pan", "parent": ".example.com"}, "takes its certificate from *.example.com"),
        ({"type": "test"}, "trial domain"),
    ],
)
def test_unavailable_domain(
    options: dict[str, Any], words: str, account: QiniuAccount, target: Qiniu
) -> None:
    """The domain is unavailable, with reason and hint."""
    account.service.add_domain(WWW, **options)

    observed = the_domain(target)

    assert DomainState.UNAVAILABLE is observed.state
    assert observed.problem is not None
    assert words in str(observed.problem)
    assert observed.problem.hint


def test_flag_of_a_frozen_account(account: QiniuAccount, target: Qiniu) -> None:
    """`uidIsFreezed` makes every domain of the account unavailable, whatever the domain's state."""
    body = b'{"name":"www.example.com","operatingState":"success","uidIsFreezed":true}'
    account.service.api.faults.add(Fault.status(200, body))

    assert DomainState.UNAVAILABLE is the_domain(target).state


def test_change_in_progress_of_a_locked_domain(account: QiniuAccount, target: Qiniu) -> None:
    """During a change, `couldOperateBySelf` has no meaning for the time after."""
    account.service.add_domain(WWW, state="processing", could_operate=False)

    assert DomainState.PROCESSING is the_domain(target).state


def test_unknown_domain(account: QiniuAccount, target: Qiniu) -> None:
    """The domain is no CDN domain of the account; other domains are observed."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain("other.example.com", "pictures")

    missing, existing = target.observe(scope_of(WWW, IMG)).domains

    assert (WWW, DomainState.UNAVAILABLE) == (missing.domain, missing.state)
    assert "the domain is not a CDN domain of the account (404001 无此域名)" in str(missing.problem)
    assert missing.problem is not None
    assert "X-Reqid" in str(missing.problem.hint)
    assert DomainState.READY is existing.state


def test_keys_without_permission_for_kodo(account: QiniuAccount, target: Qiniu) -> None:
    """The problem mentions that the domain may belong to Kodo."""
    account.service.uc.faults.add(refusal(403, None, "no permission"), times=None)

    problem = str(the_domain(target).problem)

    assert "not a CDN domain of the account" in problem
    assert "these keys cannot see Kodo's domains" in problem


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
def test_domain_of_another_account(
    domains: tuple[str, ...], account: QiniuAccount, target: Qiniu
) -> None:
    """The refused domain is reported, and other domains are observed."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(refusal(403, 403023), on=f"GET /domain/{WWW}")

    other, own = target.observe(scope_of(*domains, names=("*.example.com",))).domains

    assert "belongs to another account" in str(other.problem)
    assert DomainState.READY is own.state


@pytest.mark.parametrize(
    "secret",
    [OWN_ACCESS_KEY, OWN_SECRET_KEY, f"QBox {OWN_ACCESS_KEY}:{SIGNATURE}", PRIVATE_KEY],
    ids=["access-key", "secret-key", "token", "private-key"],
)
@pytest.mark.parametrize("task_field", ["operationType", "operTaskId", "operatingStateDesc"])
def test_ticket_without_a_secret(task_field: str, secret: str, account: QiniuAccount) -> None:
    """A ticket is sent to others, so keys in Qiniu's task are masked."""
    account.service.add_account(OWN_ACCESS_KEY, OWN_SECRET_KEY)
    account.service.add_domain(WWW)
    record = {"name": WWW, "operatingState": "processing", task_field: secret}
    answer = Fault.status(200, json.dumps(record).encode(), headers=[("X-Reqid", REQUEST_ID)])
    account.service.api.faults.add(answer, on=f"GET /domain/{WWW}", times=None)
    target = account.target(access_key=OWN_ACCESS_KEY, secret=OWN_SECRET_KEY)

    domain = the_domain(target)
    since, now = datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 26, tzinfo=UTC)
    error = stuck_error("qiniu", domain, since, now, served=(), fingerprint="aa" * 32)

    assert error.ticket
    reported = ticket(error.ticket) + str(error)
    assert WWW in reported
    for key in (OWN_ACCESS_KEY, OWN_SECRET_KEY, SIGNATURE, KEY_LINE):
        assert key not in reported


@pytest.mark.parametrize("kind", [Kind.CDN, KODO, PILI])
def test_changes_of_another_run(account: QiniuAccount, target: Qiniu, kind: Kind) -> None:
    """An observation anew ignores earlier reads and Qiniu's outdated list."""
    match kind:
        case Kind.CDN:
            account.service.add_domain(WWW)
        case _ if kind == KODO:
            account.service.add_bucket_domain(WWW, "pictures")
        case _:
            account.service.add_live_domain(WWW, "studio")
    made = bundle(WWW)
    scope = scope_of(WWW, kind=kind, certificates=(made.certificate,))
    assert () == target.observe(scope).remotes
    account.service.domains.list_lag = timedelta(seconds=2)
    other = account.target()
    remote_id = other.upload("img", made)
    other.bind(WWW, kind, remote_id, DesiredHttps())

    observed = target.observe(replace(scope, anew=True))

    assert [remote_id] == [remote.remote_id for remote in observed.remotes]
    [domain] = observed.domains
    assert remote_id == domain.bound or domain.state is DomainState.PROCESSING
