"""The whole world on loopback: a CA, a DNS zone with name servers of different speed, DNSPod, and
Qiniu with its edges. What certferry talks to in the demo and in the tests.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Self

from certferry.core.certificates.names import base_name, is_wildcard
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.dnspod.service import NAMESERVERS, DnspodService
from certferry_sandbox.httpd import utc_now
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.qiniu.service import EDGE_LAGS, PROCESSING_TIME, QiniuService
from certferry_sandbox.zones import Zones

ZONE = "example.com"
CDN_ZONE = "qiniudns.com"
RESOLVER_ADDRESS = "127.0.0.1"
NAMESERVER_ADDRESSES = ("127.0.0.2", "127.0.0.3")
OLD_LIFE_LEFT = timedelta(days=9)
DOMAINS = ("img.example.com", "a.img.example.com")
"""The demo's domains: one with a certificate by hand, one without HTTPS."""

CERTIFICATE = f"""
[[certificates]]
name = "img"
names = ["{DOMAINS[0]}", "*.{DOMAINS[0]}"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow the world is, in seconds: the name servers behind the first, a CDN change, and
    each edge behind the change. The defaults suit tests.
    """

    nameserver_lags: tuple[float, ...] = (0.0, 0.3)
    processing: timedelta = PROCESSING_TIME
    edge_lags: tuple[timedelta, ...] = tuple(EDGE_LAGS.values())


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of the sandbox's accounts, made up anew for every world."""

    dnspod_id: str = field(default_factory=lambda: str(100_000 + secrets.randbelow(900_000)))
    dnspod_token: str = field(default_factory=lambda: secrets.token_hex(16))
    access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))


class World:
    """Starts everything for the length of a `with` block.

    `strict` is Qiniu's (see `qiniu.routes`); `certificate_validity` the CA's, five years if not
    given. Raises what its parts raise when they cannot start.
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
        """Run a Qiniu of its own for a `with` block, without domains and under the same keys: the
        CA takes most of the time in which a world starts, and several worlds may share it.
        """
        before = self.qiniu
        try:
            with self._new_qiniu() as self.qiniu:
                self._furnish_qiniu()
                yield self
        finally:
            self.qiniu = before

    def _furnish_dns(self) -> None:
        """Open the account, and delegate the zones."""
        self.dnspod.add_account(self.credentials.dnspod_id, self.credentials.dnspod_token)
        self.dnspod.add_domain(ZONE)
        self.zones.add_zone(CDN_ZONE, NAMESERVERS)

    def _furnish_qiniu(self) -> None:
        """Open the account, and let Qiniu trust both CAs."""
        self.qiniu.add_account(self.credentials.access_key, self.credentials.secret_key)
        self.qiniu.trust(self.pebble.root_pem().decode())
        self.qiniu.trust(self.old_authority.root_pem)
        # Pebble leaves the common name out, whatever the CSR asks for.
        self.qiniu.certificates.rules.refuse_empty_common_name = False

    # what stands in the world

    def add_http_domain(
        self, name: str, *, product: str = "cdn", account: str | None = None
    ) -> None:
        """Put a domain without HTTPS on the CDN, or DCDN, with its DNS; `account` is the access key
        of another account than the first.
        """
        self.point_at_edges(name)
        self.qiniu.add_domain(_at_qiniu(name), product=product, account=account)

    def add_https_domain(self, name: str, *, force_https: bool = True, http2: bool = True) -> str:
        """Put a domain on the CDN that serves a certificate uploaded by hand, which has
        a few days left; give the certificate's fingerprint.
        """
        self.point_at_edges(name)
        old = self.old_certificate(name)
        certificate_id = self.qiniu.add_certificate(old, f"{name} by hand")
        self.qiniu.add_domain(
            _at_qiniu(name), https=certificate_id, force_https=force_https, http2=http2
        )
        return old.fingerprint

    def add_source_domain(self, name: str, bucket: str = "pictures") -> None:
        """Add a source domain without HTTPS to a Kodo bucket, with its DNS."""
        self.point_at_edges(name)
        self.qiniu.add_bucket_domain(name, bucket)

    def add_live_domain(self, name: str, hub: str = "studio") -> None:
        """Add a domain without HTTPS to a hub of Pili, with its DNS."""
        self.point_at_edges(name)
        self.qiniu.add_live_domain(name, hub)

    def old_certificate(self, name: str) -> Issued:
        """Issue a certificate for a name that is near its end."""
        end = utc_now() + OLD_LIFE_LEFT
        return self.old_authority.issue([name], end - timedelta(days=90), end)

    def point_at_edges(self, name: str) -> None:
        """Point a name's DNS at the edges."""
        at_cdn = f"{base_name(name)}.{CDN_ZONE}"
        self.zones.seed(name, "CNAME", f"{at_cdn}.")
        for address in self.qiniu.edges.addresses:
            self.zones.seed(at_cdn, "A", address)

    # how to reach it

    @property
    def environment(self) -> dict[str, str]:
        """The credentials under the names that the configuration refers to."""
        keys = self.credentials
        return {
            "DP_Id": keys.dnspod_id,
            "DP_Key": keys.dnspod_token,
            "QINIU_ACCESS_KEY": keys.access_key,
            "QINIU_SECRET_KEY": keys.secret_key,
        }

    def secrets(self) -> tuple[str, ...]:
        """Every value that must never appear in any output."""
        keys = self.credentials
        return (keys.dnspod_token, keys.secret_key)

    def write_files(self, directory: Path, certificates: str = CERTIFICATE) -> Path:
        """Write a ready `certferry.toml` and the CA files it names; give its path.

        `certificates` are its last tables; by default the demo's.
        """
        (directory / "directory-ca.pem").write_bytes(self.pebble.ca_bundle.read_bytes())
        roots = self.pebble.root_pem().decode() + self.old_authority.root_pem
        (directory / "edge-roots.pem").write_text(roots)
        path = directory / "certferry.toml"
        path.write_text(self._toml(directory) + certificates)
        path.chmod(0o600)
        return path

    def write_base(self, directory: Path) -> Path:
        """Write `base.toml`, for `certferry init --settings`: where everything is in this world,
        without certificates and keys, and with a state of its own; give its path.
        """
        keys = tuple(f'"env:{name}"' for name in self.environment)
        place = directory / "init"  # a key file of its own, beside its state
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
"""


@contextmanager
def demonstration(
    pace: Pace | None = None, certificate_validity: timedelta | None = None
) -> Iterator[World]:
    """Run the world that the demo shows: its domains are there, and nothing is done yet."""
    with World(pace=pace, certificate_validity=certificate_validity) as world:
        world.add_https_domain(DOMAINS[0])
        world.add_http_domain(DOMAINS[1])
        yield world


def _dns(zones: Zones, pace: Pace) -> DnsService:
    places = zip(NAMESERVERS, NAMESERVER_ADDRESSES, pace.nameserver_lags, strict=True)
    servers = [NameServer(zones, host, address, lag=lag) for host, address, lag in places]
    return DnsService(zones, servers, Resolver(zones, servers, RESOLVER_ADDRESS))


def _at_qiniu(name: str) -> str:
    """Return a domain's name as Qiniu spells it: wildcards begin with a dot.

    docs/facts/qiniu.md §5.2.
    """
    return f".{base_name(name)}" if is_wildcard(name) else name
