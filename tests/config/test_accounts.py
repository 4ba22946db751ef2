"""Accounts, authorities, channels and deliveries in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from certferry.config.bind import bind, may_be_written, meanings, must_be_written
from certferry.config.load import load
from certferry.config.unattended import lost_programs, lost_secrets, runs_programs
from certferry.config.values import DIRECTORIES
from certferry.core.assessment.notices import USUAL, Topic
from certferry.core.desired.certificate import Authority
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.wiring.settings import ADAPTERS
from tests.config.conftest import Load, Refusal

# --- Accounts that no certificate names


USED = """
[accounts.dnspod]
id = "1"
token = "2"

[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""


def refusal(folder: Path, text: str) -> list[str]:
    """Write a file that is refused; give the message, line by line, without the folder."""
    path = folder / "certferry.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load(path, {"HOME": str(folder)}, ADAPTERS)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value.message).splitlines()]


@pytest.mark.parametrize(
    ("table", "line", "meant"),
    [
        ('[accounts.spare]\ntype = "dnspood"\n', 2, "dnspod"),
        ('[accounts.spare]\ntype = "quniu"\n', 2, "qiniu"),
        ("[accounts.cloudflair]\n", 1, "cloudflare"),
    ],
)
def test_unused_account_of_an_unknown_type(
    tmp_path: Path, table: str, line: int, meant: str
) -> None:
    """Its line is reported, with the nearest type of either family."""
    (said,) = refusal(tmp_path, table + USED)

    assert said.startswith(f"certferry.toml:{line}: [accounts.")
    assert said.endswith(f"is neither a DNS provider nor a target; did you mean {meant}?")


def test_unused_account_whose_type_is_no_word(tmp_path: Path) -> None:
    """That alone is reported."""
    expected = "certferry.toml:2: [accounts.spare] type: must be a string, but is a number"
    assert [expected] == refusal(tmp_path, f"[accounts.spare]\ntype = 3\n{USED}")


def test_unused_account_among_other_mistakes(tmp_path: Path) -> None:
    """All are told at once, in the order of the file's lines."""
    text = f'[acme]\nemial = "x"\n\n[accounts.spare]\ntype = "zzz"\n{USED}'

    first, second = refusal(tmp_path, text)

    assert first.startswith("certferry.toml:2: [acme] emial: unknown key")
    assert second.startswith(
        "certferry.toml:5: [accounts.spare] type: zzz is neither a DNS provider nor a target; known"
        " are acme-dns, alidns, cloudflare,"
    )


# --- Which CAs are asked: the usual one, and those of `fallback`, each with what it needs


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
    ("written", "reported"),
    [
        ("acme.fallback = 'zerossl'", "[acme] fallback: must be a list, but is a string"),
        (
            "acme.fallback = ['zerosl']",
            (
                "[acme] fallback: must be an https URL or one of letsencrypt, letsencrypt-staging,"
                " zerossl, google; did you mean zerossl?; or the name of a table under [acme] with"
                " a `directory`"
            ),
        ),
        ("acme.fallback = ['letsencrypt']", "[acme] fallback: letsencrypt is already listed"),
        ("acme.fallback = ['zerossl', 'zerossl']", "[acme] fallback: zerossl is already listed"),
        ("acme.zerossl = {}", "[acme] zerossl: unknown key; known are "),
        (
            "[acme]\nfallback = ['zerossl']\n[acme.zerossl]\neab_kid = 'k'",
            "[acme.zerossl] eab_hmac_key: missing: required together with eab_kid",
        ),
        (
            "[acme]\nfallback = ['zerossl']\n[acme.zerossl]\nemail = 'a@example.com'",
            "[acme.zerossl] email: unknown key; known are directory, ca_bundle, proxy, eab_kid,",
        ),
        (
            "acme.proxy = 'socks5h://10.0.0.9:1080'",
            "[acme] proxy: certferry does not support SOCKS proxies; write the proxy's",
        ),
        (
            "acme.proxy = '10.0.0.9:3128'",
            "[acme] proxy: must be a URL, for example https://host/path",
        ),
        (
            "acme.proxy = 'http://me:HUNTER2@10.0.0.9:3128'",
            "[acme] proxy: must not contain a user name or password; put a proxy with a password",
        ),
        ("acme.profile = []", "[acme] profile: is an empty list"),
        ("acme.profile = ['classic', 3]", "[acme] profile: must be a string, but is a number"),
    ],
)
def test_a_wrong_ca_is_reported(refusal: Refusal, written: str, reported: str) -> None:
    """With the table and the setting that are wrong."""
    [line] = refusal(written)

    assert line.partition(": ")[2].startswith(reported)


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


# --- The tables of channels: what is the same for all, and what their adapters read


USUAL_TABLES = '[[certificates]]\nnames = ["img.example.com"]\ndns = "dnspod"\n[accounts.dnspod]\n'


@dataclass(frozen=True)
class Mail:
    """An adapter's settings with a setting that is a word of Python's, and a path."""

    from_: str
    ca: Path | None = None


def test_what_is_not_written_is_usual(loaded: Load) -> None:
    """The type is the table's name; trouble and its end, in the run's language."""
    found = loaded(f'{USUAL_TABLES}[notify.bark]\nkey = "x"\n').channels["bark"]

    assert ("bark", "bark") == (found.account.label, found.account.type)
    assert (USUAL, "") == (found.on, found.language)
    assert {"key": "x"} == found.account.values


def test_what_is_the_same_for_all_is_no_setting_of_the_adapter(loaded: Load) -> None:
    """Type, topics and language."""
    table = '[notify.ops]\ntype = "bark"\non = ["renewed"]\nlanguage = "zh"\n'
    found = loaded(USUAL_TABLES + table).channels["ops"]

    assert ("bark", (Topic.RENEWED,), "zh") == (found.account.type, found.on, found.language)
    assert {} == found.account.values


@pytest.mark.parametrize(
    "line", ['on = ["troubles"]', 'language = "fr"', "on = []", 'on = "trouble"', "type = 7"]
)
def test_what_can_be_none_is_reported_with_its_place(loaded: Load, line: str) -> None:
    """Before anything else is done."""
    with pytest.raises(ConfigError) as wrong:
        loaded(f"{USUAL_TABLES}[notify.ops]\n{line}\n")

    assert "[notify.ops]" in str(wrong.value)


def test_secrets_of_channels_are_secrets(loaded: Load) -> None:
    """The literal address of a webhook is hidden, and what a reference leads to is kept from
    programs.
    """
    table = '[notify.ops]\nurl = "https://hooks.example.com/0b9f6d"\nsecret = "env:HOOK_WORD"\n'
    secrets = loaded(USUAL_TABLES + table, HOOK_WORD="sekrit-sekrit").secrets

    assert Secret("https://hooks.example.com/0b9f6d") in secrets.known()
    assert "HOOK_WORD" in secrets.withheld()


def test_what_a_run_by_cron_lacks_for_its_channels(loaded: Load) -> None:
    """Variables that nothing sets, and programs."""
    table = '[notify.ops]\nurl = "env:HOOK"\n[notify.pager]\ntype = "command"\ncommand = ["sh"]\n'
    settings = loaded(USUAL_TABLES + table, HOOK="x")

    assert any("HOOK" in str(finding.text) for finding in lost_secrets(settings))
    assert runs_programs(settings)
    (lost,) = lost_programs(settings, "/nowhere", {"PATH": "/bin:/usr/bin"})
    assert "sh" in str(lost.text)


def test_a_word_of_pythons_and_a_path_are_bound(loaded: Load, folder: Path) -> None:
    """`from`, and a file beside the configuration."""
    (folder / "ca.pem").touch()
    tables = '[notify.ops]\nfrom = "a@b"\nca = "ca.pem"\n[notify.bad]\nca = "no.pem"\n'
    channels = loaded(USUAL_TABLES + tables).channels

    found = bind(Mail, channels["ops"].account, lambda _: Secret("x"))

    assert Mail("a@b", folder / "ca.pem") == found
    assert ("from", "ca") == may_be_written(Mail)
    assert ("from",) == must_be_written(Mail)
    assert {} == meanings(Mail)
    with pytest.raises(ConfigError) as wrong:
        bind(Mail, channels["bad"].account, lambda _: Secret("x"))
    assert "from: missing" in str(wrong.value)
    assert "there is no file" in str(wrong.value)


# --- `dns` of a certificate: one account, or a table from zones to accounts


ACCOUNTS = """\
[accounts]
dnspod = {}
tc = { type = "tencentcloud" }
"""


NOT_COVERED = (
    'none of the zones contains *.delegated.net: add "delegated.net" = "dnspod", with the account'
    " that writes there. If a CNAME leads the challenge into another zone, use the other zone's"
    " account"
)


def declared(dns: str, *names: str) -> str:
    """Return a file with one certificate; `dns` is in its ninth line."""
    listed = ", ".join(f'"{name}"' for name in names)
    return f"{ACCOUNTS}\n\n\n[[certificates]]\nnames = [{listed}]\ndns = {dns}\n"


def test_table_from_zones_to_accounts(loaded: Load) -> None:
    """The longest zone comes first, in A-labels; the accounts are those of the table."""
    dns = '{ "Example.com" = "dnspod", "a.example.com" = "tc", "例子.cn" = "dnspod" }'

    [wish] = loaded(declared(dns, "*.a.example.com", "img.example.com", "例子.cn")).certificates

    assert (
        ("a.example.com", "tc"),
        ("example.com", "dnspod"),
        ("xn--fsqu00a.cn", "dnspod"),
    ) == wish.dns_zones
    assert ("", ("tc", "dnspod")) == (wish.dns, wish.dns_accounts)


def test_table_of_its_own(loaded: Load) -> None:
    """A header does as well as braces."""
    text = declared('{ "example.com" = "dnspod" }', "example.com").replace("dns = {", "# {")

    [wish] = loaded(f'{text}[certificates.dns]\n"example.com" = "tc"\n').certificates

    assert (("example.com", "tc"),) == wish.dns_zones


def test_one_account(loaded: Load) -> None:
    """As ever."""
    [wish] = loaded(declared('"dnspod"', "example.com")).certificates

    assert ("dnspod", (), ("dnspod",)) == (wish.dns, wish.dns_zones, wish.dns_accounts)


@pytest.mark.parametrize(
    ("dns", "problem"),
    [
        ('{ "example.com" = "dnspod" }', f"dns: {NOT_COVERED}"),
        ("{}", "dns: contains no zone with its account"),
        ("3", "dns: must be a string, but is a number"),
    ],
)
def test_table_without_the_zone_of_a_name(refusal: Refusal, dns: str, problem: str) -> None:
    """It is reported at the line of the table, with what to write there."""
    [line] = refusal(declared(dns, "img.example.com", "*.delegated.net"))

    assert f"certferry.toml:9: [[certificates]] {problem}" == line


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('"example.net" = "dnsopd"', "did you mean dnspod?"),
        ('"example.net" = 3', "must be a string"),
        ('"*.example.com" = "dnspod"', "a zone has no `*`"),
        ('"https://example.com/" = "dnspod"', "is not a domain name"),
        ('"EXAMPLE.com" = "dnspod"', "in another spelling"),
    ],
)
def test_wrong_entry_is_reported_at_its_line(refusal: Refusal, entry: str, problem: str) -> None:
    """With the zone as its key."""
    text = declared('{ "example.com" = "dnspod" }', "example.com").replace("dns = {", "# {")

    lines = refusal(f'{text}[certificates.dns]\n"example.com." = "tc"\n{entry}\n')

    assert 1 == len(lines), lines
    assert lines[0].startswith("certferry.toml:12: ")
    assert problem in lines[0]


def test_certificate_without_account(loaded: Load, refusal: Refusal) -> None:
    """Records that stay may prove it where `dns_persist` says so, and not to the CAs of
    `fallback`.
    """
    text = '[acme]\ndns_persist = true\n\n[[certificates]]\nnames = ["example.com"]\n'

    [wish] = loaded(text).certificates
    assert ("", (), True) == (wish.dns, wish.dns_accounts, wish.issuance.dns_persist)

    apart = declared('{ "example.com" = "dnspod" }', "img.other.net")
    [wish] = loaded(f"[acme]\ndns_persist = true\n\n{apart}").certificates
    assert (("example.com", "dnspod"),) == wish.dns_zones
    fallback = 'fallback = ["letsencrypt-staging"]'
    assert "none of the zones contains img.other.net" in "".join(
        refusal(f"[acme]\ndns_persist = true\n{fallback}\n\n{apart}")
    )
    assert "dns: missing: the account that writes" in "".join(
        refusal(text.replace("true", "false"))
    )
    with_fallback = text.replace("true", f"true\n{fallback}")
    assert "the CAs in `fallback` need an account" in "".join(refusal(with_fallback))


def test_records_on_a_host_that_may_not_ask(refusal: Refusal) -> None:
    """They are looked up before an order: `wait` says that nothing is."""
    text = "[acme]\ndns_persist = true\n[dns]\nwait = 120\n"

    assert "certferry.toml:2: [acme] dns_persist: not with `wait` under [dns]" in " ".join(
        refusal(text)
    )
