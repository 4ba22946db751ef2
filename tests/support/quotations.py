"""Ways in which a service can quote the private key of an upload, and parts of a quotation."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator

FRAMED = re.compile(r"-----BEGIN PRIVATE KEY-----(.*?)-----END", re.DOTALL)
PART = 12
"""The length of a part, in characters: so long a part appears nowhere else by chance."""


def body_of(key: str) -> str:
    framed = FRAMED.search(key)
    assert framed is not None
    return framed[1].replace("\n", "")


QUOTATIONS: dict[str, Callable[[str], str]] = {
    "whole": lambda key: key,
    "blanks": lambda key: " ".join(body_of(key)),
    "commas": lambda key: ",".join(body_of(key)),
    "dots": lambda key: ".".join(re.findall(".{1,8}", body_of(key))),
    "twos": lambda key: " ".join(re.findall(".{1,2}", body_of(key))),
    "threes": lambda key: "_".join(re.findall(".{1,3}", body_of(key))),
    "eights": lambda key: " ".join(re.findall(".{1,8}", body_of(key))),
    "list": lambda key: json.dumps(re.findall(".{1,8}", body_of(key))),
    "backwards": lambda key: body_of(key)[::-1],
    "codes": lambda key: " ".join(str(ord(character)) for character in body_of(key)),
    "hexadecimal": lambda key: body_of(key).encode().hex(" "),
    "numbered": lambda key: " ".join(f"{n}:{part}" for n, part in enumerate(body_of(key))),
    "fours between words": lambda key: " then ".join(re.findall(".{1,4}", body_of(key))),
    "shifted": lambda key: "".join(chr(ord(character) + 1) for character in body_of(key)),
    "letters between": lambda key: "x".join(body_of(key)),
    "Base64 of Base64": lambda key: base64.b64encode(body_of(key).encode()).decode(),
    "Base32": lambda key: " ".join(re.findall(".{1,8}", _base32(body_of(key)))),
    "between Chinese": lambda key: "证书".join(re.findall(".{1,4}", body_of(key))),
    "full width": lambda key: "".join(chr(ord(character) + 0xFEE0) for character in body_of(key)),
}


def _base32(words: str) -> str:
    return base64.b32encode(words.encode()).decode()


def parts_of(words: str) -> Iterator[str]:
    """Yield all parts of a length that appears nowhere else by chance."""
    return (words[at : at + PART] for at in range(len(words) - PART + 1))
