"""What is seen of secrets in the words of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.secret import MASK, Secret, masked, tells_a_secret

WORDS = st.text()
VALUES = st.text(st.characters(exclude_characters="•\r\n\\"), min_size=8)
LINES = st.text(st.characters(categories=["L", "N"], include_characters="+/="), min_size=16)


@given(WORDS, st.lists(VALUES, min_size=1), WORDS)
def test_no_secret_is_left(before: str, values: list[str], after: str) -> None:
    """However many there are, one beside another or one within another."""
    words = masked(before + "".join(values) + after, map(Secret, values))

    assert not any(value in words for value in values)


@given(st.text(), st.lists(VALUES))
def test_other_words_stay(words: str, values: list[str]) -> None:
    """What repeats nothing, not even the beginning of a secret, is as it was."""
    strange = [value for value in values if not any(value[:8] in words for value in values)]

    assert words == masked(words, map(Secret, strange))


@given(st.lists(LINES, min_size=2), st.sampled_from(["\n", "\r\n", "\\n"]), st.data())
def test_lines_of_a_secret(lines: list[str], between: str, data: st.DataObject) -> None:
    """Each of them is hidden by itself, however the program writes their ends."""
    shown = data.draw(st.sampled_from(["\n", " ", "\r\n", "\n    "]))

    words = masked(shown.join(lines), [Secret(between.join(lines))])

    assert not any(line in words for line in lines)


@given(VALUES, st.integers(min_value=8))
def test_secret_that_was_begun(value: str, said: int) -> None:
    """A program that was stopped in the middle of it has said nothing."""
    assert f"key={MASK}" == masked(f"key={value[:said]}", [Secret(value)])


@pytest.mark.parametrize("shown", [r"'it'\''s a passphrase'", "'it'\"'\"'s a passphrase'"])
def test_secret_as_a_shell_quotes_it(shown: str) -> None:
    """`set -x` of bash and of dash."""
    assert f"+ KEY='{MASK}'" == masked(f"+ KEY={shown}", [Secret("it's a passphrase")])


def test_what_is_no_secret_of_a_key() -> None:
    """The frame of PEM tells what was there; a word of a few letters may be anything."""
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nfi\n-----END PRIVATE KEY-----\n"

    assert key.replace("MIGHAgEAMBMGByqGSM49", MASK) == masked(key, [Secret(key)])
    assert "fi short" == masked("fi short", [Secret("short")])


def test_secrets_that_are_no_text() -> None:
    """What is no UTF-8 in the environment is compared and masked as what it is."""
    value = b"caf\xe9 au lait".decode(errors="surrogateescape")

    assert 1 == len({Secret(value), Secret(value)})
    assert f"<{MASK}>" == masked(f"<{value}>", [Secret(value)])


@pytest.mark.parametrize("name", ["DP_Key", "QINIU_SECRET_KEY", "LB_TOKEN", "DB_PASSWORD"])
def test_names_that_tell(name: str) -> None:
    """The usual words, in any case."""
    assert tells_a_secret(name)
    assert not tells_a_secret("LANG")
