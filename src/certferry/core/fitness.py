"""Whether a certificate could be served at all: its key, its chain, and its life beside what a
target wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from certferry.core.desired import DesiredCertificate
from certferry.core.findings import Code, Finding, error, warning
from certferry.core.issue_reasons import issuer_expired
from certferry.core.lineage import Version
from certferry.core.observed import ObservedTarget
from certferry.text import Text

TIGHT = timedelta(days=7)
"""A run that fails for this long, over a holiday, should still find a way to upload."""

_RENEWED = Text("run `certferry sync --renew {lineage}`")
_RENEWED_ELSEWHERE = Text("have its own client issue it again; certferry only deploys {lineage}")


def judge_version(
    desired: DesiredCertificate, version: Version, now: datetime
) -> Iterator[Finding]:
    """Judge the version in force by itself."""
    lineage = desired.lineage
    fix = (_RENEWED if desired.files is None else _RENEWED_ELSEWHERE).filled(lineage=lineage)
    if not version.key_matches:
        said = Text("the private key does not belong to the certificate")
        yield error(Code.KEY_MISMATCH, lineage, said, fix)
    if not version.chain_complete:
        said = Text("the chain is incomplete: the leaf is not followed by its issuer certificates")
        yield error(Code.CHAIN_INCOMPLETE, lineage, said, fix)
    if version.certificate.not_after <= now:
        said = Text("the certificate expired at {moment}", moment=version.certificate.not_after)
        yield error(Code.EXPIRED, lineage, said, fix)
    unsigned = issuer_expired(version, now)
    if unsigned is not None:
        yield error(Code.ISSUER_EXPIRED, lineage, unsigned.message, fix)


def judge_at_target(
    desired: DesiredCertificate, version: Version, target: ObservedTarget
) -> Iterator[Finding]:
    """Judge certificates like this one by what a target takes: the common name, and how long after
    its beginning one can be uploaded.
    """
    lineage, certificate, rules = desired.lineage, version.certificate, target.rules
    if rules.needs_common_name and not certificate.common_name:
        said = Text("{target} refuses certificates without a common name", target=target.label)
        fix = Text("use a profile that sets one (`classic`)")
        yield error(Code.COMMON_NAME_MISSING, lineage, said, fix)
    if rules.min_remaining:
        window = rules.upload_deadline(certificate) - certificate.not_before
        yield from _life(lineage, version, target, window)


def _life(
    lineage: str, version: Version, target: ObservedTarget, window: timedelta
) -> Iterator[Finding]:
    """Tell when the time between the issuance and the last upload is too little."""
    lifetime = version.certificate.lifetime
    fix = Text(
        "use a profile or CA whose certificates live longer, or set `min_remaining_days` of the"
        " account {target} if it takes shorter ones",
        target=target.label,
    )
    if window <= timedelta(0):
        said = Text(
            "certificates like this live {lifetime}, and {target} takes those with {wanted} left",
            lifetime=lifetime,
            target=target.label,
            wanted=target.rules.min_remaining,
        )
        yield error(Code.LIFETIME_TOO_SHORT, lineage, said, fix)
    elif window < TIGHT:
        said = Text(
            "certificates like this live {lifetime}, of which {window} are left to upload them to"
            " {target}",
            lifetime=lifetime,
            window=window,
            target=target.label,
        )
        yield warning(Code.LIFETIME_TIGHT, lineage, said, fix)
