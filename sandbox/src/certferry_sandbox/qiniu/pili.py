"""Pili, Qiniu's live streaming: hubs, their domains, and the certificates of these.

Paths, fields and the words of refusals are those of Qiniu's Go SDK (package `pili` and its
tests, docs/facts/qiniu.md §7). Which status comes with the words is in no document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal

from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.certificates import StoredCertificate, covers
from certferry_sandbox.qiniu.domains import Timeline
from certferry_sandbox.qiniu.signing import SignedCall

LiveType = Literal["publishRtmp", "liveRtmp", "liveHls", "liveHdl"]


@dataclass
class LiveDomain:
    """A domain of a hub. `disabled` is what the console can do to it."""

    name: str
    hub: str
    uid: int
    type: LiveType
    certificate: StoredCertificate | None
    disabled: bool = False

    def __post_init__(self) -> None:
        self.applied = Timeline(self.certificate)

    def bind(self, certificate: StoredCertificate, at_edges: datetime) -> None:
        """The detail shows it at once, the edges serve it later."""
        self.certificate = certificate
        self.applied.note(at_edges, certificate)


class Pili:
    """The hubs and live domains of all accounts, and the calls on them.

    Switches, to be turned at any time:
    `delay`: until the edges serve what was bound.
    `certificates_by`: whether `certName` is the name of an upload, as in certimate, or its id, as
    the sample value of the documents looks (§7).
    `not_found`: the status of what is not there.
    `names_certificates`: whether reads show `certName` beside `certEnable`.

    A certificate that a live domain is bound to can be deleted: that Pili is asked before is in no
    document, and the stand-in does the worst.
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
        """Take in a hub."""
        self._hubs[name] = uid

    def remove_hub(self, name: str) -> None:
        """Delete a hub with its domains, as its owner would."""
        del self._hubs[name]
        self._domains = {n: d for n, d in self._domains.items() if d.hub != name}

    def add_domain(self, domain: LiveDomain) -> None:
        """Take in a domain, and its hub if need be."""
        self._hubs.setdefault(domain.hub, domain.uid)
        self._domains[domain.name] = domain

    def remove_domain(self, name: str) -> None:
        """Take a domain out of its hub, as its owner would."""
        del self._domains[name]

    def find(self, name: str) -> LiveDomain | None:
        """The domain of this name, of any owner."""
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
        """`GET /v2/hubs/<hub>/domains/<domain>`: with the keys of its links, which are secret."""
        domain = self._domain(call)
        more = {
            "disable": domain.disabled,
            "disconnectDelay": 0,
            "playSecurity": {"type": "tsStartMD5", "key1": "a-key-of-links", "key2": ""},
        }
        return Response.json(self._item(domain) | more)

    def bind(self, call: SignedCall) -> Response:
        """`POST /v2/hubs/<hub>/domains/<domain>/cert`: 200 with nothing in it."""
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
        """The newest of those that have the name, or the one with the id."""
        by_id = self.certificates_by == "id"
        own = [one for one in self._stored() if one.uid == uid]
        found = [one for one in own if wanted == (one.id if by_id else one.name)]
        return found[-1] if found else None

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
