"""Write the operator's own files: whole or not at all, and for their owner alone."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from certferry.config.files import read_private_file
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_./:@%+,-]+")


def write_private(path: Path, text: str) -> None:
    """Put a text file in its place, with mode 0600. Raises `ConfigError`."""
    _put(path, text.encode())


def keep_copy(path: Path) -> Path:
    """Copy a file to the first free of `FILE.bak`, `FILE.bak.2` and so on, and give that.

    Raises `ConfigError`.
    """
    number, copy = 1, path.with_name(f"{path.name}.bak")
    while os.path.lexists(copy):
        number += 1
        copy = path.with_name(f"{path.name}.bak.{number}")
    with _told(path):
        _put(copy, path.read_bytes())
    return copy


def with_assignments(path: Path, values: Mapping[str, Secret]) -> str:
    """Give an environment file's text with more assignments below what it has; it need not be
    there. Raises `ConfigError` when it is there and open to others.
    """
    before = ""
    if path.exists():
        before = read_private_file(path).decode("utf-8-sig")
        if before and not before.endswith("\n"):
            before += "\n"
    return before + "".join(f"{name}={_shell(v.reveal())}\n" for name, v in values.items())


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a file in the place of another, whole or not at all. Raises `OSError`.

    `sync_directory` afterwards makes it last.
    """
    # mkstemp makes the file 0600; it is opened wider only when it is complete.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Make new names last: a rename is on disk when its directory is. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(path: Path, content: bytes) -> None:
    with _told(path):
        replace_file(path, content)
        sync_directory(path.parent)


def _shell(value: str) -> str:
    """Write a value so that a shell and certferry read the same."""
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    if not value.isprintable():
        raise ConfigError(Text("a key contains a character that cannot be printed"))
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            Text("{path} cannot be written: {problem}", path=path, problem=exc.strerror),
            hint=Text("name another place with --output FILE; nothing was changed"),
        ) from exc
