"""The hook by itself: who calls it and how, and what it says when that cannot be meant."""

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
MODES = ("acme.sh", "certbot", "lego", "qiniu")
CLIENTS = MODES[:3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, which is also the current directory. There is nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Caller:
    """A client that runs the hook, with its environment."""

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.environ = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), **(environ or {})}

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command line; give its exit code, stdout and stderr."""
        console = TestConsole(environ=self.environ)
        code = run(arguments, console.console)
        return code, console.out, console.err

    def complaint(self, *arguments: str) -> tuple[int, str, str]:
        """Run a hook that must complain and change nothing; give the code, the error, the hint."""
        before = sorted(self.home.rglob("*"))
        code, out, err = self.run(*arguments)
        assert "" == out
        assert before == sorted(self.home.rglob("*"))
        error, _, hint = err.partition("\n\nhint: ")
        return code, error.removeprefix("error: "), hint.removesuffix("\n")


def made(*names: str) -> CertificateBundle:
    """Make a certificate as another client has."""
    return make_bundle(*names, not_before=datetime.now(UTC))


def live(home: Path, name: str, bundle: CertificateBundle, key: CertificateBundle) -> Path:
    """Write a certbot lineage; give its directory."""
    directory = home / "live" / name
    directory.mkdir(parents=True)
    (directory / "fullchain.pem").write_text(bundle.fullchain_pem)
    (directory / "privkey.pem").write_text(key.privkey_pem.reveal())
    return directory


def by_certbot(home: Path, **environ: str) -> Caller:
    """Certbot, which has renewed a certificate for img.example.com."""
    bundle = made("img.example.com")
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


# --- the command line


@pytest.mark.parametrize("mode", ["acme", "ACME.SH", "acmesh", "kodo", ""])
def test_unknown_mode(home: Path, mode: str) -> None:
    """A usage error that lists the modes."""
    code, error, hint = Caller(home).complaint("hook", mode)

    assert Exit.USAGE == code
    assert f"'{mode}' is not one of 'acme.sh', 'certbot', 'lego', 'qiniu'" in error
    assert "run `certferry hook --help`" == hint


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("acme.sh", "--wait", "5", "--no-wait"), "--wait and --no-wait cannot be combined"),
        (("certbot", "--install"), "--install is only for acme.sh; certbot needs no file"),
        (("acme.sh", "--home", "/opt/acme"), "--home needs --install"),
        ((), "missing argument 'MODE'. Choose from: acme.sh, certbot, lego, qiniu"),
    ],
)
def test_options_that_do_not_go_together(
    home: Path, arguments: tuple[str, ...], error: str
) -> None:
    """A usage error, for every client."""
    assert (Exit.USAGE, error) == Caller(home).complaint("hook", *arguments)[:2]


@pytest.mark.parametrize(
    ("incomplete", "modes"), [("", list(MODES)), ("a", ["acme.sh"]), ("x", [])]
)
def test_shell_is_offered_the_modes(incomplete: str, modes: list[str]) -> None:
    """All of them, or those that begin so."""
    completion = ShellComplete(program, {}, "certferry", "_CERTFERRY_COMPLETE")

    assert modes == [item.value for item in completion.get_completions(["hook"], incomplete)]


# --- called by no client that is known


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("configured", [True, False])
def test_by_hand(home: Path, client: str, *, configured: bool) -> None:
    """The missing variables are named, and the hint says who is to run this."""
    if configured:
        declare(home, "fullchain = 'f.pem'\nprivkey = 'k.pem'")

    code, error, hint = Caller(home, KEYS).complaint("hook", client)

    assert Exit.USAGE == code
    assert error.startswith(f"{client} has not set ")
    assert f"certferry hook {client}" in hint
    assert "certferry sync" in hint


def test_the_old_mode_with_nothing_to_go_by(home: Path) -> None:
    """Neither a file nor a client: it is reported where a file was looked for."""
    code, error, hint = Caller(home, KEYS).complaint("hook", "qiniu")

    assert Exit.USAGE == code
    assert "there is no configuration" in error
    assert str(home / ".config" / "certferry" / "certferry.toml") in error
    assert "--config FILE" in hint


def test_the_old_mode_where_nothing_goes_to_qiniu(home: Path) -> None:
    """It says so; to do nothing without a word would look like success."""
    path = declare(home, "names = ['img.example.com']\ndns = 'dnspod'")

    code, error, _ = Caller(home, KEYS).complaint("--config", str(path), "hook", "qiniu")

    assert (Exit.USAGE, f"{path}: no certificate is deployed to Qiniu") == (code, error)


def test_the_old_mode_is_for_all_whatever_a_client_says(home: Path) -> None:
    """With a configuration a client's variables do not count."""
    path = declare(home, "fullchain = 'f.pem'\nprivkey = 'k.pem'\ndeploy = [{to = 'qiniu'}]")
    caller = by_certbot(home, **KEYS)

    code, out, _ = caller.run("--config", str(path), "hook", "qiniu")

    assert Exit.FAILED == code
    assert f"{home}/f.pem: No such file" in out


def test_lineage_that_is_not_declared(home: Path) -> None:
    """The message names file, certificate and client; the hint is what to write."""
    path = declare(home, "names = ['other.example.com']\ndns = 'dnspod'\ndeploy = [{to = 'qiniu'}]")
    lineage = home / "live" / "img.example.com"

    code, error, hint = by_certbot(home, **KEYS).complaint("--config", str(path), "hook", "certbot")

    assert Exit.USAGE == code
    assert f"{path} declares no certificate for img.example.com, renewed by certbot" == error
    assert f'fullchain = "{lineage}/fullchain.pem"' in hint
    assert f'privkey = "{lineage}/privkey.pem"' in hint


def test_half_written_copy_is_reported_as_that(home: Path) -> None:
    """A declared file that cannot be taken is not reported as one that is not declared."""
    path = declare(home, "name = 'copy'\nfullchain = 'f.pem'\nprivkey = 'k.pem'")
    (home / "f.pem").write_text(made("img.example.com").fullchain_pem)
    (home / "k.pem").write_text(made("img.example.com").privkey_pem.reveal())

    code, error, _ = by_certbot(home, **KEYS).complaint("--config", str(path), "hook", "certbot")

    assert Exit.REFUSED == code
    assert f"perhaps copy, but {home}/k.pem is not the key of {home}/f.pem" in error


@pytest.mark.parametrize("mode", ["certbot", "qiniu"])
def test_configuration_without_certificates_is_none_of_them(home: Path, mode: str) -> None:
    """The client's certificate is taken as without one: here as far as its files go."""
    path = home / "certferry.toml"
    path.write_text('[accounts.cdn]\ntype = "qiniu"\n')
    lineage = live(home, "img", made("img.example.com"), made("img.example.com"))
    caller = Caller(home, {"RENEWED_LINEAGE": str(lineage), **KEYS})

    code, out, err = caller.run("hook", mode)

    assert (Exit.REFUSED, "") == (code, err)
    assert "is not the key of" in out
    assert "so no later run continues: have certbot run the hook again." in out


def test_keys_that_no_account_has(home: Path) -> None:
    """Without a file both keys are asked for, under both names, and none of DNSPod's."""
    code, error, hint = by_certbot(home).complaint("hook", "certbot")

    assert Exit.USAGE == code
    assert "QINIU_ACCESS_KEY / QINIU_AK" in error
    assert "QINIU_SECRET_KEY / QINIU_SK" in error
    assert "DP_Id" not in error
    assert "environment" in hint


# --- files that cannot be taken


@pytest.mark.parametrize("mode", ["certbot", "qiniu"])
@pytest.mark.parametrize("options", [(), ("--no-wait",), ("--wait", "5")])
def test_pair_that_does_not_belong_together(
    home: Path, mode: str, options: tuple[str, ...]
) -> None:
    """Refused before anything is sent; nothing is issued."""
    lineage = live(home, "img", made("img.example.com"), made("img.example.com"))
    caller = Caller(home, {"RENEWED_LINEAGE": str(lineage), **KEYS})

    code, out, err = caller.run("hook", mode, *options)

    assert Exit.REFUSED == code
    assert "img: refused" in out
    assert "is not the key of" in out
    assert "" == err


def test_files_that_are_not_there(home: Path) -> None:
    """Which path it was, whether it is declared or not."""
    gone = home / "gone"
    caller = Caller(home, {"RENEWED_LINEAGE": str(gone), **KEYS})
    path = declare(home, "names = ['img.example.com']\ndns = 'dnspod'\ndeploy = [{to = 'qiniu'}]")

    code, error, _ = caller.complaint("--config", str(path), "hook", "certbot")

    assert Exit.FAILED == code
    assert f"{gone}/fullchain.pem: No such file or directory" == error


# --- keys from a file


def test_keys_from_an_env_file(home: Path) -> None:
    """They count as if they were in the environment, so that the pair is looked at."""
    lineage = live(home, "img", made("img.example.com"), made("img.example.com"))
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
    """The file, the line and what is wrong with it; never what stands there, never executed."""
    keys = home / ".cdn-env"
    if content is not None:
        keys.write_text(content)
        keys.chmod(mode)

    code, error, hint = by_certbot(home).complaint("hook", "certbot", "--env-file", str(keys))

    assert Exit.USAGE == code
    assert str(keys) in error
    assert problem in error + hint
    assert "secret" not in error + hint


# --- acme.sh's deploy hook


def acme_sh_at(home: Path) -> None:
    home.mkdir()
    (home / "account.conf").touch()


def test_deploy_hook_runs_the_same_command_from_anywhere(home: Path) -> None:
    """It has this program, this file and these options, all of them absolute; once is enough."""
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


def test_deploy_hook_goes_where_acme_sh_is_at_home(home: Path) -> None:
    """Where it says itself, or where the option says; quiet, it says nothing."""
    for place, arguments, environ in (
        ("one", (), {"LE_WORKING_DIR": str(home / "one")}),
        ("two", ("--home", "two"), {"LE_WORKING_DIR": str(home / "one")}),
    ):
        acme_sh_at(home / place)

        answer = Caller(home, environ).run(
            "-q", "hook", "acme.sh", "--install", "--no-wait", *arguments
        )

        written = (home / place / "deploy" / "certferry.sh").read_text()
        assert (Exit.OK, "", "") == answer
        assert "hook acme.sh --no-wait\n" in written
        assert "--config" not in written


@pytest.mark.parametrize(("options", "place"), [((), "/.acme.sh"), (("--home", "any"), "/any")])
def test_deploy_hook_where_there_is_no_acme_sh(
    home: Path, options: tuple[str, ...], place: str
) -> None:
    """Nothing is made, in no directory of another user."""
    (home / "any").mkdir()

    code, error, hint = Caller(home).complaint("hook", "acme.sh", "--install", *options)

    assert Exit.USAGE == code
    assert f"{home}{place}: no acme.sh found there (no account.conf)" == error
    assert "--home DIR" in hint


# --- what the client gets


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
def test_only_what_went_wrong_is_a_failure_to_a_client(outcome: Outcome, code: Exit) -> None:
    """A client counts every code but 0 as a failed renewal; what is on its way is none."""
    step = StepOutcome(Action.DEPLOY, outcome, Text("so"), "qiniu", values.IMG)

    assert code == exits.of_hook(values.report(values.lineage(step)))
    stopped = values.report(values.lineage(step), complete=False)
    assert Exit.STOPPED == exits.of_hook(stopped)


def test_progress_is_plain_lines_on_stdout_and_in_the_log(tmp_path: Path) -> None:
    """Also on a terminal, where the client writes too; clients show stderr as an error."""
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
