"""What is recorded of the declared certificates, and what the settings and the disk say of them:
all that is judged without asking any service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from certferry.config.model import AccountTable, Settings
from certferry.core.assessment.health import Expected, Recorded
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery
from certferry.errors import ConfigError, StateMissing
from certferry.ports.state import StateStore
from certferry.reconcile.status import recorded as stored
from certferry.text import Text
from certferry.wiring.adapters import TARGETS, installed
from certferry.wiring.undeclared import undeclared


def recorded(settings: Settings, state: StateStore, moment: datetime) -> Recorded:
    """Read what is recorded, compared with what the settings declare. Raises `StateError` for what
    cannot be read at all.
    """
    known, lost = stored(state), lost_state(settings, state)
    problem = known.problem or (None if lost is None else lost.problem())
    return replace(known, problem=problem, undeclared=undeclared(settings, state, moment))


def lost_state(settings: Settings, state: StateStore) -> StateMissing | None:
    """Return what is wrong where there is the key file of a state, and the state remembers nothing:
    the next run would issue every certificate again. Raises `StateError`.
    """
    where = settings.state
    try:
        where.key_file.stat()
    except OSError:
        return None
    if state.last_run() is not None or state.lineages() or state.accounts():
        return None
    return StateMissing(
        Text(
            "there is the key file {key_file}, and {path} remembers nothing: a state was expected",
            key_file=where.key_file,
            path=where.path,
        ),
        hint=Text(
            "put {path} back from a backup, or correct `url` under [state]; otherwise the next"
            " `certferry sync` issues every certificate again",
            path=where.path,
        ),
    )


def expected(settings: Settings, known: Recorded) -> tuple[Expected, ...]:
    """Return what is expected of the certificates that the settings are for. Files are looked for
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
    which is reported when it is connected.
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
    """Return the files that are not there. One that this user may not look for may be there."""
    for path in paths:
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            yield path
        except OSError:
            continue
