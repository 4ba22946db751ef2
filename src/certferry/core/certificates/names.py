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
        "ac com edu gov mil net org ah bj cq fj gd gs gx gz ha hb he hi hk hl hn jl js jx ln mo"
        " nm nx qh sc sd sh sn sx tj tw xj xz yn zj"
    ),
    "hk": "com edu gov idv net org",
    "mo": "com edu gov net org",
    "tw": "club com ebiz edu game gov idv mil net org",
    "ae": "ac co gov mil net org sch",
    "ar": "com edu gob int mil net org tur",
    "au": "asn com edu gov id net org",
    "bd": "ac com edu gov info mil net org",
    "br": "app art com dev eco edu eng gov ind inf net ong org",
    "bn": "com edu gov net org",
    "co": "com edu gov mil net nom org",
    "cr": "ac co ed fi go or sa",
    "cy": "ac biz com gov ltd net org",
    "do": "com edu gob gov mil net org sld web",
    "ec": "com edu fin gob gov info med mil net org pro",
    "eg": "com edu gov net org",
    "es": "com edu gob nom org",
    "gr": "com edu gov net org",
    "gt": "com edu gob ind mil net org",
    "hu": "co info org",
    "id": "ac biz co desa go mil my net or sch web",
    "il": "ac co gov idf k12 muni net org",
    "in": "ac co edu firm gen gov ind mil net nic org res",
    "jp": "ac ad co ed go gr lg ne or",
    "ke": "ac co go info me mobi ne or sc",
    "kh": "com edu gov mil net org per",
    "kr": "ac co es go hs kg mil ms ne or pe re sc",
    "kz": "com edu gov mil net org",
    "la": "com edu gov info int net org per",
    "lk": "com edu gov net org",
    "mm": "com edu gov net org",
    "mx": "com edu gob net org",
    "my": "biz com edu gov mil name net org",
    "ng": "com edu gov mobi name net org sch",
    "np": "com edu gov mil net org",
    "nz": "ac co geek gen govt iwi kiwi maori mil net org school",
    "pa": "com edu gob ing med net nom org",
    "pe": "com edu gob mil net nom org",
    "ph": "com edu gov mil net ngo org",
    "pk": "com edu fam gob gok gop gos gov net org web",
    "pl": "com edu gov info net org waw",
    "pt": "com edu gov org",
    "py": "com coop edu gov mil net org",
    "ro": "com info nom org rec store www",
    "rs": "ac co edu gov in org",
    "sa": "com edu gov med net org pub sch",
    "sg": "com edu gov net org",
    "th": "ac co go in mi net or",
    "tr": "av bbs bel biz com dr edu gen gov info k12 mil name net org pol tel tsk tv web",
    "ua": "co com edu gov in kiev kyiv net org pp",
    "uk": "ac co gov ltd me net nhs org plc police",
    "uy": "com edu gub mil net org",
    "ve": "co com info net org web",
    "vn": "ac biz com edu gov health info int name net org pro",
    "za": "ac co edu gov law mil net nom org school web",
    "app": "netlify vercel",
    "com": "cn co ddnsfree de eu freemyip gleeze kozow loseyourip uk us",
    "de": "com ddnss goip",
    "dev": "is-a pages workers",
    "info": "nsupdate",
    "io": "dedyn github gitlab",
    "kg": "us",
    "me": "myds synology",
    "net": "ddns dynu dynv6 jp sytes",
    "org": "accesscam camdvr dpdns duckdns eu hopto js myftp no-ip webredirect zapto",
}
"""For some top-level domains, the second levels under which names of different owners are
registered, by registries and by free-name services.

The table is a part of the list at https://publicsuffix.org (of 2026). A suffix missing here makes a
registered domain too wide: counts for a CA's limits become too high, and a search of the public
logs for the domain finds strangers' certificates, or is refused.
"""


def registered_domain(name: str) -> str:
    """Return a name's last two labels, or three below a suffix of `_SECOND_LEVELS`.

    The table lacks most suffixes, so the names of several owners may count as one registered
    domain. A count for a registered domain may therefore be too high, but never too low.
    """
    labels = base_name(name).split(".")
    wide = set(labels[-2:-1]) & set(_SECOND_LEVELS.get(labels[-1], "").split())
    return ".".join(labels[-3 if wide else -2 :])
