"""Run a run: each thread is interrupted once, and has time for its clean-up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from certferry.errors import CertferryError, Interrupted, Retry, RunEnded
from certferry.reconcile.run import Run

FOR_EVER = 600.0


def test_wait_ends_when_the_run_is_stopped() -> None:
    """Every thread that waits is told at once."""
    stopping = Run()
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(stopping.pause, FOR_EVER) for _ in range(4)]
        stopping.stop()

        for wait in waits:
            assert isinstance(wait.exception(timeout=10), Interrupted)


def test_wait_after_it_was_told_is_a_wait() -> None:
    """A thread that puts things in order waits its turn, without being told again."""
    stopping = Run()
    stopping.stop()
    with pytest.raises(Interrupted) as told:
        stopping.pause(0)
    assert told.value.hint is not None

    begun = time.monotonic()
    stopping.pause(0.05)
    stopping.pause(0.05)

    assert time.monotonic() - begun >= 0.1


def test_putting_in_order_has_an_end() -> None:
    """More than its time no thread gets, however it is shared out among its waits."""
    stopping = Run(cleaning_up=timedelta(seconds=0.1))
    stopping.stop()
    with pytest.raises(Interrupted):
        stopping.pause(FOR_EVER)

    stopping.pause(0.04)
    stopping.pause(0.04)
    with pytest.raises(Interrupted):
        stopping.pause(0.04)


def test_each_thread_is_told_by_itself() -> None:
    """One thread's clean-up takes nothing from another's notice."""
    stopping = Run()
    stopping.stop()
    with pytest.raises(Interrupted):
        stopping.pause(0)
    heard: list[Exception] = []

    def wait() -> None:
        try:
            stopping.pause(FOR_EVER)
        except Interrupted as told:
            heard.append(told)

    other = threading.Thread(target=wait)
    other.start()
    other.join(timeout=10)

    assert 1 == len(heard)


@pytest.mark.parametrize("end", RunEnded.__subclasses__())
def test_the_end_of_a_run_is_no_error(end: type[RunEnded]) -> None:
    """No handler of errors takes it for the failure of its own step."""
    assert not issubclass(end, CertferryError)
    assert Retry.LATER == end("so it is").retry
