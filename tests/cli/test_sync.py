"""The output of `certferry sync`, as transcripts and as JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from textwrap import dedent
from typing import Any

import click
import pytest

from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext, wait_limit_of
from certferry.cli.sync import show_report
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.core.reasons import ReasonCode
from certferry.errors import DatabaseUnavailable, DnsUnavailable, LeaseHeld, Retry, StateMoved
from certferry.present import documents, report_text
from certferry.present.console import Verbosity
from certferry.present.language import Voice, voice_in
from certferry.reconcile.run import WaitLimit
from certferry.text import Text
from certferry.values import replace
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NEW, lineage, report
from tests.support.schemas import must_fit

LABEL = "certferry-img-0123456789abcdef0123"
ISSUED = StepOutcome(
    Action.ISSUE,
    Outcome.DONE,
    Text("valid until {moment}", moment=values.NOON + timedelta(days=90)),
)
BOUND = StepOutcome(Action.DEPLOY, Outcome.DONE, Text("bound"), "qiniu", IMG)
SEEN = StepOutcome(
    Action.VERIFY, Outcome.DONE, Text("served by every address that answers"), "qiniu", IMG
)
RETIRED = StepOutcome(Action.RETIRE, Outcome.DONE, Text("removed"), "qiniu", label=LABEL)
UNCHANGED = replace(SEEN, outcome=Outcome.UNCHANGED)
PROCESSING = StepOutcome(
    Action.DEPLOY,
    Outcome.WAITING,
    Text("{domain}: qiniu is applying the change", domain=IMG),
    "qiniu",
    IMG,
    waiting=values.waiting(),
)
SILENT = DnsUnavailable(
    Text("example.com: DNSPod does not answer\ntried 3 times"), hint=Text("try again later")
)
FAILED = StepOutcome(Action.ISSUE, Outcome.FAILED, SILENT.message, error=SILENT, hint=SILENT.hint)
REFUSED = StepOutcome(
    Action.DEPLOY,
    Outcome.REFUSED,
    Text("6 days left, but qiniu accepts only certificates with at least 30 days left"),
    "qiniu",
    IMG,
    hint=Text("use a CA whose certificates live longer"),
)


def output_of_report(
    rendered: SyncReport, *, quiet: bool = False, as_json: bool = False
) -> tuple[Exit, TestConsole]:
    console = TestConsole()
    verbosity = Verbosity.QUIET if quiet else Verbosity.NORMAL
    return show_report(
        rendered, CommandContext(console.console, verbosity=verbosity), as_json=as_json
    ), console


def test_report_of_a_complete_run() -> None:
    """Each step has a line: issued, bound, verified and retired."""
    code, console = output_of_report(report(lineage(ISSUED, BOUND, SEEN, RETIRED)))

    assert (
        dedent("""\
        img: done
          issue    done      valid until 2027-02-22 12:00 UTC
          deploy   done      qiniu → img.example.com: bound
          verify   done      img.example.com: served by every address that answers
          retire   done      certferry-img-0123456789abcdef0123 at qiniu: removed

        1 certificate: 4 done.
        """)
        == console.out
    )
    assert (Exit.OK, "") == (code, console.err)


def at(number: int, *steps: StepOutcome) -> list[StepOutcome]:
    """Return the steps at another domain."""
    return [replace(step, domain=f"img{number:02}.example.com") for step in steps]


def test_successful_domains_share_a_row() -> None:
    """Many bound and served domains have one row; every other domain has its own rows."""
    slow = replace(SEEN, outcome=Outcome.WAITING, detail=Text("1 of 2 addresses serves it"))
    repaired = replace(BOUND, detail=Text("bound: the previous certificate"))
    steps = [
        ISSUED,
        *(step for number in range(26) for step in at(number, BOUND, SEEN)),
        *at(26, BOUND, slow),
        *at(27, replace(BOUND, outcome=Outcome.FAILED, detail=Text("no quota"))),
        *at(28, repaired, SEEN),
    ]

    assert (
        dedent("""\
        img: failed
          issue    done      valid until 2027-02-22 12:00 UTC
          verify   done      26 domains: bound, served by every address that answers
          deploy   done      qiniu → img26.example.com: bound
          verify   waiting   img26.example.com: 1 of 2 addresses serves it
          deploy   failed    qiniu → img27.example.com: no quota
          deploy   done      qiniu → img28.example.com: bound: the previous certificate
          verify   done      img28.example.com: served by every address that answers

        1 certificate: 56 done, 1 waiting, 1 failed. Run `certferry sync` again to continue.
        """)
        == output_of_report(report(lineage(*steps)))[1].out
    )


def test_waiting_domains_share_a_row() -> None:
    """After `sync --no-wait` many domains have one row for each kind of wait."""
    busy = replace(BOUND, outcome=Outcome.WAITING, detail=Text("the CDN is applying the change"))
    slow = replace(SEEN, outcome=Outcome.WAITING, detail=Text("1 of 2 addresses serves it"))
    steps = [
        *(step for number in range(20) for step in at(number, busy)),
        *(step for number in range(20, 26) for step in at(number, BOUND, slow)),
    ]

    assert (
        dedent("""\
        img: waiting
          deploy   waiting   20 domains: the CDN is applying the change: img00.example.com, img01.example.com, img02.example.com, and 17 more
          verify   waiting   6 domains: bound, 1 of 2 addresses serves it: img20.example.com, img21.example.com, img22.example.com, and 3 more

        1 certificate: 6 done, 26 waiting. Run `certferry sync` again to continue.
        """)  # noqa: E501 - a transcript is as wide as it is
        == output_of_report(report(lineage(*steps)))[1].out
    )


def test_successful_certificates_share_their_rows() -> None:
    """Many certificates with one domain each have as few rows as one certificate; a failure, or a
    certificate with more facts, has its own rows.
    """
    each = [
        lineage(ISSUED, *at(number, BOUND, SEEN), RETIRED, name=f"img{number:02}")
        for number in range(27)
    ]
    with_leftovers = lineage(
        *at(27, replace(SEEN, outcome=Outcome.UNCHANGED, left=True)), name="img27"
    )
    failed = lineage(FAILED, name="img28")

    assert (
        dedent("""\
        27 certificates: done
          issue    done      27 certificates
          retire   done      27 certificates
          verify   done      27 domains: bound, served by every address that answers
        img27: unchanged
          verify   unchanged img27.example.com: served by every address that answers
        img28: failed
          issue    failed    example.com: DNSPod does not answer
                             tried 3 times
                             hint: try again later

        29 certificates: 108 done, 1 unchanged, 1 failed.
        """)
        == output_of_report(report(with_leftovers, *each, failed))[1].out
    )


def test_unchanged_certificates_share_a_row() -> None:
    """The next run of many certificates is a single row."""
    each = [lineage(*at(number, UNCHANGED), name=f"img{number:02}") for number in range(30)]

    assert (
        dedent("""\
        30 certificates: unchanged
          verify   unchanged 30 domains: served by every address that answers

        Nothing changed: 30 certificates are as declared.
        """)
        == output_of_report(report(*each))[1].out
    )


def test_few_domains_have_their_own_rows() -> None:
    """The rows fit on a screen, and have the target."""
    few = [step for number in range(3) for step in at(number, BOUND, SEEN)]

    assert 9 == len(output_of_report(report(lineage(*few)))[1].out.splitlines())


def test_removed_foreign_certificates_have_name_and_id() -> None:
    """Each removed copy has a line; retained copies are only counted."""
    removed_copy = replace(RETIRED, label="", remote_id="5f3c", unmanaged=True)
    retained = StepOutcome(
        Action.RETIRE, Outcome.UNCHANGED, Text("kept: {count}", count=7), "qiniu"
    )

    code, console = output_of_report(
        report(
            lineage(removed_copy, replace(removed_copy, label="old", remote_id="77aa"), retained)
        )
    )

    assert Exit.OK is code
    assert (
        dedent("""\
        img: done
          retire   done      — at qiniu (5f3c): removed
          retire   done      old at qiniu (77aa): removed
          retire   unchanged qiniu: kept: 7

        1 certificate: 2 done, 1 unchanged.
        """)
        == console.out
    )


def test_second_run_reports_no_change() -> None:
    """A run without work says so, and is in order."""
    code, console = output_of_report(report(lineage(UNCHANGED), lineage(name="kept")))

    assert (
        dedent("""\
        img: unchanged
          verify   unchanged img.example.com: served by every address that answers
        kept: unchanged

        Nothing changed: 2 certificates are as declared.
        """)
        == console.out
    )
    assert Exit.OK == code


def test_waiting_run_reports_the_next_run() -> None:
    """Work in progress ends with 75, and the summary has the next command."""
    code, console = output_of_report(report(lineage(ISSUED, PROCESSING)))

    assert (
        dedent("""\
        img: waiting
          issue    done      valid until 2027-02-22 12:00 UTC
          deploy   waiting   qiniu → img.example.com: qiniu is applying the change

        1 certificate: 1 done, 1 waiting. Run `certferry sync` again to continue.
        """)
        == console.out
    )
    assert Exit.TRY_LATER == code


def test_failure_beside_success() -> None:
    """A failure has a hint, stops no other certificate, and decides the exit code."""
    code, console = output_of_report(
        report(lineage(FAILED), lineage(BOUND, SEEN, name="static"), lineage(REFUSED, name="old"))
    )

    assert (
        dedent("""\
        img: failed
          issue    failed    example.com: DNSPod does not answer
                             tried 3 times
                             hint: try again later
        static: done
          deploy   done      qiniu → img.example.com: bound
          verify   done      img.example.com: served by every address that answers
        old: refused
          deploy   refused   qiniu → img.example.com: 6 days left, but qiniu accepts only certificates with at least 30 days left
                             hint: use a CA whose certificates live longer

        3 certificates: 2 done, 1 failed, 1 refused.
        """)  # noqa: E501 - a transcript is as wide as it is
        == console.out
    )
    assert Exit.FAILED == code


def test_common_cause_of_failures_is_reported_once() -> None:
    """The cause has the hint and its certificates; other outcomes and other failures stay with
    their certificate. The document has each failure.
    """
    failing = report(
        lineage(FAILED),
        replace(lineage(BOUND, FAILED, name="static"), ends=(values.NOON + timedelta(days=9),)),
        lineage(FAILED, name="media"),
        lineage(replace(REFUSED, reason="too_little_life"), name="old"),
        lineage(FAILED, name="www"),
    )
    code, console = output_of_report(failing)
    _, quiet = output_of_report(failing, quiet=True)
    _, as_json = output_of_report(failing, as_json=True)

    assert (
        dedent("""\
        static: failed
          deploy   done      qiniu → img.example.com: bound
        old: refused
          deploy   refused   qiniu → img.example.com: 6 days left, but qiniu accepts only certificates with at least 30 days left
                             hint: use a CA whose certificates live longer
        cause: example.com: DNSPod does not answer
               tried 3 times
          4 certificates (static, img, media, and 1 more), the first deadline is 2026-12-03 12:00 UTC
          hint: try again later

        5 certificates: 1 done, 4 failed, 1 refused.
        """)  # noqa: E501 - a transcript is as wide as it is
        == console.out
    )
    assert [
        "cause: example.com: DNSPod does not answer",
        "       tried 3 times",
    ] == quiet.err.splitlines()[-4:-2]
    assert 1 == quiet.err.count("DNSPod")
    assert 4 == as_json.out.count('"detail": "example.com: DNSPod does not answer')
    document = json.loads(as_json.out)
    assert [
        ("dns_unavailable", ["static", "img", "media", "www"], "2026-12-03T12:00:00Z"),
        ("too_little_life", ["old"], None),
    ] == [(cause["code"], cause["certificates"], cause["deadline"]) for cause in document["causes"]]
    must_fit(document, "sync")
    assert Exit.FAILED == code


def test_lost_database_leaves_certificates_undone() -> None:
    """A lost database is no failure of the certificates, and an unstored report for the same reason
    is not mentioned again.
    """
    gone = DatabaseUnavailable(Text("the database is gone"), hint=Text("see whether it runs"))
    check = StepOutcome.of(None, gone)
    code, console = output_of_report(replace(report(lineage(ISSUED, check)), problem=gone))

    assert (
        dedent("""\
        img: not done
          issue    done      valid until 2027-02-22 12:00 UTC
          check    not done  the database is gone
                             hint: see whether it runs

        1 certificate: 1 done, 1 not done.
        """)
        == console.out
    )
    assert Exit.TRY_LATER == code


def test_moved_state_ends_with_usage() -> None:
    """The exit code is 2, because the configuration names a former place."""
    moved = StateMoved(Text("the state in a was moved to b"), hint=Text("write the new one"))
    for rendered in (
        report(lineage(StepOutcome.of(None, moved))),
        replace(report(lineage(ISSUED)), problem=moved),
    ):
        assert Exit.USAGE == output_of_report(rendered)[0]


def test_refusal_has_its_own_exit_code() -> None:
    """A refusal for safety differs from a failure."""
    code, _ = output_of_report(report(lineage(REFUSED)))

    assert Exit.REFUSED == code


def test_stopped_run_reports_the_next_run() -> None:
    """The output says that the next run continues."""
    skipped = StepOutcome(None, Outcome.SKIPPED, Text("stopped during: issue"))

    code, console = output_of_report(report(lineage(skipped), complete=False))

    assert (
        dedent("""\
        img: stopped
          stopped during: issue

        Stopped. The next `certferry sync` continues from here.
        """)
        == console.out
    )
    assert Exit.STOPPED == code


def left_to(host: str) -> StepOutcome:
    """Return the outcome of a certificate that another host is working on."""
    message = Text(
        "process 7 on {host} has been working since {since}", host=host, since=values.NOON
    )
    return StepOutcome(None, Outcome.ELSEWHERE, message, host=host, since=values.NOON)


def test_certificate_of_another_host_is_in_order() -> None:
    """The report has the host and the time, and the run has no work left."""
    report_of_run = report(lineage(left_to("web-2")))

    code, console = output_of_report(report_of_run)

    assert (
        dedent("""\
        img: elsewhere
          process 7 on web-2 has been working since 2026-11-24 12:00 UTC

        1 certificate: 1 elsewhere.
        """)
        == console.out
    )
    assert Exit.OK == code
    code, console = output_of_report(report_of_run, as_json=True)
    document = json.loads(console.out)
    [certificate] = document["certificates"]
    [step] = certificate["steps"]
    assert (True, "in_order") == (document["ok"], document["result"])
    assert (True, "elsewhere") == (certificate["ok"], certificate["result"])
    assert ("elsewhere", "web-2", None) == (step["outcome"], step["host"], step["problem"])
    assert "2026-11-24T12:00:00Z" == step["since"]
    must_fit(document, "sync")


def test_certificates_of_other_hosts_share_rows() -> None:
    """Each host has a row with the first names; a failure beside these rows is still a failure."""
    lineages = [
        LineageReport(f"img{number}", None, (left_to(f"web-{2 + number % 2}"),))
        for number in range(9)
    ]

    code, console = output_of_report(report(*lineages, lineage(FAILED)))

    expected = """\
        9 certificates: elsewhere
          web-2: img0, img2, img4, and 2 more
          web-3: img1, img3, img5, and 1 more
        """
    assert console.out.startswith(dedent(expected))
    assert Exit.FAILED == code


def test_certificate_after_a_stop_is_not_called_unchanged() -> None:
    """The run does not know the certificate's standing."""
    rendered = report(lineage(UNCHANGED), values.UNSEEN, complete=False)

    _, console = output_of_report(rendered)

    assert (
        dedent("""\
        img: unchanged
          verify   unchanged img.example.com: served by every address that answers
        static: not checked

        Stopped. The next `certferry sync` continues from here.
        """)
        == console.out
    )
    assert "static: 未检查\n" in values.text_of(list(report_text.lines(rendered, voice_in("zh"))))


def test_certificate_after_a_stop_is_not_ok_in_the_document() -> None:
    """A program reads that the run stopped before the certificate."""
    rendered = report(lineage(UNCHANGED), values.UNSEEN, complete=False)
    document: dict[str, Any] = documents.rendered(documents.of_report(rendered), Voice())

    first, second = document["certificates"]
    assert (True, "in_order") == (first["ok"], first["result"])
    assert (False, "stopped", []) == (second["ok"], second["result"], second["steps"])


def test_stopped_retry_keeps_the_earlier_failure() -> None:
    """The failure of the earlier try stays in the report, although the retry stopped before its
    result.
    """
    failed = lineage(FAILED, name="static")

    rendered = report(failed).with_newer(report(values.UNSEEN, complete=False))

    assert (failed,) == rendered.lineages
    assert not rendered.complete


def test_report_without_certificates() -> None:
    """An empty configuration is in order, and a sentence says so."""
    code, console = output_of_report(report())

    assert (Exit.OK, "No certificate is declared.\n") == (code, console.out)


def test_quiet_run_in_order_prints_nothing() -> None:
    """Cron sends mail for output only."""
    code, console = output_of_report(
        report(lineage(ISSUED, BOUND, SEEN), lineage(PROCESSING)), quiet=True
    )

    assert (Exit.TRY_LATER, "", "") == (code, console.out, console.err)


def test_quiet_run_prints_problems() -> None:
    """Failures and refusals are on stderr, each with its hint."""
    code, console = output_of_report(
        report(lineage(FAILED, BOUND), lineage(REFUSED, name="old")), quiet=True
    )

    assert "" == console.out
    assert (
        dedent("""\
        error: img: issue failed: example.com: DNSPod does not answer tried 3 times
        hint: try again later
        error: old: deploy refused: qiniu → img.example.com: 6 days left, but qiniu accepts only certificates with at least 30 days left
        hint: use a CA whose certificates live longer
        """)  # noqa: E501 - a transcript is as wide as it is
        == console.err
    )
    assert Exit.FAILED == code


def test_document_of_a_sync() -> None:
    """`--json` has the keys of docs/reference/json.md, and no text for people."""
    _, console = output_of_report(
        report(lineage(ISSUED, PROCESSING, RETIRED, REFUSED)), as_json=True
    )

    document = json.loads(console.out)

    assert document["ok"] is False
    (certificate,) = document["certificates"]
    assert ("img", False, NEW) == (
        certificate["name"],
        certificate["ok"],
        certificate["fingerprint"],
    )
    for step in certificate["steps"]:
        assert {"action", "target", "domain", "outcome", "detail", "retry_at"} <= set(step)
    issue, deploy, retire, refused = certificate["steps"]
    assert ("issue", "done", None) == (issue["action"], issue["outcome"], issue["target"])
    assert ("waiting", "2026-11-24T12:00:10Z") == (deploy["outcome"], deploy["retry_at"])
    assert (None, LABEL, None) == (retire["domain"], retire["label"], retire["retry_at"])
    assert ("refused", "use a CA whose certificates live longer") == (
        refused["outcome"],
        refused["hint"],
    )
    assert "" == console.err


def test_waiting_and_failed_runs_differ_in_the_document() -> None:
    """A waiting run is complete, is still to be continued, and has its own result."""
    waiting = documents.rendered(documents.of_report(report(lineage(ISSUED, PROCESSING))), Voice())
    failed = documents.rendered(documents.of_report(report(lineage(ISSUED, FAILED))), Voice())

    assert (False, "waiting", True) == tuple(waiting[k] for k in ("ok", "result", "complete"))
    assert (False, "failed", True) == tuple(failed[k] for k in ("ok", "result", "complete"))


def test_refusal_has_a_problem_in_the_document() -> None:
    """Failures and refusals have an object with code, message and hint; successful steps have none.
    A failure without an error object is a bug in certferry.
    """
    refused = replace(REFUSED, reason=ReasonCode.TOO_LITTLE_LIFE)
    mistake = StepOutcome(None, Outcome.FAILED, Text("a bug in certferry"))
    steps = (BOUND, refused, FAILED, mistake)

    document: Any = documents.rendered(documents.of_report(report(lineage(*steps))), Voice())

    steps_in_document = document["certificates"][0]["steps"]
    problems = [step["problem"] for step in steps_in_document]
    assert problems[0] is None
    assert all({"code", "message", "hint"} == set(problem) for problem in problems[1:])
    codes = ["too_little_life", "dns_unavailable", "unexpected"]
    assert codes == [problem["code"] for problem in problems[1:]]
    assert [None, *codes] == [step["code"] for step in steps_in_document]


def test_time_of_the_next_try_in_the_document() -> None:
    """An error's time is the step's `retry_at`, and the error's code is the step's code."""
    held = LeaseHeld(Text("locked"), retry=Retry.at(values.NOON))
    step = StepOutcome(Action.ISSUE, Outcome.FAILED, held.message, error=held)

    document = json.loads(
        json.dumps(documents.rendered(documents.of_report(report(lineage(step))), Voice()))
    )

    (step_in_document,) = document["certificates"][0]["steps"]
    assert ("lease_held", "2026-11-24T12:00:00Z") == (
        step_in_document["code"],
        step_in_document["retry_at"],
    )


def test_stopped_run_is_not_ok_in_the_document() -> None:
    """A program can distinguish a stopped run from a run in order."""
    document = documents.rendered(
        documents.of_report(report(lineage(BOUND), complete=False)), Voice()
    )

    assert (False, False) == (document["ok"], document["complete"])


@pytest.mark.parametrize(
    ("wait", "no_wait", "expected"),
    [
        (None, False, WaitLimit(None)),
        (None, True, WaitLimit(timedelta(0))),
        (0, False, WaitLimit(timedelta(0))),
        (0, True, WaitLimit(timedelta(0))),
        (90, False, WaitLimit(timedelta(seconds=90))),
    ],
)
def test_wait_limit_of_the_options(wait: int | None, *, no_wait: bool, expected: WaitLimit) -> None:
    """By default a run waits to the end; otherwise the option limits the time."""
    assert expected == wait_limit_of(wait, no_wait=no_wait)


def test_wait_options_exclude_each_other() -> None:
    """Both options together are a usage error."""
    with pytest.raises(click.UsageError, match="cannot be combined"):
        wait_limit_of(5, no_wait=True)
