"""Uploads that Qiniu refuses with a quotation of the private key: the key appears in no output and
in no file.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

from certferry.cli.exits import Exit
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.answers import request_id
from certferry_sandbox.world import demonstration
from tests.support.command import run_here
from tests.support.quotations import QUOTATIONS, parts_of

# A certificate repeats the public half of its key, sometimes letter by letter.
_CERTIFICATES = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def test_private_key_in_refused_uploads(tmp_path: Path) -> None:
    """No part of a quotation is on stdout or stderr, in the log with `-v`, in the documents, the
    history or the state; the code, its meaning and the id of the request are.
    """
    quoted: list[str] = []
    quotations = cycle(QUOTATIONS.values())

    def quotation(request: bytes) -> bytes:
        quoted.append(next(quotations)(json.loads(request)["pri"]))
        code = (400000, 400324)[len(quoted) % 2]
        return json.dumps({"code": code, "error": f"bad input: {quoted[-1]}"}).encode()

    log = tmp_path / "certferry.log"
    # Only an id of the last hour is believed, and a run of all tests takes longer.
    asked_id = request_id(datetime.now(UTC))
    with demonstration() as world:
        common = ["--config", str(world.write_files(tmp_path)), "--log-file", str(log), "-v"]
        environ = os.environ | world.environment
        fault = Fault.quoting(400, quotation, [("X-Reqid", asked_id)])
        world.qiniu.fusion.faults.add(fault, on="POST *", times=None)
        ended = []
        while len(quoted) < len(QUOTATIONS):
            for words in (("sync",), ("sync", "--json")):
                ended.append(run_here([*common, *words], environ))
                assert Exit.FAILED == ended[-1].code
        ended += [run_here([*common, word], environ) for word in ("history", "status", "check")]

    with closing(sqlite3.connect(tmp_path / "state.db")) as state, state:
        state_dump = _CERTIFICATES.sub("", "\n".join(state.iterdump()))
    output = "\n".join([*(result.out + result.err for result in ended), log.read_text()])
    for text in (output, state_dump):
        assert [] == [key for key in quoted if any(part in text for part in parts_of(key))]
        assert "[words withheld: they may quote the private key]" in text
    assert "400000 [words withheld: they may quote the private key]" in output
    assert "do not belong together (400324 [words withheld" in output
    assert f"X-Reqid {asked_id}" in output


def test_private_key_in_later_answers(tmp_path: Path) -> None:
    """After a successful upload every answer quotes the key, also to commands whose processes have
    never had the key.
    """
    taken: list[str] = []
    log = tmp_path / "certferry.log"
    with demonstration() as world:
        common = ["--config", str(world.write_files(tmp_path)), "--log-file", str(log), "-v"]
        environ = os.environ | world.environment
        world.qiniu.before = lambda request: taken.extend(keys_in(request.body))
        world.qiniu.api.faults.add(Fault.status(400, b"{}"), on="PUT *", times=None)
        assert Exit.FAILED == run_here([*common, "sync"], environ).code
        key, quoted, ended = taken[0], [], []
        for kind in ("eights", "twos", "backwards", "Base64 of Base64", "Base32"):
            quoted.append(QUOTATIONS[kind](key))
            refusal = json.dumps({"code": 400999, "error": f"no: {quoted[-1]}"}).encode()
            header = [("X-Reqid", quoted[-1][:60])]
            world.qiniu.api.faults.clear()
            world.qiniu.api.faults.add(Fault.status(400, refusal, headers=header), times=None)
            commands = ("sync", "plan", "status", "check", "discover", "doctor", "sync --json")
            ended += [run_here([*common, *words.split()], environ) for words in commands]

    with closing(sqlite3.connect(tmp_path / "state.db")) as state, state:
        state_dump = _CERTIFICATES.sub("", "\n".join(state.iterdump()))
    output = "\n".join([*(result.out + result.err for result in ended), log.read_text()])
    assert "400999 •••" in output
    for text in (output, state_dump):
        assert [] == [key for key in quoted if any(part in text for part in parts_of(key))]


def keys_in(body: bytes) -> list[str]:
    """Return the private key of an upload, and nothing for another request."""
    return [json.loads(body)["pri"]] if b'"pri"' in body else []


def test_refused_pair_of_certificate_and_key(tmp_path: Path) -> None:
    """The advice is right: the next run uploads the same pair, and `--renew` uploads a new pair."""
    taken: list[str] = []

    def refused(request: bytes) -> bytes:
        taken.extend(keys_in(request))
        return json.dumps({"code": 400324, "error": "no pair"}).encode()

    with demonstration() as world:
        common = ["--config", str(world.write_files(tmp_path))]
        environ = os.environ | world.environment
        fault = Fault.quoting(400, refused)
        world.qiniu.fusion.faults.add(fault, on="POST *", times=None)
        first = run_here([*common, "sync"], environ)
        run_here([*common, "sync"], environ)
        pairs = {*taken}
        lineage = re.findall(r"sync --renew ([\w.-]+)", first.out + first.err)[0]
        run_here([*common, "sync", "--renew", lineage], environ)

    assert "later runs upload the same pair again" in " ".join((first.out + first.err).split())
    assert len(taken) > len(pairs)
    assert pairs < {*taken}
