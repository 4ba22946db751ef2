"""A certificate in four files: real files, and real programs that are run for them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from certferry.adapters.files.directory import NAMES
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import FileDelivery
from certferry.core.observed.observation import Change, ObservedDomain
from certferry.core.reasons import ReasonCode
from certferry.errors import DeployError
from certferry.values import replace
from tests.adapters.receivers.bench import (
    LINEAGE,
    delivered_files,
    directory,
    holds,
    issue,
    mode,
    program,
)


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], list[str]]:
    """Return the fingerprints from all runs of the program."""

    def read() -> list[str]:
        reported = tmp_path / "ran"
        return reported.read_text().split() if reported.exists() else []

    return read


def look(delivery: FileDelivery) -> ObservedDomain:
    return directory(delivery).observe(None)


def is_in_order(delivery: FileDelivery, bundle: CertificateBundle) -> bool:
    """Return whether the directory holds this certificate, with no drift."""
    observed = look(delivery)
    return observed.bound == bundle.certificate.fingerprint and observed.drift is None


def test_files_have_certbots_names(delivery: FileDelivery, ssl: Path) -> None:
    """The names are certbot's; the owner alone can read the key, every user the other files."""
    bundle = issue()
    umask = os.umask(0o077)
    try:
        directory(delivery).deliver(LINEAGE, bundle)
    finally:
        os.umask(umask)

    assert holds(ssl, bundle)
    assert 0o755 == mode(ssl)
    assert {
        "cert.pem": 0o644,
        "chain.pem": 0o644,
        "fullchain.pem": 0o644,
        "privkey.pem": 0o600,
    } == {name: mode(ssl / name) for name in NAMES}
    assert 0o600 == mode(ssl / ".certferry")


def test_second_delivery_of_the_same_certificate(
    delivery: FileDelivery, ssl: Path, ran: Callable[[], list[str]]
) -> None:
    """The program is run once for all files, and the second delivery changes nothing."""
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)
    before = [(ssl / name).stat() for name in NAMES]

    directory(delivery).deliver(LINEAGE, bundle)

    assert [bundle.certificate.fingerprint] == ran()
    assert before == [(ssl / name).stat() for name in NAMES]


def test_chosen_modes(delivery: FileDelivery, ssl: Path) -> None:
    """A file with another mode than the chosen mode is repaired."""
    delivery = replace(delivery, mode=0o640, key_mode=0o440)
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)
    assert (0o640, 0o440) == (mode(ssl / "cert.pem"), mode(ssl / "privkey.pem"))

    (ssl / "privkey.pem").chmod(0o644)
    drift = look(delivery).drift
    directory(delivery).deliver(LINEAGE, bundle)

    assert drift is not None
    owner = f"{os.getuid()}:{os.getgid()}"
    assert (Change("privkey.pem", f"0644 {owner}", "0440"),) == drift.changes
    assert 0o440 == mode(ssl / "privkey.pem")
    assert is_in_order(delivery, bundle)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_chosen_owner(delivery: FileDelivery, ssl: Path) -> None:
    """All four files belong to the owner, given by name or number; the directory's owner stays."""
    nobody = pwd.getpwnam("nobody")
    delivery = replace(delivery, owner="nobody", group=str(nobody.pw_gid))

    directory(delivery).deliver(LINEAGE, issue())

    assert {(nobody.pw_uid, nobody.pw_gid)} == {
        ((ssl / name).stat().st_uid, (ssl / name).stat().st_gid) for name in NAMES
    }
    assert os.getuid() == ssl.stat().st_uid
    os.chown(ssl / "privkey.pem", 0, 0)
    drift = look(delivery).drift
    assert drift is not None
    assert ["privkey.pem"] == [change.setting for change in drift.changes]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["deleted", "edited", "emptied", "opened"])
def test_file_changed_by_another_tool(
    delivery: FileDelivery, ssl: Path, ran: Callable[[], list[str]], name: str, how: str
) -> None:
    """The observation names the file; the next delivery repairs it, runs the program, and leaves
    other files alone.
    """
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)
    (ssl / "dhparam.pem").write_text("theirs")
    path = ssl / name
    if how == "deleted":
        path.unlink()
    if how == "edited":
        path.write_bytes(path.read_bytes() + b"\n")
    if how == "emptied":
        path.write_bytes(b"")
    if how == "opened":
        path.chmod(0o666)

    observed = look(delivery)
    directory(delivery).deliver(LINEAGE, bundle)

    assert bundle.certificate.fingerprint == observed.bound
    assert observed.drift is not None
    assert ReasonCode.DELIVERY_DRIFTED is observed.drift.reason.code
    assert [name] == [change.setting for change in observed.drift.changes]
    assert is_in_order(delivery, bundle)
    assert 2 == len(ran())
    assert "theirs" == (ssl / "dhparam.pem").read_text()


def test_another_certificate_over_ours(delivery: FileDelivery, ssl: Path) -> None:
    """The observation names each changed file once; the digest of the chain is unknown."""
    ours, theirs = issue(), issue()
    directory(delivery).deliver(LINEAGE, ours)
    (ssl / "fullchain.pem").write_text(theirs.fullchain_pem)
    (ssl / "privkey.pem").write_text(theirs.privkey_pem.reveal())

    observed = look(delivery)

    assert theirs.certificate.fingerprint == observed.bound
    assert observed.fullchain_digest is None
    assert observed.drift is not None
    assert ["fullchain.pem", "privkey.pem"] == sorted(c.setting for c in observed.drift.changes)


def test_certificate_of_another_lineage(delivery: FileDelivery, ssl: Path) -> None:
    """The observation reports the certificate's fingerprint, and the next delivery replaces it."""
    ours, theirs = issue(), issue("www.example.org")
    directory(delivery).deliver(LINEAGE, ours)
    (ssl / "fullchain.pem").write_text(theirs.fullchain_pem)

    assert theirs.certificate.fingerprint == look(delivery).bound
    directory(delivery).deliver(LINEAGE, ours)
    assert holds(ssl, ours)


def test_files_of_another_client(delivery: FileDelivery, ssl: Path) -> None:
    """The files hold the same certificate, but the server may still use an older certificate: the
    program is due.
    """
    bundle = issue()
    ssl.mkdir()
    for name, content in (("fullchain.pem", bundle.fullchain_pem), ("cert.pem", bundle.cert_pem)):
        (ssl / name).write_text(content)

    observed = look(delivery)

    assert bundle.certificate.fingerprint == observed.bound
    assert observed.drift is not None
    assert ReasonCode.DELIVERY_UNFINISHED is observed.drift.reason.code
    directory(delivery).deliver(LINEAGE, bundle)
    assert holds(ssl, bundle)


def test_failed_program(delivery: FileDelivery, tmp_path: Path, ssl: Path) -> None:
    """All files are new, and the next observation reports that the program is due."""
    failing = replace(
        delivery, reload=program(tmp_path, "/bin/sh", "-c", "echo bad config >&2; exit 3")
    )
    bundle = issue()

    with pytest.raises(DeployError) as failed:
        directory(failing).deliver(LINEAGE, bundle)

    assert "the program /bin/sh failed with exit code 3: bad config" == str(failed.value.message)
    assert failed.value.retry.allowed
    drift = look(failing).drift
    assert drift is not None
    assert ReasonCode.DELIVERY_UNFINISHED is drift.reason.code
    assert (Change("reload", "not run", "run"),) == drift.changes
    inode = (ssl / "fullchain.pem").stat().st_ino
    directory(delivery).deliver(LINEAGE, bundle)
    assert inode == (ssl / "fullchain.pem").stat().st_ino
    assert is_in_order(delivery, bundle)


def test_failed_program_after_a_repair(
    delivery: FileDelivery, tmp_path: Path, ssl: Path, ran: Callable[[], list[str]]
) -> None:
    """The files equal the last complete delivery, and the observation still reports that the
    program is due.
    """
    delivery = replace(
        delivery,
        reload=program(tmp_path, "/bin/sh", "-c", "test ! -e broken && echo reloaded >> ran"),
    )
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)
    (ssl / "fullchain.pem").write_text("edited")
    (tmp_path / "broken").touch()
    with pytest.raises(DeployError, match="exit code 1"):
        directory(delivery).deliver(LINEAGE, bundle)
    (tmp_path / "broken").unlink()

    drift = look(delivery).drift
    directory(delivery).deliver(LINEAGE, bundle)

    assert drift is not None
    assert (Change("reload", "not run", "run"),) == drift.changes
    assert 2 == len(ran())
    assert is_in_order(delivery, bundle)


@pytest.mark.parametrize("reloads", [True, False])
def test_drift_of_an_unfinished_delivery(
    delivery: FileDelivery, ssl: Path, *, reloads: bool
) -> None:
    """The drift lists changed modes, missing files and the program, although the receipt is
    missing.
    """
    bundle = issue()
    if not reloads:
        delivery = replace(delivery, reload=None)
    directory(delivery).deliver(LINEAGE, bundle)
    (ssl / ".certferry").unlink()
    (ssl / "privkey.pem").chmod(0o777)
    (ssl / "cert.pem").unlink()

    drift = look(delivery).drift
    directory(delivery).deliver(LINEAGE, bundle)

    assert drift is not None
    assert ReasonCode.DELIVERY_UNFINISHED is drift.reason.code
    owner = f"{os.getuid()}:{os.getgid()}"
    expected = [
        Change("privkey.pem", f"0777 {owner}", "0600"),
        Change("cert.pem", "missing", "delivered"),
    ]
    expected += [Change("reload", "not run", "run")] if reloads else []
    assert expected == list(drift.changes)
    assert is_in_order(delivery, bundle)


def test_reload_is_added_later(
    delivery: FileDelivery, tmp_path: Path, ran: Callable[[], list[str]]
) -> None:
    """The operator adds `reload` to a complete delivery: the program is run for the same files."""
    bundle = issue()
    without = replace(delivery, reload=None)
    directory(without).deliver(LINEAGE, bundle)
    assert is_in_order(without, bundle)

    assert not is_in_order(delivery, bundle)
    directory(delivery).deliver(LINEAGE, bundle)

    assert is_in_order(delivery, bundle)
    assert 1 == len(ran())
    assert is_in_order(without, bundle)


def test_edited_program(
    delivery: FileDelivery, tmp_path: Path, ran: Callable[[], list[str]]
) -> None:
    """The drift states that `reload` was edited, and the program is run for the same files."""
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)
    edited = replace(delivery, reload=program(tmp_path, "/bin/sh", "-c", "echo edited >> ran"))

    drift = look(edited).drift
    directory(edited).deliver(LINEAGE, bundle)

    assert drift is not None
    assert ReasonCode.PROGRAM_EDITED is drift.reason.code
    assert "`reload` was edited after its last run" == str(drift.reason.message)
    assert (Change("reload", "edited", "run"),) == drift.changes
    assert "edited" == ran()[-1]
    assert is_in_order(edited, bundle)


@pytest.mark.parametrize(
    "corrupt",
    [b"", b"{", b"[]", b'{"fingerprint": 1}', b"\xff", b"null", b"[" * 100_000],
    ids=["empty", "cut", "list", "half", "bytes", "null", "deep"],
)
def test_corrupt_receipt(delivery: FileDelivery, ssl: Path, corrupt: bytes) -> None:
    """A corrupt receipt counts as missing: the next delivery is complete."""
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)
    (ssl / ".certferry").write_bytes(corrupt)

    assert not is_in_order(delivery, bundle)
    directory(delivery).deliver(LINEAGE, bundle)
    assert is_in_order(delivery, bundle)


def test_receipt_holds_no_key(delivery: FileDelivery, ssl: Path) -> None:
    """The receipt holds digests."""
    bundle = issue()
    directory(delivery).deliver(LINEAGE, bundle)

    receipt = (ssl / ".certferry").read_text()

    assert bundle.certificate.fingerprint in receipt
    assert "PRIVATE" not in receipt
    assert str(delivered_files(ssl)["privkey.pem"].splitlines()[1]) not in receipt
