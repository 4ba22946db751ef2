"""A run in progress and an ended run, at every width of browser windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from certferry.console.guard import cookie_name
from certferry.core.observed.stored_runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.ports.state import StateStore
from certferry.text import Text, verbatim
from certferry.wiring.settings import load_checked
from tests.browser.chromium import (
    LANGUAGES,
    NARROW,
    WIDE,
    Complaints,
    Language,
    broken_options,
    must_be_readable,
)
from tests.browser.conftest import NewPage
from tests.console.machine import SECRET, Machine, served_to
from tests.console.serving import ANNA
from tests.support.tiers import thorough

pytestmark = thorough

MIDDLE = 768
WIDTHS = (NARROW, MIDDLE, WIDE)
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
LONG = "a-certificate-with-a-name-as-long-as-names-get.img.example.com"
TABLES = """\
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[accounts.dnspod]
id = "1"
key = "x"
"""


def step_of(outcome: str, detail: Text, hint: Text | None = None) -> dict[str, object]:
    """Return a step in the form of a run's report."""
    place = {"target": "qiniu", "domain": "m0.example.com", "label": None}
    return {"action": "verify", "outcome": outcome, "detail": detail, "hint": hint, **place}


def store_runs(state: StateStore) -> None:
    """Store a run in progress, and an ended run with problems."""
    number = state.begin_run(START).number
    who, host = "root@web-1", state.host
    run = StoredRun("live", RunKind.SYNC, RunSource.SCHEDULE, who, host, START, number=number)
    state.save_run_begin(run)
    why = Text("{served} of {all} addresses serve the new certificate", served=1, all=2)
    waits = RunEvent(1, START, "img", "verify.waiting", why, "waiting", "qiniu", "m0.example.com")
    state.append_run_events("live", [waits])
    state.save_run_progress("live", 12, 42)

    at = START - timedelta(hours=1)
    state.save_run_begin(StoredRun("ended", RunKind.SYNC, RunSource.API, "anna", "web-1", at))
    hint = Text("run `certferry sync --renew --wait=3600 --no-notify {name}`", name=LONG)
    failed = step_of("failed", Text("{words}", words=verbatim("x" * 200)), hint)
    certificates: list[dict[str, object]] = [
        {"name": LONG, "ok": False, "result": "failed", "steps": [failed] * 30},
        {"name": "late", "ok": False, "result": "waiting", "steps": [step_of("waiting", why)]},
    ]
    certificates += [
        {"name": f"c{nth}.example.com", "ok": True, "result": "in_order", "steps": []}
        for nth in range(300)
    ]
    report = RunReport({"certificates": certificates})
    state.save_run_end("ended", RunState.FAILED, at + timedelta(minutes=3), report)


Open = Callable[..., Page]


@pytest.fixture
def machine(tmp_path: Path, language: Language) -> Iterator[Machine]:
    """A console in a language, over a state with both runs."""
    config = tmp_path / "certferry.toml"
    config.touch(0o600)
    config.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n{TABLES}')
    with served_to(load_checked(config, {}), ANNA, language) as served:
        store_runs(served.state)
        yield served


@pytest.fixture
def opened(machine: Machine, new_page: NewPage) -> Open:
    """Open a path of the console as a logged-in operator."""

    def opened(path: str, **manner: object) -> Page:
        page = new_page(**manner)
        cookie = {"name": cookie_name(machine.site), "value": SECRET, "url": machine.url}
        page.context.add_cookies([cookie])  # type: ignore[list-item]  # a TypedDict of Playwright's
        page.goto(machine.url + path)
        return page

    return opened


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["/", "/certificates/img", "/runs", "/runs/live", "/runs/ended"])
def test_page_is_readable_at_every_width(
    path: str,
    opened: Open,
    complaints: Complaints,
    language: Language,
) -> None:
    """The page has no barrier, fits the width, and has the link to the other language at the
    top.
    """
    page = opened(path, language=language)

    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        must_be_readable(page)
        other = page.get_by_role("link", name="English" if language == "zh" else "中文")
        box = other.bounding_box()
        assert box is not None
        assert box["y"] < 120
    assert [] == complaints.messages


@pytest.mark.parametrize("language", LANGUAGES[:1])
def test_run_is_followed_from_another_page(
    machine: Machine, opened: Open, complaints: Complaints
) -> None:
    """The first page updates the progress without a reload, and removes an ended run."""
    state, page = machine.state, opened("/")
    top = page.locator("#running")
    expect(top).to_contain_text("12 of 42 certificates done")
    expect(top).to_contain_text("m0.example.com")
    expect(page.locator(".wide [data-running]")).to_have_text("1")

    state.save_run_progress("live", 13, 42)
    expect(top).to_contain_text("13 of 42 certificates done")
    state.save_run_end("live", RunState.DONE, START, None)
    expect(top).to_be_empty()
    expect(page.locator(".wide .counted .count")).to_be_hidden()
    assert [] == complaints.messages


@pytest.mark.parametrize("language", LANGUAGES[:1])
def test_page_of_a_run_is_updated(machine: Machine, opened: Open, complaints: Complaints) -> None:
    """The clock runs, the progress is streamed, and the end of the run removes both."""
    state, page = machine.state, opened("/runs/live")
    line = page.locator("#run-progress")
    before = int(line.locator("[data-seconds]").get_attribute("data-seconds") or 0)
    page.wait_for_function(_CLOCK_IS_AFTER, arg=before)

    state.save_run_progress("live", 41, 42)
    expect(line).to_contain_text("41 of 42 certificates done")
    state.save_run_end("live", RunState.DONE, START, None)
    expect(line).to_have_count(0)
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    assert [] == complaints.messages


_CLOCK_IS_AFTER = """before => {
    const shown = document.querySelector('#run-progress [data-seconds]').textContent;
    const seconds = shown.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
    return seconds >= before + 2;
}"""


@pytest.mark.parametrize("language", LANGUAGES[:1])
def test_certificates_in_order_are_folded(opened: Open) -> None:
    """Without JavaScript, the fold opens by the keyboard. The next page is already unfolded."""
    page = opened("/runs/ended", scripts=False)
    verdict = page.locator("main .verdict")
    expect(verdict).to_have_text("1 failed, 1 waiting, 300 unchanged")
    first = page.get_by_role("link", name="c0.example.com", exact=True)
    expect(first).to_be_hidden()

    page.locator("#in_order summary").press("Enter")
    expect(first).to_be_visible()
    page.locator("#in_order").get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="c50.example.com", exact=True)).to_be_visible()


@pytest.mark.parametrize("language", LANGUAGES)
def test_command_does_not_break_inside_an_option(opened: Open, language: Language) -> None:
    """Lines of a narrow page break before an option, because an operator would type half an option
    wrongly.
    """
    page = opened("/runs/ended", language=language, width=NARROW)

    assert "--no-notify" in page.locator("main code").first.inner_text()
    assert [] == broken_options(page)
    page.evaluate(_BREAKS_ANYWHERE)
    assert [] != broken_options(page)


_BREAKS_ANYWHERE = """() => document.querySelectorAll('.option').forEach(
    option => { option.style.whiteSpace = 'normal'; option.style.wordBreak = 'break-all'; })"""
