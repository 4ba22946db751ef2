"""Certificates that the file declares no more: renamed, or gone from it. Each is mentioned once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from certferry.cli.options import Front
from certferry.config.model import Settings
from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate
from certferry.core.history import HistoryEntry
from certferry.errors import StateError
from certferry.ports.progress import no_listener
from certferry.ports.state import StateStore
from certferry.present.layout import Tone, labelled
from certferry.present.vocabulary import WARNING
from certferry.text import Text
from certferry.wiring.looking import open_to_look
from certferry.wiring.session import open_session, who_runs

UNDECLARED = "undeclared"
"""The event of the history that says so, and by which it is known to be said."""


def tell_of_undeclared(settings: Settings, front: Front, *, record: bool) -> None:
    """Tell of each certificate in the state that the file has no more; with `record`, for the last
    time. What is wrong with the state is told by the run itself.
    """
    with suppress(StateError):
        with open_to_look(settings) as session:
            renamed = _renamed(settings, session.state)
            gone = _gone(settings, session.state)
        for old, new in renamed.items():
            _warn(_how_to_rename(old, new), front)
        left = [one for one in gone if one not in renamed]
        for old in left:
            _warn(_no_longer(old, gone[old]), front)
        if record and left:
            with open_session(settings, progress=no_listener) as session:
                for old in left:
                    entry = HistoryEntry(datetime.now(UTC), old, UNDECLARED, who_runs())
                    session.state.append_history(entry)


def newest(lineage: str, state: StateStore) -> Certificate | None:
    """Give a lineage's newest certificate that is valid still."""
    valid = (v.certificate for v in state.versions(lineage))
    return next((one for one in valid if one.not_after > datetime.now(UTC)), None)


def _lost(settings: Settings, state: StateStore) -> Iterator[tuple[str, Certificate]]:
    declared = {wish.lineage for wish in settings.certificates}
    for lineage in state.lineages():
        certificate = newest(lineage, state) if lineage not in declared else None
        if certificate is not None:
            yield lineage, certificate


def _renamed(settings: Settings, state: StateStore) -> dict[str, str]:
    """Give old names with new ones, whose certificate is not there yet."""
    fresh = [wish for wish in settings.certificates if not state.versions(wish.lineage)]
    return {
        lineage: wish.lineage
        for lineage, certificate in _lost(settings, state)
        for wish in _for_the_same(certificate, fresh)
    }


def _for_the_same(
    certificate: Certificate, wishes: Sequence[DesiredCertificate]
) -> Iterator[DesiredCertificate]:
    return (wish for wish in wishes if {*wish.names} == {*certificate.names})


def _gone(settings: Settings, state: StateStore) -> dict[str, Certificate]:
    """Give those that were not told of since they were declared last. One whose certificate goes on
    under another name (`certferry rename`) is not gone.
    """

    def is_told(lineage: str) -> bool:
        return any(entry.event == UNDECLARED for entry in state.history(lineage, 1))

    lost = {one: of for one, of in _lost(settings, state) if not is_told(one)}
    if not lost:
        return {}
    kept = {
        version.certificate.fingerprint
        for wish in settings.certificates
        for version in state.versions(wish.lineage)
    }
    return {one: of for one, of in lost.items() if of.fingerprint not in kept}


def _how_to_rename(old: str, new: str) -> Text:
    return Text(
        "{old} has exactly the names of {new}: `certferry rename {old} {new}` keeps its"
        " certificate, and no new one is issued",
        old=old,
        new=new,
    )


def _no_longer(old: str, certificate: Certificate) -> Text:
    return Text(
        "{lineage} is not declared any more: certferry no longer renews or deploys it; its"
        " certificate is valid until {moment}",
        lineage=old,
        moment=certificate.not_after,
    )


def _warn(text: Text, front: Front) -> None:
    if not front.quiet:
        say = front.voice.say
        front.console.remark(labelled(say(WARNING), Tone.PENDING, say(text)))
