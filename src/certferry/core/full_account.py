"""The refusal of an upload to an account that takes no more certificates."""

from __future__ import annotations

from certferry.core.desired import DesiredCertificate
from certferry.core.observed import Observation
from certferry.core.plan import Refusal
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.steps import Deploy
from certferry.text import Text

_NEEDED = 2
"""Versions that are not superseded: the one in force, and the one before it to go back to."""


def refuse_upload(
    step: Deploy, desired: DesiredCertificate, observed: Observation
) -> Refusal | None:
    """Refuse a deployment to a full account, unless its certificate lies there already. One that is
    yet to be issued (no `fingerprint`) does not.
    """
    target = observed.target_of(step.target, step.domain)
    quota, fingerprint = target.quota, step.fingerprint
    if quota is None or (fingerprint and target.remote_of(fingerprint) is not None):
        return None
    needed = {version.certificate.fingerprint for version in observed.versions[:_NEEDED]}
    sentence = Text(
        "{target} holds {held} certificates, and refused one more when it held {most}",
        target=step.target,
        held=quota.held,
        most=quota.most,
    )
    hint = Text(
        'remove unused ones in its console, set retire = "all-unused" to have that done, or ask'
        " its support for more; superseded ones of {lineage} there: {count}. It is tried again"
        " after {moment}",
        lineage=desired.lineage,
        count=sum(remote.fingerprint not in needed for remote in target.remotes),
        moment=quota.until,
    )
    return Refusal(step, Reason(ReasonCode.ACCOUNT_FULL, sentence), hint)
