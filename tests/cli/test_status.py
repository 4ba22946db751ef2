"""What `certferry status` shows, as transcripts, and the document it prints."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from textwrap import dedent
from typing import Any

import pytest

from certferry.cli.exits import Exit
from certferry.cli.status import show_status
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import (
    DomainStatus,
    LastFailure,
    LineageStatus,
    Standing,
    most_needed_first,
)
from certferry.core.certificates.certificate import RenewalWindow
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import Served
from certferry.core.observed.records import LastRun
from certferry.errors import Problem
from certferry.ports.progress import no_listener
from certferry.present import documents, status_text
from certferry.present.language import Voice
from certferry.present.layout import aligned, fitted, plain
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.workspace import Overview, overview
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.fakes import FakeWorkspace, FakeWorld
from tests.cli.values import IMG, NEW, NOON, OLD

TIMED_OUT = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer within 10 seconds"))
SILENT = Problem("target_unavailable", Text("no connection"))
NOW = NOON + timedelta(days=31, hours=1)


def domain(
    name: str = IMG, standing: Standing = Standing.VERIFIED, *served: Served, **facts: object
) -> DomainStatus:
    """A domain with a bound certificate that can be uploaded until a month before its end."""
    known: dict[str, object] = {
        "remote_id": "5f3c8e1b0d2a",
        "upload_deadline": NOON + timedelta(days=60),
        "served": served,
        "not_after": NOON + timedelta(days=90),
    }
    return DomainStatus("qiniu", Kind.CDN, name, standing, **(known | facts))  # type: ignore[arg-type]  # any of its facts


def lineage(*domains: DomainStatus, **facts: object) -> LineageStatus:
    """A lineage with a certificate that is renewed a month before its end."""
    known: dict[str, object] = {
        "version": values.version(3),
        "renew_at": NOON + timedelta(days=60),
        "reason": None,
    }
    known |= facts
    version = known["version"]
    if isinstance(version, Version):
        until = version.certificate.not_after
        known = {"until": until, "standing": standing(until, known["reason"])} | known
    else:
        known = {"standing": Standing.MISSING} | known
    return LineageStatus("img", (IMG, f"*.{IMG}"), domains=domains, **known)  # type: ignore[arg-type]  # any of its facts


def standing(until: datetime, reason: object) -> Standing:
    if until <= NOW:
        return Standing.EXPIRED
    return Standing.VALID if reason is None else Standing.DUE


def edge(number: int, fingerprint: str | None = NEW, *, valid: bool = True) -> Served:
    problem = TIMED_OUT if fingerprint is None else None
    silent = fingerprint is None
    return Served(f"192.0.2.{number}", fingerprint, valid=valid, problem=problem, silent=silent)


def message(*statuses: LineageStatus) -> str:
    voice = Voice()
    remarks = list(status_text.remarks(statuses, voice))
    return values.text_of([*aligned(status_text.table(statuses, NOW, voice)), *remarks])


def written(*statuses: LineageStatus, recorded: Recorded | None = None) -> dict[str, Any]:
    document = documents.rendered(documents.of_statuses(statuses, recorded or Recorded()), Voice())
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]  # a document


def test_account_that_cannot_be_asked_is_reported_by_its_name() -> None:
    """Its domains are not known."""
    unknown = domain("*", Standing.UNKNOWN, remote_id=None, problem=SILENT)

    shown = message(lineage(unknown))

    assert re.search(r"^  qiniu +unknown", shown, re.MULTILINE)
    assert "qiniu: no connection" in shown
    assert "*" not in shown


def test_account_that_cannot_be_asked_is_reported_once() -> None:
    """By its name, also where several certificates name domains at it; what is wrong with one of
    the domains alone stays with that one. The document tells of each.
    """
    failure = LastFailure(SILENT, NOON, NOON)
    first, second = (
        domain(name, Standing.UNKNOWN, remote_id=None, problem=SILENT, last_failure=failure)
        for name in (IMG, f"a.{IMG}")
    )
    frozen = Problem("target_rejected", Text("b.img.example.com: frozen"))
    third = domain(f"b.{IMG}", Standing.UNKNOWN, remote_id=None, problem=frozen)
    statuses = (lineage(first, second, third), replace(lineage(first), lineage="static"))

    shown = message(*statuses)

    assert 1 == shown.count("no connection")
    assert "qiniu: the last try at 2026-11-24 12:00 UTC failed: no connection" in shown
    assert "b.img.example.com: frozen" in shown
    assert 3 == str(written(*statuses)).count("'problem': {'code': 'target_unavailable'")


def test_nothing_declared_is_said() -> None:
    """A table of nothing but its head says nothing."""
    console = TestConsole()
    session = FakeWorkspace(FakeWorld(), (), no_listener)

    assert Exit.FAILED == show_status(
        overview(session, Run(), Recorded()), console.console, NOW, as_json=False
    )
    assert "No certificate is declared.\n" == console.out


def test_a_last_run_without_success_may_have_been_stopped() -> None:
    """Ctrl-C is no failure, and it was no success."""
    last = LastRun(NOON, NOON - timedelta(days=1))

    assert dedent("""\
        last run      2026-11-24 12:00 UTC (failed or stopped)
        last success  2026-11-23 12:00 UTC
        """) == values.text_of(list(status_text.of_runs(Recorded(last_run=last), Voice(zone=UTC))))


def test_a_state_that_is_of_no_use_is_reported_also_where_nothing_is_declared() -> None:
    """Its exit code is a failure, so it says why."""
    console = TestConsole()
    recorded = Recorded(problem=Problem("state", Text("the key file is missing")))

    ending = show_status(Overview((), recorded, {}), console.console, NOW, as_json=False)

    assert Exit.FAILED == ending
    assert "No certificate is declared.\nerror: the key file is missing\n" == console.out


def test_each_certificate_and_each_domain_has_a_row() -> None:
    """Days left, last moment to upload, bound, served, next renewal: in columns."""
    assert (
        dedent("""\
        NAME                 STATE        LEFT     RENEWAL     UPLOAD BY   BOUND         SERVED
        img                  valid        58 days  2027-01-23
          img.example.com    verified                          2027-01-23  5f3c8e1b0d2a  2 of 2
          a.img.example.com  propagating                       2027-01-23  5f3c8e1b0d2a  1 of 2, 1 silent
        a.img.example.com: at 1 of 3 addresses: no answer within 10 seconds
        """)  # noqa: E501 - a transcript is as wide as it is
        == message(
            lineage(
                domain(IMG, Standing.VERIFIED, edge(1), edge(2)),
                domain(
                    "a.img.example.com", Standing.PROPAGATING, edge(1), edge(2, OLD), edge(3, None)
                ),
            )
        )
    )


def test_certificate_that_is_at_the_target_has_no_moment_to_be_uploaded_by() -> None:
    """It would lie in the past long before the renewal, and there is nothing to be done by it."""
    there = domain(IMG, Standing.VERIFIED, edge(1), is_uploaded=True)

    alone, beside = message(lineage(there)), message(lineage(there, domain(f"a.{IMG}")))

    (row,) = (line for line in beside.splitlines() if line.startswith(f"  {IMG}"))
    assert ["verified", "—", "5f3c8e1b0d2a"] == row.split()[1:4]
    assert "UPLOAD BY" not in alone


@pytest.mark.parametrize("code", ["target_stuck", "fought_over"])
def test_domain_that_is_left_alone_is_not_said_to_be_tried_again(code: str) -> None:
    """The next run looks at it, and writes nothing until what the hint names has happened."""
    trouble = Problem(code, Text("another tool changes it"), Text("stop it"))
    left = domain(IMG, Standing.DRIFTED, last_failure=LastFailure(trouble, NOW, NOW))

    words = message(lineage(left))

    assert "failed: another tool changes it\n  hint: stop it" in words
    assert "tries it again" not in words


def test_thirty_domains_keep_their_table_at_eighty_columns() -> None:
    """A row each, what needs a person first; columns of which none says anything are left out."""
    well = [
        domain(f"picture{number:02}.example.com", Standing.VERIFIED, edge(1), is_uploaded=True)
        for number in range(29)
    ]
    lost = domain("picture29.example.com", Standing.FAILED, edge(1, OLD), is_uploaded=True)
    statuses = most_needed_first([lineage(*well, lost)])

    rows = list(map(plain, fitted(status_text.table(statuses, NOON, Voice()), 80)))

    assert 32 == len(rows)
    assert ["NAME", "STATE", "LEFT", "RENEWAL", "BOUND", "SERVED"] == rows[0].split()
    assert ["picture29.example.com", "failed"] == rows[2].split()[:2]


def test_a_name_that_is_too_long_for_the_table_has_a_line_to_itself() -> None:
    """And not six, as on a terminal that is too narrow for any table."""
    long = domain(f"{'a' * 60}.example.com", Standing.VERIFIED, edge(1), is_uploaded=True)

    rows = list(map(plain, fitted(status_text.table([lineage(long)], NOON, Voice()), 80)))

    assert 4 == len(rows)
    assert ["verified", "5f3c8e1b0d2a", "1", "of", "1"] == rows[-1].split()


def test_a_imported_certificate_has_a_validity_and_no_renewal() -> None:
    """The client that writes its files renews it; how long it lives is reported all the same."""
    ended = values.version(of=values.certificate(lifetime=timedelta(days=7)))

    valid, expired = (
        message(lineage(renew_at=None, version=version)).splitlines()[1]
        for version in (values.version(2), ended)
    )

    assert ["img", "valid", "58", "days"] == valid.split()
    assert ["img", "expired", "24", "days", "ago"] == expired.split()[:5]
    assert "—" == expired.split()[-1]


def test_who_serves_instead_is_reported() -> None:
    """A certificate without a domain of its own is not a riddle."""
    said = message(lineage(owned_elsewhere=(("qiniu", ("pics", "static")),)))

    assert "img: qiniu: every domain of the certificate is served by pics, static\n" in said
    missing = message(
        lineage(
            version=None,
            renew_at=None,
            owned_elsewhere=(("qiniu", ("pics",)),),
            standing=Standing.NOT_NEEDED,
        )
    )
    assert ["img", "not", "needed"] == missing.splitlines()[1].split()[:3]


def test_a_source_domain_is_distinguished() -> None:
    """Its kind stands behind its name, and in the document."""
    source = replace(domain(), kind=Kind("kodo"))

    assert "  img.example.com (kodo)  verified" in message(lineage(source))
    document = written(lineage(source))
    assert "kodo" == document["certificates"][0]["domains"][0]["kind"]


def test_a_certificate_that_is_due_says_why() -> None:
    """Below the table stands why one would be issued now, and what is wrong with a domain."""
    frozen = domain(
        "a.img.example.com",
        Standing.UNKNOWN,
        remote_id=None,
        problem=Problem("target_rejected", Text("a.img.example.com: frozen")),
    )

    assert dedent("""\
        NAME                 STATE    LEFT     RENEWAL     UPLOAD BY
        img                  due      58 days  2027-01-23
          a.img.example.com  unknown                       2027-01-23
        img: renewal due (29 days left of 90 days)
        a.img.example.com: frozen
        """) == message(lineage(frozen, reason=values.DUE))


def test_the_cas_window_and_its_page_are_reported() -> None:
    """In the document always, to a person where the CA says why."""
    window = RenewalWindow(NOON, NOON + timedelta(days=2), "https://ca.example/why")
    said = "img: the CA asks for renewal between 2026-11-24 12:00 UTC and 2026-11-26 12:00 UTC:"

    (certificate,) = written(lineage(window=window))["certificates"]
    assert {
        "start": "2026-11-24T12:00:00Z",
        "end": "2026-11-26T12:00:00Z",
        "explanation_url": "https://ca.example/why",
    } == certificate["renewal_window"]
    assert f"{said} https://ca.example/why" in " ".join(message(lineage(window=window)).split())
    assert "the CA asks" not in message(lineage(window=replace(window, page=None)))


def test_a_certificate_that_is_missing_or_expired_is_distinguished() -> None:
    """No certificate, and one that has had its time, are not valid ones."""
    expired = values.certificate(not_before=NOON - timedelta(days=100))

    assert dedent("""\
        NAME    STATE                LEFT  RENEWAL
        img     missing              —     —
        static  expired 41 days ago  —     2027-01-23
        """) == message(
        lineage(version=None, renew_at=None),
        replace(lineage(version=values.version(of=expired)), lineage="static"),
    )


def test_the_document_has_the_promised_keys() -> None:
    """`--json` gives what docs/reference/json.md says: the certificate, its domains, edges."""
    status = lineage(domain(IMG, Standing.PROPAGATING, edge(1), edge(2, OLD), edge(3, None)))

    document = written(status)

    (certificate,) = document["certificates"]
    (of_domain,) = certificate.pop("domains")
    assert {
        "name": "img",
        "names": [IMG, f"*.{IMG}"],
        "version": 3,
        "serial": "2a",
        "fingerprint": NEW,
        "issuer": "Test Issuer",
        "not_before": "2026-11-24T12:00:00Z",
        "not_after": "2027-02-22T12:00:00Z",
        "renew_at": "2027-01-23T12:00:00Z",
        "renewal_window": None,
        "reason": None,
        "state": "valid",
        "problem": None,
        "last_failure": None,
        "notices": [],
    } == certificate
    served = of_domain.pop("served")
    assert {
        "target": "qiniu",
        "kind": "cdn",
        "domain": IMG,
        "state": "propagating",
        "remote_id": "5f3c8e1b0d2a",
        "upload_deadline": "2027-01-23T12:00:00Z",
        "not_after": "2027-02-22T12:00:00Z",
        "problem": None,
        "last_failure": None,
    } == of_domain
    assert [("192.0.2.1", NEW, True), ("192.0.2.2", OLD, False), ("192.0.2.3", None, False)] == [
        (address["address"], address["fingerprint"], address["ok"]) for address in served
    ]
    assert [
        None,
        None,
        {"code": "timed_out", "message": "no answer within 10 seconds", "hint": None},
    ] == [address["problem"] for address in served]


def test_what_is_wrong_at_edges_is_reported_once_for_all_of_them() -> None:
    """Of how many addresses; not for IPv6 where this machine has none, and another answers."""
    expired = Problem(EdgeProblemCode.EXPIRED, Text("the certificate expired 2 days ago"))
    no_ipv6 = Problem(EdgeProblemCode.NO_IPV6, Text("this host has no IPv6"))
    wrong = [Served(f"192.0.2.{n}", OLD, valid=False, problem=expired) for n in (1, 2)]
    far = Served("2001:db8::1", None, valid=False, problem=no_ipv6, silent=True)

    said = message(lineage(domain(IMG, Standing.PROPAGATING, *wrong, edge(3), far)))

    assert "\nimg.example.com: at 2 of 4 addresses: the certificate expired 2 days ago\n" in said
    assert "IPv6" not in said
    assert "addresses:" not in message(lineage(domain(IMG, Standing.PENDING, *wrong)))
    assert "at 1 of 1 addresses: this host has no IPv6" in message(
        lineage(domain(IMG, Standing.PROPAGATING, far))
    )


def test_a_missing_certificate_is_null_in_the_document() -> None:
    """Before the first issue every fact of the certificate is there, and null."""
    status = lineage(version=None, renew_at=None, reason=values.DUE)

    (certificate,) = written(status)["certificates"]

    assert {None} == {
        certificate[key]
        for key in ("version", "serial", "fingerprint", "issuer", "not_before", "not_after")
    }
    assert "renewal_due" == certificate["reason"]["code"]
