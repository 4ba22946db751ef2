"""The image for containers (OCI image format 1.1), without a daemon: Debian's Python by mmdebstrap,
certferry and its libraries by uv, and around them the few documents that make them an image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shlex
import sys
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from release import Refused, Release, libraries, run_tool

NAME = "ghcr.io/certferry/certferry"
"""Where it is published, and how `docker load` calls it."""
SUITE, PYTHON = "trixie", "3.13"
"""Debian 13, and the Python that it has."""
ARCHITECTURE = "amd64"
UID = 10001
"""None of Debian's own users, which end at 999, and none that a host makes for people, from 1000 on
(debian.org/doc/debian-policy, "UID and GID classes", 2026-11). The manifests have it too."""
STATE, CONFIG = "/var/lib/certferry", "/etc/certferry"
SITE = f"/usr/local/lib/python{PYTHON}/dist-packages"
"""Where Debian's Python finds what is not Debian's."""
LIMIT = 150_000_000
"""Bytes of all files of the root."""

PACKAGES = ("python3", "ca-certificates", "tini", "tzdata")
NOT_NEEDED = (
    # Perl and debconf are asked while these are removed, so they come later.
    "libpam-runtime libpam-modules libpam-modules-bin libpam0g libaudit1 libcap-ng0 libdb5.3t64",
    "util-linux bsdutils libblkid1 libmount1 libsmartcols1 libudev1 sysvinit-utils",
    "ncurses-bin init-system-helpers",
    "debconf openssl openssl-provider-legacy perl-base",
)
"""Packages that no container needs: no user logs in, and nothing is installed there."""
DELETED = (
    "etc/apt",
    f"usr/lib/python{PYTHON}/lib-dynload/_dbm.*",  # needs libdb5.3, of NOT_NEEDED
    f"usr/lib/python{PYTHON}/lib-dynload/_test*",
    f"usr/lib/python{PYTHON}/pydoc_data",
    f"usr/lib/python{PYTHON}/test",
    "usr/lib/x86_64-linux-gnu/gconv",  # iconv(3)'s tables, of which Python has its own
    "usr/bin/tini-static",
    "var/cache/*",
    "var/lib/apt",
    "var/log/*",
)
OF_THE_MACHINE = ("etc/hostname", "etc/resolv.conf")
"""What mmdebstrap copies from the machine that it runs on, and each container has of its own."""
_NO_PAGES = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)

LAUNCHER = "#!/usr/bin/python3 -I\nfrom certferry.__main__ import begin\n\nbegin()\n"

_SECOND = 10**9
"""In the nanoseconds of Docker's image specification."""
_IMAGE = "application/vnd.oci.image"
_SITE = "https://github.com/certferry/certferry"


def make(release: Release) -> tuple[Path, ...]:
    """Make `certferry-VERSION-oci.tar`, which `docker load`, `podman load` and skopeo read. Raises
    `CalledProcessError`, and `Refused` for one that is too large.
    """
    root = _make_root(release).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(root)) as tar:
        size = sum(entry.size for entry in tar)
    print(f"   the root of the image has {size:,} bytes", file=sys.stderr)
    if size > LIMIT:
        raise Refused(f"the root of the image has {size:,} bytes, of {LIMIT:,}")
    made = release.dist / f"certferry-{release.version}-oci.tar"
    made.write_bytes(archive(release.version, release.epoch, root))
    return (made,)


# --- The root


def _make_root(release: Release) -> Path:
    """Return the root as a tar archive, the same bytes as long as Debian's archive is the same."""
    staged = _stage(release)
    made = release.work / "root.tar"
    command = ["mmdebstrap", "--quiet", "--variant=essential", f"--architectures={ARCHITECTURE}"]
    # Without gpg, Ubuntu's mmdebstrap does not find out that this is another archive's key.
    command += [f"--keyring={next(Path('/usr/share/keyrings').glob('debian-archive-keyring.*'))}"]
    command += [f"--include={','.join(PACKAGES)}", '--aptopt=Apt::Install-Recommends "false"']
    command += [f"--dpkgopt={option}" for option in _NO_PAGES]
    command += [f"--customize-hook={hook}" for hook in _hooks(staged)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(release.epoch)}
    run_tool([*command, SUITE, str(made)], environ=environ)
    return made


def _stage(release: Release) -> Path:
    """Return a folder with what is certferry's in the root."""
    staged = release.work / "image"
    libraries.install(release, staged / SITE[1:], PYTHON)
    launcher = staged / "usr" / "local" / "bin" / "certferry"
    launcher.parent.mkdir()
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    return staged


def _hooks(staged: Path) -> tuple[str, ...]:
    """Return what is done in the root (`$1`), in order."""
    user = f"certferry:x:{UID}:{UID}::{STATE}:/usr/sbin/nologin"
    forced = "--force-depends --force-remove-essential"
    compiling = f"-m compileall -q -x /pygments/ --invalidation-mode unchecked-hash {SITE}"
    return (
        f"copy-in {shlex.quote(str(staged / 'usr'))} /",
        'chroot "$1" chown -R 0:0 /usr/local && chroot "$1" chmod -R u=rwX,go=rX /usr/local',
        f'chroot "$1" python3 {compiling}',
        f'echo {user} >> "$1"/etc/passwd && echo certferry:x:{UID}: >> "$1"/etc/group',
        f'mkdir "$1"{CONFIG} && mkdir -m 0700 "$1"{STATE} && chown {UID}:{UID} "$1"{STATE}',
        *(f'chroot "$1" dpkg --purge {forced} {some} >/dev/null 2>&1' for some in NOT_NEEDED),
        'cd "$1" && rm -r ' + " ".join(DELETED),
        'cd "$1" && truncate --size=0 ' + " ".join(OF_THE_MACHINE),
    )


# --- The image


def config(version: str, epoch: int, layer: bytes) -> Mapping[str, Any]:
    """Return what a container is started with; `layer` is the root as a tar archive."""
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {
            "User": f"{UID}:{UID}",
            # tini is the process 1: it passes signals on, from the first moment, and ends
            # what commands of operators leave behind.
            "Entrypoint": ["tini", "-s", "--", "certferry"],
            "Cmd": ["serve"],
            "Env": [
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "LANG=C.UTF-8",
                f"HOME={STATE}",
                "XDG_DATA_HOME=/var/lib",  # so that the state is in the volume by default
            ],
            "WorkingDir": CONFIG,
            "Volumes": {STATE: {}},
            "StopSignal": "SIGTERM",
            "Labels": {
                f"org.opencontainers.image.{name}": value
                for name, value in {
                    "title": "certferry",
                    "description": "Let's Encrypt certificates by DNS-01, ferried to Qiniu CDN",
                    "version": version,
                    "created": created,
                    "licenses": "Apache-2.0",
                    "source": _SITE,
                    "url": _SITE,
                    "documentation": f"{_SITE}/blob/v{version}/docs/how-to/container.md",
                    "base.name": f"docker.io/library/debian:{SUITE}",
                }.items()
            },
            # Docker's own, which the OCI format leaves room for
            # (moby/docker-image-spec, specs-go/v1, 2026-11); Kubernetes has its probes.
            "Healthcheck": {
                "Test": ["CMD", "certferry", "console", "health"],
                "Interval": 60 * _SECOND,
                "Timeout": 15 * _SECOND,
                "StartPeriod": 60 * _SECOND,
                "Retries": 3,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created": created, "created_by": "scripts/release"}],
    }


def archive(version: str, epoch: int, root: bytes) -> bytes:
    """Return an image of one layer as an archive: the layout of OCI, and the one document with
    which an older `docker load` finds the same files.
    """
    layer = gzip.compress(root, mtime=0)
    settings = _json(config(version, epoch, root))
    described = {
        "schemaVersion": 2,
        "mediaType": f"{_IMAGE}.manifest.v1+json",
        "config": _descriptor("config.v1+json", settings),
        "layers": [_descriptor("layer.v1.tar+gzip", layer)],
    }
    manifest = _json(described)
    name = f"{NAME}:{version}"
    named = {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": name}
    entry = {**_descriptor("manifest.v1+json", manifest), "annotations": named}
    index = {"schemaVersion": 2, "mediaType": f"{_IMAGE}.index.v1+json", "manifests": [entry]}
    docker = [{"Config": _blob(settings), "RepoTags": [name], "Layers": [_blob(layer)]}]
    files = {_blob(one): one for one in (settings, layer, manifest)}
    files["index.json"] = _json(index)
    files["manifest.json"] = _json(docker)
    files["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    return _tar(files, epoch)


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {
        "mediaType": f"{_IMAGE}.{kind}",
        "digest": _digest(content),
        "size": len(content),
    }


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(content: bytes) -> str:
    return f"blobs/{_digest(content).replace(':', '/')}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(files: Mapping[str, bytes], epoch: int) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(files[name]), epoch
            tar.addfile(entry, io.BytesIO(files[name]))
    return written.getvalue()
