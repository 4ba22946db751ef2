"""Which declared certificates are meant by what another client has renewed."""

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


def made(*names: str, age: timedelta = timedelta(0)) -> CertificateBundle:
    return make_bundle(*(names or ("a.example.com", "b.example.com")), not_before=NOW - age)


def meant_by(
    files: PemFiles,
    declared: Sequence[DesiredCertificate],
    source: MemorySource,
    *versions: CertificateBundle,
) -> tuple[DesiredCertificate, ...]:
    """Ask for those that are meant; certferry remembers these certificates of every lineage."""
    had = [Version(n, bundle.certificate, NOW) for n, bundle in enumerate(versions, start=1)]
    return declared_for(files, declared, source, lambda _: had)


@pytest.fixture
def source() -> MemorySource:
    """The client's own files, and nothing else."""
    source = MemorySource()
    source.put(CLIENTS_OWN, made())
    return source


def test_the_same_files_are_meant_first(source: MemorySource) -> None:
    """Every certificate from these files, and no other, however they are written."""
    written = PemFiles("/acme//img_ecc/./fullchain.cer", CLIENTS_OWN.privkey)
    declared = (imported(written), imported(COPY, "copy"), ISSUED, imported(CLIENTS_OWN, "again"))
    source.put(COPY, source.read(CLIENTS_OWN))

    assert (declared[0], declared[3]) == meant_by(CLIENTS_OWN, declared, source)


def test_same_files_need_not_be_readable_yet() -> None:
    """What is wrong with them is reported by the run itself, with the certificate's name."""
    desired = imported(CLIENTS_OWN)

    assert (desired,) == meant_by(CLIENTS_OWN, (desired,), MemorySource())


def test_copies_that_the_client_has_made_are_meant(source: MemorySource) -> None:
    """acme.sh names its own files, and has installed the same certificate elsewhere."""
    source.put(COPY, source.read(CLIENTS_OWN))
    broken = imported(PemFiles("/gone", "/gone"), "gone")
    declared = (broken, ISSUED, imported(COPY, "copy"))

    assert (declared[2],) == meant_by(CLIENTS_OWN, declared, source)


def test_declared_key_may_lie_elsewhere(source: MemorySource) -> None:
    """It is the certificate that is meant; its key may be a copy that only certferry can read."""
    desired = imported(replace(CLIENTS_OWN, privkey="/etc/ssl/private/key.pem"), "img")

    assert (desired,) == meant_by(CLIENTS_OWN, (ISSUED, desired), source)


def test_declared_files_with_an_older_certificate_are_no_match(source: MemorySource) -> None:
    """To sync them would say "unchanged" of a certificate that has just been renewed."""
    source.put(COPY, made())

    with pytest.raises(ConfigError) as caught:
        meant_by(CLIENTS_OWN, (ISSUED, imported(COPY, "copy")), source)

    assert (
        f"copy: {COPY.fullchain} contains a certificate other than {CLIENTS_OWN.fullchain}"
        == str(caught.value)
    )
    assert f'fullchain = "{CLIENTS_OWN.fullchain}"' in str(caught.value.hint)


def test_certificate_of_the_same_names_is_taken_from_the_client(source: MemorySource) -> None:
    """Its deployments stay; certferry asks no CA, so no DNS account is needed."""
    other = DesiredCertificate("more", ("a.example.com", "b.example.com", "c.example.com"), "dns")

    (meant,) = meant_by(CLIENTS_OWN, (other, ISSUED), source)

    assert ("img", "", (), CLIENTS_OWN, DEPLOYED) == (
        meant.lineage,
        meant.dns,
        meant.names,
        meant.files,
        meant.deployments,
    )


def test_other_kind_of_key_is_not_taken(source: MemorySource) -> None:
    """The next run would issue what is declared, and the next hook take the client's back."""
    desired = replace(ISSUED, key_type=KeyType.RSA2048)

    with pytest.raises(PlanRefused) as caught:
        meant_by(CLIENTS_OWN, (desired,), source)

    assert "img: the key is ec256; declared: rsa2048" == str(caught.value)
    assert "--keylength" in str(caught.value.hint)


def test_older_certificate_than_ours_is_not_taken_back(source: MemorySource) -> None:
    """A hook that is run again, with files that no client has renewed since, changes nothing."""
    hour = timedelta(hours=1)
    older, younger, first = made(age=hour), made(age=-hour), source.read(CLIENTS_OWN)

    with pytest.raises(PlanRefused) as caught:
        meant_by(CLIENTS_OWN, (ISSUED,), source, older, younger)

    assert f"img: {CLIENTS_OWN.fullchain} contains a certificate of" in str(caught.value)
    assert f'fullchain = "{CLIENTS_OWN.fullchain}"' in str(caught.value.hint)
    for versions in ((), (older,), (older, first)):
        assert meant_by(CLIENTS_OWN, (ISSUED,), source, *versions)


def test_declared_files_may_go_back(source: MemorySource) -> None:
    """The operator who declares files decides what is in them: an older one, or another key."""
    desired = replace(imported(CLIENTS_OWN), key_type=KeyType.RSA2048)

    assert (desired,) == meant_by(CLIENTS_OWN, (desired,), source, made(age=-timedelta(hours=1)))


@pytest.mark.parametrize(
    "error",
    [
        PlanRefused(Text("k is not the key of f"), hint=Text("try again in a moment")),
        CertificateError(Text("f: Permission denied"), hint=Text("name another")),
    ],
)
def test_declared_copy_that_cannot_be_read_is_not_reported_as_undeclared(
    source: MemorySource, error: PlanRefused | CertificateError
) -> None:
    """It may well be the one: half-written, or open to others only."""
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
def test_it_is_not_declared(source: MemorySource, names: tuple[str, ...]) -> None:
    """Fewer names, or names that merely cover, are another certificate."""
    source.put(CLIENTS_OWN, made(*names))
    source.put(COPY, made())

    assert () == meant_by(CLIENTS_OWN, (ISSUED, imported(COPY)), source)


@pytest.mark.parametrize(
    "error",
    [PlanRefused(Text("is not the key of")), CertificateError(Text("certferry cannot read"))],
)
def test_clients_files_that_cannot_be_taken(
    source: MemorySource, error: PlanRefused | CertificateError
) -> None:
    """Half-written files, or none, end it with what is wrong with them."""
    source.put(CLIENTS_OWN, error)

    with pytest.raises(type(error)) as caught:
        meant_by(CLIENTS_OWN, (ISSUED,), source)

    assert error == caught.value
