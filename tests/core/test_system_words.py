"""What the operating system says of a failure, in the reader's language."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from certferry.present.language import voice_in
from certferry.system_words import _KNOWN, system_words
from certferry.text import verbatim

ZH = voice_in("zh")
NOWHERE = "certferry.invalid"  # RFC 6761 section 6.4


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.ENOSPC, errno.ECONNREFUSED])
def test_known_words(number: int) -> None:
    """In English they are the system's own, to be searched for; in Chinese they are Chinese."""
    said = system_words(OSError(number, os.strerror(number), "some/file"))

    assert os.strerror(number) == str(said)
    assert not ZH.say(said).isascii()


def test_words_are_spelt_as_the_system_spells_them() -> None:
    """One that nothing ever says would never be translated."""
    spoken = {os.strerror(number) for number in errno.errorcode}

    assert {
        "Name or service not known",
        "Temporary failure in name resolution",
        "No address associated with hostname",
    } == _KNOWN.keys() - spoken


def test_name_that_does_not_exist() -> None:
    """What the resolver says has numbers of its own."""
    with pytest.raises(socket.gaierror) as raised:
        socket.getaddrinfo(NOWHERE, 443, flags=socket.AI_NUMERICHOST)

    assert "未知的名称或服务" == ZH.say(system_words(raised.value))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "[SSL: WRONG_"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionError(), "ConnectionError"),
        (ValueError("a secret"), "ValueError"),
    ],
    ids=["another table's number", "no number", "nothing at all", "not the system's"],
)
def test_other_words_are_left_as_they_are(error: Exception, words: str) -> None:
    """Nothing is guessed from a number, and something is always said."""
    said = system_words(error)

    assert verbatim(str(said)) == said
    assert str(said).startswith(words)
    assert str(said) == ZH.say(said)
