"""What every page needs: the settings in force, the state, and who starts runs; the request's user
and language; and how a template is rendered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from certferry.console.observing import Observer
from certferry.core.access import User
from certferry.core.observed.runs import RunKind, RunSource, StoredRun
from certferry.present.language import Voice, voice_in
from certferry.present.run_log import rfc3339
from certferry.text import Text
from certferry.wiring.workspace import Workspace

HERE = Path(__file__).parent
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
    """What is served. `workspace` returns what is in force: reading the settings anew replaces it.
    `prefix` is the path of the console's URL, without a slash at its end.
    """

    workspace: Callable[[], Workspace]
    starter: Starter
    prefix: str = ""
    is_https: bool = False
    observer: Observer = field(init=False)

    def __post_init__(self) -> None:
        self.observer = Observer(self.now)

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
    """Return who asks; the guard has let nobody else through."""
    found: Visitor = request.state.visitor
    return found


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


@cache
def templates() -> jinja2.Environment:
    """Return the templates, in which everything is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
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
    """Render a page in the visitor's language. In templates: `say("…", places=…)`, `text(Text)`,
    `link("/path")`, `asset("name")`, `moment(datetime)`, `here(place=…)`; and `visitor`,
    `language`, `path`, `trouble` (how many problems the title counts; a page may pass its own).
    """
    voice = voice_of(request)
    site = site_of(request)
    path = request.url.path

    def say(template: str, **places: object) -> str:
        return voice.say(Text(template, **places))

    def moment(value: datetime | None) -> str:
        if value is None:
            return ""
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            rfc3339(value), f"{value:%Y-%m-%d %H:%M:%S} UTC", f"{value:%Y-%m-%d %H:%M} UTC"
        )

    def here(**places: object) -> str:
        asked = {**request.query_params, **places}
        return f"{site.prefix}{quote(path)}?{urlencode(asked)}"

    def asset(name: str) -> str:
        return f"{site.prefix}/static/{asset_digest(name)}/{name}"

    body = (
        templates()
        .get_template(template)
        .render(
            say=say,
            text=voice.say,
            word=voice.word,
            link=lambda path: site.prefix + path,
            asset=asset,
            moment=moment,
            visitor=getattr(request.state, "visitor", None),
            language=voice.language,
            languages=LANGUAGE_NAMES,
            path=path,
            here=here,
            **{"trouble": 0, **view},
        )
    )
    return HTMLResponse(body, status, dict(headers or {}))
