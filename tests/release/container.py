"""Containers of the image, started by runc."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from release.image import CONFIG, STATE, UID
from tests.support.ports import HOST, free_port
from tests.support.programs import program_path
from tests.support.waiting import Logged

LONGEST = 100  # seconds
OWN_TMP = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
_OF_ANOTHER_RUNTIME = {"network", "cgroup"}
"""Namespaces that the containers share with the host, so that they reach the world on loopback."""


@dataclass(frozen=True)
class Image:
    """The image, unpacked by umoci."""

    archive: Path
    folder: Path

    @classmethod
    def unpack(cls, archive: Path, folder: Path) -> Image:
        """Unpack an archive with umoci."""
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # none in Python 3.11.2
            tar.extractall(folder / "layout")  # noqa: S202 - made by this project
        layout = folder / "layout"
        [entry] = json.loads((layout / "index.json").read_text())["manifests"]
        tag = entry["annotations"]["org.opencontainers.image.ref.name"]
        for program in ("umoci", "skopeo", "runc"):
            program_path(program)
        command = ["umoci", "unpack", "--image", f"{layout}:{tag}", str(folder / "bundle")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return cls(archive, folder)

    @property
    def root(self) -> Path:
        """The root folder of the unpacked files."""
        return self.folder / "bundle" / "rootfs"

    @property
    def bundle(self) -> Any:
        """The configuration for a runtime, as umoci derives the configuration from the image."""
        return json.loads((self.folder / "bundle" / "config.json").read_text())

    @property
    def config(self) -> Any:
        """The image's own configuration, as skopeo prints the configuration."""
        command = ["skopeo", "inspect", "--config", "--raw", f"oci-archive:{self.archive}"]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@dataclass
class Container:
    """Starts containers of the image with the settings of the manifests: a read-only root, no
    capabilities, `/tmp` in memory, and mounted folders for the configuration and the state.
    """

    image: Image
    folder: Path
    config: Path
    state: Path | None
    environ: Mapping[str, str] = field(default_factory=dict)
    writes_configuration: bool = False

    def take(self, folder: Path) -> None:
        """Copy a host's configuration, from `folder`, with a free port for the console, and let the
        image's user write the state.
        """
        self.config.chmod(0o755)
        for file in folder.glob("*.pem"):
            shutil.copy(file, self.config)
        text = (folder / "certferry.toml").read_text(encoding="utf-8")
        text = re.sub(r'"sqlite:///.*"', f'"sqlite:///{STATE}/state.db"', text)
        console = f'[console]\nlisten = "{HOST}:{free_port()}"\n'
        self.file.write_text(text.replace("[acme]", f"{console}[acme]", 1), encoding="utf-8")
        for file in self.config.iterdir():
            file.chmod(0o644)
        if self.state is not None:
            os.chown(self.state, UID, UID)

    @property
    def file(self) -> Path:
        """The path of the configuration file."""
        return self.config / "certferry.toml"

    def run(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> Ended:
        """Run a container to the end; the default command is the image's."""
        with self.begin(*arguments, entrypoint=entrypoint) as running:
            return running.ended()

    @contextmanager
    def begin(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> Iterator[Running]:
        """Run a container during a `with` block."""
        name = f"certferry-{uuid.uuid4().hex[:12]}"
        bundle = self.folder / name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self._bundle(arguments, entrypoint)))
        log = bundle / "log"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["runc", "run", "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield Running(process, log, name)
        finally:
            subprocess.run(["runc", "delete", "--force", name], capture_output=True, check=False)
            process.wait(LONGEST)

    def _bundle(self, arguments: Sequence[str], entrypoint: Sequence[str] | None) -> Any:
        bundle_config = self.image.bundle
        of_image = self.image.config["config"]
        words = [*(of_image["Entrypoint"] if entrypoint is None else entrypoint)]
        words += arguments or of_image["Cmd"]
        process = bundle_config["process"]
        process |= {"terminal": False, "args": words, "capabilities": {}}
        process["env"] += [f"{name}={value}" for name, value in self.environ.items()]
        bundle_config["root"] = {"path": str(self.image.root), "readonly": True}
        mode = "rw" if self.writes_configuration else "ro"
        mounts = [mount for mount in bundle_config["mounts"] if mount["destination"] != STATE]
        bundle_config["mounts"] = [*mounts, OWN_TMP, _bound(self.config, CONFIG, mode)]
        if self.state is not None:
            bundle_config["mounts"].append(_bound(self.state, STATE, "rw"))
        spaces = bundle_config["linux"]["namespaces"]
        bundle_config["linux"]["namespaces"] = [
            space for space in spaces if space["type"] not in _OF_ANOTHER_RUNTIME
        ]
        return bundle_config


def _bound(folder: Path, to: str, mode: str) -> Mapping[str, Any]:
    options = ["rbind", mode, "nosuid", "nodev"]
    return {"destination": to, "type": "bind", "source": str(folder), "options": options}


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a container or a command."""

    code: int
    output: str


@dataclass(frozen=True)
class Running(Logged):
    """A running container."""

    name: str

    def execute(self, *command: str) -> Ended:
        """Run another command in the container."""
        process = subprocess.run(
            ["runc", "exec", self.name, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        return Ended(process.returncode, process.stdout)

    def send(self, number: int) -> None:
        """Send a signal to the container's first process, as `docker stop` and Kubernetes do."""
        subprocess.run(
            ["runc", "kill", self.name, signal.Signals(number).name.removeprefix("SIG")], check=True
        )

    def ended(self) -> Ended:
        """Wait until the container ends."""
        return Ended(self.process.wait(LONGEST), self.output)
