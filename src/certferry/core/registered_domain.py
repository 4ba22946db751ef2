"""The registered domain of a name, as far as a CA's limits are counted by it."""

from __future__ import annotations

from certferry.core.identifiers import base_name

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
"""A few of the public suffix list (https://publicsuffix.org): China's, and some more."""


def registered_domain(name: str) -> str:
    """Return what was registered for a name: its last two labels, or three below a suffix such as
    com.cn.

    CAs use the whole public suffix list, which changes every week and has 10,000 lines. Where a
    suffix is not known here, the names of several owners count together: their budget ends too
    early, and never too late.
    """
    labels = base_name(name).split(".")
    wide = set(labels[-2:-1]) & set(_SECOND_LEVELS.get(labels[-1], "").split())
    return ".".join(labels[-3 if wide else -2 :])
