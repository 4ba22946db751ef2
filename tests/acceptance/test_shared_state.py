"""A state in a PostgreSQL database, by the real command: made, used by every command, refused with
a single sentence, gone in the middle of a run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import certferry
from certferry.adapters.state.move import Address, move
from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.shared_leases import SharedState
from certferry.core.redaction import Secret
from certferry_sandbox.faults import Fault
from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.host import LONGEST_RUN, Host, certificate
from tests.acceptance.requests_made import NO_REQUESTS, RequestsMade, challenges
from tests.support.command import run_here
from tests.support.ports import free_port
from tests.support.postgresql import (
    KEY,
    Postgresql,
    running_pgbouncer,
    running_postgresql,
    running_replica,
)
from tests.support.tiers import long, thorough
from tests.support.waiting import eventually

IN_ORDER, FAILED, USAGE, TRY_LATER, UNKNOWN = 0, 1, 2, 75, 3
PASSWORD = "s3cret-of-the-tests"

SYNCING = (["sync"], ["sync", "--scheduled"])
READING = (["plan"], ["status"], ["history"], ["discover"], ["account", "show"])
"""The commands that need the state and leave the services unchanged."""


@pytest.fixture
def database(postgresql: Postgresql) -> str:
    """Create an empty database, and return its name."""
    return postgresql.new_database()


@pytest.fixture
def shared(host: Host, postgresql: Postgresql, database: str) -> Host:
    """A host whose file names the database."""
    host.share(postgresql.url(database), KEY)
    return host


@pytest.fixture
def made(shared: Host) -> Host:
    """A host whose file names the database, after `state init`."""
    assert IN_ORDER == shared.run("state", "init").code
    return shared


def refusal(host: Host, *words: str, code: int = USAGE) -> tuple[str, str]:
    """Return the error of a command and its hint, and assert that no service was asked."""
    run = host.run("-q", *words)
    assert (code, NO_REQUESTS) == (run.code, run.left), run
    assert "Traceback" not in run.err
    assert PASSWORD not in run.err
    return run.complaint.error, run.complaint.hint


# --- Made and used


@long
def test_whole_way_on_a_shared_state(made: Host, name: str) -> None:
    """Every command works on the database as on a file, and a second run changes nothing."""
    assert [IN_ORDER, IN_ORDER] == [made.run("sync").code for _ in range(2)]
    for words in (*READING, ["check"], ["state", "check"], ["discover"], ["plan", "--check"]):
        assert IN_ORDER == made.run(*words).code, words

    [entry, *_] = made.run("history", "--json").document["entries"]
    assert entry["who"].endswith("@web-1")
    assert IN_ORDER == made.run("export", name, "--dir", str(made.directory / "out")).code
    assert TRY_LATER == made.run("sync", "--renew", name, "--no-wait").code
    assert IN_ORDER == made.run("sync").code
    assert made.run("rollback", name).code in {IN_ORDER, TRY_LATER}
    assert IN_ORDER == made.run("revoke", name, "--reason", "superseded", "--yes").code
    findings = made.run("doctor", "--json").document["findings"]
    [back_up] = [finding for finding in findings if finding["code"] == "back_up"]
    assert "pg_dump" in back_up["message"]
    assert not made.state.exists()


def test_second_host_issues_nothing(made: Host, world: World, tmp_path: Path, name: str) -> None:
    """The second host knows the work of the first."""
    assert IN_ORDER == made.run("sync").code
    (tmp_path / "web-2").mkdir()
    other = Host(world, tmp_path / "web-2", certificate(name))
    other.share(made_url(made), KEY, "web-2")

    run = other.run("sync")

    assert (IN_ORDER, 0, 0) == (run.code, run.left.orders, run.left.qiniu_writes)


def test_scheduled_run_leaves_another_hosts_work(
    made: Host, postgresql: Postgresql, database: str, name: str
) -> None:
    """A scheduled run names the other host and succeeds; a run by hand waits for the host."""
    there = SharedState(
        PostgresqlDatabase(postgresql.url(database)), Sealing(KEY), "web-2", timedelta(seconds=3)
    )
    with closing(there):
        there.acquire(name, there.now())

        run = made.run("sync", "--scheduled", "--json")
        by_hand = made.run("sync", "--no-wait")

    assert (IN_ORDER, 0) == (run.code, run.left.orders)
    [step] = run.steps
    assert ("elsewhere", "web-2") == (step["outcome"], step["host"])
    assert step["since"].endswith("Z")
    assert TRY_LATER == by_hand.code
    assert "on web-2 has been working since" in by_hand.out
    assert IN_ORDER == made.run("sync", "--scheduled").code


def test_hosts_that_run_at_once(made: Host, world: World, tmp_path: Path, name: str) -> None:
    """With one schedule on both hosts, each certificate is ordered once, and both runs succeed."""
    several = "".join(certificate(f"a{n}.{name}", to=None) for n in range(4))
    made.config.write_text(made.config.read_text() + several)
    (tmp_path / "web-2").mkdir()
    other = Host(world, tmp_path / "web-2", certificate(name) + several)
    other.share(made_url(made), KEY, "web-2")
    before = RequestsMade.of(world)

    with (
        made.begin("sync", "--scheduled", "--json") as first,
        other.begin("sync", "--scheduled", "--json") as another,
    ):
        outputs = [process.communicate(timeout=LONGEST_RUN)[0] for process in (first, another)]

    assert [IN_ORDER, IN_ORDER] == [first.returncode, another.returncode], outputs
    left = RequestsMade.of(world) - before
    assert (5, 5, 1, 0) == (left.orders, left.certificates, left.qiniu_uploads, left.challenges)
    assert {"in_order"} == {json.loads(out)["result"] for out in outputs}


def made_url(host: Host) -> str:
    """Return the address that a host's file names."""
    return host.config.read_text().partition('url = "')[2].partition('"')[0]


@thorough
def test_whole_way_through_a_pooler(host: Host, postgresql: Postgresql, database: str) -> None:
    """The state works through PgBouncer in transaction mode, with default settings."""
    with running_pgbouncer(postgresql) as port:
        host.share(f"postgresql://postgres@127.0.0.1:{port}/{database}", KEY)

        made, check = (["state", "init"], ["state", "migrate"]), ["state", "check"]
        for words in (*made, ["sync"], ["sync"], check):
            assert IN_ORDER == host.run(*words).code


def test_init_reports_the_new_state(shared: Host) -> None:
    """The first command reports a new state, the second an existing state; both report the needs of
    every host.
    """
    first, second = shared.run("state", "init"), shared.run("state", "init")

    assert (IN_ORDER, IN_ORDER) == (first.code, second.code)
    assert "Created: postgresql:///" in first.out
    assert "sealed with `key` of [state]" in first.out
    assert "already exists" in second.out
    for run in (first, second):
        assert "a `host` of its own" in run.out


def test_init_of_a_file(host: Host) -> None:
    """The file and its key are made; no later command takes the state for lost."""
    first, second = host.run("state", "init"), host.run("state", "init")

    assert f"Created: {host.state}, sealed with the key in {host.key_file}" in first.out
    assert "already exists" in second.out
    assert host.key_file.exists()
    assert "holds no state" not in host.run("status").out
    assert IN_ORDER == host.run("sync").code


@pytest.fixture
def next_release(tmp_path: Path) -> str:
    """Return a `PYTHONPATH` of certferry's sources with an additional script for the schema."""
    sources = tmp_path / "next"
    shutil.copytree(Path(certferry.__file__).parent, sources / "certferry")
    for dialect in ("sqlite", "postgresql"):
        script = sources / "certferry/adapters/state/schema" / f"0024_later.{dialect}.sql"
        script.write_text("ALTER TABLE notice ADD COLUMN later TEXT;")
    return os.pathsep.join((str(sources), os.environ.get("PYTHONPATH", "")))


def test_upgrade_of_a_shared_state(made: Host, next_release: str) -> None:
    """Only `state migrate` of the next release changes the tables; the current release works before
    and afterwards.
    """
    assert IN_ORDER == made.run("sync").code

    early = made.run_apart("-q", "sync", PYTHONPATH=next_release)
    assert (USAGE, NO_REQUESTS) == (early.code, early.left), early
    assert "has the tables of an older certferry" in early.complaint.error
    assert "certferry state migrate" in early.complaint.hint
    migrated = made.run_apart("state", "migrate", PYTHONPATH=next_release)
    assert "Brought up to date: postgresql:///" in migrated.out

    assert "is up to date; nothing was changed" in made.run("state", "migrate").out
    for run in (made.run("sync"), made.run_apart("sync", PYTHONPATH=next_release)):
        assert (IN_ORDER, 0, 0) == (run.code, run.left.orders, run.left.qiniu_writes), run


@pytest.mark.parametrize("words", [["state", "init"], ["state", "migrate"], ["sync"], ["status"]])
def test_state_from_before_the_first_release(
    made: Host, postgresql: Postgresql, database: str, words: list[str]
) -> None:
    """Every command refuses the state, with the way to a new state."""
    postgresql.ask("UPDATE certferry_migration SET number = 22", database)

    error, hint = refusal(made, *words)

    assert "was written by a certferry from before the first release: schema 22" in error
    assert "a new state issues every certificate again" in hint


def test_printed_key_is_new_each_time(host: Host) -> None:
    """Each call prints another key, even after the removal of the file."""
    host.config.unlink()
    keys = {run_here(["state", "key"], {}).out.strip() for _ in range(2)}

    assert 2 == len(keys)
    assert {44} == {len(key) for key in keys}


def test_check_names_what_another_program_changed(
    made: Host, postgresql: Postgresql, database: str, name: str
) -> None:
    """The check finds a sealed key in a wrong row, and a break in the chain of the history."""
    assert IN_ORDER == made.run("sync").code
    assert "is in order" in made.run("state", "check").out
    changed = "UPDATE version_pem SET sealed_privkey_pem = (SELECT sealed_check FROM sealing)"
    postgresql.ask(changed, database)

    postgresql.ask("ALTER TABLE history DISABLE TRIGGER ALL", database)
    postgresql.ask("UPDATE history SET who = 'another'", database)

    run = made.run("state", "check", "--json")

    assert FAILED == run.code
    problems = [(finding["code"], finding["subject"]) for finding in run.document["findings"]]
    trigger = ("state_foreign", "[state] url")
    assert [("seal_broken", name), ("history_broken", name), trigger] == problems


def test_version_that_another_program_changed(
    made: Host, postgresql: Postgresql, database: str, name: str
) -> None:
    """A run, `plan`, `check` and `state check` report the row and the remedy; nothing is sent."""
    assert IN_ORDER == made.run("sync").code
    postgresql.ask("UPDATE version SET not_after = '8990-01-01T00:00:00.000000Z'", database)

    run, plan, check = made.run("sync"), made.run("plan"), made.run("check")
    report = made.run("state", "check", "--json")

    assert FAILED == run.code
    assert f"version 1 of {name}" in run.out + run.err
    assert "check who else can write to the database" in run.out + run.err
    assert f"version 1 of {name}" in plan.out
    assert "data about the certificate that certferry did not write" in check.out
    assert FAILED == report.code
    findings = [(finding["code"], finding["subject"]) for finding in report.document["findings"]]
    assert [("state_foreign", name)] == findings
    assert NO_REQUESTS == run.left


@pytest.mark.parametrize("words", [["backup", "b"], ["restore", "b"]], ids=lambda words: words[0])
def test_backup_of_a_server_is_refused(made: Host, words: list[str]) -> None:
    """The hint names the database's own program, and the key that must be stored apart."""
    (made.directory / "b").write_bytes(b"")
    (made.directory / "b").chmod(0o600)

    error, hint = refusal(made, words[0], str(made.directory / words[1]))

    assert "is a database on a server, not a file" in error
    assert "pg_" in hint
    assert "`key` of [state]" in hint


# --- Troubles that need an operator


@pytest.mark.parametrize("words", [*SYNCING, *READING], ids=" ".join)
def test_database_without_tables(shared: Host, words: Sequence[str]) -> None:
    """Only `state init` makes tables, and the hint says so."""
    error, hint = refusal(shared, *words)

    assert error.startswith("there is no state in postgresql:///")
    assert "certferry state init" in hint


def test_missing_database(host: Host, postgresql: Postgresql) -> None:
    """The hint includes the operator's command; certferry makes tables, but no database."""
    host.share(postgresql.url("nowhere"), KEY)
    for words in (["sync"], ["state", "init"], ["state", "check"]):
        error, hint = refusal(host, *words)

        assert 'cannot be opened: database "nowhere" does not exist' in error
        assert "createdb" in hint


def secured(postgresql: Postgresql) -> None:
    """Make a role with a password, if the server lacks the role."""
    if not postgresql.ask("SELECT 1 FROM pg_roles WHERE rolname = 'secured'"):
        postgresql.ask(f"CREATE ROLE secured SUPERUSER LOGIN PASSWORD '{PASSWORD}'")


def test_wrong_password(host: Host, postgresql: Postgresql, database: str) -> None:
    """The right password opens the database, by a reference or by libpq's own variable."""
    secured(postgresql)
    host.share(postgresql.tcp_url(database, "secured"), KEY)
    host.rewrite("host =", 'password = "env:DATABASE"\nhost =')

    wrong = host.run("-q", "state", "init", DATABASE=f"wrong-{PASSWORD}")

    assert USAGE == wrong.code
    assert f"postgresql://127.0.0.1:{postgresql.port}/{database}" in wrong.complaint.error
    assert PASSWORD not in wrong.err
    message = "[state] password: the environment variable DATABASE is not set"
    assert message in refusal(host, "sync")[0]
    assert IN_ORDER == host.run("state", "init", DATABASE=PASSWORD).code
    host.rewrite('password = "env:DATABASE"\n', "")
    assert IN_ORDER == host.run("state", "check", PGPASSWORD=PASSWORD).code


def test_key_and_password_stay_with_certferry(
    host: Host, postgresql: Postgresql, database: str
) -> None:
    """Neither the output, nor the log, nor the reload program's environment has the key or the
    password.
    """
    secured(postgresql)
    host.share(postgresql.tcp_url(database, "secured"), Secret("env:STATE_KEY"))
    host.rewrite("host =", 'password = "env:DATABASE"\nhost =')
    environment = host.directory / "seen"
    host.config.write_text(
        f'{host.config.read_text()}\n[[certificates.deploy]]\nto = "files"\n'
        f'directory = "{host.directory / "tls"}"\nreload = "sh -c \'env >{environment}\'"\n'
    )
    secrets = {"STATE_KEY": KEY.reveal(), "DATABASE": PASSWORD}
    log = host.directory / "log"

    runs = [
        host.run("-v", "--log-file", str(log), *words, **secrets)
        for words in (["state", "init"], ["sync"], ["doctor"], ["history", "--json"])
    ]

    assert [IN_ORDER] * 4 == [run.code for run in runs]
    texts = [log.read_text(), environment.read_text(), *(run.out + run.err for run in runs)]
    for secret in secrets.values():
        assert not [text for text in texts if secret in text]


def test_no_right_to_create(host: Host, postgresql: Postgresql, database: str) -> None:
    """The hint includes the grant."""
    if not postgresql.ask("SELECT 1 FROM pg_roles WHERE rolname = 'guest'"):
        postgresql.ask("CREATE ROLE guest LOGIN")
    host.share(postgresql.url(database, "guest"), KEY)

    error, hint = refusal(host, "state", "init")

    assert "permission is missing: permission denied for schema public" in error
    assert "GRANT CREATE" in hint


@pytest.mark.parametrize("words", [["state", "init"], ["state", "migrate"], ["sync"], ["status"]])
def test_database_of_another_program(
    shared: Host, postgresql: Postgresql, database: str, words: list[str]
) -> None:
    """The other program's database stays untouched."""
    postgresql.ask("CREATE TABLE bookmark (url TEXT)", database)

    assert "holds the tables of another program" in refusal(shared, *words)[0]


def test_schema_that_is_newer(made: Host, postgresql: Postgresql, database: str) -> None:
    """A newer schema is used as long as the schema permits older readers; afterwards every command
    refuses the state.
    """
    postgresql.ask("INSERT INTO certferry_migration VALUES (900, 'later')", database)
    assert IN_ORDER == made.run("history").code
    postgresql.ask("UPDATE certferry_schema SET oldest = 899", database)
    for words in (["sync"], ["status"], ["state", "migrate"], ["state", "init"]):
        error, hint = refusal(made, *words)

        assert "was written by a newer certferry: schema 900" in error
        assert "install the newest certferry" in hint


@thorough
def test_read_replica(made: Host, postgresql: Postgresql, database: str) -> None:
    """A run is refused, because a replica has old rows; reading commands warn about the age of
    their data.
    """
    assert IN_ORDER == made.run("sync").code
    with running_replica(postgresql) as replica:
        made.rewrite(postgresql.url(database), replica.url(database))

        for words in (["sync"], ["sync", "--scheduled"]):
            assert "is a read replica" in refusal(made, *words)[0], words
            assert "moments old" not in made.run(*words).err, words
        for words in [*READING, ["check"], ["hosts"], ["state", "check"]]:
            run = made.run(*words)
            assert IN_ORDER == run.code, run
            assert 1 == run.err.count("is a read replica: its data may be a few moments old"), run


def test_server_that_is_only_read(made: Host, postgresql: Postgresql, database: str) -> None:
    """Reading commands work; a run says once that the server accepts no writes, and ends with "try
    later".
    """
    assert IN_ORDER == made.run("sync").code
    postgresql.ask(f"ALTER DATABASE {database} SET default_transaction_read_only = on")

    for words in READING:
        run = made.run(*words)
        assert (IN_ORDER, "") == (run.code, run.err.partition("error: ")[1]), run
    run = made.run("sync")

    assert TRY_LATER == run.code, run
    assert 1 == run.out.count("accepts no writes right now")
    assert "1 certificate: 1 not done." in run.out


@pytest.mark.parametrize("words", [["status"], ["state", "init"], ["state", "check"]])
def test_malformed_key(shared: Host, words: list[str]) -> None:
    """The key is refused before the first request to the server."""
    url = re.search('"postgresql:[^"]+"', shared.config.read_text())
    assert url is not None
    shared.rewrite(url[0], '"postgresql://nobody@127.0.0.1:1/gone"')
    shared.rewrite(KEY.reveal(), "c2hvcnQ=")

    assert "is not a key: 32 bytes in base64" in refusal(shared, *words)[0]


def test_key_of_another_state(made: Host) -> None:
    """Every command refuses the state, and the message hides the key."""
    other = run_here(["state", "key"], {}).out.strip()
    made.rewrite(KEY.reveal(), other)
    for words in (["sync"], ["status"], ["state", "check"]):
        error, _ = refusal(made, *words)

        assert "`key` of [state] does not open the state" == error


def test_library_that_is_missing(shared: Host) -> None:
    """The hint includes the installation command."""
    forget = "sys.modules.pop('certferry.adapters.state.postgresql', None)"  # inherited by a fork
    blocked = f"import sys; sys.modules['psycopg'] = None; {forget}"
    begin = "from certferry.__main__ import main; sys.exit(main())"
    command = (sys.executable, "-c", f"{blocked}; {begin}")
    with shared.begin("-q", "sync", program=command) as process:
        _, err = process.communicate(timeout=LONGEST_RUN)

    assert USAGE == process.returncode
    assert "the library for PostgreSQL is not installed" in err
    assert "./scripts/install --with postgresql" in err
    assert "Traceback" not in err


# --- A server that comes and goes


@pytest.mark.parametrize(
    "words",
    [*SYNCING, *READING, ["doctor"], ["state", "init"], ["state", "check"]],
    ids=" ".join,
)
def test_server_that_is_gone(host: Host, words: Sequence[str]) -> None:
    """At the start any command ends with "try later", because another run may find the server."""
    host.share(f"postgresql://certferry@127.0.0.1:{free_port()}/certs", KEY)

    run = host.run("-q", *words)

    assert TRY_LATER == run.code
    assert "postgresql://127.0.0.1:" in run.err
    assert "Traceback" not in run.err
    if words != ["doctor"]:
        assert "/certs cannot be opened: " in run.complaint.error


def test_server_that_is_gone_is_unknown_to_a_monitor(host: Host) -> None:
    """A plugin has its own exit codes: the answer is UNKNOWN."""
    host.share(f"postgresql://certferry@127.0.0.1:{free_port()}/certs", KEY)

    run = host.run("check")

    assert UNKNOWN == run.code
    assert "UNKNOWN" in run.out


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """Start a separate server that the tests of the module may stop."""
    with running_postgresql() as started:
        yield started


@pytest.fixture
def reported(
    world: World, tmp_path: Path, name: str, hook: EventReceiver, server: Postgresql
) -> Host:
    """A host with a channel, and with a state on a server that may stop."""
    host = Host(world, tmp_path, certificate(name, to=None))
    channel = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
    host.config.write_text(host.config.read_text() + channel)
    host.share(server.url(server.new_database()), KEY)
    assert [IN_ORDER] * 2 == [host.run(*words).code for words in (["state", "init"], ["sync"])]
    return host


def test_a_server_that_is_gone_is_reported_once_and_so_is_its_end(
    reported: Host, hook: EventReceiver, server: Postgresql
) -> None:
    """Two runs send a single message, and the recovery another."""
    server.stop()
    try:
        runs = [reported.run("-q", "sync", "--scheduled") for _ in range(2)]
    finally:
        server.start()
    assert [TRY_LATER] * 2 == [run.code for run in runs]
    assert ["database_unavailable"] == [event["code"] for event in hook.events]

    assert [IN_ORDER] * 2 == [reported.run("sync").code for _ in range(2)]
    assert ["trouble", "recovered"] == [event["event"] for event in hook.events]
    assert {"web-1"} == {event["host"] for event in hook.events}


def test_a_database_that_no_waiting_helps_is_reported(
    reported: Host, hook: EventReceiver, postgresql: Postgresql
) -> None:
    """An unattended run reports the refusal to the channel."""
    reported.rewrite(made_url(reported), postgresql.url("nowhere"))

    assert [USAGE] * 2 == [reported.run("-q", "sync", "--scheduled").code for _ in range(2)]

    assert [("trouble", "config")] == [(event["event"], event["code"]) for event in hook.events]


def test_monitor_counts_a_server_that_is_gone_as_a_run_to_come(host: Host) -> None:
    """Exit code 75 counts as success (docs/how-to/monitoring.md)."""
    with HeartbeatService() as heartbeat:
        host.config.write_text(
            f'{host.config.read_text()}\n[heartbeat]\nurl = "{heartbeat.address}"\n'
        )
        host.share(f"postgresql://certferry@127.0.0.1:{free_port()}/certs", KEY)

        assert TRY_LATER == host.run("sync").code

        assert ["start", "success"] == [ping.kind for ping in heartbeat.pings]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("53100", "cannot be written: the server's disk is full"),
        ("25006", "accepts no writes right now: because"),
    ],
)
def test_server_that_takes_no_writes(
    made: Host, postgresql: Postgresql, database: str, code: str, message: str
) -> None:
    """After a full disk or a failover the next run continues the same order."""
    refuse = f"BEGIN RAISE EXCEPTION 'because' USING ERRCODE = '{code}'; END"
    postgresql.ask(
        f"CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $${refuse}$$", database
    )
    postgresql.ask(
        "CREATE TRIGGER refuse BEFORE INSERT ON version FOR EACH ROW EXECUTE FUNCTION refuse()",
        database,
    )

    run = made.run("sync", "--json")

    assert TRY_LATER == run.code
    [step] = [step for step in run.steps if step["outcome"] == "failed"]
    assert message in step["detail"]
    assert "waiting" == run.document["certificates"][0]["result"]
    postgresql.ask("DROP TRIGGER refuse ON version", database)
    again = made.run("sync")
    assert (IN_ORDER, 0, 0) == (again.code, again.left.orders, again.left.challenges)


def test_database_that_keeps_many_from_being_done(
    made: Host, postgresql: Postgresql, database: str, name: str
) -> None:
    """People read a single sentence and hint on each stream and with `-q`; the document repeats
    both for each certificate.
    """
    several = "".join(certificate(f"a{n}.{name}", to=None) for n in range(8))
    made.config.write_text(made.config.read_text() + several)
    refuse = "BEGIN RAISE EXCEPTION 'because' USING ERRCODE = '53100'; END"
    postgresql.ask(
        f"CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $${refuse}$$", database
    )
    postgresql.ask(
        "CREATE TRIGGER refuse BEFORE INSERT ON lease FOR EACH ROW EXECUTE FUNCTION refuse()",
        database,
    )
    message, hint = "cannot be written: the server's disk is full", "free some space there"

    plain, quiet, as_json = (made.run(*words) for words in (["sync"], ["-q", "sync"], JSON))

    assert [TRY_LATER] * 3 == [run.code for run in (plain, quiet, as_json)]
    assert [1] * 3 == [text.count(message) for text in (plain.out, plain.err, quiet.err)]
    assert [1] * 2 == [text.count(hint) for text in (plain.out, quiet.err)]
    assert "9 certificates: 9 not done." in plain.out
    assert [1] * 2 == [text.count("9 certificates (a0.") for text in (plain.out, quiet.err)]
    assert "and 6 more)" in plain.out
    [cause] = as_json.document["causes"]
    assert ("database_unavailable", 9) == (cause["code"], len(cause["certificates"]))
    steps = [step for each in as_json.document["certificates"] for step in each["steps"]]
    assert ["database_unavailable"] * 9 == [step["code"] for step in steps]


JSON = ["sync", "--json"]


def test_server_that_ends_idle_sessions(made: Host, postgresql: Postgresql, database: str) -> None:
    """Short time-outs of the server's administrator end no run."""
    for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        postgresql.ask(f"ALTER DATABASE {database} SET {setting} = '100ms'")

    assert IN_ORDER == made.run("sync").code


@thorough
@pytest.mark.parametrize("words", [["plan"], ["status"], ["discover"]], ids=" ".join)
def test_server_that_stops_while_a_command_reads(
    host: Host, world: World, server: Postgresql, words: Sequence[str]
) -> None:
    """The command ends with a single sentence."""
    host.share(server.url(server.new_database()), KEY)
    assert [IN_ORDER] * 2 == [host.run(*command).code for command in (["state", "init"], ["sync"])]
    gate, [api, *_] = threading.Event(), world.qiniu.services
    api.faults.add(Fault.held_until(gate), on="GET /domain*")
    before = len(api.requests("GET /domain*"))
    with host.begin("-q", *words) as process:
        assert eventually(lambda: len(api.requests("GET /domain*")) > before)
        server.stop()
        gate.set()
        _, err = process.communicate(timeout=LONGEST_RUN)
    server.start()

    assert (TRY_LATER, 1) == (process.returncode, err.count("error: ")), err
    assert "Traceback" not in err


@long
@pytest.mark.parametrize(
    "moment",
    [
        "POST /sslcert",
        pytest.param("PUT /domain/*", marks=thorough),
        pytest.param("POST /Record.Create", marks=thorough),
    ],
)
def test_server_that_stops_in_the_middle(
    host: Host, world: World, server: Postgresql, moment: str
) -> None:
    """Requests made during the outage are not repeated, and all records are removed."""
    host.share(server.url(server.new_database()), KEY)
    assert IN_ORDER == host.run("state", "init").code
    before, gate = RequestsMade.of(world), threading.Event()
    services = [world.dnspod.http, *world.qiniu.services]
    for service in services:
        service.faults.add(Fault.held_until(gate), on=moment)

    def requests_so_far() -> int:
        return sum(len(service.requests(moment)) for service in services)

    count = requests_so_far()
    with host.begin("sync", "--json") as process:
        assert eventually(lambda: requests_so_far() > count)
        server.stop()
        gate.set()
        out, err = process.communicate(timeout=LONGEST_RUN)
    server.start()

    assert TRY_LATER == process.returncode, (out, err)
    assert "Traceback" not in err
    [lineage] = json.loads(out)["certificates"]
    codes = {step["code"] for step in lineage["steps"] if step["outcome"] == "failed"}
    assert {"database_unavailable"} == codes

    expire_leases(server, made_url(host))
    assert IN_ORDER == host.run("sync").code
    done = RequestsMade.of(world) - before
    assert (1, 1, 1) == (done.orders, done.certificates, done.qiniu_uploads)
    assert [] == challenges(world)


def test_run_that_meets_a_move(
    made: Host, world: World, postgresql: Postgresql, database: str, name: str
) -> None:
    """The run has lost its lease, and the state was moved meanwhile: the run ends with 2, and names
    the new place and the next command.
    """
    gate = threading.Event()
    world.dnspod.http.faults.add(Fault.held_until(gate), on="POST /Record.Create")
    count = len(world.dnspod.http.requests("POST /Record.Create"))
    there = made.directory / "moved" / "state.db"
    with made.begin("sync") as process:
        assert eventually(lambda: len(world.dnspod.http.requests("POST /Record.Create")) > count)
        expire_leases(postgresql, made_url(made))
        move(Address(made_url(made), KEY), Address(there, KEY), "web-1", datetime.now(UTC))
        gate.set()
        out, err = process.communicate(timeout=LONGEST_RUN)

    assert USAGE == process.returncode, (out, err)
    assert "was moved" in out
    assert "then run: certferry sync" in out
    assert f"was moved to {there}" in made.run("state", "check").complaint.error
    made.rewrite(postgresql.url(database), f"sqlite:///{there}")
    made.rewrite('\nhost = "web-1"', "")
    after = made.run("sync")
    assert (IN_ORDER, 0, 1) == (after.code, after.left.orders, after.left.qiniu_uploads), after


def expire_leases(server: Postgresql, url: str) -> None:
    """Let the leases expire, as two minutes after their holder's end."""
    database = url.partition("@/")[2].partition("?")[0]
    server.ask("UPDATE lease SET until = '2000' WHERE until IS NOT NULL", database)
