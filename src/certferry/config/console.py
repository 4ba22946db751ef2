"""Read `[console]`: the address to listen at, the console's URL, the certificate to serve."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from certferry.config import values
from certferry.config.files import Paths
from certferry.config.model import UNIX, ConsoleSettings
from certferry.config.values import Read, TomlTable
from certferry.core.network import is_loopback
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.values import replace

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:]+)):(?P<port>\d{1,5})")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The form of a header's name: a token (RFC 9110 §5.1)."""
_SET_BY_OTHERS = re.compile(
    "authorization|cache-control|connection|cookie2?|date|dnt|expect|forwarded|from|host|keep-alive"
    "|origin|pragma|priority|range|referer|set-cookie|te|trailer|transfer-encoding|upgrade|via"
    "|user-agent|x-real-ip|x-forwarded-(for|host|port|proto|prefix|server)"
    "|(accept|access-control|content|if|proxy|sec|upgrade)(-.*)?"
)
"""Headers that cannot carry the user's name from a proxy: browsers, HTTP libraries or proxies set
them for other purposes (RFC 9110; Fetch, "forbidden request-header", of 2026-11).
"""
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
"""The allowed form of the URL's path: only characters that proxies, browsers and cookies leave as
they are.
"""

_FILES = ("fullchain", "privkey")


def read_console(table: TomlTable, paths: Paths, lineages: Collection[str]) -> ConsoleSettings:
    """Read `[console]`. The certificate must be among the declared `lineages`."""
    usual = ConsoleSettings()
    settings = ConsoleSettings(
        listen=table.take("listen", listening(paths), usual.listen),
        url=table.take("url", _url, None),
        certificate=table.take("certificate", values.one_of([*lineages]), None),
        fullchain=table.take("fullchain", _file(paths), None),
        privkey=table.take("privkey", _file(paths), None),
        user_header=table.take("user_header", _header, None),
        trusted_proxies=table.take_list("trusted_proxies", _network, (), empty=True),
    )
    for key, other in (_FILES, _FILES[::-1]):
        if key not in table and other in table:
            table.report(key, Text("missing: required together with {other}", other=other))
    if "certificate" in table and any(key in table for key in _FILES):
        problem = Text("cannot be combined with `fullchain` and `privkey`; remove one of the two")
        table.report("certificate", problem)
    is_served = any(key in table for key in ("certificate", *_FILES))
    for key, problem in wrong_listening(settings, has_certificate=is_served):
        table.report(key, problem)
    table.done()
    return settings


def wrong_listening(
    console: ConsoleSettings, *, has_certificate: bool
) -> Iterator[tuple[str, Text]]:
    """Yield the key and the problem of each setting that does not fit the address to listen at. Any
    setting fits a unix socket.
    """
    if console.address is None:
        return
    host, _ = console.address
    if not has_certificate and not is_loopback(host):
        problem = Text(
            "{host} is reachable from other machines, and there is no certificate: write"
            " `certificate`, or `fullchain` and `privkey`; or listen at 127.0.0.1, behind a proxy",
            host=host,
        )
        yield "listen", problem
    if console.user_header is not None:
        problem = Text(
            "only with a unix socket, since anyone who reaches a port could send the header;"
            ' write listen = "unix:/run/certferry/console.sock"'
        )
        yield "user_header", problem


def listening_elsewhere(console: ConsoleSettings, listen: str, paths: Paths) -> ConsoleSettings:
    """Return the settings with `listen` as the address to listen at. Raises `ConfigError` for a
    wrong address, and for an address that does not fit the other settings.
    """
    settings = replace(console, listen=listening(paths)(listen))
    for _, problem in wrong_listening(settings, has_certificate=settings.has_certificate):
        raise ConfigError(problem)
    return settings


def listening(paths: Paths) -> Read[str]:
    """Make a reader of the address to listen at: `ADDRESS:PORT`, `[IPv6]:PORT` or `unix:PATH`."""

    def read(value: object) -> str:
        text = values.word(value).strip()
        if text.startswith(UNIX):
            path = text.removeprefix(UNIX)
            if not path or path.endswith("/"):
                raise ConfigError(
                    Text("lacks the path of a socket; write unix:/run/certferry/console.sock")
                )
            return f"{UNIX}{paths.resolve(path)}"
        parts = _ADDRESS.fullmatch(text)
        if parts is None or not _is_address(parts["v6"], parts["host"], int(parts["port"])):
            problem = Text(
                "{written} is not an address with a port; write 127.0.0.1:8080, [::1]:8080 or"
                " unix:/run/certferry/console.sock"
            )
            raise ConfigError(problem.filled(written=repr(text)))
        return text

    return read


def _is_address(v6: str | None, host: str | None, port: int) -> bool:
    kind = ipaddress.IPv4Address if v6 is None else ipaddress.IPv6Address
    with suppress(ValueError):
        return 0 < port <= 65535 and (host == "localhost" or bool(kind(v6 or host or "")))  # noqa: PLR2004 - RFC 9293: ports have 16 bits
    return False


def _url(value: object) -> str:
    """Read the console's URL as used in browsers. Return the URL without a slash at the end."""
    text = values.word(value)
    parts = values.split_url(text)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("must not contain a user name or password"))
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ConfigError(Text("must end with the path: no `?` and no `#`"))
    if not _PATH.fullmatch(parts.path) or {".", ".."} & {*parts.path.split("/")}:
        problem = Text(
            "the path {path} can contain only letters, digits, `.`, `_`, `~`, `-` between `/`"
        )
        raise ConfigError(problem.filled(path=repr(parts.path)))
    origin = urlsplit(text)
    return f"{origin.scheme.lower()}://{origin.netloc.lower()}{parts.path.rstrip('/')}"


def _file(paths: Paths) -> Read[str]:
    # The file is not opened here, because the first run may still have to write it. `certferry
    # serve` checks for the file.
    return lambda value: str(paths.resolve(values.word(value)))


def _header(value: object) -> str:
    name = values.word(value).strip()
    if not _HEADER.fullmatch(name):
        raise ConfigError(Text("must be a header's name, for example X-Forwarded-User"))
    if _SET_BY_OTHERS.fullmatch(name.lower()):
        problem = Text(
            "browsers or proxies set {header} themselves; have the proxy write the user's name in"
            " another header, for example X-Forwarded-User",
            header=name,
        )
        raise ConfigError(problem)
    return name


def _network(value: object) -> str:
    text = values.word(value).strip()
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        problem = Text(
            "{written} is neither an address nor a network; write 10.0.0.2 or 10.0.0.0/8"
        )
        raise ConfigError(problem.filled(written=repr(text))) from None
