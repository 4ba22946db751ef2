"""CDN and DCDN at the stand-in of Alibaba Cloud: lists, reads, bindings, edges and switches."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_der_x509_certificate

from certferry_sandbox.aliyun.domains import STATES
from certferry_sandbox.aliyun.habits import HABITS, TOGETHER
from certferry_sandbox.aliyun.service import AliyunService
from certferry_sandbox.authority import Issued
from tests.sandbox.aliyun_calls import (
    KEY_ID,
    KEY_SECRET,
    NAMES,
    OK,
    Answer,
    Client,
    Clock,
    issue,
    refusal,
)

IMG = NAMES[0]
WILDCARD = ".example.com"
SET = "SetCdnDomainSSLCertificate"
INFO = "DescribeDomainCertificateInfo"
HTTPS = "DescribeCdnHttpsDomainList"
LIST = "DescribeUserDomains"
VIPS = "DescribeUserVipsByDomain"
DONE = 1.0  # seconds: more than a change and the slowest edge need


@pytest.fixture(params=["cdn", "dcdn"])
def product(request: pytest.FixtureRequest) -> str:
    """Run a test at both products."""
    return str(request.param)


@pytest.fixture
def issued(stand_in: AliyunService, product: str) -> Issued:
    """Add a domain without HTTPS and a certificate, number 9000001, for the domain."""
    issued = issue(*NAMES)
    stand_in.add_domain(IMG, product=product)
    stand_in.add_certificate(issued, "old")
    return issued


NUMBER = 9_000_001


def item_of(answer: Answer) -> dict[str, Any]:
    """Return the only entry of a list of certificates."""
    [item] = answer[1]["CertInfos"]["CertInfo"]
    return dict(item)


def domain_names(client: Client, product: str, **params: str) -> list[str]:
    _, body = client.product(product, LIST, **params)
    return [item["DomainName"] for item in body["Domains"]["PageData"]]


def fingerprint_at(stand_in: AliyunService, name: str, edge: int = 0) -> str | None:
    """Return the fingerprint that an edge serves, None after a refused handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = (stand_in.edges[edge].address, stand_in.edges.port)
    with socket.create_connection(place, 5) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=name) as tls:
                der = tls.getpeercert(binary_form=True)
        except ssl.SSLError:
            return None
    return load_der_x509_certificate(der or b"").fingerprint(hashes.SHA256()).hex()


# --- lists


def test_domains_by_pages(client: Client, stand_in: AliyunService, product: str) -> None:
    """Twenty a page unless asked for more; 500 are the most."""
    for number in range(21):
        stand_in.add_domain(f"d{number}.example.com", product=product)

    _, body = client.product(product, LIST)

    assert (21, 1, 20) == tuple(body[key] for key in ("TotalCount", "PageNumber", "PageSize"))
    assert 20 == len(body["Domains"]["PageData"])
    assert ["d20.example.com"] == domain_names(client, product, PageNumber="2")
    assert 21 == len(domain_names(client, product, PageSize="500"))
    assert [] == domain_names(client, product, PageNumber="9")
    for wrong in ({"PageSize": "501"}, {"PageSize": "0"}, {"PageNumber": "0"}):
        assert (400, "InvalidParameter") == refusal(client.product(product, LIST, **wrong))


def test_domains_are_of_one_product_and_account(
    client: Client, stand_in: AliyunService, clock: Clock
) -> None:
    """CDN does not list DCDN's domains, nor another account's."""
    stand_in.add_account("LTAI5tOther", "other-secret")
    stand_in.add_domain("cdn.example.com")
    stand_in.add_domain("dcdn.example.com", product="dcdn")
    stand_in.add_domain("other.example.com", account="LTAI5tOther")

    assert ["cdn.example.com"] == domain_names(client, "cdn")
    assert ["dcdn.example.com"] == domain_names(client, "dcdn")
    other = Client(stand_in, clock, "LTAI5tOther", "other-secret")
    assert ["other.example.com"] == domain_names(other, "cdn")
    assert (404, "InvalidDomain.NotFound") == refusal(other.cdn(INFO, DomainName="cdn.example.com"))


def test_search_of_domains(client: Client, stand_in: AliyunService, product: str) -> None:
    """Names are compared as a whole unless asked otherwise; a status and several names filter."""
    for name in (IMG, "www.example.com", "img.example.org", WILDCARD):
        stand_in.add_domain(name, product=product)
    stand_in.domain(WILDCARD, product=product).state = "offline"

    def found(**params: str) -> set[str]:
        return set(domain_names(client, product, **params))

    assert {IMG} == found(DomainName=IMG)
    assert set() == found(DomainName="img")
    assert {IMG, "www.example.com"} == found(DomainName=f"{IMG},www.example.com")
    assert {IMG, "img.example.org"} == found(DomainName="img", DomainSearchType="pre_match")
    assert {"img.example.org"} == found(DomainName=".org", DomainSearchType="suf_match")
    assert 3 == len(found(DomainName=".com", DomainSearchType="fuzzy_match"))
    assert {WILDCARD} == found(DomainStatus="offline")
    for wrong, code in (
        ({"DomainSearchType": "glob"}, "InvalidParameter"),
        ({"DomainStatus": "frozen"}, "InvalidDomainStatus.ValueNotSupported"),
        ({"DomainName": ",".join(f"d{n}" for n in range(51))}, "InvalidDomainName.TooMany"),
    ):
        assert (400, code) == refusal(client.product(product, LIST, **wrong))


def test_unchecked_domains(client: Client, stand_in: AliyunService, product: str) -> None:
    """By default all states are listed; a switch hides the states of CheckDomainShow."""
    for state in STATES:
        stand_in.add_domain(f"{state}.example.com".replace("_", "-"), product=product, state=state)
    assert len(STATES) == len(domain_names(client, product))

    HABITS["unchecked_hidden"](stand_in)

    assert len(STATES) - 3 == len(domain_names(client, product))
    assert len(STATES) == len(domain_names(client, product, CheckDomainShow="true"))


@pytest.mark.usefixtures("issued")
def test_account_without_https(client: Client, product: str) -> None:
    """The list of certificates is a refusal, and the read of a domain says off."""
    status = "ServerCertificateStatus" if product == "cdn" else "SSLProtocol"

    assert (400, "NoHttpsDomain") == refusal(client.product(product, HTTPS))
    assert {"DomainName": IMG, status: "off"} == item_of(
        client.product(product, INFO, DomainName=IMG)
    )


@pytest.mark.usefixtures("issued")
def test_account_without_https_by_habit(
    client: Client, stand_in: AliyunService, product: str
) -> None:
    """Both answers may be empty lists."""
    HABITS["no_https_is_empty"](stand_in)
    HABITS["absent_is_empty"](stand_in)

    _, listed = client.product(product, HTTPS)
    _, read = client.product(product, INFO, DomainName=IMG)

    assert ([], 0) == (listed["CertInfos"]["CertInfo"], listed["TotalCount"])
    assert [] == read["CertInfos"]["CertInfo"]


def test_statuses_of_certificates(
    client: Client, stand_in: AliyunService, clock: Clock, product: str
) -> None:
    """The list has a status for each domain, without a fingerprint or an id."""
    long, short = issue(IMG), issue(IMG, days=20)
    for name, certificate in ((IMG, long), ("soon", short), ("else.example.org", long)):
        number = stand_in.add_certificate(certificate, name)
        at = IMG.replace("img", "soon") if name == "soon" else name
        stand_in.add_domain(at, product=product, https=number)

    def statuses() -> dict[str, str]:
        _, body = client.product(product, HTTPS)
        return {item["DomainName"]: item["CertStatus"] for item in body["CertInfos"]["CertInfo"]}

    assert {IMG: "ok", "soon.example.com": "mismatch", "else.example.org": "mismatch"} == statuses()
    clock.advance(timedelta(days=65).total_seconds())
    assert {IMG: "expire_soon", "soon.example.com": "expired"} == {
        name: status for name, status in statuses().items() if "org" not in name
    }
    item = client.product(product, HTTPS, Keyword="img")[1]["CertInfos"]["CertInfo"][0]
    assert not {"CertId", "Fingerprint", "SerialNo"} & set(item)


# --- a binding


def test_binding_takes_time(
    client: Client, stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """A domain is `configuring` and shows the old settings; then the domain is bound."""
    assert OK == refusal(client.bind(IMG, NUMBER, product))
    [during] = client.product(product, LIST)[1]["Domains"]["PageData"]
    busy = refusal(client.bind(IMG, NUMBER, product))
    clock.advance(DONE)
    [after] = client.product(product, LIST)[1]["Domains"]["PageData"]
    read = item_of(client.product(product, INFO, DomainName=IMG))
    [listed] = client.product(product, HTTPS)[1]["CertInfos"]["CertInfo"]

    switch = "SslProtocol" if product == "cdn" else "SSLProtocol"
    assert ("configuring", "off") == (during["DomainStatus"], during[switch])
    assert (403, "ServiceBusy") == busy
    assert ("online", "on") == (after["DomainStatus"], after[switch])
    assert (str(NUMBER), "cas", "old", "success", "2026-07-29T12:00:00Z") == (
        read["CertId"],
        read["CertType"],
        read["CertName"],
        read["Status"],
        read["CertExpireTime"],
    )
    assert issued.fullchain_pem == read["ServerCertificate" if product == "cdn" else "SSLPub"]
    assert (IMG, "ok", "2026-07-29 12:00:00") == (
        listed["DomainName"],
        listed["CertStatus"],
        listed["CertExpireTime"],
    )
    assert issued.fingerprint == stand_in.bound(IMG, product=product)


ANOTHER = issue("www.example.org")
EXPIRED = issue(IMG, days=0.5)
UPLOAD = {
    "CertType": "upload",
    "CertId": None,
    "SSLPub": ANOTHER.fullchain_pem,
    "SSLPri": ANOTHER.privkey_pem,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"DomainName": None}, (400, "MissingParameter")),
        ({"DomainName": "www.example.com"}, (404, "InvalidDomain.NotFound")),
        ({"DomainName": "*.example.com"}, (404, "InvalidDomain.NotFound")),
        ({"DomainName": f"{IMG},{IMG}"}, (404, "InvalidDomain.NotFound")),
        ({"SSLProtocol": "yes"}, (400, "InvalidSSLProtocol.ValueNotSupported")),
        ({"CertType": "free"}, (400, "InvalidParameter")),
        ({"CertType": None}, (400, "SSLPub.MissingParameter")),
        ({"CertType": None, "SSLPub": "x"}, (400, "SSLPri.MissingParameter")),
        ({"CertId": None}, (400, "MissingParameter")),
        ({"CertId": "mine"}, (400, "InvalidParameter")),
        ({"CertId": "9000777"}, (400, "Certificate.NotFind")),
        ({"CertRegion": "eu-central-1"}, (400, "Abs.CertRegion.ValueNotSupported")),
        ({"CertRegion": "ap-southeast-1"}, (400, "Certificate.NotFind")),
        ({"Env": "staging"}, (400, "UnsupportedParameter")),
        (UPLOAD | {"SSLPub": "x"}, (400, "InvalidSSLPub")),
        (UPLOAD | {"SSLPri": "x"}, (400, "InvalidSSLPri")),
        (UPLOAD | {"SSLPri": issue().privkey_pem}, (400, "Certificate.MissMatch")),
        (
            UPLOAD | {"SSLPub": ANOTHER.fullchain_pem + ANOTHER.fullchain_pem},
            (400, "Certificate.FormatError"),
        ),
        (UPLOAD | {"CertName": "n" * 129}, (400, "InvalidCertName.TooLong")),
        (
            UPLOAD | {"SSLPub": EXPIRED.fullchain_pem, "SSLPri": EXPIRED.privkey_pem},
            (400, "Certificate.Expired"),
        ),
    ],
)
@pytest.mark.usefixtures("issued")
def test_wrong_binding_is_refused(
    client: Client,
    stand_in: AliyunService,
    product: str,
    changes: dict[str, str | None],
    expected: tuple[int, str],
) -> None:
    """The codes are the page's, and the domain stays as before."""
    assert expected == refusal(client.bind(IMG, NUMBER, product, **changes))
    assert "online" == stand_in.domain(IMG, product=product).state
    assert stand_in.bound(IMG, product=product) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("offline", (400, "InvalidDomain.Offline")),
        ("checking", (400, "InvalidDomain.notOnline")),
        ("check_failed", (400, "InvalidDomain.notOnline")),
        ("stopping", (400, "InvalidDomain.notOnline")),
        ("deleting", (400, "InvalidDomain.notOnline")),
        ("configuring", (403, "ServiceBusy")),
        ("configure_failed", OK),
        ("online", OK),
    ],
)
def test_state_of_the_domain(
    client: Client, stand_in: AliyunService, product: str, state: str, expected: tuple[int, str]
) -> None:
    """Only domains that are online, or whose last change failed, take a certificate."""
    stand_in.add_domain(IMG, product=product, state=state)
    number = stand_in.add_certificate(issue(IMG), "old")

    assert expected == refusal(client.bind(IMG, number, product))


def test_protected_domain(client: Client, stand_in: AliyunService, product: str) -> None:
    """The vendor has to release the domain."""
    number = stand_in.add_certificate(issue(IMG), "old")
    for name, code, status in (
        ("a.example.com", "DomainInProtectedMode", 403),
        ("b.example.com", "DomainInSafeMode", 400),
    ):
        stand_in.add_domain(name, product=product, protection=code)
        assert (status, code) == refusal(client.bind(name, number, product))


def test_another_accounts_certificate(
    client: Client, stand_in: AliyunService, product: str
) -> None:
    """A certificate of another account does not exist."""
    stand_in.add_account("LTAI5tOther", "other-secret")
    foreign = stand_in.add_certificate(issue(IMG), "theirs", account="LTAI5tOther")
    stand_in.add_domain(IMG, product=product)

    assert (400, "Certificate.NotFind") == refusal(client.bind(IMG, foreign, product))


@pytest.mark.usefixtures("issued")
def test_omitted_protocol_switches_https_off(
    client: Client, stand_in: AliyunService, clock: Clock, product: str
) -> None:
    """Without SSLProtocol the call is an outage; a switch refuses the call."""
    client.bind(IMG, NUMBER, product)
    clock.advance(DONE)
    assert OK == refusal(client.bind(IMG, NUMBER, product, SSLProtocol=None))
    clock.advance(DONE)
    assert stand_in.bound(IMG, product=product) is None
    assert fingerprint_at(stand_in, IMG) is None

    HABITS["protocol_required"](stand_in)

    refused = refusal(client.bind(IMG, NUMBER, product, SSLProtocol=None))
    assert (400, "MissingParameter") == refused


def test_uploaded_with_the_binding(
    client: Client, stand_in: AliyunService, clock: Clock, product: str
) -> None:
    """CertType upload needs no CAS and leaves nothing there; the read has no id."""
    stand_in.add_ram_user("LTAI5tRam", "ram-secret", allowed=["cdn:*", "dcdn:*"])
    user = Client(stand_in, clock, "LTAI5tRam", "ram-secret")
    issued = issue(*NAMES)
    pems = {"SSLPub": issued.fullchain_pem, "SSLPri": issued.privkey_pem}
    stand_in.add_domain(IMG, product=product)
    params = {"DomainName": IMG, "SSLProtocol": "on", "CertType": "upload", **pems}

    assert OK == refusal(user.product(product, SET, **params))
    clock.advance(DONE)

    item = item_of(user.product(product, INFO, DomainName=IMG))
    assert ("upload", "") == (item["CertType"], item["CertId"])
    assert issued.fingerprint == stand_in.bound(IMG, product=product)
    assert [] == stand_in.store.stored()
    assert (403, "Forbidden.RAM") == refusal(user.upload(issued))
    assert OK == refusal(client.cas("ListUserCertificateOrder"))


def test_names_of_uploads(client: Client, stand_in: AliyunService, product: str) -> None:
    """A name belongs to one certificate of a product; names may be required."""
    first, second = issue(IMG), issue(IMG)
    for name in ("a.example.com", "b.example.com", "c.example.com", "d.example.com"):
        stand_in.add_domain(name, product=product)

    def upload(domain: str, issued: Issued, **name: str) -> tuple[int, str]:
        pems = {"SSLPub": issued.fullchain_pem, "SSLPri": issued.privkey_pem}
        params = {"DomainName": domain, "SSLProtocol": "on", "CertType": "upload"}
        return refusal(client.product(product, SET, **params, **pems, **name))

    assert OK == upload("a.example.com", first, CertName="mine")
    assert OK == upload("b.example.com", first, CertName="mine")
    assert (400, "CertNameAlreadyExists") == upload("c.example.com", second, CertName="mine")
    assert OK == upload("c.example.com", second)
    HABITS["name_required"](stand_in)
    HABITS["equal_upload_refused"](stand_in)
    assert (404, "CertName.MissingParameter") == upload("d.example.com", second)
    assert (400, "CertificateContent.Duplicated") == upload("d.example.com", first, CertName="mine")


def test_mismatch(client: Client, stand_in: AliyunService, clock: Clock, product: str) -> None:
    """A certificate for other names is taken and listed as a mismatch; a switch refuses."""
    stand_in.add_domain(IMG, product=product)
    number = stand_in.add_certificate(ANOTHER, "another")
    assert OK == refusal(client.bind(IMG, number, product))
    clock.advance(DONE)
    _, body = client.product(product, HTTPS)
    assert ["mismatch"] == [item["CertStatus"] for item in body["CertInfos"]["CertInfo"]]

    HABITS["mismatch_refused"](stand_in)

    refused = refusal(client.bind(IMG, number, product))
    assert (400, "SetDomainCertificate.ParameterError") == refused


def test_failed_change(
    client: Client, stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """The domain keeps the old certificate and takes another change."""
    stand_in.fail_next(IMG, product=product)
    client.bind(IMG, NUMBER, product)
    clock.advance(DONE)
    assert "configure_failed" == stand_in.domain(IMG, product=product).state
    assert stand_in.bound(IMG, product=product) is None

    client.bind(IMG, NUMBER, product)
    clock.advance(DONE)

    assert issued.fingerprint == stand_in.bound(IMG, product=product)


def test_held_change(
    client: Client, stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """A held change ends after the release."""
    stand_in.hold(IMG, product=product)
    client.bind(IMG, NUMBER, product)
    clock.advance(3600)
    assert "configuring" == stand_in.domain(IMG, product=product).state

    stand_in.release(IMG, product=product)

    assert issued.fingerprint == stand_in.bound(IMG, product=product)


def test_done_at_once(
    client: Client, stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """By a switch, lists and reads show a change as done, while the edges still wait."""
    HABITS["done_at_once"](stand_in)
    HABITS["changes_overlap"](stand_in)
    client.bind(IMG, NUMBER, product)

    [listed] = client.product(product, LIST)[1]["Domains"]["PageData"]
    read = item_of(client.product(product, INFO, DomainName=IMG))

    assert ("online", "success") == (listed["DomainStatus"], read["Status"])
    assert fingerprint_at(stand_in, IMG) is None
    assert OK == refusal(client.bind(IMG, NUMBER, product))
    clock.advance(DONE)
    assert issued.fingerprint == fingerprint_at(stand_in, IMG)


def test_change_in_console(
    client: Client, stand_in: AliyunService, issued: Issued, product: str
) -> None:
    """Another tool's change is visible at once."""
    stand_in.change_in_console(IMG, NUMBER, product=product)
    assert issued.fingerprint == stand_in.bound(IMG, product=product)
    stand_in.change_in_console(IMG, None, product=product)

    assert (400, "NoHttpsDomain") == refusal(client.product(product, HTTPS))


@pytest.mark.usefixtures("issued")
def test_domain_whose_dns_points_elsewhere(
    client: Client, stand_in: AliyunService, product: str
) -> None:
    """The binding is there, and the status says that the CNAME is not."""
    stand_in.change_in_console(IMG, NUMBER, product=product)
    stand_in.products[product].off_dns.add(IMG)

    item = item_of(client.product(product, INFO, DomainName=IMG))

    assert "cname_error" == item["Status"]


@pytest.mark.parametrize(
    ("habit", "expected"), [("leaf_alone", 1), ("certificate_hidden", 0), ("ids_untold", 2)]
)
def test_reads_by_habit(
    client: Client, stand_in: AliyunService, issued: Issued, product: str, habit: str, expected: int
) -> None:
    """A read may have the chain, the leaf or no certificate, and no id."""
    stand_in.change_in_console(IMG, NUMBER, product=product)
    HABITS[habit](stand_in)

    item = item_of(client.product(product, INFO, DomainName=IMG))

    pem = item["ServerCertificate" if product == "cdn" else "SSLPub"]
    assert expected == pem.count("BEGIN CERTIFICATE")
    assert issued.fullchain_pem.startswith(pem)
    assert ("CertId" in item) == (habit != "ids_untold")


@pytest.mark.usefixtures("issued")
def test_times_of_the_list(client: Client, stand_in: AliyunService, product: str) -> None:
    """The list's times are UTC, or Beijing's by a switch."""
    stand_in.change_in_console(IMG, NUMBER, product=product)
    HABITS["list_in_beijing"](stand_in)

    item = client.product(product, HTTPS)[1]["CertInfos"]["CertInfo"][0]

    assert "2026-07-29 20:00:00" == item["CertExpireTime"]


# --- edges


def test_edges_follow_with_their_lag(
    client: Client, stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """Each edge serves the new certificate later than the change ends."""
    client.bind(IMG, NUMBER, product)
    assert [None, None, None] == [fingerprint_at(stand_in, IMG, edge) for edge in range(3)]
    clock.advance(0.4)
    first = [fingerprint_at(stand_in, IMG, edge) for edge in range(3)]
    clock.advance(DONE)
    later = {fingerprint_at(stand_in, IMG, edge) for edge in range(3)}

    assert [issued.fingerprint, None, None] == first
    assert {issued.fingerprint} == later


@pytest.mark.usefixtures("issued")
def test_addresses_of_the_edges(client: Client, stand_in: AliyunService, product: str) -> None:
    """The call names every edge, also the edge that DNS does not name; a healthy one on request."""

    def vips(**params: str) -> list[str]:
        _, body = client.product(product, VIPS, DomainName=IMG, **params)
        found: list[str] = body["Vips"]["Vip"]
        return found

    assert ["127.0.0.4", "127.0.0.5", "127.0.0.6"] == vips()
    assert ["127.0.0.4", "127.0.0.5"] == stand_in.dns_addresses
    stand_in.edges[1].down = True
    assert 3 == len(vips(Available="off"))
    assert ["127.0.0.4", "127.0.0.6"] == vips(Available="on")
    HABITS["vips_partial"](stand_in)
    assert ["127.0.0.4"] == vips()
    HABITS["vips_empty"](stand_in)
    assert [] == vips()


def test_addresses_of_an_offline_domain(
    client: Client, stand_in: AliyunService, product: str
) -> None:
    """Offline and unknown domains are not found, here with 400; Available is on or off."""
    stand_in.add_domain(IMG, product=product, state="offline")
    stand_in.add_domain("www.example.com", product=product)

    for name in (IMG, "no.example.com"):
        answer = client.product(product, VIPS, DomainName=name)
        assert (400, "InvalidDomain.NotFound") == refusal(answer)
    wrong = client.product(product, VIPS, DomainName="www.example.com", Available="yes")
    assert (400, "InvalidParameter") == refusal(wrong)
    assert (400, "MissingParameter") == refusal(client.product(product, VIPS))


def test_wildcard_domain(
    client: Client, stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """A wildcard domain serves the names below, except a name with a domain of its own."""
    stand_in.add_domain(WILDCARD, product=product)
    client.bind(WILDCARD, NUMBER, product)
    clock.advance(DONE)

    assert issued.fingerprint == fingerprint_at(stand_in, "any.example.com")
    assert fingerprint_at(stand_in, IMG) is None
    assert fingerprint_at(stand_in, "example.com") is None


def test_offline_domain_is_not_served(
    stand_in: AliyunService, clock: Clock, issued: Issued, product: str
) -> None:
    """The edges refuse the handshake of a domain that is offline."""
    stand_in.change_in_console(IMG, NUMBER, product=product)
    assert issued.fingerprint == fingerprint_at(stand_in, IMG)
    stand_in.domain(IMG, product=product).state = "offline"
    clock.advance(DONE)

    assert fingerprint_at(stand_in, IMG) is None


def test_deleted_certificate_is_still_served(
    client: Client, stand_in: AliyunService, issued: Issued, product: str
) -> None:
    """The edges have copies of their own."""
    stand_in.change_in_console(IMG, NUMBER, product=product)

    assert OK == refusal(client.cas("DeleteUserCertificate", CertId=str(NUMBER)))

    assert issued.fingerprint == fingerprint_at(stand_in, IMG)


# --- switches


def test_every_habit_can_be_switched_on(clock: Clock) -> None:
    """Each switch alone, and all of `TOGETHER`, leave the main way open."""
    issued = issue(*NAMES)
    for habits in (*([habit] for habit in HABITS.values()), TOGETHER):
        with AliyunService(clock=clock) as service:
            service.add_account(KEY_ID, KEY_SECRET)
            service.add_domain(IMG)
            for habit in habits:
                habit(service)
            client = Client(service, clock)
            _, body = client.upload(issued)
            assert OK == refusal(client.bind(IMG, body["CertId"]))
            clock.advance(DONE)
            assert issued.fingerprint == service.bound(IMG)
    assert set(TOGETHER) <= set(HABITS.values())


def test_codes_of_refusals_by_habit(client: Client, stand_in: AliyunService, clock: Clock) -> None:
    """Rights and limits have several codes."""
    stand_in.limit_rates()
    HABITS["flow_control_error"](stand_in)
    codes = [refusal(client.cas("ListUserCertificateOrder"))[1] for _ in range(11)]
    assert "FlowControlError" == codes[-1]
    clock.advance(1)
    stand_in.add_ram_user("LTAI5tRam", "ram-secret", allowed=())
    user = Client(stand_in, clock, "LTAI5tRam", "ram-secret")

    for habit, expected in (
        ("forbidden_plain", (403, "Forbidden")),
        ("forbidden_no_permission", (403, "NoPermission")),
        ("forbidden_by_cas", (400, "AccessDenied.NoAuth")),
    ):
        HABITS[habit](stand_in)
        assert expected == refusal(user.cas("ListUserCertificateOrder"))
