"""The files of `certferry init`: where they lie, and putting them there all together or not."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from certferry.config.env_files import environment_with
from certferry.config.load import NAME, VARIABLE, load_text
from certferry.config.model import Settings
from certferry.config.write import (
    drafted,
    drafted_copy,
    with_assignments,
    write_private,
)
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.whole_file import free_copy
from certferry.wiring.settings import ADAPTERS


@dataclass(frozen=True, slots=True)
class Files:
    """The configuration, the environment files that are read, and the one beside it for keys."""

    config: Path
    given: Path | None = None

    @property
    def keys(self) -> Path:
        """Where keys are written that are nowhere yet."""
        name = self.config.name.removesuffix(".toml")
        return self.config.with_name(f"{name}.env")

    def read(self) -> tuple[Path, ...]:
        """Give the environment files that are there."""
        own = (self.keys,) if self.keys.exists() else ()
        given = () if self.given is None else (self.given,)
        return (*given, *(path for path in own if path not in given))

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Give the environment with what those files add. Raises `ConfigError`."""
        return environment_with(environ, self.read())

    def named(self, *, with_keys: bool = False, already: Collection[Path] = ()) -> tuple[str, ...]:
        """Give the environment files as the configuration names them, but for those that it names
        `already`.
        """
        known = {path.resolve() for path in already}
        there = [path for path in self.read() if path.resolve() not in known]
        own = [self.keys.name] if with_keys or self.keys in there else []
        return (*(str(path.absolute()) for path in there if path != self.keys), *own)


def chosen_file(output: Path | None, config: Path | None, environ: Mapping[str, str]) -> Path:
    """Give the file to write: as named, or here."""
    return output or config or Path(environ.get(VARIABLE) or NAME)


def must_be_free(path: Path, *, force: bool) -> None:
    """Raise `ConfigError` where the file is there already, or cannot be made: before
    questions are asked, since the answers would be for nothing.
    """
    if os.path.lexists(path) and not force:
        raise ConfigError(
            Text("{path} is there already", path=path),
            hint=Text("--force replaces it and keeps a copy; --output FILE writes another"),
        )
    if path.is_dir():
        raise ConfigError(Text("{path} is a directory, not a file", path=path))
    if not path.absolute().parent.is_dir():
        raise ConfigError(
            Text("there is no directory {path}", path=path.parent),
            hint=Text("make it first: mkdir -p {path}", path=shlex.quote(str(path.parent))),
        )
    with drafted(path, b""):
        pass


def put(
    files: Files,
    text: str,
    fresh: Mapping[str, Secret],
    environ: Mapping[str, str],
    before: Callable[[Settings], None],
) -> tuple[list[Path], list[Path]]:
    """Write the keys, then the configuration; give the written paths, and the copies kept.

    The configuration is read first, as it will be, and lies beside its place before `before` does
    what has to be done with it. When anything fails, everything is as it was.
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
    """Write keys alone, beside those that the file has."""
    write_private(path, with_assignments(path, fresh))


@contextmanager
def _keys_written(path: Path, fresh: Mapping[str, Secret]) -> Iterator[None]:
    if not fresh:
        yield
        return
    earlier = path.read_text(encoding="utf-8") if path.exists() else None
    write_private(path, with_assignments(path, fresh))
    try:
        yield
    except BaseException:
        if earlier is None:
            path.unlink()
        else:
            write_private(path, earlier)
        raise
