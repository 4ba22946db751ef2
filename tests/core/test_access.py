"""The rules for passwords, and for the names of users and tokens."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certferry.core.access import LONGEST_PASSWORD, SHORTEST_PASSWORD, is_name, password_mistake

COMMON = """
password1234 Password123! P@ssw0rd2024! passwordpassword Letmein12345! letmeinplease Welcome@2026!!
123456789012 987654321098 000000000000 112233445566 123456654321 159753159753 010203040506
qwertyuiop12 Qwerty!@#$%^ 1q2w3e4r5t6y 1qaz2wsx3edc qazwsxedcrfv 123qweasdzxc zxcvbnm,./123
abcdefghijkl abcabcabcabc aaaaaaaaaaaa x7Kq!x7Kq!x7Kq! monkeymonkey dragonmonkey99
iloveyou1234 woaini1314520 5201314woaini correcthorsebatterystaple correct-horse-battery-staple
administrator Administrator1 Admin@2026!! adminadminadmin changeme1234
certferry1234 Certferry-Login1
"""
GOOD = """
x7Kq!m2Px7Kr uXz93kKdl2mm k3G9-pq7Z-aa81 blau-Tisch-neun sommer-am-meer-2026 T0pfpflanze!Regal
anna-likes-blue-hats sunshine-football-dragon-monkey 我的密码是一头大象会飞翔的 thequickbrownfox
"""


@pytest.mark.parametrize("password", COMMON.split())
def test_password_that_is_tried_first(password: str) -> None:
    """Common passwords with usual additions, walks over the keyboard, and repetitions are
    refused.
    """
    assert "among the first" in str(password_mistake(password, "zoe"))


@pytest.mark.parametrize("password", GOOD.split())
def test_good_password(password: str) -> None:
    """Sentences and generated passwords are accepted."""
    assert password_mistake(password, "anna") is None


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("anna", "anna12345678"),
        ("Anna", "annaAnnaANNA1"),
        ("anna", "Anna-Anna-2026"),
        ("christiane.meyer", "christiane.meyer"),
        ("christiane.meyer", "Meyer.Christiane.1989"),
        ("ops@example.com", "example.com/ops!"),
    ],
)
def test_password_close_to_the_user_name(name: str, password: str) -> None:
    """In any case and order, with digits, years and signs; as a part of a longer password the name
    is fine.
    """
    assert "too close to the user name" in str(password_mistake(password, name))
    assert password_mistake(f"{password} und ein Floh", name) is None


def test_length_of_a_password() -> None:
    """Length is counted in characters of any script."""
    good = "k3G9-pq7Z-é大"
    assert len(good) == SHORTEST_PASSWORD
    assert password_mistake(good, "anna") is None
    assert "needs at least 12 characters" in str(password_mistake(good[1:], "anna"))
    assert "can have at most 1000 characters" in str(
        password_mistake("".join(map(chr, range(0x4E00, 0x4E01 + LONGEST_PASSWORD))), "anna")
    )


def test_generated_passwords() -> None:
    """More than 99 of 100 generated passwords are accepted."""
    made = [secrets.token_urlsafe(12) for _ in range(2000)]
    assert (
        sum(password_mistake(password, "anna") is not None for password in made) < len(made) / 100
    )


@example("...", GOOD)
@given(st.text(min_size=1) | st.text("aA._@-", min_size=1), st.text(max_size=40))
def test_any_text_for_a_password(name: str, password: str) -> None:
    """Every text is either accepted or refused with a sentence."""
    assert password_mistake(password, name) is None or str(password_mistake(password, name))


def test_names_of_users_and_tokens() -> None:
    """Letters, digits and four signs are valid in a URL, a log and a shell."""
    good = ["a", "Anna", "ops@example.com", "ci-2_x.y", "x" * 64]
    assert all(map(is_name, good))
    bad = ["", "x" * 65, "a b", "änne", "a/b", "a\n", "a\x00", "a,b", "用户", "a'b", "<b>"]
    assert not any(map(is_name, bad))
