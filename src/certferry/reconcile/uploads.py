"""Have a version at a target once, however many of its domains want it."""

from __future__ import annotations

from datetime import timedelta

from certferry.core.lineage import Version, mark
from certferry.core.upload import Upload
from certferry.reconcile.doors import Doors
from certferry.reconcile.history import record

LISTED_WITHIN = timedelta(minutes=10)
"""How long an upload of ours may be missing from a target's list (Qiniu fact sheet §5.1: lists lag
behind writes), before it counts as gone and is made anew."""


class Uploads:
    """The uploads of one lineage, as the state knows them."""

    def __init__(self, lineage: str, doors: Doors) -> None:
        self._lineage = lineage
        self._doors = doors

    def of(self, version: Version, target: str) -> str:
        """Give the remote id of a version, which is uploaded where it is not known to be there."""
        remembered = self._remembered(target, version.certificate.fingerprint)
        return remembered or self._upload(target, version)

    def forget(self, version: Version, target: str) -> None:
        """Remember no longer that a version is there: it is uploaded anew."""
        for upload in self._doors.state.uploads(self._lineage, target):
            if upload.fingerprint == version.certificate.fingerprint:
                self._doors.state.drop_upload(target, upload.remote_id)

    def _remembered(self, target: str, fingerprint: str) -> str | None:
        """Find an upload that is too young to be missed in a list that lags behind."""
        oldest = self._doors.now() - LISTED_WITHIN
        uploads = self._doors.state.uploads(self._lineage, target)
        young = (u for u in uploads if u.fingerprint == fingerprint and u.uploaded_at >= oldest)
        return next((upload.remote_id for upload in young), None)

    def _upload(self, target: str, version: Version) -> str:
        bundle = self._doors.state.bundle(self._lineage, version.number)
        remote_id = self._doors.targets[target].upload(self._lineage, bundle)
        fingerprint = version.certificate.fingerprint
        self._doors.state.save_upload(
            Upload(
                lineage=self._lineage,
                target=target,
                remote_id=remote_id,
                label=mark(self._lineage, fingerprint),
                fingerprint=fingerprint,
                uploaded_at=self._doors.now(),
            )
        )
        record(
            self._doors,
            self._lineage,
            "uploaded",
            target=target,
            remote_id=remote_id,
            fingerprint=fingerprint,
        )
        return remote_id
