"""Whom certferry works with: accounts at services and CAs, channels, and the hosts of the state.
What is shown of a key is the name of the variable that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
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
from certferry.reconcile.run import Run
from certferry.reconcile.status import standings_of_hosts
from certferry.text import Text, verbatim
from certferry.wiring import adapters

MOST_NAMED = 10
"""Certificates, or troubles, of an account that are shown; there are pages for all of them."""

# --- accounts

_ACCOUNTS = (
    *(Text("Account"), Text("Service"), Text("Used for"), Text("Certificates")),
    *(Text("Keys"), Text("Trouble")),
)
_AUTHORITIES = (verbatim("CA"), Text("Directory"), Text("Account there"))
_USES = {
    adapters.DNS_PROVIDERS: Text("proves names by DNS"),
    adapters.TARGETS: Text("serves domains"),
}
_PLACES = {
    "file": Text("in a file"),
    "command": Text("from a command"),
    "keyring": Text("in the key ring"),
}


def view_of_accounts(settings: Settings, notices: Sequence[Notice], voice: Voice) -> TableView:
    """Return a row for each account of the file, those first that runs had trouble with."""
    met = {one.label: troubles_of(one, settings, notices) for one in settings.accounts.values()}
    troubled_first = sorted(settings.accounts.values(), key=lambda one: not met[one.label])
    rows = [_account(one, settings, met[one.label], voice) for one in troubled_first]
    return tables.table_of(_ACCOUNTS, rows)


def troubles_of(
    account: AccountTable, settings: Settings, notices: Sequence[Notice]
) -> list[Notice]:
    """Return the trouble that the last runs had at an account: at its domains as a target; where it
    proves names, in what kept a certificate that uses it from being issued by DNS.
    """
    proven = {one.lineage for one in settings.declared if account.label in one.dns_accounts}

    def is_at_it(notice: Notice) -> bool:
        about = notice.subject
        if about.target or notice.problem.code not in news_text.OF_DNS:
            return about.target == account.label
        return about.lineage in proven

    return [one for one in notices if one.topic is Topic.TROUBLE and is_at_it(one)]


def _account(
    account: AccountTable, settings: Settings, found: Sequence[Notice], voice: Voice
) -> Row:
    label = account.label
    used = [
        one.lineage
        for one in settings.declared
        if label in {*one.dns_accounts, *(to.target for to in one.deployments)}
    ]
    some = Text("{names}", names=first_of(used, MOST_NAMED)) if used else Text("none")
    families = [family for family in _USES if adapters.installed().is_known(family, account.type)]
    return (
        Cell(label),
        Cell(_service(account, families, voice)),
        tables.lines_of([_USES[family] for family in families], voice),
        tables.lines_of([some], voice),
        tables.lines_of([*_keys(account)], voice),
        _needing([*_met(found)], [one.problem for one in found], voice),
    )


def _needing(said: Sequence[Text | None], problems: Sequence[Problem], voice: Voice) -> Cell:
    """Return a cell of what is wrong, marked as bad as the worst of it, or that nothing is."""
    if not problems:
        return Cell(voice.say(Text("none")), "ok")
    worst = max((one.severity for one in problems), key=lambda one: one.rank)
    return replace(tables.lines_of(said, voice), need=worst)


def _service(account: AccountTable, families: Sequence[adapters.Family], voice: Voice) -> str:
    """Return how the service of an account is called; where its adapter is broken, its type."""
    with suppress(adapters.BrokenAdapter, KeyError):
        for family in families:
            return voice.word(adapters.installed().find(family, account.type).adapter.SERVICE)
    return account.type


def _keys(account: AccountTable) -> Iterator[Text]:
    """Yield where each key of an account is, and no more of it than the name of a variable."""
    values = {key: one for key, one in account.values.items() if isinstance(one, str)}
    references = {key: SecretReference(value) for key, value in values.items()}
    for key, one in references.items():
        if one.scheme == "env":
            yield Text("{key}: variable {name}", key=key, name=one.place)
        elif not one.is_literal:
            yield Text("{key}: {place}", key=key, place=_PLACES[one.scheme])
    if references and all(one.is_literal for one in references.values()):
        yield Text("in the configuration file")


def _met(found: Sequence[Notice]) -> Iterator[Text]:
    """Yield each kind of trouble once, with what to do and in how many places it is."""
    kinds = [list(alike) for _, alike in groupby(sorted(found, key=_kind), key=_kind)]
    for alike in kinds[:MOST_NAMED]:
        problem, about = alike[0].problem, alike[0].subject
        said = Text("{subject}: {message}", subject=about.lineage, message=problem.message)
        yield one_or_many(
            len(alike),
            Text("{problem} (since {moment})"),
            Text("{problem} (in {count} places, since {moment})"),
            problem=said if about.lineage and len(alike) == 1 else problem.message,
            moment=min(one.since for one in alike),
        )
        if problem.hint is not None:
            yield problem.hint


def _kind(notice: Notice) -> tuple[str, str]:
    return (notice.problem.code, str(notice.problem.message))


def view_of_authorities(
    authorities: Sequence[CaSettings], urls: Mapping[str, str | None], voice: Voice
) -> TableView:
    """Return a row for each CA of the file, and for each at which there is an account; `urls` are
    those of accounts, by directory, `None` where the CA has not answered yet.
    """
    names = {one.directory: one.name for one in authorities}
    without, interrupted = (
        Text("none yet; the next order makes one"),
        Text("its registration was interrupted; the next order finishes it"),
    )
    said = {name: interrupted if url is None else verbatim(url) for name, url in urls.items()}
    rows = [
        (Cell(names.get(one, "")), Cell(one), tables.lines_of([said.get(one, without)], voice))
        for one in dict.fromkeys([*names, *urls])
    ]
    return tables.table_of(_AUTHORITIES, rows)


def accounts(request: Request) -> Response:
    """Show the accounts at services, and those at CAs."""
    voice, workspace = voice_of(request), site_of(request).workspace()
    settings, state = workspace.settings, workspace.state
    urls = {one.directory: one.url for one in state.accounts()}
    return render(
        request,
        "accounts.html",
        table=view_of_accounts(settings, state.notices(), voice),
        authorities=view_of_authorities(settings.acme.authorities, urls, voice),
    )


# --- channels

_CHANNELS = (
    *(Text("Channel"), Text("Service"), Text("Is sent"), Text("Last message")),
    *(Text("Answer"), Text("Try it")),
)


def view_of_channels(
    channels: Mapping[str, ChannelTable],
    states: Mapping[str, ChannelState],
    voice: Voice,
    *,
    may_try: bool,
) -> TableView:
    """Return a row for each channel, those first that take no messages; `may_try` adds buttons."""
    names = sorted(channels, key=lambda name: states[name].refusal is None)
    rows = [
        (
            Cell(name),
            Cell(_service(channels[name].account, [adapters.CHANNELS], voice)),
            tables.lines_of([news_text.TOPICS[topic] for topic in channels[name].on], voice),
            _last_message(states[name], voice),
            _last_answer(states[name], voice),
            _button(name, voice) if may_try else Cell(),
        )
        for name in names
    ]
    return tables.table_of(_CHANNELS, rows)


def _button(name: str, voice: Voice) -> Cell:
    return Cell(voice.say(Text("Test")), post=f"/channels/{quote(name, safe='')}/test")


def _last_message(state: ChannelState, voice: Voice) -> Cell:
    if not state.sent:
        return Cell(voice.say(Text("none yet")), "faint")
    about = max(state.deliveries, key=lambda one: one.at, default=None)
    words = "" if about is None else voice.say_on_one_line(news_text.subject_of(about.subject))
    return Cell(words, at=max(state.sent))


def _last_answer(state: ChannelState, voice: Voice) -> Cell:
    refusal = state.refusal
    if refusal is None:
        return Cell(voice.say(Text("taken")), "ok") if state.sent else Cell()
    said = Text("takes no messages since {moment}: {problem}")
    again = None if state.again_at is None else Text("not before {moment}", moment=state.again_at)
    since = said.filled(moment=refusal.since, problem=refusal.message)
    return _needing([since, refusal.hint, again], [refusal], voice)


def channels(request: Request) -> Response:
    """Show the channels, and what each answered when it was tried last."""
    site, voice = site_of(request), voice_of(request)
    workspace = site.workspace()
    declared, notifications = workspace.settings.channels, workspace.notifications(Run())
    states, may_try = notifications.channel_states(), visitor_of(request).may_start
    tried = {name: site.observer.known(("channel", name)).value for name in declared}
    answers = {name: cast("Answered", one) for name, one in tried.items() if one is not None}
    services = {
        name: _service(declared[name].account, [adapters.CHANNELS], voice) for name in answers
    }
    return render(
        request,
        "channels.html",
        table=view_of_channels(declared, states, voice, may_try=may_try),
        trials=list(map(plain, news_text.answer_lines(answers, services, voice))),
        all_taken=all(isinstance(one, Sent) for one in answers.values()),
    )


def try_channel(request: Request) -> Response:
    """Send a message through a channel, as `certferry notify test` does, and keep the answer."""
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
    *(Text("Clock"), Text("Running since"), Text("Works on"), Text("Declares an older")),
    Text("Problems"),
)


def view_of_hosts(found: Sequence[HostStanding], voice: Voice) -> TableView:
    """Return a row for each host, those first that something is wrong with."""
    wrong_first = sorted(found, key=lambda one: not one.problems)
    return tables.table_of(_HOSTS, [_host(one, voice) for one in wrong_first])


def _host(one: HostStanding, voice: Voice) -> Row:
    cells = [replace(tables.of_span(span), tone="") for span in status_text.host(one, voice)]
    last = one.record.last_run
    for place, at in (
        (2, None if last is None else last.ended_at),
        (3, None if last is None else last.succeeded_at),
        (6, one.record.running_since),
    ):
        cells[place] = Cell(at=at)
    wrong = [said for problem in one.problems for said in (problem.message, problem.hint)]
    return (*cells, _needing(wrong, one.problems, voice))


def hosts(request: Request) -> Response:
    """Show the hosts that share the state."""
    workspace = site_of(request).workspace()
    found = standings_of_hosts(workspace.state, len(workspace.settings.declared))
    return render(request, "hosts.html", table=view_of_hosts(found, voice_of(request)))


ROUTES = (
    Route("/accounts", accounts, name="accounts"),
    Route("/channels", channels, name="channels"),
    Route("/channels/{name:path}/test", try_channel, methods=["POST"], name="channel.test"),
    Route("/hosts", hosts, name="hosts"),
)
