"""Plans, reports and statuses as values, for transcripts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certferry.core.certificates.certificate import Certificate, KeyType
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredHttps
from certferry.core.observed.observation import Change
from certferry.core.planning.deliveries import NEW_CERTIFICATE
from certferry.core.planning.plan import (
    Deploy,
    Issue,
    Plan,
    PlanFinding,
    Retire,
    Rollout,
    Verify,
    Weight,
)
from certferry.core.planning.report import LineageReport, StepOutcome, SyncReport
from certferry.core.reasons import Reason, ReasonCode, Waiting
from certferry.errors import TargetRejected
from certferry.present.layout import Line, plain
from certferry.text import Text

NOON = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
OLD = "0123456789abcdef" * 4
NEW = "fedcba9876543210" * 4
IMG = "img.example.com"

HTTPS_OFF = Reason(ReasonCode.HTTPS_OFF, Text("HTTPS is off → will be turned on"))
DRIFTED = Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))
NOT_SEEN = Reason(ReasonCode.NOT_SEEN, Text("not yet seen at every address"))
SUPERSEDED = Reason(ReasonCode.SUPERSEDED, Text("superseded"))
DUE = Reason(
    ReasonCode.RENEWAL_DUE,
    Text(
        "renewal due ({left} left of {lifetime})",
        left=timedelta(days=29, hours=3),
        lifetime=timedelta(days=90),
    ),
)


def issue(*names: str, reason: Reason = DUE) -> Issue:
    return Issue(names or (IMG, f"*.{IMG}"), KeyType.EC256, reason)


def rollout(
    domain: str = IMG,
    reason: Reason = NEW_CERTIFICATE,
    changes: tuple[Change, ...] = (Change("certificate", OLD, None, remote_id="5f3c"),),
) -> Rollout:
    deploy = Deploy("qiniu", domain, DesiredHttps(), reason, changes)
    return Rollout("qiniu", domain, (deploy, Verify("qiniu", domain, NOT_SEEN)))


WHEN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def look(domain: str = IMG) -> Rollout:
    """Return a verification without a deployment, whose certificate is not served
    everywhere yet.
    """
    waiting = Waiting(Text("1 of 2 addresses do not serve it yet"), WHEN, WHEN)
    return Rollout("qiniu", domain, (Verify("qiniu", domain, NOT_SEEN, when=waiting),))


def retire(label: str = "certferry-img-0123456789abcdef0123") -> Retire:
    return Retire("qiniu", "5f3c", label, SUPERSEDED)


def retire_unmanaged(remote_id: str, label: str, left: timedelta | None) -> Retire:
    """Return a retirement of another owner's certificate."""
    reason = Reason(ReasonCode.UNUSED, Text('retire = "all-unused"; kept if anything uses it'))
    end = None if left is None else NOON + left
    return Retire("qiniu", remote_id, label, reason, end, left, unmanaged=True)


def plan(
    *rollouts: Rollout,
    issue: Issue | None = None,
    retirements: tuple[Retire, ...] = (),
    findings: tuple[PlanFinding, ...] = (),
    retire_later: tuple[tuple[str, int], ...] = (),
    lineage: str = "img",
) -> Plan:
    return Plan(
        lineage,
        (IMG, f"*.{IMG}"),
        issue=issue,
        rollouts=rollouts,
        retirements=retirements,
        findings=findings,
        retire_later=retire_later,
    )


def frozen(domain: str | None = "a.img.example.com") -> PlanFinding:
    """Return the finding about a domain that cannot be changed, or a target that cannot be read."""
    error = TargetRejected(
        Text("{domain}: frozen at the CDN", domain=domain or "qiniu"),
        hint=Text("unfreeze it in the console"),
    )
    return PlanFinding.of(Weight.BLOCKED, error, "qiniu", domain)


def too_short(domain: str = IMG) -> PlanFinding:
    step = rollout(domain).deploy
    assert step is not None
    reason = Reason(
        ReasonCode.TOO_LITTLE_LIFE,
        Text(
            "{left} left, but {target} accepts only certificates with at least {wanted} left",
            left=timedelta(days=6),
            target="qiniu",
            wanted=timedelta(days=30),
        ),
    )
    return PlanFinding.refused(step, reason, Text("use a CA whose certificates live longer"))


def waiting(
    why: str = "the target is carrying out the change",
    *,
    since: datetime = NOON,
    look_again: timedelta = timedelta(seconds=10),
) -> Waiting:
    return Waiting(Text(why), since, since + look_again, since + timedelta(hours=1))


def report(*lineages: LineageReport, complete: bool = True) -> SyncReport:
    return SyncReport(lineages, complete)


def lineage(*outcomes: StepOutcome, name: str = "img") -> LineageReport:
    return LineageReport(name, NEW, outcomes)


UNSEEN = LineageReport("static", None, (), was_observed=False)
"""A lineage that a stopped run did not reach."""


def certificate(
    fingerprint: str = NEW, *, not_before: datetime = NOON, lifetime: timedelta = timedelta(days=90)
) -> Certificate:
    return Certificate(
        fingerprint=fingerprint,
        names=(IMG, f"*.{IMG}"),
        common_name=IMG,
        serial="2a",
        issuer="Test Issuer",
        not_before=not_before,
        not_after=not_before + lifetime,
        key_type="ec256",
    )


def version(number: int = 1, of: Certificate | None = None) -> Version:
    return Version(number, of or certificate(), NOON)


def text_of(lines: list[Line] | tuple[Line, ...]) -> str:
    return "".join(plain(line) + "\n" for line in lines)
