"""Resolve references to secrets: `env:NAME`, `file:PATH`, `command:PROGRAM`,
`keyring:SERVICE/USER`.

A setting may also hold the secret itself: a literal.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from functools import cached_property

from certferry.config.files import Paths, read_file
from certferry.config.mistakes import nearest, set_first
from certferry.core.redaction import Secret, may_be_a_secret, names_a_secret, redacted, repeats
from certferry.errors import ConfigError, system_words
from certferry.extras import how_to_install
from certferry.text import Text

SCHEMES = ("env", "file", "command", "keyring")

_AS_IN_A_SHELL = re.compile(r"\$\{?([A-Za-z_]\w*)\}?", re.ASCII)

COMMAND_TIMEOUT = timedelta(seconds=30)
"""How long a command may take to print a secret: long enough for a password store that asks a
server, too short for a person who types a PIN.
"""

_LONGEST_COMPLAINT = 300
"""Maximum number of characters shown of a failed command's stderr: the last ones, because the
reason usually stands at the end.
"""


@dataclass(frozen=True, slots=True)
class SecretReference:
    """The place of a secret, as the operator wrote it, or the secret itself (a literal). `repr`
    hides the text.
    """

    #: The text as written. A literal must not be printed.
    written: str = field(repr=False)

    @property
    def scheme(self) -> str:
        """The kind of reference, from `SCHEMES`; empty for a literal secret."""
        scheme, colon, _ = self.written.partition(":")
        return scheme if colon and scheme in SCHEMES else ""

    @property
    def place(self) -> str:
        """The text after the scheme, as written."""
        return self.written.partition(":")[2].strip()

    @property
    def is_literal(self) -> bool:
        """Whether the text is the secret."""
        return not self.scheme

    @property
    def is_at_rest(self) -> bool:
        """Whether resolving runs no program and opens no key ring."""
        return self.scheme in {"", "env", "file"}


Resolve = Callable[[SecretReference], Secret]
"""Returns the secret of a reference; raises `ConfigError`. See `Secrets`."""


@dataclass(repr=False, eq=False)
class Secrets:
    """Resolves references, and knows every secret of the settings for masking."""

    #: The environment, with the variables of the `env_files`.
    environ: Mapping[str, str]
    #: The starts of relative paths; programs run in `paths.directory`.
    paths: Paths
    _: KW_ONLY
    #: Every reference to a secret in the settings, and every literal secret.
    references: Collection[SecretReference] = ()
    #: Returns the names of variables that hold secrets even without a reference to the variable.
    usual: Callable[[], Collection[str]] = frozenset
    #: The variables set in each of the `env_files`.
    files: Collection[Mapping[str, str]] = ()
    #: Time limit for a command that prints a secret.
    command_timeout: timedelta = COMMAND_TIMEOUT
    #: The secrets resolved so far.
    _given: set[Secret] = field(init=False, default_factory=set)

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names of the environment variables with secrets: the variables in `references`, and
        the variables that `usual` returns.
        """
        referred = {
            reference.place
            for reference in self.references
            if reference.scheme == "env" and reference.place
        }
        return frozenset(self.usual()) | referred

    def withheld(self) -> frozenset[str]:
        """Return the names of the environment variables to hide from every program that certferry
        runs: `variables`, and each variable that contains a copy of a secret known so far.
        """
        ours = {Secret(key.strip()) for key in self._ours()}
        copies = {name for name, value in self.environ.items() if repeats(value, ours)}
        return self.variables | copies

    def resolve(self, reference: SecretReference) -> Secret:
        """Return the secret. Raises `ConfigError` naming the source and never the value."""
        value = self._value(reference)
        if not value:
            raise ConfigError(Text("the secret is empty"))
        secret = Secret(value)
        self._given.add(secret)
        return secret

    def resolve_at_rest(self, reference: SecretReference) -> Secret:
        """Return the secret of a literal, a variable or a file. For a program or a key ring, return
        a placeholder, and neither run the program nor open the key ring. Raises `ConfigError`.
        """
        return self.resolve(reference) if reference.is_at_rest else Secret("not looked at")

    def known(self) -> frozenset[Secret]:
        """Return the secrets to mask in other programs' output: resolved secrets, literals, the
        contents of files in `references`, and the values of `variables` and of other environment
        variables that look like secrets. Runs no program.
        """
        return frozenset(map(Secret, (*self._referred(), *self._held()))) | self._given

    def _ours(self) -> Iterator[str]:
        """Yield the secrets of the settings that are known without running a program, or resolved
        already. Secrets too short to be recognised are left out.
        """
        named = (
            environ[name]
            for environ in (self.environ, *self.files)
            for name in self.variables & environ.keys()
        )
        given = (secret.reveal() for secret in self._given)
        yield from filter(may_be_a_secret, (*named, *self._referred(), *given))

    def _referred(self) -> Iterator[str]:
        for reference in self.references:
            if reference.is_literal:
                yield reference.written
            elif reference.scheme == "file":
                with suppress(ConfigError, ValueError):
                    # A file that others can read, or that is not text, is read too. `resolve`
                    # refuses such a file, but the file holds a secret to mask.
                    data, _ = read_file(self.paths.resolve(reference.place))
                    yield _without_final_newline(data.decode(errors="surrogateescape"))

    def _held(self) -> Iterator[str]:
        for environ in (self.environ, *self.files):
            for name, value in environ.items():
                if name in self.variables or _is_guessed(name, value):
                    yield value

    def _value(self, reference: SecretReference) -> str:
        if reference.is_literal:
            named = _AS_IN_A_SHELL.fullmatch(reference.written)
            if named and (named[1] in self.environ or named[1] in self.variables):
                message = Text("variables are not written this way; write {reference}")
                raise ConfigError(message.filled(reference=f'"env:{named[1]}"'))
            return _literal(reference.written)
        scheme, place = reference.scheme, reference.place
        if not place:
            raise ConfigError(Text("`{scheme}:` is incomplete", scheme=scheme))
        match scheme:
            case "env":
                if not (value := self.environ.get(place)):
                    problem = Text("the environment variable {name} is not set", name=place)
                    raise ConfigError(problem, hint=set_first(place))
                return value
            case "file":
                return self._from_file(place)
            case "command":
                return self._from_command(place)
            case _:
                # Not stripped: a key ring's user may begin or end with a space.
                return _from_keyring(reference.written.partition(":")[2])

    def _from_file(self, place: str) -> str:
        path = self.paths.resolve(place)
        try:
            data, _ = read_file(path, private=True)
        except ConfigError as exc:
            raise ConfigError(Text("{path} {problem}", path=path, problem=exc.message)) from exc
        return _without_final_newline(_decode(data, str(path)))

    def _from_command(self, command: str) -> str:
        try:
            arguments = shlex.split(command)
        except ValueError as exc:
            problem = Text("the command cannot be read: {problem}", problem=str(exc).lower())
            raise ConfigError(problem) from None
        program = arguments[0]
        withheld = self.withheld()
        # Messages name only the program: arguments and output may hold a secret.
        try:
            result = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.command_timeout.total_seconds(),
                env={name: value for name, value in self.environ.items() if name not in withheld},
                cwd=self.paths.directory,
                check=False,
            )
        except subprocess.TimeoutExpired:
            problem = Text("the command {program} was still running after {time}")
            raise ConfigError(problem.filled(program=program, time=self.command_timeout)) from None
        except (OSError, ValueError) as exc:
            problem = Text("the command {program} cannot be run: {problem}")
            raise ConfigError(problem.filled(program=program, problem=system_words(exc))) from None
        if result.returncode != 0:
            raise self._failed(program, result.returncode, result.stderr)
        return _without_final_newline(_decode(result.stdout, program))

    def _failed(self, program: str, code: int, stderr: bytes) -> ConfigError:
        words = redacted(stderr.decode(errors="surrogateescape"), self.known())
        shown = " ".join(
            "".join(character if character.isprintable() else " " for character in words).split()
        )
        message = Text("the command {program} failed with exit code {code}")
        message = message.filled(program=program, code=code)
        if not shown:
            return ConfigError(message)
        shown = shown[-_LONGEST_COMPLAINT:]
        return ConfigError(Text("{failure}: {words}", failure=message, words=shown))


def _is_guessed(name: str, value: str) -> bool:
    """Return whether a variable's name and value suggest that the value is a secret, rather than
    the path of a file with the secret.
    """
    if not names_a_secret(name) or not may_be_a_secret(value):
        return False
    # pathlib raises for a value too long to be a path.
    return not (value.startswith("/") and os.path.exists(value))  # noqa: PTH110 - see above


def _literal(text: str) -> str:
    """Return a literal secret unchanged. Raises `ConfigError` for text that looks like a reference
    with a misspelled scheme, such as `evn:NAME`.
    """
    scheme, colon, _ = text.partition(":")
    meant = nearest(scheme.strip(), SCHEMES) if colon else None
    if meant is not None:
        raise ConfigError(Text("is not a kind of reference; did you mean {meant}:?", meant=meant))
    return text


def _from_keyring(place: str) -> str:
    service, slash, user = place.rpartition("/")
    if not (service and slash and user):
        raise ConfigError(Text("write keyring:SERVICE/USER"))
    try:
        import keyring
        import keyring.errors
    except ImportError:
        problem = Text("needs the extra `keyring`; {install}", install=how_to_install("keyring"))
        raise ConfigError(problem) from None
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as exc:
        raise ConfigError(
            Text("the key ring cannot be opened: {problem}", problem=str(exc) or type(exc).__name__)
        ) from exc
    if value is None:
        raise ConfigError(
            Text("the key ring has no entry for {user} at {service}", user=user, service=service)
        )
    return str(value)


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(Text("the output of {source} is not UTF-8 text", source=source)) from None


def _without_final_newline(value: str) -> str:
    return re.sub(r"\r?\n\Z", "", value)
