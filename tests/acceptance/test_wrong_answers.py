"""Wrong answers of the CA, of a resolver or in a file: reported in their own words, with all else
unchanged.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest
import trustme

from certferry.values import replace
from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.nameserver.daemon import HttpsDns
from certferry_sandbox.nameserver.service import Query, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import assert_nothing_written
from tests.adapters.acme.ports import Clock
from tests.adapters.acme.proxy import Proxy
from tests.adapters.http.peers import peer, tunnel
from tests.support.tiers import thorough

# --- Answers of the CA or of a resolver, and their silence: reported in their own words, with
# everything unchanged


FAILED = 1


def ask_for_challenge(world: World, name: str) -> None:
    question = dns.message.make_query(f"_acme-challenge.{name}", "TXT")
    dns.query.udp(question, world.dns.resolver.address, port=world.dns.port, timeout=5)


class ChoosyPebble(Pebble):
    """A CA whose policy forbids a name (`domainBlocklist` of Pebble's configuration)."""

    def __init__(self, dns_server: str, forbidden: str) -> None:
        super().__init__(dns_server)
        self._settings["domainBlocklist"] = [forbidden]


@thorough
def test_name_that_the_ca_forbids(host: Host, name: str) -> None:
    """The message quotes the CA's problem document, each part included."""
    with ChoosyPebble(host.world.dns.resolver_endpoint, name) as choosy:
        host.rewrite(host.world.pebble.directory_url, choosy.directory_url)
        (host.directory / "directory-ca.pem").write_bytes(choosy.ca_bundle.read_bytes())

        run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"{name}: issue failed: the CA refused: " in run.complaint.error
    assert "issuance is forbidden by policy" in run.complaint.error
    assert f"{name} is a forbidden domain (rejectedIdentifier)" in run.complaint.error
    assert "the CA's policy does not allow the name" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_proof_that_the_ca_does_not_accept(host: Host, name: str) -> None:
    """The message says what the CA saw in DNS; the record is removed."""
    resolver = host.world.dns.resolver
    resolver.negative_caching = 600.0
    try:
        ask_for_challenge(host.world, name)  # from now on, the CA's resolver denies the name
        run = host.run("-q", "sync")
    finally:
        resolver.negative_caching = 0.0

    assert FAILED == run.code
    assert f"the CA does not accept the proof for {name}" in run.complaint.error
    assert "Error retrieving TXT records for DNS challenge" in run.complaint.error
    assert "(unauthorized)" in run.complaint.error
    assert "the CA did not see the TXT value" in run.complaint.hint
    assert (0, 0) == (run.left.qiniu_writes, run.left.certificates)
    assert 0 == run.left.challenges
    assert [] == host.fingerprints(name)


@thorough
def test_directory_that_cannot_be_reached(host: Host, name: str) -> None:
    """The message names the host and the port, and quotes the system's words."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        host.rewrite(host.world.pebble.directory_url, f"https://127.0.0.1:{port}/dir")

        run = host.run("-q", "sync")

    assert FAILED == run.code
    message = f"issue failed: the CA could not be reached: 127.0.0.1:{port}: Connection refused"
    assert message in run.complaint.error
    assert "`directory` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_address_that_is_no_directory(host: Host, name: str) -> None:
    """An address that leads elsewhere is reported as a wrong directory."""
    url = host.world.pebble.directory_url
    host.rewrite(url, f"{url}ectory-of-somebody")

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert "certferry does not understand the CA's answer: 404 Not Found" in run.complaint.error
    assert "`directory` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_directory_that_is_not_trusted(host: Host, name: str) -> None:
    """A directory with an untrusted certificate is refused; the hint names the setting for a
    private CA.
    """
    host.rewrite('ca_bundle = "directory-ca.pem"', "")

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert "certificate verify failed" in run.complaint.error
    assert "for a private CA set `ca_bundle` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@pytest.fixture
def silent_resolver() -> Iterator[str]:
    """Return the `address:port` of a resolver that receives questions in silence."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"


@thorough
def test_resolver_of_dns_that_does_not_answer(host: Host, name: str, silent_resolver: str) -> None:
    """Without a resolver the zone stays unknown: nothing is changed, and the hint names the
    setting.
    """
    working = f'resolvers = ["{host.world.dns.resolver_endpoint}"]'
    host.rewrite("[verify]", f"[verify]\n{working}")
    host.rewrite(working, f'resolvers = ["{silent_resolver}"]')

    run = host.run_apart("-q", "sync")

    assert FAILED == run.code
    assert (
        f"{name}: issue failed: no resolver answered the query for _acme-challenge.{name}:"
        f" {silent_resolver} (no answer)"
    ) == run.complaint.error
    assert "[dns].resolvers" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_resolver_of_verify_that_does_not_answer(
    host: Host, name: str, silent_resolver: str
) -> None:
    """The verification fails although the deployment stands; with a resolver the next run sees the
    certificate at once.
    """
    host.rewrite("[verify]", f'[verify]\nresolvers = ["{silent_resolver}"]\ntimeout = 5')

    run = host.run_apart("-q", "sync")

    assert FAILED == run.code
    assert f"{name}: verify failed: no address answers" in run.complaint.error
    assert "the resolver 127.0.0.1 does not answer" in run.complaint.error
    assert "the resolvers under [verify]" in run.complaint.hint
    assert 1 == run.left.qiniu_uploads
    assert 0 == run.left.challenges

    host.rewrite(f'resolvers = ["{silent_resolver}"]', "")
    cured = host.run("sync")

    assert 0 == cured.code
    assert_nothing_written(cured.left)
    (stored,) = [c for c in host.world.qiniu.certificates.stored() if name in c.names]
    assert stored.id == host.world.qiniu.bound(name)


# --- A gateway before the CA that delivers another certificate than the ordered certificate


EVIL = "evil.example.net"


@pytest.fixture
def gateway(host: Host) -> Iterator[Proxy]:
    """A gateway in the place of the CA, which first passes all traffic on."""
    with Proxy(host.world.pebble) as proxy:
        host.rewrite(host.world.pebble.directory_url, proxy.directory_url)
        proxy.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        yield proxy


def with_another(request: Request, response: Response) -> Response:
    if not request.path.startswith("/certZ/"):
        return response
    evil = make_bundle(EVIL, not_before=Clock().now())
    return replace(response, body=evil.fullchain_pem.encode())


def test_certificate_for_another_name(host: Host, name: str, gateway: Proxy) -> None:
    """The certificate reaches neither the state nor the CDN, is reported as the CA's mistake, and
    costs a single order per day; with `--renew` another order is made at once.
    """
    gateway.rewrite = with_another

    first, second = host.run("-q", "sync"), host.run("sync", "--json")

    assert FAILED == first.code
    assert f"the CA gave a certificate that was not ordered: the certificate is for {EVIL}" in str(
        first
    )
    assert "nothing was kept or deployed" in first.complaint.hint
    assert FAILED == second.code
    assert 1 == gateway.finalized
    (lineage,) = json.loads(second.out)["certificates"]
    assert None is lineage["fingerprint"]
    (reported,) = (step for step in lineage["steps"] if step["action"] == "look")
    assert "certferry orders nothing before" in reported["detail"]
    assert reported["retry_at"] is not None
    assert_nothing_written(second.left)
    assert [] == host.fingerprints(name)

    gateway.rewrite = lambda _, response: response
    assert 0 == host.run("-q", "sync", "--renew", "--all").code
    assert 2 == gateway.finalized
    assert 1 == len(set(host.fingerprints(name)))


# --- Whole runs from networks with a peculiar DNS or a peculiar way to the CA


FAKE = "198.18.0.7"


@pytest.fixture
def closed_host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine that only stores its certificate."""
    return Host(world, tmp_path, certificate(name, to=None))


@pytest.fixture
def doh(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsDns]:
    """An honest resolver behind HTTPS, whose certificate the machine trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "doh.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "doh.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    resolver = Resolver(world.zones, world.dns.servers, "127.0.0.9")
    with HttpsDns(resolver.handle, context) as service:
        yield service


def with_dns(closed_host: Host, lines: str) -> None:
    closed_host.rewrite("[dns]\n", f"[dns]\n{lines}\n")


def questions(world: World) -> list[Query]:
    """Return the questions to servers so far, except for the CA's questions about TXT and CAA."""
    servers = [world.dns.resolver, *world.dns.servers]
    of_ca = {"TXT", "CAA"}
    queries = [query for server in servers for query in server.queries]
    return [query for query in queries if query.type not in of_ca]


def test_host_that_may_ask_no_question(world: World, closed_host: Host) -> None:
    """The run waits for the time that the operator chose, and the CA sees the challenge."""
    with_dns(closed_host, "wait = 1")
    before = questions(world)
    of_servers = [len(server.queries) for server in world.dns.servers]

    ended = closed_host.run("sync")

    assert 0 == ended.code
    assert before == questions(world)
    assert of_servers == [len(server.queries) for server in world.dns.servers]


def test_doctor_on_a_host_that_may_ask_no_question(world: World, closed_host: Host) -> None:
    """`doctor` asks only for the edges, with the resolvers of [verify]."""
    with_dns(closed_host, "wait = 1")
    before = [query.type for query in world.dns.resolver.queries]

    closed_host.run("doctor")

    types = [query.type for query in world.dns.resolver.queries][len(before) :]
    assert {"A"} == set(types)


def test_proxy_that_answers_dns_itself(world: World, closed_host: Host, doh: HttpsDns) -> None:
    """The proxy makes up addresses and answers for every name server. A resolver over HTTPS finds
    the services and the challenge.
    """
    with_dns(closed_host, f'doh = ["{doh.question_url}"]')
    closed_host.rewrite("[dns]\n", "[dns]\npropagation_timeout = 1\n")
    world.dns.resolver.faked = FAKE
    for server in world.dns.servers:
        server.lame()

    ended = closed_host.run("sync")

    assert 0 == ended.code
    assert f"made-up addresses ({FAKE} for " in ended.err
    assert "resolvers asked over HTTPS show the challenge" in ended.err


def test_proxy_that_answers_dns_itself_and_no_other_resolver(
    world: World, closed_host: Host
) -> None:
    """The hint names the cause and the remedy; no certificate is issued, and no record is left."""
    closed_host.rewrite("[dns]\n", "[dns]\npropagation_timeout = 1\n")
    world.dns.resolver.faked = FAKE

    ended = closed_host.run("-q", "sync")

    assert f"made-up addresses ({FAKE})" in ended.complaint.hint
    assert "[dns].doh" in ended.complaint.hint
    assert (0, 0) == (ended.left.certificates, ended.left.challenges)


def test_delegation_on_a_host_that_may_ask_no_question(world: World, tmp_path: Path) -> None:
    """The host could not see a CNAME: the message says so, and nothing is ordered."""
    closed_host = Host(world, tmp_path, certificate("img.elsewhere.net", to=None))
    with_dns(closed_host, "wait = 1")

    ended = closed_host.run("-q", "sync")

    assert (FAILED, 0) == (ended.code, ended.left.orders)
    assert "a CNAME to another zone would stay unseen" in ended.complaint.error
    assert "`doh` under [dns] instead of `wait`" in ended.complaint.hint


def test_doctor_asks_the_resolvers_over_https(
    world: World, closed_host: Host, doh: HttpsDns
) -> None:
    """A silent resolver is a warning; an honest resolver has no finding."""
    with_dns(closed_host, f'doh = ["{doh.question_url}", "https://127.0.0.1:9/dns-query"]')

    run = closed_host.run("doctor", "--json")

    about_resolvers = [
        finding for finding in run.document["findings"] if finding["code"].startswith("resolver_")
    ]
    assert [("warning", "resolver_silent", "https://127.0.0.1:9")] == [
        (finding["severity"], finding["code"], finding["subject"]) for finding in about_resolvers
    ]
    assert 0 == run.code
    assert doh.requests()


def test_ca_behind_a_proxy_of_its_own(world: World, closed_host: Host) -> None:
    """The requests to DNSPod and Qiniu bypass the CA's proxy."""
    ways: list[str] = []

    def counted(connection: socket.socket) -> None:
        ways.extend(connection.recv(2**12, socket.MSG_PEEK).decode().split()[1:2])
        tunnel(connection)

    with peer(counted) as place:
        closed_host.rewrite("[acme]\n", f'[acme]\nproxy = "http://{place}"\n')
        ended = closed_host.run("sync")

    assert 0 == ended.code
    assert {world.pebble.directory_url.split("/")[2]} == set(ways)


def test_ca_behind_a_missing_proxy(closed_host: Host) -> None:
    """The hint names the setting, and nothing is written to DNS."""
    closed_host.rewrite("[acme]\n", '[acme]\nproxy = "http://127.0.0.1:9"\n')

    ended = closed_host.run("-q", "sync")

    assert FAILED == ended.code
    assert "`proxy` under [acme]" in ended.complaint.hint
    assert_nothing_written(ended.left)


# --- An unreadable configuration still reaches its channels, and does no harm


OK, USAGE = 0, 2


@pytest.fixture
def host_of_a_wrong_file(
    world: World, tmp_path: Path, name: str, hook: EventReceiver, heartbeat: HeartbeatService
) -> Host:
    """A machine with a state, a channel and a heartbeat."""
    host_of_a_wrong_file = Host(world, tmp_path, certificate(name, to=None))
    declare(
        host_of_a_wrong_file,
        f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
        f'[heartbeat]\nurl = "{heartbeat.address}"\n',
    )
    assert OK == host_of_a_wrong_file.run("sync").code
    heartbeat.pings.clear()
    return host_of_a_wrong_file


def declare(host_of_a_wrong_file: Host, tables: str) -> None:
    host_of_a_wrong_file.config.write_text(host_of_a_wrong_file.config.read_text() + tables)


def events(hook: EventReceiver) -> list[tuple[str, str]]:
    return [(event["event"], event["code"]) for event in hook.events]


def kinds(heartbeat: HeartbeatService) -> list[str]:
    return [ping.kind for ping in heartbeat.pings]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("names = [", "nams = [", "did you mean names?"),
        ('dns = "dnspod"', 'dns = "dnspod', "is not TOML"),
        ("[[certificates]]", 'env_files = ["gone"]\n[[certificates]]', "env_files"),
        ("[acme]", "# \u56fe\u7247\n[acme", "is not TOML"),
    ],
    ids=["misspelt", "no quote", "wrong place", "no bracket"],
)
def test_a_mistake_in_the_file_is_reported_once_and_so_is_its_end(
    host_of_a_wrong_file: Host,
    hook: EventReceiver,
    heartbeat: HeartbeatService,
    right: str,
    wrong: str,
    words: str,
) -> None:
    """The file's channels and heartbeat report the mistake, wherever the mistake is."""
    whole = host_of_a_wrong_file.config.read_text()
    host_of_a_wrong_file.rewrite(right, wrong)

    runs = [host_of_a_wrong_file.run("-q", "sync") for _ in range(2)]

    assert [USAGE] * 2 == [run.code for run in runs]
    assert [("trouble", "config")] == events(hook)
    assert words in hook.events[0]["message"]
    assert ["start", "fail"] == kinds(heartbeat)[:2]
    assert "fail" == kinds(heartbeat)[-1]
    assert SECRET not in "".join(run.err for run in runs)
    host_of_a_wrong_file.config.write_text(whole)
    assert OK == host_of_a_wrong_file.run("sync").code
    assert [("trouble", "config"), ("recovered", "config")] == events(hook)


def test_mistake_in_a_run_by_hand_is_not_reported(
    host_of_a_wrong_file: Host, hook: EventReceiver, heartbeat: HeartbeatService
) -> None:
    """An operator reads the output of a run for one certificate and of a reading command, so no
    message is sent.
    """
    host_of_a_wrong_file.rewrite("names = [", "nams = [")

    assert [USAGE] * 2 == [
        host_of_a_wrong_file.run(*words).code for words in (["sync", "img"], ["plan"])
    ]

    assert ([], []) == (events(hook), heartbeat.pings)


def test_a_file_without_certificates_has_failed(
    host_of_a_wrong_file: Host, hook: EventReceiver, heartbeat: HeartbeatService
) -> None:
    """A truncated file must not pass for a file in order."""
    text = host_of_a_wrong_file.config.read_text()
    at, to = text.index("[[certificates]]"), text.index("[notify.hook]")
    host_of_a_wrong_file.config.write_text(text[:at] + text[to:])

    run = host_of_a_wrong_file.run("-q", "sync")

    assert USAGE == run.code
    assert f"{host_of_a_wrong_file.config} declares no certificate" == run.complaint.error
    assert "certferry init" in run.complaint.hint
    assert ["start", "fail"] == kinds(heartbeat)
    assert [("trouble", "none_declared")] == events(hook)


def test_an_empty_file_has_failed(host_of_a_wrong_file: Host) -> None:
    """The exit code reports the empty file, since the file has no channel."""
    host_of_a_wrong_file.config.write_text("")

    run = host_of_a_wrong_file.run("sync", "--json")

    assert (USAGE, "none_declared") == (run.code, run.document["error"]["code"])


def test_a_file_that_others_may_write_is_reported_without_a_state(
    host_of_a_wrong_file: Host, hook: EventReceiver, heartbeat: HeartbeatService
) -> None:
    """The mistake and its end are reported once a day; the file's `url` of the state is ignored."""
    other = host_of_a_wrong_file.directory / "other.db"
    whole = host_of_a_wrong_file.config.read_text()
    host_of_a_wrong_file.rewrite(f"sqlite:///{host_of_a_wrong_file.state}", f"sqlite:///{other}")
    host_of_a_wrong_file.config.chmod(0o666)

    runs = [host_of_a_wrong_file.run("-q", "sync") for _ in range(2)]

    assert [USAGE] * 2 == [run.code for run in runs]
    assert [("trouble", "config")] == events(hook)
    assert "chmod go-w" in hook.events[0]["hint"]
    assert "fail" in kinds(heartbeat)
    assert not other.exists()
    host_of_a_wrong_file.config.write_text(whole)
    host_of_a_wrong_file.config.chmod(0o600)
    assert OK == host_of_a_wrong_file.run("sync").code
    assert [("trouble", "config"), ("recovered", "config")] == events(hook)


def test_a_file_that_others_may_write_starts_no_program_and_gives_no_secret_away(
    host_of_a_wrong_file: Host, hook: EventReceiver, heartbeat: HeartbeatService
) -> None:
    """Another user may have written the command, the message and the address."""
    ran = host_of_a_wrong_file.directory / "ran"
    touch = f'["{sys.executable}", "-c", "open({str(ran)!r}, \'w\')"]'
    text = host_of_a_wrong_file.config.read_text()
    host_of_a_wrong_file.config.write_text(
        text[: text.index("[notify.hook]")]
        + f'[notify.program]\ntype = "command"\ncommand = {touch}\n'
        f'[notify.stolen]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "env:DP_Key"\n'
        f'[notify.bark]\nkey = "env:DP_Key"\napi = "{hook.url}"\n'
        f'[heartbeat]\nurl = "command:touch {ran}"\n'
    )
    host_of_a_wrong_file.config.chmod(0o666)

    assert USAGE == host_of_a_wrong_file.run("sync").code

    assert not ran.exists()
    assert ([], []) == (hook.taken, heartbeat.pings)
    assert [] == hook.journal


def test_a_file_that_others_may_write_pings_fail_at_an_address_of_the_environment(
    host_of_a_wrong_file: Host, heartbeat: HeartbeatService
) -> None:
    """Only the address is sent, and only to itself."""
    host_of_a_wrong_file.rewrite(f'url = "{heartbeat.address}"', 'url = "env:BEAT"')
    host_of_a_wrong_file.config.chmod(0o666)

    assert USAGE == host_of_a_wrong_file.run("sync", BEAT=heartbeat.address).code

    assert ["start", "fail"] == kinds(heartbeat)


def test_a_killed_run_is_reported_though_the_file_is_wrong_by_now(
    host_of_a_wrong_file: Host, hook: EventReceiver
) -> None:
    """The system's report reaches the channel all the same."""
    host_of_a_wrong_file.rewrite("names = [", "nams = [")

    reported = host_of_a_wrong_file.run("notify", "failed", MONITOR_SERVICE_RESULT="oom-kill")

    assert USAGE == reported.code
    assert [("trouble", "run_cut_short")] == events(hook)
