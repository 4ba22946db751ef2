"""Which declared certificates are meant by what another client has renewed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certferry.core.certificate import CertificateBundle
from certferry.core.desired import DesiredCertificate, DesiredDeployment, PemFiles
from certferry.errors import CertificateError, ConfigError, PlanRefused
from certferry.reconcile.handed_over import declared_for
from certferry.testing.certificates import make_bundle
from certferry.testing.memory_source import MemorySource
from certferry.text import Text

NOW = datetime(2026, 11, 25, tzinfo=UTC)
CLIENTS_OWN = PemFiles("/acme/img_ecc/fullchain.cer", "/acme/img_ecc/img.key")
COPY = PemFiles("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem")
DEPLOYED = (DesiredDeployment("qiniu"),)
ISSUED = DesiredCertificate("img", ("b.example.com", "a.example.com"), "dns", deployments=DEPLOYED)


def ferried(files: PemFiles, lineage: str = "img") -> DesiredCertificate:
    """Declare a certificate from files."""
    return DesiredCertificate(lineage, (), files=files, deployments=DEPLOYED)


def made(*names: str) -> CertificateBundle:
    """Make a certificate as the client has."""
    return make_bundle(*(names or ("a.example.com", "b.example.com")), not_before=NOW)


@pytest.fixture
def source() -> MemorySource:
    """The client's own files, and nothing else."""
    source = MemorySource()
    source.put(CLIENTS_OWN, made())
    return source


def test_the_same_files_are_meant_first(source: MemorySource) -> None:
    """Every certificate from these files, and no other, however they are written."""
    written = PemFiles("/acme//img_ecc/./fullchain.cer", CLIENTS_OWN.privkey)
    wishes = (ferried(written), ferried(COPY, "copy"), ISSUED, ferried(CLIENTS_OWN, "again"))
    source.put(COPY, source.read(CLIENTS_OWN))

    assert (wishes[0], wishes[3]) == declared_for(CLIENTS_OWN, wishes, source)


def test_same_files_need_not_be_readable_yet() -> None:
    """What is wrong with them is told by the run itself, with the certificate's name."""
    wish = ferried(CLIENTS_OWN)

    assert (wish,) == declared_for(CLIENTS_OWN, (wish,), MemorySource())


def test_copies_that_the_client_has_made_are_meant(source: MemorySource) -> None:
    """acme.sh names its own files, and has installed the same certificate elsewhere."""
    source.put(COPY, source.read(CLIENTS_OWN))
    broken = ferried(PemFiles("/gone", "/gone"), "gone")
    wishes = (broken, ISSUED, ferried(COPY, "copy"))

    assert (wishes[2],) == declared_for(CLIENTS_OWN, wishes, source)


def test_declared_files_with_an_older_certificate_are_no_match(source: MemorySource) -> None:
    """To sync them would say "unchanged" of a certificate that has just been renewed."""
    source.put(COPY, made())

    with pytest.raises(ConfigError) as caught:
        declared_for(CLIENTS_OWN, (ISSUED, ferried(COPY, "copy")), source)

    assert f"copy: {COPY.fullchain} holds another certificate than {CLIENTS_OWN.fullchain}" == str(
        caught.value
    )
    assert f'fullchain = "{CLIENTS_OWN.fullchain}"' in str(caught.value.hint)


def test_certificate_of_the_same_names_is_taken_from_the_client(source: MemorySource) -> None:
    """Its deployments stay; nobody is asked to issue, so no DNS account is needed."""
    other = DesiredCertificate("more", ("a.example.com", "b.example.com", "c.example.com"), "dns")

    (meant,) = declared_for(CLIENTS_OWN, (other, ISSUED), source)

    assert ("img", "", (), CLIENTS_OWN, DEPLOYED) == (
        meant.lineage,
        meant.dns,
        meant.names,
        meant.files,
        meant.deployments,
    )


@pytest.mark.parametrize("names", [("a.example.com",), ("*.example.com",)])
def test_nobody_declared_it(source: MemorySource, names: tuple[str, ...]) -> None:
    """Fewer names, or names that merely cover, are another certificate."""
    source.put(CLIENTS_OWN, made(*names))
    source.put(COPY, made())

    assert () == declared_for(CLIENTS_OWN, (ISSUED, ferried(COPY)), source)


@pytest.mark.parametrize(
    "error", [PlanRefused(Text("is not the key of")), CertificateError(Text("cannot be read"))]
)
def test_clients_files_that_cannot_be_taken(
    source: MemorySource, error: PlanRefused | CertificateError
) -> None:
    """Half-written files, or none, end it with what is wrong with them."""
    source.put(CLIENTS_OWN, error)

    with pytest.raises(type(error)) as caught:
        declared_for(CLIENTS_OWN, (ISSUED,), source)

    assert error == caught.value
