"""The output of `certferry status`, as transcripts and as JSON."""

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
    """Return a domain with a bound certificate, whose upload deadline is a month before its end."""
    defaults: dict[str, object] = {
        "remote_id": "5f3c8e1b0d2a",
        "upload_deadline": NOON + timedelta(days=60),
        "served": served,
        "not_after": NOON + timedelta(days=90),
    }
    return DomainStatus("qiniu", Kind.CDN, name, standing, **(defaults | facts))  # type: ignore[arg-type]  # any of its facts


def lineage(*domains: DomainStatus, **facts: object) -> LineageStatus:
    """Return a lineage with a certificate, which is renewed a month before its end."""
    defaults: dict[str, object] = {
        "version": values.version(3),
        "renew_at": NOON + timedelta(days=60),
        "reason": None,
    }
    defaults |= facts
    version = defaults["version"]
    if isinstance(version, Version):
        until = version.certificate.not_after
        defaults = {"until": until, "standing": standing(until, defaults["reason"])} | defaults
    else:
        defaults = {"standing": Standing.MISSING} | defaults
    return LineageStatus("img", (IMG, f"*.{IMG}"), domains=domains, **defaults)  # type: ignore[arg-type]  # any of its facts


def standing(until: datetime, reason: object) -> Standing:
    if until <= NOW:
        return Standing.EXPIRED
    return Standing.VALID if reason is None else Standing.DUE


def edge(number: int, fingerprint: str | None = NEW, *, valid: bool = True) -> Served:
    problem = TIMED_OUT if fingerprint is None else None
    silent = fingerprint is None
    return Served(f"192.0.2.{number}", fingerprint, valid=valid, problem=problem, silent=silent)


def text_printed(*statuses: LineageStatus) -> str:
    voice = Voice()
    remarks = list(status_text.remarks(statuses, voice))
    return values.text_of([*aligned(status_text.table(statuses, NOW, voice)), *remarks])


def document_of(*statuses: LineageStatus, recorded: Recorded | None = None) -> dict[str, Any]:
    document = documents.rendered(documents.of_statuses(statuses, recorded or Recorded()), Voice())
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]  # a document


def test_unreachable_account_is_named() -> None:
    """The row has the account's name, because the domains are unknown."""
    unknown = domain("*", Standing.UNKNOWN, remote_id=None, problem=SILENT)

    text = text_printed(lineage(unknown))

    assert re.search(r"^  qiniu +unknown", text, re.MULTILINE)
    assert "qiniu: no connection" in text
    assert "*" not in text


def test_unreachable_account_is_reported_once() -> None:
    """The account is named once for all its domains and certificates; a domain's own problem stays
    with the domain. The document has the problem of each domain.
    """
    failure = LastFailure(SILENT, NOON, NOON)
    first, second = (
        domain(name, Standing.UNKNOWN, remote_id=None, problem=SILENT, last_failure=failure)
        for name in (IMG, f"a.{IMG}")
    )
    frozen = Problem("target_rejected", Text("b.img.example.com: frozen"))
    third = domain(f"b.{IMG}", Standing.UNKNOWN, remote_id=None, problem=frozen)
    statuses = (lineage(first, second, third), replace(lineage(first), lineage="static"))

    text = text_printed(*statuses)

    assert 1 == text.count("no connection")
    assert "qiniu: the last try at 2026-11-24 12:00 UTC failed: no connection" in text
    assert "b.img.example.com: frozen" in text
    assert 3 == str(document_of(*statuses)).count("'problem': {'code': 'target_unavailable'")


def test_status_without_declared_certificates() -> None:
    """The output is a sentence instead of an empty table."""
    console = TestConsole()
    session = FakeWorkspace(FakeWorld(), (), no_listener)

    assert Exit.FAILED == show_status(
        overview(session, Run(), Recorded()), console.console, NOW, as_json=False
    )
    assert "No certificate is declared.\n" == console.out


def test_last_run_without_success() -> None:
    """The line calls the run failed or stopped, because Ctrl-C may have stopped the run."""
    last = LastRun(NOON, NOON - timedelta(days=1))

    assert dedent("""\
        last run      2026-11-24 12:00 UTC (failed or stopped)
        last success  2026-11-23 12:00 UTC
        """) == values.text_of(list(status_text.of_runs(Recorded(last_run=last), Voice(zone=UTC))))


def test_unusable_state_without_declared_certificates() -> None:
    """The output has the reason of the failing exit code."""
    console = TestConsole()
    recorded = Recorded(problem=Problem("state", Text("the key file is missing")))

    ending = show_status(Overview((), recorded, {}), console.console, NOW, as_json=False)

    assert Exit.FAILED == ending
    assert "No certificate is declared.\nerror: the key file is missing\n" == console.out


def test_row_of_each_certificate_and_domain() -> None:
    """The columns are the days left, the upload deadline, the bound and served certificates, and
    the next renewal.
    """
    assert (
        dedent("""\
        NAME                 STATE        LEFT     RENEWAL     UPLOAD BY   BOUND         SERVED
        img                  valid        58 days  2027-01-23
          img.example.com    verified                          2027-01-23  5f3c8e1b0d2a  2 of 2
          a.img.example.com  propagating                       2027-01-23  5f3c8e1b0d2a  1 of 2, 1 silent
        a.img.example.com: at 1 of 3 addresses: no answer within 10 seconds
        """)  # noqa: E501 - a transcript is as wide as it is
        == text_printed(
            lineage(
                domain(IMG, Standing.VERIFIED, edge(1), edge(2)),
                domain(
                    "a.img.example.com", Standing.PROPAGATING, edge(1), edge(2, OLD), edge(3, None)
                ),
            )
        )
    )


def test_uploaded_certificate_has_no_upload_deadline() -> None:
    """The deadline would be past long before the renewal, without any work to do."""
    uploaded = domain(IMG, Standing.VERIFIED, edge(1), is_uploaded=True)

    alone, beside = (
        text_printed(lineage(uploaded)),
        text_printed(lineage(uploaded, domain(f"a.{IMG}"))),
    )

    (row,) = (line for line in beside.splitlines() if line.startswith(f"  {IMG}"))
    assert ["verified", "—", "5f3c8e1b0d2a"] == row.split()[1:4]
    assert "UPLOAD BY" not in alone


@pytest.mark.parametrize("code", ["target_stuck", "fought_over"])
def test_skipped_domain_has_no_promise_of_another_try(code: str) -> None:
    """The next run observes the domain, and writes only after the operator has followed the
    hint.
    """
    trouble = Problem(code, Text("another tool changes it"), Text("stop it"))
    drifted = domain(IMG, Standing.DRIFTED, last_failure=LastFailure(trouble, NOW, NOW))

    words = text_printed(lineage(drifted))

    assert "failed: another tool changes it\n  hint: stop it" in words
    assert "tries it again" not in words


def test_table_of_thirty_domains_fits() -> None:
    """Each domain has a row in eighty columns, urgent domains come first, and empty columns are
    omitted.
    """
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


def test_long_name_has_its_own_line() -> None:
    """The facts follow in a second line, and the table stays a table."""
    long = domain(f"{'a' * 60}.example.com", Standing.VERIFIED, edge(1), is_uploaded=True)

    rows = list(map(plain, fitted(status_text.table([lineage(long)], NOON, Voice()), 80)))

    assert 4 == len(rows)
    assert ["verified", "5f3c8e1b0d2a", "1", "of", "1"] == rows[-1].split()


def test_imported_certificate_has_no_renewal() -> None:
    """The certificate's own client renews the certificate; the status has the time left."""
    ended = values.version(of=values.certificate(lifetime=timedelta(days=7)))

    valid, expired = (
        text_printed(lineage(renew_at=None, version=version)).splitlines()[1]
        for version in (values.version(2), ended)
    )

    assert ["img", "valid", "58", "days"] == valid.split()
    assert ["img", "expired", "24", "days", "ago"] == expired.split()[:5]
    assert "—" == expired.split()[-1]


def test_owner_of_the_domains_is_named() -> None:
    """A certificate without a domain has a remark with the owners of its domains."""
    output = text_printed(lineage(owned_elsewhere=(("qiniu", ("pics", "static")),)))

    assert "img: qiniu: every domain of the certificate is served by pics, static\n" in output
    missing = text_printed(
        lineage(
            version=None,
            renew_at=None,
            owned_elsewhere=(("qiniu", ("pics",)),),
            standing=Standing.NOT_NEEDED,
        )
    )
    assert ["img", "not", "needed"] == missing.splitlines()[1].split()[:3]


def test_source_domain_shows_its_kind() -> None:
    """The kind is behind the name, and in the document."""
    source = replace(domain(), kind=Kind("kodo"))

    assert "  img.example.com (kodo)  verified" in text_printed(lineage(source))
    document = document_of(lineage(source))
    assert "kodo" == document["certificates"][0]["domains"][0]["kind"]


def test_due_certificate_has_a_reason() -> None:
    """Below the table are the reason of the issue and the problem of a domain."""
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
        """) == text_printed(lineage(frozen, reason=values.DUE))


def test_renewal_window_of_the_ca() -> None:
    """The document always has the window; the text has the window if the CA gives a page with a
    reason.
    """
    window = RenewalWindow(NOON, NOON + timedelta(days=2), "https://ca.example/why")
    sentence = "img: the CA asks for renewal between 2026-11-24 12:00 UTC and 2026-11-26 12:00 UTC:"

    (certificate,) = document_of(lineage(window=window))["certificates"]
    assert {
        "start": "2026-11-24T12:00:00Z",
        "end": "2026-11-26T12:00:00Z",
        "explanation_url": "https://ca.example/why",
    } == certificate["renewal_window"]
    assert f"{sentence} https://ca.example/why" in " ".join(
        text_printed(lineage(window=window)).split()
    )
    assert "the CA asks" not in text_printed(lineage(window=replace(window, page=None)))


def test_missing_and_expired_certificates() -> None:
    """Both differ from a valid certificate."""
    expired = values.certificate(not_before=NOON - timedelta(days=100))

    assert dedent("""\
        NAME    STATE                LEFT  RENEWAL
        img     missing              —     —
        static  expired 41 days ago  —     2027-01-23
        """) == text_printed(
        lineage(version=None, renew_at=None),
        replace(lineage(version=values.version(of=expired)), lineage="static"),
    )


def test_document_of_a_status() -> None:
    """`--json` has the keys of docs/reference/json.md: the certificate, its domains, and edges."""
    status = lineage(domain(IMG, Standing.PROPAGATING, edge(1), edge(2, OLD), edge(3, None)))

    document = document_of(status)

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


def test_problem_of_several_edges_is_reported_once() -> None:
    """The line has the number of addresses; a lack of IPv6 on this machine is omitted if another
    address answers.
    """
    expired = Problem(EdgeProblemCode.EXPIRED, Text("the certificate expired 2 days ago"))
    no_ipv6 = Problem(EdgeProblemCode.NO_IPV6, Text("this host has no IPv6"))
    wrong_edges = [Served(f"192.0.2.{n}", OLD, valid=False, problem=expired) for n in (1, 2)]
    far = Served("2001:db8::1", None, valid=False, problem=no_ipv6, silent=True)

    output = text_printed(lineage(domain(IMG, Standing.PROPAGATING, *wrong_edges, edge(3), far)))

    assert "\nimg.example.com: at 2 of 3 addresses: the certificate expired 2 days ago\n" in output
    assert "IPv6" not in output
    assert "addresses:" not in text_printed(lineage(domain(IMG, Standing.PENDING, *wrong_edges)))
    assert "at 1 of 1 addresses: this host has no IPv6" in text_printed(
        lineage(domain(IMG, Standing.PROPAGATING, far))
    )


def test_missing_certificate_is_null_in_the_document() -> None:
    """Before the first issue the document has every key of the certificate, with null."""
    status = lineage(version=None, renew_at=None, reason=values.DUE)

    (certificate,) = document_of(status)["certificates"]

    assert {None} == {
        certificate[key]
        for key in ("version", "serial", "fingerprint", "issuer", "not_before", "not_after")
    }
    assert "renewal_due" == certificate["reason"]["code"]
