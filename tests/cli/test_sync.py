"""What `certferry sync` tells at its end, as transcripts, and the document it prints."""

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


def shown(
    rendered: SyncReport, *, quiet: bool = False, as_json: bool = False
) -> tuple[Exit, TestConsole]:
    console = TestConsole()
    verbosity = Verbosity.QUIET if quiet else Verbosity.NORMAL
    return show_report(
        rendered, CommandContext(console.console, verbosity=verbosity), as_json=as_json
    ), console


def test_everything_done_is_a_line_per_step_and_a_summary() -> None:
    """A first run tells what was issued, bound, seen and retired."""
    code, console = shown(report(lineage(ISSUED, BOUND, SEEN, RETIRED)))

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
    """Give steps of another domain."""
    return [replace(step, domain=f"img{number:02}.example.com") for step in steps]


def test_of_many_domains_those_that_went_well_have_one_row() -> None:
    """Thirty that are bound and served are one line; what is not so has its own, whatever else went
    well there.
    """
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
        == shown(report(lineage(*steps)))[1].out
    )


def test_of_many_domains_those_that_wait_have_one_row() -> None:
    """So ends `sync --no-wait` for thirty: what is being waited for, and where, is two lines."""
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
        == shown(report(lineage(*steps)))[1].out
    )


def test_of_many_certificates_those_that_went_well_are_reported_together() -> None:
    """One for each domain: thirty are as few rows as thirty domains of one. What is not well, or of
    which there is more to say, has its rows.
    """
    each = [
        lineage(ISSUED, *at(number, BOUND, SEEN), RETIRED, name=f"img{number:02}")
        for number in range(27)
    ]
    left = lineage(*at(27, replace(SEEN, outcome=Outcome.UNCHANGED, left=True)), name="img27")
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
        == shown(report(left, *each, failed))[1].out
    )


def test_many_certificates_that_are_as_declared_are_one_row() -> None:
    """The run after it reads in a glance."""
    each = [lineage(*at(number, UNCHANGED), name=f"img{number:02}") for number in range(30)]

    assert (
        dedent("""\
        30 certificates: unchanged
          verify   unchanged 30 domains: served by every address that answers

        Nothing changed: 30 certificates are as declared.
        """)
        == shown(report(*each))[1].out
    )


def test_of_few_domains_each_has_its_rows() -> None:
    """They are on the screen together, and name their target."""
    few = [step for number in range(3) for step in at(number, BOUND, SEEN)]

    assert 9 == len(shown(report(lineage(*few)))[1].out.splitlines())


def test_what_was_not_ours_is_reported_by_name_and_id() -> None:
    """A line for each that went; those that are kept are only counted."""
    gone = replace(RETIRED, label="", remote_id="5f3c", unmanaged=True)
    kept = StepOutcome(Action.RETIRE, Outcome.UNCHANGED, Text("kept: {count}", count=7), "qiniu")

    code, console = shown(report(lineage(gone, replace(gone, label="old", remote_id="77aa"), kept)))

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


def test_a_second_run_says_that_nothing_changed() -> None:
    """Nothing to do is reported as such, and is in order."""
    code, console = shown(report(lineage(UNCHANGED), lineage(name="kept")))

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


def test_what_still_waits_is_left_to_the_next_run() -> None:
    """Work in progress is 75, and the summary says how to go on."""
    code, console = shown(report(lineage(ISSUED, PROCESSING)))

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


def test_one_failure_is_reported_beside_what_was_done() -> None:
    """A failure carries its hint, stops no other certificate, and decides the exit code."""
    code, console = shown(
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


def test_one_cause_of_several_failures_is_told_once() -> None:
    """With its hint and the certificates that it concerns; what else became of them stays theirs,
    and so does a failure of their own. Programs read each.
    """
    failing = report(
        lineage(FAILED),
        replace(lineage(BOUND, FAILED, name="static"), ends=(values.NOON + timedelta(days=9),)),
        lineage(FAILED, name="media"),
        lineage(replace(REFUSED, reason="too_little_life"), name="old"),
        lineage(FAILED, name="www"),
    )
    code, console = shown(failing)
    _, quiet = shown(failing, quiet=True)
    _, as_json = shown(failing, as_json=True)

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
    ] == [(one["code"], one["certificates"], one["deadline"]) for one in document["causes"]]
    must_fit(document, "sync")
    assert Exit.FAILED == code


def test_state_that_is_gone_leaves_certificates_not_done() -> None:
    """One of them or many: no failure of theirs. That the end was not stored for the same is not
    said again.
    """
    gone = DatabaseUnavailable(Text("the database is gone"), hint=Text("see whether it runs"))
    looked = StepOutcome.of(None, gone)
    code, console = shown(replace(report(lineage(ISSUED, looked)), problem=gone))

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


def test_state_that_was_moved_is_a_matter_of_the_file() -> None:
    """The run ends with 2: the file names a place that is in use no more."""
    moved = StateMoved(Text("the state in a was moved to b"), hint=Text("write the new one"))
    for rendered in (
        report(lineage(StepOutcome.of(None, moved))),
        replace(report(lineage(ISSUED)), problem=moved),
    ):
        assert Exit.USAGE == shown(rendered)[0]


def test_a_refusal_alone_has_its_own_exit_code() -> None:
    """Refused for safety is distinguished from failed."""
    code, _ = shown(report(lineage(REFUSED)))

    assert Exit.REFUSED == code


def test_a_stopped_run_says_that_the_next_goes_on() -> None:
    """Ctrl-C loses nothing, and says so."""
    skipped = StepOutcome(None, Outcome.SKIPPED, Text("stopped during: issue"))

    code, console = shown(report(lineage(skipped), complete=False))

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
    """Leave a certificate to a host that is at work on it."""
    said = Text("process 7 on {host} has been working since {since}", host=host, since=values.NOON)
    return StepOutcome(None, Outcome.ELSEWHERE, said, host=host, since=values.NOON)


def test_certificate_that_another_host_works_on_is_in_order() -> None:
    """The report says which host, and since when; the run has done its part."""
    left = report(lineage(left_to("web-2")))

    code, console = shown(left)

    assert (
        dedent("""\
        img: elsewhere
          process 7 on web-2 has been working since 2026-11-24 12:00 UTC

        1 certificate: 1 elsewhere.
        """)
        == console.out
    )
    assert Exit.OK == code
    code, console = shown(left, as_json=True)
    document = json.loads(console.out)
    [certificate] = document["certificates"]
    [step] = certificate["steps"]
    assert (True, "in_order") == (document["ok"], document["result"])
    assert (True, "elsewhere") == (certificate["ok"], certificate["result"])
    assert ("elsewhere", "web-2", None) == (step["outcome"], step["host"], step["problem"])
    assert "2026-11-24T12:00:00Z" == step["since"]
    must_fit(document, "sync")


def test_certificates_that_other_hosts_work_on_are_told_together() -> None:
    """By host, with the first of their names; what fails beside them still fails."""
    lineages = [
        LineageReport(f"img{number}", None, (left_to(f"web-{2 + number % 2}"),))
        for number in range(9)
    ]

    code, console = shown(report(*lineages, lineage(FAILED)))

    told = """\
        9 certificates: elsewhere
          web-2: img0, img2, img4, and 2 more
          web-3: img1, img3, img5, and 1 more
        """
    assert console.out.startswith(dedent(told))
    assert Exit.FAILED == code


def test_certificate_that_a_stopped_run_did_not_look_at_is_reported_as_such() -> None:
    """It is not called unchanged: the run does not know how it stands."""
    rendered = report(lineage(UNCHANGED), values.UNSEEN, complete=False)

    _, console = shown(rendered)

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


def test_certificate_that_a_stopped_run_did_not_look_at_is_not_ok_for_a_program() -> None:
    """A program reads that the run was stopped before it."""
    rendered = report(lineage(UNCHANGED), values.UNSEEN, complete=False)
    document: dict[str, Any] = documents.rendered(documents.of_report(rendered), Voice())

    seen, unseen = document["certificates"]
    assert (True, "in_order") == (seen["ok"], seen["result"])
    assert (False, "stopped", []) == (unseen["ok"], unseen["result"], unseen["steps"])


def test_try_that_is_stopped_leaves_what_an_earlier_try_of_the_run_found() -> None:
    """What failed is reported as failed, although the run was stopped before it looked again."""
    failed = lineage(FAILED, name="static")

    rendered = report(failed).with_newer(report(values.UNSEEN, complete=False))

    assert (failed,) == rendered.lineages
    assert not rendered.complete


def test_no_certificate_at_all_is_said() -> None:
    """An empty file is in order, and not silent."""
    code, console = shown(report())

    assert (Exit.OK, "No certificate is declared.\n") == (code, console.out)


def test_a_quiet_run_in_order_says_nothing() -> None:
    """Cron sends no mail when there is nothing to say."""
    code, console = shown(report(lineage(ISSUED, BOUND, SEEN), lineage(PROCESSING)), quiet=True)

    assert (Exit.TRY_LATER, "", "") == (code, console.out, console.err)


def test_a_quiet_run_shows_what_is_wrong() -> None:
    """Failures and refusals go to stderr, each with its hint."""
    code, console = shown(report(lineage(FAILED, BOUND), lineage(REFUSED, name="old")), quiet=True)

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


def test_the_document_has_the_promised_keys() -> None:
    """`--json` gives the report of docs/reference/json.md, and nothing for people."""
    _, console = shown(report(lineage(ISSUED, PROCESSING, RETIRED, REFUSED)), as_json=True)

    document = json.loads(console.out)

    assert document["ok"] is False
    (written,) = document["certificates"]
    assert ("img", False, NEW) == (written["name"], written["ok"], written["fingerprint"])
    for step in written["steps"]:
        assert {"action", "target", "domain", "outcome", "detail", "retry_at"} <= set(step)
    issue, deploy, retire, refused = written["steps"]
    assert ("issue", "done", None) == (issue["action"], issue["outcome"], issue["target"])
    assert ("waiting", "2026-11-24T12:00:10Z") == (deploy["outcome"], deploy["retry_at"])
    assert (None, LABEL, None) == (retire["domain"], retire["label"], retire["retry_at"])
    assert ("refused", "use a CA whose certificates live longer") == (
        refused["outcome"],
        refused["hint"],
    )
    assert "" == console.err


def test_a_run_that_waits_differs_from_one_that_failed() -> None:
    """It ran to its end, is not as declared yet, and says in one word that a later run goes on."""
    waiting = documents.rendered(documents.of_report(report(lineage(ISSUED, PROCESSING))), Voice())
    failed = documents.rendered(documents.of_report(report(lineage(ISSUED, FAILED))), Voice())

    assert (False, "waiting", True) == tuple(waiting[k] for k in ("ok", "result", "complete"))
    assert (False, "failed", True) == tuple(failed[k] for k in ("ok", "result", "complete"))


def test_what_was_refused_has_a_problem_as_what_failed_has() -> None:
    """An object with code, message and hint; what went well has none. A failure without an error
    of ours is a bug in certferry.
    """
    refused = replace(REFUSED, reason=ReasonCode.TOO_LITTLE_LIFE)
    mistake = StepOutcome(None, Outcome.FAILED, Text("a bug in certferry"))
    steps = (BOUND, refused, FAILED, mistake)

    document: Any = documents.rendered(documents.of_report(report(lineage(*steps))), Voice())

    written = document["certificates"][0]["steps"]
    problems = [step["problem"] for step in written]
    assert problems[0] is None
    assert all({"code", "message", "hint"} == set(problem) for problem in problems[1:])
    codes = ["too_little_life", "dns_unavailable", "unexpected"]
    assert codes == [problem["code"] for problem in problems[1:]]
    assert [None, *codes] == [step["code"] for step in written]


def test_the_document_says_when_to_try_again() -> None:
    """The time that an error carries is the step's `retry_at`; the code is the error's."""
    held = LeaseHeld(Text("locked"), retry=Retry.at(values.NOON))
    step = StepOutcome(Action.ISSUE, Outcome.FAILED, held.message, error=held)

    document = json.loads(
        json.dumps(documents.rendered(documents.of_report(report(lineage(step))), Voice()))
    )

    (written,) = document["certificates"][0]["steps"]
    assert ("lease_held", "2026-11-24T12:00:00Z") == (written["code"], written["retry_at"])


def test_a_stopped_run_is_not_ok_in_the_document() -> None:
    """A program does not take a run that was stopped for one that is in order."""
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
def test_patience_is_what_was_asked_for(
    wait: int | None, *, no_wait: bool, expected: WaitLimit
) -> None:
    """By default a run waits to the end; otherwise as long as the option says."""
    assert expected == wait_limit_of(wait, no_wait=no_wait)


def test_waiting_and_not_waiting_exclude_each_other() -> None:
    """Who says both is asked what is meant."""
    with pytest.raises(click.UsageError, match="cannot be combined"):
        wait_limit_of(5, no_wait=True)
