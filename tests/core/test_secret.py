"""What is seen of secrets in the words of others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.secret import MASK, Secret, masked, may_be_a_secret, tells_a_secret

WORDS = st.text()
VALUES = st.text(st.characters(exclude_characters="•\r\n\\"), min_size=8).filter(str.strip)
SHORT = st.text("ab", min_size=4, max_size=8)
LINES = st.text(st.characters(categories=["L", "N"], include_characters="+/="), min_size=16)


@given(WORDS, st.lists(VALUES, min_size=1), WORDS)
def test_no_secret_is_left(before: str, values: list[str], after: str) -> None:
    """However many there are, one beside another or one within another."""
    words = masked(before + "".join(values) + after, map(Secret, values))

    assert not any(value in words for value in values)


@given(st.lists(SHORT, min_size=1), st.text("abc", min_size=4))
def test_secrets_that_overlap(values: list[str], words: str) -> None:
    """What is left are exactly the characters that are in no secret, wherever that begins; of the
    beginning of one at the end nothing more is left.
    """
    starts = range(len(words))
    inside = {
        n
        for v in values
        for at in starts
        if words.startswith(v, at)
        for n in range(at, at + len(v))
    }
    expected = "".join("•" if n in inside else words[n] for n in starts)

    said = masked(words, map(Secret, values))

    assert re.sub("•+", MASK, expected) == said


def test_secrets_that_share_an_end() -> None:
    """The one that is replaced first does not leave the rest of the other."""
    two = [Secret("AAAA-planted"), Secret("planted-BBBBBBBB")]

    assert f"<{MASK}>" == masked("<AAAA-planted-BBBBBBBB>", two)
    assert MASK == masked("AAAA-planted-BB", two)


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
    assert "fi" == masked("fi", [Secret("fi")])
    assert f"fi {MASK}" == masked("fi shrt", [Secret("shrt")])


@given(st.text(), st.text(" \t\n\r\u3000"))
def test_blank_is_no_secret(words: str, blank: str) -> None:
    """A variable that is set to nothing hides nothing."""
    assert words == masked(words, [Secret(blank)])


def test_secrets_that_are_no_text() -> None:
    """What is no UTF-8 in the environment is compared and masked as what it is."""
    value = b"caf\xe9 au lait".decode(errors="surrogateescape")

    assert 1 == len({Secret(value), Secret(value)})
    assert f"<{MASK}>" == masked(f"<{value}>", [Secret(value)])


@pytest.mark.parametrize(
    "name",
    [
        *("DP_Key", "QINIU_SECRET_KEY", "LB_TOKEN", "DB_PASSWORD", "PGPASSWORD", "KEY", "tokens"),
        *("MYSQL_PWD", "SSHPASS", "SMTP_PASS", "BORG_PASSPHRASE", "GOOGLE_CREDENTIALS_JSON"),
        *(
            "APIKEY",
            "userApiKey",
            "SOME_SecretKey",
            "AWS_ACCESS_KEY_ID",
            "GITHUBTOKEN",
            "DB_PASSWD_2",
        ),
    ],
)
def test_names_that_tell(name: str) -> None:
    """The usual words, in any case, among the words of a name."""
    assert tells_a_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "LANG",
        "KEYBOARD",
        "XKB_KEYMAP_X",
        "MONKEY",
        "TOKENIZERS_PARALLELISM",
        "PWD",
        "OLDPWD",
        "PATH",
    ],
)
def test_names_that_do_not(name: str) -> None:
    """Where such a word is only a part of another."""
    assert not tells_a_secret(name)


@pytest.mark.parametrize(
    ("value", "may"),
    [
        *(("production", False), ("20261125", False), ("k3y", False), (" " * 20, False)),
        *(("hunter22", True), ("abcdefghijkl", True), ("123456789012", True)),
    ],
)
def test_values_that_may_be_secrets(value: str, may: bool) -> None:  # noqa: FBT001 - of the table
    """Words that are in any text are none."""
    assert may is may_be_a_secret(value)
