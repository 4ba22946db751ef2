"""The contract of the console's records: runs with events, and the people with access."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from certferry.core.access import (
    SESSION_IDLE,
    SESSION_LONGEST,
    PasswordLink,
    Role,
    Session,
    Token,
    User,
)
from certferry.core.observed.stored_runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.ports.run_store import EVENTS_OF_A_RUN, KEPT_RUNS, KEPT_WHOLE
from certferry.ports.state import StateStore, holding
from certferry.text import Text, verbatim
from certferry.values import replace

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ANNA = User("Anna", Role.OPERATOR, NOW)


class RunsContract:
    """Runs with events and reports, and the state of a run after the end of its process."""

    def test_run_that_begins_and_ends(self, store: StateStore, other: StateStore) -> None:
        """Every process reads the whole run. Only the first end counts, and the report stays."""
        store.begin_run(NOW)
        whole = run_of(store, "a", names=("img", "图片"), plan="cc" * 32)
        assert whole == store.save_run_begin(whole)
        assert whole == other.stored_run("a")
        assert other.run_report("a") is None

        detail = Text("{what} until {until}", what=[verbatim("是")], until=NOW)
        report = RunReport({"ok": True, "steps": [{"detail": detail, "hint": None, "left": 3}]})
        store.save_run_end("a", RunState.DONE, NOW + HOUR, report)
        store.save_run_end("a", RunState.FAILED, NOW + 2 * HOUR, None)
        store.save_run_end("unknown", RunState.DONE, NOW, report)

        assert replace(whole, state=RunState.DONE, ended_at=NOW + HOUR) == other.stored_run("a")
        assert report == other.run_report("a")
        assert other.stored_run("unknown") is None
        assert other.run_report("unknown") is None

    def test_request_begins_one_run(self, store: StateStore, other: StateStore) -> None:
        """A request sent many times begins a single run. Runs without a request are separate."""
        store.begin_run(NOW)
        requested = [run_of(store, f"run-{n}") for n in range(4)]
        with ThreadPoolExecutor(4) as senders:
            begun = list(
                senders.map(
                    lambda n: (store, other)[n % 2].save_run_begin(requested[n], "form 1"), range(4)
                )
            )
        assert {begun[0]} == set(begun) == set(store.stored_runs(9))

        store.save_run_begin(run_of(store, "b"))
        store.save_run_begin(run_of(store, "c"), "form 2")
        assert {begun[0].id, "b", "c"} == {*ids(store.stored_runs(9))}

    def test_runs_are_listed(self, store: StateStore) -> None:
        """Runs are listed newest first, in pages.

        The runs of a lineage are the runs for that lineage, and the runs for all lineages.
        """
        wanted: list[tuple[str, ...]] = [(), ("img",), ("static", "img"), ("im",), ('"img', "_m%")]
        for place, names in enumerate(wanted):
            begun = run_of(store, f"{place}", names=names, started_at=NOW + place * HOUR)
            store.save_run_begin(replace(begun, who=f"person {place % 2}"))
        store.save_run_begin(run_of(store, "4b", started_at=NOW + 4 * HOUR, names=("x",)))

        assert ["4b", "4", "3", "2", "1", "0"] == ids(store.stored_runs(9))
        assert ["4b", "4"] == ids(store.stored_runs(2))
        assert ["3", "2"] == ids(store.stored_runs(2, before="4"))
        assert [] == ids(store.stored_runs(2, before="0"))
        assert [] == ids(store.stored_runs(2, before="unknown"))
        assert ["2", "1", "0"] == ids(store.stored_runs(9, lineage="img"))
        assert ["4", "0"] == ids(store.stored_runs(9, lineage="_m%"))
        assert ["1", "0"] == ids(store.stored_runs(2, lineage="img", before="2"))
        assert ["3", "1"] == ids(store.stored_runs(9, who="person 1"))
        assert store.stored_runs(9) == store.stored_runs(9, host=store.host)
        assert () == store.stored_runs(9, host="elsewhere")

    def test_events_of_a_run(self, store: StateStore, other: StateStore) -> None:
        """Events are listed by number, in pages. An event with a stored number changes nothing."""
        store.save_run_begin(run_of(store, "a"))
        first = RunEvent(1, NOW, "img", "step", Text("{name} → {at}", name="图", at=NOW), "done")
        more = [
            RunEvent(n, NOW, "", "busy", Text("waits"), target="qiniu", domain="a.example.com")
            for n in (2, 3, 4)
        ]
        store.append_run_events("a", [first, *more[:1]])
        other.append_run_events("a", [replace(more[0], event="other"), *more[1:]])
        store.append_run_events("a", [])
        store.append_run_events("unknown", [first])

        assert (first, *more) == other.run_events("a")
        assert tuple(more[1:]) == other.run_events("a", after=2)
        assert (first, more[0]) == other.run_events("a", limit=2)
        assert () == other.run_events("unknown")
        assert tuple(more[-2:]) == other.latest_run_events("a", 2)
        assert (first, *more) == other.latest_run_events("a", 100)
        assert () == other.latest_run_events("unknown", 2)

    def test_run_that_counts(self, store: StateStore, other: StateStore) -> None:
        """Every process reads the progress of a run. The end of the run freezes the progress."""
        begun = store.begin_run(NOW)
        store.save_run_begin(run_of(store, "a", number=begun.number))
        store.save_run_progress("unknown", 1, 2)
        for done in (0, 2):
            store.save_run_progress("a", done, 42)
            [run] = other.runs_in_progress(9)
            assert (done, 42) == (run.done, run.count)

        store.save_run_end("a", RunState.DONE, NOW, None)
        store.save_run_progress("a", 41, 42)
        [ended] = other.stored_runs(9)
        assert (2, 42) == (ended.done, ended.count)

    def test_runs_in_progress(self, store: StateStore, other: StateStore) -> None:
        """Runs in progress are listed newest first. Ended runs and killed runs are left out."""
        begun = store.begin_run(NOW)
        for place, name in enumerate("abcd"):
            number = None if name == "b" else begun.number
            started_at = NOW + place * MINUTE
            store.save_run_begin(run_of(store, name, number=number, started_at=started_at))
        store.save_run_end("c", RunState.DONE, NOW, None)

        assert ["d", "a"] == ids(other.runs_in_progress(9))
        assert ["d"] == ids(other.runs_in_progress(1))

        store.end_run(begun)
        assert () == other.runs_in_progress(9)

    def test_run_that_says_too_much(self, store: StateStore) -> None:
        """A run with too many events loses the oldest events."""
        store.save_run_begin(run_of(store, "a"))
        late = EVENTS_OF_A_RUN + 2
        for number in (1, 2, 3, late):
            store.append_run_events("a", [RunEvent(number, NOW, "", "busy", Text("waits"))])

        assert [3, late] == [event.number for event in store.run_events("a")]

    def test_run_that_lost_a_lease(self, store: StateStore) -> None:
        """The run can still store events and its end, which need no lease of a lineage."""
        store.save_run_begin(run_of(store, "a"))
        lease = store.acquire("img", NOW)
        store.release(lease)
        event = RunEvent(1, NOW, "img", "step", Text("another run has taken over"), "failed")
        with holding(store, lease):
            store.append_run_events("a", [event])
            store.save_run_end("a", RunState.FAILED, NOW, None)

        assert (event,) == store.run_events("a")
        assert [RunState.FAILED] == states(store, "a")

    def test_oldest_runs_are_deleted(self, store: StateStore) -> None:
        """The newest `KEPT_RUNS` runs stay, and older runs are deleted with events and report.

        An ended run beyond the newest `KEPT_WHOLE` loses its events.
        """
        event = RunEvent(1, NOW, "", "busy", Text("waits"))
        for place in range(2):
            store.save_run_begin(run_of(store, f"old-{place}", started_at=NOW + place * SECOND))
            store.append_run_events(f"old-{place}", [event])
            store.save_run_end(f"old-{place}", RunState.DONE, NOW, RunReport({"ok": True}))
        store.save_run_begin(run_of(store, "goes-on", started_at=NOW + MINUTE))
        store.append_run_events("goes-on", [event])
        for place in range(KEPT_RUNS - 2):
            store.save_run_begin(run_of(store, f"{place:04}", started_at=NOW + HOUR))
            if place == KEPT_WHOLE - 3:
                assert (event,) == store.run_events("old-1")

        assert store.stored_run("old-0") is None
        assert () == store.run_events("old-0")
        assert store.run_report("old-0") is None
        store.append_run_events("old-0", [event])
        assert () == store.run_events("old-0")
        assert KEPT_RUNS == len(store.stored_runs(KEPT_RUNS + 9))
        assert ((), (event,)) == (store.run_events("old-1"), store.run_events("goes-on"))
        assert store.run_report("old-1") is not None

    def test_run_whose_process_is_gone(self, store: StateStore, other: StateStore) -> None:
        """An unended run has died. A later run with the same number changes nothing."""
        begun = other.begin_run(NOW)
        for name in ("a", "b"):
            other.save_run_begin(run_of(other, name, number=begun.number))
        other.save_run_end("b", RunState.STOPPED, NOW, None)
        assert [RunState.RUNNING, RunState.STOPPED] == states(store, "a", "b")
        other.close()
        assert [RunState.DIED, RunState.STOPPED] == states(store, "a", "b")

        again = store.begin_run(NOW)
        store.save_run_begin(run_of(store, "c", number=again.number, started_at=NOW + HOUR))
        assert begun.number == again.number
        assert [RunState.DIED, RunState.STOPPED, RunState.RUNNING] == states(store, "a", "b", "c")
        assert [RunState.RUNNING, RunState.STOPPED, RunState.DIED] == [
            run.state for run in store.stored_runs(9)
        ]
        store.end_run(again)
        assert [RunState.DIED] == states(store, "c")
        store.save_run_end("c", RunState.DONE, NOW, None)
        assert [RunState.DONE] == states(store, "c")

    def test_run_of_no_process(self, store: StateStore) -> None:
        """A run without a process number counts as died."""
        store.save_run_begin(run_of(store, "a", number=None))
        assert [RunState.DIED] == states(store, "a")

    def test_runs_of_other_hosts(self, store: StateStore, elsewhere: StateStore) -> None:
        """Runs of a live host are in progress. `forget_host` deletes the runs of the host."""
        begun = elsewhere.begin_run(NOW)
        elsewhere.save_run_begin(run_of(elsewhere, "a", number=begun.number))
        elsewhere.append_run_events("a", [RunEvent(1, NOW, "", "busy", Text("waits"))])
        store.save_run_begin(run_of(store, "b"))
        expected = (
            RunState.RUNNING if store.is_shared else RunState.DIED
        )  # a file belongs to one host
        assert [expected] == states(store, "a")
        assert ["a"] == ids(store.stored_runs(9, host=elsewhere.host))

        elsewhere.end_run(begun)
        assert [RunState.DIED] == states(store, "a")
        store.forget_host(elsewhere.host)
        assert ["b"] == ids(store.stored_runs(9))
        assert () == store.run_events("a")


class AccessContract:
    """Users with links and sessions, tokens, and failed logins."""

    def test_users(self, store: StateStore, other: StateStore) -> None:
        """Users are found by name in any case, and are listed by name.

        If many callers add a name at once, a single caller succeeds.
        """
        names = ["Zoe", "anna", "Anna", "ANNA"]
        with ThreadPoolExecutor(4) as makers:
            added = list(
                makers.map(
                    lambda n: (store, other)[n % 2].add_user(User(names[n], Role.VIEWER, NOW)),
                    range(4),
                )
            )
        assert [True, 1] == [added[0], sum(added[1:])]
        [anna, zoe] = other.users()
        assert "Zoe" == zoe.name
        assert anna == store.user("aNNa")
        assert User(anna.name, Role.VIEWER, NOW) == anna
        assert store.user("bob") is None

        assert store.change_role("ANNA", Role.OPERATOR)
        assert not store.change_role("bob", Role.OPERATOR)
        store.change_language("anna", "zh")
        store.change_language("bob", "zh")
        assert replace(anna, role=Role.OPERATOR, language="zh") == other.user("anna")
        assert store.remove_user("ANNA")
        assert not other.remove_user("anna")
        assert (zoe,) == other.users()

    def test_password_is_chosen_once(self, store: StateStore, other: StateStore) -> None:
        """A link sets a password once, before the link's end. Reading the link does not spend it.

        The new password ends the user's sessions. Sessions of other users stay.
        """
        link = logged_in(store)
        assert link == other.link("link", NOW) == other.link("link", NOW + HOUR - SECOND)
        assert store.link("link", NOW + HOUR) is None
        assert store.choose_password("link", "hash", NOW + HOUR) is None
        assert store.choose_password("unknown", "hash", NOW) is None
        assert store.session("anna 1", NOW) is not None

        chosen = replace(ANNA, password="hash", password_at=NOW, seen_at=NOW)
        with ThreadPoolExecutor(2) as twice:
            users = list(
                twice.map(
                    lambda handle: handle.choose_password("link", "hash", NOW), (store, other)
                )
            )
        assert {chosen, None} == set(users)
        assert store.link("link", NOW) is None
        assert chosen == other.user("anna")
        assert store.session("anna 1", NOW) is None
        assert store.session("bob 1", NOW) is not None

    def test_link_takes_the_place_of_the_one_before(self, store: StateStore) -> None:
        """A new link replaces the user's old link. Removing the user deletes the link."""
        link = logged_in(store)
        store.save_link(replace(link, digest="next", user="ANNA"))
        store.save_link(PasswordLink("no user's", "nobody", NOW + HOUR))

        assert store.link("link", NOW) is None
        assert replace(link, digest="next") == store.link("next", NOW)
        assert store.link("no user's", NOW) is None
        store.remove_user("anna")
        assert store.link("next", NOW) is None

    def test_password_is_changed(self, store: StateStore) -> None:
        """A new password ends the user's other sessions and an unused link.

        Without the session to keep, the password does not change.
        """
        logged_in(store)
        store.change_password("ANNA", "new hash", NOW + HOUR, keep="anna 2")

        assert (anna := store.user("anna"))
        assert ("new hash", NOW + HOUR) == (anna.password, anna.password_at)
        ended = [store.session(digest, NOW) is None for digest in ("anna 1", "anna 2", "bob 1")]
        assert [True, False, False] == ended
        assert store.link("link", NOW) is None

        store.end_session("anna 2")
        store.change_password("anna", "newest hash", NOW + HOUR, keep="anna 2")
        assert (anna := store.user("anna"))
        assert "new hash" == anna.password

    def test_password_is_forgotten(self, store: StateStore, other: StateStore) -> None:
        """`forget_password` also deletes the user's link and sessions.

        A login that was verified with the old password begins no session.
        """
        link = logged_in(store)
        store.choose_password("link", "hash", NOW)
        store.save_session(session_of("anna 1"), verified="hash")
        assert other.session("anna 1", NOW) is not None
        store.save_link(link)
        store.forget_password("ANNA")
        store.save_session(session_of("anna 2"), verified="hash")

        assert (anna := other.user("anna"))
        assert (None, None) == (anna.password, anna.password_at)
        ended = [other.session(digest, NOW) is None for digest in ("anna 1", "anna 2", "bob 1")]
        assert [True, True, False] == ended
        assert store.link("link", NOW) is None
        store.save_link(link)
        assert other.choose_password("link", "next hash", NOW) is not None

    def test_session_has_its_user_as_they_are_now(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A new role counts at the next request. A removed user has no session."""
        logged_in(store)
        assert (session_of("anna 1"), replace(ANNA, seen_at=NOW)) == other.session("anna 1", NOW)
        other.change_role("anna", Role.VIEWER)
        assert (session := store.session("anna 1", NOW))
        assert Role.VIEWER == session[1].role

        store.end_session("anna 2")
        assert other.session("anna 2", NOW) is None
        other.remove_user("anna")
        assert store.session("anna 1", NOW) is None
        store.save_session(session_of("anna 3"))
        assert store.session("anna 3", NOW) is None

    def test_every_session_of_a_user_is_ended(self, store: StateStore, other: StateStore) -> None:
        """`end_sessions` takes the name in any case. Other users stay logged in."""
        logged_in(store)
        store.end_sessions("ANNA")

        ended = [other.session(digest, NOW) is None for digest in ("anna 1", "anna 2", "bob 1")]
        assert [True, True, False] == ended

    def test_session_is_over(self, store: StateStore) -> None:
        """A session ends after `SESSION_IDLE` without use, and after `SESSION_LONGEST` in any case.

        The next login deletes ended sessions.
        """
        logged_in(store)
        late, ended = NOW + SESSION_IDLE, []
        assert store.session("anna 2", late + SECOND) is None
        assert store.session("anna 1", late) is not None
        assert store.session("anna 1", late + SESSION_IDLE) is not None
        moment = late
        while moment <= NOW + SESSION_LONGEST + SESSION_IDLE:
            ended.append(store.session("anna 1", moment) is None)
            moment += SESSION_IDLE / 2
        assert [False, True] == [ended[0], ended[-1]]

        store.save_session(replace(session_of("anna 4"), began_at=moment, seen_at=moment))
        assert store.session("anna 1", NOW) is None
        assert store.session("anna 4", moment) is not None

    def test_when_a_session_was_seen(self, store: StateStore, other: StateStore) -> None:
        """The last use of session and user is stored at most once a minute."""
        logged_in(store)
        assert store.session("anna 1", soon := NOW + MINUTE - SECOND) == other.session(
            "anna 1", soon
        )
        assert (user := other.user("anna"))
        assert NOW == user.seen_at
        store.session("anna 1", NOW + MINUTE)
        assert (session := other.session("anna 1", NOW + MINUTE))
        assert [NOW + MINUTE] * 2 == [session[0].seen_at, session[1].seen_at]

    def test_tokens(self, store: StateStore, other: StateStore) -> None:
        """A token is found by its digest until its end or removal. Each name has one token."""
        ci = Token("CI", "digest 1", "cf_abcde", Role.VIEWER, NOW, NOW + HOUR)
        deploy = Token("Deploy", "digest 2", "cf_fghij", Role.OPERATOR, NOW)
        assert [True, True, False] == [
            store.add_token(token)
            for token in (deploy, ci, replace(deploy, name="DEPLOY", digest="digest 3"))
        ]
        assert (ci, deploy) == other.tokens()
        assert other.token("digest 3", NOW) is None
        assert other.token("digest 1", NOW + HOUR) is None
        assert replace(ci, used_at=NOW) == other.token("digest 1", NOW)
        assert replace(ci, used_at=NOW) == other.token("digest 1", NOW + HOUR - SECOND)
        store.token("digest 2", NOW)
        later = replace(deploy, used_at=NOW + HOUR)
        assert later == store.token("digest 2", NOW + HOUR)
        assert later == other.tokens()[1]

        assert store.remove_token("ci")
        assert not store.remove_token("ci")
        assert store.token("digest 1", NOW) is None
        assert store.add_token(replace(ci, used_at=None))

    def test_guesses_are_counted(self, store: StateStore, other: StateStore) -> None:
        """All processes count the guesses of an address or a name for a quarter of an hour.

        Every address and every name counts separately.
        """
        with ThreadPoolExecutor(4) as guessers:
            counted = sorted(
                guessers.map(
                    lambda n: (store, other)[n % 2].count_guess("name anna", NOW), range(8)
                )
            )
        assert list(range(1, 9)) == counted
        assert 1 == store.count_guess("name Anna", NOW)
        late = [NOW + 15 * MINUTE - SECOND, NOW + 16 * MINUTE]
        assert [9, 2] == [store.count_guess("name anna", moment) for moment in late]

        store.take_back_guess("name anna", late[1])
        other.take_back_guess("name nobody", late[1])
        assert [2, 3] == [other.count_guess("name anna", late[1]) for _ in range(2)]
        other.forget_guesses("name anna")
        assert 1 == store.count_guess("name anna", NOW + 16 * MINUTE)


def run_of(
    store: StateStore,
    name: str,
    *,
    names: tuple[str, ...] = (),
    started_at: datetime = NOW,
    plan: str | None = None,
    number: int | None = 1,
) -> StoredRun:
    """Return a run that begins on the store's host, with the run number 1 unless given."""
    return StoredRun(
        name, RunKind.SYNC, RunSource.CONSOLE, "anna", store.host, started_at, names, plan, number
    )


def ids(runs: tuple[StoredRun, ...]) -> list[str]:
    """Return the ids of runs."""
    return [run.id for run in runs]


def states(store: StateStore, *names: str) -> list[RunState]:
    """Return the states of the runs with these ids."""
    runs = [store.stored_run(name) for name in names]
    return [run.state for run in runs if run is not None]


def session_of(digest: str) -> Session:
    """Return a session of the user whose name begins the digest."""
    name = {"anna": "Anna"}.get(digest.split(maxsplit=1)[0], digest.split(maxsplit=1)[0])
    return Session(digest, name, NOW, NOW, "192.0.2.7", "Firefox")


def logged_in(store: StateStore) -> PasswordLink:
    """Store two users with sessions, and a link for Anna; return the link."""
    for user in (ANNA, User("bob", Role.VIEWER, NOW)):
        store.add_user(user)
    for digest in ("anna 1", "anna 2", "bob 1"):
        store.save_session(session_of(digest))
    link = PasswordLink("link", "Anna", NOW + HOUR)
    store.save_link(link)
    return link
