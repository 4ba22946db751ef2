"""Read the home of acme.sh 3. The shell assignments there are parsed, never executed."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from certferry.core.desired.certificate import PemFiles
from certferry.core.redaction import Secret
from certferry.errors import CertificateError, ConfigError, system_words
from certferry.file_trust import NotTrusted, must_be_trusted
from certferry.migration import home as old_home
from certferry.ports.source import CertificateSource
from certferry.text import Text
from certferry.whole_file import replace_file

_ECC = "_ecc"
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_BASE64 = re.compile(r"__ACME_BASE64__START_(.*)__ACME_BASE64__END_", re.DOTALL)

_OTHER_COPIES = ("Le_RealCertPath", "Le_RealCACertPath")
_COMMANDS = ("Le_PreHook", "Le_PostHook", "Le_RenewHook")

_PLACES = ("DOMAIN_PATH", "LE_WORKING_DIR", "LE_CONFIG_HOME", "CERT_HOME", ".acme.sh", "./")
_VARIABLES = ("CERT_PATH", "CERT_KEY_PATH", "CERT_FULLCHAIN_PATH", "Le_Domain")
"""A command that contains one of these words needs acme.sh's variables. A command that contains one
of `_PLACES` needs acme.sh's directory.
"""


class _Entry(Struct, frozen=True):
    """A directory of acme.sh's home for one certificate, with a `.conf` named after the domain."""

    #: The directory.
    directory: Path
    #: The name that the certificate gets in certferry.
    lineage: str

    @property
    def domain(self) -> str:
        return self.directory.name.removesuffix(_ECC)

    @property
    def conf(self) -> Path:
        return self.directory / f"{self.domain}.conf"


def default_home(environ: Mapping[str, str], home: Path) -> Path:
    """Return acme.sh's default directory for a user with the home directory `home`."""
    chosen = environ.get("LE_WORKING_DIR")
    return Path(chosen) if chosen else home / ".acme.sh"


def read(
    home: Path, usual: Path, source: CertificateSource, variables: Mapping[str, str]
) -> old_home.OldHome:
    """Read acme.sh's home. `usual` is acme.sh's default directory. `variables` maps certferry's
    environment variable of a key to the variable of acme.sh's hooks.

    Raise `ConfigError` if `home` is absent or unreadable.
    """
    entries = list(_entries(home.absolute()))
    read_one = partial(_read, source, _program(home, usual))
    certificates, unreadable = old_home.each(entries, lambda entry: entry.directory.name, read_one)
    noted = [_noted(path) for path in (home / "account.conf", *(entry.conf for entry in entries))]
    return old_home.OldHome(
        client=old_home.OldClient.ACME_SH,
        home=str(home),
        certificates=certificates,
        unreadable=unreadable,
        keys=dict(_keys(noted, variables)),
        email=next((v["ACCOUNT_EMAIL"] for v in noted if v.get("ACCOUNT_EMAIL")), None),
    )


def parse_conf(text: str) -> dict[str, str]:
    """Return the values that a `.conf` assigns, by name, and skip other lines. If a name is
    assigned twice, the last assignment counts.
    """
    assignments = filter(None, map(_ASSIGNMENT.fullmatch, text.split("\n")))
    return {
        assignment[1]: _decoded(old_home.unquoted(assignment[2].strip()))
        for assignment in assignments
    }


def _decoded(value: str) -> str:
    match = _BASE64.fullmatch(value)
    if match is None:
        return value
    try:
        decoded = base64.b64decode(match[1], validate=True).decode()
    except ValueError:
        return ""
    return "" if "\0" in decoded else decoded


def _entries(home: Path) -> Iterator[_Entry]:
    """Yield each directory with a `.conf` named after the domain.

    A domain may have two directories; the directory of an ECDSA certificate has the suffix `_ecc`.
    """
    taken: set[str] = set()
    for path in old_home.children(home):
        domain = path.name.removesuffix(_ECC)
        if _may_be_file(path / f"{domain}.conf"):
            both = path.name != domain and _may_be_file(home / domain / f"{domain}.conf")
            yield _Entry(path, old_home.lineage_of(path.name if both else domain, taken))


def _may_be_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # reading the file will report the error
        return True


def _read(
    source: CertificateSource, program: tuple[str, ...], entry: _Entry
) -> old_home.OldCertificate:
    conf = parse_conf(old_home.text_of(entry.conf))
    if not conf.get("Le_Domain"):
        raise CertificateError(Text("{path}: contains no domain", path=entry.conf))
    # acme.sh's `--revoke` leaves this file, and removes the leaf's file. The next issuance writes
    # the leaf's file again.
    revoked = entry.directory / f"{entry.domain}.key.revoked"
    if revoked.exists() and not (entry.directory / f"{entry.domain}.cer").exists():
        raise CertificateError(Text("the certificate has been revoked"))
    fullchain = entry.directory / "fullchain.cer"
    if not fullchain.exists():
        raise CertificateError(Text("no certificate has been issued yet"))
    files = PemFiles(str(fullchain), str(entry.directory / f"{entry.domain}.key"))
    ecc = ["--ecc"] if entry.directory.name.endswith(_ECC) else []
    return old_home.OldCertificate(
        lineage=entry.lineage,
        bundle=old_home.bundle_in(files, source),
        files=files,
        stop=shlex.join(
            [*old_home.as_owner_of(entry.conf), *program, "--remove", "-d", entry.domain, *ecc]
        ),
        directory=conf.get("Le_API", ""),
        installed=installed_by(conf, entry.directory, entry.domain),
        doubt=old_home.doubt_about(entry.conf),
    )


def _program(home: Path, usual: Path) -> tuple[str, ...]:
    """Return the first words of a command that runs acme.sh: the program in `home`, if there, or
    else `acme.sh` from the PATH. Add the option `--home` unless `home` is the default directory.
    """
    own = home.absolute() / "acme.sh"
    words = (str(own),) if own.is_file() else ("acme.sh",)
    is_usual = home.resolve() == usual.resolve()
    return words if is_usual else (*words, "--home", str(home.absolute()))


def _noted(path: Path) -> dict[str, str]:
    try:
        return parse_conf(old_home.text_of(path))
    except CertificateError:
        return {}


def _keys(
    noted: list[dict[str, str]], variables: Mapping[str, str]
) -> Iterator[tuple[str, Secret]]:
    for variable, theirs in variables.items():
        # acme.sh stores some variables with the prefix `SAVED_`, others without the prefix.
        names = (f"SAVED_{theirs}", theirs)
        value = next((v[name] for v in noted for name in names if v.get(name)), "")
        if value and value.isprintable():
            yield variable, Secret(value)


def installed_by(conf: Mapping[str, str], directory: Path, domain: str) -> old_home.Installed:
    """Return the copies and commands that `conf` notes for a certificate. `directory` is the
    certificate's directory in acme.sh's home.
    """
    fullchain, privkey = conf.get("Le_RealFullChainPath", ""), conf.get("Le_RealKeyPath", "")
    others = tuple(conf[name] for name in _OTHER_COPIES if conf.get(name))
    if not (fullchain.startswith("/") and privkey.startswith("/")):
        # A relative path starts at the directory where acme.sh was called, which acme.sh does not
        # note.
        others = (*filter(None, (fullchain, privkey)), *others)
        fullchain = privkey = ""
    deployed = conf.get("Le_DeployHook", "").split(",")
    hooks = [name for name in deployed if name and name != PLACE.stem]
    hooks += [conf[name] for name in _COMMANDS if conf.get(name)]
    reload = conf.get("Le_ReloadCmd", "")
    # A command with one of these words needs acme.sh's variables, which certferry does not set, or
    # acme.sh's files, which are no longer renewed.
    files = ("fullchain.cer", "ca.cer", f"{domain}.cer", f"{domain}.key", str(directory))
    if any(word in reload for word in (*files, *_PLACES, *_VARIABLES)):
        reload, hooks = "", [reload, *hooks]
    access = old_home.access_to(fullchain, privkey)
    return old_home.Installed(
        _real(fullchain), _real(privkey), reload, others, tuple(hooks), access
    )


def _real(path: str) -> str:
    """Return a copy's path with symbolic links in the directory resolved, so that equal directories
    have equal paths.
    """
    return str(Path(path).parent.resolve() / Path(path).name) if path else ""


PLACE = Path("deploy") / "certferry.sh"

_AT_HOME = ("account.conf", "acme.sh")
"""Files that show that a directory is acme.sh's home. acme.sh's installer makes both files; with a
distribution's package, a home has only the first.
"""

_HOOK = """\
#!/usr/bin/env sh

# Written by `certferry hook acme.sh --install`, which writes it anew.
# acme.sh --deploy -d NAME --deploy-hook certferry

#domain keyfile certfile cafile fullchain
certferry_deploy() {
  export Le_Domain="$1" CERT_KEY_PATH="$2" CERT_PATH="$3" CA_CERT_PATH="$4" CERT_FULLCHAIN_PATH="$5"
  # What acme.sh's own hook for the service has saved with the domain, if that was in use.
  export %s

  %s
}
"""
_AS_ITS_USER = Text("run the command as acme.sh's user")
_MODE = 0o644  # acme.sh sources the file instead of executing it, and the file is free of secrets


def install(home: Path, command: Sequence[str], exported: Sequence[str]) -> tuple[Path, bool]:
    """Write acme.sh's deploy hook, which exports the variables named in `exported` and runs
    `command`. Return the hook's path, and whether the file changed. Raise `ConfigError` if `home`
    is no home of acme.sh, or the file cannot be written.
    """
    if not any((home / name).is_file() for name in _AT_HOME):
        raise ConfigError(
            Text("{home}: no acme.sh found there (no account.conf)", home=home),
            hint=Text("set acme.sh's home, the directory with account.conf: --home DIR"),
        )
    path = home / PLACE
    content = (_HOOK % (" ".join(exported), shlex.join(command))).encode()
    try:
        if path.is_file() and path.read_bytes() == content:
            return path, False
        must_be_trusted(home, makes_files=True)
        path.parent.mkdir(exist_ok=True)
        must_be_trusted(path.parent, makes_files=True)
        replace_file(path, content, _MODE)
    except NotTrusted as error:
        # Another user could replace the directory by a link, and certferry, perhaps as root, would
        # write somewhere else.
        problem = Text("{path} {problem}", path=error.path, problem=error.problem)
        raise ConfigError(problem, hint=_AS_ITS_USER) from error
    except OSError as error:
        message = Text("{path} cannot be written: {problem}")
        problem = message.filled(path=path, problem=system_words(error))
        raise ConfigError(problem, hint=_AS_ITS_USER) from error
    return path, True
