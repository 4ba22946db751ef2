"""Qiniu's API for Pili, its live streaming: hubs, their domains, and the certificates of these.

Paths and fields are those of Qiniu's Go SDK, package `pili` (docs/facts/qiniu.md §7). What the SDK
does not say is marked [G], a guess.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import msgspec

from certferry.adapters.clients.qiniu_pages import Page, all_pages
from certferry.adapters.clients.qiniu_records import HOST
from certferry.adapters.clients.qiniu_reply import read_reply
from certferry.adapters.clients.qiniu_transport import Asked, QiniuTransport, encoded
from certferry.adapters.clients.qiniu_ways import CallGroup
from certferry.text import Text

_HUB = r"^[A-Za-z0-9_.-]+$"
"""What a hub's name may be, since it becomes part of the address of calls [G]."""

RTMP = frozenset({"publishRtmp", "liveRtmp"})
"""Types of domains that are spoken to by RTMP; the others, `liveHls` and `liveHdl`, by HTTP."""


class Hub(msgspec.Struct, frozen=True):
    """A hub (直播空间) in the list."""

    name: Annotated[str, msgspec.Meta(pattern=_HUB)]


class HubPage(msgspec.Struct, frozen=True):
    """The list of hubs, each still to be decoded. The SDK knows no pages of it; a `marker` would be
    one [G].
    """

    items: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None


class LiveRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A domain of a hub, in the list and by itself; only the latter tells `disable`.

    `cert_name` is the name that the certificate was uploaded under, or its id (§7: the documents'
    sample looks like one). It is empty without a certificate, and may stay empty with one [G].
    """

    domain: Annotated[str, msgspec.Meta(pattern=HOST)]
    type: str | None = None
    cert_enable: bool | None = None
    cert_name: str | None = None
    disable: bool | None = None

    @property
    def bound(self) -> str | None:
        """What names the certificate in force, `None` without one or where it is not told. A name
        that is left while HTTPS is off binds nothing [G].
        """
        return (self.cert_name or None) if self.cert_enable is not False else None

    @property
    def hides_binding(self) -> bool:
        """Whether it has a certificate and does not say which."""
        return bool(self.cert_enable) and not self.cert_name

    @property
    def speaks_rtmp(self) -> bool:
        """Whether players or encoders reach it by RTMP, and browsers do not."""
        return self.type in RTMP


class LivePage(msgspec.Struct, frozen=True):
    """The domains of a hub, each still to be decoded; see `HubPage`."""

    domains: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None


class SetCertificate(msgspec.Struct, frozen=True, rename="camel"):
    """The body that binds a domain."""

    cert_name: str


class PiliClient:
    """Pili, for one account. Safe to share between threads; raises `QiniuFailure` throughout."""

    def __init__(self, transport: QiniuTransport) -> None:
        self._transport = transport

    @property
    def is_there(self) -> bool:
        """Whether the account has an address for Pili: a mirror of Qiniu may have none."""
        return self._transport.has(CallGroup.LIVE)

    def list_hubs(self) -> list[str]:
        """Return the names of the account's hubs."""
        what = Text("the list of hubs")

        def page(marker: str) -> Page:
            found = self._transport.read(_page_of("/v2/hubs", marker, what), HubPage)
            return found.items or (), found.marker or ""

        return [hub.name for hub in all_pages(what, page, Hub, lambda hub: hub.name)]

    def list_domains(self, hub: str) -> list[LiveRecord]:
        """Return the domains of a hub."""
        what = Text("the domains of hub {hub}", hub=hub)

        def page(marker: str) -> Page:
            asked = _page_of(f"/v2/hubs/{hub}/domains", marker, what)
            found = self._transport.read(asked, LivePage)
            return found.domains or (), found.marker or ""

        return all_pages(what, page, LiveRecord, lambda record: record.domain)

    def read_domain(self, hub: str, domain: str) -> LiveRecord:
        """Return a domain as it is now. The answer also holds the keys that its links are signed
        with, which are not read.
        """
        what = Text("the live domain {domain}", domain=domain)
        asked = _asked("GET", f"/v2/hubs/{hub}/domains/{domain}", what, repeatable=True)
        return self._transport.read(asked, LiveRecord)

    def bind(self, hub: str, domain: str, certificate: str) -> str:
        """Bind a domain to the certificate of a name, whatever it is bound to; return X-Reqid."""
        what = Text("the certificate of live domain {domain}", domain=domain)
        body = encoded(SetCertificate(certificate))
        path = f"/v2/hubs/{hub}/domains/{domain}/cert"
        _, answer = self._transport.write(_asked("POST", path, what, body=body))
        return read_reply(answer).request_id


def _page_of(path: str, marker: str, what: Text) -> Asked:
    query = f"?{urlencode({'marker': marker})}" if marker else ""
    return _asked("GET", path + query, what, repeatable=True)


def _asked(
    method: str, path: str, what: Text, *, body: bytes | None = None, repeatable: bool = False
) -> Asked:
    return Asked(CallGroup.LIVE, method, path, what, body, repeatable=repeatable)
