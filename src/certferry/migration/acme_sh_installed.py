"""What follows a renewal by acme.sh, as a certificate's notes tell: copies, and what is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from certferry.migration import deploy_hook
from certferry.migration.home import Installed
from certferry.migration.reading import access_to

_OTHER_COPIES = ("Le_RealCertPath", "Le_RealCACertPath")
_COMMANDS = ("Le_PreHook", "Le_PostHook", "Le_RenewHook")

_PLACES = ("DOMAIN_PATH", "LE_WORKING_DIR", "LE_CONFIG_HOME", "CERT_HOME", ".acme.sh", "./")
_VARIABLES = ("CERT_PATH", "CERT_KEY_PATH", "CERT_FULLCHAIN_PATH", "Le_Domain")
"""What shows that a command depends on where acme.sh runs it, and on what it exports there."""


def installed_by(conf: Mapping[str, str], directory: Path, domain: str) -> Installed:
    """Read the notes of one certificate, which acme.sh keeps in this directory."""
    fullchain, privkey = conf.get("Le_RealFullChainPath", ""), conf.get("Le_RealKeyPath", "")
    others = tuple(conf[name] for name in _OTHER_COPIES if conf.get(name))
    if not (fullchain.startswith("/") and privkey.startswith("/")):
        # Below the directory in which acme.sh was called, which it does not write down.
        others = (*filter(None, (fullchain, privkey)), *others)
        fullchain = privkey = ""
    reload, hooks = conf.get("Le_ReloadCmd", ""), tuple(_hooks(conf))
    if _depends_on_its_place(reload, directory, domain):
        reload, hooks = "", (reload, *hooks)
    return Installed(
        _real(fullchain),
        _real(privkey),
        reload,
        others=others,
        hooks=hooks,
        access=access_to(fullchain, privkey),
    )


def _real(path: str) -> str:
    """Give a copy's path by its real directory, which may be written in several ways."""
    return str(Path(path).parent.resolve() / Path(path).name) if path else ""


def _hooks(conf: Mapping[str, str]) -> Iterator[str]:
    deployed = conf.get("Le_DeployHook", "").split(",")
    yield from (name for name in deployed if name and name != deploy_hook.PLACE.stem)
    yield from (conf[name] for name in _COMMANDS if conf.get(name))


def _depends_on_its_place(command: str, directory: Path, domain: str) -> bool:
    """Tell whether a reload command uses acme.sh's own files, which are renewed no more, or its
    variables: it is run in the directory where they lie.
    """
    files = ("fullchain.cer", "ca.cer", f"{domain}.cer", f"{domain}.key", str(directory))
    return any(word in command for word in (*files, *_PLACES, *_VARIABLES))
