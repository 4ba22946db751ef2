"""The real acme.sh, certbot and lego, each calling `certferry hook` through its own mechanism; in
the end every edge must serve the certificate.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certferry.core.certificates.certificate import fingerprint
from certferry_sandbox.world import World
from tests.acceptance.clients.acme_sh import AcmeSh, SuppliedAcmeSh
from tests.acceptance.clients.old_homes import TXT_RECORD
from tests.acceptance.clients.program import run_to_its_end
from tests.acceptance.host import Host, certificate
from tests.acceptance.public_names import answered
from tests.acceptance.requests_made import RequestsMade
from tests.support.programs import needs, program_path
from tests.support.tiers import long, thorough
from tests.support.waiting import eventually

SKIPPED = "证书未变更,跳过同步"
QINIU_KEYS = ("QINIU_ACCESS_KEY", "QINIU_SECRET_KEY")


def served(world: World, name: str) -> dict[str, str]:
    """Return the fingerprint that each edge serves to a visitor."""
    context = ssl.create_default_context(cadata=world.pebble.root_pem().decode())
    fingerprints = {}
    for address in world.qiniu.edges.addresses:
        with (
            socket.create_connection((address, world.qiniu.edges.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        assert der is not None
        fingerprints[address] = fingerprint(der)
    return fingerprints


def everywhere(world: World, fullchain: Path) -> dict[str, str]:
    leaf = x509.load_pem_x509_certificate(fullchain.read_bytes())
    der = leaf.public_bytes(serialization.Encoding.DER)
    return dict.fromkeys(world.qiniu.edges.addresses, fingerprint(der))


def sentences(log: str) -> list[str]:
    """Return the lines of a log, stripped of their times."""
    return [line.partition("] ")[2] for line in log.splitlines()]


def imported(name: str, fullchain: Path, privkey: Path) -> str:
    return (
        f'\n[[certificates]]\nname = "{name}"\nfullchain = "{fullchain}"\nprivkey = "{privkey}"\n'
        '[[certificates.deploy]]\nto = "qiniu"\n'
    )


def run(world: World, *arguments: str, **environ: str) -> str:
    """Run a client to its end, with `certferry` in the PATH, and return its output."""
    variables = {
        **os.environ,
        **world.environment,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NO_PROXY": "*",
        "DNSPOD_API": world.dnspod.url,
        "ZONE": "example.com",
        **environ,
    }
    return run_to_its_end(arguments, variables)


@long
@pytest.mark.parametrize("client", [SuppliedAcmeSh, pytest.param(AcmeSh, marks=thorough)])
def test_the_whole_recipe_with_acme_sh(
    world: World, tmp_path: Path, name: str, client: type[AcmeSh]
) -> None:
    """The certificate is issued, installed, and deployed by `--reloadcmd`; after a forced renewal
    every edge serves the new certificate. A repeated run leaves the CDN alone and reports so, by
    the deploy hook as well.
    """
    other = f"a.{name}"
    world.add_https_domain(other)
    installed = tmp_path / "ssl"
    installed.mkdir()
    fullchain, log = installed / "fullchain.pem", tmp_path / "cdn.log"
    host = Host(world, tmp_path, imported("pics", fullchain, installed / "privkey.pem"))
    acme_sh = client(world, tmp_path, CERTFERRY_CONFIG=str(host.config))
    acme_sh.issue(name, f"*.{name}")
    install = (
        "--install-cert", "-d", name,
        "--fullchain-file", str(fullchain), "--key-file", str(installed / "privkey.pem"),
        "--reloadcmd", f"certferry --lang zh --log-file {log} hook acme.sh",
    )  # fmt: skip

    reported = acme_sh.run(*install)

    first = everywhere(world, fullchain)
    assert "Reload successful" in reported
    assert [first, first] == [served(world, domain) for domain in (name, other)]

    earlier = log.read_text()
    acme_sh.renew(name, install)

    second = everywhere(world, fullchain)
    assert first != second
    assert [second, second] == [served(world, domain) for domain in (name, other)]
    story = sentences(log.read_text().removeprefix(earlier))
    assert [": hook 开始", "运行结束，退出码 0"] == [story[0][-9:], story[-1]]
    adopted, *others = (line for line in story if " 完成: " in line)
    assert adopted.startswith("pics: 接管 完成: 有效期至 ")
    for domain in (name, other):
        assert [
            f"pics: 部署 完成: qiniu → {domain}: 已绑定",
            f"pics: 验证 完成: {domain}: 所有能连上的节点都已换上该证书",
        ] == [line for line in others if f" {domain}: " in line]
    assert 4 == len(others)
    assert SKIPPED not in log.read_text()

    before = RequestsMade.of(world)
    again = acme_sh.run(*install)
    acme_sh.run("--renew-all")  # the command of acme.sh's cron job
    since = RequestsMade.of(world) - before
    assert "Reload successful" in again
    assert (0, 0) == (since.qiniu_writes, since.certificates)
    assert [f"pics: {SKIPPED}"] == [line for line in sentences(log.read_text()) if SKIPPED in line]

    run(world, "certferry", "--config", str(host.config), "hook", "acme.sh", "--install",
        "--home", str(acme_sh.home))  # fmt: skip
    before = RequestsMade.of(world)
    reported = acme_sh.run(
        "--deploy", "-d", name, "--deploy-hook", "certferry", CERTFERRY_CONFIG=""
    )
    assert "Nothing changed: 1 certificate is as declared." in reported
    assert 0 == (RequestsMade.of(world) - before).qiniu_writes

    reported = acme_sh.run(*install, code=1, QINIU_SECRET_KEY="")
    assert "QINIU_SECRET_KEY" in reported
    assert f"Reload error for: {name}" in reported


@thorough
@long
def test_renewal_by_certbot(world: World, tmp_path: Path, name: str) -> None:
    """`--deploy-hook` deploys the first certificate and every renewal. A successful deployment
    leaves stderr empty, so a quiet renewal stays quiet.
    """
    live = tmp_path / "letsencrypt" / "live" / name
    host = Host(world, tmp_path, imported(name, live / "fullchain.pem", live / "privkey.pem"))
    certbot = Certbot(world, tmp_path, CERTFERRY_CONFIG=str(host.config))

    reported = certbot.obtain(name, hook="certferry hook certbot")

    first = everywhere(world, live / "fullchain.pem")
    assert first == served(world, name)
    assert "Hook 'deploy-hook' ran with output:" in reported
    assert "error output" not in reported

    quiet = certbot.renew("--quiet")

    assert "" == quiet
    assert everywhere(world, live / "fullchain.pem") == served(world, name) != first


@thorough
def test_failed_hook_is_seen_by_the_client_and_made_good_by_the_next_run(
    world: World, tmp_path: Path, name: str
) -> None:
    """The client reports exit code 1; the next scheduled run deploys the same certificate."""
    live = tmp_path / "letsencrypt" / "live" / name
    host = Host(world, tmp_path, imported(name, live / "fullchain.pem", live / "privkey.pem"))
    certbot = Certbot(world, tmp_path, CERTFERRY_CONFIG=str(host.config))
    world.qiniu.fail_next(name, "verify https crt fail")

    reported = certbot.obtain(name, hook="certferry hook certbot")

    assert "Hook 'deploy-hook' reported error code 1" in reported
    assert world.qiniu.bound(name) is None
    before = RequestsMade.of(world)

    made_good = run(world, "certferry", "--config", str(host.config), "sync", "--json")

    document = json.loads(made_good[made_good.index("\n{\n") :])
    assert document["ok"]
    assert 0 == (RequestsMade.of(world) - before).orders
    assert everywhere(world, live / "fullchain.pem") == served(world, name)


@needs("lego")
@thorough
@long
def test_renewal_by_lego(world: World, tmp_path: Path, name: str) -> None:
    """`--run-hook` deploys the first certificate, and `--renew-hook` the renewed certificate.
    `sync` uses lego's certificate, which has the declared names, and orders nothing.
    """
    directory = tmp_path / "lego" / "certificates"
    host = Host(
        world,
        tmp_path,
        f'\n[[certificates]]\nname = "pics"\nnames = ["{name}"]\ndns = "dnspod"\n'
        '[[certificates.deploy]]\nto = "qiniu"\n',
    )

    def lego(*arguments: str) -> str:
        return run(
            world,
            "lego", "--accept-tos", "--email", "ops@example.com", "--path", str(directory.parent),
            "--server", world.pebble.directory_url, "--domains", name, "--dns", "exec",
            "--dns.disable-cp", "--dns.resolvers", world.dns.resolver_endpoint, *arguments,
            LEGO_CA_CERTIFICATES=str(world.pebble.ca_bundle),
            EXEC_PATH=str(TXT_RECORD),
            EXEC_POLLING_INTERVAL="1",
            CERTFERRY_CONFIG=str(host.config),
        )  # fmt: skip

    lego("run", "--run-hook", "certferry hook lego")

    first = everywhere(world, directory / f"{name}.crt")
    assert first == served(world, name)

    lego("renew", "--days", "9999", "--no-random-sleep", "--renew-hook", "certferry hook lego")

    second = everywhere(world, directory / f"{name}.crt")
    assert second == served(world, name) != first

    before = RequestsMade.of(world)
    reported = run(world, "certferry", "--config", str(host.config), "sync")
    assert "Nothing changed: 1 certificate is as declared." in reported
    since = RequestsMade.of(world) - before
    assert (0, 0) == (since.orders, since.qiniu_writes)


@thorough
def test_certificate_that_no_configuration_declares(
    world: World, tmp_path: Path, name: str
) -> None:
    """The configuration has only addresses. The real acme.sh's certificate goes to each covered
    domain, with keys from the environment; a second call changes nothing at the CDN.
    """
    other = f"a.{name}"
    world.add_http_domain(other)
    host = Host(world, tmp_path, "")
    host.rewrite('access_key = "env:QINIU_ACCESS_KEY"\nsecret_key = "env:QINIU_SECRET_KEY"\n', "")
    acme_sh = AcmeSh(world, tmp_path, CERTFERRY_CONFIG=str(host.config))
    acme_sh.issue(f"*.{name}", name)
    install = ("--install-cert", "-d", f"*.{name}", "--reloadcmd", "certferry hook acme.sh")

    reported = acme_sh.run(*install)

    fullchain = acme_sh.certificate(f"*.{name}")
    assert "Reload successful" in reported
    assert 2 * [everywhere(world, fullchain)] == [served(world, domain) for domain in (name, other)]

    before = RequestsMade.of(world)
    reported = acme_sh.run(*install)
    assert "Nothing changed: 1 certificate is as declared." in reported
    assert 0 == (RequestsMade.of(world) - before).qiniu_writes


@thorough
def test_hook_without_any_file(world: World, tmp_path: Path, name: str) -> None:
    """The real acme.sh's certificate is uploaded and bound, at Qiniu's public names and with keys
    from the environment or an env file. The edges are out of reach, so the deployment stays in
    progress, which counts as success.
    """
    acme_sh = AcmeSh(world, tmp_path, CERTFERRY_CONFIG="", XDG_DATA_HOME=str(tmp_path / "data"))
    acme_sh.issue(name)
    keys = tmp_path / "keys.env"
    keys.write_text("".join(f"export {key}={world.environment[key]}\n" for key in QINIU_KEYS))
    keys.chmod(0o600)
    hook = f"certferry -v hook acme.sh --no-wait --env-file {keys}"
    install = ("--install-cert", "-d", name, "--reloadcmd", hook)
    services = {
        "api.qiniu.com": world.qiniu.api_url,
        "fusion.qiniuapi.com": world.qiniu.fusion_url,
        "uc.qiniuapi.com": world.qiniu.uc_url,
    }

    with answered(services, tmp_path) as environ:
        changed: dict[str, Any] = {**environ, "NO_PROXY": "", **dict.fromkeys(QINIU_KEYS, "")}
        reported = acme_sh.run(*install, **changed)

        assert "Reload successful" in reported
        assert "so no later run continues: have acme.sh run the hook again." in reported
        [made] = [c for c in world.qiniu.certificates.stored() if name in c.name]
        leaf = x509.load_pem_x509_certificate(acme_sh.certificate(name).read_bytes())
        assert fingerprint(leaf.public_bytes(serialization.Encoding.DER)) == made.fingerprint
        assert eventually(lambda: made.id == world.qiniu.bound(name))
        before = RequestsMade.of(world)
        acme_sh.run(*install, **changed)
        assert 0 == (RequestsMade.of(world) - before).qiniu_writes
    assert (tmp_path / "data" / "certferry" / "state.db").exists()


@thorough
def test_other_kind_of_key_than_declared_is_refused(
    world: World, tmp_path: Path, name: str
) -> None:
    """The real acme.sh's RSA certificate is refused, because another kind of key is declared. The
    next run issues the declared kind, and the hook leaves the new certificate alone.
    """
    host = Host(world, tmp_path, certificate(name))
    acme_sh = AcmeSh(world, tmp_path, CERTFERRY_CONFIG=str(host.config))
    acme_sh.issue(name, key_length="2048")
    install = ("--install-cert", "-d", name, "--reloadcmd", "certferry hook acme.sh")

    reported = acme_sh.run(*install, code=1)

    assert f"{name}: the key is rsa2048; declared: ec256" in reported
    assert world.qiniu.bound(name) is None
    assert 0 == host.run("sync").code
    before = RequestsMade.of(world)
    acme_sh.run(*install, code=1)
    assert 0 == host.run("sync").code
    since = RequestsMade.of(world) - before
    assert (0, 0) == (since.orders, since.qiniu_writes)


@thorough
def test_the_old_dispatchers_mode(
    world: World, tmp_path: Path, name: str, new_name: Callable[[], str]
) -> None:
    """The mode deploys the certificates for Qiniu and no others. A deployment that has only begun
    counts as success, and the next call finishes the deployment.
    """
    undeployed = new_name()
    host = Host(world, tmp_path, certificate(name) + certificate(undeployed, to=None))

    begun = host.run("hook", "qiniu", "--no-wait")

    assert 0 == begun.code, begun
    assert f"{name}: waiting" in begun.out
    assert "" == begun.err

    finished = host.run("hook", "qiniu")

    assert 0 == finished.code, finished
    assert "served by every address that answers" in finished.out
    assert host.fingerprints(name) == list(set(served(world, name).values()))
    assert [] == host.fingerprints(undeployed)


class Certbot:
    def __init__(self, world: World, directory: Path, **environ: str) -> None:
        program_path("certbot")
        self._world = world
        self._environ = {**environ, "REQUESTS_CA_BUNDLE": str(world.pebble.ca_bundle)}
        places = {"config-dir": "letsencrypt", "work-dir": "work", "logs-dir": "logs"}
        self._places = [f"--{name}={directory / place}" for name, place in places.items()]

    def obtain(self, name: str, *, hook: str) -> str:
        """Obtain a certificate with a hook, which certbot stores for renewals."""
        how = ("--manual", "--preferred-challenges", "dns")
        prove = ("--manual-auth-hook", f"{TXT_RECORD} present")
        clean = ("--manual-cleanup-hook", f"{TXT_RECORD} cleanup")
        who = ("--server", self._world.pebble.directory_url, "--agree-tos", "-m", "ops@example.com")
        return self._run("certonly", *who, *how, *prove, *clean, "-d", name, "--deploy-hook", hook)

    def renew(self, *arguments: str) -> str:
        """Renew every certificate, due or not."""
        return self._run("renew", "--force-renewal", "--no-random-sleep-on-renew", *arguments)

    def _run(self, *arguments: str) -> str:
        options: Sequence[str] = (*self._places, "--non-interactive")
        return run(self._world, "certbot", *arguments, *options, **self._environ)
