"""Which file declares what is remembered, and what it declares no more.

A state may be that of several files. Each run for all certificates of a file notes that these are
this file's; what has no note is taken for this file's, too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from certferry.config.model import Settings
from certferry.core.certificates.certificate import Certificate
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.report import SyncReport, Undeclared
from certferry.errors import StateError
from certferry.ports.state import StateStore
from certferry.wiring.clock import now

_LABEL, _NAME = "[certificates]", "files"
_FORGOTTEN = ""
"""In place of a file: that it ends is meant."""


def with_undeclared(report: SyncReport, settings: Settings, state: StateStore) -> SyncReport:
    """Return the report of a run for all certificates with what the file declares no more, and keep
    that the others are this file's. The run reports what is wrong with the state by now.
    """
    if settings.certificates != settings.declared:
        return report
    with suppress(StateError):
        _note_declared(settings, state)
        return replace(report, undeclared=undeclared(settings, state, now()))
    return report


def _note_declared(settings: Settings, state: StateStore) -> None:
    """Keep that the declared certificates are this file's. Where that is known, nothing is
    written.
    """
    file = _called(settings)
    if file is None:
        return
    _change(dict.fromkeys((desired.lineage for desired in settings.declared), file), state)


def forget(lineage: str, state: StateStore) -> None:
    """Keep that a certificate is meant to end."""
    _change({lineage: _FORGOTTEN}, state)


def undeclared(settings: Settings, state: StateStore, moment: datetime) -> tuple[Undeclared, ...]:
    """Return what this file declares no more; nothing where only some of its certificates are
    chosen, or where there is no file.
    """
    file = _called(settings)
    if file is None or settings.certificates != settings.declared:
        return ()
    declared = {desired.lineage for desired in settings.declared}
    others = [one for one in state.lineages() if one not in declared]
    if not others:
        return ()
    return tuple(_undeclared(_ours(others, file, state), settings.declared, state, moment))


def newest(lineage: str, state: StateStore, moment: datetime) -> Certificate | None:
    """Return a lineage's newest certificate that is valid still."""
    valid = (version.certificate for version in state.versions(lineage))
    return next((one for one in valid if one.not_after > moment), None)


def _undeclared(
    lineages: Collection[str],
    certificates: Sequence[DesiredCertificate],
    state: StateStore,
    moment: datetime,
) -> Iterator[Undeclared]:
    lost = {one: certificate for one in lineages if (certificate := newest(one, state, moment))}
    if not lost:
        return
    versions = {desired.lineage: state.versions(desired.lineage) for desired in certificates}
    # One whose certificate goes on under another name (`certferry rename`) is not lost.
    kept = {one.certificate.fingerprint for known in versions.values() for one in known}
    for lineage, certificate in lost.items():
        same = (desired for desired in certificates if {*desired.names} == {*certificate.names})
        renamed_to = next(
            (desired.lineage for desired in same if not versions[desired.lineage]), None
        )
        if certificate.fingerprint not in kept:
            yield Undeclared(lineage, certificate, renamed_to)


def _ours(lineages: Collection[str], file: str, state: StateStore) -> list[str]:
    """Leave out those that are forgotten, and those of another file that is still there."""
    files = _files(state.account_note(_LABEL, _NAME))

    def is_ours(lineage: str) -> bool:
        known = files.get(lineage, file)
        return known == file or (known != _FORGOTTEN and not _exists(known))

    return [one for one in lineages if is_ours(one)]


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


def _called(settings: Settings) -> str | None:
    return None if settings.path is None else str(settings.path.resolve())


def _exists(file: str) -> bool:
    try:
        return Path(file).exists()
    except OSError:  # behind a directory that is closed
        return True
