"""Settings from files and from environments."""

from __future__ import annotations

import os
import platform
from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from certferry.adapters.dnspod import dns as dnspod
from certferry.adapters.qiniu import target as qiniu
from certferry.config.bind import Dataclass
from certferry.config.load import default_directory, is_a_secrets_key, load
from certferry.config.values import DIRECTORIES, ServerAddress
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import (
    Authority,
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    Issuance,
    Kind,
    Retirement,
)
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.wiring.settings import ADAPTERS, from_environment
from tests.config.conftest import FILE, Load, Refusal

WHOLE = """\
env_files = ["cdn.env"]

[state]
url = "sqlite:////var/lib/certferry/state.db"
key_file = "~/secret.key"

[acme]
directory = "letsencrypt-staging"
email = "ops@example.com"
ca_bundle = "ca.pem"
profile = "classic"
key_type = "ec384"
eab_kid = "kid-1"
eab_hmac_key = "env:EAB"

[dns]
resolvers = ["223.5.5.5", "127.0.0.1:5353"]
propagation_timeout = 120
port = 5353
doh = ["https://223.5.5.5/dns-query"]

[verify]
resolvers = ["[2001:db8::1]:5353", "2001:DB8::2"]
port = 8443
ca_bundle = "ca.pem"
timeout = 1800.5

[accounts.qiniu]
access_key = "env:QINIU_ACCESS_KEY"
secret_key = "env:QINIU_SECRET_KEY"

[accounts.zone]
type = "dnspod"
id = "env:DP_Id"

[[certificates]]
name = "img"
names = ["Img.Example.com", "*.img.example.com.", "img.example.com", "Bücher.example.com"]
dns = "zone"
key_type = "rsa2048"

[[certificates.deploy]]
to = "qiniu"
domains = ["img.example.com", ".img.example.com"]
kind = "cdn"
force_https = true
http2 = false
tls_versions = ["TLSv1.2", "TLSv1.3"]
retire = "never"

[[certificates.deploy]]
to = "qiniu"
domains = "auto"
force_https = "keep"
http2 = "keep"
tls_versions = "keep"

[[certificates]]
names = ["*.example.org"]
dns = "zone"
"""


def test_every_setting_is_read(loaded: Load, folder: Path, clean_environment: Path) -> None:
    """The settings have the values of the file, with normal spelling of names and absolute
    paths.
    """
    (folder / "ca.pem").touch()
    (folder / "cdn.env").write_text("EAB=hmac\n")
    (folder / "cdn.env").chmod(0o600)

    settings = loaded(WHOLE)

    assert FILE == settings.path
    assert Path("/var/lib/certferry/state.db") == settings.state.path
    assert clean_environment / "secret.key" == settings.state.key_file
    acme = settings.acme
    assert "https://acme-staging-v02.api.letsencrypt.org/directory" == acme.directory
    assert ("ops@example.com", ("classic",), "kid-1") == (
        acme.email,
        acme.profiles,
        acme.usual.eab_kid,
    )
    assert (folder / "ca.pem", KeyType.EC384) == (acme.usual.ca_bundle, acme.key_type)
    assert acme.usual.eab_hmac_key is not None
    assert Secret("hmac") == settings.secrets.resolve(acme.usual.eab_hmac_key)
    local = ServerAddress("127.0.0.1", 5353)
    assert (ServerAddress("223.5.5.5", 53), local) == settings.dns.resolvers
    assert (timedelta(minutes=2), 5353) == (settings.dns.propagation_timeout, settings.dns.port)
    assert (("https://223.5.5.5/dns-query",), None) == (settings.dns.doh, settings.dns.wait)
    verify = settings.verify
    v6 = (ServerAddress("2001:db8::1", 5353), ServerAddress("2001:db8::2", 53))
    assert v6 == verify.resolvers
    assert (8443, folder / "ca.pem") == (verify.port, verify.ca_bundle)
    assert timedelta(seconds=1800.5) == verify.timeout


def test_certificates_become_desired_certificates(loaded: Load, folder: Path) -> None:
    """A certificate's table becomes a `DesiredCertificate`, with defaults for missing keys."""
    (folder / "ca.pem").touch()
    (folder / "cdn.env").touch(0o600)
    staging = Authority("letsencrypt-staging", DIRECTORIES["letsencrypt-staging"])
    issuance = Issuance(("classic",), (staging,))

    assert (
        DesiredCertificate(
            lineage="img",
            names=("img.example.com", "*.img.example.com", "xn--bcher-kva.example.com"),
            dns="zone",
            key_type=KeyType.RSA2048,
            deployments=(
                DesiredDeployment(
                    target="qiniu",
                    domains=("img.example.com", "*.img.example.com"),
                    kind=Kind.CDN,
                    https=DesiredHttps(
                        force_https=True, http2=False, tls_versions=("TLSv1.2", "TLSv1.3")
                    ),
                    retire=Retirement.NEVER,
                ),
                DesiredDeployment(target="qiniu"),
            ),
            issuance=issuance,
        ),
        DesiredCertificate(
            lineage="*.example.org",
            names=("*.example.org",),
            dns="zone",
            key_type=KeyType.EC384,
            issuance=issuance,
        ),
    ) == loaded(WHOLE).certificates


def test_source_domains_and_retirement_of_all_copies(loaded: Load, folder: Path) -> None:
    """The kind `kodo` and the retirement `all-unused` need explicit settings."""
    text = (
        "[accounts]\nqiniu = {}\nzone = { type = 'dnspod' }\n"
        "[[certificates]]\nnames = ['src.example.com']\ndns = 'zone'\n"
        "[[certificates.deploy]]\nto = 'qiniu'\nkind = 'kodo'\nretire = 'all-unused'\n"
    )

    [certificate] = loaded(text).certificates

    assert (
        DesiredDeployment("qiniu", kind=Kind("kodo"), retire=Retirement.ALL_UNUSED),
    ) == certificate.deployments


def test_accounts_keep_their_raw_values(loaded: Load, folder: Path) -> None:
    """An account has its label, its type (by default the label) and its raw values."""
    (folder / "ca.pem").touch()
    (folder / "cdn.env").touch(0o600)

    accounts = loaded(WHOLE).accounts

    assert ["qiniu", "zone"] == list(accounts)
    assert ["qiniu", "dnspod"] == [account.type for account in accounts.values()]
    assert {"id": "env:DP_Id"} == accounts["zone"].values
    assert WHOLE.splitlines().index("[accounts.zone]") + 1 == accounts["zone"].place.line


def test_settings_have_the_line_of_each_deployment(loaded: Load, folder: Path) -> None:
    """Later messages about a deployment can have its line."""
    (folder / "ca.pem").touch()
    (folder / "cdn.env").touch(0o600)
    line = WHOLE.splitlines().index('to = "qiniu"') + 1

    place = loaded(WHOLE).places["img"].below("deploy", 0)

    assert (line, "[[certificates.deploy]]") == (
        place.document.line((*place.trail, "to")),
        place.title,
    )


def test_empty_file_has_defaults(loaded: Load, clean_environment: Path) -> None:
    """Every setting with a sensible default may be omitted."""
    settings = loaded("")

    home = clean_environment / ".local" / "share" / "certferry"
    assert (home / "state.db", home / "secret.key") == (
        settings.state.path,
        settings.state.key_file,
    )
    assert "https://acme-v02.api.letsencrypt.org/directory" == settings.acme.directory
    assert KeyType.EC256 == settings.acme.key_type
    assert (settings.acme.email, settings.acme.usual.eab_hmac_key) == (None, None)
    assert ((), timedelta(minutes=5), 53) == (
        settings.dns.resolvers,
        settings.dns.propagation_timeout,
        settings.dns.port,
    )
    assert ((), 443, None, timedelta(hours=1)) == (
        settings.verify.resolvers,
        settings.verify.port,
        settings.verify.ca_bundle,
        settings.verify.timeout,
    )
    assert ({}, ()) == (dict(settings.accounts), settings.certificates)


SHARED = """\
[state]
url = "postgresql://ferry@db.example.com:5432/certs?sslmode=verify-full"
key = "env:KEY"
"""


def test_shared_state(loaded: Load, clean_environment: Path) -> None:
    """Files of this machine are in the usual directory of a state; the address in messages omits
    the user.
    """
    state = loaded(SHARED + 'password = "env:DB"\nhost = "web-1"').state

    assert (None, None) == (state.path, state.key_file)
    assert "postgresql://db.example.com:5432/certs" == state.named
    assert clean_environment / ".local" / "share" / "certferry" == state.directory
    assert {"key": "env:KEY", "password": "env:DB"} == {
        name: reference.written for name, reference in state.references.items()
    }
    assert "web-1" == state.host


def test_name_of_the_host(loaded: Load) -> None:
    """The default is the machine's name, for every kind of state; the file takes precedence."""
    assert platform.node() == loaded("").state.host
    assert "a" == loaded('[state]\nhost = "a"').state.host


def test_referenced_key_of_a_state_in_a_file(loaded: Load, folder: Path) -> None:
    """With a referenced key there is no key file beside the state."""
    state = loaded('[state]\nurl = "sqlite:///s/state.db"\nkey = "env:KEY"').state

    assert folder / "s" / "state.db" == state.path
    assert (None, folder / "s") == (state.key_file, state.directory)


def test_password_of_the_state_in_the_environment(loaded: Load, folder: Path) -> None:
    """The variable of libpq replaces a missing `password`, also from an environment file."""
    (folder / "db.env").write_text("PGPASSWORD=secret\n")
    (folder / "db.env").chmod(0o600)
    by_file = loaded('env_files = ["db.env"]\n' + SHARED)

    for settings in (by_file, loaded(SHARED, PGPASSWORD="secret")):
        password = settings.state.password
        assert password is not None
        assert "secret" == settings.secrets.resolve(password).reveal()
        assert {"KEY", "PGPASSWORD"} <= settings.secrets.variables
    assert loaded("", PGPASSWORD="secret").state.password is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            SHARED.replace('key = "env:KEY"', ""),
            (
                "[state] key: missing: all hosts need the same key; `certferry state key` prints"
                " a new key"
            ),
        ),
        (
            SHARED.replace('key = "env:KEY"', 'key_file = "/etc/key"'),
            (
                "certferry.toml:3: [state] key_file: all hosts need the same key: write key ="
                ' "file:/etc/key" instead'
            ),
        ),
        (
            SHARED + 'key_file = "/etc/key"',
            (
                "certferry.toml:4: [state] key_file: cannot be combined with `key`; remove one"
                " of the two"
            ),
        ),
        (
            SHARED.replace("ferry@", "ferry:HIDDEN@"),
            (
                "certferry.toml:2: [state] url: contains a password; write `password`, a"
                " reference, instead"
            ),
        ),
        *(
            (
                SHARED.replace("ferry@", f"ferry:{password}@"),
                (
                    "certferry.toml:2: [state] url: contains a password; write `password`, a"
                    " reference, instead"
                ),
            )
            for password in ("HIDD/EN", "12/HIDDEN", "HID@DEN")
        ),
        (
            SHARED.replace("?", "?password=HIDDEN&"),
            (
                "certferry.toml:2: [state] url: contains a password; write `password`, a"
                " reference, instead"
            ),
        ),
        *(
            (
                f'[state]\nurl = "{address}"\nkey = "env:KEY"\npassword = "env:DB"',
                f"certferry.toml:2: [state] url: {expected}",
            )
            for address, expected in (
                ("postgresql://ferry@db.example.com:port/certs", "is not an address"),
                (
                    "postgresql://ferry:HID?DEN@db.example.com/certs",
                    "contains a password; write `password`, a reference, instead",
                ),
                (
                    "mysql://db/certs",
                    "mysql:// cannot hold a state; known are sqlite, postgresql, s3, kodo",
                ),
            )
        ),
        (
            SHARED.replace('"env:KEY"', "5"),
            "certferry.toml:3: [state] key: must be a string",
        ),
        (
            '[state]\nurl = "s3://states/../certs"\nkey = "env:KEY"',
            "certferry.toml:2: [state] url: is not an address",
        ),
        (
            '[state]\nurl = "s3://[states/certs"\nkey = "env:KEY"',
            "certferry.toml:2: [state] url: is not an address",
        ),
        (
            SHARED.replace("db.example.com", "[db"),
            "certferry.toml:2: [state] url: is not an address",
        ),
        (
            SHARED.replace("postgresql", "mysql"),
            (
                "certferry.toml:2: [state] url: must be sqlite:/// and a path, for example"
                " sqlite:////var/lib/certferry/state.db,"
                " postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full, or the address of a"
                " bucket, for example s3://BUCKET/PREFIX?region=REGION"
            ),
        ),
        *(
            (
                SHARED.replace("postgresql://ferry@db.example.com:5432", f"{beginning}://db"),
                f"certferry.toml:2: [state] url: {beginning}:// cannot hold a state; {instead}",
            )
            for beginning, instead in (
                ("mysql", "known are sqlite, postgresql, s3, kodo"),
                ("postgre", "did you mean postgresql?"),
                ("file", "known are sqlite, postgresql, s3, kodo"),
            )
        ),
        (
            '[state]\npassword = "env:DB"',
            "certferry.toml:2: [state] password: not needed for a file; remove the setting",
        ),
        ('[state]\nhost = ""', "certferry.toml:2: [state] host: is empty"),
        (
            SHARED + "hots = 1",
            "certferry.toml:4: [state] hots: unknown key; did you mean host?",
        ),
    ],
)
def test_mistakes_about_the_state(refusal: Refusal, text: str, expected: str) -> None:
    """Each mistake has its line, and passwords are masked."""
    [line] = refusal(text)

    assert expected in line
    assert "HIDDEN" not in line


def test_resolvers_of_the_verification(loaded: Load) -> None:
    """`[verify].resolvers` are by default the resolvers of `[dns]`."""
    shared = loaded('[dns]\nresolvers = ["223.5.5.5"]')
    own = loaded('[dns]\nresolvers = ["223.5.5.5"]\n[verify]\nresolvers = ["1.1.1.1"]')

    assert (ServerAddress("223.5.5.5"),) == shared.verify.resolvers
    assert (ServerAddress("1.1.1.1"),) == own.verify.resolvers


@pytest.mark.parametrize(
    ("directory", "url"),
    [
        ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
        ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
        ("zerossl", "https://acme.zerossl.com/v2/DV90"),
        ("google", "https://dv.acme-v02.api.pki.goog/directory"),
        ("https://ca.example.com:14000/dir", "https://ca.example.com:14000/dir"),
        ("http://127.0.0.1:14000/dir", "http://127.0.0.1:14000/dir"),
        ("http://[::1]:14000/dir", "http://[::1]:14000/dir"),
        ("http://localhost:14000/dir", "http://localhost:14000/dir"),
    ],
)
def test_directory_by_name_or_url(loaded: Load, directory: str, url: str) -> None:
    """Well-known directories have names; plain HTTP is accepted for loopback only."""
    assert url == loaded(f'[acme]\ndirectory = "{directory}"').acme.directory


def test_relative_paths_start_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: Path
) -> None:
    """The current directory of the run does not matter."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ca.pem").touch()
    file = tmp_path / "etc" / "settings.toml"
    file.write_text('[state]\nurl = "sqlite:///state.db"\n[acme]\nca_bundle = "ca.pem"')
    monkeypatch.chdir(clean_environment)

    settings = load(file, os.environ)

    assert tmp_path / "etc" / "state.db" == settings.state.path
    assert tmp_path / "etc" / "secret.key" == settings.state.key_file
    assert tmp_path / "etc" / "ca.pem" == settings.acme.usual.ca_bundle


@pytest.mark.parametrize(
    ("environ", "user", "directory"),
    [
        ({"XDG_DATA_HOME": "/data", "HOME": "/homes/u"}, 1000, "/data/certferry"),
        ({"XDG_DATA_HOME": "/data", "HOME": "/root"}, 0, "/data/certferry"),
        ({"HOME": "/homes/u"}, 1000, "/homes/u/.local/share/certferry"),
        ({"HOME": "/root"}, 0, "/var/lib/certferry"),
        ({"HOME": "/var/lib/certferry"}, 990, "/var/lib/certferry"),
    ],
)
def test_default_directory_of_the_state(environ: dict[str, str], user: int, directory: str) -> None:
    """The state of root, and of the package's user, is the system's; other users have a state in
    their home, unless a variable names another directory.
    """
    assert Path(directory) == default_directory(environ, user)


KEYS = {
    "DP_Id": "12345",
    "DP_Key": "token",
    "QINIU_ACCESS_KEY": "access",
    "QINIU_SECRET_KEY": "secret",
}


def test_settings_without_a_file() -> None:
    """Names and four variables make one lineage, proven at DNSPod and deployed to Qiniu."""
    settings = from_environment(["img.example.com", "*.img.example.com"], KEYS)

    assert settings.path is None
    assert (
        DesiredCertificate(
            lineage="img.example.com",
            names=("img.example.com", "*.img.example.com"),
            dns="dnspod",
            deployments=(DesiredDeployment(target="qiniu"),),
            issuance=Issuance((), (Authority("letsencrypt", DIRECTORIES["letsencrypt"]),)),
        ),
    ) == settings.certificates
    assert {"id": "env:DP_Id", "token": "env:DP_Key"} == settings.accounts["dnspod"].values
    assert {
        "access_key": "env:QINIU_ACCESS_KEY",
        "secret_key": "env:QINIU_SECRET_KEY",
    } == settings.accounts["qiniu"].values


def test_short_names_of_the_keys() -> None:
    """`QINIU_AK` and `QINIU_SK` replace the long names."""
    environ = {"DP_Id": "1", "DP_Key": "2", "QINIU_AK": "3", "QINIU_SK": "4"}

    values = from_environment(["img.example.com"], environ).accounts["qiniu"].values

    assert {"access_key": "env:QINIU_AK", "secret_key": "env:QINIU_SK"} == values


def test_missing_variables_are_reported_together() -> None:
    """The message has each missing key, and no key with a value."""
    with pytest.raises(ConfigError) as caught:
        from_environment(["img.example.com", "localhost"], {"DP_Id": "12345", "DP_Key": ""})

    assert [
        "DP_Key / DNSPOD_API_KEY: not set: DNSPod token",
        "QINIU_ACCESS_KEY / QINIU_AK: not set: the access key (AK) of the Qiniu account",
        "QINIU_SECRET_KEY / QINIU_SK: not set: the secret key (SK) of the Qiniu account",
        (
            "names: 'localhost' is not a domain name; write a name like img.example.com or"
            " *.example.com, without https:// or a path"
        ),
    ] == str(caught.value.message).splitlines()
    assert "environment" in str(caught.value.hint)


SEVERAL = """\
env_files = ["cdn.env"]
[acme]
eab_kid = "kid"
eab_hmac_key = "bGl0ZXJhbA"
[accounts.qiniu]
access_key = "env:CDN_AK"
secret_key = "command:touch ran"
api = "https://api.example.com"
[accounts.other]
type = "qiniu"
access_key = "literal of another"
secret_key = "file:sk"
[accounts.dnspod]
id = "12345"
token = "keyring:dnspod/ops"
line = "default"
"""


def test_secrets_of_all_accounts_are_known(folder: Path) -> None:
    """The known secrets include unused accounts and the CA, without other values of their
    tables.
    """
    for name, content in (("cdn.env", "CDN_AK=of-env-files"), ("sk", "of a file\n")):
        (folder / name).touch(0o600)
        (folder / name).write_text(content)

    FILE.write_text(SEVERAL, encoding="utf-8")
    FILE.chmod(0o600)
    environ = {**os.environ, "CDN_AK": "of the environment", "QINIU_SK": "usual"}
    secrets = load(FILE, environ, ADAPTERS).secrets

    revealed = {secret.reveal() for secret in secrets.known()}
    assert {
        *("bGl0ZXJhbA", "literal of another", "of a file", "12345"),
        *("of the environment", "of-env-files", "usual"),
    } <= revealed
    assert not revealed & {"https://api.example.com", "default", "qiniu", "kid"}
    assert {"CDN_AK", "DP_Id", "DP_Key", "QINIU_SK"} <= secrets.variables
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("adapter", [dnspod.Settings, qiniu.Settings])
def test_names_of_secrets_in_settings_of_adapters(adapter: type[Dataclass]) -> None:
    """The name of a key decides whether a literal is a secret, since the adapter may never be
    loaded.
    """
    types = get_type_hints(adapter)

    assert {key: Secret is kind for key, kind in types.items()} == {
        key: is_a_secrets_key(key) for key in types
    }


def test_settings_print_no_secret(loaded: Load) -> None:
    """The text of settings contains neither literal secrets nor the environment."""
    settings = loaded(
        '[acme]\neab_kid = "kid"\neab_hmac_key = "LITERAL-CA"\n[accounts.qiniu]\nkey = "LITERAL-2"',
        SOME_KEY="LITERAL-3",
    )

    assert "LITERAL" not in repr(settings)
    assert "LITERAL" not in repr(settings.accounts["qiniu"].place.document)


def test_domain_of_two_certificates_is_reported(tmp_path: Path) -> None:
    """Two certificates would replace each other at the domain in every run."""
    path = tmp_path / "certferry.toml"
    table = (
        '[[certificates]]\nname = "{}"\nnames = ["a.example.com"]\ndns = "dnspod"\n'
        'deploy = [{{ to = "qiniu", domains = ["a.example.com"] }}]\n'
    )
    accounts = "[accounts.qiniu]\n[accounts.dnspod]\n"
    path.write_text(accounts + table.format("first") + table.format("second"))

    with pytest.raises(ConfigError, match=r"deploy: first names a\.example\.com already"):
        load(path, {"HOME": "/nowhere"})


def test_certificate_from_files(tmp_path: Path) -> None:
    """Paths start at the folder of the configuration, and the lineage has the name of the files'
    folder.
    """
    path = tmp_path / "certferry.toml"
    path.write_text('[[certificates]]\nfullchain = "static/full.pem"\nprivkey = "static/key.pem"\n')

    (certificate,) = load(path, {"HOME": "/nowhere"}).certificates

    assert "static" == certificate.lineage
    assert () == certificate.names
    assert certificate.files is not None
    assert str(tmp_path / "static" / "full.pem") == certificate.files.fullchain


def test_certificate_from_files_without_a_key(tmp_path: Path) -> None:
    """A certificate from files needs the key as well."""
    path = tmp_path / "certferry.toml"
    path.write_text('[[certificates]]\nname = "static"\nfullchain = "full.pem"\n')

    with pytest.raises(ConfigError, match="privkey: missing"):
        load(path, {"HOME": "/nowhere"})


def test_name_of_a_certificate_from_files_with_dots(loaded: Load) -> None:
    """The lineage has the name of the real folder, and not the dots."""
    files = 'fullchain = "ssl/img/../fullchain.pem"\nprivkey = "ssl/privkey.pem"'

    (certificate,) = loaded(f"[[certificates]]\n{files}\n").certificates

    assert "ssl" == certificate.lineage
