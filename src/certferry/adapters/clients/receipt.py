"""What a directory says of its last delivery: which certificate, what was in each file, and which
program was run. It is there only when all of that has ended well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

RECEIPT = ".certferry"
"""The name of the file that holds it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The leaf's fingerprint, the SHA-256 of each file's content, and that of the program's
    arguments, which may hold a secret; `None` when none was run.
    """

    fingerprint: str
    digests: Mapping[str, str]
    reload: str | None = None


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt down."""
    return json.dumps(asdict(receipt), indent=1).encode() + b"\n"


def decode_receipt(data: bytes | None) -> Receipt | None:
    """Read a receipt; one that is missing or spoilt is none, and the delivery is made again."""
    try:
        written = json.loads(data or b"")
        return Receipt(str(written["fingerprint"]), dict(written["digests"]), written["reload"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
