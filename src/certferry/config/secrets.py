"""References to secrets (`env:NAME`, `file:PATH`, `command:…`, `keyring:SERVICE/USER`) and what
they lead to. Anything else is the secret itself, a literal.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from certferry.config.files import Paths, read_file, read_private_file
from certferry.config.mistakes import nearest, set_first
from certferry.core.extras import how_to_install
from certferry.core.redaction import redacted, repeats
from certferry.core.secret import Secret, may_be_a_secret, tells_a_secret
from certferry.errors import ConfigError
from certferry.system_words import system_words
from certferry.text import Text

SCHEMES = ("env", "file", "command", "keyring")

COMMAND_TIMEOUT = timedelta(seconds=30)
"""Enough for a password store that asks a server; not for a person who is asked for a PIN."""

_LONGEST_COMPLAINT = 300
"""Characters of a command's stderr that are shown, from its end, where the reason usually is."""


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is, as written. A literal is one too, so it never prints."""

    written: str = field(repr=False)

    @property
    def is_literal(self) -> bool:
        """Tell whether it is the secret itself."""
        scheme, colon, _ = self.written.partition(":")
        return not colon or scheme not in SCHEMES

    @property
    def is_at_rest(self) -> bool:
        """Tell whether it can be followed without running a program or opening a key ring."""
        return self.is_literal or self.written.partition(":")[0] in {"env", "file"}

    @property
    def variable(self) -> str | None:
        """Give the variable that it leads to, if it is of that kind."""
        return self._place("env")

    @property
    def file(self) -> str | None:
        """Give the path, as written, that it leads to, if it is of that kind."""
        return self._place("file")

    def _place(self, kind: str) -> str | None:
        scheme, colon, rest = self.written.partition(":")
        return rest.strip() if colon and scheme == kind else None


Resolve = Callable[[SecretReference], Secret]
"""Gives the secret that a reference leads to; raises `ConfigError`. See `Secrets`."""


class Secrets:
    """Follows references, with the environment and the paths they are relative to.

    `references` are all that the settings have, whether or not a run follows them; `usual` are
    variables that hold secrets, referred to or not, and `files` what `env_files` set.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        paths: Paths,
        *,
        references: Collection[SecretReference] = (),
        usual: Callable[[], Collection[str]] = frozenset,
        files: Collection[Mapping[str, str]] = (),
        command_timeout: timedelta = COMMAND_TIMEOUT,
    ) -> None:
        self._environ = dict(environ)
        self._paths = paths
        self._references = tuple(references)
        self._files = tuple(files)
        self._command_timeout = command_timeout
        self._given: set[Secret] = set()
        self._usual = usual

    @cached_property
    def variables(self) -> frozenset[str]:
        """What holds the accounts' keys by its name."""
        return frozenset(self._usual()) | {r.variable for r in self._references if r.variable}

    def withheld(self) -> frozenset[str]:
        """Give the variables that no program which certferry runs is to have: those of the
        accounts' keys, and whichever others hold one of these, alone or within an address or other
        words, whatever they are called.
        """
        ours = {Secret(one.strip()) for one in self._ours()}
        copies = {name for name, value in self._environ.items() if repeats(value, ours)}
        return self.variables | copies

    def resolve(self, reference: SecretReference) -> Secret:
        """Give the secret. Raises `ConfigError` that names the source, and never a value."""
        value = self._value(reference)
        if not value:
            raise ConfigError(Text("the secret is empty"))
        secret = Secret(value)
        self._given.add(secret)
        return secret

    def resolve_at_rest(self, reference: SecretReference) -> Secret:
        """Give the secret, or anything in place of one for which a program would be run or a key
        ring opened. Raises `ConfigError` as `resolve` does.
        """
        return self.resolve(reference) if reference.is_at_rest else Secret("not looked at")

    def known(self) -> frozenset[Secret]:
        """Give what no program's words are to show: every secret that was resolved, the literals,
        what the files and variables hold that are referred to, and what the environment and
        `env_files` hold under a name that tells of a secret. No program is run for it, no key ring
        opened; what cannot be read is left out.
        """
        return frozenset(map(Secret, (*self._referred(), *self._held()))) | self._given

    def _ours(self) -> Iterator[str]:
        """Give the secrets that the settings lead to. What is too short to be one is a word or a
        number by itself, which anything may be set to.
        """
        named = (
            environ[name]
            for environ in (self._environ, *self._files)
            for name in self.variables & environ.keys()
        )
        given = (secret.reveal() for secret in self._given)
        yield from filter(may_be_a_secret, (*named, *self._referred(), *given))

    def _referred(self) -> Iterator[str]:
        for reference in self._references:
            if reference.is_literal:
                yield reference.written
            elif reference.file is not None:
                with suppress(ConfigError, ValueError):
                    # Readable by others, or no text: it is a secret still.
                    data = read_file(self._paths.resolve(reference.file)).data
                    yield _without_final_newline(data.decode(errors="surrogateescape"))

    def _held(self) -> Iterator[str]:
        for environ in (self._environ, *self._files):
            for name, value in environ.items():
                if name in self.variables or _is_guessed(name, value):
                    yield value

    def _value(self, reference: SecretReference) -> str:
        if reference.is_literal:
            return _literal(reference.written)
        scheme, _, rest = reference.written.partition(":")
        if not rest.strip():
            raise ConfigError(Text("`{scheme}:` leads nowhere", scheme=scheme))
        match scheme:
            case "env":
                return self._from_environment(rest.strip())
            case "file":
                return self._from_file(rest.strip())
            case "command":
                return self._from_command(rest)
            case _:
                return _from_keyring(rest)

    def _from_environment(self, name: str) -> str:
        value = self._environ.get(name)
        if not value:
            raise ConfigError(
                Text("the environment variable {name} is not set", name=name), hint=set_first(name)
            )
        return value

    def _from_file(self, written: str) -> str:
        path = self._paths.resolve(written)
        try:
            data = read_private_file(path)
        except ConfigError as exc:
            raise ConfigError(Text("{path} {problem}", path=path, problem=exc.message)) from exc
        return _without_final_newline(_decode(data, str(path)))

    def _from_command(self, written: str) -> str:
        arguments = _split(written)
        program = arguments[0]
        # Only the program is ever named: its arguments, like its output, may hold a secret.
        try:
            result = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._command_timeout.total_seconds(),
                env=self._environment_of_programs(),
                cwd=self._paths.directory,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(
                Text(
                    "the command {program} was still running after {time}",
                    program=program,
                    time=self._command_timeout,
                )
            ) from None
        except (OSError, ValueError) as exc:
            raise ConfigError(
                Text(
                    "the command {program} cannot be run: {problem}",
                    program=program,
                    problem=system_words(exc),
                )
            ) from None
        if result.returncode != 0:
            raise self._failed(program, result.returncode, result.stderr)
        return _without_final_newline(_decode(result.stdout, program))

    def _environment_of_programs(self) -> dict[str, str]:
        withheld = self.withheld()
        return {name: value for name, value in self._environ.items() if name not in withheld}

    def _failed(self, program: str, code: int, stderr: bytes) -> ConfigError:
        words = redacted(stderr.decode(errors="surrogateescape"), self.known())
        shown = " ".join("".join(c if c.isprintable() else " " for c in words).split())
        said = Text(
            "the command {program} failed with exit code {code}", program=program, code=code
        )
        if not shown:
            return ConfigError(said)
        shown = shown[-_LONGEST_COMPLAINT:]
        return ConfigError(Text("{failure}: {words}", failure=said, words=shown))


def _is_guessed(name: str, value: str) -> bool:
    """Tell whether a variable without a reference holds a secret all the same."""
    return tells_a_secret(name) and may_be_a_secret(value) and not _is_a_path(value)


def _is_a_path(value: str) -> bool:
    """Tell whether a value only says where a secret lies."""
    # No pathlib: it raises where the value is too long for a path.
    return value.startswith("/") and os.path.exists(value)  # noqa: PTH110 - see above


def _literal(written: str) -> str:
    """Let a literal pass, unless it looks like a reference whose kind is misspelled."""
    scheme, colon, _ = written.partition(":")
    meant = nearest(scheme.strip(), SCHEMES) if colon else None
    if meant is not None:
        raise ConfigError(Text("is no kind of reference; did you mean {meant}:?", meant=meant))
    return written


def _split(written: str) -> list[str]:
    try:
        return shlex.split(written)
    except ValueError as exc:
        raise ConfigError(
            Text("the command cannot be read: {problem}", problem=str(exc).lower())
        ) from None


def _from_keyring(written: str) -> str:
    service, slash, user = written.rpartition("/")
    if not (service and slash and user):
        raise ConfigError(Text("write keyring:SERVICE/USER"))
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise ConfigError(
            Text("needs the extra `keyring`; {install}", install=how_to_install("keyring"))
        ) from None
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as exc:
        raise ConfigError(
            Text("the key ring cannot be opened: {problem}", problem=str(exc) or type(exc).__name__)
        ) from exc
    if value is None:
        raise ConfigError(
            Text("the key ring has nothing for {user} at {service}", user=user, service=service)
        )
    return str(value)


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(Text("the output of {source} is not UTF-8 text", source=source)) from None


def _without_final_newline(value: str) -> str:
    return re.sub(r"\r?\n\Z", "", value)
