"""Compare the stored records with the declared certificates and the files on the disk. Store which
file declares which certificate, to find certificates that are no longer declared.

Several files may use the same state. Each run for all certificates of a file stores a note that
these lineages belong to the file. If hosts share the state, each run instead stores the file's
declarations. A lineage without another file or host counts as belonging to the present run's file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from certferry.adapters.state.columns import UNREADABLE
from certferry.config.model import AccountTable, Settings
from certferry.core.assessment.health import Expected, Recorded
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, Certificate
from certferry.core.certificates.lineage import Versions
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery
from certferry.core.desired.declaration import (
    Outdated,
    digest_of_declaration,
    outdated,
    unproven_receivers,
)
from certferry.core.planning.report import SyncReport, Undeclared
from certferry.errors import ConfigError, StateError, StateMissing
from certferry.ports.state import StateStore
from certferry.reconcile.observe import is_source_elsewhere
from certferry.reconcile.reads import recorded as stored
from certferry.reconcile.run import Change
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.adapters import installed
from certferry.wiring.looks import with_current_looks

if TYPE_CHECKING:
    from certferry.core.assessment.watching import Watching

T = TypeVar("T")

_LABEL, _NAME = "[certificates]", "files"
_FORGOTTEN = ""
"""Stored in place of a file's name, if the operator lets the certificate expire."""


def outdated_in(settings: Settings, state: StateStore, *, writes: bool) -> Mapping[str, Outdated]:
    """Return the lineages for which another host's declaration is newer than the declaration in
    this file; empty if the state is not shared. With `writes`, store this file's declarations in a
    shared state. Raises `StateError`.
    """
    if not state.is_shared:
        return {}
    digests = {desired.lineage: digest_of_declaration(desired) for desired in settings.declared}
    if writes:
        state.declare(digests, _name_of(settings), lambda file: not _exists(file))
    return outdated(state.contested(digests), state.host)


def domains_elsewhere(settings: Settings, state: StateStore) -> Mapping[tuple[str, str], str]:
    """Return the lineages declared only in other hosts' files, by target and domain. Domains that
    no run has observed yet are missing. Empty if the state is not shared.
    """
    if not state.is_shared:
        return {}
    declared = {desired.lineage for desired in settings.declared}
    places = [
        sighting
        for sighting in state.sightings()
        if sighting.domain and sighting.lineage not in declared
    ]
    elsewhere = state.declared_among({sighting.lineage for sighting in places}, _name_of(settings))
    return {
        (sighting.target, sighting.domain): sighting.lineage
        for sighting in places
        if sighting.lineage in elsewhere
    }


def with_undeclared(report: SyncReport, settings: Settings, state: StateStore) -> SyncReport:
    """Return the report with the certificates no longer declared, and store which lineages belong
    to this file. After a run for only some certificates, or an error of the state, return the
    report unchanged.
    """
    if settings.certificates != settings.declared:
        return report
    with suppress(StateError):
        if settings.path is not None:
            lineages = [desired.lineage for desired in settings.declared]
            if state.is_shared:
                files = _files(state.account_note(_LABEL, _NAME))
                lineages = [lineage for lineage in lineages if files.get(lineage) == _FORGOTTEN]
            _change(dict.fromkeys(lineages, _name_of(settings)), state)
        return replace(report, undeclared=undeclared(settings, state, state.now()))
    return report


def must_be_declared_nowhere(lineage: str, settings: Settings, state: StateStore) -> None:
    """Raise `ConfigError` for a lineage that, in a state shared by hosts, another file declares."""
    for hosts in state.declared_among([lineage], besides=_name_of(settings)).values():
        raise ConfigError(
            Text("{lineage} is declared on {hosts}", lineage=lineage, hosts=list(hosts)),
            hint=Text(
                "first remove the certificate from the file there, and run `certferry sync` there"
            ),
        )


def forget(lineage: str, state: StateStore) -> None:
    """Store the operator's decision to let a certificate expire."""
    _change({lineage: _FORGOTTEN}, state)


def undeclared(settings: Settings, state: StateStore, moment: datetime) -> tuple[Undeclared, ...]:
    """Return the valid certificates that belong to this file and are no longer declared. Return an
    empty tuple without a file, or if only some certificates were chosen.
    """
    if settings.path is None or settings.certificates != settings.declared:
        return ()
    declared = {desired.lineage for desired in settings.declared}
    others = [lineage for lineage in state.lineages() if lineage not in declared]
    if not others:
        return ()
    ours = _ours(others, _name_of(settings), state)
    return tuple(_undeclared(ours, settings.declared, state, moment))


def newest(versions: Versions, moment: datetime) -> Certificate | None:
    """Return a lineage's newest certificate that is still valid; `None` without one."""
    valid = (version.certificate for version in versions)
    return next((certificate for certificate in valid if certificate.not_after > moment), None)


def _undeclared(
    ours: Iterable[str], declared: Sequence[DesiredCertificate], state: StateStore, moment: datetime
) -> Iterator[Undeclared]:
    """Yield the certificates that are still valid among `ours`: the lineages that belong to this
    file and are no longer declared. A certificate kept under another name is left out.
    """
    ends = {
        lineage: newest(history, moment) for lineage, history in state.versions_of(ours).items()
    }
    lost = {
        lineage: certificate for lineage, certificate in ends.items() if certificate is not None
    }
    if not lost:
        return
    versions = state.versions_of(desired.lineage for desired in declared)
    # A certificate kept under another name (`certferry rename`) is not lost.
    kept = {version.fingerprint for history in versions.values() for version in history}
    for lineage, certificate in lost.items():
        same = (
            desired.lineage
            for desired in declared
            if {*desired.names} == {*certificate.names} and not versions[desired.lineage]
        )
        if certificate.fingerprint not in kept:
            yield Undeclared(lineage, certificate, next(same, None))


def _ours(lineages: Collection[str], file: str, state: StateStore) -> list[str]:
    """Return the lineages that belong to this file: not forgotten, not declared by another host,
    and not of another file that still exists.
    """
    files = _files(state.account_note(_LABEL, _NAME))
    elsewhere = state.declared_among(lineages, besides=file) if state.is_shared else ()

    def is_ours(lineage: str) -> bool:
        owner = files.get(lineage, file)
        if state.is_shared:
            return owner != _FORGOTTEN and lineage not in elsewhere
        return owner == file or (owner != _FORGOTTEN and not _exists(owner))

    return [lineage for lineage in lineages if is_ours(lineage)]


def _name_of(settings: Settings) -> str:
    return "" if settings.path is None else str(settings.path.resolve())


def _change(more: Mapping[str, str], state: StateStore) -> None:
    before = _files(state.account_note(_LABEL, _NAME))
    if {**before, **more} == before:
        return

    def change(note: str | None) -> str | None:
        return json.dumps({**_files(note), **more}, sort_keys=True)

    state.update_account_note(_LABEL, _NAME, change)


def read_note(note: str | None, read: Callable[[Any], T], otherwise: T) -> T:
    """Return the result of `read` for the note's JSON value. If the note is absent, or was not
    written by certferry, return `otherwise`.
    """
    if note is None:
        return otherwise
    try:
        return read(json.loads(note))
    except (*UNREADABLE, StateError):
        return otherwise


def _files(note: str | None) -> dict[str, str]:
    def read(files: dict[str, str]) -> dict[str, str]:
        return {str(lineage): str(file) for lineage, file in files.items()}

    return read_note(note, read, {})


def _exists(file: str) -> bool:
    try:
        return Path(file).exists()
    except OSError:  # behind a directory closed to this user
        return True


def recorded(settings: Settings, state: StateStore, moment: datetime) -> Recorded:
    """Read the records and compare the records with the declarations. Raises `StateError`."""
    records, lost = stored(state), lost_state(settings, state)
    problem = records.problem or (None if lost is None else lost.problem())
    elsewhere = frozenset(
        desired.lineage
        for desired in settings.certificates
        if desired.files is not None and is_source_elsewhere(desired.lineage, state)
    )
    notices = tuple(records.notices)
    with suppress(StateError):  # the key is missing: `problem` says so, and the notices stay
        notices = with_current_looks(settings, state, records)(notices)
    return replace(
        records,
        notices=notices,
        watching=_watching(settings, state, records.sightings),
        problem=problem,
        undeclared=undeclared(settings, state, moment),
        sources_elsewhere=elsewhere,
    )


def _watching(
    settings: Settings, state: StateStore, sightings: Sequence[Sighting]
) -> Watching | None:
    """Return the watched hosts; `None` if the file watches none, or if only some certificates were
    chosen.
    """
    if not settings.watches or settings.certificates != settings.declared:
        return None
    from certferry.wiring.watching import shown

    return shown(settings, state, sightings)


def lost_state(settings: Settings, state: StateStore) -> StateMissing | None:
    """Return an error if the key file exists but the state's file holds no state; otherwise `None`,
    also for a state on a server or in a bucket. Raises `StateError`.
    """
    path, key_file = settings.state.path, settings.state.key_file
    if path is None or key_file is None:
        return None
    try:
        key_file.stat()
    except OSError:
        return None
    if state.last_run() is not None or state.is_sealed():
        return None
    return StateMissing(
        Text("the key file {key_file} exists, but {path} holds no state").filled(
            key_file=key_file, path=path
        ),
        hint=Text(
            "put {path} back (`certferry restore FILE`), or correct `url` under [state]; otherwise"
            " the next"
            " `certferry sync` issues every certificate again",
            path=path,
        ),
    )


def expected(settings: Settings, records: Recorded) -> tuple[Expected, ...]:
    """Return what is expected of each certificate: its source, the required validity, and the files
    that are missing.
    """
    least = {label: _least_life(table) for label, table in settings.accounts.items()}
    delivered = {
        (sighting.lineage, sighting.domain)
        for sighting in records.sightings
        if sighting.fingerprint
    }
    return tuple(
        Expected(
            desired.lineage,
            desired.files is not None,
            least_life(desired, least),
            tuple(_gone(_files_of(desired, records, delivered))),
            unproven_receivers(desired),
        )
        for desired in settings.certificates
    )


def least_life(desired: DesiredCertificate, of_accounts: Mapping[str, timedelta]) -> timedelta:
    """Return the remaining validity that a new certificate needs so that all targets accept it."""
    wanted = [
        of_accounts.get(deployment.target, timedelta(0)) for deployment in desired.deployments
    ]
    return max(wanted, default=timedelta(0))


def _least_life(table: AccountTable) -> timedelta:
    """Return the validity required by an account's target. Return zero for a broken target, which
    is reported when the account is connected.
    """
    target = installed().target_of(table)
    return timedelta(0) if target is None else target.least_life(table.values)


def _files_of(
    desired: DesiredCertificate, records: Recorded, delivered: set[tuple[str, str]]
) -> Iterator[str]:
    if desired.files is not None and desired.lineage not in records.sources_elsewhere:
        yield desired.files.fullchain
        yield desired.files.privkey
    for deployment in desired.deployments:
        delivery = deployment.delivery
        if (
            isinstance(delivery, FileDelivery)
            and deployment.is_on_this_host
            and (desired.lineage, delivery.directory) in delivered
        ):
            for name in (FULLCHAIN, PRIVKEY):
                yield str(Path(delivery.directory, name))


def _gone(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths at which a file is missing. A path that this user may not see does not count
    as missing.
    """
    for path in paths:
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            yield path
        except OSError:
            continue


def change_notices(state: StateStore, change: Change) -> None:
    """Store the changed notices; write nothing if all notices stay."""
    before = state.notices()
    if {*change(before)} != {*before}:
        state.update_notices(change)
