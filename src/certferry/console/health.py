"""What monitors ask over HTTP: whether certferry works, and the metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from certferry.console.site import site_of
from certferry.core.assessment.hosts import away_since
from certferry.errors import CertferryError
from certferry.wiring.monitoring import metrics_of
from certferry.wiring.workspace import Workspace

METRICS = "text/plain; version=0.0.4"
"""The format of Prometheus (docs/facts/receivers.md §3)."""


def healthz(request: Request) -> Response:
    """Answer 200 while the state answers and runs end, else 503; anyone may ask, and learns no
    more.
    """
    try:
        is_well = _is_well(site_of(request).workspace())
    except CertferryError:
        is_well = False
    return PlainTextResponse("ok\n" if is_well else "not ok\n", 200 if is_well else 503)


def _is_well(workspace: Workspace) -> bool:
    """Return whether this host runs: it does not stay away, and has begun a run at all."""
    state = workspace.state
    own = [host for host in state.hosts() if host.name == state.host]
    has_run = any(one.last_run or one.running_since for one in own)
    return has_run and all(away_since(one, state.now()) is None for one in own)


def metrics(request: Request) -> Response:
    """Answer with what the file of metrics holds."""
    workspace = site_of(request).workspace()
    text = metrics_of(workspace.settings, workspace.state, {})
    return PlainTextResponse(text, media_type=METRICS)


ROUTES = (
    Route("/healthz", healthz, name="healthz"),
    Route("/metrics", metrics, name="metrics"),
)
