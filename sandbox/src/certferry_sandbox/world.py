"""The world on loopback that certferry talks to in the demo and in the tests.

The world has a CA, a DNS zone with name servers of different speed, DNSPod, and Qiniu with edges.
On request, Alibaba Cloud comes with edges on the same port.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Self

from certferry.core.certificates.names import base_name, is_wildcard
from certferry_sandbox.aliyun.service import DNS_ALONE, AliyunService
from certferry_sandbox.aliyun.service import EDGE_LAGS as ALIYUN_LAGS
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.dnspod.service import NAMESERVERS, DnspodService
from certferry_sandbox.httpd import utc_now
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.qiniu.service import EDGE_LAGS, PROCESSING_TIME, QiniuService
from certferry_sandbox.tencentcloud.edgeone import Zone
from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.zones import Zones

ZONE = "example.com"
CDN_ZONE = "qiniudns.com"
ALIYUN_ZONES = ("kunlunsl.com", "kunlunea.com")
TENCENT_ZONES = {"cdn": "cdn.dnsv1.com", "eo": "eo.dnse1.com"}
"""The zones of Tencent Cloud's CNAMEs, by product."""
RESOLVER_ADDRESS = "127.0.0.1"
NAMESERVER_ADDRESSES = ("127.0.0.2", "127.0.0.3")
OLD_LIFE_LEFT = timedelta(days=9)
DOMAINS = ("img.example.com", "a.img.example.com")
"""The demo's domains: the first has a certificate uploaded by hand, the second has no HTTPS."""

CERTIFICATE = f"""
[[certificates]]
name = "img"
names = ["{DOMAINS[0]}", "*.{DOMAINS[0]}"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
"""


ALIYUN_DOMAINS = (("b.img.example.com", "cdn"), ("c.img.example.com", "dcdn"))
"""The demo's domains at Alibaba Cloud, each with the product. The certificate covers both."""

TENCENT_DOMAINS = (("d.img.example.com", "cdn"), ("e.img.example.com", "eo"))
"""The demo's domains at Tencent Cloud, each with the product. The certificate covers both."""

EVERYWHERE = f"""{CERTIFICATE}
[[certificates.deploy]]
to = "aliyun"

[[certificates.deploy]]
to = "tencentcloud"
"""
"""`CERTIFICATE`, deployed to the accounts of three vendors."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The delays of the world. The defaults suit tests.

    `nameserver_lags` are the seconds by which each name server lags. `processing` is the duration
    of a change at the CDN, and `edge_lags` the time until each edge shows the change.
    """

    nameserver_lags: tuple[float, ...] = (0.0, 0.3)
    processing: timedelta = PROCESSING_TIME
    edge_lags: tuple[timedelta, ...] = tuple(EDGE_LAGS.values())


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys of the sandbox's accounts, random for every world."""

    dnspod_id: str = field(default_factory=lambda: str(100_000 + secrets.randbelow(900_000)))
    dnspod_token: str = field(default_factory=lambda: secrets.token_hex(16))
    access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    aliyun_id: str = field(default_factory=lambda: f"LTAI5t{secrets.token_hex(9)}")
    aliyun_secret: str = field(default_factory=lambda: secrets.token_hex(15))
    tencent_id: str = field(default_factory=lambda: f"AKID{secrets.token_hex(16)}")
    tencent_key: str = field(default_factory=lambda: secrets.token_hex(16))


class World:
    """All stand-ins and the CA, which run for the length of a `with` block.

    `aliyun` is Alibaba Cloud for the length of a `with` block of `with_aliyun`, otherwise None;
    `tencentcloud` is Tencent Cloud in the same way.

    `strict` is a setting of Qiniu (see `qiniu.routes`). `certificate_validity` is a setting of the
    CA, five years by default. `start` raises the error of a part that cannot start.
    """

    def __init__(
        self,
        *,
        pace: Pace | None = None,
        strict: bool = True,
        nonce_reject: int = 5,
        certificate_validity: timedelta | None = None,
    ) -> None:
        pace = pace or Pace()
        self.credentials = Credentials()
        self.zones = Zones()
        self.dns = _dns(self.zones, pace)
        self.dnspod = DnspodService(self.zones)
        self._new_qiniu = partial(
            QiniuService,
            strict=strict,
            processing_time=pace.processing,
            edge_lags=dict(zip(EDGE_LAGS, pace.edge_lags, strict=True)),
        )
        self.qiniu = self._new_qiniu()
        self.aliyun: AliyunService | None = None
        self.tencentcloud: TencentCloudService | None = None
        self._edgeone_zone: Zone | None = None
        self._processing = pace.processing
        self.old_authority = Authority("Yesterday's CA")
        self._pebble_options = (nonce_reject, certificate_validity)
        self._running = ExitStack()

    def start(self) -> Self:
        """Start every part."""
        nonce_reject, validity = self._pebble_options
        with ExitStack() as started:
            started.enter_context(self.dns)
            started.enter_context(self.dnspod)
            started.enter_context(self.qiniu)
            self.pebble = started.enter_context(
                Pebble(
                    self.dns.resolver_endpoint,
                    nonce_reject=nonce_reject,
                    certificate_validity=validity,
                )
            )
            self._furnish_dns()
            self._furnish_qiniu()
            self._running = started.pop_all()
        return self

    def stop(self) -> None:
        """Stop everything; a second call does nothing."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextmanager
    def at_an_empty_qiniu(self) -> Iterator[Self]:
        """Run another Qiniu for a `with` block, without domains and with the same keys.

        Tests share a world in this way, because the CA needs most of a world's start time.
        """
        before = self.qiniu
        try:
            with self._new_qiniu() as self.qiniu:
                self._furnish_qiniu()
                yield self
        finally:
            self.qiniu = before

    @contextmanager
    def with_aliyun(
        self, edge_lags: Mapping[str, timedelta] = ALIYUN_LAGS
    ) -> Iterator[AliyunService]:
        """Run Alibaba Cloud for a `with` block: an account without domains, and `ZONE` in its DNS.

        The edges share the port of Qiniu's edges, because certferry asks all edges at one port.
        Raises OSError if another process has the port at an address of Alibaba Cloud's edges.
        """
        service = AliyunService(
            self.zones,
            processing_time=self._processing,
            edge_lags=edge_lags,
            edge_port=self.qiniu.edges.port,
            nameservers=NAMESERVERS,
        )
        service.add_account(self.credentials.aliyun_id, self.credentials.aliyun_secret)
        with service:
            if service.dns is not None:
                service.dns.add_domain(ZONE)
            try:
                self.aliyun = service
                yield service
            finally:
                self.aliyun = None

    @contextmanager
    def with_tencentcloud(self) -> Iterator[TencentCloudService]:
        """Run Tencent Cloud for a `with` block: an account without CDN domains; `ZONE` is in its
        DNSPod and in EdgeOne.

        The edges share the port of Qiniu's edges. Raises OSError if another process has the port at
        an edge's address.
        """
        service = TencentCloudService(
            self.zones, processing_time=self._processing, edge_port=self.qiniu.edges.port
        )
        service.add_key(self.credentials.tencent_id, self.credentials.tencent_key)
        service.add_domain(ZONE)
        with service, service.edges:
            try:
                self.tencentcloud, self._edgeone_zone = service, service.add_zone(ZONE)
                yield service
            finally:
                self.tencentcloud = self._edgeone_zone = None

    def _furnish_dns(self) -> None:
        """Open the account at DNSPod, and add the zones."""
        self.dnspod.add_account(self.credentials.dnspod_id, self.credentials.dnspod_token)
        self.dnspod.add_domain(ZONE)
        for zone in (CDN_ZONE, *ALIYUN_ZONES, *TENCENT_ZONES.values()):
            self.zones.add_zone(zone, NAMESERVERS)

    def _furnish_qiniu(self) -> None:
        """Open the account at Qiniu, and make Qiniu trust both CAs."""
        self.qiniu.add_account(self.credentials.access_key, self.credentials.secret_key)
        self.qiniu.trust(self.pebble.root_pem().decode())
        self.qiniu.trust(self.old_authority.root_pem)
        # Pebble always leaves out the common name, even if the CSR has a common name.
        self.qiniu.certificates.rules.refuse_empty_common_name = False

    # the contents of the world

    def add_http_domain(
        self, name: str, *, product: str = "cdn", account: str | None = None
    ) -> None:
        """Put a domain without HTTPS on the CDN or DCDN, and point DNS at the edges.

        `account` is the access key of the domain's account, by default of the first account.
        """
        self.point_at_edges(name)
        self.qiniu.add_domain(_at_qiniu(name), product=product, account=account)

    def add_https_domain(self, name: str, *, force_https: bool = True, http2: bool = True) -> str:
        """Put a domain with a certificate uploaded by hand on the CDN, and point DNS at the edges.

        The certificate has a few days left. Return the certificate's fingerprint.
        """
        self.point_at_edges(name)
        old = self.old_certificate(name)
        certificate_id = self.qiniu.add_certificate(old, f"{name} by hand")
        self.qiniu.add_domain(
            _at_qiniu(name), https=certificate_id, force_https=force_https, http2=http2
        )
        return old.fingerprint

    def add_source_domain(self, name: str, bucket: str = "pictures") -> None:
        """Add a source domain without HTTPS to a Kodo bucket, and point DNS at the edges."""
        self.point_at_edges(name)
        self.qiniu.add_bucket_domain(name, bucket)

    def add_live_domain(self, name: str, hub: str = "studio") -> None:
        """Add a domain without HTTPS to a hub of Pili, and point DNS at the edges."""
        self.point_at_edges(name)
        self.qiniu.add_live_domain(name, hub)

    def add_aliyun_domain(
        self, name: str, *, product: str = "cdn", is_https: bool = False
    ) -> str | None:
        """Put a domain on Alibaba Cloud's CDN or DCDN, and point DNS at the edges.

        With `is_https`, the domain has a certificate uploaded by hand. Return the certificate's
        fingerprint, None without HTTPS. Raises RuntimeError outside `with_aliyun`.
        """
        if self.aliyun is None:
            raise RuntimeError("the world has no Alibaba Cloud")
        old = self.old_certificate(name) if is_https else None
        number = self.aliyun.add_certificate(old, f"{name} by hand") if old else None
        # Both vendors write a wildcard domain with a leading dot.
        domain = self.aliyun.add_domain(_at_qiniu(name), product=product, https=number)
        cname = self.aliyun.products[product].cname(domain)
        self._point(name, cname, self.aliyun.dns_addresses)
        return old.fingerprint if old else None

    def add_tencent_domain(
        self, name: str, *, product: str = "cdn", is_https: bool = False
    ) -> str | None:
        """Put a domain on Tencent Cloud's CDN, or a host on EdgeOne (`eo`), and point DNS at the
        edges.

        With `is_https`, the domain has a certificate uploaded by hand. Return the certificate's
        fingerprint, None without HTTPS. Raises RuntimeError outside `with_tencentcloud`.
        """
        service, zone = self.tencentcloud, self._edgeone_zone
        if service is None or zone is None:
            raise RuntimeError("the world has no Tencent Cloud")
        old = self.old_certificate(name) if is_https else None
        number = service.add_certificate(old, f"{name} by hand") if old else None
        if product == "cdn":
            service.add_cdn_domain(name, certificate=number)
        else:
            service.add_host(name, zone, *([number] if number else []))
        cname = f"{base_name(name)}.{TENCENT_ZONES[product]}"
        self._point(name, cname, service.edges.addresses)
        return old.fingerprint if old else None

    def old_certificate(self, name: str) -> Issued:
        """Return a certificate for a name, with nine days left (`OLD_LIFE_LEFT`)."""
        end = utc_now() + OLD_LIFE_LEFT
        return self.old_authority.issue([name], end - timedelta(days=90), end)

    def point_at_edges(self, name: str) -> None:
        """Point a name's DNS at Qiniu's edges."""
        self._point(name, f"{base_name(name)}.{CDN_ZONE}", self.qiniu.edges.addresses)

    def _point(self, name: str, cname: str, addresses: Sequence[str]) -> None:
        self.zones.seed(name, "CNAME", f"{cname}.")
        for address in addresses:
            self.zones.seed(cname, "A", address)

    # access to the world

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, by the variable names in the configuration."""
        keys = self.credentials
        return {
            "DP_Id": keys.dnspod_id,
            "DP_Key": keys.dnspod_token,
            "QINIU_ACCESS_KEY": keys.access_key,
            "QINIU_SECRET_KEY": keys.secret_key,
            **({} if self.aliyun is None else self._aliyun_environment),
            **({} if self.tencentcloud is None else self._tencent_environment),
        }

    def add_users_for_dns(self) -> dict[str, str]:
        """Add a user with rights for DNS alone at each running vendor that has DNS and CDNs. Return
        the users' keys by variable.
        """
        keys, environment = Credentials(), dict[str, str]()
        if self.aliyun is not None:
            self.aliyun.add_ram_user(keys.aliyun_id, keys.aliyun_secret, allowed=DNS_ALONE)
            environment |= {"Ali_Key": keys.aliyun_id, "Ali_Secret": keys.aliyun_secret}
        if self.tencentcloud is not None:
            user = self.tencentcloud.add_key(
                keys.tencent_id, keys.tencent_key, services=frozenset({"dnspod"})
            )
            self.tencentcloud.add_domain(ZONE, key=user)
            environment |= {
                "Tencent_SecretId": keys.tencent_id,
                "Tencent_SecretKey": keys.tencent_key,
            }
        return environment

    @property
    def _aliyun_environment(self) -> dict[str, str]:
        keys = self.credentials
        return {"Ali_Key": keys.aliyun_id, "Ali_Secret": keys.aliyun_secret}

    @property
    def _tencent_environment(self) -> dict[str, str]:
        keys = self.credentials
        return {"Tencent_SecretId": keys.tencent_id, "Tencent_SecretKey": keys.tencent_key}

    def secrets(self) -> tuple[str, ...]:
        """Return the values that no output may show."""
        keys = self.credentials
        return (keys.dnspod_token, keys.secret_key, keys.aliyun_secret, keys.tencent_key)

    def write_files(self, directory: Path, certificates: str = CERTIFICATE) -> Path:
        """Write a ready `certferry.toml` and the CA files for the configuration; return the path.

        `certificates` are the last tables of the file, by default the demo's.
        """
        (directory / "directory-ca.pem").write_bytes(self.pebble.ca_bundle.read_bytes())
        roots = self.pebble.root_pem().decode() + self.old_authority.root_pem
        (directory / "edge-roots.pem").write_text(roots)
        path = directory / "certferry.toml"
        path.write_text(self._toml(directory) + certificates)
        path.chmod(0o600)
        return path

    def write_base(self, directory: Path) -> Path:
        """Write `base.toml` for `certferry init --settings`, and return the path.

        The file has the addresses of this world and the place of a separate state. The file has
        no certificates and no keys.
        """
        keys = tuple(f'"env:{name}"' for name in self.environment)
        place = directory / "init"  # a separate folder for the state and its key file
        place.mkdir(mode=0o700, exist_ok=True)
        rows = self._toml(place).splitlines()
        path = directory / "base.toml"
        path.write_text("\n".join(row for row in rows if not row.endswith(keys)) + "\n")
        path.chmod(0o600)
        return path

    def _toml(self, directory: Path) -> str:
        return f"""\
# A world on loopback, for as long as `certferry sandbox` runs.
[state]
url = "sqlite:///{directory / "state.db"}"

[acme]
directory = "{self.pebble.directory_url}"
ca_bundle = "directory-ca.pem"           # who signed the directory's own TLS certificate
email = "ops@example.com"

[dns]
resolvers = ["{self.dns.resolver_endpoint}"]
port = {self.dns.port}                             # where its name servers answer instead of 53

[verify]
port = {self.qiniu.edges.port}
ca_bundle = "edge-roots.pem"

[accounts.qiniu]
access_key = "env:QINIU_ACCESS_KEY"
secret_key = "env:QINIU_SECRET_KEY"
api = "{self.qiniu.api_url}"
fusion = "{self.qiniu.fusion_url}"
uc = "{self.qiniu.uc_url}"
api_backup = "{self.qiniu.api_backup_url}"
uc_backup = "{self.qiniu.uc_backup_url}"
pili = "{self.qiniu.pili_url}"
accept_no_common_name = true              # Pebble, the CA of this world, sets none

[accounts.dnspod]
id = "env:DP_Id"
token = "env:DP_Key"
api = "{self.dnspod.url}"
{self._aliyun_toml()}{self._tencent_toml()}"""

    def _aliyun_toml(self) -> str:
        """Return the table of the account, or "" for a world without Alibaba Cloud."""
        if self.aliyun is None:
            return ""
        endpoints = {endpoint.api.host: endpoint.url for endpoint in self.aliyun.endpoints}
        return f"""
[accounts.aliyun]
access_key_id = "env:Ali_Key"
access_key_secret = "env:Ali_Secret"
dns = "{endpoints["alidns.aliyuncs.com"]}"
cdn = "{endpoints["cdn.aliyuncs.com"]}"
dcdn = "{endpoints["dcdn.aliyuncs.com"]}"
cas = "{endpoints["cas.aliyuncs.com"]}"
"""

    def _tencent_toml(self) -> str:
        """Return the table of the account, or "" for a world without Tencent Cloud."""
        if self.tencentcloud is None:
            return ""
        url = self.tencentcloud.url
        return f"""
[accounts.tencentcloud]
secret_id = "env:Tencent_SecretId"
secret_key = "env:Tencent_SecretKey"
api = "{url}"
cdn = "{url}"
ssl = "{url}"
teo = "{url}"
"""


@contextmanager
def demonstration(
    pace: Pace | None = None,
    certificate_validity: timedelta | None = None,
    *,
    has_others: bool = False,
) -> Iterator[World]:
    """Run the world with the demo's domains, as before the first run of certferry.

    With `has_others`, `ALIYUN_DOMAINS` are at Alibaba Cloud and `TENCENT_DOMAINS` at Tencent Cloud,
    the second of each with old HTTPS.
    """
    with ExitStack() as running:
        world = running.enter_context(World(pace=pace, certificate_validity=certificate_validity))
        world.add_https_domain(DOMAINS[0])
        world.add_http_domain(DOMAINS[1])
        if has_others:
            running.enter_context(world.with_aliyun())
            running.enter_context(world.with_tencentcloud())
            for name, product in ALIYUN_DOMAINS:
                world.add_aliyun_domain(name, product=product, is_https=product == "dcdn")
            for name, product in TENCENT_DOMAINS:
                world.add_tencent_domain(name, product=product, is_https=product == "eo")
        yield world


def _dns(zones: Zones, pace: Pace) -> DnsService:
    places = zip(NAMESERVERS, NAMESERVER_ADDRESSES, pace.nameserver_lags, strict=True)
    servers = [NameServer(zones, host, address, lag=lag) for host, address, lag in places]
    return DnsService(zones, servers, Resolver(zones, servers, RESOLVER_ADDRESS))


def _at_qiniu(name: str) -> str:
    """Return a domain's name in Qiniu's spelling: wildcards begin with a dot.

    Source: docs/facts/qiniu.md §5.2.
    """
    return f".{base_name(name)}" if is_wildcard(name) else name
