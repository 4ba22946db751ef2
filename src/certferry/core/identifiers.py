"""DNS names as certificates and targets see them: A-labels, wildcards, challenge names.

A wildcard is written `*.example.com` everywhere in certferry; targets that spell it otherwise
translate at their own edge.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import idna

from certferry.errors import ConfigError
from certferry.text import Text

WILDCARD = "*."
CHALLENGE = "_acme-challenge"
MAX_NAME = 253  # RFC 1035 §2.3.4, in text form without the final dot
_CHALLENGE_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")
_LABEL = re.compile(r"^(?!-)[a-z0-9-]{1,63}(?<!-)$")


def normalise(name: str) -> str:
    """Give the one spelling of a name: lower case, A-labels, no final dot, `*.` for a wildcard.

    A leading dot, as some targets write wildcards, is read as `*.`. Raises `ConfigError` for
    anything that is not a host name of two labels or more, a URL or an address among them.
    """
    stripped = name.strip().rstrip(".")
    if stripped.startswith("."):
        stripped = "*" + stripped
    wildcard = stripped.startswith(WILDCARD)
    base = _to_ascii(stripped.removeprefix(WILDCARD), name)
    labels = base.split(".")
    if _is_address(base):
        raise ConfigError(
            Text("{name} is an IP address, and IP addresses are not supported", name=name),
            hint=Text("write the domain name that visitors use"),
        )
    if len(labels) < 2 or len(base) > MAX_NAME or not all(map(_LABEL.match, labels)):  # noqa: PLR2004 - a public name has a suffix
        raise _not_a_name(name)
    if labels[-1].isdigit():
        raise _not_a_name(name)
    return WILDCARD + base if wildcard else base


def zone_name(written: str) -> str:
    """Give the one spelling of a zone: as `normalise`, and it may be below a label that no host
    has, such as `_acme-challenge`. Raises `ConfigError` for what is in no A-labels.
    """
    labels = written.strip().strip(".").split(".")
    return ".".join(_to_ascii(label, written) for label in labels)


def _to_ascii(base: str, written: str) -> str:
    lowered = base.lower()
    if lowered.isascii():
        return lowered
    try:
        return idna.encode(lowered, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise _not_a_name(written) from None


def _is_address(written: str) -> bool:
    try:
        ip_address(written.strip("[]"))
    except ValueError:
        return False
    return True


def _not_a_name(written: str) -> ConfigError:
    return ConfigError(
        Text("{name} is not a domain name", name=repr(written)),
        hint=Text("write it like img.example.com or *.example.com, without https:// or a path"),
    )


def is_wildcard(name: str) -> bool:
    """Tell whether the name stands for every name one label below it."""
    return name.startswith(WILDCARD)


def base_name(name: str) -> str:
    """Give the name without `*.`."""
    return name.removeprefix(WILDCARD)


def challenge_name(identifier: str) -> str:
    """Give the name of the TXT record that proves an identifier (RFC 8555 §8.4).

    Apex and wildcard share one, since the wildcard's `*.` is left out.
    """
    return f"{CHALLENGE}.{base_name(identifier)}"


def is_challenge_value(value: str) -> bool:
    """Tell whether a TXT value can be a challenge's: SHA-256 in base64url (RFC 8555 §8.4)."""
    return _CHALLENGE_VALUE.fullmatch(value) is not None


def is_within(name: str, zone: str) -> bool:
    """Tell whether a name is a zone's, or below it."""
    return name == zone or name.endswith(f".{zone}")


def suffixes(name: str) -> tuple[str, ...]:
    """Give the name and each of its parents down to two labels, longest first."""
    labels = name.split(".")
    return tuple(".".join(labels[start:]) for start in range(len(labels) - 1))
