"""`deploy/compose.yaml`: its schema, and its agreement with the image and the manifests."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from certferry import __version__
from release import image
from tests.deploy.job import read
from tests.deploy.test_kubernetes import containers, pods
from tests.house.tree import ROOT

FILE = ROOT / "deploy" / "compose.yaml"
SECOND = 10**9
CONTENTS: dict[str, Any] = read(FILE)
SERVICE: dict[str, Any] = CONTENTS["services"]["certferry"]


def test_file_fits_the_specification() -> None:
    """Every key has its name and place (compose-spec)."""
    words = ["--builtin-schema", "vendor.compose-spec", str(FILE)]

    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout


def test_service_is_started_as_the_image_is_made() -> None:
    """Folders, health check, user and first command come from the image."""
    made = image.config(__version__, 0, b"")["config"]

    assert f"{image.NAME}:{__version__}" == SERVICE["image"]
    assert [f"{image.CONFIG}:{image.CONFIG}:ro", f"state:{image.STATE}"] == SERVICE["volumes"]
    check = SERVICE["healthcheck"]
    assert made["Healthcheck"] == {
        "Test": check["test"],
        "Interval": _nanoseconds(check["interval"]),
        "Timeout": _nanoseconds(check["timeout"]),
        "StartPeriod": _nanoseconds(check["start_period"]),
        "Retries": check["retries"],
    }
    assert not {"user", "command", "entrypoint"} & {*SERVICE}


def test_service_has_no_more_rights_than_a_pod() -> None:
    """Only the volume and `/tmp` are writable, and capabilities are dropped for good."""
    pod = next(pods("base"))
    least = containers(pod)[0]["securityContext"]

    assert least["readOnlyRootFilesystem"] is SERVICE["read_only"]
    assert least["capabilities"]["drop"] == SERVICE["cap_drop"]
    assert ["no-new-privileges:true"] == SERVICE["security_opt"]
    assert "ports" not in SERVICE  # the console is plain HTTP, on loopback


def test_commands_of_compose_leave_private_keys() -> None:
    """`docker compose down --volumes` leaves the external volume. Secrets stay out of the
    environment, which `docker inspect` shows.
    """
    assert {"state": {"name": "certferry", "external": True}} == CONTENTS["volumes"]
    assert not {"env_file", "environment"} & {*SERVICE}


def _nanoseconds(duration: str) -> int:
    return int(duration.removesuffix("s")) * SECOND
