"""The contract of `certferry.ports.issuer.Issuer`, as tests that any issuer can run."""

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
"""After this time no provider lists a record late any more."""


class IssuerWorld(ABC):
    """A CA, a provider whose account holds the zone of `name`, and a state that is empty at first.

    `name` is a host name that no other world has.
    """

    name: str
    dns: DnsProvider

    def __init__(self) -> None:
        self.state: StateStore = MemoryState(is_alive=lambda _: False)
        self.events: list[Event] = []

    @abstractmethod
    def issuer(self, fate: Fate | None = None) -> Issuer:
        """Return an issuer on the state as a new process makes it, with a fate over its ports."""

    @abstractmethod
    def values(self) -> list[str]:
        """Return every TXT value that is in DNS at or below a challenge name of this world."""

    @abstractmethod
    def count_issued(self) -> int:
        """Count the certificates that the CA has issued in this world."""

    @abstractmethod
    def refuse_proofs(self, *, refused: bool) -> None:
        """Hide every value from the CA, or show them again."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the moment."""

    @abstractmethod
    def pass_time(self, duration: timedelta) -> None:
        """Move the clock forward."""

    # what the engine does

    def lease(self) -> Lease:
        """Take the lease over: the run that has it has ended."""
        return self.state.acquire(LINEAGE, self.now())

    def request(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        reused_key: Secret | None = None,
    ) -> IssueRequest:
        """Ask for these names, or for the one name of the world."""
        return IssueRequest(LINEAGE, names or (self.name,), key_type, reused_key=reused_key)

    def issue(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        reused_key: Secret | None = None,
        fate: Fate | None = None,
    ) -> CertificateBundle:
        """Issue in a process of its own."""
        dns = self.dns if fate is None else Port(self.dns, fate)
        request = self.request(*names, key_type=key_type, reused_key=reused_key)
        lease = self.lease()
        return self.issuer(fate).issue(request, dns, lease, self.events.append)

    def save(self, bundle: CertificateBundle) -> Version:
        """Keep a version."""
        return self.state.save_version(self.lease(), bundle, self.now())

    def sweep(self) -> None:
        """Sweep, when every list of the provider is right."""
        self.pass_time(SETTLED)
        self.issuer().sweep(LINEAGE, [self.dns], self.now())


MOST_CALLS = 100
FEWEST_CALLS = 10
"""An order, two records, each written down, put, and removed: fewer calls were not watched."""


class IssuerContract:
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give two fixtures: `new_world`, which
    makes worlds that have nothing to do with one another, and `world`, one of them. `stops` are the
    calls of a run, counted from 1, at which it is killed or stopped: all, unless it takes long.
    """

    stops: ClassVar[Sequence[int]] = range(1, MOST_CALLS)

    @pytest.fixture
    def world(self, new_world: Callable[[], IssuerWorld]) -> IssuerWorld:
        """One world."""
        return new_world()

    # the certificate

    @pytest.mark.parametrize("key_type", [KeyType.EC256, KeyType.EC384, KeyType.RSA2048])
    def test_certificate_is_what_was_asked_for(self, world: IssuerWorld, key_type: KeyType) -> None:
        """Its names, a key of the kind in PKCS#8, a chain without gaps, valid from now."""
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
        """It is the next certificate's, where it is of the kind that is asked for."""
        first = world.issue()
        world.save(first)

        second = world.issue(reused_key=first.privkey_pem)
        world.save(second)
        other = world.issue(key_type=KeyType.EC384, reused_key=first.privkey_pem)

        assert first.privkey_pem == second.privkey_pem
        assert first.certificate.fingerprint != second.certificate.fingerprint
        assert KeyType.EC384 == other.certificate.key_type

    def test_nothing_is_left_in_dns(self, world: IssuerWorld) -> None:
        """Neither a value nor the memory of one."""
        world.issue(world.name, f"*.{world.name}")

        assert [] == world.values()
        assert () == world.state.challenge_records(LINEAGE)

    def test_progress_is_that_of_the_lineage(self, world: IssuerWorld) -> None:
        """The listener hears what is being done, and for which lineage."""
        world.issue()

        assert world.events
        activities = [event for event in world.events if isinstance(event, Activity)]
        assert world.events == activities
        assert {LINEAGE} == {event.lineage for event in activities}

    # the order in progress

    def test_order_is_in_progress_until_the_version_is_saved(self, world: IssuerWorld) -> None:
        """Until then every run gives the same certificate; afterwards a new one is ordered."""
        first = world.issue()
        assert first == world.issue()
        assert 1 == world.count_issued()

        world.save(first)

        assert world.issue().certificate.fingerprint != first.certificate.fingerprint
        assert 2 == world.count_issued()  # noqa: PLR2004 - the second certificate

    def test_replacement_and_renewal_information_are_no_obstacle(self, world: IssuerWorld) -> None:
        """A leaf may be named that the new certificate takes the place of, the CA's own or not; and
        of both it can be asked when they should be renewed.
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
        """The declaration has changed in the meantime."""
        world.issue()

        assert (f"www.{world.name}",) == world.issue(f"www.{world.name}").certificate.names

    def test_order_for_another_kind_of_key_is_not_finished(self, world: IssuerWorld) -> None:
        """The same holds for the key."""
        world.issue()

        assert KeyType.EC384 == world.issue(key_type=KeyType.EC384).certificate.key_type

    def test_order_needs_the_lease(self, world: IssuerWorld) -> None:
        """A run that has lost it issues nothing."""
        lost = world.lease()
        world.lease()

        with pytest.raises(LeaseLost):
            world.issuer().issue(world.request(), world.dns, lost, world.events.append)
        assert 0 == world.count_issued()
        assert [] == world.values()

    # what would stop it

    def test_name_without_a_zone_is_reported_before_an_order(self, world: IssuerWorld) -> None:
        """It is asked for by itself as well; neither leaves an order that a later run would go on
        with.
        """
        names = (world.name, "www.no-zone-of-ours.test")
        with pytest.raises(ZoneNotFound, match=r"no-zone-of-ours\.test"):
            world.issuer().must_be_provable(names, world.dns)
        with pytest.raises(ZoneNotFound):
            world.issue(*names)

        assert world.state.order(LINEAGE) is None
        assert [] == world.values()

    def test_what_can_be_proven_is_let_pass(self, world: IssuerWorld) -> None:
        """Nothing is written, in DNS or in the state."""
        world.issuer().must_be_provable((world.name, f"*.{world.name}"), world.dns)

        assert world.state.order(LINEAGE) is None
        assert [] == world.values()

    # failures

    def test_proof_that_is_not_accepted_leaves_nothing(self, world: IssuerWorld) -> None:
        """The error may pass, nothing is left in DNS, and the next run can succeed."""
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
        """Its error is not said again in other words; no certificate was issued."""
        error = DnsUnavailable(Text("the provider does not answer"))
        world.dns = _Failing(error)

        with pytest.raises(DnsUnavailable) as failure:
            world.issue()

        assert error is failure.value
        assert 0 == world.count_issued()

    def test_process_killed_after_any_call(self, new_world: Callable[[], IssuerWorld]) -> None:
        """The next run ends with one certificate and without a record."""
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
        """What is left in DNS is known to the state, and the next run cleans up and finishes."""
        for call in self.stops:
            world, shock = new_world(), Shock(call, Interrupted(Text("stopped")), done=done)
            # A record whose removal was interrupted is for the next run, so nothing may be raised.
            with contextlib.suppress(Interrupted):
                world.issue(world.name, f"*.{world.name}", fate=shock)
            if not shock.was_felt:
                break
            known = {record.value for record in world.state.challenge_records(LINEAGE)}
            assert set(world.values()) <= known
            _must_be_finished_by_the_next_run(world)
        assert FEWEST_CALLS < call < MOST_CALLS - 1

    # sweep

    @pytest.mark.parametrize("has_handle", [True, False])
    @pytest.mark.parametrize("is_there", [True, False])
    def test_record_that_was_left_is_swept(
        self, world: IssuerWorld, *, has_handle: bool, is_there: bool
    ) -> None:
        """Whether it is still there or not, and whether its handle is known or not."""
        record = _leave_record(world, is_there=is_there, has_handle=has_handle)

        world.sweep()

        assert [] == world.values()
        assert () == world.state.challenge_records(LINEAGE)
        assert not world.dns.remove_txt(record.name, record.value, None)

    def test_sweep_removes_only_what_was_left(self, world: IssuerWorld) -> None:
        """Another client's value at the same name stays, and another lineage's row."""
        record = _leave_record(world)
        world.dns.add_txt(record.name, "of-another-client")
        other = replace(record, lineage="other", value="of-another-lineage")
        world.state.save_challenge_record(other)

        world.sweep()

        assert ["of-another-client"] == world.values()
        assert (other,) == world.state.challenge_records("other")
        world.dns.remove_txt(record.name, "of-another-client", None)

    def test_sweep_that_fails_is_reported_and_made_good_later(self, world: IssuerWorld) -> None:
        """As long as a record may be there, it is not forgotten."""
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
    """A provider that raises whatever it is asked."""

    def __init__(self, error: DnsUnavailable) -> None:
        self._error = error

    def add_txt(self, name: str, value: str) -> str:
        raise self._error

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        raise self._error


def _leave_record(
    world: IssuerWorld, *, is_there: bool = True, has_handle: bool = True
) -> ChallengeRecord:
    """Leave a record as a run does that is killed."""
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
