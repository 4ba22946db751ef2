"""The benchmark of a large Qiniu account, with a small one: its promises hold in every gate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from benchmarks import many_domains


def test_an_account_takes_few_requests() -> None:
    """A first sync takes six for each domain, a renewal five, a run with nothing to do one; the
    stand-in refuses more than ten in a second.
    """
    told: list[str] = []

    missed = many_domains.run(12, timedelta(seconds=2), told.append)

    assert [] == missed
    assert ["first sync", "no-op", "no-op, a day later", "renewal"] == [
        line.split("  ")[0] for line in told if "per domain" in line
    ]
    assert any(line.startswith("discover ") and "x those of plan" in line for line in told)
    # What nothing was asked about has not been measured.
    assert any("PUT /domain/NAME/sslize" in line for line in told)
    assert any("PUT /domain/NAME/httpsconf" in line for line in told)


def test_silence_that_lasts_too_long_fails() -> None:
    """Here any does: how long an operator reads nothing new is promised as the requests are."""
    processing = timedelta(seconds=2)

    missed = many_domains.run(2, processing, lambda _: None, most_silence=timedelta(seconds=0.1))

    assert any(what.startswith("first sync: silent for ") for what in missed)


def test_silence_to_the_end_of_a_run_counts(tmp_path: Path) -> None:
    """A run that tells nothing any more is silent until it ends."""
    time = many_domains.VirtualTime(tmp_path / "clock")
    silence = many_domains.Silence(time)
    silence.begin()
    time.pause(20)
    silence.told(None)
    time.pause(50)

    silence.end()

    assert 50 == silence.longest


def test_a_promise_that_is_not_kept_is_told() -> None:
    """A change that takes a minute costs so small an account more looks than promised."""
    missed = many_domains.run(1, timedelta(seconds=60), lambda _: None)

    assert any(what.startswith("renewal: ") for what in missed)
