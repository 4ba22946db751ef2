"""The page of the history, and the downloads: filters, pages and hostile names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry.console.history import IN_A_PORTION, Filters, csv_of
from certferry.core.observed.records import ACCESS, HistoryEntry, HistoryFilter
from certferry.core.observed.stored_runs import RunKind, RunSource, RunState, StoredRun
from certferry.errors import ConfigError
from certferry.present import documents
from certferry.text import Text
from certferry.wiring.workspace import Workspace
from tests.console.sites import HOSTILE, console, workspace_in

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def entry(number: int, lineage: str = "img", who: str = "anna", **facts: str) -> HistoryEntry:
    return HistoryEntry(NOON + number * DAY, lineage, "issued", who, facts)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with workspace_in(tmp_path) as opened:
        yield opened


def rows_of(page: str) -> list[str]:
    """Return the times of the rows, in order."""
    return re.findall(r'<th scope="row"><time datetime="([^"]*)"', page)


def groups_of(page: str) -> list[tuple[str, int]]:
    """Return the words of each group's heading, with the number of rows."""
    bodies = page.split("<tbody>")[1:]
    headings = [re.search(r'<th scope="rowgroup".*?</th>', body, re.DOTALL) for body in bodies]
    return [
        (
            " ".join(re.sub("<[^>]*>", " ", heading[0]).split()) if heading else "",
            len(rows_of(body)),
        )
        for heading, body in zip(headings, bodies, strict=True)
    ]


def read(url: str, **asked: str | int) -> requests.Response:
    return requests.get(url, params=asked, timeout=20)


def test_history_is_filtered_by_name_person_host_and_time(workspace: Workspace) -> None:
    """Each filter leaves the matching entries, newest first. A day in `until` is included as a
    whole.
    """
    for number in range(6):
        workspace.state.append_history(
            entry(number, "img" if number % 2 else "static", "anna" if number < 3 else "bert")
        )

    def days(**asked: str) -> list[int]:
        answer = read(f"{url}/history", **asked)
        assert 200 == answer.status_code
        return [(datetime.fromisoformat(at) - NOON).days for at in rows_of(answer.text)]

    with console(workspace) as url:
        assert [5, 4, 3, 2, 1, 0] == days()
        assert [5, 3, 1] == days(name="img")
        assert [2, 1, 0] == days(who="anna")
        assert [5, 4, 3, 2, 1, 0] == days(host="web-1")
        assert [] == days(host="web-2")
        assert [3, 2] == days(**{"from": "2026-03-03", "until": "2026-03-04"})
        within = {"from": "2026-03-03T13:00", "until": "2026-03-04"}
        assert [3] == days(name="img", who="bert", **within)


def test_domain_filters_for_its_certificate(tmp_path: Path) -> None:
    """A domain may take the place of the certificate's name."""
    text = '[accounts.dnspod]\nid = "1"\ntoken = "env:T"\n[[certificates]]\nname = "img"\n'
    text += 'names = ["img.example.com"]\ndns = "dnspod"\n'
    with workspace_in(tmp_path, text, {"T": "planted-token-1234567890"}) as workspace:
        workspace.state.append_history(entry(0))
        with console(workspace) as url:
            answer = read(f"{url}/history", name="img.example.com")

    assert 1 == len(rows_of(answer.text))


def test_many_entries_are_read_by_pages(workspace: Workspace) -> None:
    """The links to older entries show each entry once, at most a hundred on a page."""
    for number in range(230):
        workspace.state.append_history(entry(number))
    seen = list[str]()
    with console(workspace) as url:
        page = read(f"{url}/history?who=anna").text
        while True:
            rows = rows_of(page)
            assert 0 < len(rows) <= 100
            seen += rows
            older = re.search(r'rel="next" href="([^"]*)"', page)
            if older is None:
                break
            page = read(url + older[1].replace("&amp;", "&")).text

    assert 230 == len(set(seen)) == len(seen)
    assert seen == sorted(seen, reverse=True)


def test_entries_are_grouped_by_run(workspace: Workspace) -> None:
    """An entry belongs to the newest run in progress with the same host, person and certificate.
    Entries outside every run have a separate group.
    """
    state = workspace.state
    for number, (kind, who, names, hours) in enumerate(
        [
            (RunKind.SYNC, "anna", (), (0, 2)),
            (RunKind.RENEW, "anna", ("img",), (1, 2)),
            (RunKind.SYNC, "bert", (), (0, None)),
        ]
    ):
        began = NOON + hours[0] * HOUR
        run = StoredRun(f"run{number}", kind, RunSource.COMMAND, who, state.host, began, names)
        state.save_run_begin(run)
        if hours[1] is not None:
            state.save_run_end(run.id, RunState.DONE, NOON + hours[1] * HOUR, None)
    for hour, lineage, who in [
        (0.5, "img", "anna"),
        (1.5, "static", "anna"),
        (1.6, "img", "anna"),
        (1.7, "img", "bert"),
        (3, "img", "anna"),
    ]:
        state.append_history(HistoryEntry(NOON + hour * HOUR, lineage, "issued", who))
    with console(workspace) as url:
        page = read(f"{url}/history").text
        outside = read(f"{url}/history", **{"from": "2026-03-01T14:30"}).text

    assert [
        ("outside the stored runs", 1),
        ("Sync · command line interrupted", 1),
        ("Renewal · command line ok", 1),
        ("Sync · command line ok", 2),
    ] == groups_of(page)
    assert 'href="/runs/run1"' in page
    assert [("", 1)] == groups_of(outside)


def test_times_have_seconds(workspace: Workspace) -> None:
    """A run stores several entries in a minute, so only seconds show the order."""
    workspace.state.append_history(HistoryEntry(NOON + timedelta(seconds=7), "img", "issued", "a"))
    with console(workspace) as url:
        page = read(f"{url}/history").text

    assert "2026-03-01 12:00:07 UTC</time>" in page


def test_sentence_is_in_the_language_of_the_viewer(workspace: Workspace) -> None:
    """The page translates the stored sentence. Both downloads are in English."""
    sentence = Text("the certificate expired at {moment}", moment=NOON)
    facts: dict[str, str | Text] = {"domain": "img.example.com", "problem": sentence}
    workspace.state.append_history(HistoryEntry(NOON, "img", "deploy failed", "anna", facts))
    with console(workspace, language="zh") as url:
        page = read(f"{url}/history").text
        [stored] = read(f"{url}/history.json").json()["entries"]
        table = read(f"{url}/history.csv").text

    assert "img.example.com · 证书已于 2026-03-01 12:00 UTC 过期" in re.sub("<[^>]*>", "", page)
    assert "the certificate expired at 2026-03-01 12:00 UTC" == stored["facts"]["problem"]
    assert "problem=the certificate expired at 2026-03-01 12:00 UTC" in table


def test_refusals_with_the_same_cause_share_a_row(workspace: Workspace) -> None:
    """The row has the first ten names. Another cause has a separate row, and the history of a
    certificate shows the certificate's own refusal.
    """
    for number in range(30):
        name = f"shop-{number:02}"
        domain = f"{name}.example.com"
        refusal = Text("the key is refused for {domain}", domain=domain)
        facts: dict[str, str | Text] = {"target": "qiniu", "domain": domain, "problem": refusal}
        at = NOON + timedelta(seconds=number)
        workspace.state.append_history(HistoryEntry(at, name, "failed", "anna", facts))
    other: dict[str, str | Text] = {"target": "qiniu", "problem": Text("the account is full")}
    workspace.state.append_history(HistoryEntry(NOON + HOUR, "img", "failed", "anna", other))
    with console(workspace) as url:
        whole = read(f"{url}/history").text
        alone = read(f"{url}/history", name="shop-07").text

    assert 2 == len(rows_of(whole))
    assert "qiniu · the key is refused for shop-00.example.com, and 29 more" in whole
    assert "shop-09, and 20 more</td>" in whole
    assert "qiniu → shop-07.example.com · the key is refused for shop-07.example.com" in alone


def test_form_of_filters(workspace: Workspace) -> None:
    """Fields for days take the format of the tables, in every browser. With a filter, a link shows
    all entries again.
    """
    with console(workspace) as url:
        whole = read(f"{url}/history").text
        users = read(f"{url}/history", about="users", who="anna").text

    assert 'role="search"' in whole
    assert 'type="date"' not in whole
    assert 2 == whole.count('placeholder="2026-03-01"')
    assert "Show all" not in whole
    assert '<a href="/history?about=users">Show all</a>' in users


def test_history_is_filtered_by_event(workspace: Workspace) -> None:
    """The page, both downloads and the API have only entries with the event. A failed deployment
    has the badge of errors.
    """
    for number, event in enumerate(["issued", "deployed", "deploy failed", "deployed"]):
        workspace.state.append_history(HistoryEntry(NOON + number * DAY, "img", event, "anna"))
    with console(workspace) as url:
        page = read(f"{url}/history", event="deploy failed").text
        table = read(f"{url}/history.csv", event="deployed").text
        document = read(f"{url}/history.json", event="deployed").json()
        api = read(f"{url}/api/v1/history", event="deployed").json()

    assert 1 == len(rows_of(page))
    assert '<span class="badge error">deploy failed</span>' in page
    assert '<option value="deploy failed" selected>deploy failed</option>' in page
    assert 3 == len(table.splitlines())
    assert ["deployed", "deployed"] == [each["event"] for each in document["entries"]]
    assert document["entries"] == api["entries"]


def test_users_and_tokens_have_a_separate_history(workspace: Workspace) -> None:
    """The history of certificates leaves out users and tokens, and links to their history."""
    workspace.state.append_history(entry(0))
    workspace.state.append_history(
        HistoryEntry(NOON, ACCESS, "user added", "root", {"user": "eva-7"})
    )
    with console(workspace) as url:
        certificates = read(f"{url}/history").text
        users = read(f"{url}/history", about="users").text
        table = read(f"{url}/history.csv", about="users").text

    assert 1 == len(rows_of(certificates)) == len(rows_of(users))
    assert "eva-7" not in certificates
    assert 'href="/history?about=users"' in certificates
    assert "user: eva-7" in users
    assert ACCESS not in users.split("<main")[1]
    assert '<option value="token added">' in users
    assert '<option value="deployed">' not in users
    assert 2 == len(table.splitlines())


def test_json_has_the_matching_entries(workspace: Workspace) -> None:
    """The download is the document of `history --json`, even for an answer of several portions."""
    count = IN_A_PORTION + 10
    for number in range(count):
        workspace.state.append_history(entry(number, issuer='a "quoted" 证书'))
    with console(workspace) as url:
        download = read(f"{url}/history.json", who="anna")
        empty = read(f"{url}/history.json", who="nobody")

    assert 'attachment; filename="history.json"' == download.headers["Content-Disposition"]
    assert documents.of_history(workspace.state.history(None, count)) == download.json()
    assert {"entries": []} == empty.json()


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "yesterday"},
        {"until": "2026-02-30"},
        {"until": "9999-12-31"},
        {"before": "-1"},
        {"before": "9" * 30},
        {"name": "unknown"},
        {"name": "\0"},
        {"from": HOSTILE},
    ],
    ids=str,
)
def test_wrong_filter_is_refused(workspace: Workspace, asked: dict[str, str]) -> None:
    """The page and both downloads answer a wrong filter with 400 and a sentence."""
    with console(workspace) as url:
        for page in ("/history", "/history.csv", "/history.json"):
            answer = read(url + page, **asked)
            assert 400 == answer.status_code
            assert 'class="note error"' in answer.text
            assert HOSTILE not in answer.text


def test_hostile_name_is_shown_as_words(workspace: Workspace) -> None:
    """The table, the links and the filters show the name as words."""
    workspace.state.append_history(entry(0, HOSTILE, HOSTILE, issuer=HOSTILE))
    with console(workspace) as url:
        page = read(f"{url}/history", name=HOSTILE, who=HOSTILE).text
        gone = read(f"{url}/history", host=HOSTILE).text

    assert 1 == len(rows_of(page))
    assert "<script>alert" not in page + gone
    assert " selected>" in gone, "a filter that is in force is seen, whatever it is"
    assert "49" not in re.sub(r"<time.*?</time>", "", page).split("<main")[1].split("</table>")[0]


def test_page_in_chinese_under_a_prefix(workspace: Workspace) -> None:
    """Every link of the page begins with the prefix."""
    workspace.state.append_history(entry(0))
    with console(workspace, language="zh", prefix="/x/y") as url:
        page = read(f"{url}/history").text

    assert "历史记录" in page
    assert "Events, newest first" not in page
    main = page.split("<main")[1].split("</main>")[0]
    links = re.findall(r'(?:href|action)="([^"]*)"', main)
    assert links
    assert {"/x/y/"} == {link[:5] for link in links}


# --- CSV


def test_csv_has_the_matching_entries(workspace: Workspace) -> None:
    """The CSV has a byte order mark and all matching entries, even if the answer takes several
    portions.
    """
    count = IN_A_PORTION + 10
    for number in range(count):
        workspace.state.append_history(entry(number, target="qiniu", domain="证书.example.com"))
    workspace.state.append_history(entry(0, who="bert"))
    with console(workspace) as url:
        download = read(f"{url}/history.csv", who="anna")

    assert "text/csv; charset=utf-8" == download.headers["Content-Type"]
    assert 'attachment; filename="history.csv"' == download.headers["Content-Disposition"]
    assert download.content.startswith("\ufeffat,name".encode())
    rows = list(csv.DictReader(io.StringIO(download.content.decode("utf-8-sig"))))
    assert count == len(rows)
    assert {"anna"} == {row["who"] for row in rows}
    assert ("qiniu", "证书.example.com", "web-1") == tuple(
        rows[0][name] for name in ("target", "domain", "host")
    )


WORDS = st.text(min_size=1).filter(lambda words: "\0" not in words)
"""Words without the zero character, because SQLite and CSV refuse the zero character."""


@given(WORDS, WORDS, st.dictionaries(WORDS, WORDS, max_size=3))
def test_no_cell_is_a_formula(lineage: str, who: str, facts: dict[str, str]) -> None:
    """For any name, a reader of the CSV gets the name back. An apostrophe stands before words that
    a spreadsheet would run.
    """
    table = csv_of([HistoryEntry(NOON, lineage, "issued", who, facts)])
    [row] = csv.reader(io.StringIO(table, newline=""))

    assert not any(word.startswith(("=", "+", "-", "@", "\t", "\r")) for word in row)
    assert lineage == (row[1][1:] if row[1] != lineage else row[1])
    assert who == (row[3][1:] if row[3] != who else row[3])


@pytest.mark.parametrize("words", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1+1"])
def test_formula_is_text(words: str) -> None:
    """The CSV has an apostrophe before the formula."""
    [row] = csv.reader(io.StringIO(csv_of([entry(0, words)]), newline=""))

    assert f"'{words}" == row[1]


def test_filters_as_the_state_gets_them() -> None:
    """A day begins and ends at midnight in UTC. A time with an offset is exact."""
    asked = {"host": "web-1", "from": "2026-03-01", "until": "2026-03-01", "who": " anna "}
    midnight = datetime(2026, 3, 1, tzinfo=UTC)

    wanted = HistoryFilter("web-1", "anna", midnight, midnight + DAY, without=ACCESS)
    assert wanted == Filters.read(asked).which()
    exact = Filters.read({"until": "2026-03-01T08:00:00+08:00", "before": "12"})
    assert (HistoryFilter(until=midnight, without=ACCESS), 12) == (exact.which(), exact.number())
    with pytest.raises(ConfigError):
        Filters.read({"before": "1; DROP"}).number()
