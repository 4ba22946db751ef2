"""Revocations and the account at the CA: the whole command at Pebble, killed after its requests."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from certferry.values import replace
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.cli.terminals import Terminal
from tests.support import forks
from tests.support.tiers import sampled

USAGE, REFUSED, CRITICAL = 2, 3, 2
RUNNER = Path(__file__).with_name("killed.py")
SUPERSEDED = ("--reason", "superseded")


def status_at_ca(host: Host, name: str, number: int) -> str:
    with host.remembering() as store:
        serial = store.bundle(name, number).certificate.serial
    return host.world.pebble.certificate_status(serial)


def killed_after(host: Host, requests: int, *arguments: str) -> int:
    """Run the command, kill it after a number of requests, and return the number of requests."""
    log = host.directory / "requests.log"
    log.write_text("")
    command = [sys.executable, str(RUNNER), str(requests), str(log)]
    forks.run(
        [*command, "--config", str(host.config), *arguments],
        env={**os.environ, **host.world.environment},
    )
    return len(log.read_text().splitlines())


def bound(host: Host, name: str) -> str | None:
    return host.world.qiniu.bound(name)


def test_revoked_and_replaced(host: Host, name: str) -> None:
    """The CA revokes the certificate, the next run issues and serves another certificate, and the
    run after changes nothing; a rollback to the revoked certificate is refused.
    """
    host.run("sync")
    first = bound(host, name)

    run = host.run("revoke", name, *SUPERSEDED, "--yes")

    assert 0 == run.code, run
    assert "revoked, serial" in run.out
    assert "Revoked" == status_at_ca(host, name, 1)
    assert "the certificate was revoked at" in host.run("plan").out
    assert 0 == host.run("sync").code
    assert bound(host, name) not in {None, first}
    again = host.run("sync")
    assert (0, 0, 0) == (again.code, again.left.orders, again.left.qiniu_writes)
    assert "revoked" in host.run("history", name).out
    assert REFUSED == host.run("rollback", name).code


def test_revocation_that_another_program_takes_back(host: Host, name: str) -> None:
    """Despite the old row the next run replaces the certificate."""
    host.run("sync")
    first = bound(host, name)
    with closing(sqlite3.connect(host.state)) as raw, raw:
        raw.execute("CREATE TABLE kept AS SELECT * FROM version")
    host.run("revoke", name, *SUPERSEDED, "--yes")
    with closing(sqlite3.connect(host.state)) as raw, raw:
        raw.execute("DELETE FROM version")
        raw.execute("INSERT INTO version SELECT * FROM kept")

    check = host.run("state", "check")

    assert 1 == check.code
    assert f"the revocation of {name}" in check.out
    assert "the certificate was revoked at" in host.run("plan").out
    assert 0 == host.run("sync").code
    assert bound(host, name) not in {None, first}
    assert 0 == host.run("state", "check").code


def test_revoking_twice_changes_nothing(host: Host, name: str) -> None:
    """The second command does not ask the CA again."""
    host.run("sync", "--no-wait")
    host.run("revoke", name, *SUPERSEDED, "--yes")

    run = host.run("revoke", name, *SUPERSEDED, "--yes")

    assert (0, 0) == (run.code, run.left.ca_requests)
    assert "already revoked" in run.out


def test_revoke_without_a_terminal_needs_yes(host: Host, name: str) -> None:
    """The command needs `--yes` and a valid reason, and asks the CA nothing."""
    host.run("sync", "--no-wait")

    for arguments in (SUPERSEDED, ("--yes",), ("--reason", "because", "--yes")):
        run = host.run("-q", "revoke", name, *arguments)
        assert (USAGE, 0) == (run.code, run.left.ca_requests)
    for act in ("rollover", "deactivate"):
        assert USAGE == host.run("account", act, "--directory", "letsencryt").code
    run = host.run("-q", "account", "deactivate")
    assert (USAGE, 0) == (run.code, run.left.ca_requests)
    assert "--yes" in run.complaint.error
    assert "Valid" == status_at_ca(host, name, 1)


@pytest.mark.parametrize("answer", ["n\r", "y\r"])
def test_revoke_asks_at_a_terminal(host: Host, name: str, answer: str) -> None:
    """Only a yes revokes."""
    host.run("sync", "--no-wait")
    command = [sys.executable, "-m", "certferry", "--config", str(host.config)]
    with Terminal(
        [*command, "revoke", name, *SUPERSEDED], columns=200, environ=host.world.environment
    ) as terminal:
        terminal.until(lambda text: "permanently?" in text)
        terminal.type(answer)
        assert 0 == terminal.end()

    assert ("Revoked" if answer == "y\r" else "Valid") == status_at_ca(host, name, 1)
    if answer == "n\r":
        assert "Nothing was changed." in terminal.screen.text


def test_name_that_is_not_known(host: Host, name: str) -> None:
    """An unknown name is a usage error; a lineage before its first certificate is refused."""
    assert USAGE == host.run("revoke", "nonsense", *SUPERSEDED, "--yes").code
    assert REFUSED == host.run("revoke", name, *SUPERSEDED, "--yes").code


def test_compromised_key_is_not_used_again(host: Host, name: str) -> None:
    """All certificates with the key are revoked, and even with `reuse_key` the next key is new."""
    host.rewrite("[acme]\n", "[acme]\nreuse_key = true\n")
    host.run("sync", "--no-wait")
    host.run("sync", "--renew", "--all", "--no-wait")

    run = host.run("revoke", name, "--reason", "keyCompromise", "--yes")

    assert 0 == run.code, run
    assert ["Revoked", "Revoked"] == [status_at_ca(host, name, number) for number in (1, 2)]
    host.run("sync", "--no-wait")
    with host.remembering() as store:
        first, second, third = (store.bundle(name, number).privkey_pem for number in (1, 2, 3))
    assert first == second != third


def test_revocation_that_is_killed_can_be_repeated(world: World, host: Host, name: str) -> None:
    """The repeated command completes the revocation, and the certificate is replaced once."""
    host.run("sync", "--no-wait")
    begun = killed_after(host, 3, "revoke", name, *SUPERSEDED, "--yes")
    assert 3 == begun
    assert "Revoked" == status_at_ca(host, name, 1)
    assert "revoked" not in host.run("history", name).out

    assert 0 == host.run("revoke", name, *SUPERSEDED, "--yes").code

    assert 1 == host.run("sync", "--no-wait").left.certificates
    assert 1 == host.run("history", name).out.count("revoked")


def test_certificate_whose_revocation_was_killed_is_replaced(
    world: World, host: Host, name: str
) -> None:
    """After the CA's revocation every command reports the unfinished revocation. The next run
    finishes the revocation, and the reports end.
    """
    host.run("sync")
    first = bound(host, name)
    killed_after(host, 3, "revoke", name, *SUPERSEDED, "--yes")
    assert "Revoked" == status_at_ca(host, name, 1)

    assert "the revocation was started at" in host.run("plan").out
    assert "the revocation was started at" in host.run("status").out
    check = host.run("check")
    assert CRITICAL == check.code
    assert "the revocation was started at" in check.out
    assert 0 == host.run("sync").code
    assert bound(host, name) not in {None, first}

    assert "revocation" not in host.run("check").out
    assert 1 == host.run("history", name).out.count("revoked")
    assert "Valid" == status_at_ca(host, name, 2)


# The account


def account_shown(host: Host) -> Run:
    """Run `account show`."""
    return host.run("account", "show")


def test_account_is_shown(host: Host, name: str) -> None:
    """Before the first order there is no account; afterwards the output shows the account as the CA
    knows it.
    """
    assert "There is no account yet" in account_shown(host).out
    assert not host.state.exists()
    host.run("sync", "--no-wait")

    run = account_shown(host)

    assert 0 == run.code
    assert host.world.pebble.directory_url in run.out
    assert "valid, ops@example.com" in run.out


def test_account_without_an_address_and_interrupted_account(host: Host, name: str) -> None:
    """The row shows the account's standing; an unusable account fails the command."""
    host.rewrite('email = "ops@example.com"\n', "")
    host.run("sync", "--no-wait")
    assert ", valid\n" in account_shown(host).out
    with host.remembering() as store:
        (account,) = store.accounts()
        assert store.replace_account(account, replace(account, url=None))

    run = account_shown(host)

    assert 1 == run.code
    assert "the account's registration was interrupted" in run.out
    assert REFUSED == host.run("account", "rollover").code
    with host.remembering() as store:
        store.replace_account(replace(account, url=None), replace(account, url=f"{account.url}0"))
    assert "unknown to the CA" in account_shown(host).out


def test_account_gets_a_new_key_and_goes_on(host: Host, name: str) -> None:
    """The same account makes the next order."""
    host.run("sync", "--no-wait")
    before = account_shown(host).out

    assert 0 == host.run("account", "rollover").code

    assert before == account_shown(host).out
    assert 1 == host.run("sync", "--renew", "--all", "--no-wait").left.certificates
    assert before == account_shown(host).out


@pytest.mark.parametrize("requests", sampled([3, 2, 1], 1))
def test_rollover_that_is_killed(host: Host, name: str, requests: int) -> None:
    """After a kill at any request the next run orders with the same account."""
    host.run("sync", "--no-wait")
    before = account_shown(host).out
    assert requests == killed_after(host, requests, "account", "rollover")

    assert 1 == host.run("sync", "--renew", "--all", "--no-wait").left.certificates
    assert before == account_shown(host).out


def test_account_that_is_out_of_use_is_replaced(host: Host, name: str) -> None:
    """The next order makes a new account; certificates stay."""
    host.run("sync", "--no-wait")
    before = account_shown(host).out

    run = host.run("account", "deactivate", "--yes")

    assert 0 == run.code, run
    assert "There is no account yet" in account_shown(host).out
    assert REFUSED == host.run("account", "deactivate", "--yes").code
    assert "Valid" == status_at_ca(host, name, 1)
    assert 1 == host.run("sync", "--renew", "--all", "--no-wait").left.certificates
    assert before != account_shown(host).out


def test_ca_that_does_not_answer_hides_no_account(host: Host, name: str) -> None:
    """The failure is shown beside the account, and the command fails."""
    host.run("sync", "--no-wait")
    host.rewrite('"directory-ca.pem"', '"edge-roots.pem"')

    run = account_shown(host)

    assert 1 == run.code
    assert "could not be reached" in run.out
