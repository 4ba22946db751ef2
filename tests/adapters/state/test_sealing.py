"""Private keys at rest: the key file, what a sealed text is bound to, and the bytes on the disk."""

from __future__ import annotations

import base64
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state import sealing as keys
from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.records import Upload
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateError
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key
from tests.adapters.state.child_program import DIRECTORY, NOW
from tests.another_user import NOBODY, as_root, given_away

OTHER_DIRECTORY = "https://other-ca.test/directory"
LINEAGES = ("img", "static")


@pytest.fixture
def bundles(store: StateStore) -> dict[str, CertificateBundle]:
    """A state with an account at two directories, and two lineages with an order and a version."""
    kept = {}
    for directory in (DIRECTORY, OTHER_DIRECTORY):
        store.save_account(AcmeAccount(directory, make_key()))
    for lineage in LINEAGES:
        lease = store.acquire(lineage, NOW)
        kept[lineage] = make_bundle(f"{lineage}.example.com", not_before=NOW)
        store.save_version(lease, kept[lineage], NOW)
        store.save_order(
            lease, AcmeOrder(lineage, DIRECTORY, f"order/{lineage}", (lineage,), make_key(), NOW)
        )
    return kept


@pytest.fixture
def raw(path: Path, store: StateStore) -> Iterator[sqlite3.Connection]:
    """The database as another program sees it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


READS: dict[str, Callable[[StateStore], object]] = {
    "account": lambda store: store.account(DIRECTORY),
    "order": lambda store: store.order("img"),
    "version": lambda store: store.bundle("img", 1),
}

WRITES: dict[str, Callable[[StateStore], object]] = {
    "account": lambda store: store.save_account(AcmeAccount("https://third.test", make_key())),
    "version": lambda store: store.save_version(
        store.acquire("new", NOW), make_bundle("new.example.com", not_before=NOW), NOW
    ),
}

USES: list[Callable[[StateStore], object]] = [
    *READS.values(),
    *WRITES.values(),
    lambda store: store.must_unseal(),
]


@pytest.mark.parametrize(
    "key", [bytes(32), b"\xff" * 32, b"secrets!" * 4, b"0123456" * 4 + b"0123"]
)
def test_key_that_can_be_guessed(key_file: Path, key: bytes) -> None:
    """Zeros, or a few characters again and again, are refused, given or in a file; the hint says
    how a key is made.
    """
    written = base64.b64encode(key)
    with pytest.raises(ConfigError, match=r"`key` of \[state\] is easy to guess") as given:
        keys.key_of(Secret(written.decode()))
    key_file.write_bytes(written)
    key_file.chmod(0o600)
    with pytest.raises(StateError, match="is easy to guess") as in_file:
        keys.key_of(key_file)
    for refused in (given, in_file):
        assert "`certferry state key` prints" in str(refused.value.hint)


def test_key_file_is_made_by_the_first_secret(key_file: Path, store: StateStore) -> None:
    """Reading makes none; it is 32 bytes in base64 that only its owner can read."""
    assert None is store.account(DIRECTORY)
    store.acquire("img", NOW)
    assert not key_file.exists()

    store.save_account(AcmeAccount(DIRECTORY, make_key()))
    assert 32 == len(base64.b64decode(key_file.read_bytes(), validate=False))
    assert 0o600 == key_file.stat().st_mode & 0o777


def test_seal_is_whole_while_its_key_is_there(key_file: Path, store: StateStore) -> None:
    """Before the first secret no key is wanted; the one that was made opens what it sealed."""
    store.must_unseal()
    assert not key_file.exists()

    store.save_account(AcmeAccount(DIRECTORY, make_key()))

    store.must_unseal()


def test_key_file_that_is_there_is_used(path: Path, key_file: Path, store: StateStore) -> None:
    """An operator may bring the key; it is not touched."""
    content = base64.b64encode(bytes(range(32)))
    key_file.write_bytes(content)
    key_file.chmod(0o400)

    store.save_account(AcmeAccount(DIRECTORY, make_key()))

    assert content == key_file.read_bytes()
    assert store.account(DIRECTORY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("bundles")
def test_key_file_that_is_open_to_others(
    key_file: Path, store: StateStore, mode: int, use: Callable[[StateStore], object]
) -> None:
    """Nothing is sealed or opened with a key that another user may know or change."""
    key_file.chmod(mode)

    with pytest.raises(StateError, match="other users can read") as refused:
        use(store)

    first, second = str(refused.value.hint).splitlines()
    assert f"run: chmod 600 {key_file}" == first
    assert "If Kubernetes mounts the file, set defaultMode: 0400 instead" == second


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("bundles")
def test_key_file_of_another_state(
    key_file: Path, store: StateStore, use: Callable[[StateStore], object]
) -> None:
    """Neither are secrets opened with it, nor is anything sealed with a second key."""
    key_file.write_bytes(base64.b64encode(os.urandom(32)))

    with pytest.raises(StateError, match=re.escape(str(key_file))) as refused:
        use(store)

    assert "backup" in str(refused.value.hint)
    assert () == store.versions("new")


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("bundles")
def test_key_file_that_was_lost(
    key_file: Path, store: StateStore, use: Callable[[StateStore], object]
) -> None:
    """No new key is made in its place, since it would open nothing."""
    key_file.unlink()

    with pytest.raises(StateError, match=re.escape(f"the key file {key_file} is missing")):
        use(store)

    assert not key_file.exists()


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("bundles")
def test_fifo_in_the_place_of_the_key_file(key_file: Path, store: StateStore) -> None:
    """A run does not wait for a writer."""
    key_file.unlink()
    os.mkfifo(key_file, 0o600)

    with pytest.raises(StateError, match="does not contain a key"):
        store.account(DIRECTORY)


@as_root
@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("bundles")
def test_key_file_of_another_user(
    key_file: Path, store: StateStore, use: Callable[[StateStore], object]
) -> None:
    """They know the key, or can have another used."""
    given_away(key_file)

    with pytest.raises(StateError, match="belongs to nobody, who can change it") as refused:
        use(store)

    assert str(refused.value.hint).startswith(
        "run certferry as the owner: sudo -u nobody certferry …; or"
    )


@as_root
@pytest.mark.parametrize(("mode", "is_read"), [(0o440, True), (0o460, False), (0o444, False)])
def test_key_file_that_root_gave_to_the_group(mode: int, *, is_read: bool) -> None:
    """A pod reads by its `fsGroup` what Kubernetes mounts, whatever `defaultMode` says."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "secret.key"
        keys.make_key(path)
        path.chmod(mode)
        os.seteuid(NOBODY)
        try:
            if is_read:
                assert 32 == len(keys.read_key(path))
            else:
                with pytest.raises(StateError, match="other users can read"):
                    keys.read_key(path)
        finally:
            os.seteuid(0)


@as_root
def test_key_file_is_not_made_in_a_directory_of_another_users(tmp_path: Path) -> None:
    """Not the first time, either."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    given_away(theirs)
    store = connect(tmp_path / "state.db", theirs / "keys" / "secret.key")

    with pytest.raises(StateError, match=re.escape(f"{theirs} belongs to nobody")):
        store.save_account(AcmeAccount(DIRECTORY, make_key()))

    store.close()
    assert [] == list(theirs.iterdir())


@pytest.mark.parametrize("content", [b"", b"short", "钥匙".encode(), base64.b64encode(bytes(31))])
@pytest.mark.usefixtures("bundles")
def test_file_that_is_not_a_key(key_file: Path, store: StateStore, content: bytes) -> None:
    """What is wrong with it is said without quoting it."""
    key_file.write_bytes(content)

    with pytest.raises(StateError, match="does not contain a key"):
        store.account(DIRECTORY)


def test_key_file_that_cannot_be_read(store: StateStore, key_file: Path) -> None:
    """A folder in its place is an error of the state."""
    key_file.mkdir()

    with pytest.raises(StateError, match=re.escape(str(key_file))):
        store.save_account(AcmeAccount(DIRECTORY, make_key()))
    assert None is store.account(DIRECTORY)


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("acme_account", "sealed_key_pem", "account"),
        ("acme_order", "sealed_key_pem", "order"),
        ("version_pem", "sealed_privkey_pem", "version"),
    ],
)
@pytest.mark.usefixtures("bundles")
def test_sealed_text_stays_shut_in_another_row(
    store: StateStore, raw: sqlite3.Connection, table: str, column: str, kind: str
) -> None:
    """Two rows of a table cannot exchange their secrets."""
    select = f"SELECT {column} FROM {table}"  # noqa: S608 - names from the list above
    update = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"  # noqa: S608 - the same
    (first,), (second,) = raw.execute(select).fetchall()
    for sealed, other in ((first, "?"), (second, first), ("?", second)):
        raw.execute(update, (other, sealed))

    with pytest.raises(StateError, match="cannot be decrypted"):
        READS[kind](store)


@pytest.mark.parametrize("kind", READS)
@pytest.mark.usefixtures("bundles")
def test_sealed_text_stays_shut_in_another_table(
    store: StateStore, raw: sqlite3.Connection, kind: str
) -> None:
    """A secret of one kind cannot stand for one of another, nor can text that was changed."""
    ((sealed,),) = raw.execute("SELECT sealed_check FROM sealing").fetchall()
    for stranger in (sealed, "not base64", base64.b64encode(b"short").decode()):
        raw.execute("UPDATE acme_account SET sealed_key_pem = ?", (stranger,))
        raw.execute("UPDATE acme_order SET sealed_key_pem = ?", (stranger,))
        raw.execute("UPDATE version_pem SET sealed_privkey_pem = ?", (stranger,))

        with pytest.raises(StateError, match="cannot be decrypted"):
            READS[kind](store)


def test_certificate_in_anothers_place(
    store: StateStore, raw: sqlite3.Connection, bundles: dict[str, CertificateBundle]
) -> None:
    """The certificates, which are not sealed, are compared with the fingerprint of their row."""
    raw.execute("UPDATE version_pem SET fullchain_pem = ?", (bundles["static"].fullchain_pem,))

    assert bundles["static"] == store.bundle("static", 1)
    with pytest.raises(StateError, match="not the certificate of the row's fingerprint"):
        store.bundle("img", 1)


@pytest.mark.parametrize(
    "change",
    [
        "remote_id = 'theirs'",
        "fingerprint = 'another'",
        "target = 'another'",
        "lineage = 'static'",
        "proof = NULL",
        "proof = 'not base64'",
        "proof = (SELECT sealed_check FROM sealing)",
    ],
)
def test_upload_that_was_changed_is_none_of_ours(
    store: StateStore, raw: sqlite3.Connection, change: str
) -> None:
    """What its row says would be bound to a domain. The one that is as it was written still is."""
    ours = Upload("img", "qiniu", "ours", "label", "fingerprint", NOW)
    store.save_upload(ours)
    assert (ours,) == store.uploads("img", "qiniu")

    raw.execute(f"UPDATE upload SET {change}")  # noqa: S608 - from the list above

    places = [(lineage, target) for lineage in ("img", "static") for target in ("qiniu", "another")]
    assert [()] * 4 == [store.uploads(*place) for place in places]

    store.save_upload(ours)
    assert (ours,) == store.uploads("img", "qiniu")


@pytest.mark.parametrize(
    "change",
    [
        "name = 'theirs'",
        "value = 'theirs'",
        "lineage = 'static'",
        "proof = NULL",
        "proof = 'not base64'",
        "proof = (SELECT sealed_check FROM sealing)",
    ],
)
def test_challenge_record_that_was_changed_is_none_of_ours(
    store: StateStore, raw: sqlite3.Connection, change: str
) -> None:
    """What its row says would be removed at DNS. It is told until it is dropped; the one that is as
    it was written is ours, with its handle or before.
    """
    ours = ChallengeRecord("img", "_acme-challenge.img", "value", NOW)
    for written in (ours, replace(ours, handle="1|2")):
        store.save_challenge_record(written)
        assert (written,) == store.challenge_records("img")

    raw.execute(f"UPDATE challenge_record SET {change}")  # noqa: S608 - from the list above

    found = [record for name in LINEAGES for record in store.challenge_records(name)]
    assert [False] == [record.is_ours for record in found]
    store.drop_challenge_record(found[0])
    assert () == store.lineages_in_challenge_records()

    store.save_challenge_record(ours)
    assert (ours,) == store.challenge_records("img")


@pytest.mark.usefixtures("bundles")
def test_certificate_that_cannot_be_read(store: StateStore, raw: sqlite3.Connection) -> None:
    """A chain that was damaged is an error of the state."""
    raw.execute("UPDATE version_pem SET fullchain_pem = 'gone'")

    with pytest.raises(StateError, match="version 1 of img: the certificate cannot be read"):
        store.bundle("img", 1)


def test_no_secret_is_on_the_disk(path: Path, key_file: Path, store: StateStore) -> None:
    """Neither database nor log holds a key in any form that could be recognised."""
    secrets = [make_key(), make_key()]
    store.save_account(AcmeAccount(DIRECTORY, secrets[0]))
    lease = store.acquire("img", NOW)
    store.save_order(lease, AcmeOrder("img", DIRECTORY, "order/1", ("img",), secrets[1], NOW))
    while_ordering = on_the_disk(path)
    bundle = make_bundle("img.example.com", not_before=NOW)
    store.save_version(lease, bundle, NOW)
    while_open = on_the_disk(path)
    store.close()
    after = on_the_disk(path)

    forms = {form for secret in (*secrets, bundle.privkey_pem) for form in forms_of(secret)}
    key = key_file.read_bytes().strip()
    forms |= {key, base64.b64decode(key), b"PRIVATE KEY"}
    assert [] == [
        form for form in forms for image in (while_ordering, while_open, after) if form in image
    ]
    assert bundle.cert_pem.encode() in after


def test_no_secret_is_in_an_error(path: Path, key_file: Path) -> None:
    """What cannot be opened is not quoted."""
    key = make_key()
    with closing(connect(path, key_file)) as store:
        store.save_account(AcmeAccount(DIRECTORY, key))
        key_file.write_bytes(base64.b64encode(os.urandom(32)))
        with pytest.raises(StateError) as refused:
            store.account(DIRECTORY)

    told = f"{refused.value!r} {refused.value} {refused.value.hint} {refused.value.__cause__!r}"
    assert "PRIVATE" not in told
    assert base64.b64encode(bytes(32)).decode() not in told


def on_the_disk(path: Path) -> bytes:
    """Give the bytes of the database and of what lies beside it."""
    beside = sorted(path.parent.glob(f"{path.name}*"))
    return b"".join(file.read_bytes() for file in beside if file.is_file())


def forms_of(secret: Secret) -> set[bytes]:
    """Give the lines of a private key's PEM, and its DER without the header that all keys share."""
    lines = secret.reveal().splitlines()[1:-1]
    der = base64.b64decode("".join(lines))
    return {line.encode() for line in lines} | {der, der[36:68]}
