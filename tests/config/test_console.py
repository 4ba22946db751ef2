"""The table [console]: addresses to listen on, the URL for browsers, and mistakes with
their lines.
"""

from __future__ import annotations

import pytest

from certferry.config.model import ConsoleSettings
from tests.config.conftest import FILE, Load, Refusal

DECLARED = """
[accounts.dnspod]
id = "1"
token = "t"
[[certificates]]
name = "ops"
names = ["ops.example.com"]
dns = "dnspod"
"""


def console(loaded: Load, settings: str) -> ConsoleSettings:
    return loaded(f"{DECLARED}[console]\n{settings}\n").console


def test_console_without_a_table_listens_on_loopback(loaded: Load) -> None:
    """Without a table the console opens no other address of the machine."""
    settings = loaded(DECLARED).console

    assert settings.address == ("127.0.0.1", 8080)
    assert ("http://127.0.0.1:8080", "", False) == (
        settings.base,
        settings.prefix,
        settings.is_https,
    )


@pytest.mark.parametrize(
    ("url", "base", "prefix"),
    [
        ("https://ops.example.com", "https://ops.example.com", ""),
        ("https://OPS.example.com/", "https://ops.example.com", ""),
        ("https://ops.example.com/certs/", "https://ops.example.com/certs", "/certs"),
        ("http://127.0.0.1:99/x/y", "http://127.0.0.1:99/x/y", "/x/y"),
    ],
)
def test_path_of_the_url_is_the_prefix_of_links(
    loaded: Load, url: str, base: str, prefix: str
) -> None:
    """The prefix is the same with and without a final slash."""
    settings = console(loaded, f'url = "{url}"')

    assert (base, prefix) == (settings.base, settings.prefix)


def test_certificate_allows_other_addresses(loaded: Load) -> None:
    """With a certificate browsers use HTTPS."""
    settings = console(loaded, 'listen = "[::]:8443"\ncertificate = "ops"')

    assert settings.address == ("::", 8443)
    assert settings.is_https


def test_unix_socket_with_a_user_header(loaded: Load) -> None:
    """A relative path starts at the folder of the configuration."""
    settings = console(loaded, 'listen = "unix:run/c.sock"\nuser_header = "X-Forwarded-User"')

    assert settings.socket is not None
    assert settings.socket.is_absolute()
    assert settings.socket.parts[-2:] == ("run", "c.sock")


def test_trusted_proxies_are_networks(loaded: Load) -> None:
    """An address is a network with a single address."""
    settings = console(loaded, 'trusted_proxies = ["127.0.0.1", "10.1.2.3/8", "fd00::/8"]')

    assert settings.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("settings", "line", "words"),
    [
        ('listen = "8080"', 10, "is not an address with a port"),
        ('listen = "127.0.0.1"', 10, "is not an address with a port"),
        ('listen = "ops.example.com:80"', 10, "is not an address with a port"),
        ('listen = "127.0.0.1:0"', 10, "is not an address with a port"),
        ('listen = "127.0.0.1:70000"', 10, "is not an address with a port"),
        ('listen = "::1:80"', 10, "is not an address with a port"),
        ('listen = "[127.0.0.1]:80"', 10, "is not an address with a port"),
        ('listen = "unix:"', 10, "lacks the path of a socket"),
        ('listen = "0.0.0.0:8080"', 10, "there is no certificate"),
        ('listen = "[::]:8080"', 10, "there is no certificate"),
        ('url = "ops.example.com"', 10, "must be a URL"),
        ('url = "https://anna:pw@ops.example.com"', 10, "user name or password"),
        ('url = "https://ops.example.com/?a=b"', 10, "no `?` and no `#`"),
        ('url = "https://ops.example.com/a/../b"', 10, "the path"),
        ('url = "https://ops.example.com//a"', 10, "the path"),
        ('url = "https://ops.example.com/a;b"', 10, "the path"),
        ('certificate = "obs"', 10, "must be one of ops"),
        ('certificate = "ops"\nfullchain = "f"\nprivkey = "p"', 10, "remove one of the two"),
        ('fullchain = "f"', 9, "required together with fullchain"),
        ('privkey = "p"', 9, "required together with privkey"),
        ('user_header = "X-Forwarded-User"', 10, "only with a unix socket"),
        ('listen = "unix:/s"\nuser_header = "X Forwarded"', 11, "must be a header's name"),
        *(
            (
                f'listen = "unix:/s"\nuser_header = "{header}"',
                11,
                f"proxies set {header} themselves",
            )
            for header in ("Cookie", "host", "AUTHORIZATION", "Sec-Fetch-User", "X-Forwarded-For")
        ),
        ('trusted_proxies = ["nginx"]', 10, "is neither an address nor a network"),
        ('listne = "127.0.0.1:80"', 10, "did you mean listen?"),
    ],
)
def test_mistake_is_reported_with_its_line(
    refusal: Refusal, settings: str, line: int, words: str
) -> None:
    """The message comes before the console listens."""
    [message] = refusal(f"{DECLARED}[console]\n{settings}\n")

    assert message.startswith(f"{FILE}:{line}: [console] ")
    assert words in message
