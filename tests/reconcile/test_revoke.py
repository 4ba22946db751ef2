"""Revocations: revoked certificates, their replacement, and repeated revocations after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from certferry.core.assessment.health import (
    Concern,
    Expected,
    Recorded,
    concerns_of,
)
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Revocation, RevocationReason, version_for
from certferry.core.desired.certificate import DesiredCertificate, Issuance
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.reasons import ReasonCode
from certferry.errors import CaUnavailable, CertferryError, OrderFailed, PlanRefused
from certferry.reconcile.by_hand import Revocations
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Killed, Life, Port
from tests.reconcile.model import IMMORTAL, ModelWorld
from tests.reconcile.one_lineage import IMG, outcome

SUPERSEDED, COMPROMISED = RevocationReason.SUPERSEDED, RevocationReason.KEY_COMPROMISE


class UploadOwners:
    """The CA's revocations by fingerprint, and the number of requests."""

    def __init__(self) -> None:
        self.revoked: dict[str, RevocationReason] = {}
        self.asked_at: list[str | None] = []

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        self.revoked.setdefault(bundle.certificate.fingerprint, reason)


class Ca(ModelWorld):
    def __init__(self, *, reuse_key: bool = False) -> None:
        super().__init__()
        self.cdn.add_domain(IMG)
        self.ledger = UploadOwners()
        self._reuse_key = reuse_key

    def wanted(self) -> DesiredCertificate:
        return replace(self.desired(IMG), issuance=Issuance(reuse_key=self._reuse_key))

    def sync(self, *, renew: bool = False) -> LineageReport:
        report = self.run(self.wanted(), renew=renew)
        assert report is not None
        return report

    def revoke(self, reason: RevocationReason = SUPERSEDED, calls: int = IMMORTAL) -> list[str]:
        """Revoke in a process of its own; return the fingerprints."""
        with self.revocations(calls) as revocations:
            revoked = revocations.revoke("img", reason)
            return [version.certificate.fingerprint for version in revoked]

    def finish(self) -> None:
        """End a killed process's revocations, as a run does."""
        with self.revocations() as revocations:
            revocations.finish({"img"})

    @contextmanager
    def revocations(self, calls: int = IMMORTAL) -> Iterator[Revocations]:
        process, life = f"revoke {self.clock} {calls}", Life(calls)
        self.alive.add(process)
        state: Any = Port(self.state.seen_by(process), life)

        def account_at(directory: str | None) -> Any:
            self.ledger.asked_at.append(directory)
            return Port(self.ledger, life)

        ports = self.ports(process, life)
        try:
            yield Revocations(state, account_at, self.now, ports.progress)
        finally:
            self.alive.discard(process)

    @property
    def fingerprints(self) -> list[str]:
        """Return the fingerprints of the versions, newest first."""
        return [version.certificate.fingerprint for version in self.state.versions("img")]

    def keys(self) -> list[object]:
        """Return the keys of the versions, newest first."""
        versions = self.state.versions("img")
        return [self.state.bundle("img", version.number).privkey_pem for version in versions]

    def served(self) -> str | None:
        (fingerprint,) = {address.fingerprint for address in self.cdn.served([IMG])[IMG]}
        return fingerprint


def test_newest_certificate_is_revoked_and_replaced() -> None:
    """The next run gives the reason of its order and serves the new certificate; a further run
    changes nothing.
    """
    world = Ca()
    world.sync()
    (first,) = world.fingerprints

    assert [first] == world.revoke()
    assert {first: SUPERSEDED} == world.ledger.revoked
    assert ["memory:directory"] == world.ledger.asked_at
    plan = world.plan(world.wanted())
    assert plan.issue is not None
    assert ReasonCode.REVOKED is plan.issue.reason.code
    world.sync()

    assert 2 == len(world.fingerprints)
    assert world.fingerprints[0] == world.served()
    assert world.plan(world.wanted()).is_empty
    (entry,) = [e for e in world.state.history("img", 100) if e.event == "revoked"]
    assert {"fingerprint": first, "reason": "superseded"}.items() <= entry.facts.items()


def test_revoked_once(world_with_one: Ca) -> None:
    """A second request is done already, without a question to the CA."""
    world_with_one.revoke()

    assert [] == world_with_one.revoke(COMPROMISED)
    assert 1 == len(world_with_one.ledger.asked_at)


@pytest.fixture
def world_with_one() -> Ca:
    world = Ca()
    world.sync()
    return world


def test_killed_at_any_call_it_can_be_repeated() -> None:
    """In the end the certificate is revoked at the CA and in the state, and reported once."""
    for calls in range(1, 40):
        world = Ca()
        world.sync()
        (first,) = world.fingerprints
        try:
            world.revoke(calls=calls)
        except Killed:
            is_over = False
        else:
            is_over = True
        world.revoke()

        assert {first: SUPERSEDED} == world.ledger.revoked
        assert all(version.revocation for version in world.state.versions("img"))
        result = [e for e in world.state.history("img", 100) if e.event == "revoked"]
        assert len(result) <= 1
        world.sync()
        assert 2 == world.issuer.issued
        if is_over:
            assert calls > 5
            return
    pytest.fail("it never came to its end")


def test_killed_at_any_call_the_next_run_replaces_what_the_ca_revoked() -> None:
    """No revoked certificate stays deployed: plan, `check` and the run know of an unfinished
    command. A later run ends the revocation, and revokes no successor.
    """
    for calls in range(1, 40):
        world = Ca()
        world.sync()
        (first,) = world.fingerprints
        try:
            world.revoke(calls=calls)
        except Killed:
            is_over = False
        else:
            is_over = True

        begun = Revocation(world.clock, SUPERSEDED, is_answered=False)
        is_revoked = first in world.ledger.revoked
        issue = world.plan(world.wanted()).issue
        if is_revoked:
            assert issue is not None
            assert ReasonCode.REVOKED is issue.reason.code
            assert "revoked" in {one.problem.code for one in concerns(world)}
        half_done = world.state.versions("img")[0].revocation == begun
        world.sync()
        assert (2 if issue else 1) == world.issuer.issued
        assert not is_revoked or world.served() != first
        assert half_done == ("revocation_begun" in {one.problem.code for one in concerns(world)})
        world.finish()
        world.finish()
        if half_done:
            assert {first: SUPERSEDED} == world.ledger.revoked
            assert "revocation_begun" not in {one.problem.code for one in concerns(world)}
        if is_over:
            return
    pytest.fail("it never came to its end")


def concerns(world: Ca) -> tuple[Concern, ...]:
    """Return the concerns of `check`."""
    stored = Recorded(world.state.versions_in_use(), world.state.sightings())
    return concerns_of([Expected("img")], stored, world.clock)


def test_compromised_key_is_not_used_again() -> None:
    """Every valid certificate with the key is revoked, and the next certificate has another key."""
    world = Ca(reuse_key=True)
    world.sync()
    world.sync(renew=True)
    second, first = world.fingerprints
    key, same = world.keys()
    assert key == same

    assert [second, first] == world.revoke(COMPROMISED)
    assert {second, first} == set(world.ledger.revoked)
    world.sync()

    assert world.keys()[0] != key


def test_key_of_a_superseded_certificate_is_used_again() -> None:
    """Only a compromised key is replaced."""
    world = Ca(reuse_key=True)
    world.sync()
    world.revoke()
    world.sync()

    assert 1 == len(set(world.keys()))


def test_order_for_the_compromised_key_is_given_up() -> None:
    """Otherwise the next run would finish the order."""
    world = Ca(reuse_key=True)
    world.sync()
    for calls in range(1, 40):
        world.run(world.wanted(), renew=True, kill_after=calls)
        if world.state.order("img") is not None:
            break
    (key, *_) = world.keys()

    world.revoke(COMPROMISED)
    world.sync()

    assert world.keys()[0] != key


def test_certificate_with_another_key_stays() -> None:
    """A compromised key does not affect other keys."""
    world = Ca()
    world.sync()
    world.sync(renew=True)
    second, first = world.fingerprints

    assert [second] == world.revoke(COMPROMISED)
    assert first not in world.ledger.revoked


def test_revoked_certificate_is_not_gone_back_to() -> None:
    """A rollback offers no revoked certificate."""
    world = Ca()
    world.sync()
    world.revoke()
    world.sync()
    world.sync(renew=True)
    (_, second, _) = world.fingerprints

    versions = world.state.versions("img")
    withdrawn = {versions[0].certificate.fingerprint}
    version = version_for(withdrawn, versions, world.clock)
    assert version is not None
    assert second == version.certificate.fingerprint
    assert None is version_for(withdrawn | {second}, versions, world.clock)


def test_revoked_certificate_is_deployed_nowhere() -> None:
    """A new domain waits for another certificate."""
    world = Ca()
    world.sync()
    world.revoke()
    world.issuer.fail_with(CaUnavailable(Text("the CA is down")))
    world.cdn.add_domain(f"new.{IMG}")
    desired = replace(world.desired(), issuance=Issuance())

    report = world.run(desired)

    assert report is not None
    refused = outcome(report, Action.DEPLOY, f"new.{IMG}")
    assert Outcome.REFUSED is refused.outcome
    assert "was revoked" in str(refused.detail)


@pytest.mark.parametrize("past", [None, timedelta(days=91)])
def test_without_a_valid_certificate_there_is_nothing_to_revoke(past: timedelta | None) -> None:
    """The command is refused without a question to a CA."""
    world = Ca()
    if past is not None:
        world.sync()
        world.pass_time(past)

    with pytest.raises(PlanRefused, match="no valid certificate"):
        world.revoke()
    assert [] == world.ledger.asked_at


@pytest.mark.parametrize(
    ("refusal", "begun"),
    [(OrderFailed(Text("no")), False), (CaUnavailable(Text("the CA is down")), True)],
)
def test_refusal_of_the_ca_leaves_it_as_it_was(
    world_with_one: Ca, refusal: CertferryError, *, begun: bool
) -> None:
    """After a lost answer the CA may have revoked the certificate: the certificate is replaced as a
    revoked one.
    """

    class Refusing:
        """A CA that does not do it."""

        def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
            raise refusal

    refusing: Any = Refusing()
    with pytest.raises(type(refusal)):
        at_refusing(world_with_one, refusing).revoke("img", SUPERSEDED)
    expected = Revocation(world_with_one.clock, SUPERSEDED, is_answered=False) if begun else None
    assert [expected] == [version.revocation for version in world_with_one.state.versions("img")]


def at_refusing(world: Ca, ca: Any) -> Revocations:
    return Revocations(world.state, lambda _: ca, world.now, world.events.append)


@pytest.mark.parametrize("refusal", [OrderFailed(Text("no")), CaUnavailable(Text("it is down"))])
def test_run_goes_on_when_the_ca_does_not_end_a_revocation(
    world_with_one: Ca, refusal: CertferryError, caplog: pytest.LogCaptureFixture
) -> None:
    """The run warns, `check` names the next run and no revoking command, and a later run asks
    again. The successor stays.
    """

    class Refusing:
        def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
            raise refusal

    (first,) = world_with_one.fingerprints
    with pytest.raises(CaUnavailable):
        at_refusing(world_with_one, Down()).revoke("img", SUPERSEDED)
    world_with_one.sync()

    at_refusing(world_with_one, Refusing()).finish({"img"})

    assert f"the next run asks the CA again: {refusal.message}" in caplog.text
    [begun] = [o for o in concerns(world_with_one) if "revocation_begun" == o.problem.code]
    assert "run: certferry sync img, to ask the CA again" == str(begun.problem.hint)
    world_with_one.finish()
    assert {first: SUPERSEDED} == world_with_one.ledger.revoked
    assert "revocation_begun" not in {one.problem.code for one in concerns(world_with_one)}


class Down:
    """A CA that cannot be reached."""

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        raise CaUnavailable(Text("it is down"))
