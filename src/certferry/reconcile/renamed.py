"""A certificate that goes on under another name: what is at the targets is its own still."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.certificate import Certificate
from certferry.ports.state import StateStore


def carry_over(old: str, new: str, certificate: Certificate, state: StateStore) -> None:
    """Give `new` the copies of a certificate of `old`, and how far each domain is with it, so that
    nothing is uploaded or bound once more. A later certificate of `new` keeps its own.
    """
    if any(v.certificate.not_before > certificate.not_before for v in state.versions(new)):
        return
    remembered, fingerprint = state.remembered(old), certificate.fingerprint
    for upload in remembered.uploads:
        if upload.fingerprint == fingerprint:
            state.save_upload(replace(upload, lineage=new))
    for record in remembered.rollouts:
        if record.fingerprint == fingerprint:
            state.replace_rollout(None, replace(record, lineage=new))
