"""A CDN domain of Qiniu in certferry's words, and the wish for one in Qiniu's
(docs/facts/qiniu.md §5.2 to §5.6).
"""

from __future__ import annotations

from datetime import datetime

from certferry.adapters.clients.qiniu_records import DomainItem, DomainRecord, HttpsConf
from certferry.core.desired import HttpsWish, Kind
from certferry.core.foreign_words import quoted, quoted_code
from certferry.core.https_settings import HttpsSettings
from certferry.core.identifiers import WILDCARD
from certferry.core.observed import DomainState, ObservedDomain
from certferry.core.target_task import TargetTask
from certferry.errors import DeployError, TargetBusy, TargetRejected
from certferry.text import LINEAGE, Text

NOT_SERVED_BY_ITSELF = frozenset({"pan", "test"})
"""Types of domains that take no certificate: children of a wildcard domain, and trial domains."""

_FROZEN = frozenset({"frozen", "notIcpFrozen"})
SWITCHED_OFF = frozenset({"offlined", "deleted", *_FROZEN})
"""States of domains that serve no visitors until the operator acts at Qiniu (§5.6)."""

_STATES = {
    "success": DomainState.READY,
    "processing": DomainState.PROCESSING,
    "failed": DomainState.FAILED,
}


_AT_WORK = {DomainState.PROCESSING, DomainState.FAILED}


def name_at_qiniu(domain: str) -> str:
    """Spell a domain for Qiniu, whose wildcards begin with the dot."""
    return domain.removeprefix("*") if domain.startswith(WILDCARD) else domain


def name_here(name: str) -> str:
    """Spell a domain of Qiniu's as certferry does."""
    lowered = name.lower()
    return f"*{lowered}" if lowered.startswith(".") else lowered


def kind_of(told: DomainItem | DomainRecord) -> Kind:
    """Return what a domain of the CDN's is: DCDN is in the same list (§5.1)."""
    return Kind.DCDN if told.product == "dcdn" else Kind.CDN


def observe(domain: str, record: DomainRecord) -> ObservedDomain:
    """Say what Qiniu told about a domain."""
    unusable = why_unusable(domain, record)
    state = _STATES.get(record.operating_state or "", DomainState.UNAVAILABLE)
    return ObservedDomain(
        domain=domain,
        kind=kind_of(record),
        state=state if unusable is None else DomainState.UNAVAILABLE,
        bound=record.bound,
        https=settings_of(record),
        problem=unusable or failed_change(record),
        binding_hidden=record.hides_https,
        task=_task(record) if state in _AT_WORK else None,
    )


def _task(record: DomainRecord) -> TargetTask:
    """Say what Qiniu tells of the change under way, or of the last one: a ticket quotes it. That
    `modifyAt` is when it began is a guess from what the field is called; our own record counts
    beside it (§5.2).
    """
    return TargetTask(
        state=quoted(record.operating_state or ""),
        operation=quoted(record.operation_type or "") or None,
        since=_moment(record.modify_at),
        number=quoted_code(str(record.oper_task_id or "")) or None,
    )


def _moment(written: object) -> datetime | None:
    """Read RFC 3339; what is none of it, or lacks its offset, says nothing."""
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def unavailable(domain: str, kind: Kind, error: DeployError) -> ObservedDomain:
    """Report a domain that cannot be seen or changed, and why."""
    return ObservedDomain(domain, kind, DomainState.UNAVAILABLE, problem=error)


def why_unusable(domain: str, record: DomainRecord) -> DeployError | None:
    """Say why a domain cannot be changed whatever one waits for, `None` when it can."""
    if record.type == "pan":
        parent = name_here(record.pare_domain or "")
        return TargetRejected(
            Text("{domain} takes its certificate from {parent}", domain=domain, parent=parent),
            hint=Text("name the wildcard domain under `domains` in its place"),
        )
    if record.type == "test":
        return TargetRejected(
            Text("{domain} is a trial domain of Qiniu's own", domain=domain),
            hint=Text("name a domain of yours under `domains`"),
        )
    if record.operating_state in _FROZEN or record.uid_is_freezed:
        return TargetRejected(
            Text("{domain} is frozen at Qiniu", domain=domain),
            hint=Text(
                "Qiniu's console says why (unpaid bill, ICP filing, content); lift that first"
            ),
        )
    if record.operating_state == "offlined":
        return TargetRejected(
            Text("{domain} is offline at Qiniu", domain=domain),
            hint=Text("bring it online in Qiniu's console, or take it out of `domains`"),
        )
    if record.operating_state == "deleted":
        return TargetRejected(
            Text("{domain} is deleted at Qiniu", domain=domain),
            hint=Text("add it in Qiniu's console under CDN, or correct `domains`"),
        )
    if record.operating_state == "waitCNAME":
        return TargetRejected(
            Text("{domain} waits at Qiniu for its CNAME", domain=domain),
            hint=Text(
                "set the CNAME that Qiniu's console shows for the domain, and wait for it to be"
                " seen"
            ),
        )
    return _why_not_by_self(domain, record)


def _why_not_by_self(domain: str, record: DomainRecord) -> DeployError | None:
    # While a change is carried out, whether another would be allowed says nothing about later.
    if record.operating_state == "processing":
        return None
    if record.could_operate_by_self is False:
        return TargetRejected(
            Text("{domain} cannot be changed by self-service at Qiniu", domain=domain),
            hint=Text("ask Qiniu's support, with the name of the domain, to lift the restriction"),
        )
    if record.operating_state not in _STATES:
        return TargetRejected(
            Text(
                "{domain} is {state} at Qiniu",
                domain=domain,
                state=quoted(record.operating_state or "—"),
            ),
            hint=Text("look at the domain in Qiniu's console"),
        )
    return None


def must_be_at_rest(domain: str, record: DomainRecord) -> None:
    """Refuse to write to a domain that Qiniu works on, or that cannot be changed.

    Raises `TargetBusy`, `TargetRejected`.
    """
    unusable = why_unusable(domain, record)
    if unusable is not None:
        raise unusable
    if record.operating_state == "processing":
        raise TargetBusy(
            Text(
                "Qiniu is still carrying out an earlier change of {domain} ({operation})",
                domain=domain,
                operation=quoted(record.operation_type or "—"),
            ),
            hint=Text(
                "changes take 5 to 15 minutes, at times hours; a later run goes on from here"
            ),
        )


def wanted_conf(record: DomainRecord, cert_id: str, wish: HttpsWish) -> HttpsConf:
    """Give what to send: the certificate, what is wished, and everything else as it is. What the
    domain does not show is not sent: a guess would replace it (§5.3).
    """
    if not record.has_https:
        return first_conf(cert_id, wish)
    found = settings_of(record)
    return HttpsConf(
        cert_id=cert_id,
        force_https=_first(wish.force_https, found.force_https),
        http2_enable=_first(wish.http2, found.http2),
        tls_versions=wish.tls_versions or found.tls_versions,
    )


def first_conf(cert_id: str, wish: HttpsWish) -> HttpsConf:
    """Give what to send where HTTPS is switched on for the first time: visitors are redirected only
    if that is wished.
    """
    return HttpsConf(
        cert_id=cert_id,
        force_https=bool(wish.force_https),
        http2_enable=bool(wish.http2),
        tls_versions=wish.tls_versions,
    )


def is_in_force(record: DomainRecord, conf: HttpsConf) -> bool:
    """Tell whether a domain is already as it is to be. One whose change failed may show what was
    asked for and serve something else.
    """
    found = settings_of(record)
    versions = None if conf.tls_versions is None else tuple(sorted(conf.tls_versions))
    return (
        record.operating_state != "failed"
        and record.bound == conf.cert_id
        and conf.force_https in {None, bool(found.force_https)}
        and conf.http2_enable in {None, bool(found.http2)}
        and found.tls_versions == versions
    )


def _first(wished: bool | None, found: bool | None) -> bool | None:  # noqa: FBT001 - two of a kind
    return found if wished is None else wished


def settings_of(record: DomainRecord) -> HttpsSettings:
    """Read the settings. Those of a domain without HTTPS are not in force and say nothing; neither
    do those that stand where a domain hides its own.
    """
    if record.https is None or not record.has_https or record.hides_https:
        return HttpsSettings()
    return HttpsSettings(
        force_https=record.https.force_https,
        http2=record.https.http2_enable,
        tls_versions=record.https.versions,
    )


def failed_change(record: DomainRecord) -> DeployError | None:
    """Say what the last change of a domain failed of, `None` when it did not."""
    if record.operating_state != "failed":
        return None
    description = record.operating_state_desc or "—"
    return TargetRejected(
        Text(
            "Qiniu could not carry out {operation}: {description}",
            operation=quoted(record.operation_type or "—"),
            # Known words are no foreign ones, and the history may keep them.
            description=description if description in _ADVICE else quoted(description),
        ),
        hint=_ADVICE.get(description, _LOOK),
    )


_LOOK = Text("look at the domain in Qiniu's console, or ask its support")
_ADVICE = {
    "verify https crt fail": Text(
        "Qiniu rejected the certificate; a new one is needed: `certferry sync --renew"
        " {lineage}`, or from the client that makes it",
        lineage=LINEAGE,
    ),
    "domain have no icp": Text(
        "domains served in mainland China need an ICP filing: file it, or set another area"
    ),
}
