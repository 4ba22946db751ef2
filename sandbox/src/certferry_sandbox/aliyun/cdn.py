"""The calls of Alibaba Cloud CDN and of DCDN, which differ in names (docs/facts/aliyun.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Literal

from certferry_sandbox.aliyun.cas import ABROAD, MAINLAND, Store
from certferry_sandbox.aliyun.certificates import (
    EXPIRES_SOON,
    Stored,
    Unreadable,
    covers,
    fits,
    is_linked,
    issuer_of,
    main_name,
    read_chain,
)
from certferry_sandbox.aliyun.domains import STATES, UNCHECKED, UNSERVED, Binding, Domain, Domains
from certferry_sandbox.aliyun.gateway import (
    PAGES,
    Account,
    Api,
    Body,
    Now,
    Params,
    Refused,
    Work,
)

CDN_ZONE, DCDN_ZONE = "kunlunsl.com", "kunlunea.com"
BEIJING = timezone(timedelta(hours=8))
NAMES_LIMIT = 50  # domains in one search
PAGE_LIMIT = 500
NAME_LIMIT = 128  # characters of CertName
MATCHES: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {
        "full_match": str.__eq__,
        "fuzzy_match": lambda name, text: text in name,
        "pre_match": str.startswith,
        "suf_match": str.endswith,
    }
)

CDN = Api(
    "Cdn",
    "cdn.aliyuncs.com",
    "2018-05-10",
    "cdn",
    {
        "DescribeUserDomains": PAGES
        | {"CdnType", "ChangeEndTime", "ChangeStartTime", "CheckDomainShow", "Coverage"}
        | {"DomainName", "DomainSearchType", "DomainStatus", "ResourceGroupId", "Source"},
        "DescribeCdnHttpsDomainList": PAGES | {"Keyword"},
        "DescribeDomainCertificateInfo": frozenset({"DomainName"}),
        "DescribeUserVipsByDomain": frozenset({"DomainName", "Available"}),
        "SetCdnDomainSSLCertificate": frozenset(
            {"CertId", "CertName", "CertRegion", "CertType", "DomainName", "OwnerId"}
            | {"SSLPri", "SSLProtocol", "SSLPub"}
        ),
    },
    writes=frozenset({"SetCdnDomainSSLCertificate"}),
    by_post=frozenset({"SetCdnDomainSSLCertificate"}),
)
DCDN = Api(
    "dcdn",
    "dcdn.aliyuncs.com",
    "2018-01-15",
    "dcdn",
    {
        "DescribeDcdnUserDomains": PAGES
        | {"ChangeEndTime", "ChangeStartTime", "CheckDomainShow", "Coverage", "WebSiteType"}
        | {"DomainName", "DomainSearchType", "DomainStatus", "ResourceGroupId"},
        "DescribeDcdnHttpsDomainList": PAGES | {"Keyword"},
        "DescribeDcdnDomainCertificateInfo": frozenset({"DomainName"}),
        "DescribeDcdnUserVipsByDomain": frozenset({"DomainName", "Available"}),
        "SetDcdnDomainSSLCertificate": CDN.parameters["SetCdnDomainSSLCertificate"],
    },
    writes=frozenset({"SetDcdnDomainSSLCertificate"}),
    by_post=frozenset({"SetDcdnDomainSSLCertificate"}),
)
LIMITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(CDN.parameters, 100),
        **dict.fromkeys(DCDN.parameters, 100),
        "DescribeDcdnUserDomains": 80,
        "DescribeUserVipsByDomain": 30,
        "DescribeDcdnUserVipsByDomain": 30,
        "SetCdnDomainSSLCertificate": 30,
        "SetDcdnDomainSSLCertificate": 30,
    }
)
"""Calls a second of an account (docs/facts/aliyun.md §8)."""


@dataclass
class Habits:
    """Switches where the facts leave a choice. Each may be changed at any time."""

    #: The effect of a missing SSLProtocol: HTTPS is switched off, or the call is refused.
    omitted_protocol: Literal["off", "refused"] = "off"
    #: An upload needs CertName. The page calls the name optional; users have seen the refusal.
    needs_cert_name: bool = False
    #: Refuse an upload of a certificate that the product already has.
    refuses_equal: bool = False
    #: Refuse a certificate that does not cover the domain. The list has a status for such domains.
    refuses_mismatch: bool = False
    #: Refuse a second change while the first is in progress.
    refuses_while_configuring: bool = True
    #: Lists show a domain as `configuring` during a change; otherwise as `online`.
    shows_configuring: bool = True
    #: Reads show the new certificate before the change has ended.
    shows_new_at_once: bool = False
    #: Lists of domains omit the states of `UNCHECKED` unless CheckDomainShow is true.
    hides_unchecked: bool = False
    #: The read of a domain without HTTPS: an entry with the status off, or no entry.
    absent: Literal["off", "empty"] = "off"
    #: The certificate in the read of a domain: chain, leaf, or an empty text.
    server_certificate: Literal["chain", "leaf", "hidden"] = "chain"
    #: The read of a domain has CertId and CertRegion.
    has_id: bool = True
    #: An account without HTTPS: the refusal NoHttpsDomain, or an empty list.
    no_https: Literal["refused", "empty"] = "refused"
    #: The zone of the times in the list of certificates, which the times do not name.
    list_zone: Literal["utc", "beijing"] = "utc"
    #: The addresses that the VIP call names: all, only the first, or none.
    vips: Literal["all", "first", "none"] = "all"


class Cdn:
    """The domains of CDN or DCDN, and the calls on the domains.

    `vips`: returns the addresses of all edges, each with its health.
    `off_dns`: the domains whose DNS points elsewhere; reads show `cname_error`.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        domains: Domains,
        now: Now,
        *,
        vips: Callable[[], Sequence[tuple[str, bool]]],
    ) -> None:
        self.domains = domains
        self.habits = Habits()
        self.off_dns: set[str] = set()
        self._api = api
        self._is_dcdn = api is DCDN
        self._store = store
        self._now = now
        self._vips = vips
        self._uploads: dict[tuple[str, str], Stored] = {}
        works: Sequence[Work] = (
            self._listing,
            self._https_listing,
            self._info,
            self._addresses,
            self._set,
        )
        self.actions = dict(zip(api.parameters, works, strict=True))

    def cname(self, domain: Domain) -> str:
        """Return the name to which the DNS of a domain has to point."""
        return f"{domain.name.strip('.')}.w.{DCDN_ZONE if self._is_dcdn else CDN_ZONE}"

    # the list of domains

    def _listing(self, account: Account, params: Params) -> Body:
        state = params.text("DomainStatus")
        if state not in {"", *STATES}:
            raise Refused("InvalidDomainStatus.ValueNotSupported", "The DomainStatus is invalid.")
        shows_unchecked = params.choice(
            "CheckDomainShow", "false" if self.habits.hides_unchecked else "true", "true", "false"
        )
        types = set(filter(None, params.text("CdnType").split(",")))
        own = [
            domain
            for domain in self._own(account)
            if state in {"", self._state(domain)}
            and (shows_unchecked == "true" or domain.state not in UNCHECKED)
            and (not types or domain.cdn_type in types)
        ]
        found = _searched(own, params)
        page, whole = params.page(found, most=PAGE_LIMIT)
        return {"Domains": {"PageData": [self._listed(domain) for domain in page]}, **whole}

    def _own(self, account: Account) -> list[Domain]:
        return [d for d in self.domains.all(self._now()) if d.uid == account.uid]

    def _state(self, domain: Domain) -> str:
        hides = domain.state == "configuring" and not self.habits.shows_configuring
        return "online" if hides else domain.state

    def _listed(self, domain: Domain) -> dict[str, Any]:
        is_on = "off" if domain.binding is None else "on"
        source = {"Content": "192.0.2.1", "Type": "ipaddr", "Port": 80, "Priority": "20"}
        item = {
            "DomainName": domain.name,
            "DomainId": domain.number,
            "Cname": self.cname(domain),
            "DomainStatus": self._state(domain),
            "GmtCreated": _rfc3339(domain.created),
            "GmtModified": _rfc3339(domain.modified),
            "Description": "",
            "ResourceGroupId": "rg-aek2sandbox",
            "Sandbox": "normal",
            "Sources": {"Source": [{**source, "Weight": "10"}]},
        }
        if self._is_dcdn:
            return {**item, "SSLProtocol": is_on}
        return {**item, "SslProtocol": is_on, "CdnType": domain.cdn_type, "Coverage": "domestic"}

    # the list of certificates

    def _https_listing(self, account: Account, params: Params) -> Body:
        keyword = params.text("Keyword").lower()
        own = [(d, self._bound(d)) for d in self._own(account)]
        entries = [
            self._https_listed(domain, binding)
            for domain, binding in own
            if binding is not None and keyword in domain.name
        ]
        if not entries and self.habits.no_https == "refused":
            raise Refused("NoHttpsDomain", "Your account doesn't have https domain.")
        page, whole = params.page(entries, most=PAGE_LIMIT)
        return {"CertInfos": {"CertInfo": list(page)}, "TotalCount": whole["TotalCount"]}

    def _https_listed(self, domain: Domain, binding: Binding) -> dict[str, Any]:
        leaf = binding.certificate.leaf
        return {
            "DomainName": domain.name,
            "CertName": binding.certificate.name,
            "CertType": binding.kind,
            "CertCommonName": main_name(leaf),
            "CertStatus": self._certificate_status(domain, binding),
            "CertStartTime": self._local(leaf.not_valid_before_utc),
            "CertExpireTime": self._local(leaf.not_valid_after_utc),
            "CertUpdateTime": self._local(binding.updated),
        }

    def _certificate_status(self, domain: Domain, binding: Binding) -> str:
        leaf = binding.certificate.leaf
        left = leaf.not_valid_after_utc - self._now()
        if left <= timedelta(0):
            return "expired"
        if not covers(leaf, domain.name):
            return "mismatch"
        return "expire_soon" if left <= EXPIRES_SOON else "ok"

    def _local(self, moment: datetime) -> str:
        zone = BEIJING if self.habits.list_zone == "beijing" else moment.tzinfo
        return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")

    # one domain

    def _info(self, account: Account, params: Params) -> Body:
        domain = self._named(account, params)
        binding = self._bound(domain)
        entry = {"DomainName": domain.name, self._status_field: "off"}
        if binding is not None:
            entry = self._certificate(domain, binding)
        has_entry = binding is not None or self.habits.absent == "off"
        return {"CertInfos": {"CertInfo": [entry] if has_entry else []}}

    @property
    def _status_field(self) -> str:
        return "SSLProtocol" if self._is_dcdn else "ServerCertificateStatus"

    def _bound(self, domain: Domain) -> Binding | None:
        if self.habits.shows_new_at_once and domain.change is not None:
            return domain.change.binding
        return domain.binding

    def _certificate(self, domain: Domain, binding: Binding) -> dict[str, Any]:
        stored = binding.certificate
        leaf = stored.leaf
        is_off_dns = domain.name in self.off_dns
        is_checked = domain.change is None or self.habits.shows_new_at_once
        settled = "success" if is_checked else "checking"
        item = {
            "DomainName": domain.name,
            "CertName": stored.name,
            "CertDomainName": main_name(leaf),
            "CertOrg": issuer_of(leaf),
            "CertLife": "months",
            "CertExpireTime": _rfc3339(leaf.not_valid_after_utc),
            "CertType": binding.kind,
            "Status": "cname_error" if is_off_dns else settled,
            self._status_field: "on",
        }
        if self.habits.has_id:
            is_cas = binding.kind == "cas"
            item["CertId"] = str(stored.number) if is_cas else ""
            item["CertRegion"] = self._store.region if is_cas else ""
        pem = self._pem(stored)
        if self._is_dcdn:
            return {**item, "SSLPub": pem}
        return {
            **item,
            "CertStartTime": _rfc3339(leaf.not_valid_before_utc),
            "CertUpdateTime": _rfc3339(binding.updated),
            "DomainCnameStatus": "cname_error" if is_off_dns else "ok",
            "ServerCertificate": pem,
        }

    def _pem(self, stored: Stored) -> str:
        end = "-----END CERTIFICATE-----\n"
        leaf, _, _ = stored.fullchain_pem.partition(end)
        forms = {"chain": stored.fullchain_pem, "leaf": leaf + end, "hidden": ""}
        return forms[self.habits.server_certificate]

    def _addresses(self, account: Account, params: Params) -> Body:
        name = params.required("DomainName")
        healthy_only = params.choice("Available", "off", "on") == "on"
        domain = self._find(account, name)
        if domain is None or domain.state in UNSERVED:
            raise Refused("InvalidDomain.NotFound", "The domain provided is offline or not exist.")
        vips = [address for address, is_up in self._vips() if is_up or not healthy_only]
        shown = {"all": vips, "first": vips[:1], "none": []}[self.habits.vips]
        return {"DomainName": domain.name, "Vips": {"Vip": shown}}

    # the certificate of a domain

    def _set(self, account: Account, params: Params) -> Body:
        name = params.required("DomainName")
        if self.habits.omitted_protocol == "refused":
            params.required("SSLProtocol")
        protocol = params.text("SSLProtocol") or "off"
        if protocol not in {"on", "off"}:
            raise Refused(
                "InvalidSSLProtocol.ValueNotSupported", "The specified SSLProtocol is invalid."
            )
        domain = self._changeable(account, name)
        binding = self._wanted(account, params) if protocol == "on" else None
        if (
            binding is not None
            and self.habits.refuses_mismatch
            and not covers(binding.certificate.leaf, domain.name)
        ):
            raise Refused("SetDomainCertificate.ParameterError", "The parameters are invalid.")
        self.domains.accept(domain, binding, self._now())
        return {}

    def _named(self, account: Account, params: Params) -> Domain:
        domain = self._find(account, params.required("DomainName"))
        if domain is None:
            words = "The domain provided does not belong to you."
            raise Refused("InvalidDomain.NotFound", words, 404)
        return domain

    def _find(self, account: Account, name: str) -> Domain | None:
        try:
            domain = self.domains.find(name, self._now())
        except LookupError:
            return None
        return domain if domain.uid == account.uid else None

    def _changeable(self, account: Account, name: str) -> Domain:
        domain = self._find(account, name)
        if domain is None:
            words = "The domain provided does not belong to you."
            raise Refused("InvalidDomain.NotFound", words, 404)
        if domain.state == "offline":
            raise Refused("InvalidDomain.Offline", "The domain provided is offline.")
        if domain.state in UNSERVED:
            words = "The domain is offline. Check the status of the domain and try again later."
            raise Refused("InvalidDomain.notOnline", words)
        if domain.protection:
            status = 403 if domain.protection == "DomainInProtectedMode" else 400
            raise Refused(domain.protection, "To request permission, contact us.", status)
        if domain.state == "configuring" and self.habits.refuses_while_configuring:
            words = "The specified Domain is configuring, please retry later."
            raise Refused("ServiceBusy", words, 403)
        return domain

    def _wanted(self, account: Account, params: Params) -> Binding:
        """Return the binding that a call asks for. Raises `Refused`.

        A call without CertType uploads, even if the call names a CertId.
        """
        kind = params.choice("CertType", "upload", "cas")
        if kind == "cas":
            return Binding(self._from_store(account, params), kind, self._now())
        return Binding(self._from_upload(account, params), kind, self._now())

    def _from_store(self, account: Account, params: Params) -> Stored:
        region = params.text("CertRegion") or MAINLAND
        if region not in {MAINLAND, ABROAD}:
            raise Refused("Abs.CertRegion.ValueNotSupported", "CertRegion is not supported.")
        params.required("CertId")
        number = params.number("CertId", 0, least=1, most=2**63)
        stored = self._store.find(number, account.uid, region)
        if stored is None:
            raise Refused("Certificate.NotFind", "The certificate does not exist.")
        self._must_be_valid(stored)
        return stored

    def _from_upload(self, account: Account, params: Params) -> Stored:
        for field in ("SSLPub", "SSLPri"):
            if not params.text(field):
                raise Refused(f"{field}.MissingParameter", f"The {field} parameter is required.")
        name = params.text("CertName")
        if not name and self.habits.needs_cert_name:
            raise Refused("CertName.MissingParameter", "You must specify CertName.", 404)
        if len(name) > NAME_LIMIT:
            words = f"The length of the certificate name cannot exceed {NAME_LIMIT} characters."
            raise Refused("InvalidCertName.TooLong", words)
        now = self._now()
        stored = _read_upload(account.uid, name, params.text("SSLPub"), params.text("SSLPri"), now)
        self._must_be_valid(stored)
        earlier = self._uploads.get((account.uid, stored.name))
        if earlier is not None and earlier.leaf != stored.leaf:
            raise Refused("CertNameAlreadyExists", "The CertName already exists.")
        if earlier is not None and self.habits.refuses_equal:
            words = "The certificate has been uploaded; do not upload again."
            raise Refused("CertificateContent.Duplicated", words)
        self._uploads[account.uid, stored.name] = stored
        return stored

    def _must_be_valid(self, stored: Stored) -> None:
        if stored.leaf.not_valid_after_utc <= self._now():
            raise Refused("Certificate.Expired", "The certificate has expired.")


def _searched(domains: Sequence[Domain], params: Params) -> list[Domain]:
    """Return the domains that a search finds; names are separated by commas."""
    search = params.choice("DomainSearchType", *MATCHES)
    names = [name for name in params.text("DomainName").split(",") if name]
    if len(names) > NAMES_LIMIT:
        raise Refused("InvalidDomainName.TooMany", "Too many domains.")  # from memory
    if not names:
        return list(domains)
    return [d for d in domains if any(MATCHES[search](d.name, name) for name in names)]


def _read_upload(uid: str, name: str, cert: str, key: str, now: datetime) -> Stored:
    """Return the certificate of an upload. Raises `Refused`."""
    try:
        chain = read_chain(cert)
    except Unreadable as problem:
        raise Refused("InvalidSSLPub", "The specified SSLPub is invalid.") from problem
    if not is_linked(chain):
        raise Refused("Certificate.FormatError", "The format of the certificate is invalid.")
    try:
        is_right = fits(key, chain[0])
    except Unreadable as problem:
        raise Refused("InvalidSSLPri", "The specified SSLPri is invalid.") from problem
    if not is_right:
        raise Refused("Certificate.MissMatch", "The SSLPri does not match the certificate.")
    label = name or f"cert-{chain[0].serial_number % 10**8}"
    return Stored(0, uid, label, cert, key, chain[0], now)


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
