"""By which names and values a secret is told."""

from __future__ import annotations

import pytest

from certferry.core.secret import may_be_a_secret, tells_a_secret


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
