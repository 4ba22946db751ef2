"""References to secrets: where they lead, and what is said when they lead nowhere."""

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
    """Resolve references with one variable in the environment, relative to an empty directory."""
    environ = {**os.environ, "TOKEN": "from the environment", "VOID": ""}
    return Secrets(environ, Paths(tmp_path, tmp_path / "home"))


def resolve(secrets: Secrets, written: str) -> str:
    return secrets.resolve(SecretReference(written)).reveal()


def complaint(secrets: Secrets, written: str) -> str:
    with pytest.raises(ConfigError) as caught:
        secrets.resolve(SecretReference(written))
    return str(caught.value)


def private(path: Path, content: bytes) -> Path:
    """Write a file that no other user can read."""
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("written", ["plain", "with:colon", "https://x", "1:2", "a,b=="])
def test_anything_else_is_the_secret_itself(secrets: Secrets, written: str) -> None:
    """A word without a known kind before its colon is a literal."""
    assert SecretReference(written).is_literal
    assert written == resolve(secrets, written)


@pytest.mark.parametrize("written", ["$TOKEN", "${TOKEN}"])
def test_a_variable_as_a_shell_reads_it_is_no_secret(secrets: Secrets, written: str) -> None:
    """The name of one that is set would be sent as a password; a literal may begin with a $."""
    secrets.environ = {**secrets.environ, "TOKEN": "t"}

    assert 'variables are not written this way; write "env:TOKEN"' == complaint(secrets, written)
    assert "$OTHER" == resolve(secrets, "$OTHER")


@pytest.mark.parametrize("written", ["evn:TOKEN", "ENV:TOKEN", "env :TOKEN", "comand:x", "fil:x"])
def test_a_misspelled_kind_is_no_secret(secrets: Secrets, written: str) -> None:
    """What was surely meant as a reference is not sent to a vendor as a password."""
    said = complaint(secrets, written)

    assert said.startswith("is not a kind of reference; did you mean ")
    assert "TOKEN" not in said


def test_a_variable(secrets: Secrets) -> None:
    """`env:NAME` is the variable's value."""
    assert "from the environment" == resolve(secrets, "env:TOKEN")


@pytest.mark.parametrize("name", ["MISSING", "VOID"])
def test_a_variable_that_is_not_set(secrets: Secrets, name: str) -> None:
    """Missing and empty are the same mistake, and the variable is named."""
    assert f"the environment variable {name} is not set" == complaint(secrets, f"env:{name}")


@pytest.mark.parametrize("written", ["env:", "file: ", "command:", "keyring:"])
def test_a_reference_to_nothing(secrets: Secrets, written: str) -> None:
    """A kind without a place leads nowhere."""
    assert complaint(secrets, written).endswith("is incomplete")


def test_an_empty_literal(secrets: Secrets) -> None:
    """Nothing is no secret."""
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
def test_a_file(secrets: Secrets, tmp_path: Path, content: bytes, value: str) -> None:
    """`file:PATH` is the file's text without one final line end, which editors add."""
    private(tmp_path / "key", content)

    assert value == resolve(secrets, "file:key")
    assert value == resolve(secrets, f"file:{tmp_path}/key")


def test_a_file_at_home(secrets: Secrets, tmp_path: Path) -> None:
    """`~` is the user's home."""
    private(tmp_path / "home" / "key", b"at home")

    assert "at home" == resolve(secrets, "file:~/key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_open(secrets: Secrets, tmp_path: Path, mode: int) -> None:
    """A secret's file belongs to one user alone; the cure is in the message."""
    path = private(tmp_path / "key", b"HUNTER2")
    path.chmod(mode)

    assert (f"{path} is open to other users (mode {mode:04o}); run: chmod 600 {path}") == complaint(
        secrets, "file:key"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "{path} cannot be read: No such file or directory"),
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"\xff", "the output of {path} is not UTF-8 text"),
    ],
)
def test_a_file_without_a_secret(
    secrets: Secrets, tmp_path: Path, content: bytes | None, said: str
) -> None:
    """Each way a file can fail has its sentence."""
    path = tmp_path / "key"
    if content is not None:
        private(path, content)

    assert said.format(path=path) == complaint(secrets, "file:key")


@pytest.mark.timeout(10)
def test_a_file_that_is_none(secrets: Secrets, tmp_path: Path) -> None:
    """A run waits for no writer, and reads nothing endless."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "device").symlink_to("/dev/zero")

    for name in ("fifo", "device"):
        assert f"{tmp_path / name} is not a regular file" == complaint(secrets, f"file:{name}")


@as_root
def test_a_file_of_another_user(secrets: Secrets, tmp_path: Path) -> None:
    """They could have another secret used."""
    path = given_away(private(tmp_path / "key", b"theirs"))

    said = (
        f"{path} belongs to nobody, who can change it;"
        f" run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    )
    assert said == complaint(secrets, "file:key")


@as_root
@pytest.mark.parametrize(("mode", "is_read"), [(0o440, True), (0o460, False), (0o444, False)])
def test_a_file_that_root_gave_to_the_group(secrets: Secrets, mode: int, *, is_read: bool) -> None:
    """A service reads by its group what root has mounted for it, if no more than that is open."""
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


def test_a_name_that_no_file_can_have(secrets: Secrets) -> None:
    """TOML can write a NUL, and no system takes one."""
    assert complaint(secrets, "file:a\0b").endswith("is not a file name")


def test_a_command(secrets: Secrets) -> None:
    """`command:…` is what the program prints; no shell looks at its arguments."""
    assert "$TOKEN; `id` | x" == resolve(
        secrets, "command:printf '%s\n' '$TOKEN; `id`' '| x'"
    ).replace("\n", " ")


def test_a_command_has_the_environment_and_stands_beside_the_file(
    secrets: Secrets, tmp_path: Path
) -> None:
    """A program finds what the references find."""
    assert "from the environment" == resolve(secrets, "command:printenv TOKEN")
    assert str(tmp_path) == resolve(secrets, "command:pwd")


def test_a_command_is_asked_nothing(secrets: Secrets) -> None:
    """A program that reads its input finds it at its end, and does not wait for a person."""
    assert "the secret is empty" == complaint(secrets, "command:cat")


def test_a_command_that_fails_shows_its_complaint_and_not_its_output(secrets: Secrets) -> None:
    """Errors are shown, on one line; what the program printed, and its arguments, are not."""
    said = complaint(
        secrets,
        "command:sh -c 'echo HUNTER2; printf \"no\\033[31m\\nentry\\n\" >&2; exit 3' ARGUMENT",
    )

    assert "the command sh failed with exit code 3: no [31m entry" == said


def test_a_command_that_complains_of_secrets(tmp_path: Path) -> None:
    """Those that it has in its environment, and those that were resolved before, are masked before
    the complaint is cut.
    """
    environ = {**os.environ, "VAULT_TOKEN": "planted-" * 5}
    secrets = Secrets(environ, Paths(tmp_path, tmp_path))
    resolve(secrets, "planted+literal")
    script = 'echo planted+literal "$VAULT_TOKEN"; yes | head -n 140 | tr -d "\\n"; exit 1'

    said = complaint(secrets, f"command:sh -c '({script}) >&2; exit 1'")

    assert "planted" not in said
    assert said.endswith("y" * 140)


@pytest.mark.parametrize("referred", ["env:CDN_SK", "file:sk", "planted"])
def test_a_command_that_complains_of_what_is_not_followed_yet(
    tmp_path: Path, referred: str
) -> None:
    """Whatever the settings refer to is masked, and the usual variables, in whatever order the
    references are followed.
    """
    environ = {**os.environ, "QINIU_SK": "planted", "CDN_SK": "planted"}
    private(tmp_path / "sk", b"planted\n")
    secrets = Secrets(
        environ,
        Paths(tmp_path, tmp_path),
        references=[SecretReference(referred)],
        usual=lambda: {"QINIU_SK"},
    )

    said = complaint(secrets, "command:sh -c 'echo trying >&2; cat sk sk >&2; exit 1'")

    assert said.endswith(": trying ••• •••")


def test_a_command_that_complains_of_what_is_no_text(tmp_path: Path) -> None:
    """What is no UTF-8 is masked as what it is."""
    planted = private(tmp_path / "sk", b"planted \xe9").read_bytes()
    value = planted.decode(errors="surrogateescape")
    secrets = Secrets({**os.environ, "SK": value}, Paths(tmp_path, tmp_path), usual=lambda: {"SK"})

    said = complaint(secrets, "command:sh -c 'cat sk >&2; exit 1'")

    assert said.endswith(": •••")


def known(secrets: Secrets) -> set[str]:
    """Return the known secrets in plain text."""
    return {secret.reveal() for secret in secrets.known()}


def test_what_is_known(tmp_path: Path) -> None:
    """What was resolved, and what variables hold whose names tell of secrets and whose values may
    be some, or that are referred to; not where something lies.
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
    for written in ("a literal", "file:key"):
        resolve(secrets, written)

    assert {"of dnspod", "word", "other", "of env_files", "a literal", "in a file"} == known(
        secrets
    ) - {""}
    assert {"SK", "DP_Key", "QINIU_SK"} == secrets.variables


def test_what_is_known_of_references_that_are_not_followed(tmp_path: Path) -> None:
    """Literals, and files, be they open to others or no text; certferry asks no service, and what
    cannot be read is no mistake.
    """
    private(tmp_path / "sk", b"in a file\n")
    private(tmp_path / "open", b"open to all").chmod(0o644)
    private(tmp_path / "bytes", b"caf\xe9")
    written = ["literal", "file:sk", "file:open", "file:bytes", "file:", "file:no-such", "file:\0"]
    asked = ["command:touch ran", "keyring:mail/ops", "env:NOT_SET"]
    references = list(map(SecretReference, written + asked))
    secrets = Secrets(os.environ, Paths(tmp_path, tmp_path), references=references)

    assert {"literal", "in a file", "open to all", "caf\udce9"} <= known(secrets)
    assert not known(secrets) & {*written[1:], *asked}
    assert not (tmp_path / "ran").exists()


COPY = "copied-4711-elsewhere"


@pytest.mark.parametrize(
    "reference", ["env:SK", "file:key", "command:cat key", COPY], ids=["env", "file", "command", ""]
)
def test_a_copy_of_a_secret_under_another_name(tmp_path: Path, reference: str) -> None:
    """No program gets it, whatever it is called; what only is called like a secret it gets."""
    private(tmp_path / "key", f"{COPY}\n".encode())
    environ = {**os.environ, "SK": COPY, "BANNER": COPY, "VAULT_TOKEN": "the-programs-own-1"}
    one = SecretReference(reference)
    secrets = Secrets(environ, Paths(tmp_path, tmp_path), references=[one])

    assert COPY == secrets.resolve(one).reveal()

    assert {"SK", "BANNER"} == secrets.withheld()
    seen = resolve(secrets, "command:sh -c 'echo $SK,$BANNER,$VAULT_TOKEN'")
    assert ",,the-programs-own-1" == seen


def test_a_secret_within_a_longer_variable(tmp_path: Path) -> None:
    """An address that carries a key is withheld too, also as percent-encoding writes it; what has
    only the beginning of one is not.
    """
    environ = {
        "SK": "planted/4711+key",
        "ORIGIN": "https://ops:planted/4711+key@origin.example.com/",
        "PROXY": "http://ops:planted%2F4711%2Bkey@proxy:3128",
        "PLACE": "/srv/planted/4711",
    }
    secrets = Secrets(environ, Paths(tmp_path, tmp_path), references=[SecretReference("env:SK")])

    assert {"SK", "ORIGIN", "PROXY"} == secrets.withheld()


def test_a_secret_that_is_a_word(tmp_path: Path) -> None:
    """It is withheld under its own name; elsewhere it is what it says."""
    environ = {"DP_Id": "1", "SHLVL": "1", "MODE": "production"}
    references = [SecretReference("env:DP_Id"), SecretReference("production")]

    secrets = Secrets(environ, Paths(tmp_path, tmp_path), references=references)

    assert {"DP_Id"} == secrets.withheld()


def test_a_command_that_fails_in_silence(secrets: Secrets) -> None:
    """Without words of its own, its exit code speaks."""
    assert "the command false failed with exit code 1" == complaint(secrets, "command:false")


def test_a_command_that_complains_at_length(secrets: Secrets) -> None:
    """The end of a long complaint is shown, where the reason usually is."""
    said = complaint(secrets, "command:sh -c 'yes no | head -n 1000 >&2; echo reason >&2; exit 1'")

    assert said.endswith("no no reason")
    assert len(said) < 400


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("command:/no/such/program x", "the command /no/such/program cannot be run: No such file"),
        ("command:. x", "the command . cannot be run: Permission denied"),
        ("command:echo 'open", "the command cannot be read: no closing quotation"),
        ("command:echo\0", "the command echo"),
        (r"command:printf '\377'", "the output of printf is not UTF-8 text"),
    ],
)
def test_a_command_that_cannot_be_run(secrets: Secrets, written: str, said: str) -> None:
    """What is wrong with the command is said, without its arguments."""
    assert complaint(secrets, written).startswith(said)


def test_a_command_that_does_not_end(tmp_path: Path) -> None:
    """A program that hangs is ended and told."""
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


def through_key_ring(written: str, folder: Path, *, installed: bool) -> str:
    """Follow a reference in a process of its own, with or without the library `keyring`.

    The library stands in as its documentation describes it: `get_password` gives a string or
    `None`, and every error is a `keyring.errors.KeyringError`.
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
        f"    print(secrets.resolve(SecretReference({written!r})).reveal())\n"
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
    ("written", "said"),
    [
        ("keyring:mail/example/ops", "from the ring"),
        ("keyring:mail/example/dev", "the key ring has no entry for dev at mail/example"),
        ("keyring:locked/ops", "the key ring cannot be opened: locked collection"),
        ("keyring:mail", "write keyring:SERVICE/USER"),
    ],
)
def test_a_key_ring(tmp_path: Path, written: str, said: str) -> None:
    """`keyring:SERVICE/USER` asks the system's key ring."""
    assert said == through_key_ring(written, tmp_path, installed=True)


def test_a_key_ring_needs_its_library(tmp_path: Path) -> None:
    """Without the extra, the error says how to install it."""
    assert (
        "needs the extra `keyring`; run in certferry's checkout:"
        f" {sys.executable} -m pip install --require-hashes -r requirements/keyring.txt"
        == through_key_ring("keyring:mail/ops", tmp_path, installed=False)
    )


def test_references_do_not_print() -> None:
    """A literal is a reference too."""
    assert "HUNTER2" not in repr(SecretReference("HUNTER2"))
    assert "HUNTER2" not in str(SecretReference("HUNTER2"))


def test_what_is_found_is_a_secret(secrets: Secrets) -> None:
    """The value cannot be printed by accident from here on."""
    assert isinstance(secrets.resolve(SecretReference("env:TOKEN")), Secret)
    assert "from the environment" not in repr(secrets)
