"""The steps that a plan can hold, as values, and when each is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import Authority, DesiredHttps, Kind
from certferry.core.observed.observation import Change
from certferry.core.reasons import Reason
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError


class Action(StrEnum):
    """The kinds of step."""

    ISSUE = "issue"
    ADOPT = "adopt"
    DEPLOY = "deploy"
    VERIFY = "verify"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The run does not wait any longer: the change failed, or takes too long (`error`)."""

    error: CertferryError


@dataclass(frozen=True, slots=True)
class TriedInThisRun:
    """The step failed at this moment, in this run or in another one since this one began."""

    at: datetime


@dataclass(frozen=True, slots=True)
class HeldUntil:
    """The step failed before, or the CA would refuse the order (`error`): not before a moment."""

    until: datetime
    error: CertferryError | None = None


@dataclass(frozen=True, slots=True)
class NotReady:
    """What the step needs is missing: a certificate, or the arrival of another one."""


NotInThisRun = TimedOut | TriedInThisRun | HeldUntil | NotReady

Due = Waiting | NotInThisRun | None
"""When a step is to be carried out: `None` now, after the steps before it; after a moment; or not
in this run.
"""


@dataclass(frozen=True, slots=True)
class Issue:
    """Order a certificate, or adopt one that was made elsewhere (`action`). `authorities` are the
    CAs that may be asked, each when those before it have failed; the names `standing`, without
    `*.`, are proven by a record that stays (`core.dns_persist`).
    """

    names: tuple[str, ...]
    key_type: KeyType
    reason: Reason
    action: Action = Action.ISSUE
    due: Due = None
    authorities: tuple[Authority, ...] = ()
    standing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deploy:
    """Bind a certificate to a domain, after an upload where needed. `fingerprint` is that of the
    version, `None` before it is issued; a `repair` undoes what another tool changed. `upload_by` is
    the last moment to upload it, where it is not there yet. `left` are settings that stay as
    another tool set them, and are not in `https`.
    """

    target: str
    domain: str
    https: DesiredHttps
    reason: Reason
    changes: tuple[Change, ...] = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.DEPLOY
    due: Due = None
    fingerprint: str | None = None
    repair: bool = False
    upload_by: datetime | None = None
    left: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Verify:
    """Wait until every address of the domain presents the certificate, then store that. `changes`
    are settings that the target changed along with the certificate, unasked.
    """

    target: str
    domain: str
    reason: Reason
    changes: tuple[Change, ...] = ()
    kind: Kind = Kind.AUTO
    action: Action = Action.VERIFY
    due: Due = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """Withdraw the certificate with this `fingerprint` from a domain for good, so that the previous
    one, valid until `previous_until`, is bound again.
    """

    target: str
    domain: str
    reason: Reason
    fingerprint: str
    previous_until: datetime
    kind: Kind = Kind.AUTO
    action: Action = Action.ROLLBACK
    due: Due = None


@dataclass(frozen=True, slots=True)
class Retire:
    """Remove a copy of ours that its successor has replaced, or an `unmanaged` one that nothing
    uses. `not_after` and `left` are how long it is valid, where the target says. `again`: the
    target has refused its removal before, and most likely does so again.
    """

    target: str
    remote_id: str
    label: str
    reason: Reason
    not_after: datetime | None = None
    left: timedelta | None = None
    unmanaged: bool = False
    again: bool = False
    action: Action = Action.RETIRE
    due: Due = None


@dataclass(frozen=True, slots=True)
class Clean:
    """Remove challenge records that an earlier run left in DNS."""

    reason: Reason
    action: Action = Action.CLEAN


Step = Issue | Deploy | Verify | Rollback | Retire | Clean
