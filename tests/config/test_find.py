"""Where the configuration is looked for."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from certferry.config.files import home_directory
from certferry.config.load import find_file, load, usual_places
from certferry.config.mistakes import REFERENCE
from certferry.errors import ConfigError
from tests.another_user import as_root, given_away

LOCAL = Path("certferry.toml")


@pytest.fixture
def environ(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Give an environment with a home, while the current directory is another, empty one."""
    return {"HOME": str(tmp_path_factory.mktemp("someone"))}


def put(path: Path) -> Path:
    """Make an empty file."""
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
    """A configuration that is there but broken is told, not replaced by another."""
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
        "there is no configuration; looked for certferry.toml,"
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
    """Give why a configuration is not read, and what to do; the reference would not help."""
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.hint != REFERENCE
    return f"{caught.value.message}; {caught.value.hint}"


@as_root
def test_configuration_of_another_user(folder: Path) -> None:
    """What it says would be run as root: it is refused with the command that helps."""
    path = given_away(put(folder / "theirs.toml"))

    assert (
        f"{path}: belongs to nobody, who could change it;"
        f" run it as its owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    ) == refused(path)


@as_root
def test_configuration_in_a_home_of_another_users(folder: Path) -> None:
    """They could put another in its place."""
    home = put(folder / "home" / "x.toml").parent
    given_away(home)

    assert (
        f"{home}/x.toml: lies in {home}, which belongs to nobody;"
        " run it as its owner: sudo -u nobody certferry …;"
        " or keep it where only root can write, such as below /etc or /var/lib"
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
    """What lies there is not looked for: the next place counts, and else it is told why."""
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
