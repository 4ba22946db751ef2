"""The search of public logs with altered answers: certificates, or certferry's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given

from certferry.adapters.certspotter.search import CertSpotter, search_for
from certferry.core.assessment.transparency import after_read, judged
from certferry.core.observed.public_logs import WatchedDomain
from certferry.errors import LogSearchFailed
from certferry_sandbox.certspotter import CertSpotterService
from tests.adapters.certspotter.test_search import DOMAIN, NOW, entry
from tests.fuzz.altered_answers import Alteration, Altered, alterations
from tests.fuzz.outcomes import over_sockets


@pytest.fixture(scope="module")
def search() -> Iterator[tuple[Altered, CertSpotter]]:
    with ExitStack() as running:
        service = running.enter_context(CertSpotterService(now=lambda: NOW))
        for number in range(3):
            service.log_entry(entry(tbs_sha256=f"{number:064x}"))
        front = running.enter_context(Altered(service.url))
        yield front, search_for(lambda _: None, lambda: NOW, front.url, None)


@over_sockets
@given(alteration=alterations())
def test_altered_answers(search: tuple[Altered, CertSpotter], alteration: Alteration) -> None:
    """Each answer gives certificates that can be judged and stored, or an error of ours."""
    front, client = search
    front.turn = alteration.turns()

    with suppress(LogSearchFailed):
        page = client.page_after(DOMAIN, "")
        watched = WatchedDomain(DOMAIN, NOW, baseline_at=NOW)
        _, stored = after_read(watched, page, (), 0, NOW)
        judged(stored, [watched], (), (), NOW)
