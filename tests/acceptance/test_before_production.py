"""What the guide before production promises, step by step: docs/how-to/before-production.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certferry.core.certificates.certificate import fingerprint
from certferry_sandbox.world import World
from tests.acceptance.footprint import NOBODY_ASKED, Footprint, challenges
from tests.acceptance.host import Host, certificate
from tests.sandbox.qiniu_calls import Client
from tests.support.waiting import eventually


def test_staging_needs_no_target(world: World, tmp_path: Path, new_name: Callable[[], str]) -> None:
    """A certificate without a deployment is issued, renewed and exported; Qiniu is not asked."""
    name, before = new_name(), Footprint.of(world)
    host = Host(world, tmp_path, certificate(name, f"*.{name}", name="staging", to=None))

    assert 0 == host.run("plan").code
    assert 0 == host.run("sync").code
    assert 0 == host.run("sync", "--renew", "staging").code
    exported = host.run("export", "staging", "--dir", str(tmp_path / "staging" / "pem"))

    assert 0 == exported.code
    leaf = x509.load_pem_x509_certificate((tmp_path / "staging/pem/cert.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {name, f"*.{name}"} == set(names.get_values_for_type(x509.DNSName))
    since = Footprint.of(world) - before
    assert (0, 2, 0) == (since.qiniu_requests, since.certificates, since.challenges)
    assert [] == [left for left in challenges(world) if name in left]


def test_one_domain_first_and_then_the_others(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The domain that is named is the only one that is planned and touched. Widened, the others
    keep their settings, and nothing that was there is removed.
    """
    test, real = new_name(), new_name()
    world.add_http_domain(test)
    world.add_https_domain(real, force_https=True, http2=True)
    old = world.qiniu.bound(real)
    host = Host(world, tmp_path, certificate(test, real, domains=[test]))

    assert real not in host.run("plan").out.replace(f"{test}, {real}", "")
    assert 0 == host.run("sync").code
    assert old == world.qiniu.bound(real)
    assert world.qiniu.bound(test) not in {None, old}

    host.rewrite(f'domains = ["{test}"]', f'domains = ["{test}", "{real}"]\nretire = "never"')

    assert f"certificate  {str(old)[:12]} → " in host.run("plan").out
    assert 0 == host.run("sync").code
    assert world.qiniu.bound(test) == world.qiniu.bound(real)
    kept = world.qiniu.domain(real).https
    assert (True, True) == (kept.force_https, kept.http2)
    assert old in {stored.id for stored in world.qiniu.certificates.stored()}
    assert host.run("sync").out.startswith(f"{test}: unchanged")


def test_state_that_is_put_back(host: Host, name: str, tmp_path: Path) -> None:
    """State and key, copied together, are all that a new machine needs to go on."""
    assert 0 == host.run("sync").code
    [issued] = host.fingerprints(name)
    backup = tmp_path / "backup"
    backup.mkdir()
    for path in (host.state, host.key_file):
        shutil.copy2(path, backup)
    shutil.rmtree(host.state.parent)

    shutil.copytree(backup, host.state.parent)
    host.state.parent.chmod(0o700)
    run = host.run("sync")

    assert (0, f"{name}: unchanged") == (run.code, run.out.splitlines()[0])
    assert (0, 0, 0) == (run.left.qiniu_writes, run.left.dnspod_writes, run.left.orders)
    exported = host.run("export", name, "--dir", str(tmp_path / "pem"))
    assert (0, NOBODY_ASKED) == (exported.code, exported.left)
    leaf = x509.load_pem_x509_certificate((tmp_path / "pem" / "cert.pem").read_bytes())
    assert issued == fingerprint(leaf.public_bytes(Encoding.DER))


def test_the_old_certificate_can_be_bound_again(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A certificate that was uploaded by hand is at Qiniu still after it was replaced."""
    name = new_name()
    world.add_https_domain(name)
    old = world.qiniu.bound(name)
    assert old is not None
    host = Host(world, tmp_path, certificate(name))
    assert 0 == host.run("sync").code
    assert old != world.qiniu.bound(name)

    keys = world.credentials
    by_hand = Client(world.qiniu, keys.access_key, keys.secret_key)
    answer = by_hand.httpsconf(name, old, forceHttps=True, http2Enable=True)

    assert 200 == answer.status_code, answer.text
    assert eventually(lambda: world.qiniu.bound(name) == old)
