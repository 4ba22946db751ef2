"""What is recorded of the declared certificates, and what the settings and the disk say of them;
which file declares what is remembered, and what it declares no more.

A state may be that of several files. Each run for all certificates of a file notes that these are
this file's; what has no note is taken for this file's, too. Where hosts share the state, each run
declares what its file has instead, and what no host declares is taken for this file's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from certferry.config.model import AccountTable, Settings
from certferry.core.assessment.health import Expected, Recorded
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, Certificate
from certferry.core.certificates.lineage import Versions
from certferry.core.desired.certificate import DesiredCertificate, FileDelivery
from certferry.core.desired.declaration import Outdated, digest_of_declaration, outdated
from certferry.core.planning.report import SyncReport
from certferry.core.planning.undeclared import Undeclared
from certferry.errors import ConfigError, StateError, StateMissing
from certferry.ports.state import StateStore
from certferry.reconcile.observe import is_source_elsewhere
from certferry.reconcile.status import recorded as stored
from certferry.text import Text
from certferry.wiring.adapters import installed

_LABEL, _NAME = "[certificates]", "files"
_FORGOTTEN = ""
"""In place of a file: that it ends is meant."""


def outdated_in(settings: Settings, state: StateStore, *, writes: bool) -> Mapping[str, Outdated]:
    """Return the lineages of which another host's declaration counts in place of this file's. What
    the file declares is stored, where the state is shared and the run `writes`.
    """
    if not state.is_shared:
        return {}
    digests = {one.lineage: digest_of_declaration(one) for one in settings.declared}
    if writes:
        state.declare(digests, _name_of(settings), lambda file: not _exists(file))
    return outdated(state.contested(digests), state.host)


def domains_elsewhere(settings: Settings, state: StateStore) -> Mapping[tuple[str, str], str]:
    """Return the domains, by target and domain, of lineages that only other hosts' files declare:
    those that a run of theirs has observed. What has not been observed yet is not known here.
    """
    if not state.is_shared:
        return {}
    declared = {desired.lineage for desired in settings.declared}
    places = [one for one in state.sightings() if one.domain and one.lineage not in declared]
    elsewhere = state.declared_among({one.lineage for one in places}, _name_of(settings))
    return {(one.target, one.domain): one.lineage for one in places if one.lineage in elsewhere}


def with_undeclared(report: SyncReport, settings: Settings, state: StateStore) -> SyncReport:
    """Return the report with what the file declares no more, and store what it declares."""
    if settings.certificates != settings.declared:
        return report
    with suppress(StateError):
        if settings.path is not None:
            lineages = [one.lineage for one in settings.declared]
            if state.is_shared:
                known = _files(state.account_note(_LABEL, _NAME))
                lineages = [one for one in lineages if known.get(one) == _FORGOTTEN]
            _change(dict.fromkeys(lineages, _name_of(settings)), state)
        return replace(report, undeclared=undeclared(settings, state, state.now()))
    return report


def must_be_declared_nowhere(lineage: str, settings: Settings, state: StateStore) -> None:
    """Raise `ConfigError` for a lineage that another host's file declares."""
    for hosts in state.declared_among([lineage], besides=_name_of(settings)).values():
        raise ConfigError(
            Text("{lineage} is declared on {hosts}", lineage=lineage, hosts=list(hosts)),
            hint=Text("take it out of the file there, and run `certferry sync` there, first"),
        )


def forget(lineage: str, state: StateStore) -> None:
    """Store that the operator means a certificate to end."""
    _change({lineage: _FORGOTTEN}, state)


def undeclared(settings: Settings, state: StateStore, moment: datetime) -> tuple[Undeclared, ...]:
    """Return what this file declares no more; nothing for a choice of certificates, or no file."""
    if settings.path is None or settings.certificates != settings.declared:
        return ()
    declared = {desired.lineage for desired in settings.declared}
    others = [one for one in state.lineages() if one not in declared]
    if not others:
        return ()
    ours = _ours(others, _name_of(settings), state)
    return tuple(_undeclared(ours, settings.declared, state, moment))


def newest(versions: Versions, moment: datetime) -> Certificate | None:
    """Return a lineage's newest certificate that is valid still."""
    valid = (version.certificate for version in versions)
    return next((one for one in valid if one.not_after > moment), None)


def _undeclared(
    ours: Iterable[str], declared: Sequence[DesiredCertificate], state: StateStore, moment: datetime
) -> Iterator[Undeclared]:
    ends = {one: newest(known, moment) for one, known in state.versions_of(ours).items()}
    lost = {one: certificate for one, certificate in ends.items() if certificate is not None}
    if not lost:
        return
    versions = state.versions_of(desired.lineage for desired in declared)
    # One whose certificate goes on under another name (`certferry rename`) is not lost.
    kept = {one.fingerprint for known in versions.values() for one in known}
    for lineage, certificate in lost.items():
        same = (
            desired.lineage
            for desired in declared
            if {*desired.names} == {*certificate.names} and not versions[desired.lineage]
        )
        if certificate.fingerprint not in kept:
            yield Undeclared(lineage, certificate, next(same, None))


def _ours(lineages: Collection[str], file: str, state: StateStore) -> list[str]:
    """Leave out those that are forgotten, and those of another file that is still there, or of
    another host's.
    """
    files = _files(state.account_note(_LABEL, _NAME))
    elsewhere = state.declared_among(lineages, besides=file) if state.is_shared else ()

    def is_ours(lineage: str) -> bool:
        known = files.get(lineage, file)
        if state.is_shared:
            return known != _FORGOTTEN and lineage not in elsewhere
        return known == file or (known != _FORGOTTEN and not _exists(known))

    return [one for one in lineages if is_ours(one)]


def _name_of(settings: Settings) -> str:
    return "" if settings.path is None else str(settings.path.resolve())


def _change(more: Mapping[str, str], state: StateStore) -> None:
    before = _files(state.account_note(_LABEL, _NAME))
    if {**before, **more} == before:
        return

    def change(note: str | None) -> str | None:
        return json.dumps({**_files(note), **more}, sort_keys=True)

    state.update_account_note(_LABEL, _NAME, change)


def _files(note: str | None) -> dict[str, str]:
    try:
        return {str(lineage): str(file) for lineage, file in json.loads(note or "{}").items()}
    except (ValueError, AttributeError):
        return {}


def _exists(file: str) -> bool:
    try:
        return Path(file).exists()
    except OSError:  # behind a directory that is closed
        return True


def recorded(settings: Settings, state: StateStore, moment: datetime) -> Recorded:
    """Read what is recorded, compared with what is declared. Raises `StateError`."""
    known, lost = stored(state), lost_state(settings, state)
    problem = known.problem or (None if lost is None else lost.problem())
    elsewhere = frozenset(
        one.lineage
        for one in settings.certificates
        if one.files is not None and is_source_elsewhere(one.lineage, state)
    )
    return replace(
        known,
        problem=problem,
        undeclared=undeclared(settings, state, moment),
        sources_elsewhere=elsewhere,
    )


def lost_state(settings: Settings, state: StateStore) -> StateMissing | None:
    """Return that a key file is there and the state remembers nothing. Raises `StateError`."""
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
        Text(
            "there is the key file {key_file}, and {path} remembers nothing: a state was expected"
        ).filled(key_file=key_file, path=path),
        hint=Text(
            "put {path} back (`certferry restore FILE`), or correct `url` under [state]; otherwise"
            " the next"
            " `certferry sync` issues every certificate again",
            path=path,
        ),
    )


def expected(settings: Settings, known: Recorded) -> tuple[Expected, ...]:
    """Return what is expected of the certificates, with their files that are gone."""
    least = {label: _least_life(table) for label, table in settings.accounts.items()}
    delivered = {(one.lineage, one.domain) for one in known.sightings if one.fingerprint}
    return tuple(
        Expected(
            desired.lineage,
            desired.files is not None,
            least_life(desired, least),
            tuple(_gone(_files_of(desired, known, delivered))),
        )
        for desired in settings.certificates
    )


def least_life(desired: DesiredCertificate, of_accounts: Mapping[str, timedelta]) -> timedelta:
    """Return how long a certificate must be valid when all of its targets are to take it in."""
    wanted = [of_accounts.get(one.target, timedelta(0)) for one in desired.deployments]
    return max(wanted, default=timedelta(0))


def _least_life(table: AccountTable) -> timedelta:
    """Return what an account's target asks for; connecting a broken one reports it."""
    target = installed().target_of(table)
    return timedelta(0) if target is None else target.least_life(table.values)


def _files_of(
    desired: DesiredCertificate, known: Recorded, delivered: set[tuple[str, str]]
) -> Iterator[str]:
    if desired.files is not None and desired.lineage not in known.sources_elsewhere:
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
