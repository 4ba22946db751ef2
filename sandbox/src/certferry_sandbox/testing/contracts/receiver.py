"""The contract of `certferry.ports.receiver.Receiver`, as tests for any receiver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.errors import DeployError
from certferry.ports.receiver import Delivered, Receiver
from certferry_sandbox.testing.certificates import make_bundle, with_another_chain

LINEAGE = "img"
NAMES = ("img.example.com", "*.img.example.com")


class ReceiverWorld(ABC):
    """The world behind a receiver. The receiver holds no certificate at first."""

    @abstractmethod
    def fail_next(self) -> None:
        """Make the next delivery fail at the last step."""

    @abstractmethod
    def close(self) -> None:
        """Make the receiver refuse every delivery."""


def issue() -> CertificateBundle:
    """Return a new certificate, valid since yesterday."""
    return make_bundle(*NAMES, not_before=datetime.now(UTC) - timedelta(days=1))


def remembered(bundle: CertificateBundle) -> Delivered:
    """Return the state's record of a delivery that succeeded."""
    return Delivered(bundle.certificate.fingerprint, bundle.fullchain_digest)


def is_in_order(observed: ObservedDomain, bundle: CertificateBundle) -> bool:
    """Whether the receiver holds the certificate and needs no further delivery."""
    held = observed.bound == bundle.certificate.fingerprint
    return held and observed.drift is None and observed.state is DomainState.READY


class ReceiverContract:
    """Every promise of the port.

    Inherit from `ReceiverContract` in a class that pytest collects, and define two fixtures:
    `receiver`, new for every test, and `world`, the `ReceiverWorld` behind the receiver.
    """

    def test_nothing_was_delivered(self, receiver: Receiver) -> None:
        """A new receiver is ready, holds no certificate, and has a name and a receiver's kind."""
        observed = receiver.observe(None)

        assert (DomainState.READY, None, None) == (observed.state, observed.bound, observed.drift)
        assert observed.domain
        assert observed.kind.is_receiver

    def test_certificate_is_delivered(self, receiver: Receiver) -> None:
        """After `deliver`, the receiver holds the certificate and needs no further step."""
        bundle = issue()

        receiver.deliver(LINEAGE, bundle)

        assert is_in_order(receiver.observe(remembered(bundle)), bundle)

    def test_delivering_again_is_fine(self, receiver: Receiver) -> None:
        """A second delivery is harmless: a run killed before storing the first delivers again."""
        bundle = issue()

        receiver.deliver(LINEAGE, bundle)
        receiver.deliver(LINEAGE, bundle)

        assert is_in_order(receiver.observe(remembered(bundle)), bundle)

    def test_new_certificate_takes_the_old_ones_place(self, receiver: Receiver) -> None:
        """`observe` shows the old certificate until `deliver` replaces the old certificate."""
        old, new = issue(), issue()
        receiver.deliver(LINEAGE, old)
        assert not is_in_order(receiver.observe(remembered(old)), new)

        receiver.deliver(LINEAGE, new)

        assert is_in_order(receiver.observe(remembered(new)), new)

    def test_delivery_that_fails(self, receiver: Receiver, world: ReceiverWorld) -> None:
        """`deliver` raises, `observe` shows the failure, and the next delivery succeeds."""
        bundle = issue()
        world.fail_next()

        with pytest.raises(DeployError):
            receiver.deliver(LINEAGE, bundle)

        assert not is_in_order(receiver.observe(None), bundle)
        receiver.deliver(LINEAGE, bundle)
        assert is_in_order(receiver.observe(remembered(bundle)), bundle)

    def test_receiver_that_takes_nothing(self, receiver: Receiver, world: ReceiverWorld) -> None:
        """`observe` reports the same problem as `deliver`, with a hint."""
        world.close()

        observed = receiver.observe(None)
        with pytest.raises(DeployError) as refused:
            receiver.deliver(LINEAGE, issue())

        assert DomainState.UNAVAILABLE is observed.state
        assert observed.problem is not None
        assert observed.problem.hint is not None
        assert refused.value == observed.problem

    def test_looking_changes_nothing(self, receiver: Receiver) -> None:
        """A second `observe` returns the same, before and after a delivery."""
        assert receiver.observe(None) == receiver.observe(None)
        bundle = issue()
        receiver.deliver(LINEAGE, bundle)
        delivered = remembered(bundle)
        assert receiver.observe(delivered) == receiver.observe(delivered)

    def test_leaf_that_comes_with_another_chain(self, receiver: Receiver) -> None:
        """`observe` reports the delivered chain, and a new chain replaces the old chain."""
        old = issue()
        new = with_another_chain(old)
        receiver.deliver(LINEAGE, old)
        assert old.fullchain_digest == receiver.observe(remembered(old)).fullchain_digest

        receiver.deliver(LINEAGE, new)

        assert new.fullchain_digest == receiver.observe(remembered(new)).fullchain_digest
        assert is_in_order(receiver.observe(remembered(new)), new)
