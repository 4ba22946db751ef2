"""Errors of calls that were given a private key."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.redaction import quoted
from certferry.errors import CertferryError, Retry, TargetRejected, TargetStuck
from certferry.reconcile.handing_over import without_key
from certferry.text import LINEAGE, Text
from certferry_sandbox.testing.certificates import make_key

KEY = make_key()
BODY = "".join(KEY.reveal().splitlines()[1:-1])
NO_PIECE = re.compile(r"[^0-9A-Za-z+/=]")
PIECE = 12
"""The length of a leak: so many successive characters of the key."""

SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda character: character,
    lambda character: str(ord(character)),
    lambda character: f"0x{ord(character):02x}",
    lambda character: f"\\u{ord(character):04X}",
    lambda character: f"{ord(character):o}",
    lambda character: f"{ord(character):08b}",
)
SEPARATORS = st.text(st.characters(codec="utf-8", exclude_categories=["L", "N"]), max_size=3)


def told(error: CertferryError, *, withholds_words: bool = True) -> CertferryError:
    """Return the public error of a call that was given the key and raised an error."""
    return without_key(error, KEY, withholds_words=withholds_words)


@given(st.text(), st.text())
def test_words_of_a_service_make_no_difference(some: str, others: str) -> None:
    """The public error of a refused upload is independent of the service's words: the words cannot
    hold a spelling of the key.
    """

    def refusal(words: str) -> CertferryError:
        answer = Text("{number} {words}", number=400999, words=quoted(words))
        return TargetRejected(
            Text("refused ({answer})", answer=answer), hint=Text("{ids}", ids=[quoted(words)])
        )

    assert told(refusal(some)) == told(refusal(others))
    assert "refused (400999 [words withheld: they may quote the private key])" == str(
        told(refusal(some)).message
    )


@given(
    spell=st.sampled_from(SPELLINGS),
    separator=SEPARATORS,
    length=st.integers(1, 20),
    is_backwards=st.booleans(),
    is_listed=st.booleans(),
)
def test_key_that_an_adapter_spells(
    *,
    spell: Callable[[str], str],
    separator: str,
    length: int,
    is_backwards: bool,
    is_listed: bool,
) -> None:
    """An adapter of another package may put a service's words into a sentence without a mark: the
    key is found in any pieces, forwards and backwards, as text and as numbers.
    """
    pieces = ["".join(map(spell, BODY[at : at + length])) for at in range(0, len(BODY), length)]
    if is_backwards:
        pieces = [piece[::-1] for piece in reversed(pieces)]
    words: object = pieces if is_listed else separator.join(pieces)

    message = str(told(TargetRejected(Text("refused: {words}", words=words))).message)

    shown, closed = (NO_PIECE.sub("", text) for text in (message, "".join(pieces)))
    starts = range(len(closed) - PIECE)
    assert [] == [at for at in starts if closed[at : at + PIECE] in shown]


@pytest.mark.parametrize("kind", [TargetRejected, TargetStuck])
def test_rest_of_an_error(kind: type[CertferryError]) -> None:
    """The kind, certferry's own sentences and the moment of the next try stay; the name of the
    certificate can still be filled in.
    """
    later = Retry.at(datetime(2026, 12, 2, tzinfo=UTC))
    error = kind(
        Text("refused"), hint=Text("`sync --renew {lineage}`", lineage=LINEAGE), retry=later
    )

    shown = told(error)

    assert error == shown
    assert shown is not error
    assert "`sync --renew web`" == str(shown.about("web").hint)


def test_key_in_the_template_itself() -> None:
    """An adapter's f-string puts the words into the template, outside every value."""
    shown = told(TargetRejected(f"bad key: {' '.join(BODY)}"))

    assert BODY[:4] not in str(shown).replace(" ", "")


def test_words_of_a_program() -> None:
    """Words of the operator's own program stay, unless the words hold the key."""
    words = "nginx: bad configuration"

    stays = TargetRejected(Text("{words}", words=quoted(words)))
    holds = TargetRejected(Text("{words} {key}", words=quoted(words), key=",".join(BODY)))

    assert words == str(told(stays, withholds_words=False).message)
    assert "the message is withheld: it quotes the private key" == str(
        told(holds, withholds_words=False).message
    )
