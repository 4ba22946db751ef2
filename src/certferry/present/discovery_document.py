"""What `discover --json` prints; see `present.documents` for what holds of every document."""

from __future__ import annotations

from certferry.core.discovery import Bound, DiscoveredCertificate, DiscoveredDomain, Discovery
from certferry.core.observed import Served
from certferry.present.documents import Document, moment, of_error, of_trouble
from certferry.present.language import Voice


def of_discovery(found: Discovery, voice: Voice) -> Document:
    """Write down everything that was found; what is not known is null. `accounts` are those that
    were looked at, `problems` what could not be.
    """
    return {
        "ok": not any(problem.is_failure for problem in found.problems),
        "accounts": [look.label for look in found.accounts],
        "domains": [_domain(one, voice) for one in found.domains],
        "certificates": [_certificate(one) for one in found.certificates],
        "problems": [
            {
                "account": one.account,
                "severity": "error" if one.is_failure else "warning",
                "problem": of_error(one.error, voice),
            }
            for one in found.problems
        ],
    }


def _domain(one: DiscoveredDomain, voice: Voice) -> Document:
    found = one.found
    is_told = found.has_https or not found.binding_hidden
    return {
        "account": one.account,
        "domain": found.domain,
        "kind": found.kind.value,
        "state": found.state,
        "https": found.has_https if is_told else None,
        "settings": {
            "force_https": found.https.force_https,
            "http2": found.https.http2,
            "tls_versions": None
            if found.https.tls_versions is None
            else list(found.https.tls_versions),
        },
        "bound": None if one.bound is None else _bound(one.bound),
        "not_after": moment(one.not_after),
        "covered_by": list(one.covered_by),
        "deployed_by": one.deployed_by,
        "by_itself": found.by_itself,
        "served": [_served(address, voice) for address in one.served],
        "problem": None if one.problem is None else of_error(one.problem, voice),
    }


def _bound(bound: Bound) -> Document:
    return {
        "remote_id": bound.remote_id,
        "fingerprint": bound.fingerprint,
        "names": None if bound.names is None else list(bound.names),
        "not_after": moment(bound.not_after),
        "owner": None if bound.owner is None else bound.owner.value,
    }


def _served(address: Served, voice: Voice) -> Document:
    return {
        "address": address.address,
        "fingerprint": address.fingerprint,
        "not_after": moment(address.not_after),
        "ok": address.answered and address.valid,
        "problem": of_trouble(address.problem, voice),
    }


def _certificate(one: DiscoveredCertificate) -> Document:
    return {
        "account": one.account,
        "remote_id": one.found.remote_id,
        "name": one.found.label,
        "names": None if one.found.names is None else list(one.found.names),
        "fingerprint": one.fingerprint,
        "not_after": moment(one.found.not_after),
        "owner": one.owner.value,
        "bound_to": list(one.bound_to),
    }
