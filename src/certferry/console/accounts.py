"""Pages of the accounts at services and CAs, of the channels, and of the hosts that share the
state. The pages show where a key is configured, such as the name of a variable, never the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import cast
from urllib.parse import quote

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certferry import errors
from certferry.config.model import AccountTable, CaSettings, ChannelTable, Settings
from certferry.config.secrets import SecretReference
from certferry.console import tables
from certferry.console.causes import cards_of
from certferry.console.lives import accounts_of
from certferry.console.site import link, render, site_of, visitor_of, voice_of
from certferry.console.tables import Cell, Row, TableView
from certferry.core.assessment.causes import Cause, Severities
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.hosts import HostStanding
from certferry.core.assessment.notices import ChannelState, Subject
from certferry.errors import Problem
from certferry.ports.adapter import Variable
from certferry.ports.notifier import Answered, Sent
from certferry.present import news_text, status_text
from certferry.present.language import Voice, certificate_count
from certferry.present.layout import plain
from certferry.reconcile.reads import standings_of_hosts
from certferry.reconcile.run import Run
from certferry.text import Text, verbatim
from certferry.values import replace
from certferry.wiring import adapters

# --- accounts

_AUTHORITIES = (verbatim("CA"), Text("Directory URL"), Text("Account URL"))
_USES = {
    adapters.DNS_PROVIDERS: Text("DNS validation"),
    adapters.TARGETS: Text("deployment"),
    adapters.SERVERS: Text("deployment"),
}
_PLACES = {
    "file": Text("from a file"),
    "command": Text("from a command"),
    "keyring": Text("from the keyring"),
}


class AccountView(Struct, frozen=True):
    """An account at a service, with everything that the page shows about the account."""

    #: The label in the configuration file.
    label: str
    #: The type in the configuration file.
    type: str
    #: The name of the service.
    service: Text
    #: The uses of such an account: for DNS, as a target, or both.
    uses: tuple[Text, ...]
    #: Where each key is configured.
    keys: tuple[Text, ...]
    #: The number of certificates that use the account.
    certificates: int
    #: The number of domains at the account that runs have observed for these certificates.
    places: int
    #: The class of the badge for the last use.
    tone: str
    #: The word in the badge.
    last_use: Text
    #: The end of the last run; `None` before the first run, and if no certificate uses the account.
    used_at: datetime | None
    #: The causes at the account, the worst first.
    causes: tuple[Cause, ...]


def views_of_accounts(
    settings: Settings, recorded: Recorded, causes: Sequence[Cause]
) -> tuple[AccountView, ...]:
    """Return the views of the accounts in the configuration file. Accounts with causes of trouble
    come first.
    """
    views = [
        _account(account, settings, recorded, causes) for account in settings.accounts.values()
    ]
    return tuple(sorted(views, key=lambda view: not view.causes))


def causes_at(
    account: AccountTable, settings: Settings, causes: Sequence[Cause]
) -> tuple[Cause, ...]:
    """Return the causes of trouble at an account.

    These are the causes whose target is the account. Causes of DNS have no target; these count if
    the account proves names of one of their certificates.
    """
    proven = {
        desired.lineage for desired in settings.declared if account.label in desired.dns_accounts
    }

    def is_at_account(cause: Cause) -> bool:
        target = cause.subject.target
        if target or cause.problem.code not in news_text.OF_DNS:
            return target == account.label
        return not proven.isdisjoint(cause.lineages)

    return tuple(filter(is_at_account, causes))


_DENIES = frozenset(
    error.code
    for error in (
        *(errors.TargetAccessDenied, errors.TargetUnavailable, errors.ClockWrong),
        *(errors.DnsAccessDenied, errors.DnsUnavailable),
    )
)
"""The codes of problems that stop all uses of an account."""


def _account(
    account: AccountTable, settings: Settings, recorded: Recorded, causes: Sequence[Cause]
) -> AccountView:
    label, last = account.label, recorded.last_run
    lineages = {desired.lineage for desired in settings.declared if label in accounts_of(desired)}
    places = [
        place
        for place in recorded.sightings
        if place.target == label and place.domain and place.lineage in lineages
    ]
    here = causes_at(account, settings, causes)
    families = [family for family in _USES if adapters.installed().is_known(family, account.type)]
    tone, last_use = "ok", Text("worked")
    if any(cause.problem.code in _DENIES for cause in here):
        tone, last_use = "error", Text("failed")
    elif last is None or not lineages:
        tone, last_use = "", Text("not used yet")
    return AccountView(
        label=label,
        type=account.type,
        service=_service(account, families),
        uses=tuple(_USES[family] for family in families),
        keys=tuple(_keys(account, families)),
        certificates=len(lineages),
        places=len(places),
        tone=tone,
        last_use=last_use,
        used_at=last.ended_at if last is not None and lineages else None,
        causes=here,
    )


def _needing(sentences: Sequence[Text | None], problems: Sequence[Problem], voice: Voice) -> Cell:
    """Return a cell with the sentences, and the severity of the worst problem as a badge. If there
    are no problems, the cell says "none".
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


def _variables(account: AccountTable, families: Sequence[adapters.Family]) -> Iterator[Variable]:
    """Yield the environment variables that an account's adapters name for keys. Skip broken and
    missing adapters.
    """
    for family in families:
        with suppress(adapters.BrokenAdapter, KeyError):
            yield from adapters.installed().find(family, account.type).adapter.ENVIRONMENT


def _keys(account: AccountTable, families: Sequence[adapters.Family]) -> Iterator[Text]:
    """Yield a sentence for each key of an account that says where the key is configured, such as in
    which variable. Keys written into the configuration file come last, in one sentence.
    """
    values = {key: value for key, value in account.values.items() if isinstance(value, str)}
    references = {key: SecretReference(value) for key, value in values.items()}
    for key, reference in references.items():
        if reference.scheme == "env":
            yield Text("{key}: environment variable {name}", key=key, name=reference.place)
        elif not reference.is_literal:
            yield Text("{key}: {place}", key=key, place=_PLACES[reference.scheme])
    secret = {variable.key for variable in _variables(account, families)}
    literal = [key for key, reference in references.items() if reference.is_literal]
    if written := [key for key in literal if key in secret]:
        yield Text("{keys}: in the configuration file", keys=written)


def view_of_authorities(
    authorities: Sequence[CaSettings], urls: Mapping[str, str | None], voice: Voice
) -> TableView:
    """Return a row for each CA of the configuration file, and for each other CA at which the state
    has an account. `urls` has the account's URL by the CA's directory, or `None` if the
    registration of the account was interrupted.
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
    site, voice = site_of(request), voice_of(request)
    stored, state = site.stored.latest(), site.workspace().state
    settings, needs = stored.settings, stored.agenda.needs
    urls = {ca_account.directory: ca_account.url for ca_account in state.accounts()}
    views = views_of_accounts(settings, stored.recorded, stored.causes)
    return render(
        request,
        "accounts.html",
        accounts=views,
        cards={view.label: tuple(cards_of(view.causes, needs, stored, voice)) for view in views},
        certificates=certificate_count,
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
    severities: Severities,
    voice: Voice,
    *,
    may_try: bool,
) -> TableView:
    """Return a row for each channel. Channels that refuse messages come first. `severities` are
    those of the known causes. With `may_try`, each row has a button that sends a test message.
    """
    names = sorted(channels, key=lambda name: states[name].refusal is None)
    rows = [
        (
            Cell(name),
            Cell(voice.say(_service(channels[name].account, [adapters.CHANNELS]))),
            tables.lines_of([news_text.TOPICS[topic] for topic in channels[name].on], voice),
            _last_message(states[name], voice),
            _last_answer(name, states[name], severities, voice),
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


def _last_answer(channel: str, state: ChannelState, severities: Severities, voice: Voice) -> Cell:
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
    severity = severities.of(refusal, Subject(channel=channel))
    return _needing([since, refusal.hint, again], [replace(refusal, severity=severity)], voice)


def channels(request: Request) -> Response:
    """Show the channels, each with the last message and the result. Also show the answers to test
    messages that were sent from the console.
    """
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
        table=view_of_channels(
            declared, states, site.stored.latest().severities, voice, may_try=may_try
        ),
        trials=list(map(plain, news_text.answer_lines(answers, services, voice))),
        all_taken=all(isinstance(answer, Sent) for answer in answers.values()),
    )


def try_channel(request: Request) -> Response:
    """Send a test message through a channel, as `certferry notify test` does. Keep the answer for
    the page of channels, and redirect to this page. Raises `HTTPException` for a viewer and for an
    unknown channel.
    """
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
