"""Files that other users could read or change, as `doctor` finds them."""

from __future__ import annotations

from pathlib import Path

from certferry.config.model import Settings
from certferry.config.write import examine_files
from certferry.core.findings import Code
from certferry.problem import Severity
from tests.another_user import as_root, given_away
from tests.config.conftest import Load

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
    """Give what is open, by the file's name."""
    findings = list(examine_files(one))
    assert {Code.FILE_OPEN} >= {finding.code for finding in findings}
    return [(Path(finding.subject).name, finding.severity) for finding in findings]


def test_files_of_the_caller_alone(loaded: Load) -> None:
    """There is nothing to tell; neither of what is not there yet."""
    one = settings(loaded)
    assert [] == found(one)

    one.state.key_file.unlink()
    assert [] == found(one)


def test_files_that_others_may_read(loaded: Load) -> None:
    """The key opens the state, so it weighs more; the fix is a command."""
    one = settings(loaded)
    one.state.key_file.chmod(0o640)
    one.state.path.chmod(0o644)

    assert [("secret.key", Severity.ERROR), ("state.db", Severity.WARNING)] == found(one)
    fixes = [str(finding.hint) for finding in examine_files(one)]
    assert [f"run: chmod 600 {one.state.key_file}", f"run: chmod 600 {one.state.path}"] == fixes


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
    given_away(one.state.path)

    assert [("state.db", Severity.ERROR)] == found(one)


def test_file_that_cannot_be_reached(loaded: Load) -> None:
    """A link that leads to itself, for one."""
    one = settings(loaded)
    one.state.path.unlink()
    one.state.path.symlink_to("state.db")

    assert [("state.db", Severity.ERROR)] == found(one)
