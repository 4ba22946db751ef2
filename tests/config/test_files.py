"""Where the file is found, how it is opened and salvaged, and runs without one."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from certferry.config.document import read_document
from certferry.config.files import home_directory
from certferry.config.load import NAMES_WITHOUT_FILE, WITHOUT_FILE, find_file, load, usual_places
from certferry.config.mistakes import REFERENCE
from certferry.config.model import Settings
from certferry.config.write import examine_files
from certferry.core.findings import Code
from certferry.errors import ConfigError, Severity
from certferry.wiring.settings import from_environment
from tests.another_user import as_root, given_away
from tests.config.conftest import FILE, Load, Refusal

# --- Where the configuration is looked for


LOCAL = Path("certferry.toml")


@pytest.fixture
def environ(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return an environment with a home, while the current directory is another, empty one."""
    return {"HOME": str(tmp_path_factory.mktemp("someone"))}


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_chosen_file_comes_first(environ: Mapping[str, str]) -> None:
    """`--config` wins over everything, whether the file exists or not."""
    put(LOCAL)

    found = find_file(Path("other.toml"), {**environ, "CERTFERRY_CONFIG": "third.toml"})

    assert Path("other.toml") == found


def test_the_environment_comes_before_the_usual_places(environ: Mapping[str, str]) -> None:
    """`$CERTFERRY_CONFIG` wins over what lies about."""
    put(LOCAL)

    assert Path("third.toml") == find_file(None, {**environ, "CERTFERRY_CONFIG": "third.toml"})


def test_an_empty_variable_says_nothing(environ: Mapping[str, str]) -> None:
    """Unsetting a variable by making it empty works."""
    put(LOCAL)

    assert LOCAL == find_file(None, {**environ, "CERTFERRY_CONFIG": ""})


def test_the_usual_places_are_searched_in_order(environ: Mapping[str, str]) -> None:
    """The current directory comes before the home, and the home before the system."""
    at_home = put(Path(environ["HOME"]) / ".config" / "certferry" / "certferry.toml")

    assert (LOCAL, at_home, Path("/etc/certferry/certferry.toml")) == usual_places(environ)
    assert at_home == find_file(None, environ)

    put(LOCAL)

    assert LOCAL == find_file(None, environ)


def test_settings_may_lie_elsewhere_than_in_the_home(environ: Mapping[str, str]) -> None:
    """`$XDG_CONFIG_HOME` is looked at before `~/.config`, and does not hide it."""
    elsewhere = Path("/elsewhere/certferry/certferry.toml")

    places = usual_places({**environ, "XDG_CONFIG_HOME": "/elsewhere"})

    assert (LOCAL, elsewhere, *usual_places(environ)[1:]) == places


def test_a_link_to_nowhere_is_not_passed_over(environ: Mapping[str, str]) -> None:
    """A configuration that is there but broken is reported, not replaced by another."""
    LOCAL.symlink_to("gone.toml")

    with pytest.raises(ConfigError, match=r"certferry\.toml: cannot be read: No such file"):
        load(None, environ)


@pytest.mark.skipif(
    Path("/etc/certferry/certferry.toml").exists(), reason="this machine has a configuration"
)
def test_no_file_anywhere_names_the_places(environ: Mapping[str, str]) -> None:
    """Who has no configuration learns where one would be found."""
    assert find_file(None, environ) is None

    with pytest.raises(ConfigError) as caught:
        load(None, environ)

    assert (
        "there is no configuration file; certferry looked for certferry.toml,"
        f" {environ['HOME']}/.config/certferry/certferry.toml, /etc/certferry/certferry.toml"
    ) == str(caught.value.message)


def test_a_home_is_found_without_a_variable() -> None:
    """Programs that cron starts may have no `$HOME`; the password database knows it."""
    assert Path(pwd.getpwuid(os.geteuid()).pw_dir) == home_directory({})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_user_without_a_name_has_a_home_too() -> None:
    """Containers run programs under ids that the password database does not have."""
    program = "from certferry.config.files import home_directory; print(home_directory({}))"
    become = f"import os; os.setuid(54321); {program}"
    imported = "import certferry.config.files; "

    result = subprocess.run(
        [sys.executable, "-c", imported + become], capture_output=True, text=True, check=True
    )

    assert "/\n" == result.stdout


def refused(path: Path) -> str:
    """Return why a configuration is not read, and what to do; the reference would not help."""
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.hint != REFERENCE
    return f"{caught.value.message}; {caught.value.hint}"


@as_root
def test_configuration_of_another_user(folder: Path) -> None:
    """What it says would be run as root: it is refused with the command that helps."""
    path = given_away(put(folder / "theirs.toml"))

    assert (
        f"{path}: belongs to nobody, who can change it;"
        f" run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    ) == refused(path)


@as_root
def test_configuration_in_a_home_of_another_users(folder: Path) -> None:
    """They could put another in its place."""
    home = put(folder / "home" / "x.toml").parent
    given_away(home)

    assert (
        f"{home}/x.toml: lies in {home}, which belongs to nobody;"
        " run certferry as the owner: sudo -u nobody certferry …;"
        " or keep it where only root can write, for example below /etc or /var/lib"
    ) == refused(home / "x.toml")


def test_configuration_that_every_user_may_write(folder: Path) -> None:
    """It is refused for every user."""
    put(folder / "open.toml").chmod(0o666)

    assert (
        f"open.toml: can be changed by every user (mode 0666); run: chmod go-w {folder}/open.toml"
    ) == refused(Path("open.toml"))


@as_root
@pytest.mark.parametrize("whose", ["theirs", "every user's"])
def test_root_in_a_directory_of_another_user(
    folder: Path, environ: Mapping[str, str], whose: str
) -> None:
    """What lies there is not looked for: the next place counts, and else the error says why."""
    put(LOCAL)
    if whose == "theirs":
        given_away(folder)
    else:
        folder.chmod(0o1777)

    assert LOCAL not in usual_places(environ)

    at_home = Path(environ["HOME"]) / ".config" / "certferry" / "certferry.toml"
    if not Path("/etc/certferry/certferry.toml").exists():
        with pytest.raises(ConfigError) as caught:
            load(None, environ)
        assert str(caught.value.hint).startswith("root does not read certferry.toml here")

    assert put(at_home) == find_file(None, environ)


# --- Files that other users could read or change, as `doctor` finds them


TOML = """\
env_files = ["keys.env"]
[state]
url = "sqlite:///state.db"
key_file = "secret.key"
"""


def settings(loaded: Load) -> Settings:
    """Load a configuration, beside whose state and key there are others."""
    for name in ("keys.env", "state.db", "secret.key"):
        Path(name).touch(0o600)
        Path(name).chmod(0o600)
    return loaded(TOML)


def found(one: Settings) -> list[tuple[str, Severity]]:
    """Return what is open, by the file's name."""
    findings = list(examine_files(one))
    assert {Code.FILE_OPEN} >= {finding.code for finding in findings}
    return [(Path(finding.subject).name, finding.severity) for finding in findings]


def test_files_of_the_caller_alone(loaded: Load) -> None:
    """There is nothing to tell; neither of what is not there yet."""
    one = settings(loaded)
    assert [] == found(one)

    assert one.state.key_file is not None
    one.state.key_file.unlink()
    assert [] == found(one)


def test_files_that_others_may_read(loaded: Load) -> None:
    """The key opens the state, so it weighs more; the fix is a command."""
    one = settings(loaded)
    state, key_file = one.state.path, one.state.key_file
    assert state is not None
    assert key_file is not None
    key_file.chmod(0o640)
    state.chmod(0o644)

    assert [("secret.key", Severity.ERROR), ("state.db", Severity.WARNING)] == found(one)
    fixes = [str(finding.hint) for finding in examine_files(one)]
    assert [f"run: chmod 600 {key_file}", f"run: chmod 600 {state}"] == fixes


def test_files_that_others_may_change(loaded: Load) -> None:
    """What is read decides what a run does."""
    one = settings(loaded)
    Path("certferry.toml").chmod(0o666)
    Path("keys.env").chmod(0o622)

    assert [("certferry.toml", Severity.ERROR), ("keys.env", Severity.ERROR)] == found(one)


@as_root
def test_file_of_another_user(loaded: Load) -> None:
    """Whatever its mode."""
    one = settings(loaded)
    assert one.state.path is not None
    given_away(one.state.path)

    assert [("state.db", Severity.ERROR)] == found(one)


def test_file_that_cannot_be_reached(loaded: Load) -> None:
    """A link that leads to itself, for one."""
    one = settings(loaded)
    assert one.state.path is not None
    one.state.path.unlink()
    one.state.path.symlink_to("state.db")

    assert [("state.db", Severity.ERROR)] == found(one)


# --- Reading the file: whatever lies at the path, one clear sentence and no waiting


def complaint(path: Path = FILE) -> str:
    """Return the message of a file that cannot be read."""
    with pytest.raises(ConfigError) as caught:
        load(path, os.environ)
    return str(caught.value.message)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: None, ": cannot be read: No such file or directory"),
        (lambda: FILE.symlink_to(FILE), ": cannot be read: Too many levels of symbolic links"),
        (FILE.mkdir, ": is a directory, not a file"),
        (lambda: os.mkfifo(FILE), ": is not a regular file"),
        (lambda: FILE.write_bytes(b"# one\n# two\nx = '\xff'\n"), ":3: is not UTF-8 text"),
    ],
)
def test_what_is_no_configuration(folder: Path, make: Callable[[], object], problem: str) -> None:
    """Told as the system says it, or with the line; a pipe without a writer delays no run."""
    make()

    assert f"certferry.toml{problem}" == complaint()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/dev/zero", "is not a regular file"),
        ("/proc/self/mem", "cannot be read: Input/output error"),
    ],
)
def test_a_file_that_never_ends_or_fails(path: str, problem: str) -> None:
    """Neither holds the run; the second opens, and fails at its first byte, as a disk may."""
    assert f"{path}: {problem}" == complaint(Path(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user(folder: Path) -> None:
    """A file without permission to read is reported as such."""
    FILE.touch(0o000)

    assert "certferry.toml: cannot be read: Permission denied" == complaint()


def test_a_socket(folder: Path) -> None:
    """A socket cannot even be opened."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(FILE))

        assert "certferry.toml: cannot be read: No such device or address" == complaint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[acme\n", ":1: is not TOML at column 6: "),
        ("a = 1\nb = \n", ":2: is not TOML at column 5: Invalid value; strings need quotes"),
        ("a = 1\nb = word\n", ":2: is not TOML at column 5: Invalid value; strings need quotes"),
        ("a = 1\na = 2\n", ":2: is not TOML at column 6: "),
        ("a = 1\nb = [1", ":2: is not TOML: a comma or a closing bracket is missing"),
        ("a = 1\n\nb = 'x\n", ":3: is not TOML"),
        ('a = "x\nb = 1\n', ":1: is not TOML at column 7: a closing quote is missing"),
        ("a 1\n", ":1: is not TOML at column 3: a = is missing after the key"),
        ("a = 1 b\n", ":1: is not TOML at column 7: the line should end here"),
        (f"a = {'9' * 5000}", ":1: is not TOML: "),
        ("a = 2026-13-45", ":1: is not TOML at column "),
        (f"a = {'[' * 5000}", ": is nested too deeply"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_not_toml_is_reported_with_line_and_column(
    refusal: Refusal, text: str, message: str
) -> None:
    """The operator is led to the character."""
    (line,) = refusal(text)

    assert line.startswith(f"certferry.toml{message}")


def test_a_broken_line_is_not_quoted(refusal: Refusal) -> None:
    """The line that cannot be read may hold a secret."""
    (line,) = refusal('[accounts.qiniu]\nsecret_key = HUNTER2-"x"\n')

    assert "HUNTER2" not in line


def test_a_byte_order_mark_and_windows_line_ends_are_understood(folder: Path) -> None:
    """A file from any editor is read, and its lines are counted alike."""
    FILE.write_bytes('\ufeff[acme]\r\nemail = "a@example.com"\r\n'.encode())

    document = read_document(FILE)

    assert {"acme": {"email": "a@example.com"}} == document.values
    assert 2 == document.line(("acme", "email"))


def test_what_is_not_written_is_reported_at_what_is_around_it(folder: Path) -> None:
    """A missing key has the line of its table; nothing at all has none."""
    FILE.write_text("\n[acme]\n")
    document = read_document(FILE)

    assert 2 == document.line(("acme", "email"))
    assert document.line(("dns", "port")) is None


# --- What a certificate is proven by that no file declares: the keys in the environment tell


QINIU = {"QINIU_ACCESS_KEY": "access", "QINIU_SECRET_KEY": "secret"}
DNSPOD = {"DP_Id": "12345", "DP_Key": "token"}


@pytest.mark.parametrize(
    ("environ", "dns", "values"),
    [
        (
            {"Ali_Key": "k", "Ali_Secret": "s"},
            "alidns",
            {"access_key_id": "env:Ali_Key", "access_key_secret": "env:Ali_Secret"},
        ),
        (
            {"ALICLOUD_ACCESS_KEY": "k", "ALICLOUD_SECRET_KEY": "s"},
            "alidns",
            {
                "access_key_id": "env:ALICLOUD_ACCESS_KEY",
                "access_key_secret": "env:ALICLOUD_SECRET_KEY",
            },
        ),
        ({"CF_Token": "t"}, "cloudflare", {"token": "env:CF_Token"}),
        (
            {"CLOUDFLARE_DNS_API_TOKEN": "t"},
            "cloudflare",
            {"token": "env:CLOUDFLARE_DNS_API_TOKEN"},
        ),
        ({"CF_DNS_API_TOKEN": "t"}, "cloudflare", {"token": "env:CF_DNS_API_TOKEN"}),
        (
            {
                "RFC2136_NAMESERVER": "192.0.2.1:53",
                "RFC2136_TSIG_KEY": "certferry.",
                "RFC2136_TSIG_SECRET": "c2VjcmV0",
            },
            "rfc2136",
            {
                "server": "env:RFC2136_NAMESERVER",
                "key_name": "env:RFC2136_TSIG_KEY",
                "key_secret": "env:RFC2136_TSIG_SECRET",
            },
        ),
        (
            {
                "ACMEDNS_BASE_URL": "https://auth.example.org",
                "ACMEDNS_USERNAME": "c36f50e8-4632-44f0-83fe-e070fef28a10",
                "ACMEDNS_PASSWORD": "p" * 40,
                "ACMEDNS_SUBDOMAIN": "8e5700ea-a4bf-41c7-8a77-e990661dcc6a",
            },
            "acme-dns",
            {
                "api": "env:ACMEDNS_BASE_URL",
                "username": "env:ACMEDNS_USERNAME",
                "password": "env:ACMEDNS_PASSWORD",
                "subdomain": "env:ACMEDNS_SUBDOMAIN",
            },
        ),
        (
            {"Tencent_SecretId": "i", "Tencent_SecretKey": "k"},
            "tencentcloud",
            {"secret_id": "env:Tencent_SecretId", "secret_key": "env:Tencent_SecretKey"},
        ),
        (
            {"TENCENTCLOUD_SECRET_ID": "i", "TENCENTCLOUD_SECRET_KEY": "k"},
            "tencentcloud",
            {
                "secret_id": "env:TENCENTCLOUD_SECRET_ID",
                "secret_key": "env:TENCENTCLOUD_SECRET_KEY",
            },
        ),
        (DNSPOD, "dnspod", {"id": "env:DP_Id", "token": "env:DP_Key"}),
        (
            {"DNSPOD_API_KEY": "12345,token"},
            "dnspod",
            {"id": "env:DNSPOD_API_KEY", "token": "env:DNSPOD_API_KEY"},
        ),
        ({**DNSPOD, "CF_Token": "t"}, "dnspod", {"id": "env:DP_Id", "token": "env:DP_Key"}),
    ],
    ids=[
        "acme.sh-ali",
        "lego-ali",
        "acme.sh-cf",
        "lego-cf",
        "lego-cf-short",
        "lego-rfc2136",
        "acme.sh-acmedns",
        "acme.sh-tencent",
        "lego-tencent",
        "acme.sh-dnspod",
        "lego-dnspod",
        "both",
    ],
)
def test_service_whose_keys_are_there(
    environ: dict[str, str], dns: str, values: dict[str, str]
) -> None:
    """Under the names that acme.sh and lego use; DNSPod's count first."""
    settings = from_environment(["img.example.com"], {**environ, **QINIU})

    [certificate] = settings.certificates
    assert dns == certificate.dns
    assert values == settings.accounts[dns].values


@pytest.mark.parametrize("environ", [{}, {**DNSPOD, **QINIU}])
@pytest.mark.parametrize("name", ["bad_name..x", "img"])
def test_name_that_is_none_does_not_blame_the_environment(
    name: str, environ: dict[str, str]
) -> None:
    """The file that declares it was not found: that is said, and how to name one."""
    with pytest.raises(ConfigError, match="is not a domain name") as caught:
        from_environment([name], environ)

    hint = str(caught.value.hint)
    assert hint.startswith(str(NAMES_WITHOUT_FILE))
    assert (str(WITHOUT_FILE) in hint) == (not environ)


@pytest.mark.parametrize("environ", [{}, {"Ali_Key": "k"}, {"CF_Token": ""}])
def test_service_of_which_not_all_keys_are_there(environ: dict[str, str]) -> None:
    """Those of the usual one are asked for."""
    with pytest.raises(ConfigError, match="DP_Id / DNSPOD_API_KEY: not set") as caught:
        from_environment(["img.example.com"], {**environ, **QINIU})

    assert WITHOUT_FILE == caught.value.hint
