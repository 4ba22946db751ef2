"""What `status --json` prints."""

from __future__ import annotations

from collections.abc import Sequence

from certferry.core.domain_status import DomainStatus
from certferry.core.foreign_words import quoted
from certferry.core.needs_attention import are_in_order
from certferry.core.notice import Notice
from certferry.core.observed import Served
from certferry.core.renewal import RenewalWindow
from certferry.core.status import LineageStatus, Remembering
from certferry.core.trouble import LastFailure
from certferry.present.documents import (
    Document,
    moment,
    of_error,
    of_reason,
    of_trouble,
    of_undeclared,
)
from certferry.present.language import Voice
from certferry.present.tickets import ticket


def of_statuses(
    statuses: Sequence[LineageStatus], remembering: Remembering, voice: Voice
) -> Document:
    """What `status` prints. It is ok when nothing needs a person."""
    last = remembering.last_run
    return {
        "ok": are_in_order(statuses, remembering),
        "last_run": None
        if last is None
        else {"ended_at": moment(last.ended_at), "succeeded_at": moment(last.succeeded_at)},
        "problem": of_trouble(remembering.problem, voice),
        "troubles": [_trouble_of_runs(one, voice) for one in remembering.troubles],
        "undeclared": [of_undeclared(one, voice) for one in remembering.undeclared],
        "certificates": [_lineage_status(status, voice) for status in statuses],
    }


def _trouble_of_runs(notice: Notice, voice: Voice) -> Document:
    return {
        "channel": notice.subject.channel or None,
        "code": notice.code,
        "message": voice.say(notice.message),
        "hint": None if notice.hint is None else voice.say(notice.hint),
        "since": moment(notice.since),
    }


def _lineage_status(status: LineageStatus, voice: Voice) -> Document:
    version = status.version
    certificate = None if version is None else version.certificate
    fingerprint = None if certificate is None else certificate.fingerprint
    return {
        "name": status.lineage,
        "names": list(status.names),
        "version": None if version is None else version.number,
        "serial": None if certificate is None else certificate.serial,
        "fingerprint": fingerprint,
        "issuer": None if certificate is None else certificate.issuer,
        "not_before": None if certificate is None else moment(certificate.not_before),
        "not_after": None if certificate is None else moment(certificate.not_after),
        "renew_at": moment(status.renew_at),
        "renewal_window": _window(status.window),
        "reason": None if status.reason is None else of_reason(status.reason, voice),
        "state": status.condition.value,
        "problem": of_trouble(status.problem, voice),
        "last_failure": _last_failure(status.last_failure, voice),
        "domains": [_domain_status(domain, fingerprint, voice) for domain in status.domains],
        "notices": [
            *(
                {"target": target, "domain": None, "error": of_error(error, voice)}
                for target, error in status.notices
            ),
            *(
                {"target": one.target, "domain": one.domain, "error": of_error(one.error, voice)}
                for one in status.left_out
            ),
        ],
    }


def _window(window: RenewalWindow | None) -> Document | None:
    """Write the CA's window, with the address of the page on which it says why."""
    if window is None:
        return None
    page = None if window.page is None else quoted(window.page)
    return {"start": moment(window.start), "end": moment(window.end), "explanation_url": page}


def _domain_status(domain: DomainStatus, current: str | None, voice: Voice) -> Document:
    fingerprint = domain.fingerprint or current
    return {
        "target": domain.target,
        "kind": domain.kind.value,
        "domain": domain.domain,
        "state": domain.standing.value,
        "remote_id": domain.remote_id,
        "upload_deadline": moment(domain.upload_deadline),
        "not_after": moment(domain.not_after),
        "problem": of_trouble(domain.problem, voice),
        "last_failure": _last_failure(domain.last_failure, voice),
        **({"ticket": ticket(domain.ticket)} if domain.ticket else {}),
        "served": [
            {
                "address": address.address,
                "fingerprint": address.fingerprint,
                "ok": _is_valid(address) and address.fingerprint == fingerprint,
                "problem": of_trouble(address.problem, voice),
            }
            for address in domain.served
        ],
    }


def _last_failure(failure: LastFailure | None, voice: Voice) -> Document | None:
    """Write what the last try ended in, since when tries have, and when they are made again."""
    if failure is None:
        return None
    return {
        **(of_trouble(failure.trouble, voice) or {}),
        "since": moment(failure.since),
        "at": moment(failure.at),
        "again_at": moment(failure.again_at),
    }


def _is_valid(address: Served) -> bool:
    return address.answered and address.valid
