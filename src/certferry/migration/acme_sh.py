"""The directory of acme.sh: `NAME/NAME.conf` for each certificate, `account.conf` for all.

Files are what acme.sh 3 writes: assignments of a shell, each value in single quotes, some of them
in base64 between two marks. They are read, and never executed.
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certferry.core.desired import PemFiles
from certferry.core.secret import Secret
from certferry.errors import CertificateError
from certferry.migration.acme_sh_installed import installed_by
from certferry.migration.home import OldCertificate, OldClient, OldHome
from certferry.migration.reading import (
    bundle_in,
    children,
    command,
    each,
    is_same,
    lineage_of,
    text_of,
    unquoted,
)
from certferry.ports.source import CertificateSource
from certferry.text import Text

SCHEDULED = re.compile(r"acme\.sh\b.*--cron\b")
"""What a line that starts it looks like."""

HOME_OPTIONS = ("--config-home", "LE_CONFIG_HOME", "--home", "LE_WORKING_DIR")
"""What names its directory there, the first before the others."""

_ECC = "_ecc"
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_BASE64 = re.compile(r"__ACME_BASE64__START_(.*)__ACME_BASE64__END_", re.DOTALL)

_KEYS: Mapping[str, tuple[str, ...]] = {
    "DP_Id": ("SAVED_DP_Id", "DP_Id"),
    "DP_Key": ("SAVED_DP_Key", "DP_Key"),
    "QINIU_ACCESS_KEY": ("SAVED_QINIU_AK", "QINIU_AK"),
    "QINIU_SECRET_KEY": ("SAVED_QINIU_SK", "QINIU_SK"),
}
"""certferry's variables, and where the DNSPod hook and the Qiniu hook of acme.sh keep them."""


@dataclass(frozen=True, slots=True)
class _Entry:
    directory: Path
    lineage: str

    @property
    def domain(self) -> str:
        return self.directory.name.removesuffix(_ECC)

    @property
    def conf(self) -> Path:
        return self.directory / f"{self.domain}.conf"


def default_home(environ: Mapping[str, str], home: Path) -> Path:
    """Give the directory that acme.sh itself would use, in `home`, the user's."""
    chosen = environ.get("LE_CONFIG_HOME") or environ.get("LE_WORKING_DIR")
    return Path(chosen) if chosen else home / ".acme.sh"


def read(home: Path, usual: Path, source: CertificateSource) -> OldHome:
    """Read everything. `usual` is the directory that acme.sh uses when it is told nothing.

    Raises `ConfigError` when there is no such directory.
    """
    entries = list(_entries(home.absolute()))
    program = _program(home, usual)
    found, unreadable = each(entries, lambda e: e.directory.name, partial(_read, program, source))
    confs = [home / "account.conf", *(entry.conf for entry in entries)]
    noted = [values for path in confs if (values := _noted(path))]
    return OldHome(
        client=OldClient.ACME_SH,
        home=str(home),
        certificates=found,
        unreadable=unreadable,
        stop=(command(*program, "--uninstall-cronjob"),) if is_same(home, usual) else (),
        stop_takes_others=True,  # every line of the crontab that runs any acme.sh
        keys=dict(_keys(noted)),
        email=next((v["ACCOUNT_EMAIL"] for v in noted if v.get("ACCOUNT_EMAIL")), None),
    )


def parse_conf(text: str) -> dict[str, str]:
    """Read assignments; the last one of a name counts. What is none is passed over."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        found = _ASSIGNMENT.fullmatch(line)
        if found is not None:
            values[found[1]] = _decoded(unquoted(found[2].strip()))
    return values


def _decoded(value: str) -> str:
    found = _BASE64.fullmatch(value)
    if found is None:
        return value
    try:
        return base64.b64decode(found[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _entries(home: Path) -> Iterator[_Entry]:
    """Find the directories of certificates: each holds a `.conf` of its own name."""
    taken: set[str] = set()
    for path in children(home):
        domain = path.name.removesuffix(_ECC)
        if _may_be_file(path / f"{domain}.conf"):
            both = path.name != domain and _may_be_file(home / domain / f"{domain}.conf")
            yield _Entry(path, lineage_of(path.name if both else domain, taken))


def _may_be_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:  # told where it is read
        return True
    except OSError:
        return False


def _read(program: tuple[str, ...], source: CertificateSource, entry: _Entry) -> OldCertificate:
    conf = parse_conf(text_of(entry.conf))
    if not conf.get("Le_Domain"):
        raise CertificateError(Text("{path}: names no domain", path=entry.conf))
    if _is_revoked(entry):
        raise CertificateError(Text("it has been revoked"))
    fullchain = entry.directory / "fullchain.cer"
    if not fullchain.exists():
        raise CertificateError(Text("no certificate has been issued for it yet"))
    files = PemFiles(str(fullchain), str(entry.directory / f"{entry.domain}.key"))
    ecc = ["--ecc"] if entry.directory.name.endswith(_ECC) else []
    return OldCertificate(
        lineage=entry.lineage,
        bundle=bundle_in(files, source),
        files=files,
        stop=command(*program, "--remove", "-d", entry.domain, *ecc),
        directory=conf.get("Le_API", ""),
        proven_by=conf.get("Le_Webroot", ""),
        installed=installed_by(conf, entry.directory, entry.domain),
    )


def _is_revoked(entry: _Entry) -> bool:
    """Tell whether `--revoke` was the last thing that happened to it: that takes away the leaf's
    file, and leaves all others; what is issued next brings it back.
    """
    revoked = entry.directory / f"{entry.domain}.key.revoked"
    return revoked.exists() and not (entry.directory / f"{entry.domain}.cer").exists()


def _program(home: Path, usual: Path) -> tuple[str, ...]:
    """Give how acme.sh is called: it is installed into its home, or by a distribution."""
    own = home.absolute() / "acme.sh"
    words = (str(own),) if own.is_file() else ("acme.sh",)
    return words if is_same(home, usual) else (*words, "--home", str(home.absolute()))


def _noted(path: Path) -> dict[str, str]:
    try:
        return parse_conf(text_of(path))
    except CertificateError:
        return {}


def _keys(noted: list[dict[str, str]]) -> Iterator[tuple[str, Secret]]:
    for variable, names in _KEYS.items():
        value = next((v[name] for v in noted for name in names if v.get(name)), "")
        if value and value.isprintable():
            yield variable, Secret(value)
