"""Which hosts `watch` is asked for: as people write and paste them, and in files."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from certferry.config.mistakes import Mistake, config_error, joined
from certferry.core.certificates.names import is_wildcard, normalise
from certferry.core.discovery.watched import Host, is_address
from certferry.errors import ConfigError
from certferry.system_words import system_words
from certferry.text import Text

STDIN = "-"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_BRACKETS = re.compile(r"\[(?P<host>[^\]]*)\](?::(?P<port>.*))?")

_HOW = Text("write a host on each line, such as img.example.com, img.example.com:8443 or a URL")


def hosts_asked_for(written: Sequence[str], file: str | None, port: int) -> list[Host]:
    """Give every host once, those of the command line first. `port` is for those that name none.

    Raises `ConfigError`, with all that is wrong in the file.
    """
    found = _of_command_line(written, port)
    if file is not None:
        found += _of_file(file, port)
    return list(dict.fromkeys(found))


def _of_command_line(written: Sequence[str], port: int) -> list[Host]:
    found, wrong = list[Host](), list[ConfigError]()
    for word in written:
        try:
            found.append(host_of(word, port))
        except ConfigError as error:
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else joined(wrong)
    return found


def _of_file(file: str, port: int) -> list[Host]:
    path = Path(file)
    found, wrong = list[Host](), list[Mistake]()
    for number, line in enumerate(_lines(file), start=1):
        word = _COMMENT.sub("", line).strip()
        if not word:
            continue
        try:
            found.append(host_of(word, port))
        except ConfigError as error:
            wrong.append(Mistake(path, number, "", "", error.message))
    if wrong:
        raise config_error(wrong, hint=_HOW)
    if not found:
        raise ConfigError(Text("{path} names no host", path=file), hint=_HOW)
    return found


def _lines(file: str) -> Iterable[str]:
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        problem = Text("cannot be read: {problem}", problem=system_words(error))
        raise ConfigError(Text("{path} {problem}", path=file, problem=problem)) from error
    try:
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(Text("{path} is not UTF-8 text", path=file), hint=_HOW) from None


def host_of(written: str, port: int) -> Host:
    """Give the host that is meant: a name, an address, with or without a port, or a URL with it.

    Raises `ConfigError` for what is none, a wildcard among it.
    """
    authority = re.split(r"[/?#]", _SCHEME.sub("", written.strip(), count=1))[0]
    name, own_port = _split(authority.rpartition("@")[2])
    number = port if own_port is None else _port(own_port, written)
    if is_address(name):
        return Host(str(ipaddress.ip_address(name)), number)
    if ":" in name:
        raise ConfigError(
            Text("{host} is not a host", host=repr(written)),
            hint=Text("write an IPv6 address in brackets: [2001:db8::1] or [2001:db8::1]:8443"),
        )
    return Host(_name(name, written), number)


def _split(authority: str) -> tuple[str, str | None]:
    """Take the port off. What has several colons and no brackets is an IPv6 address, or nothing."""
    bracketed = _BRACKETS.fullmatch(authority)
    if bracketed:
        return bracketed["host"], bracketed["port"]
    if authority.count(":") == 1:
        name, _, port = authority.partition(":")
        return name, port
    return authority, None


def _port(written: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", written) or not 1 <= int(written) <= 65535:  # noqa: PLR2004 - RFC 9293: ports have 16 bits
        raise ConfigError(
            Text("{host} names no port between 1 and 65535", host=repr(where)),
            hint=Text("write it like img.example.com:8443"),
        )
    return int(written)


def _name(written: str, whole: str) -> str:
    try:
        name = normalise(written)
    except ConfigError as error:
        raise ConfigError(
            error.message.filled(name=repr(whole)),
            hint=Text("write a host like img.example.com, img.example.com:8443, or a URL"),
        ) from None
    if is_wildcard(name):
        raise ConfigError(
            Text("{name} stands for many hosts", name=name),
            hint=Text("name one of them, such as {host}", host=name.replace("*", "www", 1)),
        )
    return name
