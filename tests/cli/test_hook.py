"""`certferry hook`: callers, variables, and errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.main import program, run
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.events import Activity, StepEnded
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.present.console import Verbosity
from certferry.present.language import Voice
from certferry.present.progress import progress_on_stdout
from certferry.present.run_log import RunLog
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.cli import values
from tests.cli.consoles import TestConsole, terminal

KEYS = {"QINIU_AK": "a", "QINIU_SK": "s"}
MODES = ("acme.sh", "certbot", "lego", "aliyun", "qiniu", "tencentcloud")
CLIENTS = MODES[:3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home, which is also the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Caller:
    """A client that runs the hook, with the client's environment."""

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.environ = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), **(environ or {})}

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command line, and return the exit code, stdout and stderr."""
        console = TestConsole(environ=self.environ)
        code = run(arguments, console.console)
        return code, console.out, console.err

    def complaint(self, *arguments: str) -> tuple[int, str, str]:
        """Run a hook that must fail and change nothing, and return the exit code, the error and the
        hint.
        """
        before = sorted(self.home.rglob("*"))
        code, out, err = self.run(*arguments)
        assert "" == out
        assert before == sorted(self.home.rglob("*"))
        error, _, hint = err.partition("\n\nhint: ")
        return code, error.removeprefix("error: "), hint.removesuffix("\n")


def bundle_for(*names: str) -> CertificateBundle:
    """Return a certificate of another client."""
    return make_bundle(*names, not_before=datetime.now(UTC))


def live(home: Path, name: str, bundle: CertificateBundle, key: CertificateBundle) -> Path:
    """Write a lineage of certbot, and return its directory."""
    directory = home / "live" / name
    directory.mkdir(parents=True)
    (directory / "fullchain.pem").write_text(bundle.fullchain_pem)
    (directory / "privkey.pem").write_text(key.privkey_pem.reveal())
    return directory


def by_certbot(home: Path, **environ: str) -> Caller:
    """Return certbot after a renewal for img.example.com."""
    bundle = bundle_for("img.example.com")
    lineage = live(home, "img.example.com", bundle, bundle)
    return Caller(home, {"RENEWED_LINEAGE": str(lineage), **environ})


def declare(home: Path, table: str) -> Path:
    """Write a configuration with an account of each kind, and this certificate."""
    path = home / "certferry.toml"
    path.write_text(
        "[accounts.qiniu]\naccess_key = 'env:QINIU_AK'\nsecret_key = 'env:QINIU_SK'\n"
        f"[accounts.dnspod]\nid = 'env:DP_Id'\ntoken = 'env:DP_Key'\n[[certificates]]\n{table}\n"
    )
    return path


# --- The command line


@pytest.mark.parametrize("mode", ["acme", "ACME.SH", "acmesh", "kodo", ""])
def test_unknown_mode(home: Path, mode: str) -> None:
    """The error is about the usage, and lists the modes."""
    code, error, hint = Caller(home).complaint("hook", mode)

    assert Exit.USAGE == code
    assert f"'{mode}' is not one of 'acme.sh', 'certbot', 'lego', 'aliyun', 'qiniu'" in error
    assert "run `certferry hook --help`" == hint


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("acme.sh", "--wait", "5", "--no-wait"), "--wait and --no-wait cannot be combined"),
        (("acme.sh", "--wait", "0", "--no-wait"), "--wait and --no-wait cannot be combined"),
        (("certbot", "--install"), "--install is only for acme.sh; certbot needs no file"),
        (("acme.sh", "--home", "/opt/acme"), "--home needs --install"),
        ((), f"missing argument 'MODE'. Choose from: {', '.join(MODES)}"),
    ],
)
def test_options_that_exclude_each_other(
    home: Path, arguments: tuple[str, ...], error: str
) -> None:
    """The error is about the usage, for every client."""
    assert (Exit.USAGE, error) == Caller(home).complaint("hook", *arguments)[:2]


@pytest.mark.parametrize(
    ("incomplete", "modes"), [("", list(MODES)), ("a", ["acme.sh", "aliyun"]), ("x", [])]
)
def test_completion_of_modes(incomplete: str, modes: list[str]) -> None:
    """The candidates are the modes with the typed beginning."""
    completion = ShellComplete(program, {}, "certferry", "_CERTFERRY_COMPLETE")

    assert modes == [item.value for item in completion.get_completions(["hook"], incomplete)]


# --- A hook without a known client


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("configured", [True, False])
def test_by_hand(home: Path, client: str, *, configured: bool) -> None:
    """The error names the missing variables, and the hint says how to run the command."""
    if configured:
        declare(home, "fullchain = 'f.pem'\nprivkey = 'k.pem'")

    code, error, hint = Caller(home, KEYS).complaint("hook", client)

    assert Exit.USAGE == code
    assert error.startswith(f"{client} has not set ")
    assert f"certferry hook {client}" in hint
    assert "certferry sync" in hint


def test_former_mode_without_a_file_and_a_client(home: Path) -> None:
    """The error lists the places of a configuration."""
    code, error, hint = Caller(home, KEYS).complaint("hook", "qiniu")

    assert Exit.USAGE == code
    assert "there is no configuration" in error
    assert str(home / ".config" / "certferry" / "certferry.toml") in error
    assert "--config FILE" in hint


def test_former_mode_without_a_deployment_to_qiniu(home: Path) -> None:
    """The error says so, since silence would look like success."""
    path = declare(home, "names = ['img.example.com']\ndns = 'dnspod'")

    code, error, _ = Caller(home, KEYS).complaint("--config", str(path), "hook", "qiniu")

    assert (Exit.USAGE, f"{path}: no certificate is deployed to Qiniu") == (code, error)


def test_former_mode_with_a_configuration(home: Path) -> None:
    """With a configuration all its certificates count, and a client's variables do not."""
    path = declare(home, "fullchain = 'f.pem'\nprivkey = 'k.pem'\ndeploy = [{to = 'qiniu'}]")
    caller = by_certbot(home, **KEYS)

    code, out, _ = caller.run("--config", str(path), "hook", "qiniu")

    assert Exit.FAILED == code
    assert f"{home}/f.pem: No such file" in out


def test_label_of_an_account(home: Path) -> None:
    """Only certificates with a deployment to the account count. A label that no account has is an
    unknown mode.
    """
    path = declare(home, "fullchain = 'f.pem'\nprivkey = 'k.pem'\ndeploy = [{to = 'qiniu'}]")
    path.write_text(path.read_text() + "\n[accounts.shops]\ntype = 'qiniu'\n")
    at = ("--config", str(path), "hook")

    code, error, _ = Caller(home, KEYS).complaint(*at, "shops")
    other, unknown, _ = Caller(home, KEYS).complaint(*at, "shop")

    assert (Exit.USAGE, f"{path}: no certificate is deployed to Qiniu") == (code, error)
    assert Exit.USAGE == other
    assert "'shop' is not one of " in unknown


def test_renewed_certificate_that_is_not_declared(home: Path) -> None:
    """The message names file, certificate and client; the hint has the lines to add."""
    path = declare(home, "names = ['other.example.com']\ndns = 'dnspod'\ndeploy = [{to = 'qiniu'}]")
    lineage = home / "live" / "img.example.com"

    code, error, hint = by_certbot(home, **KEYS).complaint("--config", str(path), "hook", "certbot")

    assert Exit.USAGE == code
    assert f"{path} declares no certificate for img.example.com, renewed by certbot" == error
    assert f'fullchain = "{lineage}/fullchain.pem"' in hint
    assert f'privkey = "{lineage}/privkey.pem"' in hint


def test_half_written_copy(home: Path) -> None:
    """The error has the cause of the unreadable copy."""
    path = declare(home, "name = 'copy'\nfullchain = 'f.pem'\nprivkey = 'k.pem'")
    (home / "f.pem").write_text(bundle_for("img.example.com").fullchain_pem)
    (home / "k.pem").write_text(bundle_for("img.example.com").privkey_pem.reveal())

    code, error, _ = by_certbot(home, **KEYS).complaint("--config", str(path), "hook", "certbot")

    assert Exit.REFUSED == code
    assert f"perhaps copy, but {home}/k.pem is not the key of {home}/f.pem" in error


@pytest.mark.parametrize("mode", ["certbot", "qiniu"])
def test_configuration_without_certificates(home: Path, mode: str) -> None:
    """As without a configuration, the hook deploys the client's certificate, here up to a wrong
    key.
    """
    path = home / "certferry.toml"
    path.write_text('[accounts.cdn]\ntype = "qiniu"\n')
    lineage = live(home, "img", bundle_for("img.example.com"), bundle_for("img.example.com"))
    caller = Caller(home, {"RENEWED_LINEAGE": str(lineage), **KEYS})

    code, out, err = caller.run("hook", mode)

    assert (Exit.REFUSED, "") == (code, err)
    assert "is not the key of" in out
    assert "so no later run continues: have certbot run the hook again." in out


def test_missing_keys_without_a_configuration(home: Path) -> None:
    """The error has both keys of Qiniu with both names, and no key of DNSPod."""
    code, error, hint = by_certbot(home).complaint("hook", "certbot")

    assert Exit.USAGE == code
    assert "QINIU_ACCESS_KEY / QINIU_AK" in error
    assert "QINIU_SECRET_KEY / QINIU_SK" in error
    assert "DP_Id" not in error
    assert "environment" in hint


# --- Wrong files


@pytest.mark.parametrize("mode", ["certbot", "qiniu"])
@pytest.mark.parametrize("options", [(), ("--no-wait",), ("--wait", "5")])
def test_certificate_with_a_wrong_key(home: Path, mode: str, options: tuple[str, ...]) -> None:
    """The hook refuses the pair before any request, and issues nothing."""
    lineage = live(home, "img", bundle_for("img.example.com"), bundle_for("img.example.com"))
    caller = Caller(home, {"RENEWED_LINEAGE": str(lineage), **KEYS})

    code, out, err = caller.run("hook", mode, *options)

    assert Exit.REFUSED == code
    assert "img: refused" in out
    assert "is not the key of" in out
    assert "" == err


def test_missing_files(home: Path) -> None:
    """The error has the missing path, with and without a declaration."""
    gone = home / "gone"
    caller = Caller(home, {"RENEWED_LINEAGE": str(gone), **KEYS})
    path = declare(home, "names = ['img.example.com']\ndns = 'dnspod'\ndeploy = [{to = 'qiniu'}]")

    code, error, _ = caller.complaint("--config", str(path), "hook", "certbot")

    assert Exit.FAILED == code
    assert f"{gone}/fullchain.pem: No such file or directory" == error


# --- Keys from a file


def test_keys_from_an_env_file(home: Path) -> None:
    """Keys of a file count like keys of the environment: the hook goes on to the check of
    the pair.
    """
    lineage = live(home, "img", bundle_for("img.example.com"), bundle_for("img.example.com"))
    keys = home / ".cdn-env"
    keys.write_text("export QINIU_ACCESS_KEY='a'\nQINIU_SECRET_KEY=s # mine\n")
    keys.chmod(0o600)

    caller = Caller(home, {"RENEWED_LINEAGE": str(lineage)})
    code, out, _ = caller.run("hook", "certbot", "--env-file", str(keys))

    assert Exit.REFUSED == code
    assert "is not the key of" in out


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("QINIU_AK=$(cat key)\n", 0o600, "a shell would run a command here"),
        ("QINIU_AK=$KEY\n", 0o600, "a shell would replace `$`"),
        ("QINIU_AK = secret\n", 0o600, "is not KEY=value"),
        ("QINIU_AK=secret\n", 0o644, "chmod 600"),
        (None, 0o600, "No such file"),
        (None, 0o600, "to a file with KEY=value lines"),
    ],
)
def test_env_file_that_cannot_be_used(
    home: Path, content: str | None, mode: int, problem: str
) -> None:
    """The error has the file, the line and the problem, but never the value, and nothing is
    executed.
    """
    keys = home / ".cdn-env"
    if content is not None:
        keys.write_text(content)
        keys.chmod(mode)

    code, error, hint = by_certbot(home).complaint("hook", "certbot", "--env-file", str(keys))

    assert Exit.USAGE == code
    assert str(keys) in error
    assert problem in error + hint
    assert "secret" not in error + hint


# --- The deploy hook of acme.sh


def acme_sh_at(home: Path) -> None:
    home.mkdir()
    (home / "account.conf").touch()


def test_deploy_hook_runs_the_same_command_in_any_directory(home: Path) -> None:
    """The command has the absolute paths of program, configuration and options; a second
    installation changes nothing.
    """
    declare(home, "fullchain = 'f.pem'\nprivkey = 'k.pem'")
    acme_sh_at(home / ".acme.sh")
    options = ("--log-file", "cdn.log", "--lang", "en")
    install = ("hook", "acme.sh", "--install", "--env-file", "my keys", "--wait", "9")
    caller = Caller(home)

    code, out, _ = caller.run(*options, *install)

    path = home / ".acme.sh" / "deploy" / "certferry.sh"
    command = next(row for row in path.read_text().splitlines() if "hook acme.sh --env" in row)
    assert Exit.OK == code
    assert [f"written: {path}", "acme.sh --deploy -d NAME --deploy-hook certferry"] == (
        out.splitlines()
    )
    assert command.strip().startswith("/")
    assert f"--config {home}/certferry.toml" in command
    assert f"--log-file {home}/cdn.log" in command
    assert command.endswith(f"hook acme.sh --env-file '{home}/my keys' --wait 9")
    assert f"unchanged: {path}\n" in caller.run(*options, *install)[1]


def test_deploy_hook_is_in_the_home_of_acme_sh(home: Path) -> None:
    """The variable of acme.sh names the home, and the option takes precedence; with `-q` nothing is
    printed.
    """
    for folder, arguments, environ in (
        ("one", (), {"LE_WORKING_DIR": str(home / "one")}),
        ("two", ("--home", "two"), {"LE_WORKING_DIR": str(home / "one")}),
    ):
        acme_sh_at(home / folder)

        answer = Caller(home, environ).run(
            "-q", "hook", "acme.sh", "--install", "--no-wait", *arguments
        )

        hook = (home / folder / "deploy" / "certferry.sh").read_text()
        assert (Exit.OK, "", "") == answer
        assert "hook acme.sh --no-wait\n" in hook
        assert "--config" not in hook


@pytest.mark.parametrize(("options", "place"), [((), "/.acme.sh"), (("--home", "any"), "/any")])
def test_deploy_hook_without_acme_sh(home: Path, options: tuple[str, ...], place: str) -> None:
    """Nothing is created in a directory without acme.sh."""
    (home / "any").mkdir()

    code, error, hint = Caller(home).complaint("hook", "acme.sh", "--install", *options)

    assert Exit.USAGE == code
    assert f"{home}{place}: no acme.sh found there (no account.conf)" == error
    assert "--home DIR" in hint


# --- Exit codes and output for clients


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.DONE, Exit.OK),
        (Outcome.UNCHANGED, Exit.OK),
        (Outcome.WAITING, Exit.OK),
        (Outcome.FAILED, Exit.FAILED),
        (Outcome.REFUSED, Exit.REFUSED),
    ],
)
def test_waiting_is_no_failure_for_a_client(outcome: Outcome, code: Exit) -> None:
    """Clients count every exit code except 0 as a failed renewal, so a run in progress ends
    with 0.
    """
    step = StepOutcome(Action.DEPLOY, outcome, Text("so"), "qiniu", values.IMG)

    assert code == exits.of_hook(values.report(values.lineage(step)))
    stopped = values.report(values.lineage(step), complete=False)
    assert Exit.STOPPED == exits.of_hook(stopped)


def test_progress_for_clients(tmp_path: Path) -> None:
    """Lines are plain and on stdout, even at a terminal, because clients show stderr as an error;
    the log has the same lines.
    """
    console = terminal()
    run_log = RunLog(Voice())
    run_log.open(tmp_path / "cdn.log")
    step = StepOutcome(Action.DEPLOY, Outcome.DONE, Text("bound"), "qiniu", values.IMG)

    for verbosity in (Verbosity.QUIET, Verbosity.NORMAL):
        progress = progress_on_stdout(replace(console.console, run_log=run_log), verbosity)
        progress(Activity("img", Text("uploading"), values.NOON))
        progress(StepEnded("img", step))

    lines = ["img: uploading", f"img: deploy done: qiniu → {values.IMG}: bound"]
    assert lines == console.out.splitlines()
    assert "" == console.err
    logged = (tmp_path / "cdn.log").read_text().splitlines()
    assert lines + lines == [row.partition("] ")[2] for row in logged]
    assert os.linesep == console.out[-1]
