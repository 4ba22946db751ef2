"""The settings of `[ct]`."""

from __future__ import annotations

import os

import pytest
from hypothesis import given

from certferry.config.document import document_of
from certferry.config.load import as_far_as_read
from certferry.config.model import TransparencySettings
from certferry.config.unattended import lost_secrets
from certferry.core.assessment.transparency import ExpectedCertificate, after_read, line_for
from certferry.core.observed.public_logs import LoggedCertificate
from certferry.core.redaction import Secret
from tests.config.conftest import FILE, Load, Refusal
from tests.core.assessment.test_transparency import LATER, OWN, certificates
from tests.core.strategies import NOW

DECLARED = """
[accounts.dnspod]
id = "1"
token = "t"
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""


def test_logs_are_left_alone_by_default(loaded: Load) -> None:
    """The names of domains go to no other company unless the operator asks."""
    assert TransparencySettings() == loaded(DECLARED).transparency
    assert not loaded(DECLARED).transparency.watches


def test_whole_table(loaded: Load) -> None:
    """Names are a string or a list, in certferry's spelling; the token is a reference."""
    settings = loaded(
        f"""{DECLARED}
[ct]
watch = true
api = "http://127.0.0.1:8081"
token = "env:CT_TOKEN"
expected = [
    {{ issuer = "DigiCert*", names = "*.Shop.example.com" }},
    {{ issuer = " Let's Encrypt ", names = ["bücher.example", "www.example.org."] }},
]
""",
        CT_TOKEN="secret",
    )

    transparency = settings.transparency
    assert transparency.watches
    assert "http://127.0.0.1:8081" == transparency.api
    assert transparency.token is not None
    assert Secret("secret") == settings.secrets.resolve(transparency.token)
    assert (
        ExpectedCertificate("DigiCert*", ("*.shop.example.com",)),
        ExpectedCertificate("Let's Encrypt", ("xn--bcher-kva.example", "www.example.org")),
    ) == transparency.expected


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("watch = 1", "[ct] watch: must be true or false"),
        ('api = "http://log.example"', "[ct] api: must begin with https://"),
        ('tokens = "env:X"', "[ct] tokens: unknown key; did you mean token?"),
        ('expected = "all"', "[ct] expected: must be tables"),
        ("expected = [7]", "[ct] expected: must be tables"),
        ('expected = [{ issuer = "X" }]', "names: missing"),
        ('expected = [{ names = "a.example.com" }]', "issuer: missing"),
        ('expected = [{ issuer = "", names = "a.example.com" }]', "issuer: is empty"),
        ('expected = [{ issuer = "X", names = [] }]', "names: is an empty list"),
        ('expected = [{ issuer = "X", names = "https://a.example" }]', "is not a domain name"),
        ('expected = [{ issuer = "X", names = "a?.example" }]', "only * stands for"),
        ('expected = [{ isuer = "X", names = "*" }]', "isuer: unknown key; did you mean issuer?"),
    ],
)
def test_mistakes(refusal: Refusal, table: str, problem: str) -> None:
    """Each mistake names the key and the way to write the key."""
    assert any(problem in line for line in refusal(f"{DECLARED}[ct]\n{table}\n"))


def test_literal_token_in_a_file_that_others_can_read(refusal: Refusal) -> None:
    """A token is a secret."""
    lines = refusal(DECLARED + '[ct]\ntoken = "literal"\n', mode=0o644)

    assert any("[ct] token: the file contains a secret" in line for line in lines)


def test_token_that_a_scheduled_run_lacks(loaded: Load) -> None:
    """`schedule install` tells of the variable."""
    settings = loaded(DECLARED + '[ct]\ntoken = "env:CT_TOKEN"\n', CT_TOKEN="secret")

    assert ["certferry.toml: [ct] token: cron and systemd start the run without CT_TOKEN"] == [
        str(mistake.text) for mistake in lost_secrets(settings)
    ]


@given(certificates.filter(lambda drawn: drawn.issuer or drawn.issuer_name))
def test_printed_line_is_read_as_meant(drawn: LoggedCertificate) -> None:
    """The line of an alarm, pasted into the file, covers the certificate."""
    for certificate in after_read(LATER, [drawn], OWN, 0, NOW)[1]:
        if line := line_for(certificate):
            text = f"[ct]\nwatch = true\nexpected = [\n    {line},\n]\n"
            settings, mistakes = as_far_as_read(document_of(FILE, text), os.environ)
            assert [] == mistakes
            (expected,) = settings.transparency.expected
            assert expected.covers(certificate)
