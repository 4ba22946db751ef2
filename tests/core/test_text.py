"""Sentences, and what never appears in them."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.secret import Secret
from certferry.errors import DeployError
from certferry.text import LINEAGE, Text, naming, verbatim
from tests.core.strategies import NOW


def test_places_are_filled_after_translation() -> None:
    """The template is what is translated; names keep their places in any order."""
    text = Text("{domain} is at {target}", domain="img", target="qiniu")

    assert "qiniu 上的 img" == text.render({text.template: "{target} 上的 {domain}"}.__getitem__)


def test_texts_inside_texts_are_translated_too() -> None:
    """A sentence may hold another one, alone or in a list."""
    inner = Text("no answer")

    assert "A: NO ANSWER, NO ANSWER" == Text("a: {why}", why=[inner, inner]).render(
        lambda template: template.replace("a:", "A:").replace("no answer", "NO ANSWER")
    )


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(days=29, hours=23), "29 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=1, hours=5), "29 hours"),
        (timedelta(minutes=59), "59 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(seconds=61), "61 seconds"),
        (timedelta(0), "0 seconds"),
        (timedelta(days=-3), "0 seconds"),
    ],
)
def test_durations_are_round_and_never_too_long(duration: timedelta, words: str) -> None:
    """A person reads the largest unit of which there are two, rounded down."""
    assert words == str(Text("{left}", left=duration))


def test_moments_are_in_utc() -> None:
    """A moment names its zone."""
    assert "2026-11-24 12:00 UTC" == str(Text("{at}", at=NOW))


def test_foreign_words_are_never_templates() -> None:
    """A server's message with braces in it is shown as it came."""
    words = "bad {token} {"

    assert words == str(verbatim(words))


@given(st.text(min_size=1))
def test_secrets_never_print(value: str) -> None:
    """No way of turning a secret into text shows it."""
    secret = Secret(value)

    for shown in (str(secret), repr(secret), f"{secret:>8}", str(Text("{key}", key=secret))):
        assert "•••" == shown.strip()
    assert value == secret.reveal()
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_secrets_compare_by_value() -> None:
    """Two references to the same value are the same secret."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert 1 == len({Secret("a"), Secret("a")})
    assert not Secret("")


def test_texts_compare_by_template_and_values() -> None:
    """The same sentence about the same things is the same value."""
    assert Text("{a}", a=1) == Text("{a}", a=1)
    assert Text("{a}", a=1) != Text("{a}", a=2)
    assert Text("{a}", a=1) != "1"
    assert 1 == len({Text("{a}", a=1), Text("{a}", a=1)})
    assert "Text('1')" == repr(Text("{a}", a=1))


def test_a_name_that_its_author_does_not_know() -> None:
    """It reads as in a help until the place that knows it puts it there, however deep it stands."""
    advice = Text("run `certferry sync --renew {lineage}`", lineage=LINEAGE)
    hint = Text("{advice}; {asked}", advice=advice, asked="X-Reqid 1")

    assert "run `certferry sync --renew NAME`; X-Reqid 1" == str(hint)
    assert "run `certferry sync --renew img`; X-Reqid 1" == str(naming(hint, "img"))


def test_error_of_a_package_gets_the_name_too() -> None:
    """Whatever its constructor takes; the error that was raised stays as it is."""

    class OutOfCoins(DeployError):
        def __init__(self, coins: int, needed: int) -> None:
            super().__init__(
                Text("{coins} coins are too few", coins=coins),
                hint=Text("run `certferry sync {lineage}`", lineage=LINEAGE),
            )
            self.needed = needed

    error = OutOfCoins(1, 2)
    named = error.about("img")

    assert isinstance(named, OutOfCoins)
    assert ("1 coins are too few", 2, error.retry) == (str(named), named.needed, named.retry)
    assert ("run `certferry sync img`", "run `certferry sync NAME`") == (
        str(named.hint),
        str(error.hint),
    )
