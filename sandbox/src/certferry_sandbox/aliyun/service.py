"""A stand-in of Alibaba Cloud: CDN, DCDN, CAS and DNS with shared keys, and the edges.

Built from docs/facts/aliyun.md §9. Signatures, timestamps, nonces, parameters, rights, certificates
and states are checked as the documents say.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Self

from certferry_sandbox.aliyun import cas, cdn
from certferry_sandbox.aliyun.cas import Store
from certferry_sandbox.aliyun.cdn import CDN, DCDN, Cdn
from certferry_sandbox.aliyun.certificates import Stored
from certferry_sandbox.aliyun.dns import NAMESERVERS, AlidnsService
from certferry_sandbox.aliyun.domains import Binding, Domain, Domains
from certferry_sandbox.aliyun.gateway import (
    Account,
    Accounts,
    Api,
    Call,
    Endpoint,
    RateLimits,
    Work,
)
from certferry_sandbox.edges import Clock, Edges, Identity
from certferry_sandbox.httpd import utc_now
from certferry_sandbox.zones import Zones

EDGE_LAGS: Mapping[str, timedelta] = MappingProxyType(
    {
        "127.0.0.4": timedelta(0),
        "127.0.0.5": timedelta(seconds=0.5),
        "127.0.0.6": timedelta(seconds=0.3),
    }
)
"""The addresses of the edges, each with its lag. DNS names all but the last (`dns_addresses`)."""
PROCESSING_TIME = timedelta(seconds=0.3)

DNS_ALONE = ("alidns:*",)
WITHOUT_CAS = ("alidns:*", "cdn:*", "dcdn:*")
READ_ONLY = ("*:Describe*", "*:List*", "*:Get*")
"""Policies of RAM users, for `add_ram_user`."""


class AliyunService:
    """Alibaba Cloud on loopback. `cdn`, `dcdn`, `cas` and, if the zones are given, `dns` are HTTP
    endpoints with one set of keys; `edges` has the edges of CDN and DCDN.

    Methods add existing accounts, certificates and domains. The parts have the switches:
    `store.habits`, `store.quota`, `products["cdn"].habits`, `cdn.rate_limits`, `cas.forbidden`,
    `cas.faults`, `edges[0].lag` and so on; `certferry_sandbox.aliyun.habits` has names for them.
    Nothing runs in the background: a domain's state is computed at each look.

    `clock`: returns the time for signatures, validity, the end of changes and the edges' lag.
    `edge_lags`: the lag of each edge, by address; DNS does not name the last address.
    `edge_port`: the port of all edges, 0 for any free port.
    `nameservers`: the hosts that the account's DNS names for its domains.
    """

    def __init__(
        self,
        zones: Zones | None = None,
        *,
        clock: Clock = utc_now,
        processing_time: timedelta = PROCESSING_TIME,
        edge_lags: Mapping[str, timedelta] = EDGE_LAGS,
        edge_port: int = 0,
        region: str = cas.MAINLAND,
        nameservers: Sequence[str] = NAMESERVERS,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._running = ExitStack()
        self.accounts = Accounts()
        self.edges = Edges(self._served, edge_lags, clock=clock, port=edge_port)
        self.store = Store(self._in_use, clock, region=region)
        self.products = {
            api.ram_name: Cdn(
                api, self.store, Domains(processing_time), clock, vips=self._addresses
            )
            for api in (CDN, DCDN)
        }
        self.cdn, self.dcdn = (
            self._endpoint(api, self.products[api.ram_name].actions) for api in (CDN, DCDN)
        )
        self.cas = self._endpoint(cas.API, self.store.actions)
        self.dns = (
            AlidnsService(zones, now=clock, accounts=self.accounts, nameservers=nameservers)
            if zones
            else None
        )

    def _endpoint(self, api: Api, actions: Mapping[str, Work]) -> Endpoint:
        endpoint = Endpoint(api, self.accounts, now=self._clock, lock=self._lock)
        endpoint.actions = actions
        return endpoint

    def start(self) -> Self:
        """Start every endpoint and every edge."""
        with ExitStack() as started:
            for endpoint in self.endpoints:
                started.enter_context(endpoint)
            started.enter_context(self.edges)
            self._running = started.pop_all()
        return self

    def stop(self) -> None:
        """Stop everything; a second call does nothing."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of all products."""
        own = (self.cdn, self.dcdn, self.cas)
        return own if self.dns is None else (*own, self.dns)

    @property
    def dns_addresses(self) -> list[str]:
        """The addresses to which DNS points domains: of every edge but the last."""
        return self.edges.addresses[:-1]

    def calls(self, action: str = "*") -> list[Call]:
        """Return the calls so far of an action (a shell pattern), product by product."""
        return [call for endpoint in self.endpoints for call in endpoint.calls(action)]

    def writes(self) -> list[Call]:
        """Return the calls so far that ask for a change, product by product."""
        return [call for endpoint in self.endpoints for call in endpoint.writes()]

    def limit_rates(self) -> None:
        """Switch on the limits of the vendor's pages; without them, no call is throttled."""
        for endpoint, limits in ((self.cdn, cdn.LIMITS), (self.dcdn, cdn.LIMITS)):
            endpoint.rate_limits = RateLimits(limits)
        self.cas.rate_limits = RateLimits(cas.LIMITS)

    def add_account(self, key_id: str, secret: str) -> Account:
        """Open an account. The first account is the default of other methods."""
        return self.accounts.add(Account(key_id, secret))

    def add_ram_user(
        self, key_id: str, secret: str, *, allowed: Sequence[str], owner: str | None = None
    ) -> Account:
        """Add a RAM user of an account, with the rights of a policy.

        `allowed` has shell patterns such as "cdn:Describe*"; `DNS_ALONE` and its kind are ready
        policies. `owner` is the key of the account, by default of the first account.
        """
        uid = self.accounts.uid(owner)
        return self.accounts.add(Account(key_id, secret, frozenset(allowed), uid))

    def add_certificate(
        self, issued: Identity, name: str, *, account: str | None = None, is_upload: bool = True
    ) -> int:
        """Put a certificate into CAS without checks, and return the number.

        `is_upload`: whether the account uploaded the certificate, or bought it at the vendor.
        """
        uid = self.accounts.uid(account)
        with self._lock:
            return self.store.store(
                uid, name, issued.fullchain_pem, issued.privkey_pem, is_upload=is_upload
            ).number

    def add_domain(
        self,
        name: str,
        *,
        product: str = "cdn",
        https: int | None = None,
        state: str = "online",
        protection: str = "",
        account: str | None = None,
    ) -> Domain:
        """Add a domain of "cdn" or "dcdn". `https` is the number of a certificate of CAS.

        The name of a wildcard domain begins with a dot. `state` is one of `domains.STATES`.
        """
        uid, now = self.accounts.uid(account), self._clock()
        domains = self.products[product].domains
        with self._lock:
            binding = None
            if https is not None:
                binding = Binding(self._certificate(https, uid), "cas", now)
            domain = Domain(
                name, len(domains) + 1, uid, now, binding, state=state, protection=protection
            )
            domains.add(domain)
        return domain

    def _certificate(self, number: int, uid: str) -> Stored:
        stored = self.store.find(number, uid)
        if stored is None:
            raise LookupError(number)
        return stored

    def domain(self, name: str, *, product: str = "cdn") -> Domain:
        """Return a domain as it is now. Raises LookupError."""
        with self._lock:
            return self.products[product].domains.find(name, self._clock())

    def bound(self, name: str, *, product: str = "cdn") -> str | None:
        """Return the fingerprint of a domain's certificate, or None. Raises LookupError."""
        binding = self.domain(name, product=product).binding
        return binding.certificate.fingerprint if binding else None

    def hold(self, name: str, *, product: str = "cdn") -> None:
        """Keep a domain's change in progress: the current change, or else the next change."""
        self.domain(name, product=product).held = True

    def release(self, name: str, *, product: str = "cdn") -> None:
        """Let a held change end when the processing time is over, at the earliest now."""
        with self._lock:
            self.domain(name, product=product).release(self._clock())

    def fail_next(self, name: str, *, product: str = "cdn") -> None:
        """Make a domain's next accepted change fail; the edges keep the old certificate."""
        with self._lock:
            self.products[product].domains.fail_next(name)

    def change_in_console(self, name: str, number: int | None, *, product: str = "cdn") -> None:
        """Bind a certificate of CAS as another tool would; the change ends at once.

        None switches HTTPS off.
        """
        now = self._clock()
        with self._lock:
            domain = self.domain(name, product=product)
            binding = None
            if number is not None:
                binding = Binding(self._certificate(number, domain.uid), "cas", now)
            domain.binding, domain.modified = binding, now
            domain.applied.note(now, binding)

    def _in_use(self, number: int) -> bool:
        return any(
            domain.uses(number)
            for product in self.products.values()
            for domain in product.domains.all(self._clock())
        )

    def _addresses(self) -> list[tuple[str, bool]]:
        return [(edge.address, not edge.down) for edge in self.edges]

    def _served(self, host: str, moment: datetime) -> Identity | None:
        with self._lock:
            for product in self.products.values():
                domain = product.domains.serving(host, self._clock())
                if domain is not None:
                    return domain.applied.at(moment)
            return None
