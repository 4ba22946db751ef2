"""Read the home of certbot: the settings of each certificate in `renewal/NAME.conf`, the PEM files
in `live/NAME/`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from certferry.core.desired.certificate import PemFiles
from certferry.errors import CertificateError
from certferry.migration import home as old_home
from certferry.ports.source import CertificateSource
from certferry.text import Text

_HOOKS = ("pre_hook", "renew_hook", "post_hook")
_SETTING = re.compile(r"[ \t]*([\w.:-]+)[ \t]*=[ \t]*(.*?)[ \t]*")


def default_home(environ: Mapping[str, str], home: Path) -> Path:
    """Return certbot's own default directory."""
    del environ, home
    return Path("/etc/letsencrypt")


def read(home: Path, usual: Path, source: CertificateSource) -> old_home.OldHome:
    """Read certbot's home. Raise `ConfigError` if the directory `renewal` is absent or unreadable,
    or if a directory of hooks is unreadable.
    """
    del usual
    confs = [
        path for path in old_home.children(home.absolute() / "renewal") if path.suffix == ".conf"
    ]
    read_one = partial(_read, source, tuple(_hooks_of_all(home.absolute())), set())
    certificates, unreadable = old_home.each(confs, lambda conf: conf.name, read_one)
    return old_home.OldHome(old_home.OldClient.CERTBOT, str(home), certificates, unreadable)


def parse_renewal(text: str) -> dict[str, str]:
    """Return the settings of a renewal file by key. Sections are ignored, because no key occurs in
    two sections.
    """
    matches = (_SETTING.fullmatch(line) for line in text.split("\n"))
    return {setting[1]: old_home.unquoted(setting[2]) for setting in matches if setting is not None}


def _hooks_of_all(home: Path) -> Iterator[str]:
    """Yield the paths of the hooks that certbot runs for every certificate."""
    for kind in ("pre", "deploy", "post"):
        directory = home / "renewal-hooks" / kind
        for path in old_home.children(directory) if directory.is_dir() else ():
            if path.is_file() and os.access(path, os.X_OK) and not path.name.endswith("~"):
                yield str(path)


def _read(
    source: CertificateSource, hooks_of_all: tuple[str, ...], taken: set[str], conf: Path
) -> old_home.OldCertificate:
    settings = parse_renewal(old_home.text_of(conf))
    for key in ("fullchain", "privkey"):
        if not settings.get(key):
            raise CertificateError(Text("{path}: lacks {key}", path=conf, key=key))
    files = PemFiles(*(str(conf.parent / settings[key]) for key in ("fullchain", "privkey")))
    hooks = [settings[key] for key in _HOOKS if settings.get(key, "None") not in {"", "None"}]
    return old_home.OldCertificate(
        lineage=old_home.lineage_of(conf.stem, taken),
        bundle=old_home.bundle_in(files, source),
        files=files,
        # certbot reads *.conf only, so renaming the file ends the renewals of this certificate. The
        # alternatives are worse. `reconfigure --no-autorenew` needs certbot 2.3. The timer renews
        # all certificates, and has another name in each package.
        stop=shlex.join(["mv", str(conf), f"{conf}.off"]),
        directory=settings.get("server", ""),
        installed=old_home.Installed(hooks=(*hooks, *hooks_of_all)),
    )
