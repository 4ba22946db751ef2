"""Renewal information of Pebble, and possible answers of other CAs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from acme.client import _renewal_info_path_component
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.csr import certificate_id
from certferry.adapters.acme.network import RESTS
from certferry.core.certificates.certificate import CertificateBundle, RenewalInfo, plausible_window
from certferry.core.certificates.pem import certificate_pem
from certferry.errors import CaUnavailable, OrderFailed, RateLimited
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import refusal, with_fields
from tests.support.programs import with_renewal_info

pytestmark = with_renewal_info

QUESTION = "GET /draft-ietf-acme-ari-03/renewalInfo/*"  # Pebble's path
ORDERED = "POST /order-plz"
KEY = ec.generate_private_key(ec.SECP256R1())
WINDOW = {"start": "2027-01-01T00:00:00Z", "end": "2027-01-02T00:00:00Z"}


def leaf(serial: int, authority: bytes | None) -> x509.Certificate:
    """Make a certificate with a given serial number and authority key identifier."""
    name, begins = x509.Name([]), datetime(2026, 11, 26, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=90))
    )
    if authority is not None:
        identifier = x509.AuthorityKeyIdentifier(authority, None, None)
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def ordered_in_place_of(bench: Bench, replaced: CertificateBundle) -> CertificateBundle:
    """Order a certificate that replaces another certificate."""
    request = replace(bench.request(), replaced_pem=replaced.cert_pem)
    return bench.issuer().issue(request, bench.dns, bench.lease(), bench.events.append)


def issued_and_saved(bench: Bench) -> CertificateBundle:
    bundle = bench.issue()
    bench.state.save_version(bench.lease(), bundle, bench.clock.now())
    return bundle


def answering(bench: Bench, *headers: tuple[str, str], **fields: object) -> None:
    def rewrite(request: Request, response: Response) -> Response:
        if "/renewalInfo/" not in request.path:
            return response
        others = tuple(pair for pair in response.headers if pair[0] != "Retry-After")
        return replace(with_fields(response, **fields), headers=(*others, *headers))

    bench.proxy.rewrite = rewrite


def test_identifier_of_the_standards_example() -> None:
    """RFC 9773 §4.1: a serial number with its first bit set is preceded by a zero byte."""
    authority = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    example = certificate_pem(leaf(0x87654321, authority))

    assert "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" == certificate_id(example)


@given(st.integers(1, 2**159 - 1), st.binary(min_size=1, max_size=32))
def test_identifier_equals_the_librarys(serial: int, authority: bytes) -> None:
    """Certbot's library is the oracle."""
    certificate = leaf(serial, authority)

    assert _renewal_info_path_component(certificate) == certificate_id(certificate_pem(certificate))


def test_certificate_without_an_authority_needs_no_request(bench: Bench) -> None:
    """Every certificate of a public CA has the identifier."""
    pem = certificate_pem(leaf(1, None))

    assert certificate_id(pem) is None
    assert RenewalInfo() == bench.issuer().renewal_info(pem)
    assert [] == bench.proxy.journal


def test_window_from_pebble(bench: Bench) -> None:
    """The window is in the last third of the lifetime, and Pebble asks for a pause of six hours."""
    bundle = bench.issue()

    info = bench.issuer().renewal_info(bundle.cert_pem)

    certificate = bundle.certificate
    assert info.window is not None
    assert info.window == plausible_window(certificate, info.window)
    ideal = certificate.not_after - certificate.lifetime / 3
    assert info.window.start < ideal < info.window.end
    assert info.retry_after == pytest.approx(timedelta(hours=6), abs=timedelta(seconds=5))


def test_renewal_information_takes_a_single_request(bench: Bench) -> None:
    """A run reads the directory once for all certificates."""
    bundle = bench.issue()
    before, issuer = len(bench.proxy.journal), bench.issuer()

    for _ in range(3):
        issuer.renewal_info(bundle.cert_pem)

    assert before + 4 == len(bench.proxy.journal)
    assert 3 == len(bench.proxy.requests(QUESTION))


def test_directory_of_a_silent_ca_is_read_once(bench: Bench) -> None:
    """Eight lineages ask together, and the failure of the first request counts for all."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.html(502), on="GET /dir", times=None)
    before, issuer = len(bench.proxy.requests("GET /dir")), bench.issuer()

    with pytest.raises(CaUnavailable):
        bench.issuer().renewal_info(bundle.cert_pem)
    requests_of_one = len(bench.proxy.requests("GET /dir")) - before
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(issuer.renewal_info, bundle.cert_pem) for _ in range(8)]
        errors = [future.exception() for future in futures]

    assert [CaUnavailable] * 8 == [type(error) for error in errors]
    assert 2 * requests_of_one == len(bench.proxy.requests("GET /dir")) - before


def test_stored_address_is_ignored(bench: Bench) -> None:
    """Only the CA's directory gives the address; notes in the state cannot redirect a request."""
    bundle = bench.issue()
    elsewhere = f"{bench.proxy.directory_url}/elsewhere"
    bench.state.update_account_note(bench.proxy.directory_url, "renewal-info", lambda _: elsewhere)

    assert bench.issuer().renewal_info(bundle.cert_pem).window is not None
    assert [] == bench.proxy.requests("GET /dir/elsewhere*")
    assert 1 == len(bench.proxy.requests(QUESTION))


def test_directory_without_renewal_information(bench: Bench) -> None:
    """Only the directory is requested, and the order replaces no certificate."""

    def rewrite(request: Request, response: Response) -> Response:
        if request.path != "/dir":
            return response
        document = json.loads(response.body)
        del document["renewalInfo"]
        return replace(response, body=json.dumps(document).encode())

    bench.proxy.rewrite = rewrite
    bundle = issued_and_saved(bench)
    before = len(bench.proxy.journal)

    assert RenewalInfo() == bench.issuer().renewal_info(bundle.cert_pem)
    assert before + 1 == len(bench.proxy.journal)

    ordered_in_place_of(bench, bundle)
    assert "replaces" not in bench.proxy.payload(ORDERED)


def test_explanation_and_pause_are_read(bench: Bench) -> None:
    """The answer has a page for the operator and any Retry-After."""
    bundle = bench.issue()
    page = "https://ca.example/incidents/7"
    answering(bench, ("Retry-After", "90"), suggestedWindow=WINDOW, explanationURL=page)

    info = bench.issuer().renewal_info(bundle.cert_pem)

    assert info.window is not None
    assert page == info.window.page
    assert datetime(2027, 1, 2, tzinfo=UTC) == info.window.end
    assert timedelta(seconds=90) == info.retry_after


@pytest.mark.parametrize(
    "page", ["javascript:alert(1)", "https://a b", "https://a\x1b[31m", "https://" + "a" * 400, 7]
)
def test_malformed_page_is_left_out(bench: Bench, page: object) -> None:
    """The window still counts."""
    bundle = bench.issue()
    answering(bench, suggestedWindow=WINDOW, explanationURL=page)

    info = bench.issuer().renewal_info(bundle.cert_pem)

    assert info.window is not None
    assert info.window.page is None
    assert info.retry_after is None


@pytest.mark.parametrize(
    "window",
    [
        None,
        [],
        {"start": "2027-01-01T00:00:00Z"},
        {"start": "soon", "end": "later"},
        {"start": "2027-01-01T00:00:00", "end": "2027-01-02T00:00:00"},
        {"start": 1, "end": 2},
        {"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_malformed_window_is_an_error(bench: Bench, window: object) -> None:
    """RFC 9773 treats a malformed answer like a missing answer."""
    bundle = bench.issue()
    answering(bench, suggestedWindow=window)

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issuer().renewal_info(bundle.cert_pem)


def test_window_that_ends_before_its_start_is_returned(bench: Bench) -> None:
    """The window has the right form; the caller judges its content."""
    bundle = bench.issue()
    answering(bench, suggestedWindow={"start": WINDOW["end"], "end": WINDOW["start"]})

    window = bench.issuer().renewal_info(bundle.cert_pem).window

    assert window is not None
    assert plausible_window(bundle.certificate, window) is None


@pytest.mark.parametrize("kind", ["malformed", "notFound"])
def test_unknown_certificate_has_no_window(bench: Bench, kind: str) -> None:
    """Another CA issued the certificate, or the CA had no renewal information then."""
    bundle = bench.issue()
    bench.proxy.faults.add(refusal(kind, "no such certificate", 404), on=QUESTION)

    assert RenewalInfo() == bench.issuer().renewal_info(bundle.cert_pem)


def test_unavailable_ca_is_not_asked_for_further_certificates(bench: Bench) -> None:
    """Otherwise a run would wait for a timeout with each certificate."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.html(502), on=QUESTION, times=None)
    issuer = bench.issuer()
    for _ in range(2):
        with pytest.raises(CaUnavailable):
            issuer.renewal_info(bundle.cert_pem)
    requests = len(bench.proxy.requests(QUESTION))
    with pytest.raises(CaUnavailable):
        issuer.renewal_info(bundle.cert_pem)
    assert requests == len(bench.proxy.requests(QUESTION))

    bench.proxy.faults.clear()
    bench.proxy.faults.add(refusal("rateLimited", "slow down", 429), on=QUESTION)
    with pytest.raises(RateLimited):
        bench.issuer().renewal_info(bundle.cert_pem)


def test_order_names_the_replaced_certificate(bench: Bench) -> None:
    """Pebble accepts the order at the first attempt."""
    former = issued_and_saved(bench)

    new = ordered_in_place_of(bench, former)

    assert certificate_id(former.cert_pem) == bench.proxy.payload(ORDERED)["replaces"]
    assert 2 == len(bench.proxy.requests(ORDERED))
    assert new.certificate.fingerprint != former.certificate.fingerprint


@pytest.mark.parametrize(
    ("kind", "status"), [("alreadyReplaced", 409), ("malformed", 404), ("unauthorized", 403)]
)
def test_order_is_repeated_without_a_refused_replacement(
    bench: Bench, kind: str, status: int
) -> None:
    """There is a single second attempt."""
    former = issued_and_saved(bench)
    bench.proxy.faults.add(refusal(kind, "not this one", status), on=ORDERED)

    assert ordered_in_place_of(bench, former).key_matches

    orders = bench.proxy.requests(ORDERED)
    assert 3 == len(orders)
    assert "replaces" not in bench.proxy.payload(ORDERED)


def test_second_refusal_of_an_order_is_final(bench: Bench) -> None:
    """The second refusal has another cause, and a rate limit allows no second attempt."""
    former = issued_and_saved(bench)
    bench.proxy.faults.add(refusal("malformed", "bad names", 400), on=ORDERED, times=2)
    with pytest.raises(OrderFailed, match="bad names"):
        ordered_in_place_of(bench, former)
    assert 3 == len(bench.proxy.requests(ORDERED))

    bench.proxy.faults.add(refusal("rateLimited", "slow down", 429), on=ORDERED)
    with pytest.raises(RateLimited):
        ordered_in_place_of(bench, former)
    assert 4 == len(bench.proxy.requests(ORDERED))


def test_second_replacement_at_pebble(bench: Bench) -> None:
    """Pebble's own refusal leads to an order without a replacement."""
    former = issued_and_saved(bench)
    successor = ordered_in_place_of(bench, former)
    bench.state.save_version(bench.lease(), successor, bench.clock.now())

    assert ordered_in_place_of(bench, former).key_matches

    statuses = [call.status for call in bench.proxy.journal if call.request.label == ORDERED]
    assert [201, 201, 409, 201] == statuses


@pytest.mark.parametrize(("is_its_own", "refusals"), [(True, [500] * 3), (False, [400])])
def test_unknown_replacement_at_pebble(
    bench: Bench, refusals: list[int], *, is_its_own: bool
) -> None:
    """For a forgotten serial number of its own, Pebble reports an internal error. For another CA's
    certificate, Pebble reports a malformed certificate.
    """
    issued = x509.load_pem_x509_certificate(issued_and_saved(bench).cert_pem.encode())
    issuer = issued.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    authority = issuer.key_identifier if is_its_own else bytes(20)
    request = bench.request(replaced_pem=certificate_pem(leaf(0x1234567890, authority)))

    assert bench.issuer().issue(request, bench.dns, bench.lease(), bench.events.append).key_matches

    statuses = [call.status for call in bench.proxy.journal if call.request.label == ORDERED]
    assert [201, *refusals, 201] == statuses


def test_internal_error_is_not_blamed_on_the_replacement(bench: Bench) -> None:
    """Only an error that mentions the replacement leads to an order without the replacement."""
    former = issued_and_saved(bench)
    tries = len(RESTS) + 1
    bench.proxy.faults.add(refusal("serverInternal", "oops", 500), on=ORDERED, times=tries)

    with pytest.raises(CaUnavailable, match="oops"):
        ordered_in_place_of(bench, former)

    assert 1 + tries == len(bench.proxy.requests(ORDERED))
    assert "replaces" in bench.proxy.payload(ORDERED)
