"""The digest of a host's declaration, and the choice among the declarations of several hosts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired import certificate as desired
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment
from certferry.core.desired.declaration import (
    TOLERATED,
    Declaration,
    delivered,
    digest_of_declaration,
    outdated,
)
from certferry.values import replace
from tests.core.strategies import NOW, certificate, hostnames

PROGRAM = desired.Program(("reload",), "/etc", timedelta(seconds=60))
HTTPS = desired.DesiredHttps(force_https=True, http2=False, tls_versions=("TLSv1.2", "TLSv1.3"))
CDN = DesiredDeployment(
    "qiniu",
    ("img.example.com", "b.example.com"),
    desired.Kind.CDN,
    HTTPS,
    globs=("*.img.example.com", ".b.example.com"),
    exclude=("c.example.com", "d.example.com"),
)
IMG = DesiredCertificate(
    "img",
    ("img.example.com", "b.example.com", "*.example.com"),
    "dnspod",
    deployments=(CDN, DesiredDeployment("other")),
    issuance=desired.Issuance(("short", "classic"), (desired.Authority("le", "https://le/"),)),
)
FILES = desired.PemFiles("/etc/fullchain.pem", "/etc/privkey.pem")

OTHERWISE: dict[type[Any], dict[str, object]] = {
    DesiredCertificate: {
        "lineage": "api",
        "names": ("img.example.com",),
        "dns": "alidns",
        "key_type": KeyType.RSA2048,
        "deployments": (),
        "files": FILES,
        "dns_zones": (("example.com", "dnspod"),),
        "issuance": desired.Issuance(),
    },
    DesiredDeployment: {
        "target": "qiniu-2",
        "domains": None,
        "kind": desired.Kind("pili"),
        "https": desired.DesiredHttps(),
        "retire": desired.Retirement.NEVER,
        "drift": desired.DriftPolicy.WARN,
        "on_failure": desired.OnFailure.ROLLBACK,
        "globs": (),
        "exclude": (),
    },
    desired.DesiredHttps: {"force_https": False, "http2": True, "tls_versions": ("TLSv1.3",)},
    desired.Issuance: {
        "profiles": ("classic", "short"),
        "authorities": (desired.Authority("le", "https://other/"),),
        "reuse_key": True,
        "dns_persist": True,
    },
}
"""Another value for each field that changes a run, by declared type."""

HOSTS_OWN = {
    DesiredCertificate: {"offered", "offered_fullchain", "offered_issuer_end"},
    DesiredDeployment: {"delivery", "serves"},
}
"""Fields about a host's observation, or about its own work."""


def _with(changed: object) -> DesiredCertificate:
    match changed:
        case DesiredCertificate():
            return changed
        case desired.Issuance():
            return replace(IMG, issuance=changed)
        case desired.DesiredHttps():
            changed = replace(CDN, https=changed)
    assert isinstance(changed, DesiredDeployment)
    return replace(IMG, deployments=(changed, *IMG.deployments[1:]))


@pytest.mark.parametrize(
    ("whole", "name"),
    [
        (whole, field.name)
        for whole in (IMG, CDN, HTTPS, IMG.issuance)
        for field in fields(whole)
        if field.name not in HOSTS_OWN.get(type(whole), ())
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_every_field_that_changes_a_run_changes_the_digest(whole: Any, name: str) -> None:
    """A new field needs a line in the table above."""
    other = replace(whole, **{name: OTHERWISE[type(whole)][name]})
    assert digest_of_declaration(IMG) != digest_of_declaration(_with(other))


def test_fields_of_a_host_leave_the_digest() -> None:
    """Receivers, paths and contents of a source, and the name of a CA belong to a host."""
    files = delivered(desired.FileDelivery("/etc/tls", reload=PROGRAM))
    command = delivered(desired.CommandDelivery("push", PROGRAM))
    assert digest_of_declaration(IMG) == digest_of_declaration(
        replace(IMG, deployments=(files, *IMG.deployments, command))
    )
    named = replace(IMG.issuance, authorities=(desired.Authority("other", "https://le/"),))
    assert digest_of_declaration(IMG) == digest_of_declaration(replace(IMG, issuance=named))

    imported = replace(IMG, files=FILES, names=())
    offered = replace(imported, names=IMG.names, offered=certificate(), offered_fullchain="aa")
    elsewhere = replace(imported, files=desired.PemFiles("/opt/a.pem", "/opt/b.pem"))
    assert {digest_of_declaration(imported)} == {
        digest_of_declaration(offered),
        digest_of_declaration(elsewhere),
    }


@given(st.data(), st.lists(hostnames, min_size=1, unique=True))
def test_declarations_of_equal_meaning_have_equal_digests(
    data: st.DataObject, names: list[str]
) -> None:
    """Only the first name has a fixed place; other names, domains and patterns may come in any
    order.
    """
    first, *others = names

    def mixed(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(data.draw(st.permutations(values)))

    cdn = replace(CDN, domains=tuple(names), globs=tuple(names), exclude=tuple(names))
    tls = replace(HTTPS, tls_versions=mixed(HTTPS.tls_versions or ()))
    other = replace(
        cdn,
        domains=mixed(cdn.domains or ()),
        globs=mixed(cdn.globs),
        exclude=mixed(cdn.exclude),
        https=tls,
    )
    same = replace(IMG, names=(first, *mixed(tuple(others))), deployments=(other,))
    assert digest_of_declaration(
        replace(IMG, names=tuple(names), deployments=(cdn,))
    ) == digest_of_declaration(same)
    if others:
        moved = replace(same, names=(*same.names[1:], first))
        assert digest_of_declaration(moved) != digest_of_declaration(same)


def test_digest_of_every_release() -> None:
    """Hosts of two releases agree: a field may be new or move, but keeps the name."""
    assert "8c208f58f162384c" == digest_of_declaration(IMG)[:16]
    assert (
        "fb68f15f5da7f837"
        == digest_of_declaration(DesiredCertificate("img", ("img.example.com",)))[:16]
    )


HOSTS = ("web-1", "web-2", "web-3")
DIGESTS = ("a", "b", "c")
moments = st.integers(0, 5).map(lambda hours: NOW + timedelta(hours=hours))


@given(
    st.dictionaries(st.sampled_from(HOSTS), st.tuples(st.sampled_from(DIGESTS), moments)),
    st.fixed_dictionaries(dict.fromkeys(DIGESTS, moments)),
)
def test_declaration_that_counts_among_hosts(
    current: dict[str, tuple[str, Any]], first_seen: dict[str, Any]
) -> None:
    """The latest new digest counts, on all hosts with that digest. Every other host knows their
    names, and the moment of the change.
    """
    declared = [
        Declaration("img", host, digest, max(since, first_seen[digest]), first_seen[digest])
        for host, (digest, since) in current.items()
    ]
    old = {host: outdated(declared, host).get("img") for host in current}
    in_force = {current[host][0] for host, state in old.items() if state is None}
    assert bool(current) == len(in_force)
    for declaration in declared:
        superseded = old[declaration.host]
        if superseded is not None:
            (newest,) = in_force
            assert {host for host in current if current[host][0] == newest} == {*superseded.hosts}
            assert first_seen[newest] >= declaration.first_seen_at
            assert superseded.since == max(declaration.since, first_seen[newest])
            assert superseded.is_tolerated(superseded.since)
            assert not superseded.is_tolerated(superseded.since + TOLERATED)
