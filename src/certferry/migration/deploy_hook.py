"""acme.sh's deploy hook `certferry`: the file by which `acme.sh --deploy-hook certferry` calls us.

acme.sh looks for `deploy/NAME.sh` in its home, reads it into a shell of its own for each
deployment, and calls `NAME_deploy` with the domain, key, certificate, CA and fullchain. The hook
says the same as `--reloadcmd` is told: by the variables that acme.sh exports there.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted, must_be_trusted
from certferry.system_words import system_words
from certferry.text import Text
from certferry.whole_file import replace_file

PLACE = Path("deploy") / "certferry.sh"

_AT_HOME = ("account.conf", "acme.sh")
"""What is in a home from the first moment: its installation puts both there; the package of a
distribution, the first.
"""

_HOOK = """\
#!/usr/bin/env sh

# Written by `certferry hook acme.sh --install`, which writes it anew.
# acme.sh --deploy -d NAME --deploy-hook certferry

#domain keyfile certfile cafile fullchain
certferry_deploy() {
  export Le_Domain="$1" CERT_KEY_PATH="$2" CERT_PATH="$3" CA_CERT_PATH="$4" CERT_FULLCHAIN_PATH="$5"
  # What acme.sh's own hook `qiniu` has saved with the domain, if that was in use.
  export QINIU_AK QINIU_SK

  %s
}
"""
_AS_ITS_USER = Text("run it as the user that acme.sh belongs to")
_MODE = 0o644  # read by acme.sh, never run; there is no secret in it


def install(home: Path, command: Sequence[str]) -> tuple[Path, bool]:
    """Write the hook that runs a command; give its path, and whether anything has changed.

    Raises `ConfigError` when acme.sh is not at home there, or the file cannot be written.
    """
    if not any((home / name).is_file() for name in _AT_HOME):
        raise ConfigError(
            Text("{home}: no acme.sh found there (no account.conf)", home=home),
            hint=Text("name its home, where it keeps account.conf: --home DIR"),
        )
    path = home / PLACE
    content = (_HOOK % shlex.join(command)).encode()
    try:
        if path.is_file() and path.read_bytes() == content:
            return path, False
        must_be_trusted(home, makes_files=True)
        path.parent.mkdir(exist_ok=True)
        must_be_trusted(path.parent, makes_files=True)
        replace_file(path, content, _MODE)
    except NotTrusted as error:
        # Root would write where another user decides.
        problem = Text("{path} {problem}", path=error.path, problem=error.problem)
        raise ConfigError(problem, hint=_AS_ITS_USER) from error
    except OSError as error:
        raise ConfigError(
            Text("{path} cannot be written: {problem}", path=path, problem=system_words(error)),
            hint=_AS_ITS_USER,
        ) from error
    return path, True
