"""The contract of `certferry.ports.receiver.Receiver`, as tests that any receiver can run."""

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
    """What the contract does to the world behind a receiver, which holds nothing at first."""

    @abstractmethod
    def fail_next(self) -> None:
        """Make the next delivery fail at its end."""

    @abstractmethod
    def close(self) -> None:
        """Make the receiver take nothing any more."""


def issue() -> CertificateBundle:
    """Return a new certificate, valid since yesterday."""
    return make_bundle(*NAMES, not_before=datetime.now(UTC) - timedelta(days=1))


def remembered(bundle: CertificateBundle) -> Delivered:
    """What the state knows of a delivery that ended well."""
    return Delivered(bundle.certificate.fingerprint, bundle.fullchain_digest)


def is_in_order(found: ObservedDomain, bundle: CertificateBundle) -> bool:
    """Return whether a receiver holds the certificate, and nothing is left to do."""
    held = found.bound == bundle.certificate.fingerprint
    return held and found.drift is None and found.state is DomainState.READY


class ReceiverContract:
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give two fixtures: `receiver`, fresh for
    every test, and `world`, a `ReceiverWorld` behind it.
    """

    def test_nothing_was_delivered(self, receiver: Receiver) -> None:
        """It is ready, and holds nothing; its name and its kind are definite."""
        found = receiver.observe(None)

        assert (DomainState.READY, None, None) == (found.state, found.bound, found.drift)
        assert found.domain
        assert found.kind.is_receiver

    def test_certificate_is_delivered(self, receiver: Receiver) -> None:
        """When `deliver` returns, everything is done."""
        bundle = issue()

        receiver.deliver(LINEAGE, bundle)

        assert is_in_order(receiver.observe(remembered(bundle)), bundle)

    def test_delivering_again_is_fine(self, receiver: Receiver) -> None:
        """A run that was killed before it could remember delivers once more."""
        bundle = issue()

        receiver.deliver(LINEAGE, bundle)
        receiver.deliver(LINEAGE, bundle)

        assert is_in_order(receiver.observe(remembered(bundle)), bundle)

    def test_new_certificate_takes_the_old_ones_place(self, receiver: Receiver) -> None:
        """The old one is an earlier one until then."""
        old, new = issue(), issue()
        receiver.deliver(LINEAGE, old)
        assert not is_in_order(receiver.observe(remembered(old)), new)

        receiver.deliver(LINEAGE, new)

        assert is_in_order(receiver.observe(remembered(new)), new)

    def test_delivery_that_fails(self, receiver: Receiver, world: ReceiverWorld) -> None:
        """It is reported, seen by the next observation, and made good by the next delivery."""
        bundle = issue()
        world.fail_next()

        with pytest.raises(DeployError):
            receiver.deliver(LINEAGE, bundle)

        assert not is_in_order(receiver.observe(None), bundle)
        receiver.deliver(LINEAGE, bundle)
        assert is_in_order(receiver.observe(remembered(bundle)), bundle)

    def test_receiver_that_takes_nothing(self, receiver: Receiver, world: ReceiverWorld) -> None:
        """The look says why and what to do, as the delivery does."""
        world.close()

        found = receiver.observe(None)
        with pytest.raises(DeployError) as refused:
            receiver.deliver(LINEAGE, issue())

        assert DomainState.UNAVAILABLE is found.state
        assert found.problem is not None
        assert found.problem.hint is not None
        assert refused.value == found.problem

    def test_looking_changes_nothing(self, receiver: Receiver) -> None:
        """However often, before and after."""
        assert receiver.observe(None) == receiver.observe(None)
        bundle = issue()
        receiver.deliver(LINEAGE, bundle)
        known = remembered(bundle)
        assert receiver.observe(known) == receiver.observe(known)

    def test_leaf_that_comes_with_another_chain(self, receiver: Receiver) -> None:
        """What was delivered with it is reported, and the other chain takes its place."""
        old = issue()
        new = with_another_chain(old)
        receiver.deliver(LINEAGE, old)
        assert old.fullchain_digest == receiver.observe(remembered(old)).fullchain_digest

        receiver.deliver(LINEAGE, new)

        assert new.fullchain_digest == receiver.observe(remembered(new)).fullchain_digest
        assert is_in_order(receiver.observe(remembered(new)), new)
