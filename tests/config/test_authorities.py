"""Which CAs are asked: the usual one, and those of `fallback`, each with what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.config.values import DIRECTORIES
from certferry.core.desired.certificate import Authority
from certferry.core.secret import Secret
from tests.config.conftest import Load, Refusal

CERTIFICATE = """
[accounts.dnspod]
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""
ELSEWHERE = "https://ca.example.com:8443/directory"


def test_usual_ca_alone_is_called_as_operators_know_it(loaded: Load) -> None:
    """By its short name where it has one, else by its host."""
    for written, authority in (
        ("", Authority("letsencrypt", DIRECTORIES["letsencrypt"])),
        ('acme.directory = "google"', Authority("google", DIRECTORIES["google"])),
        (f'acme.directory = "{ELSEWHERE}"', Authority("ca.example.com:8443", ELSEWHERE)),
    ):
        [certificate] = loaded(written + CERTIFICATE).certificates

        assert (authority,) == certificate.issuance.authorities


def test_fallback_has_its_own_table(loaded: Load, folder: Path) -> None:
    """With keys of its own, and the bundle and the proxy of [acme] unless it names others."""
    for name in ("usual.pem", "own.pem"):
        (folder / name).touch()
    settings = loaded(f"""
[acme]
ca_bundle = "usual.pem"
proxy = "http://10.0.0.9:3128"
fallback = ["zerossl", "mine", "{ELSEWHERE}"]
reuse_key = true
preferred_chain = "ISRG Root X1"
[acme.zerossl]
eab_kid = "kid"
eab_hmac_key = "aG1hYw"
[acme.mine]
directory = "https://mine.example.com/dir"
ca_bundle = "own.pem"
proxy = "https://proxy.example.com"
{CERTIFICATE}""")

    zerossl, mine, other = settings.acme.fallback
    assert ("zerossl", DIRECTORIES["zerossl"], "kid") == (
        zerossl.name,
        zerossl.directory,
        zerossl.eab_kid,
    )
    assert zerossl.eab_hmac_key is not None
    assert Secret("aG1hYw") == settings.secrets.resolve(zerossl.eab_hmac_key)
    assert Secret("aG1hYw") in settings.secrets.known()
    assert ("mine", "https://mine.example.com/dir") == (mine.name, mine.directory)
    assert (folder / "usual.pem", folder / "own.pem", folder / "usual.pem") == (
        zerossl.ca_bundle,
        mine.ca_bundle,
        other.ca_bundle,
    )
    via = "http://10.0.0.9:3128"
    assert [via, via, "https://proxy.example.com", via] == [
        one.proxy for one in settings.acme.authorities
    ]
    [certificate] = settings.certificates
    assert ["letsencrypt", "zerossl", "mine", "ca.example.com:8443"] == [
        one.name for one in certificate.issuance.authorities
    ]
    assert certificate.issuance.reuse_key
    assert "ISRG Root X1" == settings.acme.preferred_chain


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("acme.fallback = 'zerossl'", "[acme] fallback: must be a list, and is a string"),
        (
            "acme.fallback = ['zerosl']",
            (
                "[acme] fallback: must be an https URL or one of letsencrypt, letsencrypt-staging,"
                " zerossl, google; did you mean zerossl?; or the name of a table under [acme] with"
                " a `directory`"
            ),
        ),
        ("acme.fallback = ['letsencrypt']", "[acme] fallback: letsencrypt is asked already"),
        ("acme.fallback = ['zerossl', 'zerossl']", "[acme] fallback: zerossl is asked already"),
        ("acme.zerossl = {}", "[acme] zerossl: unknown key; known are "),
        (
            "[acme]\nfallback = ['zerossl']\n[acme.zerossl]\neab_kid = 'k'",
            "[acme.zerossl] eab_hmac_key: missing: it goes together with eab_kid",
        ),
        (
            "[acme]\nfallback = ['zerossl']\n[acme.zerossl]\nemail = 'a@example.com'",
            "[acme.zerossl] email: unknown key; known are directory, ca_bundle, proxy, eab_kid,",
        ),
        (
            "acme.proxy = 'socks5h://10.0.0.9:1080'",
            "[acme] proxy: certferry does not support SOCKS proxies; write the proxy's",
        ),
        ("acme.proxy = '10.0.0.9:3128'", "[acme] proxy: must be a URL such as https://host/path"),
        (
            "acme.proxy = 'http://me:HUNTER2@10.0.0.9:3128'",
            "[acme] proxy: must not hold a user name or password; a proxy with one goes into",
        ),
        ("acme.profile = []", "[acme] profile: is an empty list"),
        ("acme.profile = ['classic', 3]", "[acme] profile: must be a string, and is a number"),
    ],
)
def test_a_wrong_ca_is_told(refusal: Refusal, written: str, told: str) -> None:
    """With the table and the setting that are wrong."""
    [line] = refusal(written)

    assert line.partition(": ")[2].startswith(told)


@pytest.mark.parametrize("table", ["acme", "acme.zerossl"])
def test_key_of_an_external_account_that_is_no_base64(
    refusal: Refusal, loaded: Load, table: str
) -> None:
    """It is told when the file is read, and not shown; one for which a program would have to run,
    or that is not there, is told when it is needed.
    """
    fallback = "[acme]\nfallback = ['zerossl']\n" if table != "acme" else ""
    written = f"{fallback}[{table}]\neab_kid = 'k'\neab_hmac_key = "

    [line] = refusal(f"{written}'no base64!'")
    assert f"[{table}] eab_hmac_key: `eab_hmac_key` is not base64url text" in line
    assert "no base64!" not in line
    [line] = refusal(f"{written}'env:EAB'", EAB="a/b+c")
    assert "is not base64url text" in line
    for reference in ("command:false", "env:EAB"):
        assert loaded(f"{written}'{reference}'\n{CERTIFICATE}").certificates


def test_profiles_in_order_of_preference(loaded: Load) -> None:
    """A list, or one alone."""
    for written, profiles in (
        ('"tlsserver"', ("tlsserver",)),
        ('["shortlived", "classic", "shortlived"]', ("shortlived", "classic")),
    ):
        [certificate] = loaded(f"acme.profile = {written}{CERTIFICATE}").certificates

        assert profiles == certificate.issuance.profiles
