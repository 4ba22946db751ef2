"""The far end: the shell script with its variables, and the script's answers."""

from __future__ import annotations

import secrets
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from msgspec import Struct

from certferry.adapters.files import directory as pem
from certferry.adapters.files.receipt import RECEIPT, Receipt
from certferry.core.certificates.certificate import PRIVKEY, CertificateBundle
from certferry.core.desired.certificate import FileDelivery, Program

LOOK, DELIVER = "look", "deliver"
LAST = frozenset({"looked", "same", "delivered", "put-back", "not-reloaded", "error"})
"""The answers after which the script ends."""

_SHELL = """sh -c 'eval "$(dd bs=1 count={count} 2>/dev/null)"'"""


@cache
def _script() -> str:
    return files("certferry.adapters.ssh").joinpath("place_files.sh").read_text(encoding="utf-8")


def command_line(count: int, *, sudo: bool) -> str:
    """Return the remote command, which reads a script of `count` bytes and runs the script.

    The command is one line without a secret. csh refuses an argument of several lines.
    """
    return f"exec {'sudo -n ' if sudo else ''}{_SHELL.format(count=count)}"


class Request(Struct, frozen=True):
    """A script for the server, and the files that the script reads."""

    #: The words at the beginning of each answer.
    mark: str
    #: The script with its variables.
    script: bytes
    #: The contents of the files, in the order of reading.
    contents: tuple[bytes, ...] = ()


def look_at(delivery: FileDelivery) -> Request:
    """Return the script that looks at a directory."""
    return _request(LOOK, delivery, {}, "each() { :; }")


def deliver_to(
    delivery: FileDelivery,
    bundle: CertificateBundle,
    variables: Mapping[str, str],
    *,
    again: bool,
) -> Request:
    """Return the script that delivers a certificate. `variables` are for the programs `test` and
    `reload`.
    """
    contents = pem.contents(bundle)
    receipt = Receipt.of(bundle, delivery.reload).encode()
    calls: list[str] = []
    for name in pem.NAMES:
        content = contents[name]
        mode = delivery.key_mode if name == PRIVKEY else delivery.mode
        rights = stat.filemode(stat.S_IFREG | mode)
        words = [name, str(len(content)), pem.digest(content), rights, f"{mode:o}"]
        calls.append('"$1" ' + " ".join(words))
    values = {
        "again": "1" if again else "",
        "receipt_size": str(len(receipt)),
        "receipt_digest": pem.digest(receipt),
    }
    assigned = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    each = f"each() {{ {' && '.join(calls)}; }}"
    sent = (*(contents[name] for name in pem.NAMES), receipt)
    return _request(DELIVER, delivery, values, "\n".join([*assigned, each]), sent)


def _request(
    mode: str,
    delivery: FileDelivery,
    values: Mapping[str, str],
    functions: str,
    contents: tuple[bytes, ...] = (),
) -> Request:
    mark = f"certferry-{secrets.token_hex(8)}"
    programs = [program for program in (delivery.test, delivery.reload) if program is not None]
    longest = max((program.timeout.total_seconds() for program in programs), default=0)
    assigned = {
        "mark": mark,
        "directory": delivery.directory,
        "owner": delivery.owner or "",
        "group": delivery.group or "",
        "limit": f"{longest:.0f}",
        "has_test": "1" if delivery.test else "",
        "has_reload": "1" if delivery.reload else "",
        **values,
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in assigned.items()]
    lines += [functions, _needed(programs)]
    lines += [f"program_test() {{ {_words(delivery.test)}; }}"]
    lines += [f"program_reload() {{ {_words(delivery.reload)}; }}"]
    # Cut off anywhere, the script does nothing: the last line starts everything.
    script = "\n".join([*lines, _script(), f"{mode}\n"])
    return Request(mark, script.encode(), contents)


def _words(program: Program | None) -> str:
    return ":" if program is None else f'"$@" {shlex.join(program.arguments)}'


def _needed(programs: Sequence[Program]) -> str:
    calls = [f'"$1" {shlex.quote(program.arguments[0])}' for program in programs]
    return f"needed() {{ {'; '.join(calls) or ':'}; }}"


class RemoteFile(Struct, frozen=True):
    """A file on the server."""

    #: SHA-256 of the content, in lower-case hex.
    digest: str
    #: The permission bits.
    mode: int
    #: Number and name of the owner.
    owner: tuple[str, str]
    #: Number and name of the group.
    group: tuple[str, str]


@dataclass(slots=True)
class Answers:
    """The answers of the script."""

    #: The files by name.
    files: dict[str, RemoteFile] = field(default_factory=dict)
    #: The names that are links of an unfinished change.
    moving: set[str] = field(default_factory=set)
    #: The content of the full chain and of the receipt, by name.
    texts: dict[str, bytes] = field(default_factory=dict)
    #: The output of each program, by the program's name in the script.
    output: dict[str, bytes] = field(default_factory=dict)
    #: The exit code of each program, by the program's name in the script.
    codes: dict[str, int] = field(default_factory=dict)
    #: The last answer, a word of `LAST`; empty if the script did not end.
    last: str = ""
    #: The words of the last answer.
    words: str = ""
    #: Every answer's first word, in order.
    seen: list[str] = field(default_factory=list)


def is_complete(mark: str, out: bytes) -> bool:
    """Return whether the output holds a last answer."""
    return any(
        line.startswith(mark.encode())
        and line.split(b" ")[1:2] in [[word.encode()] for word in LAST]
        for line in out[-_TAIL:].splitlines()
    )


_TAIL = 4096  # bytes: a last answer has a few hundred


def read_answers(mark: str, out: bytes) -> Answers:
    """Read the answers in a script's output. Lines without the mark, such as a banner, do not
    count.
    """
    answers, prefix = Answers(), f"{mark} ".encode()
    running, lines = "", list[bytes]()
    for line in out.split(b"\n"):
        if not line.startswith(prefix):
            lines.append(line)
            continue
        word, _, rest = line.removeprefix(prefix).decode(errors="replace").partition(" ")
        answers.seen.append(word)
        if word == "begin":
            running, lines = rest, []
        elif word == "end":
            name, _, code = rest.partition(" ")
            answers.output[name] = b"\n".join(lines)
            answers.codes[name] = int(code) if code.isdecimal() else _NO_CODE
            running = ""
        else:
            _read_answer(answers, word, rest)
    if running:
        answers.output[running] = b"\n".join(lines)
    return answers


_NO_CODE = 255


def _read_answer(answers: Answers, word: str, rest: str) -> None:
    name, _, text = rest.partition(" ")
    if word == "file":
        _read_file(answers, rest)
    elif word == "moving":
        answers.moving.add(rest)
    elif word == "text":
        answers.texts[name] = answers.texts.get(name, b"") + text.encode() + b"\n"
    elif word in LAST:
        answers.last, answers.words = word, rest.strip()


_RIGHTS = "rwxrwxrwx"
_PARTS = 7  # words of an answer about a file


def _read_file(answers: Answers, rest: str) -> None:
    parts = rest.split(" ")
    if len(parts) != _PARTS or parts[0] not in (*pem.NAMES, RECEIPT):
        return
    name, digest, rights, uid, gid, owner, group = parts
    bits = rights[1:10]
    mode = sum(
        1 << (8 - place)
        for place, (bit, wanted) in enumerate(zip(bits, _RIGHTS, strict=False))
        if bit == wanted or (wanted == "x" and bit in "st")
    )
    answers.files[name] = RemoteFile(digest, mode, (uid, owner), (gid, group))
