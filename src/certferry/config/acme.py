"""`[acme]`: which CAs are asked, as whom, and for what."""

from __future__ import annotations

from collections.abc import Iterator

from certferry.config.addresses import DIRECTORIES, STAGING, directory_url, email_address
from certferry.config.authorities import called, read_authority, read_fallback
from certferry.config.check import key_type
from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.findings import Finding
from certferry.config.model import AcmeSettings, CaSettings, DnsSettings
from certferry.config.table import Table
from certferry.config.values import flag, word
from certferry.core.certificate import KeyType
from certferry.core.issuance import Authority, Issuance
from certferry.text import Text

_USUAL = DIRECTORIES["letsencrypt"]


def read_acme(table: Table, paths: Paths) -> AcmeSettings:
    """Read `[acme]`."""
    usual = read_authority(table, paths, None, CaSettings(called(_USUAL), _USUAL))
    settings = AcmeSettings(
        usual=usual,
        key_type=table.take("key_type", key_type, KeyType.EC256),
        email=table.take("email", email_address, None),
        profiles=_profiles(table),
        fallback=read_fallback(table, paths, usual),
        preferred_chain=table.take("preferred_chain", word, None),
        reuse_key=table.take("reuse_key", flag, False),  # noqa: FBT003 - the default of a setting
        staging=table.take("staging", directory_url, STAGING.get(usual.directory)),
        dns_persist=table.take("dns_persist", flag, False),  # noqa: FBT003 - the same
    )
    table.done()
    return settings


def issuance_of(acme: AcmeSettings) -> Issuance:
    """Say how certificates are ordered."""
    authorities = tuple(Authority(one.name, one.directory) for one in acme.authorities)
    return Issuance(acme.profiles, authorities, acme.reuse_key, acme.dns_persist)


def unseen_records(acme: AcmeSettings, dns: DnsSettings, place: Place) -> Iterator[Finding]:
    """Find that records are to prove names, on a host that asks for none."""
    if acme.dns_persist and dns.wait is not None:
        problem = Text("not with `wait` under [dns]: the records are looked up before an order")
        yield place.finding("dns_persist", problem)


def _profiles(table: Table) -> tuple[str, ...]:
    """Read one profile, or a list in order of preference."""
    if table.is_list("profile"):
        return tuple(dict.fromkeys(table.take_list("profile", word, ())))
    one = table.take("profile", word, None)
    return () if one is None else (one,)
