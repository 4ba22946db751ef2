"""Pebble as a process: it comes up, issues what our DNS proves, and is gone at the end."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.jwk import JWKRSA

from certferry.errors import CaUnavailable, ConfigError
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones

NOWHERE = "127.0.0.1:9"  # the discard port: for a CA that is not asked to prove anything
NAME = "img.example.com"
CHALLENGE = f"_acme-challenge.{NAME}"
DEADLINE = 10.0


@pytest.fixture
def zones() -> Zones:
    """The zones that the CA's resolver knows."""
    store = Zones()
    store.add_zone("example.com", ["ns1.dns.test"])
    return store


@pytest.fixture
def dns(zones: Zones) -> Iterator[DnsService]:
    """A name server and the CA's resolver."""
    servers = [NameServer(zones, "ns1.dns.test", "127.0.53.1")]
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.53.9")) as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A client without proxies from the environment."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in Pebble's place."""

    def write(script: str) -> None:
        program = tmp_path / "pebble"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return write


def until(condition: Callable[[], bool]) -> bool:
    """Poll until the condition holds, or the deadline has passed."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def processes_of(directory: Path) -> list[int]:
    """The processes whose command line speaks of Pebble's files."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


class Applicant:
    """A small ACME client, on the library that certferry uses."""

    def __init__(self, pebble: Pebble) -> None:
        self.account_key = JWKRSA.load(_rsa_pem())
        network = client.ClientNetwork(self.account_key, timeout=20)
        network.session.trust_env = False
        network.session.verify = str(pebble.ca_bundle)
        network.verify_ssl = str(pebble.ca_bundle)  # type: ignore[assignment]  # a path works too
        self.network = network
        self.client = client.ClientV2(
            messages.Directory.from_json(network.get(pebble.directory_url).json()), network
        )

    def register(self) -> None:
        """Make an account."""
        self.client.new_account(messages.NewRegistration(terms_of_service_agreed=True))

    def order(self) -> tuple[messages.OrderResource, messages.ChallengeBody]:
        """Order a certificate for NAME and give its DNS-01 challenge."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        order = self.client.new_order(csr.public_bytes(serialization.Encoding.PEM))
        (authorization,) = order.authorizations
        (challenge,) = (
            body
            for body in authorization.body.challenges
            if isinstance(body.chall, challenges.DNS01)
        )
        return order, challenge

    def txt_value(self, challenge: messages.ChallengeBody) -> str:
        """The value to show in DNS."""
        return str(challenge.chall.validation(self.account_key))

    def finish(
        self, order: messages.OrderResource, challenge: messages.ChallengeBody
    ) -> list[x509.Certificate]:
        """Answer the challenge and fetch the chain."""
        self.client.answer_challenge(challenge, challenge.chall.response(self.account_key))
        chain = self.client.poll_and_finalize(order).fullchain_pem
        return x509.load_pem_x509_certificates(chain.encode())


def _rsa_pem() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_directory_answers_over_its_own_tls(session: requests.Session) -> None:
    """The bundle vouches for the directory, and nothing else does."""
    with Pebble(NOWHERE) as pebble:
        bundle = str(pebble.ca_bundle)
        directory = session.get(pebble.directory_url, verify=bundle, timeout=DEADLINE).json()
        with pytest.raises(requests.exceptions.SSLError):
            session.get(pebble.directory_url, timeout=DEADLINE)

        assert {"newAccount", "newOrder", "renewalInfo"} <= directory.keys()
        assert not directory["meta"]["externalAccountRequired"]


def test_certificate_is_issued_for_what_dns_proves(dns: DnsService, zones: Zones) -> None:
    """The CA asks our resolver; chain, lifetime and status are as they should be."""
    with Pebble(
        dns.resolver_endpoint, certificate_validity=timedelta(days=6), nonce_reject=0
    ) as pebble:
        applicant = Applicant(pebble)
        applicant.register()
        order, challenge = applicant.order()
        zones.create(CHALLENGE, "TXT", applicant.txt_value(challenge))
        leaf, issuer = applicant.finish(order, challenge)
        root = x509.load_pem_x509_certificate(pebble.root_pem())

        leaf.verify_directly_issued_by(issuer)
        issuer.verify_directly_issued_by(root)
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert timedelta(days=6) == lifetime + timedelta(seconds=1)
        assert "Valid" == pebble.certificate_status(f"{leaf.serial_number:x}")
        with pytest.raises(KeyError):
            pebble.certificate_status("1234")
    assert {CHALLENGE} == {query.name for query in dns.resolver.queries if query.type == "TXT"}


def test_name_without_its_record_is_not_proven(dns: DnsService) -> None:
    """The CA really asks; without the value it issues nothing."""
    with Pebble(dns.resolver_endpoint, nonce_reject=0) as pebble:
        applicant = Applicant(pebble)
        applicant.register()
        with pytest.raises(errors.ValidationError):
            applicant.finish(*applicant.order())
    assert CHALLENGE in {query.name for query in dns.resolver.queries}


def test_time_to_wait_is_sent_with_what_is_in_progress(dns: DnsService) -> None:
    """A client is told when to ask again, in seconds or as a date (RFC 9110 §10.2.3)."""
    dns.resolver.down()
    with Pebble(dns.resolver_endpoint, nonce_reject=0, retry_after=timedelta(seconds=7)) as pebble:
        applicant = Applicant(pebble)
        applicant.register()
        order, challenge = applicant.order()
        applicant.client.answer_challenge(
            challenge, challenge.chall.response(applicant.account_key)
        )
        _, response = applicant.client.poll(order.authorizations[0])

        assert response.headers["Retry-After"] == "7" or "GMT" in response.headers["Retry-After"]


def test_account_without_binding_is_refused_when_one_is_required(
    session: requests.Session,
) -> None:
    """With MAC keys given, an account must be bound to one of them (RFC 8555 §7.3.4)."""
    with Pebble(
        NOWHERE, nonce_reject=0, eab={"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"}
    ) as pebble:
        applicant = Applicant(pebble)
        with pytest.raises(messages.Error, match="externalAccountRequired"):
            applicant.register()


def test_settings_reach_the_process() -> None:
    """The log says what it was told; foreign settings of the environment are not taken over."""
    with Pebble(
        NOWHERE,
        nonce_reject=37,
        authz_reuse=63,
        strict=False,
        certificate_validity=timedelta(days=1),
    ) as pebble:
        log = pebble.log
    assert "Configured to reject 37% of good nonces" in log
    assert "authz reuse for each identifier 63% of the time" in log
    assert "validity period of 86400 seconds" in log
    assert "Disabling random VA sleeps" in log
    assert "Running in strict mode" not in log


def test_settings_of_the_environment_are_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that makes every challenge valid would make every test of DNS worthless."""
    monkeypatch.setenv("PEBBLE_VA_ALWAYS_VALID", "1")
    with Pebble(NOWHERE) as pebble:
        assert "ALWAYS" not in pebble.log.upper()


def test_nothing_is_left_after_the_end() -> None:
    """The process is gone, its files too, the log is kept; it can start again."""
    pebble = Pebble(NOWHERE)
    for _ in range(2):
        with pebble:
            directory = pebble.ca_bundle.parent
            assert processes_of(directory)
        assert [] == processes_of(directory)
        assert not directory.exists()
        assert "ACME directory available" in pebble.log
    pebble.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = pebble.directory_url


def test_it_outlives_the_thread_that_started_it(session: requests.Session) -> None:
    """Only the end of the whole process ends it."""
    pebble = Pebble(NOWHERE)
    starter = threading.Thread(target=pebble.start)
    starter.start()
    starter.join()
    try:
        bundle = str(pebble.ca_bundle)
        answer = session.get(pebble.directory_url, verify=bundle, timeout=DEADLINE)
        assert answer.ok
    finally:
        pebble.stop()


def test_it_dies_with_a_parent_that_was_killed() -> None:
    """Not even SIGKILL leaves a certificate authority or its files behind."""
    program = (
        "import sys, time\n"
        "from certferry_sandbox.pebble import Pebble\n"
        f"pebble = Pebble({NOWHERE!r}).start()\n"
        "print(pebble.ca_bundle, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        directory = Path(parent.stdout.readline().decode().strip()).parent
        assert processes_of(directory)
        parent.send_signal(signal.SIGKILL)

    assert until(lambda: not processes_of(directory))
    assert until(lambda: not directory.exists())


def test_missing_program_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="`pebble` is not installed") as caught:
        Pebble(NOWHERE).start()
    assert "apt install pebble" in str(caught.value.hint)


def test_process_that_breaks_is_told_with_its_last_words(
    programs: Callable[[str], None], tmp_path: Path
) -> None:
    """The error carries the log, and nothing stays behind."""
    programs(f'echo "$2" > {tmp_path}/config; echo out of luck; exit 3')

    with pytest.raises(CaUnavailable, match="out of luck"):
        Pebble(NOWHERE).start()
    assert not Path((tmp_path / "config").read_text().strip()).parent.exists()


def test_port_taken_in_the_meantime_is_replaced(
    programs: Callable[[str], None], tmp_path: Path
) -> None:
    """When another process was faster at a port, the next attempt takes others."""
    real = shutil.which("pebble")
    programs(
        f'test -e {tmp_path}/again && exec {real} "$@"\n'
        f"touch {tmp_path}/again; echo listen: address already in use; exit 1"
    )

    with Pebble(NOWHERE) as pebble:
        assert pebble.root_pem()


def test_search_for_ports_is_bounded(programs: Callable[[str], None], tmp_path: Path) -> None:
    """After a handful of attempts it is an error."""
    programs(f"echo x >> {tmp_path}/attempts; echo listen: address already in use; exit 1")

    with pytest.raises(CaUnavailable, match="already in use"):
        Pebble(NOWHERE).start()
    assert 5 == len((tmp_path / "attempts").read_text().split())
