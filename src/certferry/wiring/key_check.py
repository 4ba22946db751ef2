"""Check new keys by a first call: whether the service takes them at all."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from certferry.ports.progress import no_listener
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, installed
from certferry.wiring.looking import zones_of
from certferry.wiring.session import Session

if TYPE_CHECKING:
    from certferry.config.model import Settings
    from certferry.ports.examination import Examined


def let_in(settings: Settings, label: str, *, language: str) -> bool:
    """Make the first calls that read at an account, of one family or both, and tell whether there
    were any: some services have none. Changes nothing, not even an empty state is made. Raises the
    `CertferryError` with which it refuses them all.
    """
    with ExitStack() as resources:
        session = _Caller(settings, no_listener, resources, language=language, looks_only=True)
        return session.call(label, settings.accounts[label].type)


class _Caller(Session):
    def call(self, label: str, type_: str) -> bool:
        has_called = False
        if installed().is_known(DNS_PROVIDERS, type_):
            has_called = zones_of(self, label) is not None
        if installed().is_known(TARGETS, type_):
            target = self.accounts.target(label)
            if hasattr(target, "examine"):
                cast("Examined", target).examine(label)
                has_called = True
        return has_called
