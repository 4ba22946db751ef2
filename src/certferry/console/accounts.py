"""Pages of accounts at services and CAs, channels, and the hosts of the state. The pages show only
the name of a key's variable, never the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import cast
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry.config.model import AccountTable, CaSettings, ChannelTable, Settings
from certferry.config.secrets import SecretReference
from certferry.console import tables
from certferry.console.site import link, render, site_of, visitor_of, voice_of
from certferry.console.tables import Cell, Row, TableView
from certferry.core.assessment.hosts import HostStanding
from certferry.core.assessment.notices import ChannelState, Notice, Topic
from certferry.core.certificates.certificate import first_of
from certferry.errors import Problem
from certferry.ports.notifier import Answered, Sent
from certferry.present import news_text, status_text
from certferry.present.language import Voice, one_or_many
from certferry.present.layout import plain
from certferry.reconcile.reads import standings_of_hosts
from certferry.reconcile.run import Run
from certferry.text import Text, verbatim
from certferry.values import replace
from certferry.wiring import adapters

MOST_NAMED = 10
"""An account's row shows at most this many certificates and kinds of trouble. Other pages show
all.
"""

# --- accounts

_ACCOUNTS = (
    *(Text("Account"), Text("Service"), Text("Used for"), Text("Certificates")),
    *(Text("Keys"), Text("Trouble")),
)
_AUTHORITIES = (verbatim("CA"), Text("Directory URL"), Text("Account URL"))
_USES = {
    adapters.DNS_PROVIDERS: Text("DNS validation"),
    adapters.TARGETS: Text("deployment"),
}
_PLACES = {
    "file": Text("from a file"),
    "command": Text("from a command"),
    "keyring": Text("from the keyring"),
}


def view_of_accounts(settings: Settings, notices: Sequence[Notice], voice: Voice) -> TableView:
    """Return a row for each account of the file. Accounts with open notices of trouble come
    first.
    """
    notices_of = {
        account.label: troubles_of(account, settings, notices)
        for account in settings.accounts.values()
    }
    troubled_first = sorted(
        settings.accounts.values(), key=lambda account: not notices_of[account.label]
    )
    rows = [
        _account(account, settings, notices_of[account.label], voice) for account in troubled_first
    ]
    return tables.table_of(_ACCOUNTS, rows)


def troubles_of(
    account: AccountTable, settings: Settings, notices: Sequence[Notice]
) -> list[Notice]:
    """Return the notices of trouble at an account. A target's notices are about the account's
    domains. A DNS account's notices are about DNS, for certificates whose names the account proves.
    """
    proven = {
        desired.lineage for desired in settings.declared if account.label in desired.dns_accounts
    }

    def is_at_account(notice: Notice) -> bool:
        about = notice.subject
        if about.target or notice.problem.code not in news_text.OF_DNS:
            return about.target == account.label
        return about.lineage in proven

    return [notice for notice in notices if notice.topic is Topic.TROUBLE and is_at_account(notice)]


def _account(
    account: AccountTable, settings: Settings, notices: Sequence[Notice], voice: Voice
) -> Row:
    label = account.label
    lineages = [
        desired.lineage
        for desired in settings.declared
        if label
        in {*desired.dns_accounts, *(deployment.target for deployment in desired.deployments)}
    ]
    some = Text("{names}", names=first_of(lineages, MOST_NAMED)) if lineages else Text("none")
    families = [family for family in _USES if adapters.installed().is_known(family, account.type)]
    return (
        Cell(label),
        Cell(voice.say(_service(account, families))),
        tables.lines_of([_USES[family] for family in families], voice),
        tables.lines_of([some], voice),
        tables.lines_of([*_keys(account)], voice),
        _needing([*_met(notices)], [notice.problem for notice in notices], voice),
    )


def _needing(sentences: Sequence[Text | None], problems: Sequence[Problem], voice: Voice) -> Cell:
    """Return a cell with the sentences and the badge of the worst problem. Without a problem, the
    cell says "none".
    """
    if not problems:
        return Cell(voice.say(Text("none")), "ok")
    worst = max((problem.severity for problem in problems), key=lambda severity: severity.rank)
    return replace(tables.lines_of(sentences, voice), need=worst)


def _service(account: AccountTable, families: Sequence[adapters.Family]) -> Text:
    """Return the name of an account's service. If the adapter is broken or missing, return the
    account's type.
    """
    with suppress(adapters.BrokenAdapter, KeyError):
        for family in families:
            return adapters.installed().find(family, account.type).called
    return verbatim(account.type)


def _keys(account: AccountTable) -> Iterator[Text]:
    """Yield the place of each key of an account, such as the name of a variable, never the key."""
    values = {key: value for key, value in account.values.items() if isinstance(value, str)}
    references = {key: SecretReference(value) for key, value in values.items()}
    for key, reference in references.items():
        if reference.scheme == "env":
            yield Text("{key}: environment variable {name}", key=key, name=reference.place)
        elif not reference.is_literal:
            yield Text("{key}: {place}", key=key, place=_PLACES[reference.scheme])
    if references and all(reference.is_literal for reference in references.values()):
        yield Text("in the configuration file")


def _met(notices: Sequence[Notice]) -> Iterator[Text]:
    """Yield each kind of trouble once, with the hint and the number of places."""
    kinds = [list(alike) for _, alike in groupby(sorted(notices, key=_kind), key=_kind)]
    for alike in kinds[:MOST_NAMED]:
        problem, about = alike[0].problem, alike[0].subject
        message = Text("{subject}: {message}", subject=about.lineage, message=problem.message)
        yield one_or_many(
            len(alike),
            Text("{problem} (since {moment})"),
            Text("{problem} ({count} times, since {moment})"),
            problem=message if about.lineage and len(alike) == 1 else problem.message,
            moment=min(notice.since for notice in alike),
        )
        if problem.hint is not None:
            yield problem.hint


def _kind(notice: Notice) -> tuple[str, str]:
    return (notice.problem.code, str(notice.problem.message))


def view_of_authorities(
    authorities: Sequence[CaSettings], urls: Mapping[str, str | None], voice: Voice
) -> TableView:
    """Return a row for each CA of the file, and for each other CA with an account. `urls` are the
    accounts' URLs, by directory; a URL is `None` if the CA has not answered yet.
    """
    names = {ca.directory: ca.name for ca in authorities}
    without, interrupted = (
        Text("not registered yet; the next order registers the account"),
        Text("the account's registration was interrupted; the next order finishes it"),
    )
    states = {name: interrupted if url is None else verbatim(url) for name, url in urls.items()}
    rows = [
        (
            Cell(names.get(directory, "")),
            Cell(directory),
            tables.lines_of([states.get(directory, without)], voice),
        )
        for directory in dict.fromkeys([*names, *urls])
    ]
    return tables.table_of(_AUTHORITIES, rows)


def accounts(request: Request) -> Response:
    """Show the accounts at services and at CAs."""
    voice, workspace = voice_of(request), site_of(request).workspace()
    settings, state = workspace.settings, workspace.state
    urls = {ca_account.directory: ca_account.url for ca_account in state.accounts()}
    return render(
        request,
        "accounts.html",
        table=view_of_accounts(settings, state.notices(), voice),
        authorities=view_of_authorities(settings.acme.authorities, urls, voice),
    )


# --- channels

_CHANNELS = (
    *(Text("Channel"), Text("Service"), Text("Receives"), Text("Last message")),
    *(Text("Result"), Text("Test message")),
)


def view_of_channels(
    channels: Mapping[str, ChannelTable],
    states: Mapping[str, ChannelState],
    voice: Voice,
    *,
    may_try: bool,
) -> TableView:
    """Return a row for each channel. Refusing channels come first; `may_try` adds buttons."""
    names = sorted(channels, key=lambda name: states[name].refusal is None)
    rows = [
        (
            Cell(name),
            Cell(voice.say(_service(channels[name].account, [adapters.CHANNELS]))),
            tables.lines_of([news_text.TOPICS[topic] for topic in channels[name].on], voice),
            _last_message(states[name], voice),
            _last_answer(states[name], voice),
            _button(name, voice) if may_try else Cell(),
        )
        for name in names
    ]
    return tables.table_of(_CHANNELS, rows)


def _button(name: str, voice: Voice) -> Cell:
    return Cell(voice.say(Text("Send")), post=f"/channels/{quote(name, safe='')}/test")


def _last_message(state: ChannelState, voice: Voice) -> Cell:
    if not state.sent:
        return Cell(voice.say(Text("none yet")), "faint")
    about = max(state.sent_notices, key=lambda notice: notice.at, default=None)
    words = "" if about is None else voice.say_on_one_line(news_text.subject_of(about.subject))
    return Cell(words, at=max(state.sent))


def _last_answer(state: ChannelState, voice: Voice) -> Cell:
    refusal = state.refusal
    if refusal is None:
        return Cell(voice.say(Text("accepted")), "ok") if state.sent else Cell()
    message = Text("takes no messages since {moment}: {problem}")
    again = (
        None
        if state.again_at is None
        else Text("next attempt after {moment}", moment=state.again_at)
    )
    since = message.filled(moment=refusal.since, problem=refusal.message)
    return _needing([since, refusal.hint, again], [refusal], voice)


def channels(request: Request) -> Response:
    """Show the channels, with each channel's last answer."""
    site, voice = site_of(request), voice_of(request)
    workspace = site.workspace()
    declared, notifications = workspace.settings.channels, workspace.notifications(Run())
    states, may_try = notifications.channel_states(), visitor_of(request).may_start
    tried = {name: site.observer.known(("channel", name)).value for name in declared}
    answers = {
        name: cast("Answered", answer) for name, answer in tried.items() if answer is not None
    }
    services = {name: _service(declared[name].account, [adapters.CHANNELS]) for name in answers}
    return render(
        request,
        "channels.html",
        table=view_of_channels(declared, states, voice, may_try=may_try),
        trials=list(map(plain, news_text.answer_lines(answers, services, voice))),
        all_taken=all(isinstance(answer, Sent) for answer in answers.values()),
    )


def try_channel(request: Request) -> Response:
    """Send a message through a channel, as `certferry notify test` does, and store the answer."""
    site, name = site_of(request), request.path_params["name"]
    workspace = site.workspace()
    if not visitor_of(request).may_start:
        raise HTTPException(403)
    if name not in workspace.settings.channels:
        raise HTTPException(404)
    [answer] = workspace.notifications(Run()).channels.try_out([name]).values()
    site.observer.keep(("channel", name), answer)
    return RedirectResponse(link(request, "/channels"), 303)


# --- hosts

_HOSTS = (
    *(Text("Host"), Text("Version"), Text("Last run"), Text("Last success"), Text("Certificates")),
    *(
        Text("Clock"),
        Text("Current run since"),
        Text("Working on"),
        Text("Older configuration for"),
    ),
    Text("Problems of the host"),
)


def view_of_hosts(standings: Sequence[HostStanding], voice: Voice) -> TableView:
    """Return a row for each host. Hosts with problems come first."""
    wrong_first = sorted(standings, key=lambda standing: not standing.problems)
    return tables.table_of(_HOSTS, [_host(standing, voice) for standing in wrong_first])


def _host(standing: HostStanding, voice: Voice) -> Row:
    cells = [replace(tables.of_span(span), tone="") for span in status_text.host(standing, voice)]
    last = standing.record.last_run
    for place, at in (
        (2, None if last is None else last.ended_at),
        (3, None if last is None else last.succeeded_at),
        (6, standing.record.running_since),
    ):
        cells[place] = Cell(at=at)
    wrong = [
        sentence for problem in standing.problems for sentence in (problem.message, problem.hint)
    ]
    return (*cells, _needing(wrong, standing.problems, voice))


def hosts(request: Request) -> Response:
    """Show the hosts that share the state."""
    workspace = site_of(request).workspace()
    standings = standings_of_hosts(workspace.state, len(workspace.settings.declared))
    return render(request, "hosts.html", table=view_of_hosts(standings, voice_of(request)))


ROUTES = (
    Route("/accounts", accounts, name="accounts"),
    Route("/channels", channels, name="channels"),
    Route("/channels/{name:path}/test", try_channel, methods=["POST"], name="channel.test"),
    Route("/hosts", hosts, name="hosts"),
)
