"""DNS names in certificates and at targets: one spelling (A-labels), wildcards, and patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

import idna

from certferry.errors import ConfigError
from certferry.text import Text

WILDCARD = "*."
CHALLENGE = "_acme-challenge"
MAX_NAME = 253  # the most characters of a name, without the final dot (RFC 1035 §2.3.4)
_CHALLENGE_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")
_LABEL = re.compile(r"^(?!-)[a-z0-9-]{1,63}(?<!-)$")


def normalise(name: str) -> str:
    """Return a name in certferry's spelling: lower case, A-labels, `*.` for a wildcard.

    Final dots are removed. A leading dot becomes `*.`, because some targets write wildcards with a
    leading dot. Raises `ConfigError` for any text but a host name of two labels or more, for
    example for a URL or an IP address.
    """
    stripped = name.strip().rstrip(".")
    if stripped.startswith("."):
        stripped = "*" + stripped
    wildcard = stripped.startswith(WILDCARD)
    base = _to_ascii(stripped.removeprefix(WILDCARD), name)
    labels = base.split(".")
    if is_address(base.strip("[]")):
        raise ConfigError(
            Text("{name} is an IP address, and IP addresses are not supported", name=name),
            hint=Text("write the domain name used by visitors"),
        )
    if len(labels) < 2 or len(base) > MAX_NAME or not all(map(_LABEL.match, labels)):  # noqa: PLR2004 - a public name has a suffix
        raise _not_a_name(name)
    if labels[-1].isdigit():
        raise _not_a_name(name)
    return WILDCARD + base if wildcard else base


def zone_name(name: str) -> str:
    """Return a zone's name in certferry's spelling: lower case and A-labels, without dots at the
    ends. ASCII labels are not checked. Raises `ConfigError` if the rules of internationalised names
    (IDNA) forbid another label.
    """
    labels = name.strip().strip(".").split(".")
    return ".".join(_to_ascii(label, name) for label in labels)


def _to_ascii(base: str, original: str) -> str:
    lowered = base.lower()
    if lowered.isascii():
        return lowered
    try:
        return idna.encode(lowered, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise _not_a_name(original) from None


def is_address(host: str) -> bool:
    """Return whether a host is an IPv4 or IPv6 address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _not_a_name(name: str) -> ConfigError:
    return ConfigError(
        Text("{name} is not a domain name", name=repr(name)),
        hint=Text("write a name like img.example.com or *.example.com, without https:// or a path"),
    )


def is_wildcard(name: str) -> bool:
    """Return whether a name is a wildcard: the name begins with `*.`."""
    return name.startswith(WILDCARD)


def base_name(name: str) -> str:
    """Return the name without `*.`."""
    return name.removeprefix(WILDCARD)


def challenge_name(identifier: str) -> str:
    """Return the name of the TXT record that proves an identifier (RFC 8555 §8.4). A wildcard and
    the name without `*.` share the record's name.
    """
    return f"{CHALLENGE}.{base_name(identifier)}"


def is_challenge_value(value: str) -> bool:
    """Return whether a TXT value has a challenge's form: SHA-256 in base64url (RFC 8555 §8.4)."""
    return _CHALLENGE_VALUE.fullmatch(value) is not None


def is_within(name: str, zone: str) -> bool:
    """Return whether a name is the zone's own name, or below the zone."""
    return name == zone or name.endswith(f".{zone}")


def suffixes(name: str) -> tuple[str, ...]:
    """Return a name and the name's parents of at least two labels, longest first. The result for a
    name of a single label is empty.
    """
    labels = name.split(".")
    return tuple(".".join(labels[start:]) for start in range(len(labels) - 1))


STAR = "*"
_OTHER_SIGNS = re.compile(r"[?\[\]{}!|^]")
"""Signs with a meaning in patterns of shells or in regular expressions. certferry refuses patterns
with these signs, rather than take the signs literally.
"""
_STARS = re.compile(r"\*+")
_GLOB = re.compile(r"(?!\.)(?!.*\.\.)[a-z0-9*.-]+(?<!\.)")


def is_glob(pattern: str) -> bool:
    """Return whether a pattern has a star. A pattern for a single domain has no star: the domain's
    name, or `.example.com` for the domain `*.example.com`.
    """
    return STAR in pattern


def read_pattern(text: str) -> str:
    """Return a pattern in certferry's spelling: a name, `.example.com` for a wildcard domain, or a
    glob with stars. Raises `ConfigError` for any other text.
    """
    stripped = text.strip()
    if _OTHER_SIGNS.search(stripped):
        raise ConfigError(
            Text("{pattern} is not understood", pattern=repr(text)),
            hint=Text("only * stands for other characters, as in img-*.example.com"),
        )
    if is_glob(stripped):
        return _read_glob(text, _STARS.sub(STAR, stripped.lower().removesuffix(".")))
    return pattern_of(normalise(stripped))


def _read_glob(text: str, glob: str) -> str:
    try:
        spelled = ".".join(map(_in_ascii, glob.split(".")))
    except idna.IDNAError:
        raise _matches_nothing(text) from None
    if not _GLOB.fullmatch(spelled) or len(spelled) > MAX_NAME:
        raise _matches_nothing(text)
    return spelled


def _in_ascii(label: str) -> str:
    """Return a label in ASCII. Raises `idna.IDNAError` if a non-ASCII label has a star, or is
    forbidden by IDNA.
    """
    return label if label.isascii() else idna.encode(label, uts46=True).decode("ascii")


def _matches_nothing(text: str) -> ConfigError:
    return ConfigError(
        Text("{pattern} can match no domain name", pattern=repr(text)),
        hint=Text(
            "write a pattern like *.example.com or img-*.example.com; write a non-ASCII label in"
            " full, or as xn--…"
        ),
    )


def pattern_of(domain: str) -> str:
    """Return the pattern that matches only this domain."""
    return domain.removeprefix(STAR) if is_wildcard(domain) else domain


def domain_of(pattern: str) -> str:
    """Return the domain named by a pattern without a star, in certferry's spelling."""
    return STAR + pattern if pattern.startswith(".") else pattern


def matches(pattern: str, domain: str) -> bool:
    """Return whether a pattern matches a domain. A star stands for any text, also for no text and
    for text with dots.
    """
    if not is_glob(pattern):
        return domain == domain_of(pattern)
    first, *middle, last = pattern.split(STAR)
    if not domain.startswith(first):
        return False
    at = len(first)
    for part in middle:
        start = domain.find(part, at)
        if start < 0:
            return False
        at = start + len(part)
    return domain.endswith(last) and len(domain) - len(last) >= at


def match_of(patterns: Iterable[str], domain: str) -> str | None:
    """Return the first pattern that matches a domain, or `None`."""
    return next((pattern for pattern in patterns if matches(pattern, domain)), None)


def takes_all(wide: str, pattern: str) -> bool:
    """Return whether `wide` matches every text that `pattern` matches."""
    if not is_glob(wide):
        return wide == pattern
    # The pattern is taken as a domain with stars in its name. Only a star of `wide` can match a
    # star of the pattern, and a star of `wide` matches every text that the pattern's star stands
    # for.
    return matches(wide, domain_of(pattern))


def closeness(globs: Iterable[str], domain: str) -> int:
    """Return how closely globs describe a domain. The result is 0 if no glob matches the domain.
    Otherwise the result is 1 plus the number of characters, without stars, in the longest matching
    glob.
    """
    return max((1 + len(g.replace(STAR, "")) for g in globs if matches(g, domain)), default=0)


_SECOND_LEVELS = {
    "cn": (
        "ac com edu gov mil net org ah bj cq fj gd gs gx gz ha hb he hi hk hl hn jl js jx ln mo nm"
        " nx qh sc sd sh sn sx tj tw xj xz yn zj"
    ),
    "hk": "com edu gov idv net org",
    "mo": "com edu gov net org",
    "tw": "com edu gov idv net org",
    "au": "com edu gov net org",
    "jp": "ac co go ne or",
    "kr": "ac co go ne or",
    "my": "com edu gov net org",
    "sg": "com edu gov net org",
    "uk": "ac co gov net org",
}
"""For some top-level domains, the second levels under which names are registered. The table is a
part of the list at https://publicsuffix.org: China's and some other countries' suffixes.
"""


def registered_domain(name: str) -> str:
    """Return a name's last two labels, or three below a suffix of `_SECOND_LEVELS`.

    The table lacks most suffixes, so the names of several owners may count as one registered
    domain. A count for a registered domain may therefore be too high, but never too low.
    """
    labels = base_name(name).split(".")
    wide = set(labels[-2:-1]) & set(_SECOND_LEVELS.get(labels[-1], "").split())
    return ".".join(labels[-3 if wide else -2 :])
