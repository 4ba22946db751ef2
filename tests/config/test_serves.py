"""`serves`, `test` and `on_failure` of receivers, in the file."""

from __future__ import annotations

import pytest

from certferry.core.desired.certificate import FileDelivery, OnFailure
from certferry.core.network import Host
from tests.config.conftest import Load, Refusal

HEAD = """[accounts.dnspod]
id = "1"
token = "t"
[[certificates]]
names = ["example.com", "*.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "files"
directory = "/a"
"""


def serves(loaded: Load, text: str) -> tuple[Host, ...]:
    [certificate] = loaded(f"{HEAD}serves = {text}\n").certificates
    [deployment] = certificate.deployments
    return deployment.serves


def test_every_form_of_an_entry(loaded: Load) -> None:
    """A name, a name with a port, and a name with the address to ask."""
    assert (
        Host("www.example.com"),
        Host("www.example.com", 8443),
        Host("www.example.com", 443, "10.0.0.5"),
        Host("example.com", 8443, "2001:db8::1"),
        Host("xn--fiqs8s.example.com"),
    ) == serves(
        loaded,
        '["WWW.example.com.", "www.example.com:8443",'
        ' { name = "www.example.com", address = "10.0.0.5" },'
        ' { name = "example.com:8443", address = "[2001:db8::1]" }, "中国.example.com"]',
    )


def test_programs_and_reaction_of_files(loaded: Load) -> None:
    """`test` has the time-out of `reload`."""
    settings = loaded(
        f'{HEAD}test = "nginx -t"\nreload = "systemctl reload nginx"\ntimeout = 7\n'
        'serves = ["example.com"]\non_failure = "rollback"\n'
    )

    [deployment] = settings.certificates[0].deployments
    delivery = deployment.delivery
    assert isinstance(delivery, FileDelivery)
    assert delivery.test is not None
    assert (("nginx", "-t"), 7) == (
        delivery.test.arguments,
        delivery.test.timeout.total_seconds(),
    )
    assert OnFailure.ROLLBACK is deployment.on_failure


def test_command_serves(loaded: Load) -> None:
    """A command takes `serves` as well."""
    body = 'to = "command"\ncommand = "push"\nserves = ["example.com"]\n'
    settings = loaded(HEAD.replace('to = "files"\ndirectory = "/a"\n', body))

    assert (Host("example.com"),) == settings.certificates[0].deployments[0].serves


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('serves = ["www.example.org"]', "the certificate does not cover www.example.org; its"),
        ('serves = ["a.b.example.com"]', "the certificate does not cover a.b.example.com"),
        ('serves = ["*.example.com"]', "*.example.com stands for many hosts; name one of these"),
        ('serves = ["https://www.example.com/"]', "'https://www.example.com/' is no host; write"),
        ('serves = ["www.example.com:0"]', "'www.example.com:0' is no host"),
        ('serves = ["www.example.com:99999"]', "is no host"),
        ('serves = ["www example.com"]', "is no host"),
        ('serves = ["-.example.com"]', "'-.example.com' is not a domain name"),
        ('serves = ["10.0.0.5:8443"]', "10.0.0.5 is an address, and clients ask for a name; write"),
        ('serves = ["[2001:db8::1]:8443"]', '{ name = "example.com", address = "2001:db8::1" }'),
        ("serves = [1]", "must be a string, but is a number"),
        ("serves = []", "is an empty list"),
        ('serves = "example.com"', 'must be a list, but is a string: write ["example.com"]'),
        ('serves = [""]', "is empty"),
        ('serves = ["example.com", "EXAMPLE.com:443"]', "example.com is already listed"),
        ('serves = [{ address = "10.0.0.5" }]', "lacks the name: write { name ="),
        (
            'serves = [{ name = "example.com", address = "web-1" }]',
            "web-1 is not an IP address; the port stands after the name",
        ),
        ('serves = [{ name = "example.com", adress = "10.0.0.5" }]', "unknown key adress; did you"),
        ('on_failure = "rollback"', "on_failure: only together with `serves`"),
        ('test = "nginx -t"', "test: only together with `reload`"),
        ('serves = ["example.com"]\non_failure = "back"', "on_failure: must be one of keep, roll"),
    ],
)
def test_mistakes(refusal: Refusal, text: str, expected: str) -> None:
    """Each mistake names the file, the line and the key."""
    [message] = refusal(f"{HEAD}{text}\n")

    assert expected in message
    assert "certferry.toml:1" in message


def test_names_of_another_clients_certificate_are_unknown(loaded: Load) -> None:
    """The file does not say what such a certificate covers; the handshake will."""
    settings = loaded(
        '[[certificates]]\nfullchain = "/l/f.pem"\nprivkey = "/l/k.pem"\n'
        '[[certificates.deploy]]\nto = "files"\ndirectory = "/a"\nserves = ["example.net"]\n'
    )

    assert (Host("example.net"),) == settings.certificates[0].deployments[0].serves
