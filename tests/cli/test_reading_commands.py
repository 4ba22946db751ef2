"""The output of commands that only read: discover, doctor, history, and exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry import errors
from certferry.cli import exits
from certferry.cli.discover import show_discovery, show_findings, show_tables
from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import OF_DOMAINS, DomainStatus, LineageStatus, Standing
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import (
    AccountSurvey,
    DiscoveredDomain,
    Discovery,
    FoundDomain,
    Survey,
    Wanted,
)
from certferry.core.discovery.proposal import Proposal
from certferry.core.discovery.watched import judged
from certferry.core.findings import error, info, warning
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.core.observed.records import (
    Damage,
    HistoryBreak,
    HistoryEntry,
    VerifiedHistory,
)
from certferry.core.planning.plan import Action, Plan, PlanFinding, Weight
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import (
    CertferryError,
    ConfigError,
    Problem,
    Reported,
    TargetAccessDenied,
    TargetRejected,
    TargetUnavailable,
)
from certferry.present import documents, status_text
from certferry.present.console import Verbosity
from certferry.present.language import Voice
from certferry.present.run_log import Format
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.discovery import must_be_read
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NOON

# --- `certferry discover`: unreadable accounts, and no domains


NO_KEYS = ConfigError(Text("no keys"), hint=Text("set them"))
NO_SECRET = ConfigError(Text("no secret"))
DENIED = TargetAccessDenied(Text("bad token"), hint=Text("check the keys"))
SILENT = TargetUnavailable(Text("no answer"))
DOMAIN = DiscoveredDomain("a", FoundDomain(IMG, Kind.CDN))


def failed(label: str, error: CertferryError) -> AccountSurvey:
    """Return an account that could not be read."""
    return AccountSurvey(label, failure=error)


@pytest.mark.parametrize(
    ("surveys", "expected"),
    [
        ([failed("a", DENIED)], "bad token"),
        ([failed("a", NO_KEYS)], "no keys"),
        ([failed("a", NO_KEYS), failed("b", NO_SECRET)], "no keys\nno secret"),
    ],
    ids=["denied", "settings", "settings-of-all"],
)
def test_only_problem_of_a_discovery_is_an_error(
    surveys: list[AccountSurvey], expected: str
) -> None:
    """The error is the problem of the only account, or the mistakes in the settings of all
    accounts.
    """
    with pytest.raises(CertferryError) as caught:
        must_be_read(Discovery(tuple(surveys)))

    assert expected == str(caught.value)
    assert isinstance(caught.value, ConfigError) == (expected != "bad token")


@pytest.mark.parametrize(
    "surveys",
    [
        [failed("a", DENIED), failed("b", SILENT)],
        [failed("a", NO_KEYS), failed("b", SILENT)],
        [failed("a", NO_KEYS), AccountSurvey("b")],
        [AccountSurvey("a", Survey((), (DENIED,)))],
    ],
    ids=["both", "of-two-kinds", "one", "a-part"],
)
def test_several_problems_of_a_discovery_are_listed(surveys: list[AccountSurvey]) -> None:
    """Different problems, or problems beside readable accounts, are part of the output."""
    must_be_read(Discovery(tuple(surveys)))


def test_unreadable_account_is_not_called_empty(tmp_path: Path) -> None:
    """The output has the problems only, and the log has the same problems."""
    test_console = TestConsole()
    console, path = test_console.console, tmp_path / "log"
    console.run_log.open(path, Format.JSON)
    discovery = Discovery((failed("a", DENIED), failed("b", SILENT)))

    code = show_discovery(discovery, Wanted(), console, NOON, as_json=False)

    assert (Exit.FAILED, "") == (code, test_console.out)
    assert "error: a: bad token\nhint: check the keys\nerror: b: no answer\n" == test_console.err
    logged = [json.loads(row) for row in path.read_text().splitlines()]
    assert [
        ("discover.failed", "a", "bad token", "target_access_denied"),
        ("discover.failed", "b", "no answer", "target_unavailable"),
    ] == [(entry["event"], entry["target"], entry["detail"], entry["code"]) for entry in logged]


@pytest.mark.parametrize(
    ("verbosity", "is_printed"), [(Verbosity.NORMAL, True), (Verbosity.QUIET, False)]
)
def test_no_proposed_tables(verbosity: Verbosity, *, is_printed: bool) -> None:
    """The sentence is on stderr, because stdout is for tables to paste."""
    console = TestConsole()

    code = show_tables(Proposal(), [], CommandContext(console.console, verbosity=verbosity))

    assert (Exit.OK, "") == (code, console.out)
    assert ("No domain needs a certificate.\n" if is_printed else "") == console.err


def test_domains_without_certificates() -> None:
    """The output is a table of domains, and a line with the counts."""
    console = TestConsole()
    discovery = Discovery((AccountSurvey("a"),), (DOMAIN,))

    code = show_discovery(discovery, Wanted(), console.console, NOON, as_json=False)

    assert Exit.OK == code
    assert [
        "DOMAIN           STATE  HTTPS  OWNER  LEFT  COVERED BY  SERVED",
        "img.example.com  —      off    —      —     none        —",
        "",
        "1 domain: 1 not covered, 0 with another owner's certificate. 0 certificates: 0 unused.",
    ] == console.out.splitlines()


# --- `certferry doctor`: findings and exit codes


ERROR = error(
    "zone_missing",
    "x.notmine.org",
    Text("x.notmine.org: no zone of the account contains the name"),
    Text("add the domain to the account"),
)
WARNING = warning("schedule_missing", "schedule", Text("no daily run is installed"), None)
INFO = info("back_up", "a", Text("back this up\x1b[2J"))


def output_of_findings(
    findings: Sequence[Problem], *, as_json: bool = False, quiet: bool = False
) -> tuple[Exit, TestConsole]:
    """Return the exit code and the console."""
    console = TestConsole()
    verbosity = Verbosity.QUIET if quiet else Verbosity.NORMAL
    return show_findings(
        findings, CommandContext(console.console, None, verbosity), as_json=as_json
    ), console


def test_finding_has_its_code_and_fix() -> None:
    """The subject appears once, and text from outside moves no cursor. An error ends with a
    failure.
    """
    code, console = output_of_findings([ERROR, WARNING, INFO])

    assert (
        dedent("""\
        error: x.notmine.org: no zone of the account contains the name [zone_missing]
          fix: add the domain to the account
        warning: schedule: no daily run is installed [schedule_missing]
        info: a: back this up\N{REPLACEMENT CHARACTER}[2J [back_up]

        1 error, 1 warning. Nothing was changed.
        """)
        == console.out
    )
    assert Exit.FAILED == code


@pytest.mark.parametrize(
    ("findings", "conclusion"),
    [
        ([], "Everything that a run depends on is in order. Nothing was changed.\n"),
        ([INFO], "\n\nEverything that a run depends on is in order. Nothing was changed.\n"),
        ([WARNING, WARNING], "\n\n2 warnings. Nothing was changed.\n"),
    ],
)
def test_findings_without_an_error(findings: list[Problem], conclusion: str) -> None:
    """Warnings end with 0."""
    code, console = output_of_findings(findings)

    assert console.out.endswith(conclusion)
    assert Exit.OK == code


def test_facts_of_other_commands_are_for_programs() -> None:
    """Facts that `status`, `history` and `discover` print are omitted, except a late last run,
    which is a warning.
    """
    facts = [info(code, "x", Text("so it is")) for code in ("ways", "last_run", "last_change")]
    late = warning("last_run", "sync", Text("the last run was long ago"), None)

    assert "so it is" not in output_of_findings([*facts, late])[1].out
    assert "the last run was long ago" in output_of_findings([*facts, late])[1].out
    assert 3 == output_of_findings(facts, as_json=True)[1].out.count("so it is")


def test_quiet_doctor_prints_errors_only() -> None:
    """The errors are on stderr."""
    code, console = output_of_findings([ERROR, WARNING, INFO], quiet=True)

    assert "" == console.out
    assert 2 == len(console.err.splitlines())
    assert Exit.FAILED == code
    assert (Exit.OK, "") == (
        output_of_findings([WARNING], quiet=True)[0],
        output_of_findings([WARNING], quiet=True)[1].err,
    )


def test_document_of_doctor() -> None:
    """A finding without a fix has null."""
    code, console = output_of_findings([ERROR, WARNING], as_json=True)

    assert {
        "ok": False,
        "findings": [
            {
                "severity": "error",
                "code": "zone_missing",
                "subject": "x.notmine.org",
                "message": "x.notmine.org: no zone of the account contains the name",
                "fix": "add the domain to the account",
            },
            {
                "severity": "warning",
                "code": "schedule_missing",
                "subject": "schedule",
                "message": "no daily run is installed",
                "fix": None,
            },
        ],
    } == json.loads(console.out)
    assert Exit.FAILED == code
    assert json.loads(output_of_findings([INFO], as_json=True)[1].out)["ok"]


# --- Exit codes, for every combination of outcomes


def reports() -> st.SearchStrategy[SyncReport]:
    """Return a strategy for reports with any outcomes, complete or stopped."""
    steps = st.sampled_from(Outcome).map(
        lambda outcome: StepOutcome(Action.DEPLOY, outcome, Text("so"), "qiniu", "img.example.com")
    )
    lineages = st.lists(steps, max_size=4).map(lambda s: LineageReport("img", None, tuple(s)))
    return st.builds(SyncReport, st.lists(lineages, max_size=3).map(tuple), st.booleans())


def outcomes(report: SyncReport) -> set[Outcome]:
    return {step.outcome for lineage in report.lineages for step in lineage.outcomes}


IN_ORDER = {Outcome.DONE, Outcome.UNCHANGED, Outcome.ELSEWHERE}


@given(reports())
def test_zero_means_in_order(report: SyncReport) -> None:
    """A sync ends with 0 exactly if the run was complete, and every step is done, unchanged, or
    left to another host.
    """
    in_order = report.complete and outcomes(report) <= IN_ORDER

    assert in_order == (exits.of_report(report) == Exit.OK)


def test_notice_at_a_target_is_in_order() -> None:
    """An unreadable fact at a target is reported, and the run ends with 0; a skipped step is not in
    order.
    """
    notice = StepOutcome(None, Outcome.SKIPPED, Text("so"), "qiniu", notice=True)
    unchanged_step = StepOutcome(
        Action.VERIFY, Outcome.UNCHANGED, Text("so"), "qiniu", "img.example.com"
    )
    stopped = StepOutcome(None, Outcome.SKIPPED, Text("so"))

    report = LineageReport("img", None, (notice, unchanged_step))
    assert (True, True) == (report.ok, report.is_unchanged)
    assert Exit.OK == exits.of_report(SyncReport((report,)))
    assert not LineageReport("img", None, (stopped, unchanged_step)).ok


@given(reports())
def test_worst_outcome_decides(report: SyncReport) -> None:
    """The exit code is that of the first in the order stopped, failed, refused, waiting."""
    observed = outcomes(report)
    ranked = [
        (not report.complete, Exit.STOPPED),
        (Outcome.FAILED in observed, Exit.FAILED),
        (Outcome.REFUSED in observed, Exit.REFUSED),
        (bool(observed & {Outcome.WAITING, Outcome.SKIPPED}), Exit.TRY_LATER),
        (True, Exit.OK),
    ]

    assert next(code for true, code in ranked if true) == exits.of_report(report)


@given(report=reports(), stored=st.booleans())
def test_lost_database_ends_with_try_later(*, report: SyncReport, stored: bool) -> None:
    """A step that failed because of the database, or a report that was not stored, is no
    failure.
    """
    gone = errors.DatabaseUnavailable("gone")
    lineages = tuple(
        replace(lineage, outcomes=tuple(replace(step, error=gone) for step in lineage.outcomes))
        for lineage in report.lineages
    )
    observed = outcomes(report)
    ranked = [
        (not report.complete, Exit.STOPPED),
        (Outcome.REFUSED in observed, Exit.REFUSED),
        (bool(observed - IN_ORDER) or not stored, Exit.TRY_LATER),
        (True, Exit.OK),
    ]
    ended = replace(report, lineages=lineages, problem=None if stored else gone)

    assert next(code for true, code in ranked if true) == exits.of_report(ended)


OBSTACLES: dict[str, tuple[PlanFinding, ...]] = {
    "none": (),
    "refused": (
        PlanFinding.of(Weight.BLOCKED, errors.PlanRefused("the key is another certificate's")),
    ),
    "failed": (values.frozen(),),
}


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(list(OBSTACLES))).map(
            lambda parts: values.plan(
                *([values.look()] if parts[0] else []),
                findings=(*((values.too_short(),) if parts[1] else ()), *OBSTACLES[parts[2]]),
            )
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_exit_code_of_a_plan(plans: Sequence[Plan], check: object) -> None:
    """A blocked step counts before a refused step and a refused step before pending work; pending
    work counts with `--check` only. A refusal has the exit code of `sync` in every place.
    """
    code = exits.of_plans(plans, check=bool(check))

    ranked = [
        (any(plan.having(Weight.BLOCKED) == OBSTACLES["failed"] for plan in plans), Exit.FAILED),
        (
            any(plan.having(Weight.REFUSED) or plan.having(Weight.BLOCKED) for plan in plans),
            Exit.REFUSED,
        ),
        (bool(check) and any(plan.steps for plan in plans), Exit.PENDING),
        (True, Exit.OK),
    ]
    assert next(expected for true, expected in ranked if true) == code


def every_error() -> list[type[Reported]]:
    errors_found: list[type[Reported]] = [Reported]
    for kind in errors_found:
        errors_found += kind.__subclasses__()
    return errors_found


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_failing_exit_code(kind: type[Reported]) -> None:
    """No error ends with 0, and only the listed errors have their own exit code."""
    special = {
        errors.ConfigError: Exit.USAGE,
        errors.PlanChanged: Exit.PENDING,
        errors.PlanRefused: Exit.REFUSED,
        errors.LeaseHeld: Exit.TRY_LATER,
        errors.LeaseLost: Exit.TRY_LATER,
        errors.DatabaseUnavailable: Exit.TRY_LATER,
        errors.StateMoved: Exit.USAGE,
        errors.Interrupted: Exit.STOPPED,
    }

    expected = next(
        (special[ancestor] for ancestor in kind.__mro__ if ancestor in special), Exit.FAILED
    )

    assert expected == exits.of_error(kind("so it is"))


@pytest.mark.parametrize("standing", sorted(OF_DOMAINS))
def test_exit_code_of_a_status(standing: Standing) -> None:
    """A domain in progress is in order."""
    domain = DomainStatus("qiniu", Kind.CDN, "img.example.com", standing)
    status = LineageStatus("img", (), None, None, None, (domain,))
    failed = standing in {Standing.FAILED, Standing.UNKNOWN}

    assert (Exit.FAILED if failed else Exit.OK) == exits.of_statuses([status], Recorded())


def test_exit_code_of_a_discovery() -> None:
    """A domain with a problem is a finding; an unreadable account is a failure."""
    frozen = DiscoveredDomain(
        "qiniu", FoundDomain("img.example.com", Kind.CDN, problem=TargetRejected("frozen"))
    )
    readable, unreadable = (
        AccountSurvey("qiniu"),
        AccountSurvey("second", failure=TargetRejected("denied")),
    )

    partly = AccountSurvey("second", survey=Survey((), (TargetRejected("not for these keys"),)))

    assert Exit.OK == exits.of_problems(Discovery((readable, partly), (frozen,)).problems)
    assert Exit.FAILED == exits.of_problems(Discovery((readable, unreadable)).problems)


def problem(code: EdgeProblemCode) -> Problem:
    return Problem(code, Text("wrong"))


GOOD = Served("192.0.2.1", values.NEW, valid=True, not_after=values.NOON + timedelta(days=9))
INVALID = Served("192.0.2.2", values.OLD, valid=False, problem=problem(EdgeProblemCode.EXPIRED))
SILENT_EXIT = Served(
    "192.0.2.3", None, valid=False, problem=problem(EdgeProblemCode.TIMED_OUT), silent=True
)
NO_IPV6 = Served(
    "2001:db8::1", None, valid=False, problem=problem(EdgeProblemCode.NO_IPV6), silent=True
)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([[GOOD]], Exit.OK),
        ([[GOOD, GOOD], [GOOD]], Exit.OK),
        ([[GOOD, INVALID]], Exit.FAILED),
        ([[GOOD], [SILENT_EXIT]], Exit.FAILED),
        ([[]], Exit.FAILED),
        ([[GOOD, NO_IPV6]], Exit.OK),
        ([[GOOD, NO_IPV6, SILENT_EXIT]], Exit.FAILED),
        ([[NO_IPV6]], Exit.FAILED),
    ],
)
def test_exit_code_of_a_watch(answers: list[list[Served]], expected: Exit) -> None:
    """A single address with an invalid certificate is a failure. An address that this machine
    cannot reach is ignored if another address answers.
    """
    assert expected == exits.of_looks(
        [judged(Host(values.IMG), addresses, values.NOON) for addresses in answers]
    )


# --- `certferry history`


ISSUED = HistoryEntry(NOON, "img", "issued", "root@edge", {"fingerprint": "fedc", "issuer": "CA 1"})
FAILED = HistoryEntry(
    NOON + timedelta(minutes=9),
    "static",
    "deploy failed",
    "root@edge",
    {"domain": "s.example.com", "problem": "it said\n\x1b[31mno"},
)


def test_event_has_a_single_line() -> None:
    """A line has the moment, the certificate, the event, the user and the facts; text from outside
    breaks no line.
    """
    assert dedent("""\
        2026-11-24 12:09 UTC  static  deploy failed  root@edge  s.example.com · it said �[31mno
        2026-11-24 12:00 UTC  img     issued         root@edge  certificate: fedc · issuer: CA 1
        """) == values.text_of(status_text.history([FAILED, ISSUED], Voice()))


def test_order_of_facts_in_an_event() -> None:
    """The domain and its target come first, then short ids; the document has whole ids. The event
    is called begun, because an accepted change may still fail.
    """
    facts = {"remote_id": "5f3c8e1b0d2a77aa", "target": "qiniu", "domain": "s.example.com"}
    entry = HistoryEntry(NOON, "img", "deployed", "root@edge", facts)

    (line,) = values.text_of(status_text.history([entry], Voice())).splitlines()

    assert line.endswith("  root@edge  qiniu → s.example.com · uploaded copy: 5f3c8e1b0d2a")
    assert "img  deployment begun  " in line
    assert facts == documents.of_history([entry])["entries"][0]["facts"]  # type: ignore[index]  # a list of entries


def test_empty_history() -> None:
    """A sentence is printed, since silence would look like a failure."""
    assert "Nothing has happened yet.\n" == values.text_of(status_text.history([], Voice()))


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (HistoryBreak("img", Damage.CHANGED, 7), "img: entry 7 of ? was changed or inserted"),
        (
            HistoryBreak("img", Damage.REMOVED, 7, NOON),
            (
                "img: after entry 7 of 2026-11-24 12:00 UTC, entries were removed,"
                " or the end was changed"
            ),
        ),
        (
            HistoryBreak("img", Damage.REMOVED),
            "img: after the first entry, entries were removed, or the end was changed",
        ),
        (
            HistoryBreak("img", Damage.UNCONNECTED, 7, NOON),
            (
                "img: entry 7 of 2026-11-24 12:00 UTC does not continue the entry before, which"
                " was changed, removed or inserted"
            ),
        ),
        (
            HistoryBreak("", Damage.GONE),
            (
                "The whole history of a certificate was removed, or the number of histories was"
                " changed"
            ),
        ),
    ],
    ids=lambda each: "" if isinstance(each, str) else each.damage,
)
def test_damage_of_the_history(broken: HistoryBreak, expected: str) -> None:
    """The sentence has the certificate, the entry and the damage, as far as known."""
    verified = VerifiedHistory(9, 3, (broken,))
    assert expected + "\n" == values.text_of(status_text.verified(verified, Voice()))


@pytest.mark.parametrize(
    ("verified", "expected"),
    [
        (VerifiedHistory(9, 3), "9 entries of 3 certificates"),
        (
            VerifiedHistory(9, 2, of_console=1),
            "8 entries of 1 certificate and 1 entry of the console",
        ),
        (VerifiedHistory(2, 1, of_console=2), "2 entries of the console"),
    ],
    ids=["certificates", "both", "console"],
)
def test_counts_of_an_intact_history(verified: VerifiedHistory, expected: str) -> None:
    """Entries of the console are counted apart from entries of certificates."""
    whole = f"{expected}, unbroken\n"
    assert whole == values.text_of(status_text.verified(verified, Voice()))


def test_document_of_the_history() -> None:
    """`--json` prints every stored fact, newest first."""
    assert {
        "at": "2026-11-24T12:00:00Z",
        "name": "img",
        "event": "issued",
        "who": "root@edge",
        "facts": {"fingerprint": "fedc", "issuer": "CA 1"},
        "number": None,
        "host": None,
    } == documents.of_history([ISSUED])["entries"][0]  # type: ignore[index]  # a list of entries
