"""What every page needs: the settings in force, the state, and who starts runs; the request's user
and language; and how a template is rendered.
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
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from certferry.console.following import Feeds
from certferry.console.observing import Observer, Recent
from certferry.console.snapshot import Snapshots
from certferry.core.access import User
from certferry.core.certificates.certificate import first_of
from certferry.core.observed.runs import RunKind, RunSource, StoredRun
from certferry.core.planning.plan import Plan
from certferry.errors import Problem
from certferry.present.language import Voice, voice_in
from certferry.present.layout import visible
from certferry.present.run_log import rfc3339
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.workspace import Workspace

HERE = Path(__file__).parent
_TYPED = re.compile(r"`([^`\n]+)`")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
LANGUAGE_NAMES = (("en", "English"), ("zh", "中文"))


class Starter(Protocol):
    """Starts runs, which go on in the background."""

    def start(
        self,
        kind: RunKind,
        names: Sequence[str],
        *,
        who: str,
        source: RunSource,
        plan: str | None = None,
        request: str | None = None,
    ) -> StoredRun:
        """Begin a run, or return the one that the same `request` began. Raises `CertferryError`."""

    def stop(self, run: str) -> bool:
        """Have a run of this process come to a safe point; return whether there is such a run."""


@dataclass(eq=False)
class Site:
    """What is served. `workspace` returns what is in force: reading the settings anew replaces it;
    `unread` is why that failed the last time. `prefix` is the path of the console's URL, without a
    slash at its end.
    """

    workspace: Callable[[], Workspace]
    starter: Starter
    prefix: str = ""
    is_https: bool = False
    has_schedule: bool = False
    """Whether this process makes the runs twice a day."""
    unread: Problem | None = None
    observer: Observer = field(init=False)
    stored: Snapshots = field(init=False)
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when the process ends: streams that would go on end at once."""
    feeds: Feeds = field(init=False)
    shown_plans: Recent[str, Sequence[Plan]] = field(default_factory=lambda: Recent(20))
    """By their digests: where a run finds another one, what has changed since can be shown."""
    reports: Recent[tuple[str, str], object] = field(default_factory=lambda: Recent(50))
    """Of runs that have ended, as they are shown, by run and language."""

    def __post_init__(self) -> None:
        self.feeds = Feeds(lambda: self.workspace().state, self.closing.is_set)
        self.observer = Observer(now)  # the machine's clock: it goes on when the state is gone
        self.stored = Snapshots(self.workspace)

    def now(self) -> datetime:
        """Return this moment by the state's clock."""
        return self.workspace().state.now()


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: a user with a session, whose forms carry `csrf`. `may_start` runs or not."""

    user: User
    csrf: str
    session: str | None = None

    @property
    def may_start(self) -> bool:
        """Whether they may start runs."""
        return self.user.role.may_start_runs


def site_of(request: Request) -> Site:
    """Return what the application serves."""
    found: Site = request.app.state.site
    return found


def visitor_of(request: Request) -> Visitor:
    """Return who asks, which the guard has found out."""
    found: Visitor = request.state.visitor
    return found


def path_of(request: Request) -> str:
    """Return the path below our prefix. `request.url` is made of the `Host` that was sent, too."""
    found: str = request.scope["path"]
    return found


def with_form(
    page: Callable[[Request, FormData], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Make a route of a function that takes the form as well; it runs in a thread, as others do."""

    async def route(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=1000) as form:
            return await run_in_threadpool(page, request, form)

    return route


def voice_of(request: Request) -> Voice:
    """Return the voice in which the request is answered."""
    return _voice(getattr(request.state, "language", "en"))


@cache
def _voice(language: str) -> Voice:
    from datetime import UTC

    spoken = voice_in(language)
    return Voice(spoken._translate, spoken.language, UTC)  # noqa: SLF001 - a zone of its own


def link(request: Request, path: str) -> str:
    """Return where a page of ours is, for a browser."""
    return site_of(request).prefix + path


@cache
def asset_digest(name: str) -> str:
    """Return a digest of a static file, for its URL."""
    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:16]


def _shown(value: object) -> object:
    """Replace what would turn text around: names and words of others are data on every page."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def templates() -> jinja2.Environment:
    """Return the templates, in which everything is escaped."""
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
    """Render a page in the visitor's language. Templates have `say("…", places=…)`, `text(Text)`,
    `prose(Text)` (with code for what is in backquotes), `word("done")`, `moment(datetime)`,
    `some_of(names, 3)`;
    `link("/path")`, `here(place=…)`, `asset("name")`; and `visitor`, `language`, `path`,
    `wrong_file` (`Site.unread`), `trouble` (how many things need a person, for the title).
    """
    voice = voice_of(request)
    site = site_of(request)
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    path = path_of(request)

    def say(template: str, **places: object) -> str:
        return voice.say(Text(template, **places))

    def moment(value: datetime | None) -> str:
        if value is None:
            return ""
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            rfc3339(value), f"{value:%Y-%m-%d %H:%M:%S} UTC", f"{value:%Y-%m-%d %H:%M} UTC"
        )

    def prose(said: Text | str) -> Markup:
        words = escape(visible(said if isinstance(said, str) else voice.say(said)))
        typed = _TYPED.sub(r"<code>\1</code>", str(words))
        # Chromium breaks a line at the hyphens of a date.
        return Markup(_MOMENT.sub(r'<span class="moment">\g<0></span>', typed))  # noqa: S704 - it was escaped

    def some_of(names: Sequence[str], most: int) -> str:
        return voice.say(Text("{names}", names=first_of(names, most)))

    def here(**places: object) -> str:
        asked = [one for one in request.query_params.multi_items() if one[0] not in places]
        return f"{site.prefix}{quote(path)}?{urlencode([*asked, *places.items()])}"

    def asset(name: str) -> str:
        return f"{site.prefix}/static/{asset_digest(name)}/{name}"

    body = (
        templates()
        .get_template(template)
        .render(
            say=say,
            text=voice.say,
            prose=prose,
            some_of=some_of,
            word=voice.word,
            link=lambda path: site.prefix + path,
            asset=asset,
            moment=moment,
            visitor=visitor,
            language=voice.language,
            languages=LANGUAGE_NAMES,
            path=path,
            here=here,
            wrong_file=site.unread,
            **{"trouble": site.stored.troubles if visitor else 0, **view},
        )
    )
    return HTMLResponse(body, status, dict(headers or {}))
