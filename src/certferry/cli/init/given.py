"""What `certferry init` is given: the words of the command line, another client's home, an
operator's own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from certferry.cli.init.files import Files
from certferry.cli.interview import Interview
from certferry.config.document import Document, read_document
from certferry.config.env_files import EnvFile, env_files_of
from certferry.config.values import email_address
from certferry.errors import ConfigError
from certferry.migration.home import OldHome
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    client: str | None
    home: Path | None
    files: Files
    settings: Path | None = None
    email: str | None = None
    keep_client: bool = False


def must_have_certificates(home: OldHome) -> None:
    """Raise `ConfigError` for a home from which nothing can be taken."""
    if home.certificates:
        return
    said = Text("no certificate of {client}'s is in {home}")
    hint = Text("name the client's directory with --home")
    if home.unreadable:
        said = Text("no certificate of {client}'s in {home} can be read")
        hint = Text(
            "see the warnings above; if the files are another user's, run this as that user"
        )
    raise ConfigError(said.filled(client=home.client.value, home=home.home), hint=hint)


def settings_to_begin_with(path: Path | None) -> Document:
    """Read an operator's own settings; they are empty where no file is named."""
    if path is None:
        return Document(None, {})
    document = read_document(path)
    if "certificates" in document.values:
        raise ConfigError(
            Text("{path} declares certificates", path=path),
            hint=Text("leave them out: `certferry init` proposes the certificates"),
        )
    return document


def env_files_in(given: Document, files: Files, environ: Mapping[str, str]) -> tuple[EnvFile, ...]:
    """Read the environment files that the given settings name; then no other can be named."""
    found = env_files_of(given, files.config, environ)
    others = files.named(already=[file.path for file in found])
    if "env_files" in given.values and others:
        said = Text(
            "{path} names its own env_files, without {others}", path=given.path, others=others
        )
        raise ConfigError(said, hint=Text("add it there"))
    return found


def address(asked: Asked, home: OldHome | None, interview: Interview | None) -> str | None:
    """Give the address that the CA may write to, if there is one."""
    known = asked.email or (home.email if home else None)
    if known is not None:
        with suppress(ConfigError):  # what a client holds may be none
            return email_address(known)
    if interview is None:
        return None
    question = Text("Contact email for the CA (optional; Enter to skip)")
    return interview.ask_for(question, email_address)
