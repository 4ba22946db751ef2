"""Files of certificates that others renew: as a source, and handed over by a deploy hook."""

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

# --- Certificates in files that another client wrote


NAMES = ("static.example.com", "*.static.example.com")


class Directory:
    """What another client keeps: a fullchain and a key."""

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
        """Read what cannot be taken, and give the error."""
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
    """Names, chain and key are there, and belong together."""
    bundle = PemFileSource().read(directory.files)

    assert NAMES == bundle.certificate.names
    assert directory.issued.fingerprint == bundle.certificate.fingerprint
    assert bundle.key_matches
    assert bundle.chain_complete


def test_files_are_judged_once_and_whenever_they_change(directory: Directory) -> None:
    """A run that looks often pays once; what another client writes in between is seen."""
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
def test_what_an_editor_left_does_not_matter(directory: Directory, change: bytes) -> None:
    """A byte order mark and the line ends of another system are read over."""
    for path in (directory.fullchain, directory.privkey):
        path.write_bytes(change + path.read_bytes().replace(b"\n", b"\r\n"))

    bundle = PemFileSource().read(directory.files)

    assert directory.issued.fingerprint == bundle.certificate.fingerprint
    assert "\r" not in bundle.fullchain_pem


def test_half_written_pair_is_refused_until_it_is_whole(directory: Directory) -> None:
    """Between two files of a renewal the key is another certificate's."""
    renewed = directory.issue()
    directory.fullchain.write_text(renewed.fullchain_pem)

    refused = directory.refused()

    assert isinstance(refused, PlanRefused)
    assert "is not the key of" in str(refused)
    assert refused.hint is not None
    directory.privkey.write_text(renewed.privkey_pem)
    assert renewed.fingerprint == PemFileSource().read(directory.files).certificate.fingerprint


@pytest.mark.parametrize("lines", [1, 5, 12])
def test_file_that_ends_in_the_middle_is_refused(directory: Directory, lines: int) -> None:
    """A certificate of which only the beginning is written is reported as unreadable."""
    whole = directory.fullchain.read_text().splitlines(keepends=True)
    directory.fullchain.write_text("".join(whole[:lines]))

    assert str(directory.fullchain) in str(directory.refused())


def test_leaf_without_its_chain_is_refused(directory: Directory) -> None:
    """What acme.sh calls a certificate is a leaf alone; the hint names the right file."""
    leaf, _, _ = directory.issued.fullchain_pem.partition("-----END CERTIFICATE-----")
    directory.fullchain.write_text(f"{leaf}-----END CERTIFICATE-----\n")

    refused = directory.refused()

    assert "incomplete" in str(refused)
    assert (
        "a fullchain contains the leaf first, then each issuer certificate; acme.sh writes it"
        " with --fullchain-file, certbot as fullchain.pem, lego without --no-bundle"
    ) == str(refused.hint)


def test_chain_in_the_wrong_order_is_refused(directory: Directory) -> None:
    """The issuer certificate first, which has no names, is reported as the wrong order."""
    bundle = make_bundle(*NAMES, not_before=datetime.now(UTC))
    issuer = x509.load_pem_x509_certificate(bundle.chain_pem.encode())
    with pytest.raises(x509.ExtensionNotFound):
        issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    directory.fullchain.write_text(bundle.chain_pem + bundle.cert_pem)
    directory.privkey.write_text(bundle.privkey_pem.reveal())

    refused = directory.refused()

    assert f"{directory.fullchain}: the chain is in the wrong order" in str(refused)
    assert "the leaf first" in str(refused.hint)


@pytest.mark.parametrize("which", ["fullchain", "privkey"])
def test_damaged_file_is_named(directory: Directory, which: str) -> None:
    """The one of the two that is damaged; nothing of how a parser is built is shown."""
    path: Path = getattr(directory, which)
    path.write_text(path.read_text().replace("\nMI", "\nAAAA", 1))

    refused = directory.refused()

    assert str(refused).startswith(f"{path}: the ")
    assert "ParseError" not in f"{refused} {refused.hint}"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("which", ["fullchain", "privkey"])
def test_text_of_another_encoding_is_reported(
    directory: Directory, which: str, encoding: str
) -> None:
    """Notepad's "Unicode" is named, with what to do."""
    path: Path = getattr(directory, which)
    path.write_bytes(("\ufeff" + path.read_text()).encode(encoding))

    refused = directory.refused()

    assert f"{path}: is UTF-16 text" == str(refused)
    assert "save the file as UTF-8" in str(refused.hint)


def test_binary_form_is_reported_with_the_command_that_turns_it_into_text(
    directory: Directory,
) -> None:
    """DER of a certificate and of a key, each with OpenSSL's own program for it."""
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


@pytest.mark.parametrize("which", ["fullchain", "privkey"])
def test_pipe_is_not_waited_for(directory: Directory, which: str) -> None:
    """A FIFO may never get a writer."""
    path: Path = getattr(directory, which)
    path.unlink()
    os.mkfifo(path)

    assert f"{path}: is not a regular file" == str(directory.refused())


def test_files_that_were_mixed_up_are_reported(directory: Directory) -> None:
    """A key in the certificate's place, and the other way round, are named as what they are."""
    key_first = PemFiles(str(directory.privkey), str(directory.privkey))
    certificate_twice = PemFiles(str(directory.fullchain), str(directory.fullchain))

    with pytest.raises(CertificateError, match=r"privkey\.pem: contains a private key"):
        PemFileSource().read(key_first)
    with pytest.raises(CertificateError, match=r"fullchain\.pem: contains a certificate"):
        PemFileSource().read(certificate_twice)


def test_key_with_a_passphrase_is_reported(directory: Directory) -> None:
    """With the command that takes it away."""
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


@pytest.mark.parametrize("which", ["fullchain", "privkey"])
def test_file_that_is_not_there_is_named(directory: Directory, which: str) -> None:
    """The path, what is wrong with it, and a hint."""
    path: Path = getattr(directory, which)
    path.unlink()

    missing = directory.refused()

    assert f"{path}: No such file or directory" == str(missing)
    assert missing.hint is not None


def test_what_is_no_pem_is_reported(directory: Directory) -> None:
    """Empty, binary and huge files, and a directory."""
    for content in (b"", b"\x00\xff" * 100, b"x" * (LARGEST + 1)):
        directory.fullchain.write_bytes(content)
        assert str(directory.fullchain) in str(directory.refused())
    directory.fullchain.unlink()
    directory.fullchain.mkdir()
    assert f"{directory.fullchain}: Is a directory" == str(directory.refused())


# --- What is left of a certificate's files that a program has worked with


def test_key_is_removed_though_nothing_else_can_be(tmp_path: Path) -> None:
    """After the program, and when a run that was killed had left it; with what else is left it is
    told.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, stuck_handover.__file__, str(tmp_path / "handover")]
    heard = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True, timeout=60
    )

    stuck = sorted(["cert.pem", "chain.pem", "fullchain.pem", *map(str, stuck_handover.MANY)])
    assert {"after": stuck, "swept": stuck} == json.loads(heard.stdout)
    assert "cannot be removed: Operation not permitted" in heard.stderr


def test_key_of_another_directory_stays(tmp_path: Path) -> None:
    """What a program has put in the place of its directory is not emptied."""
    elsewhere = tmp_path / "ssl"
    elsewhere.mkdir()
    (elsewhere / "privkey.pem").write_text("another's key")

    with handover.handed_over(issue(), tmp_path / "handover") as directory:
        directory.rename(tmp_path / "moved")
        directory.symlink_to(elsewhere)
    handover.sweep_handovers(tmp_path / "handover")

    assert "another's key" == (elsewhere / "privkey.pem").read_text()
