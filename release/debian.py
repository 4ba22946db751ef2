"""The package for Debian 12 and 13 and Ubuntu 24.04: one file, which brings its own libraries for
the Python of each (`docs/decisions/0049-the-package.md`).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from certferry.adapters.schedule import systemd
from certferry.core.schedule import Job
from release import Release, libraries, manuals, run_tool

PYTHONS = ("3.11", "3.12", "3.13")
"""Of Debian 12, Ubuntu 24.04 and Debian 13; what is compiled for one is named for it."""
_DATA = "release/debian"
_SCRIPTS = ("config", "preinst", "postinst", "prerm", "postrm")
_PLACES = {
    "certferry": "usr/bin/certferry",
    "certferry.toml": "usr/share/certferry/certferry.toml",
    "logrotate": "etc/logrotate.d/certferry",
    "copyright": "usr/share/doc/certferry/copyright",
    "README.Debian": "usr/share/doc/certferry/README.Debian",
    "lintian-overrides": "usr/share/lintian/overrides/certferry",
}
"""Where each file of `_DATA` goes."""


def make(release: Release) -> tuple[Path, ...]:
    """Make the package from the wheel in `dist`. Raises `CalledProcessError`."""
    root = release.work / "debian"
    _put_libraries(release, root / "opt" / "certferry" / "package")
    _put_data(release, root)
    _put_manuals(release, root)
    for name, text in units().items():
        _write(root / systemd.PACKAGE_UNITS.relative_to("/") / name, text)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    _put_control(release, root)
    package = release.dist / f"certferry_{release.version}-1_amd64.deb"
    for path in (*root.rglob("*"), root):
        os.utime(path, (release.epoch, release.epoch), follow_symlinks=False)
    run_tool(
        # One thread: what xz writes depends on whether there are several.
        [
            *("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1"),
            *("--build", root, package),
        ],
        environ={**os.environ, "SOURCE_DATE_EPOCH": str(release.epoch)},
        stdout=subprocess.DEVNULL,
    )
    return (package,)


def _put_libraries(release: Release, to: Path) -> None:
    """Put certferry and its libraries for every Python into one folder."""
    for python in PYTHONS:
        part = release.work / f"libraries-{python}"
        libraries.install(release, part, python)
        merge(part, to)


def merge(part: Path, to: Path) -> None:
    """Add the libraries of one Python to those of others, without the lists of a wheel's files,
    which differ. Raises `ValueError` where a file that is imported is not the same for both.
    """
    for path in sorted(part.rglob("*")):
        name = path.relative_to(part)
        place = to / name
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif name.match("*.dist-info/RECORD"):
            continue
        elif not place.exists():
            shutil.copyfile(path, place)
        elif ".dist-info" not in name.parts[0] and place.read_bytes() != path.read_bytes():
            raise ValueError(f"{name} differs from Python to Python")


def _put_data(release: Release, root: Path) -> None:
    for name, place in _PLACES.items():
        _write(root / place, (release.tree / _DATA / name).read_text(encoding="utf-8"))
    date = datetime.fromtimestamp(release.epoch, UTC)
    _zip(
        root / "usr/share/doc/certferry/changelog.Debian.gz",
        f"certferry ({release.version}-1) stable; urgency=medium\n\n  * Version"
        f" {release.version}: see changelog.gz.\n\n"
        f" -- {_maintainer(release)}  {date:%a, %d %b %Y %H:%M:%S} +0000\n",
    )
    changes = (release.tree / "CHANGELOG.md").read_text(encoding="utf-8")
    _zip(root / "usr/share/doc/certferry/changelog.gz", changes)


def _put_manuals(release: Release, root: Path) -> None:
    share = root / "usr" / "share"
    manuals.write_manuals(release.tree, share / "man", release.epoch)
    manuals.write_completions(release.tree, share)
    for page in (share / "man").rglob("*.[1-9]"):
        _zip(page.with_name(f"{page.name}.gz"), page.read_text(encoding="utf-8"))
        page.unlink()


def _put_control(release: Release, root: Path) -> None:
    data, to = release.tree / _DATA, root / "DEBIAN"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  " for path in files
    ]
    size = sum(path.stat().st_size for path in files) // 1024
    known = {"@VERSION@": release.version, "@SIZE@": str(size)}
    for name in ("control", "templates", "triggers", *_SCRIPTS):
        text = (data / name).read_text(encoding="utf-8")
        for word, meaning in known.items():
            text = text.replace(word, meaning)
        _write(to / name, text)
        (to / name).chmod(0o755 if name in _SCRIPTS else 0o644)
    _write(to / "conffiles", "/etc/logrotate.d/certferry\n")
    lines = (f"{one}{path.relative_to(root)}\n" for one, path in zip(sums, files, strict=True))
    _write(to / "md5sums", "".join(lines))


def units() -> dict[str, str]:
    """Return the units by their names: those of `certferry schedule install --systemd`, for the
    package's user, with the state and the log where the package has them.
    """
    words = (
        *("/usr/bin/certferry", "--config", "/etc/certferry/certferry.toml", "--quiet"),
        *("--log-file", "/var/log/certferry/certferry.log"),
    )
    timed = Job((*words, "sync", "--scheduled"), on_failure=(*words, "notify", "failed"))
    serving = Job((*words, "serve"), sockets=("/run/certferry",))
    services = {
        systemd.SERVICE: systemd.service_text(timed, for_system=True),
        systemd.FAILED: systemd.failed_text(timed, for_system=True),
        systemd.SERVER: systemd.server_text(serving, for_system=True),
    }
    own = {
        name: text.replace("[Service]\n", f"[Service]\n{_OWN}") for name, text in services.items()
    }
    own[systemd.TIMER] = systemd.TIMER_TEXT
    return {
        name: systemd.PACKAGE_MARK + text.removeprefix(systemd.MARK) for name, text in own.items()
    }


_OWN = """\
User=certferry
Group=certferry
StateDirectory=certferry
StateDirectoryMode=0700
LogsDirectory=certferry
LogsDirectoryMode=0750
"""


def _maintainer(release: Release) -> str:
    control = (release.tree / _DATA / "control").read_text(encoding="utf-8")
    return control.partition("Maintainer: ")[2].partition("\n")[0]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _zip(path: Path, text: str) -> None:
    """Write a file as Debian's policy has documents: by gzip's best, without a time in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
