"""Files of certificates that another client renews, as a source and for a deploy hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certferry.adapters.files import directory as handover
from certferry.adapters.files.directory import LARGEST
from certferry.adapters.files.source import PemFileSource
from certferry.core.desired.certificate import PemFiles
from certferry.errors import CertferryError, CertificateError, PlanRefused
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.files import stuck_handover
from tests.adapters.receivers.bench import issue

# --- Certificates in files of another client


NAMES = ("static.example.com", "*.static.example.com")


class Directory:
    """Another client's directory: a fullchain and a key."""

    def __init__(self, path: Path, authority: Authority) -> None:
        self.authority = authority
        self.issued = self.issue()
        self.fullchain = path / "fullchain.pem"
        self.privkey = path / "privkey.pem"
        self.write(self.issued)

    def issue(self) -> Issued:
        now = datetime.now(UTC)
        return self.authority.issue(NAMES, now, now + timedelta(days=90))

    def write(self, issued: Issued) -> None:
        """Write both files."""
        self.fullchain.write_text(issued.fullchain_pem)
        self.privkey.write_text(issued.privkey_pem)

    @property
    def files(self) -> PemFiles:
        return PemFiles(str(self.fullchain), str(self.privkey))

    def refused(self) -> CertferryError:
        """Read unusable files, and return the error."""
        with pytest.raises((CertificateError, PlanRefused)) as caught:
            PemFileSource().read(self.files)
        assert self.issued.privkey_pem not in str(caught.value)
        return caught.value


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Their CA")


@pytest.fixture
def directory(tmp_path: Path, authority: Authority) -> Directory:
    return Directory(tmp_path, authority)


def test_pair_is_read_whole(directory: Directory) -> None:
    """Names, chain and key are complete and belong together."""
    bundle = PemFileSource().read(directory.files)

    assert NAMES == bundle.certificate.names
    assert directory.issued.fingerprint == bundle.certificate.fingerprint
    assert bundle.key_matches
    assert bundle.chain_complete


def test_files_are_checked_once_and_after_each_change(directory: Directory) -> None:
    """Repeated reads cost a single check, and a change by the other client is noticed."""
    source = PemFileSource()
    first = source.read(directory.files)
    assert first is source.read(directory.files)

    renewed = directory.issue()
    directory.write(renewed)

    assert renewed.fingerprint == source.read(directory.files).certificate.fingerprint
    directory.privkey.write_text(directory.issued.privkey_pem)
    with pytest.raises(PlanRefused):
        source.read(directory.files)


@pytest.mark.parametrize("change", [b"\xef\xbb\xbf", b"\r\n\r\n"])
def test_traces_of_an_editor_are_ignored(directory: Directory, change: bytes) -> None:
    """A byte order mark and the line ends of another system are removed."""
    for path in (directory.fullchain, directory.privkey):
        path.write_bytes(change + path.read_bytes().replace(b"\n", b"\r\n"))

    bundle = PemFileSource().read(directory.files)

    assert directory.issued.fingerprint == bundle.certificate.fingerprint
    assert "\r" not in bundle.fullchain_pem


def test_half_written_pair_is_refused_until_complete(directory: Directory) -> None:
    """In the middle of a renewal the key belongs to another certificate."""
    renewed = directory.issue()
    directory.fullchain.write_text(renewed.fullchain_pem)

    refused = directory.refused()

    assert isinstance(refused, PlanRefused)
    assert "is not the key of" in str(refused)
    assert refused.hint is not None
    directory.privkey.write_text(renewed.privkey_pem)
    assert renewed.fingerprint == PemFileSource().read(directory.files).certificate.fingerprint


@pytest.mark.parametrize("lines", [1, 5, 12])
def test_truncated_file_is_refused(directory: Directory, lines: int) -> None:
    """The error says that the certificate is unreadable."""
    whole = directory.fullchain.read_text().splitlines(keepends=True)
    directory.fullchain.write_text("".join(whole[:lines]))

    assert str(directory.fullchain) in str(directory.refused())


def test_leaf_without_its_chain_is_refused(directory: Directory) -> None:
    """acme.sh calls the bare leaf a certificate; the hint names the right file."""
    leaf, _, _ = directory.issued.fullchain_pem.partition("-----END CERTIFICATE-----")
    directory.fullchain.write_text(f"{leaf}-----END CERTIFICATE-----\n")

    refused = directory.refused()

    assert "incomplete" in str(refused)
    assert (
        "a fullchain contains the leaf first, then each issuer certificate; acme.sh writes it"
        " with --fullchain-file, certbot as fullchain.pem, lego without --no-bundle"
    ) == str(refused.hint)


def test_chain_in_the_wrong_order_is_refused(directory: Directory) -> None:
    """An issuer certificate in first place, which has no names, is reported as the wrong order."""
    bundle = make_bundle(*NAMES, not_before=datetime.now(UTC))
    issuer = x509.load_pem_x509_certificate(bundle.chain_pem.encode())
    with pytest.raises(x509.ExtensionNotFound):
        issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    directory.fullchain.write_text(bundle.chain_pem + bundle.cert_pem)
    directory.privkey.write_text(bundle.privkey_pem.reveal())

    refused = directory.refused()

    assert f"{directory.fullchain}: the chain is in the wrong order" in str(refused)
    assert "the leaf first" in str(refused.hint)


@pytest.mark.parametrize("file", ["fullchain", "privkey"])
def test_damaged_file_is_named(directory: Directory, file: str) -> None:
    """The error names the damaged file, and hides details of the parser."""
    path: Path = getattr(directory, file)
    path.write_text(path.read_text().replace("\nMI", "\nAAAA", 1))

    refused = directory.refused()

    assert str(refused).startswith(f"{path}: the ")
    assert "ParseError" not in f"{refused} {refused.hint}"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("file", ["fullchain", "privkey"])
def test_text_in_utf16_is_reported(directory: Directory, file: str, encoding: str) -> None:
    """The hint says how to save the file, because Notepad calls this encoding "Unicode"."""
    path: Path = getattr(directory, file)
    path.write_bytes(("\ufeff" + path.read_text()).encode(encoding))

    refused = directory.refused()

    assert f"{path}: is UTF-16 text" == str(refused)
    assert "save the file as UTF-8" in str(refused.hint)


def test_der_is_reported_with_a_command_for_the_conversion(
    directory: Directory,
) -> None:
    """The hints have OpenSSL's own commands for a certificate and for a key."""
    leaf = x509.load_pem_x509_certificate(directory.issued.fullchain_pem.encode())
    key = serialization.load_pem_private_key(directory.issued.privkey_pem.encode(), None)
    directory.fullchain.write_bytes(leaf.public_bytes(serialization.Encoding.DER))

    refused = directory.refused()

    assert f"{directory.fullchain}: is DER, not PEM text" == str(refused)
    assert f"openssl x509 -inform der -in {directory.fullchain} " in str(refused.hint)

    directory.fullchain.write_text(directory.issued.fullchain_pem)
    directory.privkey.write_bytes(
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert f"openssl pkey -inform der -in {directory.privkey} " in str(directory.refused().hint)


@pytest.mark.parametrize("file", ["fullchain", "privkey"])
def test_pipe_is_refused_at_once(directory: Directory, file: str) -> None:
    """A FIFO may never get a writer."""
    path: Path = getattr(directory, file)
    path.unlink()
    os.mkfifo(path)

    assert f"{path}: is not a regular file" == str(directory.refused())


def test_swapped_files_are_reported(directory: Directory) -> None:
    """The error says which kind of file stands in the other's place."""
    key_first = PemFiles(str(directory.privkey), str(directory.privkey))
    certificate_twice = PemFiles(str(directory.fullchain), str(directory.fullchain))

    with pytest.raises(CertificateError, match=r"privkey\.pem: contains a private key"):
        PemFileSource().read(key_first)
    with pytest.raises(CertificateError, match=r"fullchain\.pem: contains a certificate"):
        PemFileSource().read(certificate_twice)


def test_key_with_a_passphrase_is_reported(directory: Directory) -> None:
    """The hint has the command that removes the passphrase."""
    key = serialization.load_pem_private_key(directory.issued.privkey_pem.encode(), None)
    directory.privkey.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"correct horse"),
        )
    )

    refused = directory.refused()

    assert f"{directory.privkey}: the private key is protected" in str(refused)
    assert "openssl" in str(refused.hint)


@pytest.mark.parametrize("file", ["fullchain", "privkey"])
def test_missing_file_is_named(directory: Directory, file: str) -> None:
    """The error has the path, the reason and a hint."""
    path: Path = getattr(directory, file)
    path.unlink()

    missing = directory.refused()

    assert f"{path}: No such file or directory" == str(missing)
    assert missing.hint is not None


def test_other_content_is_reported(directory: Directory) -> None:
    """The file is empty, binary, too large, or a directory."""
    for content in (b"", b"\x00\xff" * 100, b"x" * (LARGEST + 1)):
        directory.fullchain.write_bytes(content)
        assert str(directory.fullchain) in str(directory.refused())
    directory.fullchain.unlink()
    directory.fullchain.mkdir()
    assert f"{directory.fullchain}: Is a directory" == str(directory.refused())


# --- Remains of a handover


def test_key_is_removed_when_other_removals_fail(tmp_path: Path) -> None:
    """The key is removed after the command and in a later sweep, with a warning about the rest."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, stuck_handover.__file__, str(tmp_path / "handover")]
    ended = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True, timeout=60
    )

    stuck = sorted(["cert.pem", "chain.pem", "fullchain.pem", *map(str, stuck_handover.MANY)])
    assert {"after": stuck, "swept": stuck} == json.loads(ended.stdout)
    assert "cannot be removed: Operation not permitted" in ended.stderr


def test_key_of_another_directory_stays(tmp_path: Path) -> None:
    """A link that a program put in place of its directory is not followed."""
    elsewhere = tmp_path / "ssl"
    elsewhere.mkdir()
    (elsewhere / "privkey.pem").write_text("another's key")

    with handover.handed_over(issue(), tmp_path / "handover") as directory:
        directory.rename(tmp_path / "moved")
        directory.symlink_to(elsewhere)
    handover.sweep_handovers(tmp_path / "handover")

    assert "another's key" == (elsewhere / "privkey.pem").read_text()
