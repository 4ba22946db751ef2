"""`[console]`: where the console listens, how browsers reach it, each mistake with its line."""

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


def console(loaded: Load, written: str) -> ConsoleSettings:
    return loaded(f"{DECLARED}[console]\n{written}\n").console


def test_without_a_table_it_listens_on_loopback_alone(loaded: Load) -> None:
    """No address of the machine is opened that was not asked for."""
    found = loaded(DECLARED).console

    assert found.address == ("127.0.0.1", 8080)
    assert ("http://127.0.0.1:8080", "", False) == (found.base, found.prefix, found.is_https)


@pytest.mark.parametrize(
    ("written", "base", "prefix"),
    [
        ("https://ops.example.com", "https://ops.example.com", ""),
        ("https://OPS.example.com/", "https://ops.example.com", ""),
        ("https://ops.example.com/certs/", "https://ops.example.com/certs", "/certs"),
        ("http://127.0.0.1:99/x/y", "http://127.0.0.1:99/x/y", "/x/y"),
    ],
)
def test_the_path_of_the_url_is_the_prefix_of_every_link(
    loaded: Load, written: str, base: str, prefix: str
) -> None:
    """With a slash at its end or without."""
    found = console(loaded, f'url = "{written}"')

    assert (base, prefix) == (found.base, found.prefix)


def test_a_certificate_opens_other_addresses(loaded: Load) -> None:
    """Then browsers reach it by HTTPS."""
    found = console(loaded, 'listen = "[::]:8443"\ncertificate = "ops"')

    assert found.address == ("::", 8443)
    assert found.is_https


def test_a_unix_socket_may_have_the_proxy_name_the_user(loaded: Load) -> None:
    """A relative path begins where the file is."""
    found = console(loaded, 'listen = "unix:run/c.sock"\nuser_header = "X-Forwarded-User"')

    assert found.socket is not None
    assert found.socket.is_absolute()
    assert found.socket.parts[-2:] == ("run", "c.sock")


def test_addresses_and_networks_of_proxies_are_one_kind(loaded: Load) -> None:
    """An address is the network of one."""
    found = console(loaded, 'trusted_proxies = ["127.0.0.1", "10.1.2.3/8", "fd00::/8"]')

    assert found.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("written", "line", "words"),
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
def test_each_mistake_is_named_with_its_line(
    refusal: Refusal, written: str, line: int, words: str
) -> None:
    """Whatever it is, before anything listens."""
    [message] = refusal(f"{DECLARED}[console]\n{written}\n")

    assert message.startswith(f"{FILE}:{line}: [console] ")
    assert words in message
