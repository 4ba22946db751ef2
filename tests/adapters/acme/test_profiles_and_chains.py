"""What of an order the operator chooses: its profile, its chain, its key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from certferry.adapters.acme.csr import new_key
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.pem import common_name
from certferry.core.secret import Secret
from certferry.errors import OrderFailed
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import with_fields


def listing(bench: Bench, *profiles: str) -> None:
    """Let the directory list profiles, as Let's Encrypt's does; this Pebble knows of none."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        meta = json.loads(response.body)["meta"]
        return with_fields(response, meta={**meta, "profiles": dict.fromkeys(profiles, "-")})

    bench.proxy.rewrite = rewrite


def ordered_profile(bench: Bench) -> object:
    """The profile that stood in the last order."""
    return bench.proxy.payload("POST /order-plz").get("profile")


@pytest.mark.parametrize(
    ("wished", "asked"),
    [
        ((), None),
        (("tlsserver",), "tlsserver"),
        (("shortlived", "tlsserver", "classic"), "tlsserver"),
        (("classic", "tlsserver"), "classic"),
    ],
    ids=["none", "one", "a list", "in another order"],
)
def test_first_profile_that_the_directory_lists(
    bench: Bench, wished: tuple[str, ...], asked: str | None
) -> None:
    """It goes out with the order; without a wish the CA chooses."""
    listing(bench, "classic", "tlsserver")

    assert bench.issue(profiles=wished).key_matches
    assert asked == ordered_profile(bench)


@pytest.mark.parametrize(
    ("listed", "problem", "hint"),
    [
        (("classic", "tlsserver"), "the CA has no profile tlsserve, old", "classic, tlsserver"),
        ((), "the CA lists no profiles; asked for: tlsserve, old", "take `profile` out"),
    ],
    ids=["others", "none"],
)
def test_profile_that_the_directory_does_not_list(
    bench: Bench, listed: tuple[str, ...], problem: str, hint: str
) -> None:
    """It is told with those that there are, and nothing is ordered."""
    listing(bench, *listed)

    with pytest.raises(OrderFailed) as failure:
        bench.issue(profiles=("tlsserve", "old"))

    assert problem == str(failure.value)
    assert hint in str(failure.value.hint)
    assert [] == bench.proxy.requests("POST /order-plz")


def test_other_ca_chooses_itself_where_it_has_no_such_profile(bench: Bench) -> None:
    """A profile is the usual CA's; near the deadline another one is not refused for it."""
    listing(bench, "default")

    assert bench.issue(
        issuer=bench.issuer(must_have_profile=False), profiles=("classic",)
    ).key_matches
    assert ordered_profile(bench) is None


# chains


@pytest.fixture(scope="module")
def rooted_pebble(dns_service: DnsService) -> Iterator[Pebble]:
    """A CA with two chains beside the usual one."""
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0, alternate_roots=2) as pebble:
        yield pebble


@pytest.fixture
def rooted(rooted_pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Bench]:
    """A bench at that CA."""
    bench = Bench(rooted_pebble, zones, tmp_path)
    with bench.proxy:
        yield bench


def root_of(pebble: Pebble, number: int) -> str:
    """The common name of one of the CA's roots."""
    return common_name(x509.load_pem_x509_certificate(pebble.root_pem(number)).subject)


def led_to(bundle: CertificateBundle) -> str:
    """Who issued the topmost certificate."""
    [*_, topmost] = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    return common_name(topmost.issuer)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_chain_to_the_preferred_root(rooted: Bench, rooted_pebble: Pebble, number: int) -> None:
    """Whichever of the CA's chains leads there; the others are downloaded as far as it takes."""
    root = root_of(rooted_pebble, number)

    bundle = rooted.issue(issuer=rooted.issuer(preferred_chain=root))

    assert root == led_to(bundle)
    assert bundle.chain_complete
    assert number == len(rooted.proxy.requests("POST /certZ/*")) - 1


def test_preferred_root_that_the_ca_does_not_offer(
    rooted: Bench, rooted_pebble: Pebble, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual chain is taken, and the roots that there are are told."""
    bundle = rooted.issue(issuer=rooted.issuer(preferred_chain="ISRG Root X1"))

    roots = ", ".join(root_of(rooted_pebble, number) for number in range(3))
    assert root_of(rooted_pebble, 0) == led_to(bundle)
    assert (
        "the CA offers no chain to ISRG Root X1 (`preferred_chain`), only to"
        f" {roots}" in caplog.text
    )


def test_only_the_usual_chain_is_downloaded_without_a_wish(rooted: Bench) -> None:
    """No request is made that nothing asks for."""
    rooted.issue()

    assert 1 == len(rooted.proxy.requests("POST /certZ/*"))


def test_other_chain_that_cannot_be_read(rooted: Bench, rooted_pebble: Pebble) -> None:
    """It leads nowhere; the next one is looked at."""
    nonsense = Fault.status(
        200, b"nonsense", "application/pem-certificate-chain", [("Replay-Nonce", "QUJD")]
    )
    rooted.proxy.faults.add(nonsense, on="POST /certZ/*/alternate/1")
    root = root_of(rooted_pebble, 2)

    assert root == led_to(rooted.issue(issuer=rooted.issuer(preferred_chain=root)))


# the key


@pytest.mark.parametrize("key", [new_key(KeyType.EC384), Secret("nonsense")])
def test_key_that_does_not_fit_is_not_used_again(bench: Bench, key: Secret) -> None:
    """One of another type, or that cannot be read: a new one is made."""
    bundle = bench.issue(reused_key=key)

    assert key != bundle.privkey_pem
    assert KeyType.EC256 == bundle.certificate.key_type
