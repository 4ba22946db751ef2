"""The records of the declared certificates, and what the settings and the disk say of them:
all that is judged without asking any service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from certferry.config.model import AccountTable, Settings
from certferry.core.assessment.health import Expected, Recorded
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery
from certferry.errors import ConfigError, StateError
from certferry.ports.state import StateStore
from certferry.reconcile.unended_runs import notices_of_unended
from certferry.wiring.adapters import TARGETS, installed


def recorded(state: StateStore) -> Recorded:
    """Read what is recorded of every certificate. Raises `StateError` for what cannot be read at
    all.
    """
    problem = None
    try:
        state.must_unseal()
    except StateError as error:
        problem = error
    return Recorded(
        state.versions_in_use(),
        state.sightings(),
        (*state.notices(), *notices_of_unended(state)),
        state.last_run(),
        problem,
    )


def expected(settings: Settings, known: Recorded) -> tuple[Expected, ...]:
    """Say what is expected of the certificates that the settings are for. Files are looked for
    where a certificate is read, and where one was delivered.
    """
    least = {label: _least_life(table) for label, table in settings.accounts.items()}
    delivered = {(one.lineage, one.domain) for one in known.sightings if one.fingerprint}
    return tuple(
        Expected(
            desired.lineage,
            desired.files is not None,
            least_life(desired, least),
            tuple(_gone(_files_of(desired, delivered))),
        )
        for desired in settings.certificates
    )


def least_life(desired: DesiredCertificate, of_accounts: Mapping[str, timedelta]) -> timedelta:
    """Return how long a certificate must be valid when all of its targets are to take it in."""
    wanted = [of_accounts.get(one.target, timedelta(0)) for one in desired.deployments]
    return max(wanted, default=timedelta(0))


def _least_life(table: AccountTable) -> timedelta:
    """Return what an account's target asks for; nothing where it is no target, or a broken one,
    which is told when it is connected.
    """
    try:
        if not installed().is_known(TARGETS, table.type):
            return timedelta(0)
        return installed().find(TARGETS, table.type).least_life(table.values)
    except ConfigError:
        return timedelta(0)


def _files_of(desired: DesiredCertificate, delivered: set[tuple[str, str]]) -> Iterator[str]:
    if desired.files is not None:
        yield desired.files.fullchain
        yield desired.files.privkey
    for deployment in desired.deployments:
        delivery = deployment.delivery
        if (
            isinstance(delivery, FileDelivery)
            and (desired.lineage, delivery.directory) in delivered
        ):
            for name in (FULLCHAIN, PRIVKEY):
                yield str(Path(delivery.directory, name))


def _gone(paths: Iterable[str]) -> Iterator[str]:
    """Give the files that are not there. One that this user may not look for may be there."""
    for path in paths:
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            yield path
        except OSError:
            continue
