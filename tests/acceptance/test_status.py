"""`certferry status` tells the truth: the last failure of each row, what is gone, what is first."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate

OK, FAILED = 0, 1
WRONG = "0123456789abcdef" * 2


def of(document: Any, lineage: str) -> Any:
    """One certificate of a document."""
    return next(one for one in document["certificates"] if one["name"] == lineage)


def minutes_ago(moment: str) -> float:
    """How long ago a moment of a document is."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)) / timedelta(minutes=1)


def test_refused_key_is_told_until_a_run_has_mended_it(host: Host, name: str) -> None:
    """What failed, since when and when it is tried again, in the words of the run; then no more."""
    before = host.run("status", "--json")
    failed = host.run("sync", "--json", DP_Key=WRONG)
    (step,) = (s for s in of(failed.document, name)["steps"] if s["outcome"] == "failed")

    told, status = host.run("status"), host.run("status", "--json")

    assert (FAILED, False, None) == (
        before.code,
        before.document["ok"],
        before.document["last_run"],
    )
    assert (FAILED, FAILED, False) == (told.code, status.code, status.document["ok"])
    found = of(status.document, name)
    failure = found["last_failure"]
    assert ("missing", step["code"], step["detail"], step["hint"]) == (
        found["state"],
        failure["code"],
        failure["message"],
        failure["hint"],
    )
    assert minutes_ago(failure["since"]) < 2
    assert minutes_ago(failure["at"]) < 2
    assert datetime.fromisoformat(failure["again_at"]) > datetime.fromisoformat(failure["at"])
    assert re.search(
        rf"{name}: the last try at .* UTC failed: {re.escape(step['detail'])}", told.out
    )
    assert "scheduled runs try it again after " in told.out
    last = status.document["last_run"]
    assert None is last["succeeded_at"]
    assert re.search(r"^last success +none$", told.out, re.MULTILINE)

    assert OK == host.run("sync").code
    mended, document = host.run("status"), host.run("status", "--json").document

    assert (OK, True) == (mended.code, document["ok"])
    assert None is of(document, name)["last_failure"]
    assert "failed" not in mended.out
    assert document["last_run"]["ended_at"] == document["last_run"]["succeeded_at"]


def test_refused_upload_is_a_failure_and_stands_first(world: World, host: Host, name: str) -> None:
    """It is not only pending; a certificate in order comes after it."""
    assert OK == host.run("sync").code
    second = f"b.{name}"
    world.add_http_domain(second)
    host.config.write_text(host.config.read_text() + certificate(second))
    refusal = Fault.status(400, b'{"code":400322,"error":"cert pem parse failed"}')
    world.qiniu.api.faults.add(refusal, on="POST /sslcert", times=None)
    world.qiniu.fusion.faults.add(refusal, on="POST /sslcert", times=None)
    run = host.run("sync", "--json")
    assert FAILED == run.code
    assert f"`certferry sync --renew {second}`" in str(run.document)

    told, document = host.run("status"), host.run("status", "--json").document

    (domain,) = of(document, second)["domains"]
    assert "failed" == domain["state"]
    assert domain["last_failure"]["code"].startswith("target_")
    assert FAILED == told.code
    assert re.search(rf"^  {second} +failed ", told.out, re.MULTILINE)
    assert f"{second}: the last try at " in told.out
    assert told.out.index(f"\n{second} ") < told.out.index(f"\n{name} ")
    assert [name, second] == [one["name"] for one in document["certificates"]]
    assert None is of(document, name)["domains"][0]["last_failure"]


def test_lost_key_file_is_told(host: Host, name: str) -> None:
    """What stands is shown all the same."""
    assert OK == host.run("sync").code
    host.key_file.rename(host.key_file.with_suffix(".lost"))

    told, document = host.run("status"), host.run("status", "--json")

    assert (FAILED, FAILED) == (told.code, document.code)
    assert document.document["problem"]["code"].startswith("state")
    assert not document.document["ok"]
    assert f"error: {document.document['problem']['message'].splitlines()[0]}" in told.out
    assert re.search(rf"^  {name} +verified ", told.out, re.MULTILINE)


def test_files_that_are_gone_are_told(host: Host) -> None:
    """Those of a source: then what was taken from them is shown, and said to be. Those of a target:
    they have drifted.
    """
    bundle = make_bundle("static.example.com", not_before=datetime.now(UTC) - timedelta(days=1))
    source, target = host.directory / "source", host.directory / "target"
    source.mkdir()
    (source / "fullchain.pem").write_text(bundle.fullchain_pem)
    (source / "privkey.pem").write_text(bundle.privkey_pem.reveal())
    (source / "privkey.pem").chmod(0o600)
    head, _, _ = host.config.read_text().partition("[[certificates]]")
    host.config.write_text(
        f"""{head}
[[certificates]]
name = "static"
fullchain = "{source / "fullchain.pem"}"
privkey = "{source / "privkey.pem"}"
[[certificates.deploy]]
to = "files"
directory = "{target}"
"""
    )
    assert OK == host.run("sync").code
    for file in target.iterdir():
        file.unlink()
    drifted = of(host.run("status", "--json").document, "static")
    (source / "fullchain.pem").unlink()

    told, document = host.run("status"), host.run("status", "--json").document

    (domain,) = drifted["domains"]
    assert ("drifted", "delivery_drifted") == (domain["state"], domain["problem"]["code"])
    assert ("valid", None) == (drifted["state"], drifted["problem"])
    found = of(document, "static")
    assert (FAILED, "unreadable") == (told.code, found["state"])
    assert "fullchain.pem" in found["problem"]["message"]
    assert re.search(r"^static +files unreadable ", told.out, re.MULTILINE)
    assert "shown is the certificate that was taken from them at " in told.out


def test_people_read_the_clock_on_their_wall(host: Host, name: str) -> None:
    """With its offset, in the table too; programs get UTC."""
    assert OK == host.run("sync").code
    with closing(sqlite3.connect(host.state)) as database:
        moment = "2026-11-24T20:30:00.000000Z"
        database.execute("UPDATE last_run SET ended_at = ?, succeeded_at = ?", (moment, moment))
        database.commit()

    told = host.run_apart("status", TZ="Asia/Shanghai")
    document = host.run_apart("status", "--json", TZ="Asia/Shanghai").document

    assert re.search(r"^last run +2026-11-25 04:30 \+08:00$", told.out, re.MULTILINE), told
    assert "2026-11-24T20:30:00Z" == document["last_run"]["ended_at"]
    assert "UTC" not in told.out
    assert name in told.out
