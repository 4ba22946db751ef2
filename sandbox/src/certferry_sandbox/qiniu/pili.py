"""Pili, Qiniu's live streaming: hubs, live domains, and the certificates of live domains.

Paths, fields and the words of refusals come from Qiniu's Go SDK (package `pili` with tests,
docs/facts/qiniu.md §7). The HTTP statuses of the refusals are undocumented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal

from certferry_sandbox.edges import Timeline
from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.certificates import StoredCertificate, covers
from certferry_sandbox.qiniu.signing import SignedCall

LiveType = Literal["publishRtmp", "liveRtmp", "liveHls", "liveHdl"]


@dataclass
class LiveDomain:
    """A domain of a hub. `disabled`: the console has switched the domain off."""

    name: str
    hub: str
    uid: int
    type: LiveType
    certificate: StoredCertificate | None
    disabled: bool = False

    def __post_init__(self) -> None:
        self.applied = Timeline(self.certificate)

    def bind(self, certificate: StoredCertificate, at_edges: datetime) -> None:
        """Bind a certificate: reads show the binding now, edges serve it from `at_edges` on."""
        self.certificate = certificate
        self.applied.note(at_edges, certificate)


class Pili:
    """The hubs and live domains of all accounts, and the calls on them.

    Switches, which may change at any time:
    `delay`: the time between a binding and the first handshake with the new certificate.
    `certificates_by`: whether `certName` is the name of an upload, as in certimate, or the id, as
    the documents' sample suggests (§7).
    `not_found`: the status for a missing hub or domain.
    `names_certificates`: whether reads show `certName` beside `certEnable`.

    A certificate can be deleted while a live domain is bound to it. The documents do not say
    whether Qiniu allows such a deletion; the stand-in assumes the worst.
    """

    def __init__(
        self,
        stored: Callable[[], list[StoredCertificate]],
        delay: timedelta,
    ) -> None:
        self.delay = delay
        self.certificates_by: Literal["name", "id"] = "name"
        self.not_found: Literal[404, 612] = 404
        self.names_certificates = True
        self._stored = stored
        self._hubs: dict[str, int] = {}
        self._domains: dict[str, LiveDomain] = {}

    def add_hub(self, name: str, uid: int) -> None:
        """Add a hub."""
        self._hubs[name] = uid

    def remove_hub(self, name: str) -> None:
        """Remove a hub and the domains of the hub, as the owner would."""
        del self._hubs[name]
        self._domains = {n: d for n, d in self._domains.items() if d.hub != name}

    def add_domain(self, domain: LiveDomain) -> None:
        """Add a domain, and the hub if missing."""
        self._hubs.setdefault(domain.hub, domain.uid)
        self._domains[domain.name] = domain

    def remove_domain(self, name: str) -> None:
        """Remove a domain, as the owner would."""
        del self._domains[name]

    def find(self, name: str) -> LiveDomain | None:
        """Return the domain of this name, of any account."""
        return self._domains.get(name)

    def hubs(self, call: SignedCall) -> Response:
        """`GET /v2/hubs`."""
        own = [{"name": name} for name, uid in self._hubs.items() if uid == call.uid]
        return Response.json({"items": own})

    def domains(self, call: SignedCall) -> Response:
        """`GET /v2/hubs/<hub>/domains`."""
        self._must_be_a_hub(call.name, call.uid)
        there = [self._item(d) for d in self._domains.values() if d.hub == call.name]
        return Response.json({"domains": there})

    def read(self, call: SignedCall) -> Response:
        """`GET /v2/hubs/<hub>/domains/<domain>`: the domain with the secret keys of links."""
        domain = self._domain(call)
        more = {
            "disable": domain.disabled,
            "disconnectDelay": 0,
            "playSecurity": {"type": "tsStartMD5", "key1": "a-key-of-links", "key2": ""},
        }
        return Response.json(self._item(domain) | more)

    def bind(self, call: SignedCall) -> Response:
        """`POST /v2/hubs/<hub>/domains/<domain>/cert`: 200 with an empty body."""
        domain = self._domain(call)
        wanted = call.fields("SetDomainCertArgs").string("certName")
        if not wanted:
            raise _bad("invalid args")
        certificate = self._certificate(wanted, call.uid)
        if certificate is None:
            raise _bad("cert not found")
        if not covers(certificate.names, domain.name):
            raise _bad("cert does not match the domain")
        if domain.disabled:
            raise _bad("domain is disabled")
        domain.bind(certificate, call.now + self.delay)
        return Response(HTTPStatus.OK)

    def _domain(self, call: SignedCall) -> LiveDomain:
        hub, _, name = call.name.partition("/domains/")
        self._must_be_a_hub(hub, call.uid)
        domain = self._domains.get(name)
        if domain is None or domain.hub != hub:
            raise Refused(None, "no such domain", status=self.not_found)
        return domain

    def _must_be_a_hub(self, hub: str, uid: int) -> None:
        if self._hubs.get(hub) != uid:
            raise Refused(None, "hub not found", status=self.not_found)

    def _certificate(self, wanted: str, uid: int) -> StoredCertificate | None:
        """Return the account's newest upload with the name or id `wanted`, or None."""
        by_id = self.certificates_by == "id"
        own = [stored for stored in self._stored() if stored.uid == uid]
        matches = [stored for stored in own if wanted == (stored.id if by_id else stored.name)]
        return matches[-1] if matches else None

    def _item(self, domain: LiveDomain) -> dict[str, Any]:
        bound = domain.certificate
        shows = bound is not None and self.names_certificates
        name = (bound.id if self.certificates_by == "id" else bound.name) if bound else ""
        return {
            "type": domain.type,
            "domain": domain.name,
            "cname": f"{domain.name}.qiniudns.test",
            "certEnable": bound is not None,
            "certName": name if shows else "",
        }


def _bad(words: str) -> Refused:
    return Refused(None, words, status=HTTPStatus.BAD_REQUEST)
