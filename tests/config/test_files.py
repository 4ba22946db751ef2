"""The configuration file: its places, its owner, its syntax, and runs without a file."""

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

# --- The places of the configuration


LOCAL = Path("certferry.toml")


@pytest.fixture
def environ(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return an environment with a home, in another empty current directory."""
    return {"HOME": str(tmp_path_factory.mktemp("someone"))}


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_chosen_file_takes_precedence(environ: Mapping[str, str]) -> None:
    """`--config` takes precedence over all other places, even if the file is missing."""
    put(LOCAL)

    file = find_file(Path("other.toml"), {**environ, "CERTFERRY_CONFIG": "third.toml"})

    assert Path("other.toml") == file


def test_variable_takes_precedence_over_the_usual_places(environ: Mapping[str, str]) -> None:
    """`$CERTFERRY_CONFIG` takes precedence over an existing file in a usual place."""
    put(LOCAL)

    assert Path("third.toml") == find_file(None, {**environ, "CERTFERRY_CONFIG": "third.toml"})


def test_empty_variable_counts_as_unset(environ: Mapping[str, str]) -> None:
    """An empty variable leads to the usual places."""
    put(LOCAL)

    assert LOCAL == find_file(None, {**environ, "CERTFERRY_CONFIG": ""})


def test_order_of_the_usual_places(environ: Mapping[str, str]) -> None:
    """The current directory comes before the home, and the home before the system's directory."""
    at_home = put(Path(environ["HOME"]) / ".config" / "certferry" / "certferry.toml")

    assert (LOCAL, at_home, Path("/etc/certferry/certferry.toml")) == usual_places(environ)
    assert at_home == find_file(None, environ)

    put(LOCAL)

    assert LOCAL == find_file(None, environ)


def test_xdg_config_home(environ: Mapping[str, str]) -> None:
    """`$XDG_CONFIG_HOME` comes before `~/.config`, which stays in the list."""
    elsewhere = Path("/elsewhere/certferry/certferry.toml")

    places = usual_places({**environ, "XDG_CONFIG_HOME": "/elsewhere"})

    assert (LOCAL, elsewhere, *usual_places(environ)[1:]) == places


def test_broken_link_is_reported(environ: Mapping[str, str]) -> None:
    """A broken link in a usual place is an error, and later places are not searched."""
    LOCAL.symlink_to("gone.toml")

    with pytest.raises(ConfigError, match=r"certferry\.toml: cannot be read: No such file"):
        load(None, environ)


@pytest.mark.skipif(
    Path("/etc/certferry/certferry.toml").exists(), reason="this machine has a configuration"
)
def test_missing_configuration_names_the_places(environ: Mapping[str, str]) -> None:
    """The message lists the places of a configuration."""
    assert find_file(None, environ) is None

    with pytest.raises(ConfigError) as caught:
        load(None, environ)

    assert (
        "there is no configuration file; certferry looked for certferry.toml,"
        f" {environ['HOME']}/.config/certferry/certferry.toml, /etc/certferry/certferry.toml"
    ) == str(caught.value.message)


def test_home_without_a_variable() -> None:
    """The home comes from the password database if `$HOME` is missing, as in cron."""
    assert Path(pwd.getpwuid(os.geteuid()).pw_dir) == home_directory({})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_home_of_a_user_without_a_name() -> None:
    """Containers run programs under user ids outside the password database; the home is
    then `/`.
    """
    program = "from certferry.config.files import home_directory; print(home_directory({}))"
    become = f"import os; os.setuid(54321); {program}"
    imported = "import certferry.config.files; "

    result = subprocess.run(
        [sys.executable, "-c", imported + become], capture_output=True, text=True, check=True
    )

    assert "/\n" == result.stdout


def refused(path: Path) -> str:
    """Return the message and the hint about a refused configuration; the hint is not the
    reference.
    """
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.hint != REFERENCE
    return f"{caught.value.message}; {caught.value.hint}"


@as_root
def test_configuration_of_another_user(folder: Path) -> None:
    """Another user's settings would run as root; the message has the commands that help."""
    path = given_away(put(folder / "theirs.toml"))

    assert (
        f"{path}: belongs to nobody, who can change it;"
        f" run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    ) == refused(path)


@as_root
def test_configuration_in_a_directory_of_another_user(folder: Path) -> None:
    """The directory's owner could replace the file."""
    home = put(folder / "home" / "x.toml").parent
    given_away(home)

    assert (
        f"{home}/x.toml: lies in {home}, which belongs to nobody;"
        " run certferry as the owner: sudo -u nobody certferry …;"
        " or keep it where only root can write, for example below /etc or /var/lib"
    ) == refused(home / "x.toml")


def test_configuration_that_every_user_may_write(folder: Path) -> None:
    """The file is refused for every user."""
    put(folder / "open.toml").chmod(0o666)

    assert (
        f"open.toml: can be changed by every user (mode 0666); run: chmod go-w {folder}/open.toml"
    ) == refused(Path("open.toml"))


@as_root
@pytest.mark.parametrize("whose", ["theirs", "every user's"])
def test_root_in_a_directory_of_another_user(
    folder: Path, environ: Mapping[str, str], whose: str
) -> None:
    """The current directory is no place for root if other users can write there: the next place
    counts, or the hint has the reason.
    """
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


# --- Files that other users can read or change, as reported by `doctor`


TOML = """\
env_files = ["keys.env"]
[state]
url = "sqlite:///state.db"
key_file = "secret.key"
"""


def settings(loaded: Load) -> Settings:
    """Load a configuration with a state, a key and an environment file for the owner alone."""
    for name in ("keys.env", "state.db", "secret.key"):
        Path(name).touch(0o600)
        Path(name).chmod(0o600)
    return loaded(TOML)


def open_files(settings: Settings) -> list[tuple[str, Severity]]:
    """Return the findings by the file's name, with their severity."""
    findings = list(examine_files(settings))
    assert {Code.FILE_OPEN} >= {finding.code for finding in findings}
    return [(Path(finding.subject).name, finding.severity) for finding in findings]


def test_files_for_the_owner_alone(loaded: Load) -> None:
    """Neither private files nor a missing key file cause a finding."""
    loaded_settings = settings(loaded)
    assert [] == open_files(loaded_settings)

    assert loaded_settings.state.key_file is not None
    loaded_settings.state.key_file.unlink()
    assert [] == open_files(loaded_settings)


def test_files_that_other_users_can_read(loaded: Load) -> None:
    """A readable key is an error and a readable state a warning; each hint is a command."""
    loaded_settings = settings(loaded)
    state, key_file = loaded_settings.state.path, loaded_settings.state.key_file
    assert state is not None
    assert key_file is not None
    key_file.chmod(0o640)
    state.chmod(0o644)

    assert [("secret.key", Severity.ERROR), ("state.db", Severity.WARNING)] == open_files(
        loaded_settings
    )
    fixes = [str(finding.hint) for finding in examine_files(loaded_settings)]
    assert [f"run: chmod 600 {key_file}", f"run: chmod 600 {state}"] == fixes


def test_files_that_other_users_can_change(loaded: Load) -> None:
    """Writable settings are errors, because settings decide about the run."""
    loaded_settings = settings(loaded)
    Path("certferry.toml").chmod(0o666)
    Path("keys.env").chmod(0o622)

    assert [("certferry.toml", Severity.ERROR), ("keys.env", Severity.ERROR)] == open_files(
        loaded_settings
    )


@as_root
def test_file_of_another_user(loaded: Load) -> None:
    """The owner counts, whatever the mode."""
    loaded_settings = settings(loaded)
    assert loaded_settings.state.path is not None
    given_away(loaded_settings.state.path)

    assert [("state.db", Severity.ERROR)] == open_files(loaded_settings)


def test_state_that_is_a_loop_of_links(loaded: Load) -> None:
    """An unreachable file is an error."""
    loaded_settings = settings(loaded)
    assert loaded_settings.state.path is not None
    loaded_settings.state.path.unlink()
    loaded_settings.state.path.symlink_to("state.db")

    assert [("state.db", Severity.ERROR)] == open_files(loaded_settings)


# --- Reading the file: a clear sentence for each kind of file, without waiting


def complaint(path: Path = FILE) -> str:
    """Return the message about an unreadable file."""
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
def test_path_without_a_configuration(
    folder: Path, make: Callable[[], object], problem: str
) -> None:
    """The message has the system's words or the line; a FIFO without a writer causes no wait."""
    make()

    assert f"certferry.toml{problem}" == complaint()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/dev/zero", "is not a regular file"),
        ("/proc/self/mem", "cannot be read: Input/output error"),
    ],
)
def test_endless_and_failing_files(path: str, problem: str) -> None:
    """An endless device and a failing first read both end in a message."""
    assert f"{path}: {problem}" == complaint(Path(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(folder: Path) -> None:
    """The message names the missing permission."""
    FILE.touch(0o000)

    assert "certferry.toml: cannot be read: Permission denied" == complaint()


def test_socket_in_the_place_of_the_file(folder: Path) -> None:
    """The message has the system's words, since a socket cannot be opened."""
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
def test_text_that_is_no_toml_is_reported(refusal: Refusal, text: str, message: str) -> None:
    """The message has the line, and the column if known."""
    (line,) = refusal(text)

    assert line.startswith(f"certferry.toml{message}")


def test_broken_line_is_not_quoted(refusal: Refusal) -> None:
    """An unreadable line may contain a secret."""
    (line,) = refusal('[accounts.qiniu]\nsecret_key = HUNTER2-"x"\n')

    assert "HUNTER2" not in line


def test_byte_order_mark_and_line_ends_of_windows(folder: Path) -> None:
    """Files of any editor are read with the same values and lines."""
    FILE.write_bytes('\ufeff[acme]\r\nemail = "a@example.com"\r\n'.encode())

    document = read_document(FILE)

    assert {"acme": {"email": "a@example.com"}} == document.values
    assert 2 == document.line(("acme", "email"))


def test_line_of_a_missing_key(folder: Path) -> None:
    """A missing key has the line of its table; a missing table has none."""
    FILE.write_text("\n[acme]\n")
    document = read_document(FILE)

    assert 2 == document.line(("acme", "email"))
    assert document.line(("dns", "port")) is None


# --- The DNS provider of a certificate without a declaration: chosen by keys in the environment


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
def test_service_with_keys_in_the_environment(
    environ: dict[str, str], dns: str, values: dict[str, str]
) -> None:
    """The variables of acme.sh and lego choose the service; DNSPod comes first."""
    settings = from_environment(["img.example.com"], {**environ, **QINIU})

    [certificate] = settings.certificates
    assert dns == certificate.dns
    assert values == settings.accounts[dns].values


@pytest.mark.parametrize("environ", [{}, {**DNSPOD, **QINIU}])
@pytest.mark.parametrize("name", ["bad_name..x", "img"])
def test_invalid_name_without_a_file(name: str, environ: dict[str, str]) -> None:
    """The hint explains runs without a file; the variables are mentioned only if the keys are
    missing.
    """
    with pytest.raises(ConfigError, match="is not a domain name") as caught:
        from_environment([name], environ)

    hint = str(caught.value.hint)
    assert hint.startswith(str(NAMES_WITHOUT_FILE))
    assert (str(WITHOUT_FILE) in hint) == (not environ)


@pytest.mark.parametrize("environ", [{}, {"Ali_Key": "k"}, {"CF_Token": ""}])
def test_service_with_incomplete_keys(environ: dict[str, str]) -> None:
    """The message has the variables of the usual service."""
    with pytest.raises(ConfigError, match="DP_Id / DNSPOD_API_KEY: not set") as caught:
        from_environment(["img.example.com"], {**environ, **QINIU})

    assert WITHOUT_FILE == caught.value.hint
