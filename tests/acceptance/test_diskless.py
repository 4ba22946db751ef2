"""A state in a bucket: runs on machines that are empty before and removed afterwards."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from certferry.adapters.state.sealing import new_key
from certferry.cli.exits import Exit
from certferry.core.observed.stored_runs import RunState
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.s3 import S3Service
from certferry_sandbox.world import World
from tests.acceptance.diskless import Runner, S3Runner
from tests.acceptance.host import Run, certificate
from tests.acceptance.requests_made import RequestsMade, challenges
from tests.support.tiers import THOROUGH, long, thorough

MOST_FOR_ONE, MOST_FOR_NOTHING = 25, 3


@pytest.fixture
def runner(world: World, tmp_path: Path, name: str) -> Runner:
    return Runner(world, tmp_path, certificate(name))


def run_and_requests(runner: Runner, *arguments: str) -> tuple[Run, list[Request]]:
    """Run the command, and return the run with its requests to the bucket."""
    objects = runner.world.qiniu.objects
    before = [len(service.requests()) for service in objects.services]
    run = runner.run(*arguments)
    services = zip(objects.services, before, strict=True)
    return run, [request for service, count in services for request in service.requests()[count:]]


# --- An empty machine continues from the state of the last machine


def test_next_machine_knows_what_the_last_one_did(runner: Runner, name: str) -> None:
    """The next machine changes nothing and knows the history, with few requests."""
    first, requests = run_and_requests(runner, "sync")
    assert (Exit.OK, 1, 1) == (first.code, first.left.orders, first.left.qiniu_uploads), first
    assert len(requests) <= MOST_FOR_ONE

    second, requests = run_and_requests(runner, "sync")
    assert (Exit.OK, 0, 0) == (second.code, second.left.orders, second.left.qiniu_writes), second
    assert len(requests) <= MOST_FOR_NOTHING

    assert "issued" in runner.run("history").out
    assert Exit.OK == runner.run("state", "check").code


READS = [("status",), ("plan",), ("check",), ("history",), ("hosts",), ("state", "check")]


def test_command_that_reads(runner: Runner) -> None:
    """A reading command leaves the bucket unchanged, whether the bucket is empty or has a state."""
    for command in READS:
        runner.run(*command)
        assert {} == runner.bucket.objects, command

    runner.run("sync")
    before = dict(runner.bucket.objects)
    for command in READS:
        run = runner.run(*command)
        assert Exit.OK == run.code, run
        assert before == runner.bucket.objects, command


def test_nothing_in_the_bucket_can_be_read_without_the_key(runner: Runner, name: str) -> None:
    """The stored bytes hide the keys, the names and the addresses of the CA."""
    runner.run("sync")
    stored = b"".join(runner.bucket.objects.values())
    for secret in (name, "PRIVATE KEY", "example", runner.key):
        assert secret.encode() not in stored


# --- After a kill at any request an empty machine continues


def goes_on_after_kills(runner: Runner, name: str, kills: list[int]) -> None:
    """Kill a run after each number of requests, and assert that the next run ends in order. All
    runs together issue and upload one certificate, leave no challenge record, and make at most one
    order besides the orders whose answer was lost.
    """
    before, unanswered = RequestsMade.of(runner.world), 0
    for position in kills:
        made = runner.killed_after(position, "sync")
        unanswered += made == position and "/order-plz" in runner.requests_made[-1]

    last = runner.run("sync")
    assert Exit.OK == last.code, (last, kills)
    left = RequestsMade.of(runner.world) - before
    assert (1, 1) == (left.certificates, left.qiniu_uploads), kills
    assert left.orders <= 1 + unanswered, kills
    assert 1 == len(runner.fingerprints(name)), kills
    assert runner.world.qiniu.bound(name) is not None, kills
    assert not [record for record in challenges(runner.world) if name in record], kills
    checked = runner.run("state", "check")
    assert Exit.OK == checked.code, (checked, kills)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Service]:
    with S3Service("access", "secret/+key") as started:
        yield started


NewRunner = Callable[[], tuple[Runner, str]]


@pytest.fixture(params=["kodo", pytest.param("s3", marks=thorough)])
def new_runner(
    request: pytest.FixtureRequest,
    world: World,
    tmp_path: Path,
    new_name: Callable[[], str],
    s3: S3Service,
) -> NewRunner:
    """Return a function that makes a runner with an empty bucket, and the name to serve."""

    def made() -> tuple[Runner, str]:
        name = new_name()
        folder = tmp_path / name
        folder.mkdir()
        world.add_http_domain(name)
        tables = certificate(name)
        if request.param == "s3":
            return S3Runner(world, folder, tables, s3), name
        return Runner(world, folder, tables), name

    return made


def requests_of_a_run(new_runner: NewRunner) -> list[str]:
    """Return the requests of an undisturbed run."""
    runner, _ = new_runner()
    runner.killed_after(0, "sync")
    return runner.requests_made


@long
@pytest.mark.timeout(1200)
def test_killed_after_every_request(new_runner: NewRunner) -> None:
    """The kill comes after each request, also after the bucket's, before the answer. The gate tries
    a request in the middle, and the bucket's request after each order and upload.
    """
    requests = requests_of_a_run(new_runner)
    assert len(requests) > MOST_FOR_ONE
    made = [
        at + 1
        for at, request in enumerate(requests, 1)
        if request.endswith(("/order-plz", "/sslcert"))
    ]
    everywhere = range(1, len(requests) + 1)
    for position in everywhere if THOROUGH else [len(requests) // 2, *made]:
        goes_on_after_kills(*new_runner(), [position])


SHARES = 10


@long
@pytest.mark.timeout(1200)
@thorough
@pytest.mark.parametrize("share", range(SHARES))
def test_killed_several_times_in_a_row(new_runner: NewRunner, share: int) -> None:
    """Three hundred kills in all at each service; each run is on a new empty machine."""
    seed = f"{share}/{os.urandom(4).hex()}"
    moments = random.Random(seed)  # noqa: S311 - when a test kills is no secret
    count = len(requests_of_a_run(new_runner))
    for _ in range(10):
        kills = [moments.randint(1, count) for _ in range(3)]
        goes_on_after_kills(*new_runner(), kills)


# --- Two concurrent runs, and a failing bucket


def once(label: str, then: Callable[[], object]) -> Callable[[Request], None]:
    """Return a hook that acts before the answer to the first request with the label."""
    first = iter([then])

    def act(request: Request) -> None:
        if fnmatchcase(request.label, label):
            next(first, lambda: None)()

    return act


def while_it_stands(
    runner: Runner, runs: list[Run], other: Callable[[], Run]
) -> Callable[[], None]:
    """Return a function that runs another command while the runner's process is stopped, so the
    process cannot time out meanwhile.
    """

    def act() -> None:
        runner.begun.send_signal(signal.SIGSTOP)
        try:
            runs.append(other())
        finally:
            runner.begun.send_signal(signal.SIGCONT)

    return act


@pytest.fixture
def beside(runner: Runner, tmp_path: Path) -> Callable[..., Run]:
    """Run the command on another machine with the same bucket, beside the first machine."""
    folder = tmp_path / "beside"
    folder.mkdir()
    return runner.on_another_machine(folder).run_apart


def test_run_that_another_has_overtaken(
    runner: Runner, beside: Callable[..., Run], world: World
) -> None:
    """The later run continues to its end. The overtaken run exits with 75 and a single message;
    together the runs order and upload one certificate.
    """
    before, later = RequestsMade.of(world), list[Run]()
    other = while_it_stands(runner, later, lambda: beside("sync"))
    world.qiniu.before = once("GET /domain", other)

    run = runner.run_apart("-q", "sync")

    assert [Exit.OK] == [ended.code for ended in later], (later, run)
    assert Exit.TRY_LATER == run.code, run
    assert "another run has stored the state" in run.complaint.error
    left = RequestsMade.of(world) - before
    assert (1, 1) == (left.certificates, left.qiniu_uploads)
    assert Exit.OK == runner.run("state", "check").code


def test_run_that_meets_a_move(
    runner: Runner, beside: Callable[..., Run], world: World, tmp_path: Path
) -> None:
    """The run ends with 2 before its next call; the message names the state's new place and the
    next command.
    """
    runner.run("sync")
    there, moved = tmp_path / "moved" / "state.db", list[Run]()
    words = ("state", "move", f"sqlite:///{there}", "--key", "env:CERTFERRY_KEY")
    other = while_it_stands(runner, moved, lambda: beside(*words))
    world.qiniu.before = once("GET /domain", other)

    run = runner.run_apart("-q", "sync", "--renew", "--all")

    assert [Exit.OK] == [ended.code for ended in moved], moved
    assert Exit.USAGE == run.code, run
    assert f"was moved to {there}" in run.complaint.error
    assert "then run: certferry sync" in run.complaint.hint
    assert (0, 0) == (run.left.orders, run.left.qiniu_writes)


@pytest.mark.parametrize("command", [("rollback",), ("revoke", "--reason", "superseded", "--yes")])
def test_command_by_hand_that_another_run_has_overtaken(
    runner: Runner, beside: Callable[..., Run], world: World, name: str, command: tuple[str, ...]
) -> None:
    """The overtaken command exits with 75."""
    runner.run("sync")
    runner.run("sync", "--renew", name)
    later, (word, *more) = list[Run](), command
    other = while_it_stands(runner, later, lambda: beside("sync"))
    world.qiniu.objects.before = once("POST /", other)

    run = runner.run_apart("-q", word, name, *more)

    assert [Exit.OK] == [ended.code for ended in later], (later, run)
    assert Exit.TRY_LATER == run.code, run
    assert "another run has stored the state" in run.complaint.error


def test_bucket_that_fails_in_the_middle(runner: Runner, world: World, name: str) -> None:
    """The run ends before its next call with 75; the next run continues, and every action is done
    once.
    """
    before = RequestsMade.of(world)
    objects, fail = world.qiniu.objects, Fault.status(599)
    world.qiniu.before = once("POST /sslcert", lambda: objects.up.faults.add(fail, times=None))

    run = runner.run("-q", "sync")
    assert Exit.TRY_LATER == run.code, run
    assert "599" in run.complaint.error
    objects.up.faults.clear()

    assert Exit.OK == runner.run("sync").code
    left = RequestsMade.of(world) - before
    assert (1, 1, 1) == (left.orders, left.certificates, left.qiniu_uploads)
    assert world.qiniu.bound(name) is not None


def test_bucket_that_fails_at_the_end(runner: Runner, world: World, name: str) -> None:
    """The report is complete and names the storage problem; the exit code is 75."""
    runner.run("sync")
    world.qiniu.objects.up.faults.add(Fault.status(599), times=None)

    run = runner.run("sync", "--json")
    world.qiniu.objects.up.faults.clear()

    assert Exit.TRY_LATER == run.code, run
    assert "database_unavailable" == run.document["problem"]["code"]
    assert [name] == [lineage["name"] for lineage in run.document["certificates"]]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_stopped(runner: Runner, world: World, how: signal.Signals) -> None:
    """The run ends with 130, and the next machine continues; every action is done once."""
    before = RequestsMade.of(world)
    gate, reached = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        gate.wait(60)

    world.qiniu.before = once("GET /domain", hold)
    with runner.begin("sync", **runner.variables) as process:
        assert reached.wait(60)
        process.send_signal(how)
        gate.set()
        _, err = process.communicate(timeout=60)
    assert Exit.STOPPED == process.returncode, err
    assert "Traceback" not in err

    assert Exit.OK == runner.run("sync").code
    left = RequestsMade.of(world) - before
    assert (1, 1) == (left.certificates, left.qiniu_uploads)


# --- Bad input: a single sentence, and all data stays


def stored_with_another_key(runner: Runner) -> None:
    runner.variables["CERTFERRY_KEY"] = new_key()


def cut(runner: Runner) -> None:
    newest = max(runner.bucket.objects)
    runner.bucket.objects[newest] = runner.bucket.objects[newest][:200]


def put_in_place_of_the_newest(runner: Runner) -> None:
    oldest, *_, newest = sorted(runner.bucket.objects)
    runner.bucket.objects[newest] = runner.bucket.objects[oldest]


def no_such_bucket(runner: Runner) -> None:
    runner.rewrite(runner.url, "kodo://nobodys-bucket")


def of_an_unknown_account(runner: Runner) -> None:
    runner.rewrite('key = "env:CERTFERRY_KEY"', 'key = "env:CERTFERRY_KEY"\naccount = "other"')


def without_a_key(runner: Runner) -> None:
    runner.variables["CERTFERRY_KEY"] = ""


def with_a_key_file(runner: Runner) -> None:
    runner.rewrite('key = "env:CERTFERRY_KEY"', 'key_file = "secret.key"')


BAD: dict[Callable[[Runner], None], str] = {
    stored_with_another_key: "was sealed with another key",
    cut: "is not as certferry stored it",
    put_in_place_of_the_newest: "is not as certferry stored it",
    no_such_bucket: "631",
    of_an_unknown_account: "no account other with buckets exists",
    without_a_key: "CERTFERRY_KEY",
    with_a_key_file: "key_file",
}


def test_bad_input(runner: Runner) -> None:
    """The message is a single sentence, nothing is changed, and the exit code is 2."""
    runner.run("sync")
    stored, variables, config = (
        dict(runner.bucket.objects),
        dict(runner.variables),
        runner.config.read_text(),
    )
    for bad, words in BAD.items():
        bad(runner)
        before = dict(runner.bucket.objects)

        run = runner.run("-q", "sync")

        assert Exit.USAGE == run.code, (bad, run)
        assert words in run.complaint.error, bad
        assert (0, 0) == (run.left.orders, run.left.qiniu_writes), bad
        assert before == runner.bucket.objects, bad
        runner.bucket.objects.update(stored)
        runner.variables.update(variables)
        runner.config.write_text(config)
    assert Exit.OK == runner.run("sync").code


def test_service_that_lacks_conditions(
    world: World, tmp_path: Path, name: str, s3: S3Service
) -> None:
    """The service answers conditional writes with 501. A run could store no work there, so the
    first run ends with the reason.
    """
    runner = S3Runner(world, tmp_path, certificate(name), s3)
    s3.buckets[runner.name].lacks_conditions = True
    run = runner.run("-q", "sync")
    assert Exit.USAGE == run.code, run
    assert "NotImplemented" in run.complaint.error
    assert "`If-None-Match`" in run.complaint.hint
    assert (0, 0) == (run.left.orders, run.left.qiniu_writes)


def test_key_that_may_not_write(runner: Runner, name: str) -> None:
    """The run ends before its first call to another service."""
    runner.bucket.refusal = Refused(None, "no permission", status=403)
    run = runner.run("-q", "sync")
    assert Exit.USAGE == run.code, run
    assert "403 no permission" in run.complaint.error
    assert (0, 0) == (run.left.orders, run.left.qiniu_writes)


@pytest.mark.parametrize("command", [("backup", "b.tar"), ("restore", "b.tar"), ("serve",)])
def test_command_that_a_bucket_cannot_serve(runner: Runner, command: tuple[str, ...]) -> None:
    """The message names the reason and the alternative; the exit code is 2."""
    file = runner.directory / "b.tar"
    file.touch(0o600)
    run = runner.run("-q", *(word.replace(file.name, str(file)) for word in command))
    assert Exit.USAGE == run.code, run
    assert "is a bucket" in run.complaint.error


def test_wrong_file(runner: Runner) -> None:
    """A run that cannot begin is stored as failed, as long as the file still names the state."""
    runner.run("sync")
    with runner.config.open("a") as file:
        file.write("\n[[certificates]]\nname = 1\n")
    run = runner.run("sync")
    assert Exit.USAGE == run.code, run
    with runner.remembering() as state:
        assert [RunState.FAILED, RunState.DONE] == [stored.state for stored in state.stored_runs(2)]


# --- Moves into a bucket and back


@long
def test_state_moves_into_a_bucket_and_out_of_it(
    world: World, tmp_path: Path, name: str, new_name: Callable[[], str]
) -> None:
    """The history is complete after each move, and the former place refuses runs."""
    runner = Runner(world, tmp_path, certificate(name))
    file = tmp_path / "moved" / "state.db"
    runner.run("sync")
    before = runner.run("history").out

    moved = runner.run("state", "move", f"sqlite:///{file}", "--key", "env:CERTFERRY_KEY")
    assert Exit.OK == moved.code, moved
    refused = runner.run("-q", "sync")
    assert Exit.USAGE == refused.code, refused
    assert "was moved to" in refused.complaint.error

    runner.rewrite(runner.url, f"sqlite:///{file}")
    assert before == runner.run("history").out

    world.qiniu.add_bucket(f"{runner.name}-2")
    back = f"kodo://{runner.name}-2/x"
    moved = runner.run("state", "move", back)
    assert Exit.OK == moved.code, moved
    assert f'url = "{back}"' in moved.out
    refused = runner.run("-q", "sync")
    assert "was moved to" in refused.complaint.error
    runner.rewrite(f"sqlite:///{file}", back)
    assert before == runner.run("history").out
    last = runner.run("sync")
    assert (Exit.OK, 0, 0) == (last.code, last.left.orders, last.left.qiniu_writes), last
    assert Exit.OK == runner.run("state", "check").code


def test_new_key_of_a_state_in_a_bucket(runner: Runner) -> None:
    """After the rotation only the new key opens the state."""
    runner.run("sync")
    runner.variables["NEW_KEY"] = new_key()
    run = runner.run("state", "key", "--rotate", "env:NEW_KEY")
    assert Exit.OK == run.code, run
    assert "another key" in runner.run("-q", "sync").complaint.error
    runner.variables["CERTFERRY_KEY"] = runner.variables["NEW_KEY"]
    last = runner.run("sync")
    assert (Exit.OK, 0) == (last.code, last.left.qiniu_writes), last


def test_state_init_in_a_bucket(runner: Runner) -> None:
    """`state init` makes the state once; `state migrate` finds the state up to date."""
    first, again, migrated = (runner.run("state", word) for word in ("init", "init", "migrate"))
    assert ("Created: ", 0) == (first.out[:9], first.code), first
    assert "already exists" in again.out
    assert "is up to date" in migrated.out
    assert Exit.OK == runner.run("sync").code
