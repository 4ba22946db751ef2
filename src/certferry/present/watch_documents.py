"""What `watch --json` prints. Keys may be added; none is renamed or taken away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from certferry.core.observed import Served
from certferry.core.served_chain import Presented
from certferry.core.watched import Concern, HostLook
from certferry.present.documents import Document, moment, of_trouble
from certferry.present.language import Voice


def of_looks(looks: Sequence[HostLook], now: datetime, voice: Voice) -> Document:
    """What one look prints."""
    hosts = [of_look(look, now, voice) for look in looks]
    return {"ok": all(look.ok for look in looks), "at": moment(now), "hosts": hosts}


def of_look(look: HostLook, now: datetime, voice: Voice) -> Document:
    """One host. It is ok when each address presents a certificate that is valid there, and no
    problem of severity `error` stands among those of all addresses together.
    """
    return {
        "host": look.host.name,
        "port": look.host.port,
        "ok": look.ok,
        "addresses": [_address(address, now, voice) for address in look.served],
        "problems": [_concern(concern, voice) for concern in look.concerns],
    }


def of_change(look: HostLook, now: datetime, voice: Voice) -> Document:
    """What `--follow` prints on one line for a host: how it stands since something changed."""
    return {"at": moment(now), **of_look(look, now, voice)}


def _address(address: Served, now: datetime, voice: Voice) -> Document:
    leaf = address.chain[0] if address.chain else None
    ends = address.not_after
    return {
        "address": address.address,
        "fingerprint": address.fingerprint,
        "ok": address.answered and address.valid,
        "not_after": moment(ends),
        "problem": of_trouble(address.problem, voice),
        "not_before": None if leaf is None else moment(leaf.not_before),
        "days_left": None if ends is None else (ends - now) // timedelta(days=1),
        "names": None if leaf is None else list(leaf.names),
        "issuer": None if leaf is None else leaf.issuer,
        "chain": [_issuer(issuer) for issuer in address.chain[1:]],
    }


def _issuer(issuer: Presented) -> Document:
    return {
        "subject": issuer.subject,
        "issuer": issuer.issuer,
        "fingerprint": issuer.fingerprint,
        "not_after": moment(issuer.not_after),
    }


def _concern(concern: Concern, voice: Voice) -> Document:
    return {
        "severity": "error" if concern.is_failure else "warning",
        **(of_trouble(concern.problem, voice) or {}),
        "addresses": list(concern.addresses),
    }
