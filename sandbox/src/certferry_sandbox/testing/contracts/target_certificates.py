"""The contract of a target's copies: uploaded once, known as ours, removed when unused."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import Kind
from certferry.errors import TargetInUse, TargetRejected
from certferry.ports.target import DeployTarget, Look
from certferry_sandbox.testing.contracts.target_world import (
    IMG,
    KEEP,
    LINEAGE,
    NAMES,
    TargetWorld,
    observe,
    the_domain,
)


class UploadingContract:
    """One copy of each certificate, with our mark, and nothing removed for it."""

    def test_upload_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """It carries our mark, and is observed as the copy that it is."""
        bundle = world.issue(*NAMES)

        remote_id = target.upload(LINEAGE, bundle)

        certificate = bundle.certificate
        label = label_of(LINEAGE, certificate.fingerprint)
        assert [label] == world.labels()
        [remote] = observe(target, known=(certificate,)).remotes
        assert (remote_id, label, certificate.fingerprint, certificate.not_after) == (
            remote.remote_id,
            remote.label,
            remote.fingerprint,
            remote.not_after,
        )

    def test_uploading_again_uploads_nothing(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """Idempotent by fingerprint, from another process as well."""
        bundle = world.issue(*NAMES)

        ids = {process.upload(LINEAGE, bundle) for process in (target, target, other)}

        assert 1 == len(ids)
        assert 1 == len(world.labels())
        assert 1 == world.count_writes()

    def test_threads_that_upload_one_certificate(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """A target is used from several threads: one copy, one id."""
        bundle = world.issue(*NAMES)

        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: target.upload(LINEAGE, bundle), range(8)))

        assert 1 == len(ids)
        assert 1 == len(world.labels())

    def test_upload_removes_nothing(self, target: DeployTarget, world: TargetWorld) -> None:
        """What is there stays: an earlier certificate of ours, and other people's."""
        first, second = world.issue(*NAMES), world.issue(*NAMES)
        world.put("theirs", world.issue(*NAMES))
        target.upload(LINEAGE, first)
        before = world.labels()

        target.upload(LINEAGE, second)

        expected = [*before, label_of(LINEAGE, second.certificate.fingerprint)]
        assert sorted(expected) == sorted(world.labels())

    def test_only_what_is_known_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """Other lineages' copies, other people's, and our mark on something else are not."""
        known, another = world.issue(*NAMES), world.issue("www.example.org")
        world.put(label_of("other", known.certificate.fingerprint), known)
        world.put("theirs", known)
        world.put(label_of(LINEAGE, known.certificate.fingerprint), another)
        world.put(label_of(LINEAGE, another.certificate.fingerprint), another)

        assert () == observe(target, known=(known.certificate,)).remotes


class RetiringContract:
    """What is ours goes when it is asked for; what is used or another tool's stays."""

    def test_copy_is_retired(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """True when it was there, False ever after; nothing else goes with it."""
        first, second = world.issue(*NAMES), world.issue(*NAMES)
        old, new = (target.upload(LINEAGE, bundle) for bundle in (first, second))
        label = label_of(LINEAGE, first.certificate.fingerprint)

        assert target.retire(old, label)
        assert not target.retire(old, label)
        assert not other.retire(old, label)

        assert [label_of(LINEAGE, second.certificate.fingerprint)] == world.labels()
        known = (second.certificate, first.certificate)
        assert [new] == [r.remote_id for r in observe(target, known=known).remotes]

    def test_what_is_bound_is_not_retired(self, target: DeployTarget, world: TargetWorld) -> None:
        """In use, which is worth asking again later; it stays bound."""
        world.add_domain(IMG)
        bundle = world.issue(*NAMES)
        remote_id = target.upload(LINEAGE, bundle)
        target.bind(IMG, Kind.CDN, remote_id, KEEP)
        label = label_of(LINEAGE, bundle.certificate.fingerprint)

        with pytest.raises(TargetInUse):
            target.retire(remote_id, label)
        world.settle()
        with pytest.raises(TargetInUse) as caught:
            target.retire(remote_id, label)

        assert caught.value.retry.allowed
        assert [label] == world.labels()
        assert remote_id == the_domain(target).bound

    def test_what_does_not_carry_the_label_is_not_retired(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Neither other people's certificates nor another one of ours."""
        bundle = world.issue(*NAMES)
        theirs = world.put("theirs", bundle)
        ours = target.upload(LINEAGE, bundle)
        label = label_of(LINEAGE, bundle.certificate.fingerprint)

        for remote_id, claimed in (
            (theirs, label),
            (theirs, "theirs"),
            (ours, label_of("other", "0" * 64)),
        ):
            with pytest.raises(TargetRejected):
                target.retire(remote_id, claimed)

        assert sorted(["theirs", label]) == sorted(world.labels())


class ForeignersContract:
    """What is not ours is shown and removed only when that is asked for, and never while used."""

    def test_others_are_shown_when_asked_for(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Everything but our copies, with the end of each; otherwise nothing."""
        known, foreign = world.issue(*NAMES), world.issue("www.example.org")
        ours = target.upload(LINEAGE, known)
        elsewhere = target.upload("other", foreign)
        ids = {world.put("theirs", foreign), world.put("theirs", foreign), world.put("", known)}

        look = Look(LINEAGE, NAMES, (), Kind.AUTO, (known.certificate,))
        found = target.observe(replace(look, others=True))

        assert () == target.observe(look).others
        assert [ours] == [remote.remote_id for remote in found.remotes]
        assert ids | {elsewhere} == {other.remote_id for other in found.others}
        assert ["", "certferry", "theirs", "theirs"] == sorted(
            other.label.partition("-")[0] for other in found.others
        )
        assert {known.certificate.not_after, foreign.certificate.not_after} >= {
            other.not_after for other in found.others
        }

    def test_unmanaged_is_removed(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """By id, also where several have its label; False when it has gone already."""
        bundle = world.issue(*NAMES)
        first, _ = world.put("theirs", bundle), world.put("theirs", bundle)

        assert other.retire(first, "theirs", unmanaged=True)
        assert not target.retire(first, "theirs", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_unmanaged_under_another_label(self, target: DeployTarget, world: TargetWorld) -> None:
        """What is not what it was seen as stays."""
        theirs = world.put("theirs", world.issue(*NAMES))

        with pytest.raises(TargetRejected):
            target.retire(theirs, "another's", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_unmanaged_that_is_bound(self, target: DeployTarget, world: TargetWorld) -> None:
        """In use, by any uploader."""
        world.add_domain(IMG)
        theirs = world.put("theirs", world.issue(*NAMES))
        target.bind(IMG, Kind.CDN, theirs, KEEP)
        world.settle()

        with pytest.raises(TargetInUse):
            target.retire(theirs, "theirs", unmanaged=True)

        assert theirs == the_domain(target).bound
