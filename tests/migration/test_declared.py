"""The declared certificates that a hook syncs after another client's renewal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, PemFiles
from certferry.errors import CertificateError, ConfigError, PlanRefused
from certferry.migration.renewed import declared_for
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_receiver import MemorySource

NOW = datetime(2026, 11, 25, tzinfo=UTC)
CLIENTS_OWN = PemFiles("/acme/img_ecc/fullchain.cer", "/acme/img_ecc/img.key")
COPY = PemFiles("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem")
DEPLOYED = (DesiredDeployment("qiniu"),)
ISSUED = DesiredCertificate("img", ("b.example.com", "a.example.com"), "dns", deployments=DEPLOYED)


def imported(files: PemFiles, lineage: str = "img") -> DesiredCertificate:
    return DesiredCertificate(lineage, (), files=files, deployments=DEPLOYED)


def bundle_for(*names: str, age: timedelta = timedelta(0)) -> CertificateBundle:
    return make_bundle(*(names or ("a.example.com", "b.example.com")), not_before=NOW - age)


def meant_by(
    files: PemFiles,
    declared: Sequence[DesiredCertificate],
    source: MemorySource,
    *versions: CertificateBundle,
) -> tuple[DesiredCertificate, ...]:
    """Return the declared certificates that a renewal of `files` is for, with `versions` as the
    known versions of every lineage.
    """
    known_versions = [
        Version(n, bundle.certificate, NOW) for n, bundle in enumerate(versions, start=1)
    ]
    return declared_for(files, declared, source, lambda _: known_versions)


@pytest.fixture
def source() -> MemorySource:
    """Return a source that contains the client's own files only."""
    source = MemorySource()
    source.put(CLIENTS_OWN, bundle_for())
    return source


def test_certificates_of_the_same_files_come_first(source: MemorySource) -> None:
    """The answer has every certificate that is declared with these files, in any spelling of the
    path.
    """
    other_spelling = PemFiles("/acme//img_ecc/./fullchain.cer", CLIENTS_OWN.privkey)
    declared = (
        imported(other_spelling),
        imported(COPY, "copy"),
        ISSUED,
        imported(CLIENTS_OWN, "again"),
    )
    source.put(COPY, source.read(CLIENTS_OWN))

    assert (declared[0], declared[3]) == meant_by(CLIENTS_OWN, declared, source)


def test_unreadable_files_of_a_declared_certificate() -> None:
    """A certificate is found by the paths alone; the run itself reports unreadable files, with the
    certificate's name.
    """
    desired = imported(CLIENTS_OWN)

    assert (desired,) == meant_by(CLIENTS_OWN, (desired,), MemorySource())


def test_certificate_of_a_copy_made_by_the_client(source: MemorySource) -> None:
    """acme.sh passes the paths of its own files, and has installed copies of the same certificate
    elsewhere.
    """
    source.put(COPY, source.read(CLIENTS_OWN))
    broken = imported(PemFiles("/gone", "/gone"), "gone")
    declared = (broken, ISSUED, imported(COPY, "copy"))

    assert (declared[2],) == meant_by(CLIENTS_OWN, declared, source)


def test_declared_key_in_another_place(source: MemorySource) -> None:
    """The fullchain identifies the certificate; the declared key may be a copy that only certferry
    can read.
    """
    desired = imported(replace(CLIENTS_OWN, privkey="/etc/ssl/private/key.pem"), "img")

    assert (desired,) == meant_by(CLIENTS_OWN, (ISSUED, desired), source)


def test_declared_files_with_an_older_certificate_are_refused(source: MemorySource) -> None:
    """A sync of the declared copy would print "unchanged" for a renewed certificate."""
    source.put(COPY, bundle_for())

    with pytest.raises(ConfigError) as caught:
        meant_by(CLIENTS_OWN, (ISSUED, imported(COPY, "copy")), source)

    assert (
        f"copy: {COPY.fullchain} contains a certificate other than {CLIENTS_OWN.fullchain}"
        == str(caught.value)
    )
    assert f'fullchain = "{CLIENTS_OWN.fullchain}"' in str(caught.value.hint)


def test_certificate_of_the_same_names_is_imported_from_the_client(source: MemorySource) -> None:
    """The deployments stay; no DNS account is needed because certferry orders from no CA."""
    other = DesiredCertificate("more", ("a.example.com", "b.example.com", "c.example.com"), "dns")

    (declared,) = meant_by(CLIENTS_OWN, (other, ISSUED), source)

    assert ("img", "", (), CLIENTS_OWN, DEPLOYED) == (
        declared.lineage,
        declared.dns,
        declared.names,
        declared.files,
        declared.deployments,
    )


def test_certificate_with_another_type_of_key_is_refused(source: MemorySource) -> None:
    """The next run would issue the declared type, and the next hook would import the client's type
    again.
    """
    desired = replace(ISSUED, key_type=KeyType.RSA2048)

    with pytest.raises(PlanRefused) as caught:
        meant_by(CLIENTS_OWN, (desired,), source)

    assert "img: the key is ec256; declared: rsa2048" == str(caught.value)
    assert "--keylength" in str(caught.value.hint)


def test_certificate_older_than_the_current_version_is_refused(source: MemorySource) -> None:
    """A second run of the same hook, without a renewal in between, changes nothing."""
    hour = timedelta(hours=1)
    older, younger, first = bundle_for(age=hour), bundle_for(age=-hour), source.read(CLIENTS_OWN)

    with pytest.raises(PlanRefused) as caught:
        meant_by(CLIENTS_OWN, (ISSUED,), source, older, younger)

    assert f"img: {CLIENTS_OWN.fullchain} contains a certificate of" in str(caught.value)
    assert f'fullchain = "{CLIENTS_OWN.fullchain}"' in str(caught.value.hint)
    for versions in ((), (older,), (older, first)):
        assert meant_by(CLIENTS_OWN, (ISSUED,), source, *versions)


def test_older_certificate_from_declared_files_is_imported(source: MemorySource) -> None:
    """The operator who declares files decides about their content, even an older certificate or
    another type of key.
    """
    desired = replace(imported(CLIENTS_OWN), key_type=KeyType.RSA2048)

    assert (desired,) == meant_by(
        CLIENTS_OWN, (desired,), source, bundle_for(age=-timedelta(hours=1))
    )


@pytest.mark.parametrize(
    "error",
    [
        PlanRefused(Text("k is not the key of f"), hint=Text("try again in a moment")),
        CertificateError(Text("f: Permission denied"), hint=Text("name another")),
    ],
)
def test_unreadable_declared_copy_is_named(
    source: MemorySource, error: PlanRefused | CertificateError
) -> None:
    """The unreadable copy, half-written or without permission, may contain the renewed certificate,
    so the message names the copy and the reason.
    """
    source.put(COPY, error)

    with pytest.raises(type(error)) as caught:
        meant_by(CLIENTS_OWN, (imported(COPY, "copy"),), source)

    assert "no declared certificate is the renewed one; perhaps copy, but " in str(caught.value)
    assert str(caught.value).endswith(str(error))
    assert error.hint == caught.value.hint
    assert (ISSUED.lineage,) == tuple(
        desired.lineage
        for desired in meant_by(CLIENTS_OWN, (imported(COPY, "copy"), ISSUED), source)
    )


@pytest.mark.parametrize("names", [("a.example.com",), ("*.example.com",)])
def test_certificate_that_is_not_declared(source: MemorySource, names: tuple[str, ...]) -> None:
    """A certificate with fewer names, or with a wildcard for the names, is another certificate."""
    source.put(CLIENTS_OWN, bundle_for(*names))
    source.put(COPY, bundle_for())

    assert () == meant_by(CLIENTS_OWN, (ISSUED, imported(COPY)), source)


@pytest.mark.parametrize(
    "error",
    [PlanRefused(Text("is not the key of")), CertificateError(Text("certferry cannot read"))],
)
def test_unreadable_files_of_the_client(
    source: MemorySource, error: PlanRefused | CertificateError
) -> None:
    """The hook ends with the reader's own error."""
    source.put(CLIENTS_OWN, error)

    with pytest.raises(type(error)) as caught:
        meant_by(CLIENTS_OWN, (ISSUED,), source)

    assert error == caught.value
