"""The settings of `[[watch]]`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from certferry.core.network import Host
from tests.config.conftest import Load, Refusal

DECLARED = """
[accounts.dnspod]
id = "1"
token = "t"
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""

MISTAKES = (
    "4: [[watch]] hosts: *.example.com stands for many hosts",
    "5: [[watch]] hosts: 'no host' is not a domain name",
    "6: [[watch]] hosts: www.example.com is already listed",
    "7: [[watch]] hosts: 'api.example.com:99999' has no port between",
    "8: [[watch]] hosts: '[2001:db8::1' is not a host",
    "9: [[watch]] hosts: must be a string",
    "11: [[watch]] expiring: must be a number of days from 0",
    "12: [[watch]] ca_bundle: there is no file",
    "13: [[watch]] hosts: missing",
    "15: [[watch]] host: unknown key; did you mean hosts?",
    "17: [[watch]] hosts: www.example.com is already listed",
    "19: [[watch]] hosts: ",
)


def test_whole_table(loaded: Load, folder: Path) -> None:
    """A host is a name or an address, with or without a port, or a URL."""
    (folder / "root.pem").write_text("")
    first, second = loaded(
        f"""{DECLARED}
[[watch]]
hosts = ["www.Example.com.", "api.example.com:8443", "[2001:db8::1]:8443", "https://bücher.example/"]
[[watch]]
name = "shop"
hosts = ["192.0.2.1"]
expiring = 30
ca_bundle = "root.pem"
"""
    ).watches

    assert (
        Host("www.example.com"),
        Host("api.example.com", 8443),
        Host("2001:db8::1", 8443),
        Host("xn--bcher-kva.example"),
    ) == first.hosts
    assert ("watch", timedelta(days=14), None) == (first.name, first.expiring, first.ca_bundle)
    assert ("shop", timedelta(days=30)) == (second.name, second.expiring)
    assert second.ca_bundle is not None
    assert "root.pem" == second.ca_bundle.name


def test_nothing_is_watched_by_default(loaded: Load) -> None:
    """A file without the table watches nothing."""
    assert () == loaded(DECLARED).watches


def test_every_mistake_has_its_line(refusal: Refusal) -> None:
    """Text that is no host, a host that stands twice, and a missing file are refused, together."""
    lines = refusal(
        """[[watch]]
hosts = [
    "www.example.com",
    "*.example.com",
    "no host",
    "www.example.com:443",
    "api.example.com:99999",
    "[2001:db8::1",
    7,
]
expiring = -1
ca_bundle = "nowhere.pem"
[[watch]]
name = "shop"
host = ["www.example.org"]
[[watch]]
hosts = ["WWW.example.com"]
[[watch]]
hosts = []
"""
    )

    for line, beginning in zip(lines, MISTAKES, strict=True):
        assert line.startswith(f"certferry.toml:{beginning}")


def test_table_needs_two_pairs_of_brackets(refusal: Refusal) -> None:
    """The message has the line to write."""
    (line,) = refusal('[watch]\nhosts = ["www.example.com"]\n')

    assert "write [[watch]]" in line


def test_thousand_hosts_are_read(loaded: Load) -> None:
    """A long list is no mistake."""
    listed = ", ".join(f'"h{number}.example.com"' for number in range(1000))

    (watch,) = loaded(f"{DECLARED}\n[[watch]]\nhosts = [{listed}]\n").watches

    assert 1000 == len(watch.hosts)
