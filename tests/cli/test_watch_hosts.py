"""Which hosts `certferry watch` takes: as people write and paste them, and in files."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli.watch import host_of, hosts_meant
from certferry.core.discovery.watched import Host
from certferry.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("img.example.com", Host("img.example.com", 443)),
        ("IMG.Example.com.", Host("img.example.com", 443)),
        ("图片.example.com", Host("xn--wcsw84d.example.com", 443)),
        ("img.example.com:8443", Host("img.example.com", 8443)),
        ("https://img.example.com", Host("img.example.com", 443)),
        ("HTTPS://img.example.com:8443/a/b?c=d#e", Host("img.example.com", 8443)),
        ("http://user:word@img.example.com/x", Host("img.example.com", 443)),
        ("img.example.com/logo.png", Host("img.example.com", 443)),
        ("192.0.2.1", Host("192.0.2.1", 443)),
        ("192.0.2.1:8443", Host("192.0.2.1", 8443)),
        ("[2001:DB8::1]", Host("2001:db8::1", 443)),
        ("https://[2001:db8::1]:8443/", Host("2001:db8::1", 8443)),
        ("2001:db8::1", Host("2001:db8::1", 443)),
    ],
)
def test_a_host_is_taken_as_a_person_writes_it(written: str, expected: Host) -> None:
    """Capitals, final dots, Chinese names, ports, addresses and what was pasted from a browser."""
    assert expected == host_of(written, 443)


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("*.example.com", "*.example.com stands for many hosts", "www.example.com"),
        ("https://", "'https://' is not a domain name", "a URL"),
        ("img", "'img' is not a domain name", "img.example.com:8443"),
        ("img.example.com:", "names no port", "img.example.com:8443"),
        ("img.example.com:0", "names no port", "img.example.com:8443"),
        ("img.example.com:65536", "names no port", "img.example.com:8443"),
        ("img.example.com:https", "names no port", "img.example.com:8443"),
        ("img.example.com:\N{ARABIC-INDIC DIGIT FOUR}43", "names no port", "8443"),
        ("[2001:db8::1", "is not a host", "in brackets"),
        ("fe80:::1", "is not a host", "in brackets"),
        ("[img.example.com]x", "is not a domain name", "img.example.com"),
    ],
)
def test_what_is_no_host_is_refused_with_advice(written: str, message: str, hint: str) -> None:
    """The message says what was written, the hint what to write instead."""
    with pytest.raises(ConfigError) as caught:
        host_of(written, 443)

    assert message in str(caught.value)
    assert hint in str(caught.value.hint)


@given(st.text())
def test_whatever_is_written_is_a_host_or_our_error(written: str) -> None:
    """Nothing else gets out, and what is taken is taken again as it is written by us."""
    try:
        host = host_of(written, 443)
    except ConfigError:
        return

    assert host == host_of(str(host), 443)


def test_a_file_has_a_host_on_each_line(tmp_path: Path) -> None:
    """Comments, empty lines, and the mark that some editors put first; each host once."""
    file = tmp_path / "hosts.txt"
    file.write_text(
        "\ufeff# our hosts\r\nimg.example.com\r\n\r\n  a.example.com:8443 # the other port\n"
        "https://a.example.com/#top\nIMG.example.com\n",
        encoding="utf-8",
    )

    found = hosts_meant(["first.example.com", "img.example.com:444"], str(file), 444)

    assert [
        Host("first.example.com", 444),
        Host("img.example.com", 444),
        Host("a.example.com", 8443),
        Host("a.example.com", 444),
    ] == found


def test_standard_input_is_a_file_as_well() -> None:
    """`-`, for a pipe."""
    streamed = io.TextIOWrapper(io.BytesIO(b"img.example.com\n"))
    with mock.patch.object(sys, "stdin", streamed):
        assert [Host("img.example.com")] == hosts_meant([], "-", 443)


def test_every_bad_line_is_told_with_its_number(tmp_path: Path) -> None:
    """All at once: who has a file of five hundred hosts mends it once."""
    file = tmp_path / "hosts.txt"
    file.write_text("img.example.com\nimg\n\n*.example.com\nb.example.com:x\n")

    with pytest.raises(ConfigError) as caught:
        hosts_meant([], str(file), 443)

    lines = str(caught.value).splitlines()
    assert [f"{file}:{number}:" for number in (2, 4, 5)] == [line.split(" ")[0] for line in lines]


def test_every_bad_word_is_told() -> None:
    """All at once as well."""
    with pytest.raises(ConfigError) as caught:
        hosts_meant(["img", "img.example.com", "b.example.com:x"], None, 443)

    assert 2 == len(str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"# none\n\n", "names no host"), (b"\xff\xfe\x00", "is not UTF-8 text"), (None, "No such")],
)
def test_a_file_that_gives_no_hosts_is_told(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """To look at nothing, and call it in order, would be wrong."""
    file = tmp_path / "hosts.txt"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        hosts_meant([], str(file), 443)

    assert message in str(caught.value)
    assert str(file) in str(caught.value)
