"""Patterns over domain names: what `domains` and `exclude` of a deployment may hold.

A pattern is one of three: a name; `.x`, the wildcard domain of x, as targets write it; or a glob,
in which each `*` stands for any characters or none, dots among them. `*.x` so matches every name
below x, and the wildcard domain `*.x` itself (docs/decisions/0022-globs.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import idna

from certferry.core.identifiers import MAX_NAME, is_wildcard, normalise
from certferry.errors import ConfigError
from certferry.text import Text

STAR = "*"
_OTHER_SIGNS = re.compile(r"[?\[\]{}!|^]")
"""What stands for other characters elsewhere, in shells and in regular expressions."""
_STARS = re.compile(r"\*+")
_GLOB = re.compile(r"(?!\.)(?!.*\.\.)[a-z0-9*.-]+(?<!\.)")


def is_glob(pattern: str) -> bool:
    """Tell whether a pattern is neither a name nor a wildcard domain."""
    return STAR in pattern


def read_pattern(written: str) -> str:
    """Give the one spelling of a pattern. Raises `ConfigError` for what is none."""
    stripped = written.strip()
    if _OTHER_SIGNS.search(stripped):
        raise ConfigError(
            Text("{pattern} is not understood", pattern=repr(written)),
            hint=Text("only * stands for other characters, as in img-*.example.com"),
        )
    if is_glob(stripped):
        return _read_glob(written, _STARS.sub(STAR, stripped.lower().removesuffix(".")))
    return pattern_of(normalise(stripped))


def _read_glob(written: str, glob: str) -> str:
    try:
        spelled = ".".join(map(_in_ascii, glob.split(".")))
    except idna.IDNAError:
        raise _matches_nothing(written) from None
    if not _GLOB.fullmatch(spelled) or len(spelled) > MAX_NAME:
        raise _matches_nothing(written)
    return spelled


def _in_ascii(label: str) -> str:
    """Give an A-label. A part of a name in another script has none: idna refuses the star."""
    return label if label.isascii() else idna.encode(label, uts46=True).decode("ascii")


def _matches_nothing(written: str) -> ConfigError:
    return ConfigError(
        Text("{pattern} can match no domain name", pattern=repr(written)),
        hint=Text(
            "write it like *.example.com or img-*.example.com; a label that is not in ASCII stands"
            " there whole, or as xn--…"
        ),
    )


def pattern_of(domain: str) -> str:
    """Give the pattern that matches this domain alone."""
    return domain.removeprefix(STAR) if is_wildcard(domain) else domain


def domain_of(pattern: str) -> str:
    """Give the domain that a pattern names which is no glob, in certferry's spelling."""
    return STAR + pattern if pattern.startswith(".") else pattern


def matches(pattern: str, domain: str) -> bool:
    """Tell whether a pattern matches a domain, in a time that no pattern makes long."""
    if not is_glob(pattern):
        return domain == domain_of(pattern)
    first, *middle, last = pattern.split(STAR)
    if not domain.startswith(first):
        return False
    at = len(first)
    for part in middle:
        found = domain.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return domain.endswith(last) and len(domain) - len(last) >= at


def match_of(patterns: Iterable[str], domain: str) -> str | None:
    """Give the first pattern that matches a domain, `None` when none does."""
    return next((pattern for pattern in patterns if matches(pattern, domain)), None)


def takes_all(wide: str, pattern: str) -> bool:
    """Tell whether one pattern matches everything that another matches."""
    if not is_glob(wide):
        return wide == pattern
    # A star is matched by a star alone, and that star matches what the first one stands for.
    return matches(wide, domain_of(pattern))


def closeness(globs: Iterable[str], domain: str) -> int:
    """Tell how closely a domain is described: by the letters of the longest glob that matches."""
    return max((1 + len(g.replace(STAR, "")) for g in globs if matches(g, domain)), default=0)
