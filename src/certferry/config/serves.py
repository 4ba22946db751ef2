"""Reader of `serves`: the hosts that must present the certificate of a receiver."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from certferry.config import values
from certferry.config.mistakes import instead_of
from certferry.config.values import TomlTable
from certferry.core.certificates import names as identifiers
from certferry.core.certificates.certificate import covered_by
from certferry.core.network import HTTPS, Host
from certferry.errors import ConfigError
from certferry.text import Text

_ENTRY = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]/\s]+))(?::(?P<port>\d{1,5}))?")
_KEYS = ("name", "address")


def read_serves(table: TomlTable, names: Sequence[str]) -> tuple[Host, ...]:
    """Read `serves`. `names` are the names in the certificate, or empty if unknown. An entry whose
    name the certificate does not cover, and a second equal entry, are reported.
    """
    hosts: list[Host] = []

    def entry(value: object) -> Host:
        host = _table(value, names) if isinstance(value, dict) else _host(value, names)
        if names and not covered_by(names, host.name):
            problem = Text("the certificate does not cover {name}", name=host.name)
            raise ConfigError(problem, hint=Text("its names are {names}", names=list(names)))
        if host in hosts:
            raise ConfigError(Text("{host} is already listed", host=str(host)))
        hosts.append(host)
        return host

    return table.take_list("serves", entry, ())


def _table(value: Mapping[str, object], names: Sequence[str]) -> Host:
    for key in value:
        if key not in _KEYS:
            problem = Text("unknown key {key}; {meant}", key=key, meant=instead_of(key, _KEYS))
            raise ConfigError(problem)
    if "name" not in value:
        raise ConfigError(Text("lacks the name: write {entry}", entry=_example(names, "10.0.0.5")))
    host = _host(value["name"], names)
    if "address" not in value:
        return host
    address = values.word(value["address"]).strip("[]")
    if not identifiers.is_address(address):
        problem = Text("{address} is not an IP address", address=address)
        hint = Text("the port stands after the name: {entry}", entry=_example(names, "10.0.0.5"))
        raise ConfigError(problem, hint=hint)
    return Host(host.name, host.port, address)


def _host(value: object, names: Sequence[str]) -> Host:
    text = values.word(value).strip()
    parts = _ENTRY.fullmatch(text)
    port = int((parts and parts["port"]) or HTTPS)
    if parts is None or not 1 <= port <= 65535:  # noqa: PLR2004 - RFC 9293: ports have 16 bits
        problem = Text("{text} is no host", text=repr(text))
        hint = Text("write a name, or a name with a port: {name}", name=f'"{_name(names)}:8443"')
        raise ConfigError(problem, hint=hint)
    name = parts["v6"] or parts["name"]
    if identifiers.is_address(name):
        problem = Text("{address} is an address, and clients ask for a name", address=name)
        hint = Text("write {entry}", entry=_example(names, name))
        raise ConfigError(problem, hint=hint)
    if identifiers.is_wildcard(name) or name.startswith("."):
        problem = Text("{name} stands for many hosts", name=name)
        hint = Text("name one of these hosts, for example {host}", host=_name((name,)))
        raise ConfigError(problem, hint=hint)
    return Host(identifiers.normalise(name), port)


def _name(names: Sequence[str]) -> str:
    """Return a host that the certificate covers, for an example."""
    name = next(iter(names), "www.example.com")
    return f"www.{identifiers.base_name(name).lstrip('.')}" if name[0] in "*." else name


def _example(names: Sequence[str], address: str) -> str:
    return f'{{ name = "{_name(names)}", address = "{address}" }}'
