"""`[acme]`: which CAs are asked, as whom, and for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from certferry.config.check import existing_file, key_type, secret_reference
from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.mistakes import Mistake
from certferry.config.model import AcmeSettings, CaSettings, DnsSettings
from certferry.config.secrets import Resolve
from certferry.config.table import Table, with_hint
from certferry.config.values import (
    DIRECTORIES,
    STAGING,
    Read,
    directory_url,
    email_address,
    flag,
    proxy_url,
    word,
)
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import Authority, ExternalAccount, Issuance
from certferry.errors import ConfigError
from certferry.text import Text

_KEYS = ("directory", "ca_bundle", "proxy", "eab_kid", "eab_hmac_key")


def read_authority(table: Table, paths: Paths, name: str | None, usual: CaSettings) -> CaSettings:
    """Read a CA's own settings from its table; `usual` has what is not said there. Without a name
    it is called as its directory is.
    """
    directory = table.take("directory", directory_url, usual.directory)
    found = CaSettings(
        name=name or called(directory),
        directory=directory,
        ca_bundle=table.take("ca_bundle", existing_file(paths), usual.ca_bundle),
        proxy=table.take("proxy", proxy_url, usual.proxy),
        eab_kid=table.take("eab_kid", word, None),
        eab_hmac_key=table.take("eab_hmac_key", secret_reference(table), None),
    )
    for key, other in (("eab_kid", "eab_hmac_key"), ("eab_hmac_key", "eab_kid")):
        if key not in table and other in table:
            table.report(key, Text("missing: it goes together with {other}", other=other))
    return found


def read_fallback(table: Table, paths: Paths, usual: CaSettings) -> tuple[CaSettings, ...]:
    """Read the CAs of `fallback`, each with the table under [acme] that is called like it."""
    found = table.take_list("fallback", _fallback(table, paths, usual), (), empty=True)
    seen = {usual.directory}
    for number, one in enumerate(found):
        if one.directory in seen:
            problem = Text("{name} is asked already", name=one.name)
            table.report("fallback", problem, item=number)
        seen.add(one.directory)
    return found


def _fallback(table: Table, paths: Paths, usual: CaSettings) -> Read[CaSettings]:
    def read(value: object) -> CaSettings:
        written = word(value)
        own = table.table(written) if written in table and written not in _KEYS else None
        has_directory = own is not None and "directory" in own
        directory = usual.directory if has_directory else _known(written)
        before = replace(usual, directory=directory)
        if own is None:
            return CaSettings(called(directory), directory, usual.ca_bundle, usual.proxy)
        settings = read_authority(own, paths, written, before)
        own.done()
        return settings

    return read


def _known(written: str) -> str:
    try:
        return directory_url(written)
    except ConfigError as problem:
        message = Text(
            "{problem}; or the name of a table under [acme] with a `directory`",
            problem=problem.message,
        )
        raise ConfigError(message) from None


def called(directory: str) -> str:
    """Return what operators call a directory: its short name, or its host's."""
    names = {url: name for name, url in DIRECTORIES.items()}
    return names.get(directory) or urlsplit(directory).netloc


def wrong_bindings(acme: AcmeSettings, place: Place, resolve: Resolve) -> Iterator[Mistake]:
    """Find the external account keys that can be none, as far as `resolve` gives them. Where one is
    missing is told when it is needed.
    """
    for number, ca in enumerate(acme.authorities):
        if ca.eab_kid is None or ca.eab_hmac_key is None or not ca.eab_hmac_key.is_at_rest:
            continue
        try:
            key = resolve(ca.eab_hmac_key)
        except ConfigError:
            continue
        try:
            ExternalAccount(ca.eab_kid, key)
        except ConfigError as problem:
            where = place if number == 0 else place.below(ca.name)
            yield where.mistake("eab_hmac_key", with_hint(problem))


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


def unseen_records(acme: AcmeSettings, dns: DnsSettings, place: Place) -> Iterator[Mistake]:
    """Find that records are to prove names, on a host that asks for none."""
    if acme.dns_persist and dns.wait is not None:
        problem = Text("not with `wait` under [dns]: the records are looked up before an order")
        yield place.mistake("dns_persist", problem)


def _profiles(table: Table) -> tuple[str, ...]:
    """Read one profile, or a list in order of preference."""
    if table.is_list("profile"):
        return tuple(dict.fromkeys(table.take_list("profile", word, ())))
    one = table.take("profile", word, None)
    return () if one is None else (one,)
