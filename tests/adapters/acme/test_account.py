"""The account at the CA: registration, status, key rollover, and deactivation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from acme import messages
from josepy.jwk import JWKEC

from certferry.adapters.acme.account import AcmeCaAccount
from certferry.adapters.acme.acme_client import Client
from certferry.adapters.acme.csr import new_key
from certferry.adapters.acme.network import Network
from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import KeyType
from certferry.core.redaction import Secret
from certferry.errors import (
    CaUnavailable,
    OrderFailed,
    PlanRefused,
    StateError,
    StateUnavailable,
)
from certferry.ports.issuer import AccountFacts
from certferry.ports.state import AcmeAccount
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.interruptions import Altered, Killed, Life
from certferry_sandbox.testing.memory_state import MemoryState
from tests.adapters.acme.account_bench import account, ca_account, registrations
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.ports import Clock
from tests.adapters.acme.proxy import refusal, with_fields
from tests.support.hosts import HOSTS, at_once
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import long, thorough

# --- Registration: once, again after an interruption, and anew when the CA lost the account


def deactivate(bench: Bench) -> None:
    """Deactivate the account with its key, as another ACME client may do (RFC 8555 §7.3.6)."""
    stored = account(bench)
    assert stored.url is not None
    with closing(Network(bench.settings(), bench.clock.pause, bench.clock.now)) as network:
        client = Client.at(bench.proxy.directory_url, network)
        key = JWKEC.load(stored.key_pem.reveal().encode())
        assert isinstance(key, JWKEC)
        client.sign_in(key, stored.url)
        network.post(
            stored.url,
            messages.UpdateRegistration(status=messages.STATUS_DEACTIVATED),
            new_nonce_url=client.directory["newNonce"],
        )


def test_account_is_registered_once(bench: Bench) -> None:
    """The second run uses the account without a request for the account."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    bench.issue()

    assert [201] == registrations(bench)
    assert account(bench).url is not None


@pytest.mark.parametrize(
    ("email", "contact"), [("ops@example.com", ["mailto:ops@example.com"]), (None, None)]
)
def test_contact_is_optional_and_terms_are_accepted(
    bench: Bench, email: str | None, contact: list[str] | None
) -> None:
    """The address is sent unchanged, or left out."""
    bench.issue(issuer=bench.issuer(email=email))

    registration = bench.proxy.payload("POST /sign-me-up")
    assert contact == registration.get("contact")
    assert registration["termsOfServiceAgreed"] is True


def test_interrupted_registration_is_continued(bench: Bench) -> None:
    """The key is stored before the first request, so the CA finds the same account."""
    bench.proxy.faults.add(Fault.reset_after(), on="POST /sign-me-up", times=3)
    with pytest.raises(Exception, match="could not be reached"):
        bench.issue()
    interrupted = account(bench)
    assert interrupted.url is None

    bench.issue()

    assert interrupted.key_pem == account(bench).key_pem
    assert [None, None, None, 200] == registrations(bench)


def test_account_that_the_ca_lost_is_registered_again(bench: Bench, new_ca: Pebble) -> None:
    """A reinstalled CA knows neither the account nor the open order."""
    bench.issue()
    forgotten = account(bench)
    bench.proxy.upstream = new_ca
    bundle = bench.issue()

    assert bundle.key_matches
    assert [201, 201] == registrations(bench)
    assert forgotten.key_pem != account(bench).key_pem


def test_deactivated_account_is_replaced(bench: Bench) -> None:
    """The old key is unusable, so the new account has another key."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    deactivated = account(bench)
    deactivate(bench)

    assert bench.issue().key_matches
    assert deactivated.key_pem != account(bench).key_pem


def test_refusal_for_another_reason_keeps_the_account(bench: Bench) -> None:
    """`unauthorized` has several meanings, so the CA is asked about the account first."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    before = account(bench)
    bench.proxy.faults.add(refusal("unauthorized", "not this name"), on="POST /order-plz")

    with pytest.raises(OrderFailed, match="not this name"):
        bench.issue()

    assert before == account(bench)
    assert [201, 200] == registrations(bench)


def test_failed_request_for_the_account_is_reported(bench: Bench) -> None:
    """The account is kept when the CA fails to say whether the account exists."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    before = account(bench)
    bench.proxy.faults.add(refusal("unauthorized", "not this name"), on="POST /order-plz")
    bench.proxy.faults.add(refusal("rateLimited", "too often", 429), on="POST /sign-me-up")

    with pytest.raises(Exception, match="too often"):
        bench.issue()
    assert before == account(bench)


def test_account_is_replaced_once_in_a_run(bench: Bench) -> None:
    """A CA that loses the new account as well gets no third registration."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    fault = refusal("accountDoesNotExist", "who are you", 400)
    bench.proxy.faults.add(fault, on="POST /order-plz", times=None)

    with pytest.raises(OrderFailed, match="who are you") as failure:
        bench.issue()

    assert [201, 201] == registrations(bench)
    assert failure.value.retry.allowed


@pytest.mark.parametrize("pem", ["nonsense", "rsa"])
def test_unusable_account_key_is_reported(bench: Bench, pem: str) -> None:
    """The error blames the state, and no account is registered."""
    key = new_key(KeyType.RSA2048) if pem == "rsa" else Secret(pem)
    bench.state.save_account(AcmeAccount(bench.proxy.directory_url, key))

    with pytest.raises(StateError, match="account key"):
        bench.issue()
    assert [] == registrations(bench)


# --- The account's commands at Pebble: status, key rollover, and deactivation


MOST_CALLS = 20


def order_anew(bench: Bench) -> None:
    """Order another certificate, as a later run does."""
    bench.state.drop_order(bench.lease())
    assert bench.issue().key_matches


# --- Status


def test_account_facts_come_from_the_ca(bench: Bench) -> None:
    """The facts are URL, status and contacts. Without an account no request is made."""
    assert None is ca_account(bench).facts()
    assert [] == bench.proxy.journal
    bench.issue(issuer=bench.issuer(email="ops@example.com"))

    facts = AccountFacts(account(bench).url, "valid", ("mailto:ops@example.com",))
    assert facts == ca_account(bench).facts()


def test_facts_of_an_unknown_account(bench: Bench, new_ca: Pebble) -> None:
    """The facts contain no status, and no account is registered."""
    bench.issue()
    bench.proxy.upstream = new_ca

    assert AccountFacts(account(bench).url, None) == ca_account(bench).facts()
    assert [201] == registrations(bench)


def test_facts_after_an_interrupted_registration(bench: Bench) -> None:
    """The account has no URL yet."""
    bench.state.save_account(AcmeAccount(bench.proxy.directory_url, new_key(KeyType.EC256)))

    assert AccountFacts(None, None) == ca_account(bench).facts()


def test_malformed_account_is_reported(bench: Bench) -> None:
    """Any malformed answer is an error of the CA."""
    bench.issue()

    def rewrite(request: Request, response: Response) -> Response:
        is_account = request.path.startswith("/my-account")
        return with_fields(response, contact=[3]) if is_account else response

    bench.proxy.rewrite = rewrite
    with pytest.raises(CaUnavailable, match="does not understand"):
        ca_account(bench).facts()


def test_refused_request_for_the_facts_is_reported(bench: Bench) -> None:
    """A refusal is different from a missing account."""
    bench.issue()
    bench.proxy.faults.add(refusal("unauthorized", "not today"), on="POST /my-account/*")

    with pytest.raises(OrderFailed, match="not today"):
        ca_account(bench).facts()


# --- Key rollover


def test_rollover_replaces_the_key(bench: Bench) -> None:
    """The CA accepts only the new key, and the account stays the same."""
    bench.issue()
    before = account(bench)

    ca_account(bench).rollover()

    after = account(bench)
    assert (before.url, None) == (after.url, after.next_key_pem)
    assert before.key_pem != after.key_pem
    order_anew(bench)
    assert [201] == registrations(bench)


def kills_of_a_rollover(new_bench: Callable[[], Bench]) -> list[Bench]:
    """Return benches with a killed rollover, each killed a call later than the bench before.

    Calls of the state and of the CA count; the CA's answer to the last call is lost.
    """
    benches: list[Bench] = []
    for calls in range(1, MOST_CALLS):
        bench = new_bench()
        bench.issue()
        life = Life(calls)
        bench.proxy.life = life
        with contextlib.suppress(Killed, CaUnavailable):
            ca_account(bench, life).rollover()
        bench.proxy.life = None
        if not life.is_over:
            return benches
        benches.append(bench)
    raise AssertionError("the rollover never ended")


@thorough
@long
def test_next_run_after_a_killed_rollover_has_a_valid_key(
    new_bench: Callable[[], Bench],
) -> None:
    """After a kill at any call the next order uses the same account."""
    benches = kills_of_a_rollover(new_bench)

    assert len(benches) > 4
    changed = 0
    for bench in benches:
        before = account(bench)
        order_anew(bench)

        assert before.url == account(bench).url
        assert 201 not in registrations(bench)[1:]
        changed += before.next_key_pem is not None and account(bench).next_key_pem is None
    assert changed


@thorough
@long
def test_second_rollover_finishes_a_killed_rollover(new_bench: Callable[[], Bench]) -> None:
    """Afterwards the account has a single key, which the CA accepts."""
    for bench in kills_of_a_rollover(new_bench):
        ca_account(bench).rollover()

        assert None is account(bench).next_key_pem
        order_anew(bench)
        assert 201 not in registrations(bench)[1:]


def test_lost_answer_to_a_rollover(bench: Bench) -> None:
    """The CA refuses the repetition of a successful rollover, and the new key is recognised."""
    bench.issue()
    before = account(bench)
    bench.proxy.faults.add(Fault.reset_after(), on="POST /rollover-account-key")

    ca_account(bench).rollover()

    assert before.key_pem != account(bench).key_pem
    order_anew(bench)


def test_refused_rollover(bench: Bench) -> None:
    """The old key stays, and later runs ignore the other key."""
    bench.issue()
    before = account(bench)
    bench.proxy.faults.add(refusal("badPublicKey", "no"), on="POST /rollover-account-key")

    with pytest.raises(OrderFailed, match="badPublicKey"):
        ca_account(bench).rollover()

    assert before == account(bench)
    order_anew(bench)


def test_uncertain_rollover_keeps_both_keys(bench: Bench) -> None:
    """The CA may have changed the key, so the next attempt uses the same new key."""
    bench.issue()
    busy = refusal("serverInternal", "later", 503)
    bench.proxy.faults.add(busy, on="POST /rollover-account-key", times=3)
    with pytest.raises(CaUnavailable, match="later"):
        ca_account(bench).rollover()
    stored = account(bench)
    assert stored.next_key_pem is not None

    ca_account(bench).rollover()

    assert stored.next_key_pem == account(bench).key_pem


def test_ca_without_key_rollover(bench: Bench) -> None:
    """The error is reported, and the account keeps its key."""
    bench.issue()
    before = account(bench)

    def rewrite(request: Request, response: Response) -> Response:
        return with_fields(response, keyChange=None) if request.path == "/dir" else response

    bench.proxy.rewrite = rewrite
    with pytest.raises(CaUnavailable, match="has no keyChange"):
        ca_account(bench).rollover()
    assert before.key_pem == account(bench).key_pem


def test_account_changed_by_another_run(bench: Bench) -> None:
    """The account of the other run stays."""
    bench.issue()
    other = replace(account(bench), next_key_pem=new_key(KeyType.EC256))

    def read_before_change(directory: str) -> AcmeAccount | None:
        """Read the account, which another run changes immediately afterwards."""
        stored = bench.state.account(directory)
        bench.state.replace_account(account(bench), other)
        return stored

    state: Any = Altered(bench.state, account=read_before_change)
    at_ca = AcmeCaAccount(bench.settings(), state, bench.clock.pause, bench.clock.now)
    with pytest.raises(StateUnavailable, match="another run is working on the account"):
        at_ca.rollover()
    assert other == account(bench)


class FastClock(Clock):
    """A clock on which every pause takes forty times as long."""

    def pause(self, seconds: float) -> None:
        super().pause(40 * seconds)


def test_account_locked_by_another_run(bench: Bench) -> None:
    """The wait is as long as a dead host's lease may last, and no account is registered."""
    bench.state = MemoryState()
    bench.clock = FastClock()
    name = f"\1account {bench.proxy.directory_url}"
    bench.state.acquire(name, bench.clock.now())
    before = bench.clock.now()

    with pytest.raises(StateUnavailable, match="another run is working on the account"):
        bench.issue()
    with pytest.raises(StateUnavailable, match="another run is working on the account"):
        ca_account(bench).rollover()

    assert timedelta(minutes=6) <= bench.clock.now() - before <= timedelta(minutes=7)
    assert [] == registrations(bench)


HOST = """
import sys, time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from certferry.adapters.acme.account import AccountKeeper, AcmeCaAccount
from certferry.adapters.acme.acme_client import opened
from certferry.adapters.acme.network import IssuerSettings
from certferry.adapters.state.connect import connect
from certferry.core.redaction import Secret

url, key, host, directory, ca_bundle, work = sys.argv[1:]
settings = IssuerSettings(directory=directory, ca_bundle=Path(ca_bundle))
now = lambda: datetime.now(UTC)
with closing(connect(url, Secret(key), host=host)) as state:
    print("ready", flush=True)
    sys.stdin.readline()
    if work == "rollover":
        AcmeCaAccount(settings, state, time.sleep, now).rollover()
    with opened(settings, time.sleep, now) as client:
        account = AccountKeeper(settings, state, time.sleep, now).sign_in(client)
        print(account.url, client.account(account.url).status, flush=True)
"""


def hosts_at(bench: Bench, url: str, work: str) -> list[str]:
    """Run hosts with a shared state at the same moment; return the output of each host."""
    bundle = str(bench.settings().ca_bundle)
    return at_once(HOST, url, bench.proxy.directory_url, bundle, work)


def test_simultaneous_hosts_register_a_single_account(bench: Bench, postgresql: Postgresql) -> None:
    """The first host stores the account, and the other hosts use the stored account."""
    url = postgresql.url(postgresql.new_state())

    outputs = hosts_at(bench, url, "sign in")

    assert 1 == len(set(outputs))
    assert [201] == registrations(bench)
    with closing(connect(url, KEY, host="web-9")) as state:
        stored = state.account(bench.proxy.directory_url)
    assert stored is not None
    assert {f"{stored.url} valid\n"} == set(outputs)


def test_simultaneous_rollovers_follow_one_another(bench: Bench, postgresql: Postgresql) -> None:
    """Each host ends with a valid key of the same account."""
    url = postgresql.url(postgresql.new_state())
    hosts_at(bench, url, "sign in")

    outputs = hosts_at(bench, url, "rollover")

    assert 1 == len(set(outputs))
    assert outputs[0].endswith(" valid\n")
    assert [201] == registrations(bench)
    changes = [call.status for call in bench.proxy.journal if "rollover" in call.request.path]
    assert [200] * HOSTS == changes


def test_run_uses_the_key_that_another_run_settled(bench: Bench) -> None:
    """The second run continues with the stored result of the first run."""
    bench.issue()
    before = account(bench)
    changing = replace(before, next_key_pem=new_key(KeyType.EC256))
    bench.state.replace_account(before, changing)
    ca_account(bench).rollover()
    after = account(bench)
    bench.state.replace_account(after, changing)

    class First:
        """Another run, which is faster."""

        def before(self) -> None:
            if bench.proxy.requests("POST /sign-me-up")[1:]:
                bench.state.replace_account(changing, after)

        def after(self) -> None:
            """Do nothing after a call."""

    assert ca_account(bench, First()).facts() == AccountFacts(after.url, "valid")
    assert after == account(bench)


def test_lost_account_with_two_keys(bench: Bench, new_ca: Pebble) -> None:
    """The CA knows neither key, so a new account replaces the old account."""
    bench.issue()
    before = account(bench)
    bench.state.replace_account(before, replace(before, next_key_pem=new_key(KeyType.EC256)))
    bench.proxy.upstream = new_ca

    order_anew(bench)

    assert None is account(bench).next_key_pem
    assert before.key_pem != account(bench).key_pem


# --- Deactivation


def test_deactivation_ends_the_account(bench: Bench) -> None:
    """The CA refuses the account afterwards, and the next order registers another account."""
    bench.issue()
    before = account(bench)

    ca_account(bench).deactivate()

    assert None is bench.state.account(bench.proxy.directory_url)
    bench.state.save_account(before)
    assert AccountFacts(before.url, None) == ca_account(bench).facts()
    order_anew(bench)
    assert before.key_pem != account(bench).key_pem


def test_lost_answer_to_a_deactivation(bench: Bench) -> None:
    """The CA refuses the repetition, and then reports the account as deactivated."""
    bench.issue()
    bench.proxy.faults.add(Fault.reset_after(), on="POST /my-account/*")

    ca_account(bench).deactivate()

    assert None is bench.state.account(bench.proxy.directory_url)


def test_refused_deactivation(bench: Bench) -> None:
    """The account stays in use."""
    bench.issue()
    bench.proxy.faults.add(refusal("unauthorized", "not today"), on="POST /my-account/*")

    with pytest.raises(OrderFailed, match="not today"):
        ca_account(bench).deactivate()
    order_anew(bench)
    assert [201, 200] == registrations(bench)


@pytest.mark.parametrize("act", ["rollover", "deactivate"])
def test_changes_without_an_account_are_refused(bench: Bench, act: str) -> None:
    """The change is refused before any registration."""
    with pytest.raises(PlanRefused, match="there is no account at"):
        getattr(ca_account(bench), act)()
    assert [] == registrations(bench)
