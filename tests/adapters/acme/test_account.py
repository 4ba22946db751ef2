"""The account at the CA: made, found again, shown, given another key, put out of use."""

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

# --- The account: made once, found again, made anew when the CA has forgotten it


def deactivate(bench: Bench) -> None:
    """Do what an operator can do elsewhere with the account's key (RFC 8555 §7.3.6)."""
    kept = account(bench)
    assert kept.url is not None
    with closing(Network(bench.settings(), bench.clock.pause, bench.clock.now)) as network:
        client = Client.at(bench.proxy.directory_url, network)
        key = JWKEC.load(kept.key_pem.reveal().encode())
        assert isinstance(key, JWKEC)
        client.sign_in(key, kept.url)
        network.post(
            kept.url,
            messages.UpdateRegistration(status=messages.STATUS_DEACTIVATED),
            new_nonce_url=client.directory["newNonce"],
        )


def test_account_is_made_once(bench: Bench) -> None:
    """The second run uses it without asking."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    bench.issue()

    assert [201] == registrations(bench)
    assert account(bench).url is not None


@pytest.mark.parametrize(
    ("email", "contact"), [("ops@example.com", ["mailto:ops@example.com"]), (None, None)]
)
def test_contact_is_optional_and_the_terms_are_agreed_to(
    bench: Bench, email: str | None, contact: list[str] | None
) -> None:
    """The address goes out as it was written, or not at all."""
    bench.issue(issuer=bench.issuer(email=email))

    registration = bench.proxy.payload("POST /sign-me-up")
    assert contact == registration.get("contact")
    assert registration["termsOfServiceAgreed"] is True


def test_account_whose_registration_was_interrupted_is_found_again(bench: Bench) -> None:
    """Its key was kept before the CA was asked, so that the same account is in force."""
    bench.proxy.faults.add(Fault.reset_after(), on="POST /sign-me-up", times=3)
    with pytest.raises(Exception, match="could not be reached"):
        bench.issue()
    interrupted = account(bench)
    assert interrupted.url is None

    bench.issue()

    assert interrupted.key_pem == account(bench).key_pem
    assert [None, None, None, 200] == registrations(bench)


def test_account_that_the_ca_has_forgotten_is_registered_again(
    bench: Bench, newborn: Pebble
) -> None:
    """A CA that was set up anew knows neither the account nor the order in progress."""
    bench.issue()
    forgotten = account(bench)
    bench.proxy.upstream = newborn
    bundle = bench.issue()

    assert bundle.key_matches
    assert [201, 201] == registrations(bench)
    assert forgotten.key_pem != account(bench).key_pem


def test_account_that_was_deactivated_is_replaced(bench: Bench) -> None:
    """Its key is of no use any more, so the new account has another."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    deactivated = account(bench)
    deactivate(bench)

    assert bench.issue().key_matches
    assert deactivated.key_pem != account(bench).key_pem


def test_refusal_for_another_reason_costs_no_account(bench: Bench) -> None:
    """`unauthorized` says many things; the CA is asked before an account is given up."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    before = account(bench)
    bench.proxy.faults.add(refusal("unauthorized", "not this name"), on="POST /order-plz")

    with pytest.raises(OrderFailed, match="not this name"):
        bench.issue()

    assert before == account(bench)
    assert [201, 200] == registrations(bench)


def test_question_about_the_account_that_fails_is_reported(bench: Bench) -> None:
    """When the CA cannot say whether it knows the account, nothing is forgotten."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    before = account(bench)
    bench.proxy.faults.add(refusal("unauthorized", "not this name"), on="POST /order-plz")
    bench.proxy.faults.add(refusal("rateLimited", "too often", 429), on="POST /sign-me-up")

    with pytest.raises(Exception, match="too often"):
        bench.issue()
    assert before == account(bench)


def test_account_is_replaced_once_in_a_run(bench: Bench) -> None:
    """A CA that forgets the new one too is reported, not asked for ever."""
    bench.issue()
    bench.state.drop_order(bench.lease())
    fault = refusal("accountDoesNotExist", "who are you", 400)
    bench.proxy.faults.add(fault, on="POST /order-plz", times=None)

    with pytest.raises(OrderFailed, match="who are you") as failure:
        bench.issue()

    assert [201, 201] == registrations(bench)
    assert failure.value.retry.allowed


@pytest.mark.parametrize("pem", ["nonsense", "rsa"])
def test_account_key_that_cannot_be_used_is_reported(bench: Bench, pem: str) -> None:
    """The state is at fault, and nothing is registered."""
    key = new_key(KeyType.RSA2048) if pem == "rsa" else Secret(pem)
    bench.state.save_account(AcmeAccount(bench.proxy.directory_url, key))

    with pytest.raises(StateError, match="account key"):
        bench.issue()
    assert [] == registrations(bench)


# --- The account shown, given another key, put out of use: at Pebble, killed at any call


MOST_CALLS = 20


def order_anew(bench: Bench) -> None:
    """Order another certificate, as a later run."""
    bench.state.drop_order(bench.lease())
    assert bench.issue().key_matches


# shown


def test_account_is_shown_as_the_ca_knows_it(bench: Bench) -> None:
    """Its address, its status, whom the CA writes to; without one the CA is not asked."""
    assert None is ca_account(bench).facts()
    assert [] == bench.proxy.journal
    bench.issue(issuer=bench.issuer(email="ops@example.com"))

    facts = AccountFacts(account(bench).url, "valid", ("mailto:ops@example.com",))
    assert facts == ca_account(bench).facts()


def test_account_that_the_ca_does_not_know_is_shown_as_such(bench: Bench, newborn: Pebble) -> None:
    """Nothing is registered for a look."""
    bench.issue()
    bench.proxy.upstream = newborn

    assert AccountFacts(account(bench).url, None) == ca_account(bench).facts()
    assert [201] == registrations(bench)


def test_account_whose_registration_was_interrupted_is_shown_as_such(bench: Bench) -> None:
    """It has no address yet."""
    bench.state.save_account(AcmeAccount(bench.proxy.directory_url, new_key(KeyType.EC256)))

    assert AccountFacts(None, None) == ca_account(bench).facts()


def test_account_that_makes_no_sense_is_reported(bench: Bench) -> None:
    """Whatever a CA may answer."""
    bench.issue()

    def rewrite(request: Request, response: Response) -> Response:
        is_account = request.path.startswith("/my-account")
        return with_fields(response, contact=[3]) if is_account else response

    bench.proxy.rewrite = rewrite
    with pytest.raises(CaUnavailable, match="does not understand"):
        ca_account(bench).facts()


def test_look_that_is_refused_is_reported(bench: Bench) -> None:
    """It is not taken for an account that is gone."""
    bench.issue()
    bench.proxy.faults.add(refusal("unauthorized", "not today"), on="POST /my-account/*")

    with pytest.raises(OrderFailed, match="not today"):
        ca_account(bench).facts()


# another key


def test_account_gets_another_key(bench: Bench) -> None:
    """The CA takes the new one only, and it is the same account."""
    bench.issue()
    before = account(bench)

    ca_account(bench).rollover()

    after = account(bench)
    assert (before.url, None) == (after.url, after.next_key_pem)
    assert before.key_pem != after.key_pem
    order_anew(bench)
    assert [201] == registrations(bench)


def kills_of_a_rollover(new_bench: Callable[[], Bench]) -> list[Bench]:
    """Benches in which a change of the key was killed, each one call later than the one before:
    of the state, and at the CA, whose answer is then lost.
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
    raise AssertionError("the change never came to its end")


@thorough
@long
def test_next_run_after_a_killed_rollover_has_a_key_that_is_in_force(
    new_bench: Callable[[], Bench],
) -> None:
    """Whenever it was killed: the next order is made by the same account."""
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
def test_rollover_after_a_killed_one_is_finished(new_bench: Callable[[], Bench]) -> None:
    """Afterwards there is one key, and the CA takes it."""
    for bench in kills_of_a_rollover(new_bench):
        ca_account(bench).rollover()

        assert None is account(bench).next_key_pem
        order_anew(bench)
        assert 201 not in registrations(bench)[1:]


def test_answer_to_the_change_that_is_lost(bench: Bench) -> None:
    """Sent again, it is refused, since it was carried out; the new key is known all the same."""
    bench.issue()
    before = account(bench)
    bench.proxy.faults.add(Fault.reset_after(), on="POST /rollover-account-key")

    ca_account(bench).rollover()

    assert before.key_pem != account(bench).key_pem
    order_anew(bench)


def test_change_that_the_ca_refuses(bench: Bench) -> None:
    """The old key stays, and no run asks about the other one any more."""
    bench.issue()
    before = account(bench)
    bench.proxy.faults.add(refusal("badPublicKey", "no"), on="POST /rollover-account-key")

    with pytest.raises(OrderFailed, match="badPublicKey"):
        ca_account(bench).rollover()

    assert before == account(bench)
    order_anew(bench)


def test_change_while_the_ca_is_busy_keeps_both_keys(bench: Bench) -> None:
    """It may have been carried out; the next try uses the same new key."""
    bench.issue()
    busy = refusal("serverInternal", "later", 503)
    bench.proxy.faults.add(busy, on="POST /rollover-account-key", times=3)
    with pytest.raises(CaUnavailable, match="later"):
        ca_account(bench).rollover()
    kept = account(bench)
    assert kept.next_key_pem is not None

    ca_account(bench).rollover()

    assert kept.next_key_pem == account(bench).key_pem


def test_ca_without_a_change_of_keys(bench: Bench) -> None:
    """It is reported; the account is as it was."""
    bench.issue()
    before = account(bench)

    def rewrite(request: Request, response: Response) -> Response:
        return with_fields(response, keyChange=None) if request.path == "/dir" else response

    bench.proxy.rewrite = rewrite
    with pytest.raises(CaUnavailable, match="has no keyChange"):
        ca_account(bench).rollover()
    assert before.key_pem == account(bench).key_pem


def test_account_that_another_run_changed_meanwhile(bench: Bench) -> None:
    """What it has written stays."""
    bench.issue()
    other = replace(account(bench), next_key_pem=new_key(KeyType.EC256))

    def read_and_changed(directory: str) -> AcmeAccount | None:
        """Read the account, which another run changes just before this one does."""
        found = bench.state.account(directory)
        bench.state.replace_account(account(bench), other)
        return found

    meddled: Any = Altered(bench.state, account=read_and_changed)
    at_ca = AcmeCaAccount(bench.settings(), meddled, bench.clock.pause, bench.clock.now)
    with pytest.raises(StateUnavailable, match="another run is working on the account"):
        at_ca.rollover()
    assert other == account(bench)


class HastyClock(Clock):
    """One on which every rest takes forty times as long as it was to."""

    def pause(self, seconds: float) -> None:
        super().pause(40 * seconds)


def test_account_that_another_run_works_on(bench: Bench) -> None:
    """It is waited for as long as a dead host's lease may last, and nothing is registered."""
    bench.state = MemoryState()
    bench.clock = HastyClock()
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
    """Let hosts that share a state begin at the same moment; return what each says."""
    bundle = str(bench.settings().ca_bundle)
    return at_once(HOST, url, bench.proxy.directory_url, bundle, work)


def test_hosts_that_begin_at_once_register_one_account(
    bench: Bench, postgresql: Postgresql
) -> None:
    """The others take what the first has stored, and ask the CA for none."""
    url = postgresql.url(postgresql.new_state())

    said = hosts_at(bench, url, "sign in")

    assert 1 == len(set(said))
    assert [201] == registrations(bench)
    with closing(connect(url, KEY, host="web-9")) as state:
        known = state.account(bench.proxy.directory_url)
    assert known is not None
    assert {f"{known.url} valid\n"} == set(said)


def test_hosts_that_replace_the_key_at_once(bench: Bench, postgresql: Postgresql) -> None:
    """One after the other: each has a key that the CA knows, and it is one account."""
    url = postgresql.url(postgresql.new_state())
    hosts_at(bench, url, "sign in")

    said = hosts_at(bench, url, "rollover")

    assert 1 == len(set(said))
    assert said[0].endswith(" valid\n")
    assert [201] == registrations(bench)
    changes = [call.status for call in bench.proxy.journal if "rollover" in call.request.path]
    assert [200] * HOSTS == changes


def test_run_that_was_second_to_settle_the_key(bench: Bench) -> None:
    """It goes on with what the first one has written."""
    bench.issue()
    before = account(bench)
    changing = replace(before, next_key_pem=new_key(KeyType.EC256))
    bench.state.replace_account(before, changing)
    ca_account(bench).rollover()
    after = account(bench)
    bench.state.replace_account(after, changing)

    class First:
        """Another run, which is first."""

        def before(self) -> None:
            if bench.proxy.requests("POST /sign-me-up")[1:]:
                bench.state.replace_account(changing, after)

        def after(self) -> None:
            """After a call."""

    assert ca_account(bench, First()).facts() == AccountFacts(after.url, "valid")
    assert after == account(bench)


def test_account_with_two_keys_that_the_ca_has_forgotten(bench: Bench, newborn: Pebble) -> None:
    """Neither is known: a new account takes its place."""
    bench.issue()
    before = account(bench)
    bench.state.replace_account(before, replace(before, next_key_pem=new_key(KeyType.EC256)))
    bench.proxy.upstream = newborn

    order_anew(bench)

    assert None is account(bench).next_key_pem
    assert before.key_pem != account(bench).key_pem


# out of use


def test_account_is_put_out_of_use(bench: Bench) -> None:
    """The CA takes nothing from it any more; the next order makes another."""
    bench.issue()
    before = account(bench)

    ca_account(bench).deactivate()

    assert None is bench.state.account(bench.proxy.directory_url)
    bench.state.save_account(before)
    assert AccountFacts(before.url, None) == ca_account(bench).facts()
    order_anew(bench)
    assert before.key_pem != account(bench).key_pem


def test_deactivation_whose_answer_was_lost_is_done(bench: Bench) -> None:
    """Sent again, it is refused; the CA says that it has no such account in force."""
    bench.issue()
    bench.proxy.faults.add(Fault.reset_after(), on="POST /my-account/*")

    ca_account(bench).deactivate()

    assert None is bench.state.account(bench.proxy.directory_url)


def test_deactivation_that_is_refused(bench: Bench) -> None:
    """The account stays."""
    bench.issue()
    bench.proxy.faults.add(refusal("unauthorized", "not today"), on="POST /my-account/*")

    with pytest.raises(OrderFailed, match="not today"):
        ca_account(bench).deactivate()
    order_anew(bench)
    assert [201, 200] == registrations(bench)


@pytest.mark.parametrize("act", ["rollover", "deactivate"])
def test_without_an_account_there_is_nothing_to_change(bench: Bench, act: str) -> None:
    """It is refused, and nothing is registered."""
    with pytest.raises(PlanRefused, match="there is no account at"):
        getattr(ca_account(bench), act)()
    assert [] == registrations(bench)
