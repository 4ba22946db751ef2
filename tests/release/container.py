"""A container of the image, as runc runs it."""

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
from tests.support.waiting import Logged

LONGEST = 100  # seconds
OWN_TMP = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
_OF_ANOTHER_RUNTIME = {"network", "cgroup"}
"""Namespaces that a container here has not: it reaches the world on loopback."""


@dataclass(frozen=True)
class Image:
    """An image, unpacked by a program that did not make it."""

    archive: Path
    folder: Path

    @classmethod
    def unpack(cls, archive: Path, folder: Path) -> Image:
        """Unpack an archive by umoci."""
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # none in Python 3.11.2
            tar.extractall(folder / "layout")  # noqa: S202 - made by this project
        layout = folder / "layout"
        [entry] = json.loads((layout / "index.json").read_text())["manifests"]
        tag = entry["annotations"]["org.opencontainers.image.ref.name"]
        command = ["umoci", "unpack", "--image", f"{layout}:{tag}", str(folder / "bundle")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return cls(archive, folder)

    @property
    def root(self) -> Path:
        """The root of its files."""
        return self.folder / "bundle" / "rootfs"

    @property
    def bundle(self) -> Any:
        """What a runtime is to start, as umoci reads it from the image."""
        return json.loads((self.folder / "bundle" / "config.json").read_text())

    @property
    def config(self) -> Any:
        """The image's own configuration, as skopeo reads it."""
        command = ["skopeo", "inspect", "--config", "--raw", f"oci-archive:{self.archive}"]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@dataclass
class Container:
    """How containers of the image are started: as the manifests say, with a root that is read-only,
    no capability, `/tmp` in memory, and the folders of a configuration and of a state.
    """

    image: Image
    folder: Path
    config: Path
    state: Path | None
    environ: Mapping[str, str] = field(default_factory=dict)
    writes_configuration: bool = False

    def take(self, written: Path) -> None:
        """Take the configuration of a machine, which lies in a folder there, with a console at a
        port of its own; and a state that the image's user may write.
        """
        self.config.chmod(0o755)
        for file in written.glob("*.pem"):
            shutil.copy(file, self.config)
        text = (written / "certferry.toml").read_text(encoding="utf-8")
        text = re.sub(r'"sqlite:///.*"', f'"sqlite:///{STATE}/state.db"', text)
        console = f'[console]\nlisten = "{HOST}:{free_port()}"\n'
        self.file.write_text(text.replace("[acme]", f"{console}[acme]", 1), encoding="utf-8")
        for file in self.config.iterdir():
            file.chmod(0o644)
        if self.state is not None:
            os.chown(self.state, UID, UID)

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.config / "certferry.toml"

    def run(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> Ended:
        """Run a container to its end; without arguments, what the image begins by default."""
        with self.begin(*arguments, entrypoint=entrypoint) as running:
            return running.ended()

    @contextmanager
    def begin(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> Iterator[Running]:
        """Run a container for a `with` block."""
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
        made = self.image.bundle
        of_image = self.image.config["config"]
        words = [*(of_image["Entrypoint"] if entrypoint is None else entrypoint)]
        words += arguments or of_image["Cmd"]
        process = made["process"]
        process |= {"terminal": False, "args": words, "capabilities": {}}
        process["env"] += [f"{name}={value}" for name, value in self.environ.items()]
        made["root"] = {"path": str(self.image.root), "readonly": True}
        mode = "rw" if self.writes_configuration else "ro"
        mounts = [one for one in made["mounts"] if one["destination"] != STATE]
        made["mounts"] = [*mounts, OWN_TMP, _bound(self.config, CONFIG, mode)]
        if self.state is not None:
            made["mounts"].append(_bound(self.state, STATE, "rw"))
        spaces = made["linux"]["namespaces"]
        made["linux"]["namespaces"] = [
            one for one in spaces if one["type"] not in _OF_ANOTHER_RUNTIME
        ]
        return made


def _bound(folder: Path, to: str, mode: str) -> Mapping[str, Any]:
    options = ["rbind", mode, "nosuid", "nodev"]
    return {"destination": to, "type": "bind", "source": str(folder), "options": options}


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    code: int
    said: str


@dataclass(frozen=True)
class Running(Logged):
    """A container that runs."""

    name: str

    def execute(self, *command: str) -> Ended:
        """Run another command in it."""
        done = subprocess.run(
            ["runc", "exec", self.name, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    def send(self, number: int) -> None:
        """Send its first process a signal, as `docker stop` and Kubernetes do."""
        subprocess.run(
            ["runc", "kill", self.name, signal.Signals(number).name.removeprefix("SIG")], check=True
        )

    def ended(self) -> Ended:
        """Wait for its end."""
        return Ended(self.process.wait(LONGEST), self.said)
