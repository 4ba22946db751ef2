"""What is said of a deployment that safety refuses: why, and what to do instead."""

from __future__ import annotations

from datetime import datetime, timedelta

from certferry.core import issue_reasons
from certferry.core.desired import DesiredCertificate
from certferry.core.lineage import Version
from certferry.core.plan import Refusal
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.revocation import Revocation
from certferry.core.steps import Deploy
from certferry.text import Text


def name_not_covered(step: Deploy, desired: DesiredCertificate) -> Refusal:
    """The certificate does not cover the domain."""
    sentence = Text("{domain} is not covered by {names}", domain=step.domain, names=desired.names)
    hint = Text(
        "add {domain} to the names of {lineage}, or take it out of `domains`",
        domain=step.domain,
        lineage=desired.lineage,
    )
    return _refused(step, ReasonCode.NAME_NOT_COVERED, sentence, hint)


def key_mismatch(step: Deploy, desired: DesiredCertificate) -> Refusal:
    """The private key is another certificate's."""
    sentence = Text("the private key does not belong to the certificate")
    hint = Text("run `certferry sync --renew {lineage}` for a new pair", lineage=desired.lineage)
    return _refused(step, ReasonCode.KEY_MISMATCH, sentence, hint)


def chain_incomplete(step: Deploy, desired: DesiredCertificate) -> Refusal:
    """Issuer certificates are missing, or stand in another order."""
    sentence = Text("the chain is incomplete: the leaf is not followed by its issuer certificates")
    hint = Text(
        "run `certferry sync --renew {lineage}` for a new certificate with its chain",
        lineage=desired.lineage,
    )
    return _refused(step, ReasonCode.CHAIN_INCOMPLETE, sentence, hint)


def revoked(step: Deploy, desired: DesiredCertificate, revocation: Revocation) -> Refusal:
    """The certificate was revoked."""
    return Refusal(step, revocation.why, _another_one(desired))


def expired(
    step: Deploy, desired: DesiredCertificate, version: Version, now: datetime
) -> Refusal | None:
    """The certificate, or what signed it, is not valid any more; `None` where both are."""
    not_after = version.certificate.not_after
    reason = issue_reasons.issuer_expired(version, now)
    if not_after <= now:
        sentence = Text("the certificate expired at {moment}", moment=not_after)
        reason = Reason(ReasonCode.EXPIRED, sentence)
    return None if reason is None else Refusal(step, reason, _another_one(desired))


def too_little_life(
    step: Deploy, desired: DesiredCertificate, *, left: timedelta, wanted: timedelta
) -> Refusal:
    """The certificate ends too soon for the target to take it."""
    sentence = Text(
        "{left} left, and {target} takes certificates with at least {wanted}",
        left=left,
        target=step.target,
        wanted=wanted,
    )
    hint = Text(
        "use a profile or CA whose certificates live longer, or set `min_remaining_days` of the"
        " account {target} if it takes shorter ones",
        target=step.target,
    )
    if desired.files is not None:
        hint = Text("renew it with its own client; the next run deploys the files")
    return _refused(step, ReasonCode.TOO_LITTLE_LIFE, sentence, hint)


def common_name_missing(step: Deploy) -> Refusal:
    """The target asks for a common name, and the certificate has none."""
    sentence = Text("{target} refuses certificates without a common name", target=step.target)
    hint = Text("use a profile that sets one (`classic`)")
    return _refused(step, ReasonCode.COMMON_NAME_MISSING, sentence, hint)


def _refused(step: Deploy, code: ReasonCode, sentence: Text, hint: Text) -> Refusal:
    return Refusal(step, Reason(code, sentence), hint)


def _another_one(desired: DesiredCertificate) -> Text:
    if desired.files is not None:
        return Text("renew it with its own client; the present certificate stays until then")
    return Text(
        "the next run tries again to issue one; `certferry history {lineage}` tells why"
        " there is none. The present certificate stays until then",
        lineage=desired.lineage,
    )
