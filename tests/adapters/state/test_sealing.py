"""Private keys at rest: the key file, the binding of sealed texts, and the bytes on the disk."""

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
    """A state with an account at two directories, and two lineages with an order and a version
    each.
    """
    stored = {}
    for directory in (DIRECTORY, OTHER_DIRECTORY):
        store.save_account(AcmeAccount(directory, make_key()))
    for lineage in LINEAGES:
        lease = store.acquire(lineage, NOW)
        stored[lineage] = make_bundle(f"{lineage}.example.com", not_before=NOW)
        store.save_version(lease, stored[lineage], NOW)
        store.save_order(
            lease, AcmeOrder(lineage, DIRECTORY, f"order/{lineage}", (lineage,), make_key(), NOW)
        )
    return stored


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
def test_guessable_key(key_file: Path, key: bytes) -> None:
    """Zeros and repeated characters are refused, as a value or in a file; the hint names the
    command that makes a key.
    """
    encoded = base64.b64encode(key)
    with pytest.raises(ConfigError, match=r"`key` of \[state\] is easy to guess") as given:
        keys.key_of(Secret(encoded.decode()))
    key_file.write_bytes(encoded)
    key_file.chmod(0o600)
    with pytest.raises(StateError, match="is easy to guess") as in_file:
        keys.key_of(key_file)
    for refused in (given, in_file):
        assert "`certferry state key` prints" in str(refused.value.hint)


def test_first_secret_creates_the_key_file(key_file: Path, store: StateStore) -> None:
    """Reading creates no file; the file has 32 bytes in base64 that its owner alone can read."""
    assert None is store.account(DIRECTORY)
    store.acquire("img", NOW)
    assert not key_file.exists()

    store.save_account(AcmeAccount(DIRECTORY, make_key()))
    assert 32 == len(base64.b64decode(key_file.read_bytes(), validate=False))
    assert 0o600 == key_file.stat().st_mode & 0o777


def test_key_file_is_required_after_the_first_secret(key_file: Path, store: StateStore) -> None:
    """Before the first secret, a missing key is no error; afterwards the created key opens the
    state.
    """
    store.must_unseal()
    assert not key_file.exists()

    store.save_account(AcmeAccount(DIRECTORY, make_key()))

    store.must_unseal()


def test_existing_key_file(path: Path, key_file: Path, store: StateStore) -> None:
    """An operator may provide the key; the file stays unchanged."""
    content = base64.b64encode(bytes(range(32)))
    key_file.write_bytes(content)
    key_file.chmod(0o400)

    store.save_account(AcmeAccount(DIRECTORY, make_key()))

    assert content == key_file.read_bytes()
    assert store.account(DIRECTORY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("bundles")
def test_key_file_readable_by_others(
    key_file: Path, store: StateStore, mode: int, use: Callable[[StateStore], object]
) -> None:
    """A key that another user can read or change neither seals nor opens."""
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
    """The state's secrets stay closed, and a second key seals nothing."""
    key_file.write_bytes(base64.b64encode(os.urandom(32)))

    with pytest.raises(StateError, match=re.escape(str(key_file))) as refused:
        use(store)

    assert "backup" in str(refused.value.hint)
    assert () == store.versions("new")


@pytest.mark.parametrize("use", USES)
@pytest.mark.usefixtures("bundles")
def test_lost_key_file(
    key_file: Path, store: StateStore, use: Callable[[StateStore], object]
) -> None:
    """A new key would open nothing, so none is created."""
    key_file.unlink()

    with pytest.raises(StateError, match=re.escape(f"the key file {key_file} is missing")):
        use(store)

    assert not key_file.exists()


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("bundles")
def test_fifo_instead_of_a_key_file(key_file: Path, store: StateStore) -> None:
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
    """The other user knows the key, and could replace it."""
    given_away(key_file)

    with pytest.raises(StateError, match="belongs to nobody, who can change it") as refused:
        use(store)

    assert str(refused.value.hint).startswith(
        "run certferry as the owner: sudo -u nobody certferry …; or"
    )


@as_root
@pytest.mark.parametrize(("mode", "is_read"), [(0o440, True), (0o460, False), (0o444, False)])
def test_key_file_of_roots_group(mode: int, *, is_read: bool) -> None:
    """A pod reads a mounted key by its `fsGroup`, whatever `defaultMode` Kubernetes applies."""
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
def test_key_file_in_another_users_directory(tmp_path: Path) -> None:
    """The first secret is refused, and no file is created."""
    tenant = tmp_path / "theirs"
    tenant.mkdir()
    given_away(tenant)
    store = connect(tmp_path / "state.db", tenant / "keys" / "secret.key")

    with pytest.raises(StateError, match=re.escape(f"{tenant} belongs to nobody")):
        store.save_account(AcmeAccount(DIRECTORY, make_key()))

    store.close()
    assert [] == list(tenant.iterdir())


@pytest.mark.parametrize("content", [b"", b"short", "钥匙".encode(), base64.b64encode(bytes(31))])
@pytest.mark.usefixtures("bundles")
def test_invalid_key_file(key_file: Path, store: StateStore, content: bytes) -> None:
    """The error describes the file without quoting its content."""
    key_file.write_bytes(content)

    with pytest.raises(StateError, match="does not contain a key"):
        store.account(DIRECTORY)


def test_folder_instead_of_a_key_file(store: StateStore, key_file: Path) -> None:
    """A folder is an error of the state."""
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
def test_sealed_text_in_another_row(
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
def test_sealed_text_in_another_table(
    store: StateStore, raw: sqlite3.Connection, kind: str
) -> None:
    """A secret of another kind, or changed text, does not open."""
    ((sealed,),) = raw.execute("SELECT sealed_check FROM sealing").fetchall()
    for stranger in (sealed, "not base64", base64.b64encode(b"short").decode()):
        raw.execute("UPDATE acme_account SET sealed_key_pem = ?", (stranger,))
        raw.execute("UPDATE acme_order SET sealed_key_pem = ?", (stranger,))
        raw.execute("UPDATE version_pem SET sealed_privkey_pem = ?", (stranger,))

        with pytest.raises(StateError, match="cannot be decrypted"):
            READS[kind](store)


def test_certificate_of_another_row(
    store: StateStore, raw: sqlite3.Connection, bundles: dict[str, CertificateBundle]
) -> None:
    """Certificates are stored unsealed, and are compared with the fingerprint of their row."""
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
def test_changed_upload(store: StateStore, raw: sqlite3.Connection, change: str) -> None:
    """A changed upload is ignored, because its certificate would be bound to a domain; the row as
    written counts.
    """
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
def test_changed_challenge_record(store: StateStore, raw: sqlite3.Connection, change: str) -> None:
    """A changed record is listed as foreign until it is dropped, because its record would be
    removed at DNS. The row as written counts, with or without a handle.
    """
    ours = ChallengeRecord("img", "_acme-challenge.img", "value", NOW)
    for record in (ours, replace(ours, handle="1|2")):
        store.save_challenge_record(record)
        assert (record,) == store.challenge_records("img")

    raw.execute(f"UPDATE challenge_record SET {change}")  # noqa: S608 - from the list above

    records = [record for name in LINEAGES for record in store.challenge_records(name)]
    assert [False] == [record.is_ours for record in records]
    store.drop_challenge_record(records[0])
    assert () == store.lineages_in_challenge_records()

    store.save_challenge_record(ours)
    assert (ours,) == store.challenge_records("img")


@pytest.mark.usefixtures("bundles")
def test_damaged_certificate(store: StateStore, raw: sqlite3.Connection) -> None:
    """A damaged chain is an error of the state."""
    raw.execute("UPDATE version_pem SET fullchain_pem = 'gone'")

    with pytest.raises(StateError, match="version 1 of img: the certificate cannot be read"):
        store.bundle("img", 1)


def test_no_secret_is_on_the_disk(path: Path, key_file: Path, store: StateStore) -> None:
    """Database and log hold no private key in any recognisable form."""
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
    """The error leaves the sealed text out."""
    key = make_key()
    with closing(connect(path, key_file)) as store:
        store.save_account(AcmeAccount(DIRECTORY, key))
        key_file.write_bytes(base64.b64encode(os.urandom(32)))
        with pytest.raises(StateError) as refused:
            store.account(DIRECTORY)

    message = f"{refused.value!r} {refused.value} {refused.value.hint} {refused.value.__cause__!r}"
    assert "PRIVATE" not in message
    assert base64.b64encode(bytes(32)).decode() not in message


def on_the_disk(path: Path) -> bytes:
    """Return the bytes of the database and of the files beside it."""
    beside = sorted(path.parent.glob(f"{path.name}*"))
    return b"".join(file.read_bytes() for file in beside if file.is_file())


def forms_of(secret: Secret) -> set[bytes]:
    """Return the lines of a private key's PEM, and its DER without the header that all keys
    share.
    """
    lines = secret.reveal().splitlines()[1:-1]
    der = base64.b64decode("".join(lines))
    return {line.encode() for line in lines} | {der, der[36:68]}
