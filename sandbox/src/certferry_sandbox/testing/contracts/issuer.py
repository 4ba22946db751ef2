"""The contract of `certferry.ports.issuer.Issuer`, as tests for any issuer."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import pytest

from certferry.core.certificates.certificate import CertificateBundle, KeyType, RenewalInfo
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import challenge_name
from certferry.core.events import Activity, Event
from certferry.core.redaction import Secret
from certferry.errors import (
    AuthorizationFailed,
    CertferryError,
    DnsUnavailable,
    Interrupted,
    LeaseLost,
    ZoneNotFound,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.state import ChallengeRecord, Lease, StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.interruptions import Fate, Killed, Life, Port, Shock
from certferry_sandbox.testing.memory_state import MemoryState

LINEAGE = "img"
SETTLED = timedelta(minutes=5)
"""After this time, every list of a provider is up to date."""


class IssuerWorld(ABC):
    """A CA, a DNS provider, and a state that is empty at first.

    `name` is a host name of this world alone. The provider's account holds the zone of `name`.
    """

    name: str
    dns: DnsProvider

    def __init__(self) -> None:
        self.state: StateStore = MemoryState(is_alive=lambda _: False)
        self.events: list[Event] = []

    @abstractmethod
    def issuer(self, fate: Fate | None = None) -> Issuer:
        """Return an issuer as a new process has. `fate` can interrupt the calls of its ports."""

    @abstractmethod
    def values(self) -> list[str]:
        """Return every TXT value in DNS at or below a challenge name of this world."""

    @abstractmethod
    def count_issued(self) -> int:
        """Count the certificates that the CA has issued in this world."""

    @abstractmethod
    def refuse_proofs(self, *, refused: bool) -> None:
        """Hide all TXT values from the CA, or show the values again."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the current moment of this world."""

    @abstractmethod
    def pass_time(self, duration: timedelta) -> None:
        """Move the clock forward."""

    # the steps of a run

    def lease(self) -> Lease:
        """Return a new lease. The run with an earlier lease has ended."""
        return self.state.acquire(LINEAGE, self.now())

    def request(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        reused_key: Secret | None = None,
    ) -> IssueRequest:
        """Return a request for these names, by default for the world's `name`."""
        return IssueRequest(LINEAGE, names or (self.name,), key_type, reused_key=reused_key)

    def issue(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        reused_key: Secret | None = None,
        fate: Fate | None = None,
    ) -> CertificateBundle:
        """Issue a certificate as a separate process."""
        dns = self.dns if fate is None else Port(self.dns, fate)
        request = self.request(*names, key_type=key_type, reused_key=reused_key)
        lease = self.lease()
        return self.issuer(fate).issue(request, dns, lease, self.events.append)

    def save(self, bundle: CertificateBundle) -> Version:
        """Save a certificate as a version in the state."""
        return self.state.save_version(self.lease(), bundle, self.now())

    def sweep(self) -> None:
        """Sweep after `SETTLED`, when every list of the provider is up to date."""
        self.pass_time(SETTLED)
        self.issuer().sweep(LINEAGE, [self.dns], self.now())


MOST_CALLS = 100
"""A run makes fewer calls; tests that interrupt each call stop here."""
FEWEST_CALLS = 10
"""A run makes more calls: an order, and two records that are stored, added and removed. If a test
ends after fewer calls, the fate has missed some.
"""


class IssuerContract:
    """Every promise of the port.

    Inherit from `IssuerContract` in a class that pytest collects, and define the fixture
    `new_world`, a function that makes independent worlds. `stops` are the calls of a run, counted
    from 1, at which tests kill or stop the run. A slow issuer can choose fewer calls.
    """

    stops: ClassVar[Sequence[int]] = range(1, MOST_CALLS)

    @pytest.fixture
    def world(self, new_world: Callable[[], IssuerWorld]) -> IssuerWorld:
        """Return a new world."""
        return new_world()

    # the certificate

    @pytest.mark.parametrize("key_type", [KeyType.EC256, KeyType.EC384, KeyType.RSA2048])
    def test_certificate_is_what_was_asked_for(self, world: IssuerWorld, key_type: KeyType) -> None:
        """The certificate is valid, with the names, a PKCS#8 key of the type, and a full chain."""
        names = (world.name, f"*.{world.name}")
        bundle = world.issue(*names, key_type=key_type)

        certificate = bundle.certificate
        assert set(names) == set(certificate.names)
        assert key_type == certificate.key_type
        assert bundle.privkey_pem.reveal().startswith("-----BEGIN PRIVATE KEY-----")
        assert bundle.key_matches
        assert bundle.chain_complete
        assert certificate.not_before <= world.now() < certificate.not_after
        assert 1 == world.count_issued()

    def test_key_that_is_to_be_used_again(self, world: IssuerWorld) -> None:
        """The next certificate has the same key, if the key has the requested type."""
        first = world.issue()
        world.save(first)

        second = world.issue(reused_key=first.privkey_pem)
        world.save(second)
        other = world.issue(key_type=KeyType.EC384, reused_key=first.privkey_pem)

        assert first.privkey_pem == second.privkey_pem
        assert first.certificate.fingerprint != second.certificate.fingerprint
        assert KeyType.EC384 == other.certificate.key_type

    def test_nothing_is_left_in_dns(self, world: IssuerWorld) -> None:
        """After issuing, DNS has no value, and the state has no challenge record."""
        world.issue(world.name, f"*.{world.name}")

        assert [] == world.values()
        assert () == world.state.challenge_records(LINEAGE)

    def test_progress_is_that_of_the_lineage(self, world: IssuerWorld) -> None:
        """The listener gets activities, and each activity names the lineage."""
        world.issue()

        assert world.events
        activities = [event for event in world.events if isinstance(event, Activity)]
        assert world.events == activities
        assert {LINEAGE} == {event.lineage for event in activities}

    # the order in progress

    def test_order_is_in_progress_until_the_version_is_saved(self, world: IssuerWorld) -> None:
        """Every run returns the same certificate until `save_version`; the next run orders anew."""
        first = world.issue()
        assert first == world.issue()
        assert 1 == world.count_issued()

        world.save(first)

        assert world.issue().certificate.fingerprint != first.certificate.fingerprint
        assert 2 == world.count_issued()  # noqa: PLR2004 - the second certificate

    def test_replacement_and_renewal_information_are_no_obstacle(self, world: IssuerWorld) -> None:
        """A request can name a leaf to replace, from this CA or another CA.

        The issuer returns renewal information for both leaves.
        """
        own = world.issue()
        world.save(own)
        strange = make_bundle(world.name, not_before=world.now())
        for replaced in (own, strange):
            request = replace(world.request(), replaced_pem=replaced.cert_pem)
            new = world.issuer().issue(request, world.dns, world.lease(), world.events.append)
            world.save(new)

            assert new.key_matches
            assert isinstance(world.issuer().renewal_info(replaced.cert_pem), RenewalInfo)

    def test_order_for_other_names_is_not_finished(self, world: IssuerWorld) -> None:
        """If the declared names have changed, the next run orders a new certificate."""
        world.issue()

        assert (f"www.{world.name}",) == world.issue(f"www.{world.name}").certificate.names

    def test_order_for_another_kind_of_key_is_not_finished(self, world: IssuerWorld) -> None:
        """If the declared key type has changed, the next run orders a new certificate."""
        world.issue()

        assert KeyType.EC384 == world.issue(key_type=KeyType.EC384).certificate.key_type

    def test_order_needs_the_lease(self, world: IssuerWorld) -> None:
        """A run that has lost its lease issues nothing."""
        lost = world.lease()
        world.lease()

        with pytest.raises(LeaseLost):
            world.issuer().issue(world.request(), world.dns, lost, world.events.append)
        assert 0 == world.count_issued()
        assert [] == world.values()

    # obstacles before an order

    def test_name_without_a_zone_is_reported_before_an_order(self, world: IssuerWorld) -> None:
        """Both `must_be_provable` and `issue` report the name, and leave no order in the state."""
        names = (world.name, "www.no-zone-of-ours.test")
        with pytest.raises(ZoneNotFound, match=r"no-zone-of-ours\.test"):
            world.issuer().must_be_provable(names, world.dns)
        with pytest.raises(ZoneNotFound):
            world.issue(*names)

        assert world.state.order(LINEAGE) is None
        assert [] == world.values()

    def test_what_can_be_proven_is_let_pass(self, world: IssuerWorld) -> None:
        """`must_be_provable` accepts the names, and writes nothing in DNS or in the state."""
        world.issuer().must_be_provable((world.name, f"*.{world.name}"), world.dns)

        assert world.state.order(LINEAGE) is None
        assert [] == world.values()

    # failures

    def test_proof_that_is_not_accepted_leaves_nothing(self, world: IssuerWorld) -> None:
        """The error allows a retry, DNS is clean, and the next run can succeed."""
        world.refuse_proofs(refused=True)
        with pytest.raises(AuthorizationFailed) as failure:
            world.issue(world.name, f"*.{world.name}")

        assert failure.value.retry.allowed
        assert failure.value.hint is not None
        assert [] == world.values()
        assert () == world.state.challenge_records(LINEAGE)

        world.refuse_proofs(refused=False)
        assert world.issue(world.name, f"*.{world.name}").key_matches
        assert 1 == world.count_issued()

    def test_provider_that_fails_is_reported_as_it_is(self, world: IssuerWorld) -> None:
        """The provider's own error is raised, and no certificate is issued."""
        error = DnsUnavailable(Text("the provider does not answer"))
        world.dns = _Failing(error)

        with pytest.raises(DnsUnavailable) as failure:
            world.issue()

        assert error is failure.value
        assert 0 == world.count_issued()

    def test_process_killed_after_any_call(self, new_world: Callable[[], IssuerWorld]) -> None:
        """After a kill at any call, the next run ends with one certificate and a clean DNS."""
        for calls in self.stops:
            world, life = new_world(), Life(calls)
            with contextlib.suppress(Killed, CertferryError):
                world.issue(world.name, f"*.{world.name}", fate=life)
            if not life.is_over:
                break
            _must_be_finished_by_the_next_run(world)
        assert FEWEST_CALLS < calls < MOST_CALLS - 1

    @pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
    def test_run_stopped_at_any_call(
        self, new_world: Callable[[], IssuerWorld], *, done: bool
    ) -> None:
        """The state knows every value left in DNS, and the next run cleans up and finishes."""
        for call in self.stops:
            world, shock = new_world(), Shock(call, Interrupted(Text("stopped")), done=done)
            # The run can end without an error, because the next run removes a record that is left.
            with contextlib.suppress(Interrupted):
                world.issue(world.name, f"*.{world.name}", fate=shock)
            if not shock.was_felt:
                break
            stored = {record.value for record in world.state.challenge_records(LINEAGE)}
            assert set(world.values()) <= stored
            _must_be_finished_by_the_next_run(world)
        assert FEWEST_CALLS < call < MOST_CALLS - 1

    # sweep

    @pytest.mark.parametrize("has_handle", [True, False])
    @pytest.mark.parametrize("is_there", [True, False])
    def test_record_that_was_left_is_swept(
        self, world: IssuerWorld, *, has_handle: bool, is_there: bool
    ) -> None:
        """A sweep works with and without the record in DNS, and with and without a handle."""
        record = _leave_record(world, is_there=is_there, has_handle=has_handle)

        world.sweep()

        assert [] == world.values()
        assert () == world.state.challenge_records(LINEAGE)
        assert not world.dns.remove_txt(record.name, record.value, None)

    def test_sweep_removes_only_what_was_left(self, world: IssuerWorld) -> None:
        """Another client's value at the same name stays, and so does another lineage's record."""
        record = _leave_record(world)
        world.dns.add_txt(record.name, "of-another-client")
        other = replace(record, lineage="other", value="of-another-lineage")
        world.state.save_challenge_record(other)

        world.sweep()

        assert ["of-another-client"] == world.values()
        assert (other,) == world.state.challenge_records("other")
        world.dns.remove_txt(record.name, "of-another-client", None)

    def test_sweep_that_fails_is_reported_and_made_good_later(self, world: IssuerWorld) -> None:
        """The state keeps a challenge record until a sweep has succeeded."""
        record = _leave_record(world)
        provider, world.dns = world.dns, _Failing(DnsUnavailable(Text("no answer")))
        with pytest.raises(DnsUnavailable):
            world.sweep()
        assert (record,) == world.state.challenge_records(LINEAGE)

        world.dns = provider
        world.sweep()

        assert [] == world.values()
        assert () == world.state.challenge_records(LINEAGE)


class _Failing:
    """A provider that raises `error` at each call."""

    def __init__(self, error: DnsUnavailable) -> None:
        self._error = error

    def add_txt(self, name: str, value: str) -> str:
        raise self._error

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        raise self._error


def _leave_record(
    world: IssuerWorld, *, is_there: bool = True, has_handle: bool = True
) -> ChallengeRecord:
    """Leave a challenge record, as a killed run does, and return the record."""
    name, value = challenge_name(world.name), "left-over".ljust(43, "-")  # as long as a challenge
    handle = world.dns.add_txt(name, value)
    if not is_there:
        world.dns.remove_txt(name, value, handle)
    record = ChallengeRecord(LINEAGE, name, value, world.now(), handle if has_handle else None)
    world.state.save_challenge_record(record)
    return record


def _must_be_finished_by_the_next_run(world: IssuerWorld) -> None:
    names = (world.name, f"*.{world.name}")
    world.sweep()

    assert set(names) == set(world.issue(*names).certificate.names)
    assert 1 == world.count_issued()
    assert [] == world.values()
    assert () == world.state.challenge_records(LINEAGE)
