"""The account shown, given another key, put out of use: at Pebble, killed at any call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from certferry.adapters.acme.csr import new_key
from certferry.core.certificates.certificate import KeyType
from certferry.errors import CaUnavailable, OrderFailed, PlanRefused, StateUnavailable
from certferry.ports.issuer import AccountFacts
from certferry.ports.state import AcmeAccount
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.testing.interruptions import Killed, Life
from tests.adapters.acme.account_bench import account, ca_account, registrations
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import refusal, with_fields

MOST_CALLS = 20


def order_anew(bench: Bench) -> None:
    """Order another certificate, as a later run."""
    bench.state.drop_order(bench.lease())
    assert bench.issue().key_matches


# shown


def test_account_is_shown_as_the_ca_knows_it(bench: Bench) -> None:
    """Its address, its status, whom the CA writes to; without one the CA is not asked."""
    assert None is ca_account(bench).look()
    assert [] == bench.proxy.journal
    bench.issue(issuer=bench.issuer(email="ops@example.com"))

    facts = AccountFacts(account(bench).url, "valid", ("mailto:ops@example.com",))
    assert facts == ca_account(bench).look()


def test_account_that_the_ca_does_not_know_is_shown_as_such(bench: Bench, newborn: Pebble) -> None:
    """Nothing is registered for a look."""
    bench.issue()
    bench.proxy.upstream = newborn

    assert AccountFacts(account(bench).url, None) == ca_account(bench).look()
    assert [201] == registrations(bench)


def test_account_whose_registration_was_interrupted_is_shown_as_such(bench: Bench) -> None:
    """It has no address yet."""
    bench.state.save_account(AcmeAccount(bench.proxy.directory_url, new_key(KeyType.EC256)))

    assert AccountFacts(None, None) == ca_account(bench).look()


def test_account_that_makes_no_sense_is_told(bench: Bench) -> None:
    """Whatever a CA may answer."""
    bench.issue()

    def rewrite(request: Request, response: Response) -> Response:
        is_account = request.path.startswith("/my-account")
        return with_fields(response, contact=[3]) if is_account else response

    bench.proxy.rewrite = rewrite
    with pytest.raises(CaUnavailable, match="not understood"):
        ca_account(bench).look()


def test_look_that_is_refused_is_told(bench: Bench) -> None:
    """It is not taken for an account that is gone."""
    bench.issue()
    bench.proxy.faults.add(refusal("unauthorized", "not today"), on="POST /my-account/*")

    with pytest.raises(OrderFailed, match="not today"):
        ca_account(bench).look()


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
    """It is told; the account is as it was."""
    bench.issue()
    before = account(bench)

    def rewrite(request: Request, response: Response) -> Response:
        return with_fields(response, keyChange=None) if request.path == "/dir" else response

    bench.proxy.rewrite = rewrite
    with pytest.raises(CaUnavailable, match="names no keyChange"):
        ca_account(bench).rollover()
    assert before.key_pem == account(bench).key_pem


def test_account_that_another_run_changed_meanwhile(bench: Bench) -> None:
    """What it has written stays."""
    bench.issue()
    other = replace(account(bench), next_key_pem=new_key(KeyType.EC256))

    class Meddling:
        """Changes the account just before this run does."""

        def before(self) -> None:
            """Before a call."""

        def after(self) -> None:
            """After a call."""
            bench.state.replace_account(account(bench), other)

    with pytest.raises(StateUnavailable, match="changed meanwhile"):
        ca_account(bench, Meddling()).rollover()
    assert other == account(bench)


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
            """Before a call."""
            if bench.proxy.requests("POST /sign-me-up")[1:]:
                bench.state.replace_account(changing, after)

        def after(self) -> None:
            """After a call."""

    assert ca_account(bench, First()).look() == AccountFacts(after.url, "valid")
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
    assert AccountFacts(before.url, None) == ca_account(bench).look()
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
