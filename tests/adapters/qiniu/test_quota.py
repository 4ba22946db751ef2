"""What is known of how many certificates an account at Qiniu may hold."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import Kind
from certferry.core.observed.records import TRIED_AGAIN, Quota
from certferry.errors import TargetRejected
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.place import WWW, Place, bundle
from tests.sandbox import qiniu_calls


def quota(target: Qiniu) -> Quota | None:
    """What a look finds."""
    return target.observe(Scope("img", (WWW,), (), Kind.AUTO, ())).quota


def refused(place: Place, held: int) -> None:
    """Fill the account, and have one more refused."""
    place.service.certificates.quota = held
    for number in range(held):
        qiniu_calls.seed(place.service, [WWW], f"old {number}")
    with pytest.raises(TargetRejected, match="as many certificates as it may"):
        place.target().upload("img", bundle(WWW))


def test_before_anything_was_refused_nothing_is_known(target: Qiniu) -> None:
    """No document says how many an account may hold."""
    assert None is quota(target)


def test_a_refusal_is_remembered_for_a_day(place: Place) -> None:
    """With how many there were, also by later runs; then it is tried again."""
    refused(place, 3)
    place.time.pause(60)

    found = quota(place.target())

    assert found is not None
    assert (3, 3, True) == (found.held, found.most, found.is_full(place.time.now()))
    assert TRIED_AGAIN - timedelta(minutes=2) < found.until - place.time.now() < TRIED_AGAIN
    place.time.pause(TRIED_AGAIN.total_seconds())
    assert None is quota(place.target())


def test_what_is_removed_makes_room(place: Place) -> None:
    """The next look counts anew, and an upload that is taken ends it."""
    refused(place, 3)
    qiniu_calls.Client(place.service).delete(place.service.certificates.stored()[0].id)
    later = place.target()

    found = quota(later)

    assert found is not None
    assert (2, False) == (found.held, found.is_full(place.time.now()))
    later.upload("img", bundle(WWW))
    assert None is quota(later)


def test_a_list_that_cannot_be_read_then(place: Place) -> None:
    """Nothing is remembered that was not seen."""
    place.service.certificates.quota = 0
    target, made = place.target(), bundle(WWW)
    target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,)))
    place.service.fusion.faults.add(Fault.status(500), on="GET *", times=None)
    with pytest.raises(TargetRejected, match="as many certificates as it may"):
        target.upload("img", made)
    place.service.fusion.faults.clear()

    assert None is quota(place.target())


@pytest.mark.parametrize("note", ["", "{}", '{"held": 3, "at": "soon"}'])
def test_an_odd_note_is_none(note: str, place: Place) -> None:
    """Another version of certferry may have written it."""
    place.memory.update("most certificates", lambda _: note)

    assert None is quota(place.target())
