"""The files of acme.sh, as certferry reads them: certificates, keys, settings, and the programs
that run after a renewal.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.files.source import PemFileSource
from certferry.core.desired.certificate import PemFiles
from certferry.core.discovery.proposal import Access
from certferry.errors import ConfigError
from certferry.migration import acme_sh
from certferry.migration.acme_sh import default_home, installed_by, parse_conf
from certferry.migration.home import Installed
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS
from certferry.wiring.machine import acme_sh_variables
from tests.migration.old_homes import (
    DIRECTORY,
    DP_ID,
    DP_KEY,
    QINIU_AK,
    QINIU_SK,
    VARIABLES,
    AcmeShHome,
    in_base64,
    issued,
    other_key,
)
from tests.support.permissions import bound_by_permissions

# --- The directory of acme.sh


IMG = ("img.example.com", "*.img.example.com")

read_home = partial(acme_sh.read, source=PemFileSource(), variables=VARIABLES)


@pytest.fixture
def home(tmp_path: Path) -> AcmeShHome:
    return AcmeShHome(tmp_path / ".acme.sh")


def test_certificate_is_read_with_the_settings_of_acme_sh(home: AcmeShHome) -> None:
    """Names and key come from the certificate, the other fields from acme.sh's settings."""
    issued_certificate = issued(*IMG)
    directory = home.add(
        issued_certificate,
        *IMG,
        Le_RealFullChainPath="/opt/ssl/img.pem",
        Le_RealKeyPath="/opt/ssl/img.key",
        Le_ReloadCmd=in_base64("service nginx reload && systemctl restart x"),
    )

    [certificate] = read_home(home.path, home.path).certificates

    assert ("img.example.com", IMG, "ec256") == (
        certificate.lineage,
        certificate.names,
        certificate.key_type,
    )
    assert issued_certificate.fingerprint == certificate.bundle.certificate.fingerprint
    files = PemFiles(str(directory / "fullchain.cer"), str(directory / "img.example.com.key"))
    assert files == certificate.files
    assert DIRECTORY == certificate.directory
    reload = "service nginx reload && systemctl restart x"
    assert Installed("/opt/ssl/img.pem", "/opt/ssl/img.key", reload) == certificate.installed
    assert "acme.sh --remove -d img.example.com --ecc" == certificate.stop


def test_revoked_certificate_is_not_imported(home: AcmeShHome) -> None:
    """A revoked certificate lacks the leaf's file. After a new issue the file exists again, and
    certferry ignores old traces of the revocation.
    """
    directory = home.add(issued(*IMG), *IMG)
    (directory / "img.example.com.key.revoked").touch()

    [left_out] = read_home(home.path, home.path).unreadable
    (directory / "img.example.com.cer").touch()
    issued_again = read_home(home.path, home.path)

    assert "the certificate has been revoked" == str(left_out.problem)
    assert () == issued_again.unreadable


def test_both_keys_of_a_domain_are_two_lineages(home: AcmeShHome) -> None:
    """acme.sh may store an RSA and an EC certificate for the same domain; each lineage has its own
    name.
    """
    home.add(issued(*IMG, key_type="rsa2048"), *IMG, ecc=False)
    home.add(issued(*IMG), *IMG)

    key_types = {
        certificate.lineage: certificate.key_type
        for certificate in read_home(home.path, home.path).certificates
    }

    assert {"img.example.com": "rsa2048", "img.example.com_ecc": "ec256"} == key_types


def test_wildcard_gives_a_lineage_a_name_without_shell_characters(home: AcmeShHome) -> None:
    """Operators type the name of a lineage in a shell."""
    home.add(issued("*.example.com"), "*.example.com")

    [certificate] = read_home(home.path, home.path).certificates

    assert ("example.com", ("*.example.com",)) == (certificate.lineage, certificate.names)
    assert "acme.sh --remove -d '*.example.com' --ecc" == certificate.stop


def test_keys_of_dns_and_deploy_hooks_are_read(home: AcmeShHome) -> None:
    """The keys of DNSPod belong to the account, those of Qiniu to one certificate; values may be in
    Base64.
    """
    home.keep_keys(SAVED_DP_Key=in_base64(DP_KEY), ACCOUNT_EMAIL="ops@example.com")
    home.add(issued(*IMG), *IMG, QINIU_AK=QINIU_AK, QINIU_SK=QINIU_SK)

    old_home = read_home(home.path, home.path)

    assert {
        "DP_Id": DP_ID,
        "DP_Key": DP_KEY,
        "QINIU_ACCESS_KEY": QINIU_AK,
        "QINIU_SECRET_KEY": QINIU_SK,
    } == {name: secret.reveal() for name, secret in old_home.keys.items()}
    assert "ops@example.com" == old_home.email
    assert DP_KEY not in repr(old_home)


def test_variables_of_acme_sh_come_from_the_adapters() -> None:
    """The table has exactly the keys that acme.sh stores for services of certferry's adapters."""
    assert VARIABLES == acme_sh_variables(DNS_PROVIDERS, TARGETS)


def test_keys_of_other_dns_hooks_are_read(home: AcmeShHome) -> None:
    """The keys of Alibaba Cloud, Cloudflare and Tencent Cloud have certferry's own names."""
    keys = ("Ali_Key", "Ali_Secret", "CF_Token", "Tencent_SecretId", "Tencent_SecretKey")
    home.keep_keys(**{f"SAVED_{name}": f"of {name}" for name in keys})
    home.add(issued(*IMG), *IMG)

    keys_in_home = read_home(home.path, home.path).keys

    assert [f"of {name}" for name in keys] == [keys_in_home[name].reveal() for name in keys]


def test_damaged_entries_are_reported_one_by_one(home: AcmeShHome) -> None:
    """The report names each damaged entry, and certferry reads all other entries."""
    home.add(issued(*IMG), *IMG)
    (home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer").write_text("half of")
    (home.add(issued("b.example.com"), "b.example.com") / "b.example.com.key").unlink()
    (home.add(issued("c.example.com"), "c.example.com") / "fullchain.cer").unlink()
    (home.add(issued("d.example.com"), "d.example.com") / "d.example.com.key").write_text(
        other_key()
    )
    (home.add(issued("e.example.com"), "e.example.com") / "e.example.com.conf").write_text("")
    home.add(issued("localhost"), "localhost")

    old_home = read_home(home.path, home.path)

    assert ["img.example.com"] == [certificate.lineage for certificate in old_home.certificates]
    problems = {entry.entry: str(entry.problem) for entry in old_home.unreadable}
    assert {f"{name}.example.com_ecc" for name in "abcde"} | {"localhost_ecc"} == set(problems)
    assert "No such file" in problems["b.example.com_ecc"]
    assert "no certificate has been issued" in problems["c.example.com_ecc"]
    assert "is not the key of" in problems["d.example.com_ecc"]
    assert "contains no domain" in problems["e.example.com_ecc"]


def test_directories_without_certificates_are_skipped(home: AcmeShHome) -> None:
    """The result omits the folders of hooks and CA accounts, and acme.sh's program."""
    for name in ("ca", "dnsapi", "deploy"):
        (home.path / name).mkdir()
    (home.path / "acme.sh").write_text("#!/bin/sh\n")

    old_home = read_home(home.path, home.path)

    assert ((), ()) == (old_home.certificates, old_home.unreadable)


def test_command_names_a_home_in_another_place(
    home: AcmeShHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator can type the printed command in any directory: the command has the full path of
    the program, and of a home in an unusual place.
    """
    program = home.path / "acme.sh"
    program.write_text("#!/bin/sh\n")

    home.add(issued("img.example.com"), "img.example.com")
    monkeypatch.chdir(tmp_path)

    usual, moved = (
        read_home(home.path, home.path),
        read_home(Path(home.path.name), tmp_path / "elsewhere"),
    )

    assert f"{program} --remove -d img.example.com --ecc" == usual.certificates[0].stop
    [certificate] = moved.certificates
    assert f"{program} --home {home.path} --remove -d img.example.com --ecc" == certificate.stop


@pytest.mark.parametrize("issued_already", [True, False])
def test_settings_that_are_no_text_are_reported(home: AcmeShHome, *, issued_already: bool) -> None:
    """The message names the encoding as the cause, with and without an issued certificate."""
    directory = home.add(issued("a.example.com"), "a.example.com")
    (directory / "a.example.com.conf").write_bytes(b"Le_Domain='a.example.com'\nLe_X='\xff'\n")
    if not issued_already:
        (directory / "fullchain.cer").unlink()

    [entry] = read_home(home.path, home.path).unreadable

    assert "a.example.com.conf: is not UTF-8 text" in str(entry.problem)


def test_fifo_in_the_place_of_a_certificate_is_reported(home: AcmeShHome) -> None:
    """A FIFO is reported as a damaged entry; the reader does not wait for a writer."""
    (home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer").unlink()
    os.mkfifo(home.path / "a.example.com_ecc" / "fullchain.cer")

    [entry] = read_home(home.path, home.path).unreadable

    assert "fullchain.cer: is not a regular file" in str(entry.problem)


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    """The hint about a missing home names the option `--home`."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_home(tmp_path / "nothing", tmp_path)

    assert "--home" in str(caught.value.hint)


READ = """
import json, sys
from pathlib import Path
from certferry.adapters.files.source import PemFileSource
from certferry.migration.acme_sh import read
from certferry.errors import ConfigError
home = Path(sys.argv[1])
try:
    found = read(home, home, PemFileSource(), {})
except ConfigError as error:
    print(json.dumps([str(error.message), str(error.hint)]))
else:
    left_out = [[one.entry, str(one.problem)] for one in found.unreadable]
    print(json.dumps([[one.lineage for one in found.certificates], left_out]))
"""


def read_without_root_privileges(home: Path) -> object:
    words = [*bound_by_permissions(), sys.executable, "-c", READ, str(home)]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def test_directory_without_permission_to_read(home: AcmeShHome) -> None:
    """The report names the closed directory as a damaged entry, and certferry reads all other
    entries.
    """
    home.add(issued(*IMG), *IMG)
    closed = home.add(issued("a.example.com"), "a.example.com")
    closed.chmod(0o000)

    answer = read_without_root_privileges(home.path)

    closed.chmod(0o755)
    problem = f"{closed}/a.example.com.conf: Permission denied"
    assert [["img.example.com"], [["a.example.com_ecc", problem]]] == answer


def test_home_without_permission_to_read(home: AcmeShHome) -> None:
    """The hint advises to run the command as the owner, since the home is probably the right
    directory.
    """
    home.path.chmod(0o000)

    answer = read_without_root_privileges(home.path)

    home.path.chmod(0o700)
    hint = "run the command as the user that owns the directory"
    assert [f"{home.path}: Permission denied", hint] == answer


def test_default_home_is_the_default_of_acme_sh(tmp_path: Path) -> None:
    """The variable that acme.sh exports takes precedence over the home in the user's directory."""
    assert tmp_path / ".acme.sh" == default_home({}, tmp_path)
    assert Path("/w") == default_home({"LE_WORKING_DIR": "/w"}, tmp_path)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("A='b c'", {"A": "b c"}),
        ('export A="b"', {"A": "b"}),
        ("A=b", {"A": "b"}),
        ("A=''", {"A": ""}),
        ("A='$(touch /tmp/x)'", {"A": "$(touch /tmp/x)"}),
        (f"A='{in_base64('b')}'", {"A": "b"}),
        ("A='__ACME_BASE64__START_%__ACME_BASE64__END_'", {"A": ""}),
        ("A='1'\nA='2'", {"A": "2"}),
        ("# A='1'\nnot an assignment", {}),
    ],
)
def test_settings_are_parsed_and_never_executed(line: str, values: dict[str, str]) -> None:
    """The assignments of a shell are read as text."""
    assert values == parse_conf(line)


@pytest.mark.timeout(20)
def test_fifos_in_a_home(home: AcmeShHome) -> None:
    """The reader waits for no writer if a FIFO is in the place of the settings or of a
    certificate.
    """
    directory = home.add(issued(*IMG), *IMG)
    os.mkfifo(home.path / "account.conf")
    (directory / "fullchain.cer").unlink()
    os.mkfifo(directory / "fullchain.cer")

    old_home = read_home(home.path, home.path)

    assert {} == old_home.keys
    assert ["img.example.com_ecc"] == [unreadable.entry for unreadable in old_home.unreadable]


# --- Commands and copies after a renewal by acme.sh


DOMAIN = "img.example.com"
HOME = Path("/srv/.acme.sh/img.example.com_ecc")


def test_copies_and_hooks_are_read() -> None:
    """The result has the copies of single parts, the deploy hooks besides certferry's own, and the
    commands after an issue.
    """
    notes = {
        "Le_RealCertPath": "/opt/ssl/img.crt",
        "Le_RealCACertPath": "/opt/ssl/ca.pem",
        "Le_DeployHook": "certferry,haproxy,qiniu,",
        "Le_PostHook": "systemctl start nginx",
        "Le_RenewHook": "/opt/told.sh",
    }

    assert Installed(
        others=("/opt/ssl/img.crt", "/opt/ssl/ca.pem"),
        hooks=("haproxy", "qiniu", "systemctl start nginx", "/opt/told.sh"),
    ) == installed_by(notes, HOME, DOMAIN)


@pytest.mark.parametrize(
    "command",
    [
        "cat fullchain.cer img.example.com.key > /opt/haproxy.pem",
        "cp /srv/.acme.sh/img.example.com_ecc/ca.cer /opt",
        "~/.acme.sh/told.sh",
        "./told.sh",
        'cp "$DOMAIN_PATH/x" /opt',
        'cat "$CERT_KEY_PATH" "${CA_CERT_PATH}" > /opt/haproxy.pem',
        '/opt/told.sh "$Le_Domain"',
    ],
)
def test_command_with_files_of_acme_sh_counts_as_a_hook(command: str) -> None:
    """After a takeover acme.sh's own files are renewed no more, so certferry does not run the
    command and reports the command as a hook.
    """
    installed = installed_by({"Le_ReloadCmd": command}, HOME, DOMAIN)

    assert ("", (command,)) == (installed.reload, installed.hooks)


def test_copies_by_relative_paths_have_an_unknown_place() -> None:
    """acme.sh stores paths as the operator typed them."""
    notes = {"Le_RealFullChainPath": "ssl/fullchain.pem", "Le_RealKeyPath": "/opt/privkey.pem"}

    assert Installed(others=("ssl/fullchain.pem", "/opt/privkey.pem")) == installed_by(
        notes, HOME, DOMAIN
    )


def test_different_paths_of_one_directory(tmp_path: Path) -> None:
    """All ways to write a path lead to the same real path."""
    (tmp_path / "ssl").mkdir()
    (tmp_path / "link").symlink_to("ssl")
    spellings = [f"{tmp_path}/ssl", f"{tmp_path}/link", f"{tmp_path}//ssl/../ssl"]

    copies = {
        installed_by(
            {"Le_RealFullChainPath": f"{spelling}/f.pem", "Le_RealKeyPath": f"{spelling}/k.pem"},
            HOME,
            DOMAIN,
        ).copies
        for spelling in spellings
    }

    assert {(f"{tmp_path}/ssl/f.pem", f"{tmp_path}/ssl/k.pem")} == copies


def test_owner_and_modes_of_the_copies_are_read(tmp_path: Path) -> None:
    """The default owner of certferry's own files is omitted. The key's owner counts if the two
    files have different owners.
    """
    fullchain, privkey = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    for path, mode in ((fullchain, 0o664), (privkey, 0o640)):
        path.touch()
        path.chmod(mode)
    notes = {"Le_RealFullChainPath": str(fullchain), "Le_RealKeyPath": str(privkey)}

    assert Access(None, None, 0o664, 0o640) == installed_by(notes, HOME, DOMAIN).access

    if os.geteuid() == 0:
        shutil.chown(fullchain, 4321, 4321)
        shutil.chown(privkey, "mail", 12345)
        assert Access("mail", "12345", 0o664, 0o640) == installed_by(notes, HOME, DOMAIN).access
