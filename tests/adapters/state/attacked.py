"""A state, and a program that can change every row and table of the state, but lacks the key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from certferry.core.access import PasswordLink, Role, Session, Token, User
from certferry.core.certificates.certificate import CertificateBundle, RenewalWindow
from certferry.core.certificates.lineage import Revocation, RevocationReason, Withdrawal
from certferry.core.certificates.pem import digests_of_key, pkcs8_pem
from certferry.core.observed.records import RolloutRecord, Upload
from certferry.errors import StateError
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry_sandbox.testing.certificates import make_bundle, make_key
from tests.adapters.state.child_program import DIRECTORY, NOW

LATER = NOW + timedelta(days=30)


IMG_KEY = pkcs8_pem(ec.derive_private_key(7, ec.SECP256R1()))
"""The key of the order of `img`."""
(IMG_DIGEST,) = digests_of_key(IMG_KEY)

FAR = "2299-01-01T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Attacked:
    """A state with a certificate, and `write`, by which another program runs statements on the
    rows.
    """

    store: StateStore
    write: Callable[[str], object]
    bundle: CertificateBundle
    is_shared: bool


def delivery(lineage: str) -> RolloutRecord:
    """Return the record of a certificate that a command has accepted."""
    return RolloutRecord(lineage, "command", "push", "ab", NOW, verified_at=NOW)


def filled(store: StateStore) -> CertificateBundle:
    """Store a row of every table with proofs; of a version, two."""
    bundle = make_bundle("img.example.com", not_before=NOW)
    for lineage in ("img", "static"):
        lease = store.acquire(lineage, NOW)
        stored = bundle if lineage == "img" else make_bundle("static.example.com", not_before=NOW)
        store.save_version(lease, stored, NOW)
        window = RenewalWindow(NOW, LATER, "https://ca.test/why")
        store.save_renewal_info(lineage, stored.certificate.fingerprint, window, LATER)
        key_pem = IMG_KEY if lineage == "img" else make_key()
        order = AcmeOrder(lineage, DIRECTORY, f"order/{lineage}", (lineage,), key_pem, NOW)
        store.save_order(lease, order)
        store.save_upload(Upload(lineage, "qiniu", lineage, "label", "ab", NOW))
        store.save_challenge_record(ChallengeRecord(lineage, f"_acme.{lineage}", "value", NOW))
        store.save_withdrawal(Withdrawal(lineage, "qiniu", "img.example.com", "ab", NOW))
        store.save_rollout(delivery(lineage))
        if lineage == "img":
            store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))
        store.release(lease)
    store.save_account(AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1"))
    for name, role in (("anna", Role.VIEWER), ("bert", Role.OPERATOR)):
        store.add_user(User(name, role, NOW, "hash", NOW))
        store.save_session(Session(f"session of {name}", name, NOW, NOW, "192.0.2.7", "Firefox"))
        store.save_link(PasswordLink(f"link of {name}", name, LATER))
        store.add_token(Token(name, f"token of {name}", "cf_abcde", role, NOW, LATER))
    assert () == store.foreign()
    return bundle


OWN = {
    "version": "lineage = 'img'",
    "withdrawal": "lineage = 'img'",
    "acme_account": "url IS NOT NULL",
    "acme_order": "lineage = 'img'",
    "console_user": "id = 'anna'",
    "console_user_link": "user_id = 'anna'",
    "console_user_session": "user_id = 'anna'",
    "console_token": "id = 'anna'",
    "upload": "lineage = 'img'",
    "challenge_record": "lineage = 'img'",
    "rollout": "lineage = 'img'",
    "own_digest": f"digest = '{IMG_DIGEST}'",
}
"""The row of each table that a test changes."""


Reads = Callable[[StateStore], object]


READS: dict[str, list[Reads]] = {
    "version": [
        lambda store: store.remembered("img").versions,
        lambda store: store.remembered("gone").versions,
        lambda store: store.versions("img"),
        lambda store: store.versions_of(["img"])["img"],
        lambda store: store.versions_in_use().get("img"),
        lambda store: store.bundle("img", 1),
        lambda store: store.bundle("img", 8),
        lambda store: store.bundle("gone", 1),
    ],
    "withdrawal": [
        lambda store: store.remembered("img").withdrawals,
        lambda store: store.remembered("gone").withdrawals,
    ],
    "acme_account": [
        lambda store: store.account(DIRECTORY),
        lambda store: store.account("https://evil.test"),
        lambda store: store.accounts(),
    ],
    "acme_order": [lambda store: store.order("img"), lambda store: store.order("gone")],
    "console_user": [
        lambda store: store.user("anna"),
        lambda store: store.user("eve"),
        lambda store: [user for user in store.users() if user.name != "bert"],
        lambda store: store.link("link of anna", NOW),
        lambda store: store.session("session of anna", NOW),
    ],
    "console_user_link": [
        lambda store: store.link("link of anna", NOW),
        lambda store: store.link("link of another", NOW),
    ],
    "console_user_session": [
        lambda store: store.session("session of anna", NOW),
        lambda store: store.session("session of another", NOW),
    ],
    "console_token": [
        lambda store: store.token("token of anna", NOW),
        lambda store: store.token("token of another", NOW),
        lambda store: [token for token in store.tokens() if token.name != "bert"],
    ],
    "upload": [
        lambda store: store.uploads("img", "qiniu"),
        lambda store: store.uploads("img", "another"),
        lambda store: store.uploads("gone", "qiniu"),
    ],
    "challenge_record": [
        lambda store: [record for record in store.challenge_records("img") if record.is_ours],
        lambda store: [record for record in store.challenge_records("gone") if record.is_ours],
    ],
    "rollout": [
        lambda store: store.remembered("img").rollouts,
        lambda store: store.remembered("gone").rollouts,
        lambda store: store.open_rollouts("command"),
    ],
    "own_digest": [
        lambda store: store.own_among({IMG_DIGEST}),
        lambda store: store.own_among({"cd" * 32}),
    ],
}
"""The reads of that row, by its own keys and by the keys of the changed row."""


def accepted_reads(store: StateStore, table: str) -> list[object]:
    """Return the results that certferry accepts from the reads of a table."""
    results: list[object] = []
    for read in READS[table]:
        with suppress(StateError):
            results += filter(None, [read(store)])
    return results


def other_rows(store: StateStore) -> list[object]:
    """Read the rows beside the changed row."""
    return [
        store.remembered("static"),
        store.bundle("static", 1),
        store.order("static"),
        store.uploads("static", "qiniu"),
        store.user("bert"),
        store.session("session of bert", NOW),
        store.link("link of bert", NOW),
        store.token("token of bert", NOW),
    ]
