"""Messages fit what a service takes, in bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.notifications import CUT, Message, shortened

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
lines = words.map(lambda said: " ".join(said.split()))


@given(title=lines, paragraphs=st.lists(words, max_size=6), most=st.integers(20, 400))
def test_any_message_fits(title: str, paragraphs: list[str], most: int) -> None:
    """Never more bytes than may be; what fits is whole, and what was cut shows it."""
    message = Message(title, tuple(paragraphs))
    whole = "\n\n".join(paragraphs)

    body, text = message.body(most), message.text(most)

    assert len(body.encode()) <= most
    assert len(text.encode()) <= most
    assert (body == whole) or body.endswith(CUT)
    assert (len(whole.encode()) > most) or body == whole
    kept = body.removesuffix(CUT).rstrip()
    assert whole.startswith(kept) or body == whole


@given(said=words, most=st.integers(3, 80))
def test_no_character_is_cut(said: str, most: int) -> None:
    """What is left is the beginning of the words."""
    short = shortened(said, most)

    assert len(short.encode()) <= max(most, 0)
    assert short == said or said.startswith(short.removesuffix(CUT))


def test_the_title_stays_whatever_is_cut() -> None:
    """It says how many there are."""
    message = Message("certferry on web1: Trouble (9)", ("证书" * 500,))

    assert message.text(120).startswith("certferry on web1: Trouble (9)\n\n证书")
