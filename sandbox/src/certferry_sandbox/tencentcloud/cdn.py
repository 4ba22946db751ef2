"""Tencent Cloud's CDN domains, the service `cdn` (docs/facts/tencentcloud.md §2): settings of a
domain, the change in progress, and the moment when a change takes effect.

Nothing runs in the background: `settle` brings a domain up to date with a given moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from certferry_sandbox.tencentcloud.certificates import StoredCertificate, Timeline, written
from certferry_sandbox.tencentcloud.wire import Body, Params, Refused

Find = Callable[[str, str], StoredCertificate | None]

PAGE = 100  # domains, the default and the most (§2.1)
MOST_VALUES = 5  # of a filter (§2.1)
SWITCHES = ("on", "off")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
DEFAULTS: dict[str, Any] = {
    "Switch": "off",
    "Http2": "off",
    "OcspStapling": "off",
    "VerifyClient": "off",
    "Spdy": "off",
    "CertInfo": None,
    "ClientCertInfo": None,
    "Hsts": None,
    "TlsVersion": ["TLSv1", "TLSv1.1", "TLSv1.2"],
}
"""The properties of `Https`, each with the value of a property that a request omits (§2.3)."""
REDIRECT: dict[str, Any] = {"Switch": "off", "RedirectType": "http", "RedirectStatusCode": 302}


@dataclass
class Change:
    """An accepted change in progress."""

    https: dict[str, Any]
    redirect: dict[str, Any]
    due: datetime
    fails: bool


@dataclass
class Domain:
    """A CDN domain. `held`: a change stays in progress until `release`."""

    name: str
    owner: str
    https: dict[str, Any]
    redirect: dict[str, Any]
    status: str = "online"
    disable: str = "normal"
    readonly: str = "normal"
    product: str = "cdn"
    failed: bool = False
    held: bool = False
    change: Change | None = None
    modified: datetime | None = None
    applied: Timeline = field(default_factory=lambda: Timeline(None))

    @property
    def bound(self) -> str | None:
        """The id of the certificate in force, or None."""
        return (self.https["CertInfo"] or {}).get("CertId") if self.is_on else None

    @property
    def is_on(self) -> bool:
        """Whether the domain has HTTPS."""
        return bool(self.https["Switch"] == "on")

    def names(self, cert_id: str) -> bool:
        """Whether the settings in force, or to come, name a certificate."""
        confs = [self.https] + ([self.change.https] if self.change else [])
        return any((conf["CertInfo"] or {}).get("CertId") == cert_id for conf in confs)


class CdnDomains:
    """The CDN domains of all accounts, and the actions on them.

    Switches, which may change at any time:
    `processing_time`: how long an accepted change stays in progress.
    `shows_change_at_once`: whether reads show the new settings during a change; unknown (§2.2).
    `is_open`: whether the accounts have the CDN at all.
    `page_limit`: the most domains on a page.
    """

    def __init__(self, find_certificate: Find, processing_time: timedelta) -> None:
        self.processing_time = processing_time
        self.shows_change_at_once = True
        self.is_open = True
        self.page_limit = PAGE
        self._find_certificate = find_certificate
        self._domains: dict[str, Domain] = {}
        self._failing: set[str] = set()

    def add(self, domain: Domain) -> Domain:
        """Add an existing domain."""
        return self._domains.setdefault(domain.name, domain)

    def find(self, name: str, now: datetime) -> Domain:
        """Return the domain of any account, as of now. Raises LookupError."""
        domain = self._domains[name]
        self._settle(domain, now)
        return domain

    def fail_next(self, name: str) -> None:
        """Make a domain's next accepted change fail."""
        self._failing.add(name)

    def uses(self, cert_id: str) -> bool:
        """Whether any domain names a certificate."""
        return any(domain.names(cert_id) for domain in self._domains.values())

    def serving(self, host: str, now: datetime) -> Domain | None:
        """Return the domain that answers for a host: the domain itself, or the wildcard above."""
        for name in (host, f"*.{host.partition('.')[2]}"):
            if name in self._domains and self._domains[name].status != "offline":
                return self.find(name, now)
        return None

    def listing(self, owner: str, params: Params, now: datetime) -> Body:
        """DescribeDomainsConfig: return a page of the account's domains with their settings."""
        offset, limit = params.number("Offset", 0), params.number("Limit", PAGE)
        wanted = self._filtered(params)
        params.done()
        if not self.is_open:
            raise Refused("ResourceNotFound.CdnUserNotExists", "The CDN is not activated.")
        if offset < 0 or not 0 < limit <= PAGE:
            raise Refused("InvalidParameter.CdnParamError", "The limit is wrong.")
        own = [self.find(name, now) for name, d in self._domains.items() if d.owner == owner]
        matching = [domain for domain in own if wanted is None or domain.name in wanted]
        page = matching[offset : offset + min(limit, self.page_limit)]
        return {
            "Domains": [self._to_wire(domain) for domain in page],
            "TotalNumber": len(matching),
        }

    def modify(self, owner: str, params: Params, now: datetime) -> Body:
        """ModifyDomainConfig: set a single leaf; everything else stays (§2.3)."""
        domain = self._changeable(owner, params.text("Domain"), now)
        route, value = params.text("Route"), params.text("Value")
        params.done()
        https, redirect = deepcopy(domain.https), deepcopy(domain.redirect)
        place: Any = {"Https": https, "ForceRedirect": redirect}
        *outer, leaf = route.split(".")
        for word in outer:
            if not isinstance(place.get(word), dict):
                if word != "CertInfo":
                    raise Refused("InvalidParameter.CdnParamError", f"There is no {route}.")
                place[word] = {}
            place = place[word]
        if not outer or (leaf not in place and leaf != "CertId") or leaf == "SslStatus":
            raise Refused("InvalidParameter.CdnParamError", f"There is no {route}.")
        try:
            update = json.loads(value)
        except ValueError:
            update = None
        if not isinstance(update, dict) or list(update) != ["update"]:
            raise Refused("InvalidParameter.CdnParamError", "The value is wrong.")
        if isinstance(place.get(leaf), dict) or isinstance(update["update"], dict):
            raise Refused("InvalidParameter.CdnParamError", f"{route} is no leaf.")
        place[leaf] = update["update"]
        return self._accept(domain, https, redirect, now)

    def update(self, owner: str, params: Params, now: datetime) -> Body:
        """UpdateDomainConfig: replace objects; an omitted property gets its default (§2.3)."""
        domain = self._changeable(owner, params.text("Domain"), now)
        https, redirect = deepcopy(domain.https), deepcopy(domain.redirect)
        for name, defaults in (("Https", DEFAULTS), ("ForceRedirect", REDIRECT)):
            given = params.object(name)
            if given is None:
                continue
            for key in given.given:
                if key not in defaults:  # `SslStatus` is for reading (§2.3)
                    raise Refused("InvalidParameter.CdnParamError", f"{name}.{key} is unknown.")
            conf = {**deepcopy(defaults), **given.given}
            if name == "Https":
                https = conf
            else:
                redirect = conf
        params.done()
        return self._accept(domain, https, redirect, now)

    def _filtered(self, params: Params) -> set[str] | None:
        wanted: set[str] | None = None
        for condition in params.objects("Filters"):
            if condition.text("Name") != "domain" or condition.boolean("Fuzzy", default=False):
                raise Refused("InvalidParameter.CdnParamError", "Only whole names are known here.")
            wanted = set(condition.texts("Value"))
            condition.done()
            if len(wanted) > MOST_VALUES:
                raise Refused("InvalidParameter.CdnParamError", "Too many values.")
        return wanted

    def _changeable(self, owner: str, name: str, now: datetime) -> Domain:
        if name not in self._domains:
            raise Refused("ResourceNotFound.CdnHostNotExists", "There is no such domain.")
        domain = self.find(name, now)
        if domain.owner != owner:
            raise Refused("UnauthorizedOperation.CdnHostIsOwnedByOther", "It is another's.")
        if domain.change is not None:
            raise Refused("ResourceInUse.CdnOpInProgress", "It is being changed.")
        if domain.status != "online":
            raise Refused("InvalidParameter.CdnHostInvalidStatus", "The status is wrong.")
        if domain.readonly != "normal" or domain.disable != "normal":
            raise Refused("ResourceUnavailable.CdnHostIsLocked", "The domain is locked.")
        return domain

    def _accept(
        self, domain: Domain, https: dict[str, Any], redirect: dict[str, Any], now: datetime
    ) -> Body:
        https["CertInfo"] = self._resolved(domain, https)
        _check_values(https, redirect)
        fails = domain.name in self._failing
        self._failing.discard(domain.name)
        domain.failed, domain.modified = False, now
        domain.change = Change(https, redirect, now + self.processing_time, fails)
        return {}

    def _resolved(self, domain: Domain, https: dict[str, Any]) -> dict[str, Any] | None:
        """Return `CertInfo` as stored. Raises `Refused` for a certificate that does not fit."""
        given = https["CertInfo"]
        if given is None:
            if https["Switch"] == "on":
                raise Refused("InvalidParameter.CdnCertNoCertInfo", "There is no certificate.")
            return None
        unknown = set(given) - {"CertId", "CertName", "Message", "ExpireTime", "DeployTime", "From"}
        if unknown:
            raise Refused("InvalidParameter.CdnParamError", f"{sorted(unknown)} is unknown.")
        certificate = self._find_certificate(str(given.get("CertId")), domain.owner)
        if certificate is None:
            raise Refused("InvalidParameter.CdnCertInfoNotFound", "There is no such certificate.")
        if not certificate.covers(domain.name):
            raise Refused("InvalidParameter.CdnCertNoCertInfo", "It lacks the domain's name.")
        return shown_in_settings(certificate)

    def _settle(self, domain: Domain, now: datetime) -> None:
        change = domain.change
        if change is None or domain.held or now < change.due:
            return
        domain.change = None
        domain.failed = change.fails
        if not change.fails:
            domain.https, domain.redirect = change.https, change.redirect
            certificate = self._find_certificate(domain.bound or "", domain.owner)
            domain.applied.note(change.due, certificate)

    def _to_wire(self, domain: Domain) -> dict[str, Any]:
        change = domain.change
        shown = domain.https
        redirect = domain.redirect
        if change is not None and self.shows_change_at_once:
            shown, redirect = change.https, change.redirect
        status: Literal["closed", "deploying", "deployed", "failed"]
        if change is not None and change.https["Switch"] == "on":
            status = "deploying"
        elif domain.failed:
            status = "failed"
        else:
            status = "deployed" if domain.is_on else "closed"
        return {
            "ResourceId": f"cdn-{domain.name}",
            "AppId": 1251234567,
            "Domain": domain.name,
            "Cname": f"{domain.name.removeprefix('*.')}.cdn.dnsv1.com",
            "Status": domain.status if change is None else "processing",
            "Product": domain.product,
            "Disable": domain.disable,
            "Readonly": domain.readonly,
            "UpdateTime": written(domain.modified) if domain.modified else "",
            "Https": {**deepcopy(shown), "SslStatus": status},
            "ForceRedirect": deepcopy(redirect),
        }

    def release(self, name: str, now: datetime) -> None:
        """Let a held change end when due, at the earliest now."""
        domain = self._domains[name]
        domain.held = False
        self._settle(domain, now)


def shown_in_settings(certificate: StoredCertificate) -> dict[str, Any]:
    """Return a certificate as the settings of a domain show it."""
    return {
        "CertId": certificate.id,
        "CertName": certificate.alias,
        "ExpireTime": written(certificate.leaf.not_valid_after_utc),
        "DeployTime": written(certificate.created),
        "Message": certificate.alias,
        "From": "upload",
    }


def _check_values(https: dict[str, Any], redirect: dict[str, Any]) -> None:
    """Raise `Refused` for a value outside the documented values."""
    switches = [https[key] for key in ("Switch", "Http2", "OcspStapling", "VerifyClient", "Spdy")]
    versions = https["TlsVersion"]
    places = [TLS_VERSIONS.index(version) for version in versions if version in TLS_VERSIONS]
    is_wrong = (
        not {*switches, redirect["Switch"]} <= set(SWITCHES)
        or redirect["RedirectType"] not in {"http", "https"}
        or redirect["RedirectStatusCode"] not in {301, 302, 307, 308}
        or len(places) != len(versions)
        or sorted(places) != list(range(min(places, default=0), max(places, default=-1) + 1))
    )
    if is_wrong or not versions:
        raise Refused("InvalidParameter.CdnParamError", "A value is wrong.")
