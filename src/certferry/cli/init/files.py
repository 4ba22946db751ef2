"""Input and output of `certferry init`: the options of the command line, the file of `--settings`,
and the written files. If a file cannot be written, the earlier keys and configuration stay.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from certferry.config.document import Document, read_document
from certferry.config.env_files import EnvFile, env_files_of, environment_with
from certferry.config.load import NAME, VARIABLE, load_before, load_text
from certferry.config.model import Settings
from certferry.config.write import drafted, drafted_copy, with_assignments, write_private
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.whole_file import free_copy
from certferry.wiring.settings import ADAPTERS


class Files(Struct, frozen=True):
    """The paths of the configuration file, and of environment files (`KEY=value`) with keys."""

    #: The configuration file to write.
    config: Path
    #: The environment file of `--env-file`.
    given: Path | None = None

    @property
    def keys(self) -> Path:
        """The environment file beside the configuration, for keys that no file has yet."""
        return self.config.with_name(f"{self.config.name.removesuffix('.toml')}.env")

    def read(self) -> tuple[Path, ...]:
        """Return the environment files to read: the file of `--env-file`, if given, and the file
        `keys`, if it exists.
        """
        given = () if self.given is None else (self.given,)
        own = (self.keys,) if self.keys.exists() and self.keys not in given else ()
        return (*given, *own)

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment with the variables of the files of `read`. Raise `ConfigError`."""
        return environment_with(environ, self.read())

    def named(self, *, with_keys: bool = False, already: Collection[Path] = ()) -> tuple[str, ...]:
        """Return the value of `env_files` for the configuration: the files of `read` except the
        files in `already`. With `with_keys` also name the file `keys`, which may not exist yet.
        """
        named_already = {path.resolve() for path in already}
        there = [path for path in self.read() if path.resolve() not in named_already]
        own = [self.keys.name] if with_keys or self.keys in there else []
        return (*(str(path.absolute()) for path in there if path != self.keys), *own)


class Beginning(Struct, frozen=True):
    """The settings and the environment that the new file builds on."""

    #: The file of `--settings`; without the option an empty document.
    given: Document
    #: The file to write; relative paths start at its directory.
    config: Path
    #: The environment with the variables of all environment files.
    environ: Mapping[str, str]

    def settings(self, document: Document, fresh: Mapping[str, Secret]) -> Settings:
        """Return the settings in `document`. References to keys are resolved from the environment
        and from `fresh`, the keys that no file has yet. Raise `ConfigError`.
        """
        return load_before(document, self.config, {**self.environ, **revealed(fresh)})


def revealed(keys: Mapping[str, Secret]) -> dict[str, str]:
    """Return keys as environment variables, in plain text."""
    return {name: key.reveal() for name, key in keys.items()}


class Asked(Struct, frozen=True):
    """The options of the command line."""

    #: The ACME client to take over from.
    client: str | None
    #: The client's directory; None for the usual place.
    home: Path | None
    #: The file to write, and the environment files.
    files: Files
    #: The file of `--settings`, with which the new file begins.
    settings: Path | None = None
    #: The email address that the CA gets as contact.
    email: str | None = None
    #: Whether the client keeps renewing, and certferry only deploys.
    keep_client: bool = False


def chosen_file(output: Path | None, config: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path of the file to write, from `--output`, else from `--config`, else from the
    variable CERTFERRY_CONFIG, else certferry.toml in the working directory.
    """
    return output or config or Path(environ.get(VARIABLE) or NAME)


def must_be_free(path: Path, *, force: bool) -> None:
    """Raise `ConfigError` if the file cannot be written, or if the file exists and may not be
    replaced. With `force` any file may be replaced, otherwise only an unchanged file of the Debian
    package.
    """
    if os.path.lexists(path) and not (force or _is_as_packaged(path)):
        hint = Text(
            "use --force to replace the file and keep a copy, or --output FILE to write another"
        )
        raise ConfigError(Text("{path} already exists", path=path), hint=hint)
    if path.is_dir():
        raise ConfigError(Text("{path} is a directory, not a file", path=path))
    if not path.absolute().parent.is_dir():
        hint = Text(
            "create the directory first: mkdir -p {path}", path=shlex.quote(str(path.parent))
        )
        raise ConfigError(Text("there is no directory {path}", path=path.parent), hint=hint)
    with drafted(path, b""):
        pass


PACKAGED = Path("/usr/share/certferry/certferry.toml")
"""The Debian package's copy of the configuration file that the package installs in /etc/certferry.
The file has only comments.
"""


def _is_as_packaged(path: Path) -> bool:
    try:
        return path.read_bytes() == PACKAGED.read_bytes()
    except OSError:
        return False


def settings_to_begin_with(path: Path | None) -> Document:
    """Read the file of `--settings`; without `path` return an empty document. Raise `ConfigError`,
    also for a file that declares certificates.
    """
    if path is None:
        return Document(None, {})
    document = read_document(path)
    if "certificates" in document.values:
        hint = Text("remove the certificates: `certferry init` proposes them")
        raise ConfigError(Text("{path} declares certificates", path=path), hint=hint)
    return document


def env_files_in(given: Document, files: Files, environ: Mapping[str, str]) -> tuple[EnvFile, ...]:
    """Read the environment files named in the `given` settings. Raise `ConfigError` for a file that
    cannot be read, and if `env_files` of the settings omits an environment file of `files`.
    """
    env_files = env_files_of(given, files.config, environ)
    others = files.named(already=[file.path for file in env_files])
    if "env_files" in given.values and others:
        message = Text("{path} names its own env_files, without {others}")
        raise ConfigError(
            message.filled(path=given.path, others=others), hint=Text("add the keys there")
        )
    return env_files


def put(
    files: Files,
    text: str,
    fresh: Mapping[str, Secret],
    environ: Mapping[str, str],
    before: Callable[[Settings], None],
) -> tuple[list[Path], list[Path]]:
    """Write the `fresh` keys, then the configuration. Return the written paths, and the path of the
    copy of a replaced configuration, if any, each as a list.

    `before` is called with the new settings before the configuration file is written. Raise
    `ConfigError`, and errors of `before`; after an error the file of keys is as before.
    """
    with ExitStack() as at_the_end:
        at_the_end.enter_context(_keys_written(files.keys, fresh))
        settings = load_text(text, files.config, environ, ADAPTERS)
        copies = [free_copy(files.config)] if files.config.exists() else []
        drafts = [drafted_copy(files.config, copy) for copy in copies]
        drafts.append(drafted(files.config, text.encode()))
        ready = [at_the_end.enter_context(draft) for draft in drafts]
        before(settings)
        for draft in ready:
            draft.put()
    return [files.config, *([files.keys] if fresh else [])], copies


def keep(path: Path, fresh: Mapping[str, Secret]) -> None:
    """Add keys to the environment file `path`, or make the file. Without keys do nothing. Raise
    `ConfigError` if the file cannot be written.
    """
    if fresh:
        write_private(path, with_assignments(path, fresh))


@contextmanager
def _keys_written(path: Path, fresh: Mapping[str, Secret]) -> Iterator[None]:
    earlier = path.read_text(encoding="utf-8") if path.exists() else None
    keep(path, fresh)
    try:
        yield
    except BaseException:
        if earlier is None:
            path.unlink(missing_ok=True)
        elif fresh:
            write_private(path, earlier)
        raise
