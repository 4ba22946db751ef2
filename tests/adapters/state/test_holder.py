"""Telling whether the process that holds a lease has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from certferry.adapters.state.holder import Holder


@pytest.fixture
def here() -> Holder:
    """This very process."""
    return Holder.here()


@pytest.fixture
def gone() -> int:
    """The id of a process that has been and is no more."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_holder_is_read_back(here: Holder) -> None:
    """What is written names this process; a slash in the host's name breaks nothing."""
    odd = replace(here, host="a/b c")

    assert here == Holder.parse(str(here))
    assert odd == Holder.parse(str(odd))
    assert f"process {os.getpid()} on {here.host}" == str(here.described())


def test_each_acquisition_is_its_own(here: Holder) -> None:
    """Two runs in one process are not one holder."""
    assert str(here) != str(Holder.here())


def test_living_process_has_not_ended(here: Holder) -> None:
    """Neither this one nor, when it may not be signalled, another user's."""
    init = replace(here, pid=1, started=first_process_started())

    assert not here.has_ended()
    assert not init.has_ended()


def test_process_that_is_gone_has_ended(here: Holder, gone: int) -> None:
    """Its id is nobody's."""
    assert replace(here, pid=gone).has_ended()


def test_process_whose_id_was_given_away_has_ended(here: Holder) -> None:
    """Another process with its id began at another time."""
    assert replace(here, started="1").has_ended()


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"boot": "00000000-0000-0000-0000-000000000000"},
        {"namespace": "pid:[1]"},
        {"boot": ""},
        {"started": ""},
    ],
)
def test_process_elsewhere_is_not_known_to_have_ended(
    here: Holder, gone: int, elsewhere: dict[str, str]
) -> None:
    """On another host, before a reboot, in another container, or on a system that tells nothing."""
    assert not replace(here, pid=gone, **elsewhere).has_ended()


def first_process_started() -> str:
    """Give the start time of process 1, as the system tells it."""
    return Path("/proc/1/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
