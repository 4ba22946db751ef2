"""Uploads that Qiniu refuses with words that quote what it was sent: the private key of each is in
nothing that an operator reads, and in nothing that is kept.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

from certferry.cli.exits import Exit
from certferry_sandbox.faults import Fault
from certferry_sandbox.world import demonstration
from tests.support.command import run_here

FRAMED = re.compile(r"-----BEGIN PRIVATE KEY-----(.*?)-----END", re.DOTALL)


def body_of(key: str) -> str:
    framed = FRAMED.search(key)
    assert framed is not None
    return framed[1].replace("\n", "")


QUOTATIONS: dict[str, Callable[[str], str]] = {
    "whole": lambda key: key,
    "blanks": lambda key: " ".join(body_of(key)),
    "commas": lambda key: ",".join(body_of(key)),
    "eights": lambda key: " ".join(re.findall(".{1,8}", body_of(key))),
    "list": lambda key: json.dumps(re.findall(".{1,8}", body_of(key))),
    "backwards": lambda key: body_of(key)[::-1],
    "codes": lambda key: " ".join(str(ord(character)) for character in body_of(key)),
    "hexadecimal": lambda key: body_of(key).encode().hex(" "),
    "numbered": lambda key: " ".join(f"{n}:{part}" for n, part in enumerate(body_of(key))),
    "fours between words": lambda key: " then ".join(re.findall(".{1,4}", body_of(key))),
    "shifted": lambda key: "".join(chr(ord(character) + 1) for character in body_of(key)),
}


def test_key_that_refusals_quote(tmp_path: Path) -> None:
    """Nothing of any quotation is on stdout or stderr, in the log with `-v`, in the documents, the
    history or the state; the code, its meaning and the id of the request are.
    """
    quoted: list[str] = []
    ways = cycle(QUOTATIONS.values())

    def quotation(request: bytes) -> bytes:
        quoted.append(next(ways)(json.loads(request)["pri"]))
        code = (400000, 400324)[len(quoted) % 2]
        return json.dumps({"code": code, "error": f"bad input: {quoted[-1]}"}).encode()

    log = tmp_path / "certferry.log"
    with demonstration() as world:
        common = ["--config", str(world.write_files(tmp_path)), "--log-file", str(log), "-v"]
        environ = os.environ | world.environment
        fault = Fault.quoting(400, quotation, [("X-Reqid", "kx0AAABo3vJvbsMY")])
        world.qiniu.fusion.faults.add(fault, on="POST *", times=None)
        ended = []
        while len(quoted) < len(QUOTATIONS):
            for words in (("sync",), ("sync", "--json")):
                ended.append(run_here([*common, *words], environ))
                assert Exit.FAILED == ended[-1].code
        ended += [run_here([*common, word], environ) for word in ("history", "status", "check")]

    with sqlite3.connect(tmp_path / "state.db") as state:
        kept = "\n".join(state.iterdump())
    told = "\n".join([*(one.out + one.err for one in ended), log.read_text()])
    for where in (told, kept):
        assert [] == [one for one in quoted if any(part in where for part in parts_of(one))]
        assert "400000 [words withheld: they may quote the private key]" in where
    assert "do not belong together (400324 [words withheld" in told
    assert "X-Reqid kx0AAABo3vJvbsMY" in told


def parts_of(words: str) -> Iterator[str]:
    """Yield parts that are long enough to stand in nothing else."""
    return (words[at : at + 12] for at in range(len(words) - 11))
