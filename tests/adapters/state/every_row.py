"""A state with a row of every kind."""

from __future__ import annotations

from datetime import timedelta

from certferry.core.access import PasswordLink, Role, Session, Token, User
from certferry.core.assessment.notices import ChannelState, Notice, SentNotice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Revocation, RevocationReason, Withdrawal
from certferry.core.observed.public_logs import FoundCertificate, LoggedCertificate, WatchedDomain
from certferry.core.observed.records import HistoryEntry, RolloutRecord, Upload
from certferry.core.observed.stored_runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.core.planning.limits import Allowance, Hold, Limits, PlannedOrder
from certferry.errors import Problem
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key
from tests.adapters.state.child_program import NOW

WATCHED = WatchedDomain("example.com", NOW, "17", NOW, NOW, NOW, NOW, Text("{one}", one="一"), 3)
FOUND = FoundCertificate("example.com", LoggedCertificate("17", ("shop.example.com",)), NOW)
LIMITS = Limits(*[Allowance(1, timedelta(days=1))] * 4)

LOOK = WatchedHost(
    "www.example.com",
    443,
    "web-1",
    "shop",
    NOW,
    NOW,
    Problem("ends_soon", Text("the certificate ends at {end}", end=NOW), Text("renew")),
    addresses=2,
    fingerprint="ab" * 32,
    issuer="Harbour CA",
    not_before=NOW,
    not_after=NOW,
)


def store_everything(store: StateStore) -> None:
    """Store a row in every table, except `moved` and `pace`."""
    store.begin_run(NOW)
    lease = store.acquire("img", NOW)
    bundle = make_bundle("img.example.com", not_before=NOW)
    store.save_version(lease, bundle, NOW)
    store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))
    store.save_account(AcmeAccount("https://ca.test", make_key()))
    store.claim_order(lease, "https://ca.test", PlannedOrder(("img.example.com",)), LIMITS, NOW)
    order = AcmeOrder("img", "https://ca.test", "order/1", ("img",), make_key(), NOW)
    store.save_order(lease, order)
    store.save_issue_try("img", NOW, failed=True)
    store.save_failed_proofs("https://ca.test", ("img.example.com",), NOW)
    store.save_hold("https://ca.test", Hold(("img.example.com",), NOW, NOW, for_all=True))
    store.save_challenge_record(ChallengeRecord("img", "_acme-challenge.img", "value", NOW))
    store.save_upload(Upload("img", "qiniu", "1", "label", bundle.certificate.fingerprint, NOW))
    sightings = []
    for target in ("qiniu", "files", "command"):
        place = ("img", target, "img.example.com")
        leaf = bundle.certificate.fingerprint
        rollout = RolloutRecord(*place, leaf, NOW, worked_before=True, repairs=(NOW,))
        store.save_rollout(replace(rollout, fullchain_digest=bundle.fullchain_digest))
        sightings.append(Sighting(*place, served=True, since=NOW, fingerprint=leaf))
        store.save_withdrawal(Withdrawal(*place, leaf, NOW, by_hand=True))
    store.update_sightings(lambda _: tuple(sightings))
    notice = Notice(Topic.TROUBLE, Subject("img"), NOW, Problem("code", Text("{one}", one="一")))
    store.update_notices(lambda _: (notice,))
    channel_state = ChannelState((SentNotice(*notice.key, NOW, NOW),), (NOW,))
    store.update_channel("ops", lambda *_: (channel_state, None))
    store.save_look(None, WATCHED, [FOUND])
    store.save_looks([replace(LOOK, by=store.host)], {LOOK.host}, NOW)
    store.update_account_note("qiniu", "way", lambda _: "https")
    store.save_run(NOW, succeeded=True)
    store.append_history(HistoryEntry(NOW, "img", "issued", "root", {"fingerprint": "ab"}))
    store.declare({"img": "ab" * 32}, "/etc/certferry.toml", lambda _: False)
    run = StoredRun("run-1", RunKind.SYNC, RunSource.CONSOLE, "anna", store.host, NOW, ("img",))
    store.save_run_begin(run, "form 1")
    store.append_run_events("run-1", [RunEvent(1, NOW, "img", "step", Text("{one}", one="一"))])
    store.save_run_end("run-1", RunState.DONE, NOW, RunReport({"ok": True}))
    store.add_user(User("Anna", Role.OPERATOR, NOW, "hash", NOW, "zh"))
    store.save_session(Session("a session", "anna", NOW, NOW, "192.0.2.7", "Firefox"))
    store.save_link(PasswordLink("a link", "anna", NOW))
    store.add_token(Token("ci", "a token", "cf_abcde", Role.VIEWER, NOW, NOW))
    store.count_guess("name anna", NOW)
