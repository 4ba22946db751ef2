"""The page of the plan: changes, digest and age, and the form for applying the plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.console.observing import Recent
from certferry.console.plan import (
    FOLDED,
    ON_A_PAGE,
    changes_since,
    view_of,
    view_of_kind,
    whole_of,
)
from certferry.console.site import Site
from certferry.core.access import Role, User
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Plan, PlanFinding, Weight
from certferry.errors import Problem
from certferry.present import plan_text
from certferry.present.language import Voice, voice_in
from certferry.present.layout import plain
from certferry.text import Text
from certferry.values import replace
from tests.acceptance.host import Host
from tests.cli import values
from tests.console.machine import Machine, console_of, fields_of
from tests.console.serving import ANNA
from tests.console.stored_site import DAY, NOW, cdn_of, site_in, sync, table, tables_of
from tests.console.test_overview import page, words
from tests.support.waiting import eventually

VIEWER = User("bob", Role.VIEWER, ANNA.made_at)
APPLY = "Apply this plan"


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    """The console of a machine before the first run."""
    with console_of(host) as served:
        yield served


def shown(machine: Machine, path: str = "/plan") -> str:
    """Return the page after the observation has ended."""
    assert eventually(lambda: "Checking now" not in machine.get(path).text)
    return machine.get(path).text


# --- the view


PLANS = (
    values.plan(values.rollout(), issue=values.issue(), retirements=(values.retire(),)),
    Plan("static", ("static.example.com",)),
)


FROZEN = Problem("domain_frozen", Text("the domain is frozen"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_of_the_plan_has_the_words_of_the_command(language: str) -> None:
    """The page has the certificates, reasons, steps and changes of `certferry plan`, in the same
    words and order.
    """
    voice = voice_in(language)
    printed = "\n".join(
        plain(line) for line in plan_text.lines(PLANS, voice, digest_of_plans(PLANS))
    )
    view, place = view_of(whole_of(PLANS), voice), 0

    for certificate in view.certificates:
        for phrase in (
            certificate.name,
            certificate.why,
            *(entry.said for entry in certificate.entries),
        ):
            place = printed.index(phrase, place)
    counted = voice.say(view.count).rstrip(".。")
    assert counted in printed
    assert ["img"] == [certificate.name for certificate in view.certificates]
    assert view.has_changes
    assert view.digest in printed


def test_plan_without_changes() -> None:
    """The page lists no certificate, and has no button."""
    view = view_of(whole_of(PLANS[1:]), Voice())

    assert ((), False) == (view.certificates, view.has_changes)
    assert "Nothing to do: 1 certificate is as declared." == Voice().say(view.count)


@pytest.mark.parametrize(
    ("findings", "others", "level"),
    [
        ((), PLANS[1:], "ok"),
        ((), PLANS, "notice"),
        ((PlanFinding(Weight.SKIPPED, FROZEN),), PLANS[1:], "ok"),
        ((PlanFinding(Weight.BLOCKED, FROZEN),), PLANS[1:], "warning"),
        ((PlanFinding(Weight.REFUSED, FROZEN),), PLANS, "warning"),
    ],
    ids=["nothing to do", "something to do", "skipped", "blocked", "refused"],
)
def test_blocked_steps_give_a_warning(
    findings: tuple[PlanFinding, ...], others: tuple[Plan, ...], level: str
) -> None:
    """Blocked and refused steps give a warning, whether or not other steps are planned. Skipped
    steps do not count.
    """
    plan = Plan("shop", ("shop.example.com",), findings=findings)

    assert level == view_of(whole_of([plan, *others]), Voice()).level
    assert "notice" == view_of(whole_of([]), Voice()).level


def lagging(number: int) -> Plan:
    """Return the plan of a certificate with an address that still serves the previous
    certificate.
    """
    return values.plan(values.look(f"d{number}.example.com"), lineage=f"c{number}")


def test_plans_with_the_same_reason_share_a_card() -> None:
    """The card has the number of domains, the common reason and the first names. Another kind of
    plan has another card.
    """
    plans = [*map(lagging, range(36)), values.plan(issue=values.issue())]

    lagging_kind, issuing_kind = view_of(whole_of(plans), Voice()).kinds

    assert (36, 1) == (lagging_kind.size, issuing_kind.size)
    assert "not yet seen at every address" == lagging_kind.why
    assert "36 domains to verify." == Voice().say(lagging_kind.count)
    assert [f"c{number}" for number in range(FOLDED)] == [
        each.name for each in lagging_kind.certificates
    ]
    assert ["img"] == [each.name for each in issuing_kind.certificates]


def test_cause_of_blocked_steps_is_shown_once(tmp_path: Path) -> None:
    """The cause has the number of certificates and every name, the first ten unfolded. The
    certificates have no card of their own.
    """
    tables = tables_of(30) + table("fine", ["fine.example.com"])
    with site_in(tmp_path, tables) as site:
        sync(site)
        cdn_of(site).denies = True
        english = planned_page(site, "/plan")
        chinese = planned_page(site, "/plan", language="zh")

    assert 1 == english.count("the keys are not accepted")
    assert "31 certificates: qiniu: the keys are not accepted" in words(english)
    assert "31 张证书：qiniu：the keys are not accepted" in words(chinese)
    main = english.partition("<main")[2]
    shown, _, folded = main.partition("<summary")
    assert "and 21 more" in words("<main" + main)
    assert 10 == shown.count('<a href="/certificates/')
    assert {f"/certificates/c{number}" for number in range(30)} <= set(
        re.findall(r'href="([^"]*)"', shown + folded)
    )
    assert "<article" not in main


def test_refusal_that_follows_from_another_obstacle_is_named(tmp_path: Path) -> None:
    """The count of the plan has the refused step, so the page names the reason, with the cause. The
    severity is that of the cause on the first screen.
    """
    old = Problem("too_little_life", Text("11 days left, but qiniu accepts only 30"))
    stopped = Problem("certificate", Text("the file is not renewed yet"))
    findings = (
        PlanFinding(Weight.REFUSED, old, "qiniu", "x"),
        PlanFinding(Weight.BLOCKED, stopped),
    )
    with site_in(tmp_path, tables_of(1)) as site:
        sync(site)
        left = Notice(Topic.TROUBLE, Subject("c0"), NOW, stopped)
        site.workspace().state.update_notices(lambda _: (left,))
        plans = [Plan("c0", ("x",), findings=findings), Plan("c1", ("y",))]
        site.observer.keep(("plan", None, False), whole_of(plans))
        html = page(site, "/plan")

    card = html.partition('class="note cause')[2].partition("</div>")[0]
    assert card.startswith(' warning"')
    assert "the file is not renewed yet" in card
    assert "11 days left, but qiniu accepts only 30" in card


def test_hint_of_a_blocked_step_has_buttons(tmp_path: Path) -> None:
    """Buttons take the place of commands that the console can carry out."""
    hint = Text("see `certferry doctor`; then `certferry sync --renew c0`")
    plan = Plan("c0", ("x",), findings=(PlanFinding(Weight.BLOCKED, replace(FROZEN, hint=hint)),))
    with site_in(tmp_path, tables_of(1)) as site:
        site.observer.latest(("plan", "c0", False), lambda: whole_of([plan]))
        html = planned_page(site, "/plan?name=c0")

    assert '<a class="button quiet" href="/doctor">' in html
    assert '<a class="button" href="/certificates/c0/renew">' in html
    assert "certferry sync" not in words(html)


def test_renewals_with_different_lifetimes_share_a_card() -> None:
    """Renewals with different remaining lifetimes share a card. Each certificate keeps its own
    reason.
    """
    reasons = [
        replace(values.DUE, message=values.DUE.message.filled(left=DAY * left, lifetime=DAY * 90))
        for left in (20, 25, 29)
    ]
    plans = [
        values.plan(issue=values.issue(f"{number}.example.com", reason=reason), lineage=str(number))
        for number, reason in enumerate(reasons)
    ]

    [kind] = view_of(whole_of(plans), Voice()).kinds

    assert (3, None) == (kind.size, kind.why)
    assert ["renewal due (20 days left of 90 days)"] == [kind.certificates[0].why]


def test_certificates_of_a_card_are_shown_by_pages() -> None:
    """Each certificate is on a single page, with the digest of the whole plan. A page number out of
    range leads to the nearest page.
    """
    whole = whole_of([*map(lagging, range(50)), values.plan(issue=values.issue())])
    kind = whole.kinds[0].id

    pages = [view_of_kind(whole, kind, Voice(), number) for number in (1, 2, 3)]

    assert [f"c{number}" for number in range(50)] == [
        each.name for shown in pages if shown for each in shown.certificates
    ]
    assert [pages[0], pages[2]] == [
        view_of_kind(whole, kind, Voice(), number) for number in (0, 99)
    ]
    assert {(whole.digest, 3)} == {(shown.digest, shown.last) for shown in pages if shown}
    assert view_of_kind(whole, "another", Voice(), 1) is None


def test_card_shows_the_first_steps() -> None:
    """A card shows the first steps of each certificate, and counts the rest. The plan of a single
    certificate has all steps.
    """
    rollouts = [values.look(f"d{number}.example.com") for number in range(100)]
    plans = [values.plan(*rollouts, lineage=name) for name in "ab"]

    [both] = view_of(whole_of(plans), Voice()).kinds
    [alone] = view_of(whole_of(plans[:1]), Voice()).certificates

    assert [(3, 97)] * 2 == [(len(each.entries), each.more) for each in both.certificates]
    assert (100, 0) == (len(alone.entries), alone.more)


def test_changes_since_the_shown_plan() -> None:
    """The comparison lists removed and new steps by certificate. Unchanged certificates are left
    out.
    """
    before = (*PLANS, values.plan(issue=values.issue()))
    after = (PLANS[0], Plan("static", ()), values.plan(values.rollout()))
    shown, now = (
        tuple(replace(plan, lineage=name) for plan, name in zip(plans, "abc", strict=True))
        for plans in (before, after)
    )

    (changed,) = changes_since(shown, now, Voice())

    assert "c" == changed.name
    assert ["issue"] == [entry.word for entry in changed.gone]
    assert ["deploy", "verify"] == [entry.word for entry in changed.new]
    assert () == changes_since(now, now, Voice())


def test_recent_plans_are_kept() -> None:
    """A limited number of plans is kept, so the memory of the console stays small."""
    kept = Recent[int, str](3)
    for number in (0, 1, 2, 1, 3, 4):
        kept.add(number, str(number))

    assert [None, "1", None, "3", "4"] == [kept.get(number) for number in range(5)]


# --- the page


def test_shown_plan_is_applied(machine: Machine, name: str) -> None:
    """After the plan is applied, the page has nothing more to do."""
    page = shown(machine)
    assert "1 certificate to issue, 1 deployment." in page
    assert "there is no certificate yet" in page

    run = machine.run(**fields_of(page, APPLY))

    assert "Finished; nothing needs attention" in machine.get(run).text
    after = shown(machine)
    assert "Nothing to do: 1 certificate is as declared." in after
    assert APPLY not in after


def test_changed_plan_is_not_applied(host: Host, machine: Machine) -> None:
    """After a run from the terminal, the run of the old plan changes nothing. The page shows the
    changes since then.
    """
    fields = fields_of(shown(machine), APPLY)
    host.run("sync")
    before = host.run("history", "--json").document

    page = machine.get(machine.run(**fields)).text

    assert "The plan has changed in the meantime, so the run changed nothing." in page
    changed = shown(
        machine, page.split("the run changed nothing.")[1].split('href="')[1].split('"')[0]
    )
    assert "Changes since the plan was shown" in changed
    assert changed.count("no longer planned") == len(("issue", "deploy", "verify"))
    assert before == host.run("history", "--json").document
    assert APPLY not in shown(machine)  # the plan is made again after a run


def test_plan_of_a_single_certificate(machine: Machine, name: str) -> None:
    """The form applies the plan of the named certificate only. An unknown name is answered with
    404.
    """
    page = shown(machine, f"/plan?name={name}")

    run = machine.run(**fields_of(page, APPLY))

    (stored,) = machine.state.stored_runs(10)
    assert (name,) == stored.names
    assert "Finished; nothing needs attention" in machine.get(run).text
    machine.get("/plan?name=other", 404)


def test_form_makes_the_plan_again(machine: Machine) -> None:
    """The form leads back to the page, and the page then has the new plan."""
    shown(machine)

    answer = machine.post("/plan?name=")

    assert "/plan" == answer.headers["Location"]
    assert APPLY in shown(machine)


def test_viewer_sees_the_plan_without_a_button(host: Host) -> None:
    """The page for a viewer has the plan, and omits the button."""
    with console_of(host, VIEWER) as machine:
        page = shown(machine)

    assert "1 certificate to issue" in page
    assert APPLY not in page


def test_failed_plan_shows_the_reason(host: Host) -> None:
    """The page has the reason, and omits the button."""
    with console_of(host) as machine:
        key = host.key_file.with_suffix(".away")
        host.run("sync")
        host.key_file.rename(key)
        page = shown(machine)

        assert 'role="alert"' in page
        assert APPLY not in page
        key.rename(host.key_file)


def test_page_of_the_plan_in_chinese(host: Host) -> None:
    """The page in Chinese has the digest of `certferry plan`."""
    with console_of(host, language="zh") as machine:
        assert eventually(lambda: "<code>" in machine.get("/plan").text)
        page = machine.get("/plan").text

    assert "1 certificate to issue" not in page
    document = json.loads(host.run("plan", "--json").out)
    assert document["digest"] in page


def planned_page(site: Site, path: str, role: Role = Role.OPERATOR, language: str = "en") -> str:
    """Return a page after the plan is made."""
    assert eventually(lambda: "Checking now" not in page(site, path, role=role))
    return page(site, path, language, role)


@pytest.mark.parametrize("role", Role)
def test_page_for_many_similar_plans_is_small(tmp_path: Path, role: Role) -> None:
    """A single card has the number and a link to all certificates by pages. An operator applies the
    whole plan.
    """
    lengths = []
    for count in (30, 90):
        folder = tmp_path / str(count)
        folder.mkdir()
        with site_in(folder, tables_of(count)) as site:
            html = planned_page(site, "/plan", role)
            [every] = re.findall(r'href="(/plan\?kind=\w+)"', html)
            all_of_them = planned_page(site, every, role)
        lengths.append(len(html))

        assert f"{count} certificates: there is no certificate yet" in words(html)
        assert ON_A_PAGE == all_of_them.count('<section class="card">')
        assert 'rel="next"' in all_of_them
        assert (role is Role.OPERATOR) is (APPLY in html)
        assert APPLY not in all_of_them
    assert abs(lengths[0] - lengths[1]) < 100, lengths
