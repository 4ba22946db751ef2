"""Everything that the console's pages share: the settings in force, the state, the start of runs,
the user and the language of a request, and the rendering of templates.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup, escape
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from certferry.console.following import Feeds
from certferry.console.observing import Observer, Recent, SeenPlaces
from certferry.console.runs_in_progress import SHOWN_RUNS, RunsInProgress
from certferry.console.snapshot import Snapshots
from certferry.console.surveying import Unmanaged, unmanaged_of
from certferry.core.access import User
from certferry.core.certificates.certificate import first_of
from certferry.core.observed.stored_runs import RunKind, RunSource, StoredRun
from certferry.core.planning.plan import Plan
from certferry.errors import Problem
from certferry.present.language import Voice, relative, voice_beside
from certferry.present.layout import visible
from certferry.present.run_log import rfc3339
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.workspace import Workspace

HERE = Path(__file__).parent
_TYPED = re.compile(r"`([^`\n]+)`")
_OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]+")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
_FAILURE = 500
SURVEY = "discover"
"""The observer's kind of the survey of all accounts."""

LANGUAGE_NAMES = (("en", "English"), ("zh", "中文"))


class Starter(Protocol):
    """Starts runs in the background."""

    def start(
        self,
        kind: RunKind,
        names: Sequence[str],
        *,
        who: str,
        source: RunSource,
        plan: str | None = None,
        request: str | None = None,
        renews: bool = False,
    ) -> StoredRun:
        """Begin a run, and return it. If a run was already begun with the same `request`, return
        that run. With `renews`, a rehearsal also orders certificates that are not due. Raises
        `CertferryError`.
        """

    def stop(self, run: str) -> bool:
        """Ask a run to stop at a safe point. Return False if the run is not one of this process."""


@dataclass(eq=False)
class Site:
    """Everything that the console serves."""

    #: Returns the workspace (settings and state) in force. After a reload of the settings this is
    #: another workspace.
    workspace: Callable[[], Workspace]
    #: Starts and stops runs.
    starter: Starter
    #: The path of the console's URL, without a slash at the end.
    prefix: str = ""
    #: Whether browsers reach the console by HTTPS.
    is_https: bool = False
    #: Whether this process makes the runs twice a day.
    has_schedule: bool = False
    #: The problem of the last try to read the settings again; `None` after a success.
    unread: Problem | None = None
    #: Observes services in the background, and keeps the results.
    observer: Observer = field(init=False)
    #: The places that pages have observed.
    seen: SeenPlaces = field(default_factory=SeenPlaces)
    #: The facts stored in the state, with what pages have seen since.
    stored: Snapshots = field(init=False)
    #: The runs in progress on all hosts.
    running: RunsInProgress = field(init=False)
    #: Set when the process ends, so that streams end at once.
    closing: threading.Event = field(default_factory=threading.Event)
    #: The events of runs that browsers watch.
    feeds: Feeds = field(init=False)
    #: The last plans shown to operators, by digest, to show the differences of a later plan.
    shown_plans: Recent[str, Sequence[Plan]] = field(default_factory=lambda: Recent(20))
    #: The views of ended runs' reports (`ReportView`), by run, language, and the page numbers of
    #: the report's two lists.
    reports: Recent[tuple[str, str, int, int], object] = field(default_factory=lambda: Recent(50))

    def __post_init__(self) -> None:
        self.feeds = Feeds(lambda: self.workspace().state, self.closing.is_set)
        self.observer = Observer(now)  # the machine's clock works even without the state
        self.stored = Snapshots(self.workspace, self.seen.settled_since)
        self.running = RunsInProgress(self.workspace)

    def now(self) -> datetime:
        """Return the time by the state's clock."""
        return self.workspace().state.now()

    @property
    def unmanaged(self) -> Unmanaged | None:
        """The expired domains outside certferry, as of the last survey; `None` without any."""
        survey = self.observer.known(SURVEY)
        return unmanaged_of(survey, self.observer.now())

    @property
    def troubles(self) -> int:
        """The number of causes in the last snapshot, with the expired domains outside certferry as
        one.
        """
        return self.stored.troubles + (self.unmanaged is not None)

    def forget(self) -> None:
        """Forget every observation, because the settings have changed."""
        self.observer.forget()
        self.seen.forget()


class Visitor(Struct, frozen=True):
    """The user of a request, or the API token that stands for a user."""

    #: The user; for an API token, a user made of the token's name and role.
    user: User
    #: The secret token in the forms of the user's session; empty for a program with an API token.
    csrf: str
    #: The digest of the session's secret; `None` without a session.
    session: str | None = None

    @property
    def may_start(self) -> bool:
        """Whether the visitor may start runs."""
        return self.user.role.may_start_runs


def site_of(request: Request) -> Site:
    """Return the site of the request's application."""
    site: Site = request.app.state.site
    return site


def visitor_of(request: Request) -> Visitor:
    """Return the visitor identified by the guard, in a route that needs a login."""
    visitor: Visitor = request.state.visitor
    return visitor


def path_of(request: Request) -> str:
    """Return a request's path below the console's prefix. Do not use `request.url`, which contains
    the `Host` sent by the client.
    """
    path: str = request.scope["path"]
    return path


def with_form(
    page: Callable[[Request, FormData], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a function that takes the request and its form. The function runs in a
    thread, like the functions of other routes.
    """

    async def route(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=1000) as form:
            return await run_in_threadpool(page, request, form)

    return route


def voice_of(request: Request) -> Voice:
    """Return the voice for answering a request. For a logged-in visitor, each command on a page
    names the configuration file (`voice_beside`). Commands in the API's answers do not, so that the
    answers equal the output of `--json`.
    """
    is_page = not path_of(request).startswith("/api/")
    path = None
    if is_page and getattr(request.state, "visitor", None) is not None:
        path = site_of(request).workspace().settings.path
    return _voice(getattr(request.state, "language", "en"), path)


@cache
def _voice(language: str, path: Path | None) -> Voice:
    from datetime import UTC

    return voice_beside(path, language, UTC)


def link(request: Request, path: str) -> str:
    """Return the address of a page for a browser: `path` with the console's prefix in front."""
    return site_of(request).prefix + path


@cache
def asset_digest(name: str) -> str:
    """Return the digest of a static file, as it stands in the file's URL."""
    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:16]


def _unbroken(command: str) -> Markup:
    """Return a command as HTML that keeps each option on one line, because browsers break lines at
    hyphens. The caller has escaped the command.
    """
    options = _OPTION.sub(r'<span class="option">\g<0></span>', str(command))
    return Markup(options)  # noqa: S704 - escaped by the callers


def _shown(value: object) -> object:
    """Replace control characters and changes of text direction in a value, because pages quote
    names and words from outside.
    """
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def templates() -> jinja2.Environment:
    """Return the environment of the templates. Templates escape every value."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(
    request: Request,
    template: str,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **view: object,
) -> Response:
    """Render a page in the visitor's language.

    Every template can use:

    - `say("…", places=…)`, `text(Text)`, `word("done")`, `some_of(names, 3)`
    - `moment(datetime)`: the distance from now, with the exact moment on hover and in print;
      `moment(datetime, "exact")`: the exact moment; `moment(datetime, "both")`: both, for deadlines
    - `instant(datetime)`: the exact moment, to the second
    - `prose(Text)`: a sentence with backquoted words as code
    - `command_line("certferry sync")`: the command with the file that it reads, as HTML
    - `link("/path")`, `here(place=…)`, `asset("name")`
    - `visitor`, `language`, `languages`, `path`
    - `wrong_file`: see `Site.unread`
    - `is_watching`: whether the file has a `[[watch]]`, so the navigation names the page
    - `in_progress()`: the runs in progress; none without a visitor, and on a page that reports a
      failure, because the state may have failed; `most_running`: how many of them to show
    - `trouble`: the number of causes of trouble, for the title
    """
    voice = voice_of(request)
    site = site_of(request)
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    path = path_of(request)

    def say(template: str, **places: object) -> str:
        return voice.say(Text(template, **places))

    def moment(value: datetime | None, form: str = "near") -> str:
        if value is None:
            return ""
        exact = f"{value:%Y-%m-%d %H:%M} UTC"
        words = exact if form == "exact" else voice.say(relative(value, now()))
        time = Markup('<time{} datetime="{}" title="{}">{}</time>').format(
            Markup("") if form == "exact" else Markup(' class="near"'),
            rfc3339(value),
            f"{value:%Y-%m-%d %H:%M:%S} UTC",
            words,
        )
        if form == "both":
            return Markup('<span class="moment">{}</span> <span class="beside">({})</span>').format(
                exact, time
            )
        return time

    def instant(value: datetime) -> str:
        return Markup('<time datetime="{}">{}</time>').format(
            rfc3339(value), f"{value:%Y-%m-%d %H:%M:%S} UTC"
        )

    def prose(sentence: Text | str) -> Markup:
        words = escape(visible(sentence if isinstance(sentence, str) else voice.say(sentence)))
        typed = _TYPED.sub(lambda found: f"<code>{_unbroken(found[1])}</code>", str(words))
        # Chromium breaks a line at the hyphens of a date.
        return Markup(_MOMENT.sub(r'<span class="moment">\g<0></span>', typed))  # noqa: S704 - escaped above

    def some_of(names: Sequence[str], most: int) -> str:
        return voice.say(Text("{names}", names=first_of(names, most)))

    def here(**places: object) -> str:
        asked = [pair for pair in request.query_params.multi_items() if pair[0] not in places]
        return f"{site.prefix}{quote(path)}?{urlencode([*asked, *places.items()])}"

    def asset(name: str) -> str:
        return f"{site.prefix}/static/{asset_digest(name)}/{name}"

    body = (
        templates()
        .get_template(template)
        .render(
            say=say,
            text=voice.say,
            command_line=lambda words: _unbroken(escape(visible(voice.command(words)))),
            prose=prose,
            some_of=some_of,
            word=voice.word,
            link=lambda path: site.prefix + path,
            asset=asset,
            moment=moment,
            instant=instant,
            visitor=visitor,
            language=voice.language,
            languages=LANGUAGE_NAMES,
            path=path,
            here=here,
            wrong_file=site.unread,
            is_watching=visitor is not None and bool(site.workspace().settings.watches),
            in_progress=site.running.latest if visitor and status < _FAILURE else tuple,
            most_running=SHOWN_RUNS,
            **{"trouble": site.troubles if visitor else 0, **view},
        )
    )
    return HTMLResponse(body, status, dict(headers or {}))
