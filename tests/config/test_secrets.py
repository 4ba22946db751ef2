"""References to secrets: resolution, masking, and messages about wrong references."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.config.files import Paths
from certferry.config.secrets import SecretReference, Secrets
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from tests.another_user import NOBODY, as_root, given_away


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    """Return a resolver with one variable in the environment, and an empty directory for files."""
    environ = {**os.environ, "TOKEN": "from the environment", "VOID": ""}
    return Secrets(environ, Paths(tmp_path, tmp_path / "home"))


def resolve(secrets: Secrets, reference: str) -> str:
    return secrets.resolve(SecretReference(reference)).reveal()


def complaint(secrets: Secrets, reference: str) -> str:
    with pytest.raises(ConfigError) as caught:
        secrets.resolve(SecretReference(reference))
    return str(caught.value)


def private(path: Path, content: bytes) -> Path:
    """Write a file that only the owner can read."""
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("literal", ["plain", "with:colon", "https://x", "1:2", "a,b=="])
def test_literal_secret(secrets: Secrets, literal: str) -> None:
    """A value without a known kind before the colon is a literal."""
    assert SecretReference(literal).is_literal
    assert literal == resolve(secrets, literal)


@pytest.mark.parametrize("reference", ["$TOKEN", "${TOKEN}"])
def test_variable_in_the_notation_of_a_shell(secrets: Secrets, reference: str) -> None:
    """The name of a set variable is refused as a password; other literals may begin with a $."""
    secrets.environ = {**secrets.environ, "TOKEN": "t"}

    assert 'variables are not written this way; write "env:TOKEN"' == complaint(secrets, reference)
    assert "$OTHER" == resolve(secrets, "$OTHER")


@pytest.mark.parametrize("reference", ["evn:TOKEN", "ENV:TOKEN", "env :TOKEN", "comand:x", "fil:x"])
def test_misspelled_kind_of_reference(secrets: Secrets, reference: str) -> None:
    """A value that resembles a reference is never sent to a vendor as a password."""
    message = complaint(secrets, reference)

    assert message.startswith("is not a kind of reference; did you mean ")
    assert "TOKEN" not in message


def test_variable(secrets: Secrets) -> None:
    """`env:NAME` is the value of a variable."""
    assert "from the environment" == resolve(secrets, "env:TOKEN")


@pytest.mark.parametrize("name", ["MISSING", "VOID"])
def test_variable_that_is_unset(secrets: Secrets, name: str) -> None:
    """A missing and an empty variable have the same message, with the variable's name."""
    assert f"the environment variable {name} is not set" == complaint(secrets, f"env:{name}")


@pytest.mark.parametrize("reference", ["env:", "file: ", "command:", "keyring:"])
def test_reference_without_a_place(secrets: Secrets, reference: str) -> None:
    """A kind alone is incomplete."""
    assert complaint(secrets, reference).endswith("is incomplete")


def test_empty_literal(secrets: Secrets) -> None:
    """An empty literal is no secret."""
    assert "the secret is empty" == complaint(secrets, "")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"key", "key"),
        (b"key\n", "key"),
        (b"key\r\n", "key"),
        (b"key\n\n", "key\n"),
        (b" key ", " key "),
    ],
)
def test_secret_in_a_file(secrets: Secrets, tmp_path: Path, content: bytes, value: str) -> None:
    """`file:PATH` is the text of a file, without one final line end, which editors add."""
    private(tmp_path / "key", content)

    assert value == resolve(secrets, "file:key")
    assert value == resolve(secrets, f"file:{tmp_path}/key")


def test_secret_in_a_file_at_home(secrets: Secrets, tmp_path: Path) -> None:
    """`~` is the home of the user."""
    private(tmp_path / "home" / "key", b"at home")

    assert "at home" == resolve(secrets, "file:~/key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_open(secrets: Secrets, tmp_path: Path, mode: int) -> None:
    """Only the owner may read or change a secret's file; the message has the remedy."""
    path = private(tmp_path / "key", b"HUNTER2")
    path.chmod(mode)

    assert (f"{path} is open to other users (mode {mode:04o}); run: chmod 600 {path}") == complaint(
        secrets, "file:key"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "{path} cannot be read: No such file or directory"),
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"\xff", "the output of {path} is not UTF-8 text"),
    ],
)
def test_file_without_a_secret(
    secrets: Secrets, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    """Each way to fail has its own sentence."""
    path = tmp_path / "key"
    if content is not None:
        private(path, content)

    assert expected.format(path=path) == complaint(secrets, "file:key")


@pytest.mark.timeout(10)
def test_fifo_and_device_in_the_place_of_a_secret(secrets: Secrets, tmp_path: Path) -> None:
    """The reader neither waits for a writer nor reads an endless device."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "device").symlink_to("/dev/zero")

    for name in ("fifo", "device"):
        assert f"{tmp_path / name} is not a regular file" == complaint(secrets, f"file:{name}")


@as_root
def test_a_file_of_another_user(secrets: Secrets, tmp_path: Path) -> None:
    """The other user could replace the secret."""
    path = given_away(private(tmp_path / "key", b"theirs"))

    expected = (
        f"{path} belongs to nobody, who can change it;"
        f" run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    )
    assert expected == complaint(secrets, "file:key")


@as_root
@pytest.mark.parametrize(("mode", "is_read"), [(0o440, True), (0o460, False), (0o444, False)])
def test_secret_in_a_file_of_root_for_the_group(
    secrets: Secrets, mode: int, *, is_read: bool
) -> None:
    """A service may read a file of root by its group, if the file is open to the group only and for
    reading only.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = private(Path(folder) / "token", b"mounted")
        path.chmod(mode)
        os.seteuid(NOBODY)
        try:
            if is_read:
                assert "mounted" == resolve(secrets, f"file:{path}")
            else:
                assert "is open to other users" in complaint(secrets, f"file:{path}")
        finally:
            os.seteuid(0)


def test_impossible_file_name(secrets: Secrets) -> None:
    """TOML can contain a null character, but no system accepts a null character in a file name."""
    assert complaint(secrets, "file:a\0b").endswith("is not a file name")


def test_secret_of_a_command(secrets: Secrets) -> None:
    """`command:…` is the output of a program, started without a shell."""
    assert "$TOKEN; `id` | x" == resolve(
        secrets, "command:printf '%s\n' '$TOKEN; `id`' '| x'"
    ).replace("\n", " ")


def test_environment_and_directory_of_a_command(secrets: Secrets, tmp_path: Path) -> None:
    """A program has the environment and the directory of the references."""
    assert "from the environment" == resolve(secrets, "command:printenv TOKEN")
    assert str(tmp_path) == resolve(secrets, "command:pwd")


def test_command_has_an_empty_input(secrets: Secrets) -> None:
    """A program that reads its input ends at once instead of waiting for a person."""
    assert "the secret is empty" == complaint(secrets, "command:cat")


def test_failing_command_shows_its_error_without_its_output(secrets: Secrets) -> None:
    """The message has the program's error on a single line, without its output and its
    arguments.
    """
    message = complaint(
        secrets,
        "command:sh -c 'echo HUNTER2; printf \"no\\033[31m\\nentry\\n\" >&2; exit 3' ARGUMENT",
    )

    assert "the command sh failed with exit code 3: no [31m entry" == message


def test_error_of_a_command_with_secrets(tmp_path: Path) -> None:
    """Secrets of the environment and resolved secrets are masked before the error is shortened."""
    environ = {**os.environ, "VAULT_TOKEN": "planted-" * 5}
    secrets = Secrets(environ, Paths(tmp_path, tmp_path))
    resolve(secrets, "planted+literal")
    script = 'echo planted+literal "$VAULT_TOKEN"; yes | head -n 140 | tr -d "\\n"; exit 1'

    message = complaint(secrets, f"command:sh -c '({script}) >&2; exit 1'")

    assert "planted" not in message
    assert message.endswith("y" * 140)


@pytest.mark.parametrize("referred", ["env:CDN_SK", "file:sk", "planted"])
def test_error_of_a_command_with_unresolved_secrets(tmp_path: Path, referred: str) -> None:
    """Secrets of all references and of the usual variables are masked, in any order of
    resolution.
    """
    environ = {**os.environ, "QINIU_SK": "planted", "CDN_SK": "planted"}
    private(tmp_path / "sk", b"planted\n")
    secrets = Secrets(
        environ,
        Paths(tmp_path, tmp_path),
        references=[SecretReference(referred)],
        usual=lambda: {"QINIU_SK"},
    )

    message = complaint(secrets, "command:sh -c 'echo trying >&2; cat sk sk >&2; exit 1'")

    assert message.endswith(": trying ••• •••")


def test_error_of_a_command_with_bytes_outside_utf_8(tmp_path: Path) -> None:
    """A secret outside UTF-8 is masked."""
    planted = private(tmp_path / "sk", b"planted \xe9").read_bytes()
    value = planted.decode(errors="surrogateescape")
    secrets = Secrets({**os.environ, "SK": value}, Paths(tmp_path, tmp_path), usual=lambda: {"SK"})

    message = complaint(secrets, "command:sh -c 'cat sk >&2; exit 1'")

    assert message.endswith(": •••")


def known_secrets(secrets: Secrets) -> set[str]:
    """Return the known secrets in plain text."""
    return {secret.reveal() for secret in secrets.known()}


def test_known_secrets(tmp_path: Path) -> None:
    """Known secrets are resolved references, and variables that are referred to or whose names and
    values suggest a secret, but no paths.
    """
    private(tmp_path / "key", b"in a file")
    key_file = str(tmp_path / "key")
    environ = {
        "DP_Key": "of dnspod",
        "SK": "word",
        "QINIU_SK": "",
        "KEY_FILE": key_file,
        "APP_KEY_ENV": "production",
        "KEYBOARD": "a keyboard of 105 keys",
    }
    secrets = Secrets(
        environ,
        Paths(tmp_path, tmp_path),
        references=[SecretReference("env:SK")],
        usual=lambda: {"DP_Key", "QINIU_SK"},
        files=[{"DB_PASSWORD": "of env_files", "DB_USER": "me", "SK": "other"}],
    )
    for reference in ("a literal", "file:key"):
        resolve(secrets, reference)

    assert {
        "of dnspod",
        "word",
        "other",
        "of env_files",
        "a literal",
        "in a file",
    } == known_secrets(secrets) - {""}
    assert {"SK", "DP_Key", "QINIU_SK"} == secrets.variables


def test_known_secrets_of_unresolved_references(tmp_path: Path) -> None:
    """Literals and files count, including open files and files that are no text. No program runs
    and no service is asked, and an unreadable file is no mistake.
    """
    private(tmp_path / "sk", b"in a file\n")
    private(tmp_path / "open", b"open to all").chmod(0o644)
    private(tmp_path / "bytes", b"caf\xe9")
    literals_and_files = [
        "literal",
        "file:sk",
        "file:open",
        "file:bytes",
        "file:",
        "file:no-such",
        "file:\0",
    ]
    not_resolved = ["command:touch ran", "keyring:mail/ops", "env:NOT_SET"]
    references = list(map(SecretReference, literals_and_files + not_resolved))
    secrets = Secrets(os.environ, Paths(tmp_path, tmp_path), references=references)

    assert {"literal", "in a file", "open to all", "caf\udce9"} <= known_secrets(secrets)
    assert not known_secrets(secrets) & {*literals_and_files[1:], *not_resolved}
    assert not (tmp_path / "ran").exists()


COPY = "copied-4711-elsewhere"


@pytest.mark.parametrize(
    "reference", ["env:SK", "file:key", "command:cat key", COPY], ids=["env", "file", "command", ""]
)
def test_a_copy_of_a_secret_under_another_name(tmp_path: Path, reference: str) -> None:
    """No program gets the copy under any name; a variable with the name of a secret and another
    value is passed on.
    """
    private(tmp_path / "key", f"{COPY}\n".encode())
    environ = {**os.environ, "SK": COPY, "BANNER": COPY, "VAULT_TOKEN": "the-programs-own-1"}
    first = SecretReference(reference)
    secrets = Secrets(environ, Paths(tmp_path, tmp_path), references=[first])

    assert COPY == secrets.resolve(first).reveal()

    assert {"SK", "BANNER"} == secrets.withheld()
    output = resolve(secrets, "command:sh -c 'echo $SK,$BANNER,$VAULT_TOKEN'")
    assert ",,the-programs-own-1" == output


def test_a_secret_within_a_longer_variable(tmp_path: Path) -> None:
    """An address with a key is withheld, also with percent-encoding; a value with only the
    beginning of a key is passed on.
    """
    environ = {
        "SK": "planted/4711+key",
        "ORIGIN": "https://ops:planted/4711+key@origin.example.com/",
        "PROXY": "http://ops:planted%2F4711%2Bkey@proxy:3128",
        "PLACE": "/srv/planted/4711",
    }
    secrets = Secrets(environ, Paths(tmp_path, tmp_path), references=[SecretReference("env:SK")])

    assert {"SK", "ORIGIN", "PROXY"} == secrets.withheld()


def test_secret_that_is_a_common_word(tmp_path: Path) -> None:
    """The variable of the secret is withheld; other variables with the same value are passed on."""
    environ = {"DP_Id": "1", "SHLVL": "1", "MODE": "production"}
    references = [SecretReference("env:DP_Id"), SecretReference("production")]

    secrets = Secrets(environ, Paths(tmp_path, tmp_path), references=references)

    assert {"DP_Id"} == secrets.withheld()


def test_command_that_fails_without_an_error(secrets: Secrets) -> None:
    """The message has the exit code."""
    assert "the command false failed with exit code 1" == complaint(secrets, "command:false")


def test_long_error_of_a_command(secrets: Secrets) -> None:
    """The message has the end of a long error, which usually has the reason."""
    message = complaint(
        secrets, "command:sh -c 'yes no | head -n 1000 >&2; echo reason >&2; exit 1'"
    )

    assert message.endswith("no no reason")
    assert len(message) < 400


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("command:/no/such/program x", "the command /no/such/program cannot be run: No such file"),
        ("command:. x", "the command . cannot be run: Permission denied"),
        ("command:echo 'open", "the command cannot be read: no closing quotation"),
        ("command:echo\0", "the command echo"),
        (r"command:printf '\377'", "the output of printf is not UTF-8 text"),
    ],
)
def test_command_that_cannot_be_started(secrets: Secrets, reference: str, expected: str) -> None:
    """The message has the reason, without the arguments."""
    assert complaint(secrets, reference).startswith(expected)


def test_command_that_does_not_end(tmp_path: Path) -> None:
    """A program that hangs is ended and reported."""
    impatient = Secrets(
        os.environ, Paths(tmp_path, tmp_path), command_timeout=timedelta(milliseconds=50)
    )

    assert "the command sleep was still running after 0 seconds" == complaint(
        impatient, "command:sleep 60"
    )


KEYRING = """
def get_password(service_name, username):
    if service_name == "locked":
        raise errors.KeyringLocked("locked collection")
    return {("mail/example", "ops"): "from the ring"}.get((service_name, username))
"""


def through_key_ring(reference: str, folder: Path, *, installed: bool) -> str:
    """Resolve a reference in a new process, with or without the library `keyring`.

    The stand-in follows the library's documentation: `get_password` returns a string or `None`, and
    every error is a `keyring.errors.KeyringError`.
    """
    package = folder / "keyring"
    package.mkdir()
    (package / "errors.py").write_text(
        "class KeyringError(Exception): pass\nclass KeyringLocked(KeyringError): pass\n"
        if installed
        else "raise ImportError\n"
    )
    (package / "__init__.py").write_text(f"from . import errors\n{KEYRING}")
    program = (
        "from pathlib import Path\n"
        "from certferry.config.files import Paths\n"
        "from certferry.config.secrets import SecretReference, Secrets\n"
        "from certferry.errors import ConfigError\n"
        "try:\n"
        "    secrets = Secrets({}, Paths(Path(), Path()))\n"
        f"    print(secrets.resolve(SecretReference({reference!r})).reveal())\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.removesuffix("\n")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("keyring:mail/example/ops", "from the ring"),
        ("keyring:mail/example/dev", "the key ring has no entry for dev at mail/example"),
        ("keyring:locked/ops", "the key ring cannot be opened: locked collection"),
        ("keyring:mail", "write keyring:SERVICE/USER"),
    ],
)
def test_secret_in_a_key_ring(tmp_path: Path, reference: str, expected: str) -> None:
    """`keyring:SERVICE/USER` is an entry of the system's key ring."""
    assert expected == through_key_ring(reference, tmp_path, installed=True)


def test_key_ring_without_its_library(tmp_path: Path) -> None:
    """The error has the command to install the extra."""
    assert (
        "needs the extra `keyring`; run in certferry's checkout:"
        f" {sys.executable} -m pip install --require-hashes -r requirements/keyring.txt"
        == through_key_ring("keyring:mail/ops", tmp_path, installed=False)
    )


def test_references_without_secrets_in_their_text() -> None:
    """A literal is a reference too, and is masked."""
    assert "HUNTER2" not in repr(SecretReference("HUNTER2"))
    assert "HUNTER2" not in str(SecretReference("HUNTER2"))


def test_resolved_value_is_a_secret(secrets: Secrets) -> None:
    """A resolved value is masked in every text."""
    assert isinstance(secrets.resolve(SecretReference("env:TOKEN")), Secret)
    assert "from the environment" not in repr(secrets)
