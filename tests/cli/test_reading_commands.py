"""What commands that look print: discover, doctor, history, exits."""

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
from certferry.core.discovery.watched import Host, judged
from certferry.core.findings import error, info, warning
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

# --- What `certferry discover` says of accounts that could not be looked at, and of nothing
# found


NO_KEYS = ConfigError(Text("no keys"), hint=Text("set them"))
NO_SECRET = ConfigError(Text("no secret"))
DENIED = TargetAccessDenied(Text("bad token"), hint=Text("check the keys"))
SILENT = TargetUnavailable(Text("no answer"))
DOMAIN = DiscoveredDomain("a", FoundDomain(IMG, Kind.CDN))


def failed(label: str, error: CertferryError) -> AccountSurvey:
    """An account that could not be looked at."""
    return AccountSurvey(label, failure=error)


@pytest.mark.parametrize(
    ("looks", "written"),
    [
        ([failed("a", DENIED)], "bad token"),
        ([failed("a", NO_KEYS)], "no keys"),
        ([failed("a", NO_KEYS), failed("b", NO_SECRET)], "no keys\nno secret"),
    ],
    ids=["denied", "settings", "settings-of-all"],
)
def test_where_there_is_nothing_to_show_it_is_the_error(
    looks: list[AccountSurvey], written: str
) -> None:
    """The only account, or a mistake in the settings of each."""
    with pytest.raises(CertferryError) as caught:
        must_be_read(Discovery(tuple(looks)))

    assert written == str(caught.value)
    assert isinstance(caught.value, ConfigError) == (written != "bad token")


@pytest.mark.parametrize(
    "looks",
    [
        [failed("a", DENIED), failed("b", SILENT)],
        [failed("a", NO_KEYS), failed("b", SILENT)],
        [failed("a", NO_KEYS), AccountSurvey("b")],
        [AccountSurvey("a", Survey((), (DENIED,)))],
    ],
    ids=["both", "of-two-kinds", "one", "a-part"],
)
def test_where_there_is_more_to_report_it_is_shown(looks: list[AccountSurvey]) -> None:
    """Each account has its own problem, or some hold something."""
    must_be_read(Discovery(tuple(looks)))


def test_account_that_could_not_be_looked_at_is_no_empty_one(tmp_path: Path) -> None:
    """Nothing is said to be there or not; what is wrong is reported, in the log as well."""
    desk = TestConsole()
    console, path = desk.console, tmp_path / "log"
    console.run_log.open(path, Format.JSON)
    found = Discovery((failed("a", DENIED), failed("b", SILENT)))

    code = show_discovery(found, Wanted(), console, NOON, as_json=False)

    assert (Exit.FAILED, "") == (code, desk.out)
    assert "error: a: bad token\nhint: check the keys\nerror: b: no answer\n" == desk.err
    logged = [json.loads(row) for row in path.read_text().splitlines()]
    assert [
        ("discover.failed", "a", "bad token", "target_access_denied"),
        ("discover.failed", "b", "no answer", "target_unavailable"),
    ] == [(one["event"], one["target"], one["detail"], one["code"]) for one in logged]


@pytest.mark.parametrize(
    ("verbosity", "said"), [(Verbosity.NORMAL, True), (Verbosity.QUIET, False)]
)
def test_no_tables_are_reported_as_such(verbosity: Verbosity, *, said: bool) -> None:
    """On stderr: what is on stdout is to be pasted."""
    desk = TestConsole()

    code = show_tables(Proposal(), [], CommandContext(desk.console, verbosity=verbosity))

    assert (Exit.OK, "") == (code, desk.out)
    assert ("No domain needs a certificate.\n" if said else "") == desk.err


def test_domains_without_certificates_have_one_table() -> None:
    """Below it stands nothing but the counts."""
    desk = TestConsole()
    found = Discovery((AccountSurvey("a"),), (DOMAIN,))

    code = show_discovery(found, Wanted(), desk.console, NOON, as_json=False)

    assert Exit.OK == code
    assert [
        "DOMAIN           STATE  HTTPS  OWNER  LEFT  COVERED BY  SERVED",
        "img.example.com  —      off    —      —     none        —",
        "",
        "1 domain: 1 not covered, 0 with another owner's certificate. 0 certificates: 0 unused.",
    ] == desk.out.splitlines()


# --- How `certferry doctor` tells what it found, and with which exit code


ERROR = error(
    "zone_missing",
    "x.notmine.org",
    Text("x.notmine.org: no zone of the account contains the name"),
    Text("add the domain to the account"),
)
WARNING = warning("schedule_missing", "schedule", Text("no daily run is installed"), None)
INFO = info("back_up", "a", Text("back this up\x1b[2J"))


def shown(
    findings: Sequence[Problem], *, as_json: bool = False, quiet: bool = False
) -> tuple[Exit, TestConsole]:
    """Return the exit code, and what was written."""
    console = TestConsole()
    verbosity = Verbosity.QUIET if quiet else Verbosity.NORMAL
    return show_findings(
        findings, CommandContext(console.console, None, verbosity), as_json=as_json
    ), console


def test_each_finding_has_its_code_and_its_fix() -> None:
    """The subject is named once; words from outside move no cursor. An error is a failure."""
    code, console = shown([ERROR, WARNING, INFO])

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
def test_without_an_error_all_is_in_order(findings: list[Problem], conclusion: str) -> None:
    """Warnings end with 0."""
    code, console = shown(findings)

    assert console.out.endswith(conclusion)
    assert Exit.OK == code


def test_what_other_commands_tell_is_for_programs() -> None:
    """Of `status`, `history` and `discover`; that the last run is long ago is a warning."""
    known = [info(code, "x", Text("so it is")) for code in ("ways", "last_run", "last_change")]
    late = warning("last_run", "sync", Text("the last run was long ago"), None)

    assert "so it is" not in shown([*known, late])[1].out
    assert "the last run was long ago" in shown([*known, late])[1].out
    assert 3 == shown(known, as_json=True)[1].out.count("so it is")


def test_quiet_run_shows_errors_alone() -> None:
    """On stderr; of anything else, nothing."""
    code, console = shown([ERROR, WARNING, INFO], quiet=True)

    assert "" == console.out
    assert 2 == len(console.err.splitlines())
    assert Exit.FAILED == code
    assert (Exit.OK, "") == (shown([WARNING], quiet=True)[0], shown([WARNING], quiet=True)[1].err)


def test_document_is_that_of_the_contract() -> None:
    """What has no fix has null."""
    code, console = shown([ERROR, WARNING], as_json=True)

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
    assert json.loads(shown([INFO], as_json=True)[1].out)["ok"]


# --- Exit codes, for every combination of what can be true of a run


def reports() -> st.SearchStrategy[SyncReport]:
    """Reports with any outcomes, stopped or not."""
    steps = st.sampled_from(Outcome).map(
        lambda outcome: StepOutcome(Action.DEPLOY, outcome, Text("so"), "qiniu", "img.example.com")
    )
    lineages = st.lists(steps, max_size=4).map(lambda s: LineageReport("img", None, tuple(s)))
    return st.builds(SyncReport, st.lists(lineages, max_size=3).map(tuple), st.booleans())


def outcomes(report: SyncReport) -> set[Outcome]:
    return {step.outcome for lineage in report.lineages for step in lineage.outcomes}


IN_ORDER = {Outcome.DONE, Outcome.UNCHANGED, Outcome.ELSEWHERE}


@given(reports())
def test_zero_means_in_order_and_nothing_else(report: SyncReport) -> None:
    """A sync is 0 exactly when it ran to its end and every step is done or unchanged, or is left to
    another host.
    """
    in_order = report.complete and outcomes(report) <= IN_ORDER

    assert in_order == (exits.of_report(report) == Exit.OK)


def test_what_could_not_be_read_beside_the_domains_is_in_order() -> None:
    """A notice at a target is reported, and the run is 0; a step that was stopped is not."""
    notice = StepOutcome(None, Outcome.SKIPPED, Text("so"), "qiniu", notice=True)
    done = StepOutcome(Action.VERIFY, Outcome.UNCHANGED, Text("so"), "qiniu", "img.example.com")
    stopped = StepOutcome(None, Outcome.SKIPPED, Text("so"))

    report = LineageReport("img", None, (notice, done))
    assert (True, True) == (report.ok, report.is_unchanged)
    assert Exit.OK == exits.of_report(SyncReport((report,)))
    assert not LineageReport("img", None, (stopped, done)).ok


@given(reports())
def test_the_worst_outcome_decides(report: SyncReport) -> None:
    """Stopped, failed, refused, still in progress: the first that is true, whatever else is."""
    found = outcomes(report)
    ranked = [
        (not report.complete, Exit.STOPPED),
        (Outcome.FAILED in found, Exit.FAILED),
        (Outcome.REFUSED in found, Exit.REFUSED),
        (bool(found & {Outcome.WAITING, Outcome.SKIPPED}), Exit.TRY_LATER),
        (True, Exit.OK),
    ]

    assert next(code for true, code in ranked if true) == exits.of_report(report)


@given(report=reports(), stored=st.booleans())
def test_a_run_waits_for_a_database_that_is_gone(*, report: SyncReport, stored: bool) -> None:
    """What failed by it alone is no failure, and neither is a report that it did not store."""
    gone = errors.DatabaseUnavailable("gone")
    lineages = tuple(
        replace(one, outcomes=tuple(replace(step, error=gone) for step in one.outcomes))
        for one in report.lineages
    )
    found = outcomes(report)
    ranked = [
        (not report.complete, Exit.STOPPED),
        (Outcome.REFUSED in found, Exit.REFUSED),
        (bool(found - IN_ORDER) or not stored, Exit.TRY_LATER),
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
def test_a_plan_is_judged_by_what_stands_in_its_way(plans: Sequence[Plan], check: object) -> None:
    """Blocked before refused before pending; what is pending counts only with `--check`. A refusal
    is one wherever it stands: `sync` ends with the same code.
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
    found: list[type[Reported]] = [Reported]
    for kind in found:
        found += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_code_that_is_not_zero(kind: type[Reported]) -> None:
    """No error looks like success; only those that say so have a code of their own."""
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

    expected = next((special[one] for one in kind.__mro__ if one in special), Exit.FAILED)

    assert expected == exits.of_error(kind("so it is"))


@pytest.mark.parametrize("standing", sorted(OF_DOMAINS))
def test_a_status_is_a_failure_only_where_something_failed(standing: Standing) -> None:
    """What is merely on its way is in order."""
    domain = DomainStatus("qiniu", Kind.CDN, "img.example.com", standing)
    status = LineageStatus("img", (), None, None, None, (domain,))
    failed = standing in {Standing.FAILED, Standing.UNKNOWN}

    assert (Exit.FAILED if failed else Exit.OK) == exits.of_statuses([status], Recorded())


def test_what_is_discovered_is_in_order_and_what_is_not_seen_is_not() -> None:
    """A domain in trouble is a finding; an account that cannot be looked at is a failure."""
    frozen = DiscoveredDomain(
        "qiniu", FoundDomain("img.example.com", Kind.CDN, problem=TargetRejected("frozen"))
    )
    seen, unseen = AccountSurvey("qiniu"), AccountSurvey("second", failure=TargetRejected("denied"))

    partly = AccountSurvey("second", survey=Survey((), (TargetRejected("not for these keys"),)))

    assert Exit.OK == exits.of_problems(Discovery((seen, partly), (frozen,)).problems)
    assert Exit.FAILED == exits.of_problems(Discovery((seen, unseen)).problems)


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
    ("looks", "expected"),
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
def test_a_watch_is_in_order_when_every_address_is(
    looks: list[list[Served]], expected: Exit
) -> None:
    """One address without a valid certificate is enough to fail. What this machine cannot look at
    counts for nothing where another address answers.
    """
    assert expected == exits.of_looks(
        [judged(Host(values.IMG), look, values.NOON) for look in looks]
    )


# --- What `certferry history` shows


ISSUED = HistoryEntry(NOON, "img", "issued", "root@edge", {"fingerprint": "fedc", "issuer": "CA 1"})
FAILED = HistoryEntry(
    NOON + timedelta(minutes=9),
    "static",
    "deploy failed",
    "root@edge",
    {"domain": "s.example.com", "problem": "it said\n\x1b[31mno"},
)


def test_each_event_is_one_line() -> None:
    """When, which certificate, what, who, and the facts; nothing from outside breaks a line."""
    assert dedent("""\
        2026-11-24 12:09 UTC  static  deploy failed  root@edge  s.example.com · it said �[31mno
        2026-11-24 12:00 UTC  img     issued         root@edge  certificate: fedc · issuer: CA 1
        """) == values.text_of(status_text.history([FAILED, ISSUED], Voice()))


def test_where_what_and_which_stand_in_one_order() -> None:
    """The domain at its target, then ids in the one short form; the document has them whole. A
    change that the target took may fail after that: it has begun.
    """
    facts = {"remote_id": "5f3c8e1b0d2a77aa", "target": "qiniu", "domain": "s.example.com"}
    entry = HistoryEntry(NOON, "img", "deployed", "root@edge", facts)

    (written,) = values.text_of(status_text.history([entry], Voice())).splitlines()

    assert written.endswith("  root@edge  qiniu → s.example.com · uploaded copy: 5f3c8e1b0d2a")
    assert "img  deployment begun  " in written
    assert facts == documents.of_history([entry])["entries"][0]["facts"]  # type: ignore[index]  # a list of entries


def test_an_empty_history_says_so() -> None:
    """Silence would look like a failure."""
    assert "Nothing has happened yet.\n" == values.text_of(status_text.history([], Voice()))


@pytest.mark.parametrize(
    ("broken", "said"),
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
def test_damage_is_said_in_one_sentence(broken: HistoryBreak, said: str) -> None:
    """Which certificate, which entry and what was done to it, as far as they are known."""
    found = VerifiedHistory(9, 3, (broken,))
    assert said + "\n" == values.text_of(status_text.verified(found, Voice()))


@pytest.mark.parametrize(
    ("found", "said"),
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
def test_users_and_tokens_are_no_certificate(found: VerifiedHistory, said: str) -> None:
    """The entries of the console are counted as what they are."""
    whole = f"{said}, unbroken\n"
    assert whole == values.text_of(status_text.verified(found, Voice()))


def test_the_document_holds_every_fact() -> None:
    """`--json` gives what was remembered, newest first."""
    assert {
        "at": "2026-11-24T12:00:00Z",
        "name": "img",
        "event": "issued",
        "who": "root@edge",
        "facts": {"fingerprint": "fedc", "issuer": "CA 1"},
        "number": None,
        "host": None,
    } == documents.of_history([ISSUED])["entries"][0]  # type: ignore[index]  # a list of entries
