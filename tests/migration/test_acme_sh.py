"""acme.sh's files, read as they are, also of the real program."""

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

read = partial(acme_sh.read, source=PemFileSource(), variables=VARIABLES)


@pytest.fixture
def home(tmp_path: Path) -> AcmeShHome:
    return AcmeShHome(tmp_path / ".acme.sh")


def test_certificate_is_read_with_its_notes(home: AcmeShHome) -> None:
    """Names and key are those of the certificate; the rest is what acme.sh wrote down."""
    made = issued(*IMG)
    directory = home.add(
        made,
        *IMG,
        Le_RealFullChainPath="/opt/ssl/img.pem",
        Le_RealKeyPath="/opt/ssl/img.key",
        Le_ReloadCmd=in_base64("service nginx reload && systemctl restart x"),
    )

    [found] = read(home.path, home.path).certificates

    assert ("img.example.com", IMG, "ec256") == (found.lineage, found.names, found.key_type)
    assert made.fingerprint == found.bundle.certificate.fingerprint
    files = PemFiles(str(directory / "fullchain.cer"), str(directory / "img.example.com.key"))
    assert files == found.files
    assert DIRECTORY == found.directory
    reload = "service nginx reload && systemctl restart x"
    assert Installed("/opt/ssl/img.pem", "/opt/ssl/img.key", reload) == found.installed
    assert "acme.sh --remove -d img.example.com --ecc" == found.stop


def test_revoked_certificate_is_left_out(home: AcmeShHome) -> None:
    """The leaf's file is gone then; issued again, it is there, and the traces do not count."""
    directory = home.add(issued(*IMG), *IMG)
    (directory / "img.example.com.key.revoked").touch()

    [left_out] = read(home.path, home.path).unreadable
    (directory / "img.example.com.cer").touch()
    issued_again = read(home.path, home.path)

    assert "the certificate has been revoked" == str(left_out.problem)
    assert () == issued_again.unreadable


def test_both_keys_of_a_domain_are_two_lineages(home: AcmeShHome) -> None:
    """acme.sh may keep an RSA and an EC certificate of one domain; each has a name of its own."""
    home.add(issued(*IMG, key_type="rsa2048"), *IMG, ecc=False)
    home.add(issued(*IMG), *IMG)

    found = {one.lineage: one.key_type for one in read(home.path, home.path).certificates}

    assert {"img.example.com": "rsa2048", "img.example.com_ecc": "ec256"} == found


def test_wildcard_alone_has_a_name_that_a_shell_leaves_alone(home: AcmeShHome) -> None:
    """A lineage is typed on command lines."""
    home.add(issued("*.example.com"), "*.example.com")

    [found] = read(home.path, home.path).certificates

    assert ("example.com", ("*.example.com",)) == (found.lineage, found.names)
    assert "acme.sh --remove -d '*.example.com' --ecc" == found.stop


def test_keys_of_its_hooks_are_found(home: AcmeShHome) -> None:
    """DNSPod's are the account's, Qiniu's those of one certificate; values may be in base64."""
    home.keep_keys(SAVED_DP_Key=in_base64(DP_KEY), ACCOUNT_EMAIL="ops@example.com")
    home.add(issued(*IMG), *IMG, QINIU_AK=QINIU_AK, QINIU_SK=QINIU_SK)

    found = read(home.path, home.path)

    assert {
        "DP_Id": DP_ID,
        "DP_Key": DP_KEY,
        "QINIU_ACCESS_KEY": QINIU_AK,
        "QINIU_SECRET_KEY": QINIU_SK,
    } == {name: secret.reveal() for name, secret in found.keys.items()}
    assert "ops@example.com" == found.email
    assert DP_KEY not in repr(found)


def test_variables_of_acme_sh_are_those_that_the_adapters_declare() -> None:
    """Every key that acme.sh stores for a service of ours, and nothing else."""
    assert VARIABLES == acme_sh_variables(DNS_PROVIDERS, TARGETS)


def test_keys_of_other_dns_hooks_are_found(home: AcmeShHome) -> None:
    """Those of Alibaba Cloud, Cloudflare and Tencent Cloud, under the names of certferry's own."""
    keys = ("Ali_Key", "Ali_Secret", "CF_Token", "Tencent_SecretId", "Tencent_SecretKey")
    home.keep_keys(**{f"SAVED_{name}": f"of {name}" for name in keys})
    home.add(issued(*IMG), *IMG)

    found = read(home.path, home.path).keys

    assert [f"of {name}" for name in keys] == [found[name].reveal() for name in keys]


def test_damaged_entries_are_reported_one_by_one(home: AcmeShHome) -> None:
    """Whatever is wrong with some, the others are read."""
    home.add(issued(*IMG), *IMG)
    (home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer").write_text("half of")
    (home.add(issued("b.example.com"), "b.example.com") / "b.example.com.key").unlink()
    (home.add(issued("c.example.com"), "c.example.com") / "fullchain.cer").unlink()
    (home.add(issued("d.example.com"), "d.example.com") / "d.example.com.key").write_text(
        other_key()
    )
    (home.add(issued("e.example.com"), "e.example.com") / "e.example.com.conf").write_text("")
    home.add(issued("localhost"), "localhost")

    found = read(home.path, home.path)

    assert ["img.example.com"] == [one.lineage for one in found.certificates]
    problems = {entry.entry: str(entry.problem) for entry in found.unreadable}
    assert {f"{name}.example.com_ecc" for name in "abcde"} | {"localhost_ecc"} == set(problems)
    assert "No such file" in problems["b.example.com_ecc"]
    assert "no certificate has been issued" in problems["c.example.com_ecc"]
    assert "is not the key of" in problems["d.example.com_ecc"]
    assert "contains no domain" in problems["e.example.com_ecc"]


def test_other_directories_are_passed_over(home: AcmeShHome) -> None:
    """Hooks, accounts and whatever else lies there are no certificates."""
    for name in ("ca", "dnsapi", "deploy"):
        (home.path / name).mkdir()
    (home.path / "acme.sh").write_text("#!/bin/sh\n")

    found = read(home.path, home.path)

    assert ((), ()) == (found.certificates, found.unreadable)


def test_commands_name_a_home_that_is_not_the_usual_one(
    home: AcmeShHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed can be typed anywhere: program and home are said where they lie."""
    program = home.path / "acme.sh"
    program.write_text("#!/bin/sh\n")

    home.add(issued("img.example.com"), "img.example.com")
    monkeypatch.chdir(tmp_path)

    usual, moved = read(home.path, home.path), read(Path(home.path.name), tmp_path / "elsewhere")

    assert f"{program} --remove -d img.example.com --ecc" == usual.certificates[0].stop
    [one] = moved.certificates
    assert f"{program} --home {home.path} --remove -d img.example.com --ecc" == one.stop


@pytest.mark.parametrize("issued_already", [True, False])
def test_notes_that_are_no_text_are_reported(home: AcmeShHome, *, issued_already: bool) -> None:
    """As what they are, whether there is a certificate or not."""
    directory = home.add(issued("a.example.com"), "a.example.com")
    (directory / "a.example.com.conf").write_bytes(b"Le_Domain='a.example.com'\nLe_X='\xff'\n")
    if not issued_already:
        (directory / "fullchain.cer").unlink()

    [entry] = read(home.path, home.path).unreadable

    assert "a.example.com.conf: is not UTF-8 text" in str(entry.problem)


def test_certificate_that_is_a_pipe_is_not_waited_for(home: AcmeShHome) -> None:
    """It is reported like anything else that is wrong with one."""
    (home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer").unlink()
    os.mkfifo(home.path / "a.example.com_ecc" / "fullchain.cer")

    [entry] = read(home.path, home.path).unreadable

    assert "fullchain.cer: is not a regular file" in str(entry.problem)


def test_no_such_directory_is_an_error(tmp_path: Path) -> None:
    """A home that is not there is reported, with what to do."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        read(tmp_path / "nothing", tmp_path)

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


def read_by_anybody(home: Path) -> object:
    words = [*bound_by_permissions(), sys.executable, "-c", READ, str(home)]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def test_directory_that_may_not_be_looked_into(home: AcmeShHome) -> None:
    """It is reported like anything else that is wrong with one, and the others are read."""
    home.add(issued(*IMG), *IMG)
    closed = home.add(issued("a.example.com"), "a.example.com")
    closed.chmod(0o000)

    found = read_by_anybody(home.path)

    closed.chmod(0o755)
    problem = f"{closed}/a.example.com.conf: Permission denied"
    assert [["img.example.com"], [["a.example.com_ecc", problem]]] == found


def test_home_that_may_not_be_looked_into(home: AcmeShHome) -> None:
    """It is probably the right one, and another user's."""
    home.path.chmod(0o000)

    found = read_by_anybody(home.path)

    home.path.chmod(0o700)
    hint = "run the command as the user that owns the directory"
    assert [f"{home.path}: Permission denied", hint] == found


def test_home_is_where_acme_sh_looks(tmp_path: Path) -> None:
    """Its own variable, which it exports, comes first."""
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
def test_notes_are_read_and_never_executed(line: str, values: dict[str, str]) -> None:
    """A shell's assignments are text here."""
    assert values == parse_conf(line)


@pytest.mark.timeout(20)
def test_fifos_in_a_home(home: AcmeShHome) -> None:
    """Nothing waits for what will be written into them."""
    directory = home.add(issued(*IMG), *IMG)
    os.mkfifo(home.path / "account.conf")
    (directory / "fullchain.cer").unlink()
    os.mkfifo(directory / "fullchain.cer")

    found = read(home.path, home.path)

    assert {} == found.keys
    assert ["img.example.com_ecc"] == [one.entry for one in found.unreadable]


# --- What follows a renewal by acme.sh


DOMAIN = "img.example.com"
HOME = Path("/srv/.acme.sh/img.example.com_ecc")


def test_everything_is_read() -> None:
    """Copies of parts, deploy hooks but for our own, and the commands around an issue."""
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
def test_command_that_uses_acme_shs_own_files_is_not_run_elsewhere(command: str) -> None:
    """They are renewed no more, and it would find others or none: it is reported as a hook is."""
    found = installed_by({"Le_ReloadCmd": command}, HOME, DOMAIN)

    assert ("", (command,)) == (found.reload, found.hooks)


def test_copies_by_relative_paths_have_no_known_place() -> None:
    """acme.sh writes them down as they were typed."""
    notes = {"Le_RealFullChainPath": "ssl/fullchain.pem", "Le_RealKeyPath": "/opt/privkey.pem"}

    assert Installed(others=("ssl/fullchain.pem", "/opt/privkey.pem")) == installed_by(
        notes, HOME, DOMAIN
    )


def test_directory_that_is_written_in_several_ways(tmp_path: Path) -> None:
    """It is one: by its real path."""
    (tmp_path / "ssl").mkdir()
    (tmp_path / "link").symlink_to("ssl")
    ways = [f"{tmp_path}/ssl", f"{tmp_path}/link", f"{tmp_path}//ssl/../ssl"]

    found = {
        installed_by(
            {"Le_RealFullChainPath": f"{way}/f.pem", "Le_RealKeyPath": f"{way}/k.pem"}, HOME, DOMAIN
        ).copies
        for way in ways
    }

    assert {(f"{tmp_path}/ssl/f.pem", f"{tmp_path}/ssl/k.pem")} == found


def test_who_may_read_the_copies_is_read(tmp_path: Path) -> None:
    """An owner who is the same as for files of our own is not named; of two, the key's counts."""
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
