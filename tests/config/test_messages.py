"""Messages about a wrong configuration, with one kind of mistake each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.mistakes import (
    REFERENCE,
    config_error,
    instead_of,
    joined,
    mistake_at,
    nearest,
)
from certferry.errors import ConfigError
from certferry.text import Text
from tests.config.conftest import Load, Refusal

ACCOUNTS = """\
[accounts.qiniu]
[accounts.dnspod]
"""

MANY = """\
env_file = ["/etc/ssl/.cdn-env"]

[state]
url = "postgresql://ferry:HUNTER2@db/certs"

[acme]
directory = "letsencript"
key_type = "ec265"
email = 3
eab_kid = "kid"
fallback = ["zerossl"]

[dns]
resolvers = ["223.5.5.5", "dns.google",
  "1.1.1.1:99999"]
propagation_timeout = nan

[verfy]
port = 443

[accounts]
qiniu = { acess_key = "HUNTER2" }
mail = 3

[[certificates]]
names = ["a.example.com", "https://b.example.com/", "*.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "files"
directory = "/opt/ssl"
reload = "systemctl reload nginx"
[[certificates.deploy]]
to = "qinu"
kind = "piil"
retire = "unused"
tls_versions = ["TLSv1.2", "tlsv1.3"]
force_https = "yes"

[[certificates]]
name = "a.example.com"
fullchain = "/opt/ssl/fullchain.pem"
privkey = "/opt/ssl/privkey.pem"
"""


def test_all_mistakes_are_reported_together(refusal: Refusal) -> None:
    """The message lists all mistakes in the order of the file, each with line, table and key."""
    assert [
        "certferry.toml:1: env_file: unknown key; did you mean env_files?",
        (
            "certferry.toml:4: [state] url: contains a password; write `password`, a reference,"
            " instead"
        ),
        "certferry.toml:6: [acme] eab_hmac_key: missing: required together with eab_kid",
        (
            "certferry.toml:7: [acme] directory: must be an https URL or one of letsencrypt,"
            " letsencrypt-staging, zerossl, google, litessl, actalis; did you mean letsencrypt?"
        ),
        (
            "certferry.toml:8: [acme] key_type: must be one of ec256, ec384, rsa2048, rsa3072,"
            " rsa4096; did you mean ec256?"
        ),
        "certferry.toml:9: [acme] email: must be a string, but is a number",
        (
            "certferry.toml:11: [acme] fallback: zerossl registers no account without `eab_kid` and"
            " `eab_hmac_key`: write both below [acme.zerossl]"
        ),
        (
            "certferry.toml:14: [dns] resolvers: 'dns.google' is not the address of a name server;"
            " write 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:5353"
        ),
        (
            "certferry.toml:15: [dns] resolvers: '1.1.1.1:99999' is not the address of a name"
            " server; write 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:5353"
        ),
        (
            "certferry.toml:16: [dns] propagation_timeout: must be a number of seconds above 0,"
            " at most 315360000"
        ),
        "certferry.toml:18: verfy: unknown key; did you mean verify?",
        "certferry.toml:23: [accounts] mail: must be a table, but is a number",
        (
            "certferry.toml:26: [[certificates]] names: 'https://b.example.com/' is not a domain"
            " name; write a name like img.example.com or *.example.com, without https:// or a"
            " path"
        ),
        "certferry.toml:27: [[certificates]] dns: there is no account dnspod; declared are qiniu",
        (
            "certferry.toml:33: [[certificates.deploy]] to: there is no account qinu; did you mean"
            " qiniu?"
        ),
        (
            "certferry.toml:34: [[certificates.deploy]] kind: must be one of auto, cdn, kodo, pili;"
            " did you mean pili?"
        ),
        (
            "certferry.toml:35: [[certificates.deploy]] retire: must be one of superseded,"
            " all-unused, never; did you mean all-unused?"
        ),
        (
            "certferry.toml:36: [[certificates.deploy]] tls_versions: must be one of TLSv1.0,"
            " TLSv1.1, TLSv1.2, TLSv1.3; did you mean TLSv1.3?"
        ),
        'certferry.toml:37: [[certificates.deploy]] force_https: must be "keep", true or false',
        (
            "certferry.toml:40: [[certificates]] name: a.example.com is already declared, at"
            " line 25; give one of the two another `name`"
        ),
    ] == refusal(MANY)


def test_hint_about_the_reference_of_settings(loaded: Load) -> None:
    """The single `ConfigError` has a hint that leads to the descriptions of settings."""
    with pytest.raises(ConfigError) as caught:
        loaded(MANY)

    assert "`certferry help config` explains every setting" == str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("env_files = 'x'", "env_files: must be a list, but is a string"),
        ("env_files = [1]", "env_files: must be a string, but is a number"),
        ("certificates = 1", "certificates: must be tables, each under its own [[certificates]]"),
        ("[certificates]", "certificates: needs two pairs of brackets: write [[certificates]]"),
        ("notify.type = 'x'\nnotify.url = 'y'", "[notify]: lacks a name: write [notify.ops]"),
        ("accounts.type = 'qiniu'", "[accounts]: lacks a name: write [accounts.mine]"),
        (
            "heartbeat.url = 'hc.test/x'",
            "[heartbeat] url: must be a URL, for example https://host/path",
        ),
        ("heartbeat.url = 'http://hc.test/x'", "[heartbeat] url: must begin with https://"),
        (
            "heartbeat.url = '$HC_URL'",
            "[heartbeat] url: must be a URL, for example https://host/path",
        ),
        ("acme = true", "acme: must be a table, but is true or false"),
        ("acme.email = 2026-01-01", "[acme] email: must be a string, but is a date or time"),
        ("acme.email = []", "[acme] email: must be a string, but is a list"),
        ("acme.email = {}", "[acme] email: must be a string, but is a table"),
        ("acme.email = ' '", "[acme] email: is empty"),
        ("acme.email = 'ops'", "[acme] email: must be an address, for example ops@example.com"),
        (
            "acme.email = 'mailto:o@x.cn'",
            "[acme] email: must be an address, for example ops@example.com",
        ),
        (
            'acme.profile = "a\\u0000"',
            "[acme] profile: contains a character that cannot be printed",
        ),
        (
            "acme.eab_kid = 'x'\nacme.eab_hmac_key = 3",
            "[acme] eab_hmac_key: must be a string, but is a number",
        ),
        (
            "acme.eab_hmac_key = 'HUNTER2'",
            "[acme] eab_kid: missing: required together with eab_hmac",
        ),
        ("acme.preferred_chain = ''", "[acme] preferred_chain: is empty"),
        ("acme.reuse_key = 'yes'", "[acme] reuse_key: must be true or false, but is a string"),
        ("acme.emial = 'x'", "[acme] emial: unknown key; did you mean email?"),
        ("acme.'ca-bundle' = 'x'", "[acme] ca-bundle: unknown key; did you mean ca_bundle?"),
        (
            "dns.ttl = 1",
            "[dns] ttl: unknown key; known are resolvers, propagation_timeout, port, doh, wait",
        ),
        ("dns.doh = ['223.5.5.5']", "[dns] doh: must be a URL, for example https://host/path"),
        ("dns.doh = ['http://dns.test/q']", "[dns] doh: must begin with https://"),
        ("dns.wait = 0", "[dns] wait: must be a number of seconds above 0"),
        (
            "dns.wait = 60\ndns.doh = ['https://223.5.5.5/dns-query']",
            "[dns] doh: with `wait` certferry asks no resolver; remove one of the two",
        ),
        ("dns.port = 0", "[dns] port: must be a port, from 1 to 65535"),
        ("dns.port = 65536", "[dns] port: must be a port, from 1 to 65535"),
        ("dns.port = 53.0", "[dns] port: must be a whole number, but is a number"),
        ("dns.port = true", "[dns] port: must be a whole number, but is true or false"),
        ("dns.propagation_timeout = 0", "[dns] propagation_timeout: must be a number of seconds"),
        ("dns.propagation_timeout = inf", "[dns] propagation_timeout: must be a number of seconds"),
        (
            "dns.propagation_timeout = '1m'",
            "[dns] propagation_timeout: must be a number of seconds, but is a s",
        ),
        (
            "dns.resolvers = ['1.1.1.1:']",
            "[dns] resolvers: '1.1.1.1:' is not the address of a name",
        ),
        ("dns.resolvers = ['[::1']", "[dns] resolvers: '[::1' is not the address of a name server"),
        ("dns.resolvers = ['1.1.1.1:0']", "[dns] resolvers: '1.1.1.1:0' is not the address of a "),
        ("verify.timeout = -1", "[verify] timeout: must be a number of seconds above 0, at most "),
        (
            "state.url = 'state.db'",
            "[state] url: must be sqlite:/// and a path, for example sqlite:////",
        ),
        (
            "state.url = 'sqlite:///'",
            "[state] url: must be sqlite:/// and a path, for example sqlite:///",
        ),
        (
            "state.url = 'mysql://u:HUNTER2@h/d'",
            "[state] url: must be sqlite:/// and a path, for ",
        ),
        ("accounts.files.type = 'x'", "[accounts] files: this name is reserved; give the account "),
        ("accounts.qiniu.type = 1", "[accounts.qiniu] type: must be a string, but is a number"),
        ("accounts.'my qiniu'.type = ''", '[accounts."my qiniu"] type: is empty'),
    ],
)
def test_wrong_setting_is_reported_with_its_key(refusal: Refusal, text: str, expected: str) -> None:
    """Each mistake has a single line that begins with the place."""
    (line,) = refusal(text)

    assert line.partition(": ")[2].startswith(expected)
    assert "HUNTER2" not in line


@pytest.mark.parametrize(
    "url",
    [
        "http://ca.example.com/dir",
        "http://localhost.example.com/dir",
        "http://128.0.0.1/dir",
        "ftp://ca.example.com/dir",
        "https://",
        "https:///dir",
        "https://ca.example.com:port/dir",
        "https://[::1/dir",
        "https://ca.example.com/with space",
        "https://user:HUNTER2@ca.example.com/dir",
    ],
)
def test_an_address_that_is_not_safe_or_not_one(refusal: Refusal, url: str) -> None:
    """A directory needs HTTPS and an address without credentials."""
    (line,) = refusal(f'acme.directory = "{url}"')

    assert line.startswith("certferry.toml:1: [acme] directory: must ")
    assert "HUNTER2" not in line


def certificate(body: str) -> str:
    """Return a configuration with two accounts and a certificate with these settings."""
    return f'{ACCOUNTS}[[certificates]]\nnames = ["a.example.com"]\ndns = "dnspod"\n{body}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("nmae = 'x'", "[[certificates]] nmae: unknown key; did you mean name?"),
        ("name = 'a b'", "[[certificates]] name: must not contain spaces or slashes, begin"),
        ("name = '../x'", "[[certificates]] name: must not contain spaces or slashes, begin"),
        ("name = '..'", "[[certificates]] name: must not contain spaces or slashes, begin"),
        ("name = '-x'", "[[certificates]] name: must not contain spaces or slashes, begin"),
        (
            "key_type = 'rsa1024'",
            "[[certificates]] key_type: must be one of ec256, ec384, rsa2048,",
        ),
        ("key_type = 'x'", "[[certificates]] key_type: must be one of ec256, ec384, rsa2048, rsa"),
        (
            "deploy = 'qiniu'",
            "[[certificates]] deploy: must be tables, each under its own [[certif",
        ),
        ("deploy = [{}]", "[[certificates.deploy]] to: missing: the account that serves the"),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\ndirectory = 'x'",
            "[[certificates.deploy]] directory: unknown key; ",
        ),
        (
            "[[certificates.deploy]]\nto = 'command'",
            "[[certificates.deploy]] command: missing: the command to run for the certificate",
        ),
        (
            "[[certificates.deploy]]\nto = 'quniu'",
            (
                "[[certificates.deploy]] to: there is no account quniu; did you mean qiniu?"
                " declared are dnspod, qiniu"
            ),
        ),
        (
            "[[certificates.deploy]]\nto = 'aliyun'",
            "[[certificates.deploy]] to: there is no account aliyun; declared are dnspod, qiniu",
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\nkind = 'pili'\nhttp2 = true",
            (
                '[[certificates.deploy]] http2: not with kind = "pili": a live domain lacks the'
                " setting"
            ),
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\nkind = 'kodo'\nforce_https = true",
            (
                '[[certificates.deploy]] force_https: not with kind = "kodo": a source domain'
                " lacks the setting"
            ),
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\nkind = 'dcdn'",
            "[[certificates.deploy]] kind: must be one of auto, cdn, kodo, pili; did you mean cdn?",
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\nretire = true",
            "[[certificates.deploy]] retire: must be a string, but is true or false",
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\ndomains = 'all'",
            '[[certificates.deploy]] domains: must be "auto" or a list, but is a string',
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\ndomains = []",
            "[[certificates.deploy]] domains: is an empty list",
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\ndomains = ['auto']",
            "[[certificates.deploy]] domains: 'auto' is not a domain name; ",
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\nexcludes = ['x.cn']",
            "[[certificates.deploy]] excludes: unknown key; did you mean exclude?",
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\ntls_versions = 'TLSv1.2'",
            '[[certificates.deploy]] tls_versions: must be "keep" or a list, but is a string',
        ),
        (
            "[[certificates.deploy]]\nto = 'qiniu'\nhttp2 = 1",
            '[[certificates.deploy]] http2: must be "keep", true or false',
        ),
        (
            "[[certificates]]\nnames = ['A.example.com.']\ndns = 'dnspod'",
            "[[certificates]] names: a.example.com is already declared, at line 3; ",
        ),
        (
            "[[certificates]]\ndns = 'dnspod'",
            "[[certificates]] names: missing: the names for the certificate",
        ),
        (
            "[[certificates]]\nnames = []\ndns = 'dnspod'",
            "[[certificates]] names: is an empty list",
        ),
        (
            "[[certificates]]\nnames = 'b.example.com'\ndns = 'dnspod'",
            "[[certificates]] names: must be a list, but is a string",
        ),
        (
            "[[certificates]]\nnames = ['b.example.com']",
            "[[certificates]] dns: missing: the account that writes the challenge records",
        ),
        (
            "[[certificates]]\nfullchain = 'x'\nprivkey = 'y'\ndns = 'dnspod'",
            "[[certificates]] dns: not with `fullchain`",
        ),
    ],
)
def test_wrong_setting_of_a_deployment_is_reported_with_its_key(
    refusal: Refusal, body: str, expected: str
) -> None:
    """A mistake in a certificate or a deployment causes exactly one line."""
    (line,) = refusal(certificate(body))

    assert line.partition(": ")[2].startswith(expected)


def test_wrong_name_in_a_long_list(refusal: Refusal) -> None:
    """The line is the name's own, and not the line of the list."""
    names = "".join(f'  "n{number}.example.com",\n' for number in range(50))
    text = f'[accounts.d]\n[[certificates]]\ndns = "d"\nnames = [\n{names}  "n 51",\n]'

    (line,) = refusal(text)

    assert line.startswith("certferry.toml:55: [[certificates]] names: 'n 51' is not a domain name")


def test_names_beyond_the_limit_of_an_order(refusal: Refusal, loaded: Load) -> None:
    """A certificate can have a hundred names; duplicates count once."""
    names = [f'"n{number}.example.com"' for number in range(100)]
    text = '[accounts.d]\n[[certificates]]\ndns = "d"\nnames = [{}]'

    settings = loaded(text.format(", ".join([*names, names[0].upper()])))
    (line,) = refusal(text.format(", ".join([*names, '"one.example.com"'])))

    assert 100 == len(settings.certificates[0].names)
    assert line.endswith(
        "[[certificates]] names: 101 names; a certificate can have 100: split them into several"
        " [[certificates]]"
    )


def test_certificate_without_any_account(refusal: Refusal) -> None:
    """The message omits the list of declared accounts."""
    (line,) = refusal('[[certificates]]\nnames = ["a.example.com"]\ndns = "dnspod"')

    assert line.endswith("dns: there is no account dnspod; none is declared")


def test_missing_bundle_is_reported(refusal: Refusal, folder: Path) -> None:
    """A CA bundle is checked before the first request to a service."""
    assert [
        f"certferry.toml:1: [acme] ca_bundle: there is no file {folder}/no.pem",
        f"certferry.toml:2: [verify] ca_bundle: there is no file {folder}",
    ] == refusal('acme.ca_bundle = "no.pem"\nverify.ca_bundle = "."')


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_can_read(refusal: Refusal, loaded: Load, mode: int) -> None:
    """A literal secret is refused if other users can read the file; a reference is accepted."""
    literal = 'acme.eab_kid = "kid"\nacme.eab_hmac_key = "HUNTER2"'

    assert [
        (
            "certferry.toml:2: [acme] eab_hmac_key: the file contains a secret and other users"
            " can read it; run: chmod 600 certferry.toml"
        )
    ] == refusal(literal, mode=mode)
    assert loaded(literal, mode=0o600).acme.usual.eab_hmac_key is not None
    assert (
        loaded(literal.replace("HUNTER2", "env:EAB"), mode=mode).acme.usual.eab_hmac_key is not None
    )


def test_key_with_line_ends(refusal: Refusal) -> None:
    """A message has a single line, with any characters in the key."""
    (line,) = refusal('"a\\nb" = 1')

    assert "\\n" in line


WORDS = ["env_files", "state", "acme", "tls_versions", "all-unused", "letsencrypt-staging"]


@given(st.sampled_from(WORDS), st.data())
def test_typing_error_is_understood(word: str, data: st.DataObject) -> None:
    """The right word is suggested for a missing letter, a doubled letter, two exchanged letters,
    and another case.
    """
    at = data.draw(st.integers(0, len(word) - 2))
    slips = [
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word.upper(),
        word.replace("_", "-"),
    ]

    assert {word} == {nearest(slip, WORDS) for slip in slips}


def test_dissimilar_word_has_no_suggestion() -> None:
    """A list of the known words is better than a wrong suggestion."""
    assert nearest("port", ["email", "profile"]) is None
    assert "known are email, profile" == str(instead_of("port", ["email", "profile"]))
    assert "none are known" == str(instead_of("port", []))


def test_mistakes_of_several_files() -> None:
    """Mistakes are sorted by lines within a file, and files are in the order of reading."""
    mine, other = Path("b.toml"), Path("a.env")
    findings = [
        mistake_at(mine, 9, "", "z", Text("third")),
        mistake_at(other, 2, "", "", Text("fifth")),
        mistake_at(mine, None, "", "", Text("first")),
        mistake_at(other, 1, "", "y", Text("fourth")),
        mistake_at(mine, 3, "[t]", "x", Text("second")),
    ]

    assert [
        "b.toml: first",
        "b.toml:3: [t] x: second",
        "b.toml:9: z: third",
        "a.env:1: y: fourth",
        "a.env:2: fifth",
    ] == str(config_error(findings).message).splitlines()


def test_mistake_without_a_place() -> None:
    """A mistake without a place is a sentence without a prefix."""
    assert "wrong" == str(mistake_at(None, None, "", "", Text("wrong")).text)


def test_errors_of_an_account_of_two_families_stand_once() -> None:
    """One account may be a DNS service and a target, and is then read twice."""
    twice = [ConfigError(Text("wrong"), hint=Text("right")) for _ in range(2)]

    error = joined(twice)

    assert ("wrong", "right") == (str(error.message), str(error.hint))


def test_errors_of_several_accounts_are_joined() -> None:
    """The joined error has all mistakes and hints, in any language."""
    errors = [
        config_error([mistake_at(None, None, "", "A", Text("one {n}", n=1))]),
        config_error([mistake_at(None, None, "", "B", Text("two"))], hint=Text("other")),
    ]

    error = joined(errors)

    assert ["A: one 1", "B: two"] == str(error.message).splitlines()
    assert f"other; {REFERENCE}" == str(error.hint)
    assert "A: ONE 1\nB: TWO" == error.message.render(
        lambda template: {"one {n}": "ONE {n}", "two": "TWO"}.get(template, template)
    )
