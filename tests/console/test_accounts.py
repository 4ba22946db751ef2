"""The pages of accounts, channels and hosts. The pages hide every key."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from certferry.config.model import Settings
from certferry.console.accounts import (
    causes_at,
    view_of_channels,
    view_of_hosts,
    views_of_accounts,
)
from certferry.console.tables import TableView
from certferry.core.access import Role
from certferry.core.assessment.causes import Cause, causes_of, severities_of
from certferry.core.assessment.health import Concern, Recorded
from certferry.core.assessment.hosts import HostStanding, standings_of
from certferry.core.assessment.notices import (
    ChannelState,
    SentNotice,
    Subject,
    Topic,
    refused,
)
from certferry.core.assessment.sightings import Sighting
from certferry.core.observed.records import HostRecord, HostWork, LastRun
from certferry.core.redaction import Secret
from certferry.errors import Problem, Severity
from certferry.ports.state import AcmeAccount
from certferry.present.language import Voice
from certferry.text import Text, verbatim
from certferry.values import replace
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from tests.console.serving import ANNA
from tests.console.serving import console as guarded
from tests.console.sites import HOSTILE, console, workspace_in
from tests.console.stored_site import cdn_of, site_in, sync, tables_of
from tests.console.test_overview import page

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
VOICE = Voice(zone=UTC)

PLANTED = "planted-0123456789abcdef0123456789abcdef"
ACCOUNTS = f"""
[accounts.qiniu]
access_key = "env:QINIU_KEY"
secret_key = "{PLANTED}"
[accounts.dnspod]
id = "12345"
token = "env:DNSPOD_TOKEN"
[accounts.plain]
type = "dnspod"
id = "12345"
token = "{PLANTED}"
[accounts.spare]
type = "cloudflare"
token = "command:pass show {PLANTED}"
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "qiniu"
"""
KEYS = {"QINIU_KEY": f"access-{PLANTED}", "DNSPOD_TOKEN": f"token-{PLANTED}"}


def settings_in(folder: Path, text: str = ACCOUNTS) -> Settings:
    return workspace_in(folder, text, KEYS).settings


def concern(code: str, lineage: str = "img", target: str = "", domain: str = "") -> Concern:
    problem = Problem(code, Text("it failed"), Text("fix it"), since=NOON)
    return Concern(problem, Subject(lineage, target, domain))


def words_of(table: TableView) -> dict[str, dict[str, str]]:
    """Return the words of each row by heading, under the words of the row's first cell."""
    return {
        row[0].words: {
            str(heading): cell.words for heading, cell in zip(table.headings, row, strict=True)
        }
        for row in table.rows
    }


def test_account_shows_its_use_and_the_names_of_variables(tmp_path: Path) -> None:
    """An account shows the uses, the result of the last use, and the place of each key. Keys and
    the words of commands stay secret.
    """
    recorded = Recorded(
        sightings=(Sighting("img", "qiniu", "img.example.com", served=True, since=NOON),),
        last_run=LastRun(NOON, NOON),
    )
    views = views_of_accounts(settings_in(tmp_path), recorded, ())
    shown = {view.label: view for view in views}

    qiniu = shown["qiniu"]
    assert ("qiniu", "Qiniu", ("deployment",)) == (
        qiniu.type,
        str(qiniu.service),
        tuple(map(str, qiniu.uses)),
    )
    assert (1, 1, "worked", NOON) == (
        qiniu.certificates,
        qiniu.places,
        str(qiniu.last_use),
        qiniu.used_at,
    )
    assert [
        "access_key: environment variable QINIU_KEY",
        "secret_key: in the configuration file",
    ] == [*map(str, qiniu.keys)]
    assert ["id, token: in the configuration file"] == [*map(str, shown["plain"].keys)]
    assert ["token: from a command"] == [*map(str, shown["spare"].keys)]
    assert (0, "not used yet", None) == (
        shown["spare"].certificates,
        str(shown["spare"].last_use),
        shown["spare"].used_at,
    )
    assert "planted" not in str(views)


def test_account_with_trouble_comes_first(tmp_path: Path) -> None:
    """A target has the causes of its domains; a DNS account has the DNS causes of the names proved
    with the account. Refused keys count as a failed use, and a full quota does not.
    """
    settings, recorded = settings_in(tmp_path), Recorded(last_run=LastRun(NOON, NOON))
    at_dns = causes_of([concern("dns_access_denied")])
    at_target = causes_of(concern("quota_full", f"n{number}", "qiniu") for number in range(3))
    others = causes_of([concern("quota_full", target="files"), concern("dns_unavailable", "other")])

    def causes_of_account(label: str) -> tuple[Cause, ...]:
        return causes_at(settings.accounts[label], settings, [*at_dns, *at_target, *others])

    assert (at_target, at_dns, ()) == (
        causes_of_account("qiniu"),
        causes_of_account("dnspod"),
        causes_of_account("spare"),
    )
    first = views_of_accounts(settings, recorded, at_dns)[0]
    assert ("dnspod", "failed", at_dns) == (first.label, str(first.last_use), first.causes)
    first = views_of_accounts(settings, recorded, at_target)[0]
    assert ("qiniu", "worked", at_target) == (first.label, str(first.last_use), first.causes)


def test_cause_of_many_certificates_is_shown_once_at_the_account(tmp_path: Path) -> None:
    """The page shows the cause once, with a link to the account's certificates and their number."""
    with site_in(tmp_path, tables_of(12)) as site:
        cdn_of(site).denies = True
        sync(site)
        english, chinese = page(site, "/accounts"), page(site, "/accounts", "zh")

    assert 1 == english.count("the keys are not accepted")
    assert '<span class="badge error">failed</span>' in english
    assert '<a href="/certificates?account=qiniu">12 certificates</a>' in english
    assert '<a href="/certificates?account=qiniu">12 张证书</a>' in chinese
    assert '<span class="badge error">失败</span>' in chinese


def test_accounts_page_has_no_key(tmp_path: Path) -> None:
    """The page shows the URL of the CA's account, and hides the keys of services and of the CA."""
    with workspace_in(tmp_path, ACCOUNTS, KEYS) as workspace:
        account = AcmeAccount("https://ca.example/dir", Secret(PLANTED), "https://ca.example/7")
        workspace.state.save_account(account)
        with console(workspace) as url:
            page = requests.get(f"{url}/accounts", timeout=20)

    assert 200 == page.status_code
    assert "https://ca.example/7" in page.text
    assert "QINIU_KEY" in page.text
    assert "planted" not in page.text


# --- channels


def test_failed_channel_comes_first(tmp_path: Path) -> None:
    """The row has the start of the failure, the reason, the time of the next attempt, and the
    severity of the cause on the first screen.
    """
    text = '[notify.a]\ntype = "webhook"\nurl = "https://a.example"\n'
    text += '[notify.b]\ntype = "webhook"\nurl = "https://b.example"\non = ["renewed"]\n'
    sent = SentNotice(Topic.RENEWED, Subject("img"), NOON, NOON)
    why = replace(refused("b", verbatim("quota")), message=verbatim("quota"), since=NOON)
    about_b = Subject(channel="b")
    states = {
        "a": ChannelState((sent,), (NOON - HOUR, NOON)),
        "b": ChannelState(again_at=NOON + HOUR, refusal=why),
    }

    channels, none = settings_in(tmp_path, text).channels, severities_of(())
    shown = words_of(view_of_channels(channels, states, none, VOICE, may_try=True))

    assert ["b", "a"] == list(shown)
    assert ("img", "accepted", "Send") == tuple(list(shown["a"].values())[3:])
    assert shown["b"]["Result"].splitlines() == [
        "takes no messages since 2026-03-01 12:00 UTC: quota",
        "after fixing the channel, send a test message: `certferry notify test b`",
        "next attempt after 2026-03-01 13:00 UTC",
    ]
    known = severities_of(causes_of([Concern(replace(why, severity=Severity.WARNING), about_b)]))
    for severities, severity in ((none, why.severity), (known, Severity.WARNING)):
        view = view_of_channels(channels, states, severities, VOICE, may_try=True)
        assert [severity, None] == [row[4].need for row in view.rows]
    viewed = view_of_channels(channels, states, none, VOICE, may_try=False)
    assert Text("Try it") not in viewed.headings


def webhook(receiver: EventReceiver, name: str = "ops") -> str:
    return f'[notify."{name}"]\ntype = "webhook"\nurl = "{receiver.address}"\nsecret = "{SECRET}"\n'


def test_test_message_of_a_channel_shows_the_result(tmp_path: Path) -> None:
    """Each press of the button sends one test message, as `certferry notify test` does. The page
    shows the result, and hides the secret.
    """
    with EventReceiver() as receiver, workspace_in(tmp_path, webhook(receiver)) as workspace:
        with console(workspace, prefix="") as url:
            before = requests.get(f"{url}/channels", timeout=20).text
            answer = requests.post(f"{url}/channels/ops/test", timeout=20, allow_redirects=False)
            after = requests.get(f"{url}/channels", timeout=20).text

        assert 1 == len(receiver.events)
    assert 'action="/channels/ops/test"' in before
    assert (303, "/channels") == (answer.status_code, answer.headers["Location"])
    assert "ops (Webhook): sent" not in before
    assert "ops (Webhook): sent" in after
    assert SECRET not in before + after


def test_refused_test_message_shows_the_answer(tmp_path: Path) -> None:
    """The page shows the service's answer, and the table keeps the failure. The cause has the
    service's advice, with a button in place of the command.
    """
    with EventReceiver() as receiver:
        text = webhook(receiver).replace(SECRET, "another secret of this channel")
        with workspace_in(tmp_path, text) as workspace, console(workspace) as url:
            page = requests.post(f"{url}/channels/ops/test", timeout=20).text
            causes = requests.get(f"{url}/causes", timeout=20).text

    assert "channel ops accepts no messages" in causes
    assert "; then send a test message: " in causes
    assert 'action="/channels/ops/test"' in causes
    assert "ops (Webhook): refused: " in page
    assert '<div class="note error" role="status">' in page
    assert "takes no messages since" in page
    assert "another secret" not in page


def test_viewer_sends_no_test_message(tmp_path: Path) -> None:
    """The page hides the button from a viewer, and the console refuses the viewer's request before
    a message is sent.
    """
    viewer = replace(ANNA, role=Role.VIEWER)
    with EventReceiver() as receiver, workspace_in(tmp_path, webhook(receiver)) as workspace:
        with console(workspace, viewer) as url:
            page = requests.get(f"{url}/channels", timeout=20).text
            answer = requests.post(f"{url}/channels/ops/test", timeout=20)

        assert [] == receiver.events
    assert 403 == answer.status_code
    assert "/test" not in page


@pytest.mark.parametrize("name", [HOSTILE, "a/b", "a?b#c", "渠道"])
def test_test_message_to_a_channel_of_any_name(tmp_path: Path, name: str) -> None:
    """The address quotes the name, and the page escapes the name. An unknown channel is answered
    with 404.
    """
    with EventReceiver() as receiver:
        text = webhook(receiver, name.replace('"', '\\"'))
        with workspace_in(tmp_path, text) as workspace, console(workspace) as url:
            before = requests.get(f"{url}/channels", timeout=20).text
            form = re.search(r'action="(/channels/[^"]*)"', before)
            assert form is not None
            page = requests.post(url + form[1].replace("&#39;", "'"), timeout=20)
            no_channel = quote(f"no{name}", safe="")
            unknown = requests.post(f"{url}/channels/{no_channel}/test", timeout=20)

        assert 1 == len(receiver.events)
    assert "(Webhook): sent" in page.text
    assert "<script>alert" not in page.text
    assert 404 == unknown.status_code


def test_test_message_needs_a_session_and_the_token_of_forms(tmp_path: Path) -> None:
    """The console sends one message for a request with a session and the form's token, and refuses
    other requests.
    """
    with EventReceiver() as receiver:
        with guarded(tmp_path, tables=webhook(receiver)) as site:
            site.add_user()
            browser = site.logged_in()
            taken = site.post(browser, "/channels/ops/test")
            refusals = [
                requests.post(f"{site.url}/channels/ops/test", timeout=20, allow_redirects=False),
                site.post(browser, "/channels/ops/test", csrf="another"),
                site.post(requests.Session(), "/channels/ops/test"),
            ]

        assert 1 == len(receiver.events)
    assert (303, "/channels") == (taken.status_code, taken.headers["Location"])
    assert not [answer for answer in refusals if answer.headers.get("Location") == "/channels"]


# --- hosts


def standings() -> tuple[HostStanding, ...]:
    hosts = (
        HostRecord("web-1", "digest", "1.2.0", NOON, timedelta(0), LastRun(NOON, NOON)),
        HostRecord(HOSTILE, "gone", "1.1.0", NOON - 72 * HOUR, None, LastRun(NOON - 72 * HOUR)),
    )
    work = {"web-1": HostWork(3, (), ("img",))}
    return standings_of(hosts, "web-1", (), NOON, work)


def test_host_with_a_problem_comes_first() -> None:
    """The row has the problem. Empty columns are left out."""
    table = view_of_hosts(standings(), VOICE)
    shown = words_of(table)

    assert [HOSTILE, "web-1 (this one)"] == list(shown)
    assert (
        "the host has not run since 2026-02-26 12:00 UTC" in shown[HOSTILE]["Problems of the host"]
    )
    assert ("3", "img", "none") == tuple(
        shown["web-1 (this one)"][heading]
        for heading in ("Certificates", "Working on", "Problems of the host")
    )
    assert Text("Clock") not in table.headings


def test_hosts_page_shows_this_host_before_its_first_run(tmp_path: Path) -> None:
    """The page shows this host in both languages, as `certferry hosts` does."""
    with workspace_in(tmp_path) as workspace:
        for language, this_host in (("en", "web-1 (this one)"), ("zh", "web-1（本机）")):
            with console(workspace, language=language) as url:
                page = requests.get(f"{url}/hosts", timeout=20)
            assert (200, True) == (page.status_code, this_host in page.text)
