"""What is asked often costs little: `--version` and `--help` load no heavy library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from certferry import __version__

# Network, crypto, display, storage: everything a command may need and these two do not.
HEAVY = {
    "acme",
    "asyncio",
    "cryptography",
    "dns",
    "email",
    "http",
    "josepy",
    "keyring",
    "msgspec",
    "OpenSSL",
    "requests",
    "rich",
    "socket",
    "sqlite3",
    "ssl",
    "trustme",
    "urllib3",
}

PROBE = """
import sys
from certferry.__main__ import main
try:
    code = main()
except SystemExit as end:
    code = end.code or 0
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*arguments: str, code: int = 0) -> tuple[str, set[str]]:
    """Run certferry in a fresh interpreter; give its output and the modules it has loaded."""
    # Measuring coverage in the child would load libraries of its own.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert code == result.returncode, result.stderr
    return result.stdout, set(result.stderr.split())


def test_version_loads_next_to_nothing() -> None:
    """The version is answered before the command line itself is imported."""
    output, modules = loaded_by("--version")

    assert f"certferry {__version__}\n" == output
    assert {"certferry", "certferry.__main__"} == {m for m in modules if m.startswith("certferry")}
    assert set() == {module.partition(".")[0] for module in modules} & (HEAVY | {"click"})


def test_help_loads_no_network_crypto_or_display_library() -> None:
    """Help is answered from the command line alone: no adapter, no heavy library."""
    output, modules = loaded_by("--help")

    assert "sync" in output
    assert "click" in modules
    assert set() == {module.partition(".")[0] for module in modules} & HEAVY
    assert set() == {m for m in modules if m.startswith(("certferry.adapters", "certferry.wiring"))}


def test_a_catalogue_is_read_only_for_who_wants_it() -> None:
    """English needs none; Chinese needs its own, and no library besides."""
    _, english = loaded_by("--help")
    output, chinese = loaded_by("--lang", "zh", "--help")

    assert "用法: certferry" in output
    assert set() == {module.partition(".")[0] for module in chinese} & (HEAVY | {"babel"})
    assert "certferry.present.language" in english
    assert not [path for path in opened_by("--help") if path.endswith(".mo")]
    assert [path for path in opened_by("--lang", "zh", "--help") if path.endswith(".mo")]


def test_a_file_without_channels_loads_nothing_of_them(tmp_path: Path) -> None:
    """Nor does one with channels, as long as there is nothing to tell."""
    config = tmp_path / "certferry.toml"
    config.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state/state.db"\n')
    config.chmod(0o600)
    _, without = loaded_by("--config", str(config), "sync", code=2)
    config.write_text(f'{config.read_text()}[notify.ops]\ntype = "bark"\nkey = "env:NONE"\n')
    _, having = loaded_by("--config", str(config), "sync", code=2)

    channels = (
        "certferry.wiring.channels",
        "certferry.reconcile.notifications",
        "certferry.adapters.n",
    )
    assert set() == {module for module in without if module.startswith(channels)}
    assert "certferry.adapters.notify.bark" in having
    assert "certferry.adapters.http.client" not in having
    assert {"smtplib", "apprise"} & having == set()


def opened_by(*arguments: str) -> list[str]:
    """Run certferry in a fresh interpreter; give the files that it has opened."""
    script = (
        "import sys\n"
        "sys.addaudithook(lambda event, given: event == 'open' and print(given[0]))\n"
        "from certferry.__main__ import main\nmain()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("command", [["-m", "certferry"], ["-m", "certferry.__main__"]])
def test_the_module_is_the_command(command: list[str]) -> None:
    """`python -m certferry` is the same program as the command `certferry`."""
    result = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, check=True
    )

    assert f"certferry {__version__}\n" == result.stdout
