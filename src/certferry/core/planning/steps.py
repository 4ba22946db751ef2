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
    """The kinds of step. `LOOK` is never planned: it is a whole visit to a lineage, or the reading
    of a target.
    """

    ISSUE = "issue"
    ADOPT = "adopt"
    DEPLOY = "deploy"
    VERIFY = "verify"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    CLEAN = "clean"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Not to be carried out in this run: it was waited for in vain, for an `error`; or it failed
    when it was tried at `tried_at`, by this run or by another one since this one began; or it
    failed before, or the CA would refuse it (`error`), and is left alone `until` then. None of
    these: what it needs is not there.
    """

    error: CertferryError | None = None
    tried_at: datetime | None = None
    until: datetime | None = None


Due = Waiting | Blocked | None
"""When a step is to be carried out: `None` now, after the steps before it; after a moment; or not
in this run.
"""


@dataclass(frozen=True, slots=True)
class Issue:
    """Order a certificate, or adopt one that was made elsewhere (`action`). `authorities` are the
    CAs that may be asked, each when those before it have failed; `standing` names, without `*.`,
    are proven by a record that stays (`core.dns_persist`).
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
    """Bind a certificate to a domain, uploading it first where needed. `fingerprint` is that of the
    version, `None` before it is issued; a `repair` undoes what another tool changed. Before
    `upload_by` the certificate has to be at the target, where it is not there yet. `left` are
    settings that stay as another tool set them, and are not in `https`.
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
    """Look until every address of the domain presents the certificate, then write that down: it is
    due once that was seen. `changes` are other settings that the target changed along with the
    certificate without being asked to.
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
    """Remove a remote certificate of ours that its successor has replaced, or `unmanaged` that
    nothing uses. `not_after` and `left` tell until when it is valid, where the target does.

    `again` marks one that the target has refused to let go of before: it is tried, and most likely
    nothing changes.
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
