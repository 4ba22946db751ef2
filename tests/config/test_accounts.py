"""Accounts, authorities and channels of a configuration, and the table `dns` of a certificate."""

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

# --- Accounts without a certificate


USED = """
[accounts.dnspod]
id = "1"
token = "2"

[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""


def refusal(folder: Path, text: str) -> list[str]:
    """Write a refused configuration, and return the lines of the message without the folder."""
    path = folder / "certferry.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load(path, {"HOME": str(folder)}, ADAPTERS)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value.message).splitlines()]


@pytest.mark.parametrize(
    ("table", "line", "suggested"),
    [
        ('[accounts.spare]\ntype = "dnspood"\n', 2, "dnspod"),
        ('[accounts.spare]\ntype = "quniu"\n', 2, "qiniu"),
        ("[accounts.cloudflair]\n", 1, "cloudflare"),
    ],
)
def test_unused_account_of_an_unknown_type(
    tmp_path: Path, table: str, line: int, suggested: str
) -> None:
    """The message has the account's line, and the nearest type among DNS providers and targets."""
    (message,) = refusal(tmp_path, table + USED)

    assert message.startswith(f"certferry.toml:{line}: [accounts.")
    assert message.endswith(
        f"is neither a DNS provider nor a target nor a server; did you mean {suggested}?"
    )


def test_unused_account_whose_type_is_a_number(tmp_path: Path) -> None:
    """The message is about the type alone."""
    expected = "certferry.toml:2: [accounts.spare] type: must be a string, but is a number"
    assert [expected] == refusal(tmp_path, f"[accounts.spare]\ntype = 3\n{USED}")


def test_unused_account_among_other_mistakes(tmp_path: Path) -> None:
    """The message lists all mistakes, in the order of the lines."""
    text = f'[acme]\nemial = "x"\n\n[accounts.spare]\ntype = "zzz"\n{USED}'

    first, second = refusal(tmp_path, text)

    assert first.startswith("certferry.toml:2: [acme] emial: unknown key")
    assert second.startswith(
        "certferry.toml:5: [accounts.spare] type: zzz is neither a DNS provider nor a target nor a"
        " server; known are acme-dns, alidns, aliyun, cloudflare,"
    )


# --- The authorities: the usual CA, and the CAs of `fallback`, each with its settings


CERTIFICATE = """
[accounts.dnspod]
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""
ELSEWHERE = "https://ca.example.com:8443/directory"


def test_usual_ca_has_a_short_name(loaded: Load) -> None:
    """A CA is named by its short name, or by its host if the CA has none."""
    for setting, authority in (
        ("", Authority("letsencrypt", DIRECTORIES["letsencrypt"])),
        ('acme.directory = "google"', Authority("google", DIRECTORIES["google"])),
        (f'acme.directory = "{ELSEWHERE}"', Authority("ca.example.com:8443", ELSEWHERE)),
    ):
        [certificate] = loaded(setting + CERTIFICATE).certificates

        assert (authority,) == certificate.issuance.authorities


def test_fallback_has_its_own_table(loaded: Load, folder: Path) -> None:
    """A table under [acme] has its own keys; bundle and proxy come from [acme] unless the table has
    others.
    """
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
        authority.proxy for authority in settings.acme.authorities
    ]
    [certificate] = settings.certificates
    assert ["letsencrypt", "zerossl", "mine", "ca.example.com:8443"] == [
        authority.name for authority in certificate.issuance.authorities
    ]
    assert certificate.issuance.reuse_key
    assert "ISRG Root X1" == settings.acme.preferred_chain


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("acme.fallback = 'zerossl'", "[acme] fallback: must be a list, but is a string"),
        (
            "acme.fallback = ['zerosl']",
            (
                "[acme] fallback: must be an https URL or one of letsencrypt, letsencrypt-staging,"
                " zerossl, google, litessl, actalis; did you mean zerossl?; or the name of a table"
                " under [acme] with a `directory`"
            ),
        ),
        ("acme.fallback = ['letsencrypt']", "[acme] fallback: letsencrypt is already listed"),
        (
            f"acme.fallback = ['{ELSEWHERE}', '{ELSEWHERE}']",
            "[acme] fallback: ca.example.com:8443 is already listed",
        ),
        (
            "acme.fallback = ['litessl']",
            "[acme] fallback: litessl registers no account without `eab_kid` and `eab_hmac_key`",
        ),
        ("acme.zerossl = {}", "[acme] zerossl: unknown key; known are "),
        (
            "[acme]\nfallback = ['zerossl']\n[acme.zerossl]\neab_kid = 'k'",
            "[acme.zerossl] eab_hmac_key: missing: required together with eab_kid",
        ),
        (
            (
                "[acme]\nfallback = ['zerossl']\n[acme.zerossl]\nemail = 'a@example.com'\n"
                "eab_kid = 'k'\neab_hmac_key = 'aG1hYw'"
            ),
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
def test_wrong_ca_is_reported(refusal: Refusal, text: str, reported: str) -> None:
    """The message names the table and the setting."""
    [line] = refusal(text)

    assert line.partition(": ")[2].startswith(reported)


@pytest.mark.parametrize("names", [["*.example.com"], ["a.example.com", "b.example.com"]])
@pytest.mark.parametrize(
    "settings",
    [
        'directory = "actalis"',
        "fallback = ['actalis']\n[acme.actalis]\neab_kid = 'kid'\neab_hmac_key = 'aG1hYw'",
    ],
)
def test_ca_for_a_single_name(refusal: Refusal, names: list[str], settings: str) -> None:
    """Actalis issues for a single name without `*`, so other certificates are refused when the file
    is read.
    """
    [line] = refusal(f"""
[acme]
{settings}
[accounts.dnspod]
[[certificates]]
name = "web"
names = {names}
dns = "dnspod"
""")

    assert "names: actalis issues certificates for one name and without `*`" in line


@pytest.mark.parametrize("table", ["acme", "acme.zerossl"])
def test_key_of_an_external_account_that_is_no_base64(
    refusal: Refusal, loaded: Load, table: str
) -> None:
    """A wrong literal is reported on reading the file, without the value. The key of a command or
    of an unset variable is checked when the key is needed.
    """
    fallback = "[acme]\nfallback = ['zerossl']\n" if table != "acme" else ""
    settings = f"{fallback}[{table}]\neab_kid = 'k'\neab_hmac_key = "

    [line] = refusal(f"{settings}'no base64!'")
    assert f"[{table}] eab_hmac_key: `eab_hmac_key` is not base64url text" in line
    assert "no base64!" not in line
    [line] = refusal(f"{settings}'env:EAB'", EAB="a/b+c")
    assert "is not base64url text" in line
    for reference in ("command:false", "env:EAB"):
        assert loaded(f"{settings}'{reference}'\n{CERTIFICATE}").certificates


def test_profiles_in_order_of_preference(loaded: Load) -> None:
    """The setting is a list of profiles, or a single profile."""
    for setting, profiles in (
        ('"tlsserver"', ("tlsserver",)),
        ('["shortlived", "classic", "shortlived"]', ("shortlived", "classic")),
    ):
        [certificate] = loaded(f"acme.profile = {setting}{CERTIFICATE}").certificates

        assert profiles == certificate.issuance.profiles


# --- Channels: the settings of every channel, and the settings of an adapter


USUAL_TABLES = '[[certificates]]\nnames = ["img.example.com"]\ndns = "dnspod"\n[accounts.dnspod]\n'


@dataclass(frozen=True)
class Mail:
    """Settings of an adapter with a path, and with a keyword of Python as a key."""

    from_: str
    ca: Path | None = None


def test_channel_without_optional_settings(loaded: Load) -> None:
    """The type is the table's name, the topics are trouble and its end, and the language is the
    run's.
    """
    channel = loaded(f'{USUAL_TABLES}[notify.bark]\nkey = "x"\n').channels["bark"]

    assert ("bark", "bark") == (channel.account.label, channel.account.type)
    assert (USUAL, "") == (channel.on, channel.language)
    assert {"key": "x"} == channel.account.values


def test_settings_of_every_channel_are_no_settings_of_the_adapter(loaded: Load) -> None:
    """The adapter gets neither type nor topics nor language."""
    table = '[notify.ops]\ntype = "bark"\non = ["renewed"]\nlanguage = "zh"\n'
    channel = loaded(USUAL_TABLES + table).channels["ops"]

    assert ("bark", (Topic.RENEWED,), "zh") == (channel.account.type, channel.on, channel.language)
    assert {} == channel.account.values


@pytest.mark.parametrize(
    "line", ['on = ["troubles"]', 'language = "fr"', "on = []", 'on = "trouble"', "type = 7"]
)
def test_wrong_setting_of_a_channel_is_reported(loaded: Load, line: str) -> None:
    """The message names the table before any other work of the run."""
    with pytest.raises(ConfigError) as caught:
        loaded(f"{USUAL_TABLES}[notify.ops]\n{line}\n")

    assert "[notify.ops]" in str(caught.value)


def test_secrets_of_channels(loaded: Load) -> None:
    """The literal address of a webhook is masked, and programs run without the variables of
    references.
    """
    table = '[notify.ops]\nurl = "https://hooks.example.com/0b9f6d"\nsecret = "env:HOOK_WORD"\n'
    secrets = loaded(USUAL_TABLES + table, HOOK_WORD="sekrit-sekrit").secrets

    assert Secret("https://hooks.example.com/0b9f6d") in secrets.known()
    assert "HOOK_WORD" in secrets.withheld()


def test_programs_and_variables_of_channels_in_a_run_by_cron(loaded: Load) -> None:
    """The findings name variables that cron does not set, and programs outside cron's PATH."""
    table = '[notify.ops]\nurl = "env:HOOK"\n[notify.pager]\ntype = "command"\ncommand = ["sh"]\n'
    settings = loaded(USUAL_TABLES + table, HOOK="x")

    assert any("HOOK" in str(finding.text) for finding in lost_secrets(settings))
    assert runs_programs(settings)
    (lost,) = lost_programs(settings, "/nowhere", {"PATH": "/bin:/usr/bin"})
    assert "sh" in str(lost.text)


def test_keyword_of_python_and_path_of_an_adapter(loaded: Load, folder: Path) -> None:
    """`from` is read from the file, and a relative path starts at the configuration's folder."""
    (folder / "ca.pem").touch()
    tables = '[notify.ops]\nfrom = "a@b"\nca = "ca.pem"\n[notify.bad]\nca = "no.pem"\n'
    channels = loaded(USUAL_TABLES + tables).channels

    mail = bind(Mail, channels["ops"].account, lambda _: Secret("x"))

    assert Mail("a@b", folder / "ca.pem") == mail
    assert ("from", "ca") == may_be_written(Mail)
    assert ("from",) == must_be_written(Mail)
    assert {} == meanings(Mail)
    with pytest.raises(ConfigError) as caught:
        bind(Mail, channels["bad"].account, lambda _: Secret("x"))
    assert "from: missing" in str(caught.value)
    assert "there is no file" in str(caught.value)


# --- `dns` of a certificate: an account, or a table from zones to accounts


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
    """Return a configuration with one certificate, whose `dns` is in line 9."""
    listed = ", ".join(f'"{name}"' for name in names)
    return f"{ACCOUNTS}\n\n\n[[certificates]]\nnames = [{listed}]\ndns = {dns}\n"


def test_table_from_zones_to_accounts(loaded: Load) -> None:
    """Zones are in A-labels, the longest zone first, and the accounts are those of the table."""
    dns = '{ "Example.com" = "dnspod", "a.example.com" = "tc", "例子.cn" = "dnspod" }'

    [certificate] = loaded(
        declared(dns, "*.a.example.com", "img.example.com", "例子.cn")
    ).certificates

    assert (
        ("a.example.com", "tc"),
        ("example.com", "dnspod"),
        ("xn--fsqu00a.cn", "dnspod"),
    ) == certificate.dns_zones
    assert ("", ("tc", "dnspod")) == (certificate.dns, certificate.dns_accounts)


def test_table_of_zones_under_a_header(loaded: Load) -> None:
    """A header is equivalent to braces."""
    text = declared('{ "example.com" = "dnspod" }', "example.com").replace("dns = {", "# {")

    [certificate] = loaded(f'{text}[certificates.dns]\n"example.com" = "tc"\n').certificates

    assert (("example.com", "tc"),) == certificate.dns_zones


def test_single_account(loaded: Load) -> None:
    """A string names the account of all zones."""
    [certificate] = loaded(declared('"dnspod"', "example.com")).certificates

    assert ("dnspod", (), ("dnspod",)) == (
        certificate.dns,
        certificate.dns_zones,
        certificate.dns_accounts,
    )


@pytest.mark.parametrize(
    ("dns", "problem"),
    [
        ('{ "example.com" = "dnspod" }', f"dns: {NOT_COVERED}"),
        ("{}", "dns: contains no zone with its account"),
        ("3", "dns: must be a string, but is a number"),
    ],
)
def test_table_without_the_zone_of_a_name(refusal: Refusal, dns: str, problem: str) -> None:
    """The message has the line of the table, and the entry to write."""
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
def test_wrong_entry_of_a_zone_is_reported_at_its_line(
    refusal: Refusal, entry: str, problem: str
) -> None:
    """The message has the zone as the key, and the line of the entry."""
    text = declared('{ "example.com" = "dnspod" }', "example.com").replace("dns = {", "# {")

    lines = refusal(f'{text}[certificates.dns]\n"example.com." = "tc"\n{entry}\n')

    assert 1 == len(lines), lines
    assert lines[0].startswith("certferry.toml:12: ")
    assert problem in lines[0]


def test_certificate_without_account(loaded: Load, refusal: Refusal) -> None:
    """With `dns_persist` lasting records may prove a name without an account, but only to the usual
    CA and not to the CAs of `fallback`.
    """
    text = '[acme]\ndns_persist = true\n\n[[certificates]]\nnames = ["example.com"]\n'

    [certificate] = loaded(text).certificates
    assert ("", (), True) == (
        certificate.dns,
        certificate.dns_accounts,
        certificate.issuance.dns_persist,
    )

    apart = declared('{ "example.com" = "dnspod" }', "img.other.net")
    [certificate] = loaded(f"[acme]\ndns_persist = true\n\n{apart}").certificates
    assert (("example.com", "dnspod"),) == certificate.dns_zones
    fallback = 'fallback = ["letsencrypt-staging"]'
    assert "none of the zones contains img.other.net" in "".join(
        refusal(f"[acme]\ndns_persist = true\n{fallback}\n\n{apart}")
    )
    assert "dns: missing: the account that writes" in "".join(
        refusal(text.replace("true", "false"))
    )
    with_fallback = text.replace("true", f"true\n{fallback}")
    assert "the CAs in `fallback` need an account" in "".join(refusal(with_fallback))


def test_lasting_records_with_wait(refusal: Refusal) -> None:
    """`dns_persist` needs queries before an order, and `wait` forbids queries."""
    text = "[acme]\ndns_persist = true\n[dns]\nwait = 120\n"

    assert "certferry.toml:2: [acme] dns_persist: not with `wait` under [dns]" in " ".join(
        refusal(text)
    )
