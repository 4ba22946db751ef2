"""The CDN, EdgeOne and the store of Tencent Cloud's stand-in, called by the vendor's SDK."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry_sandbox.authority import Authority, Issued, KeyType
from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.zones import Zones
from tests.sandbox.tencent_calls import SECRET_ID, SECRET_KEY, Client

WWW = "www.example.com"
AUTHORITY = Authority("Trusted")


@pytest.fixture
def stand_in() -> Iterator[TencentCloudService]:
    """Run the service with one account, whose changes end at once."""
    with TencentCloudService(Zones(), processing_time=timedelta(0)) as service:
        service.add_key(SECRET_ID, SECRET_KEY)
        yield service


@pytest.fixture
def client(stand_in: TencentCloudService) -> Client:
    return Client(stand_in)


def issue(*names: str, key_type: KeyType = "ec256", days: float = 90) -> Issued:
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return AUTHORITY.issue(names or (WWW,), now - timedelta(days=1), end, key_type)


def pair(issued: Issued) -> dict[str, str]:
    return {
        "CertificatePublicKey": issued.fullchain_pem,
        "CertificatePrivateKey": issued.privkey_pem,
    }


def update(value: object) -> str:
    return json.dumps({"update": value})


# --- Keys and rights


def test_signature_of_a_wrong_key(stand_in: TencentCloudService) -> None:
    """A wrong secret and an unknown id have codes of their own."""
    wrong, unknown = Client(stand_in, secret_key="x" * 32), Client(stand_in, secret_id="AKIDx")

    assert "AuthFailure.SignatureFailure" == wrong.code("cdn", "DescribeDomainsConfig")
    assert "AuthFailure.SecretIdNotFound" == unknown.code("cdn", "DescribeDomainsConfig")


def test_signature_is_for_one_service(client: Client) -> None:
    """An action of another service is unknown."""
    assert "InvalidAction" == client.code("ssl", "DescribeDomainsConfig")
    assert "InvalidAction" == client.code("dnspod", "DescribeZones")


@pytest.mark.parametrize(
    ("product", "action", "code"),
    [
        ("cdn", "DescribeDomainsConfig", "UnauthorizedOperation.CdnCamUnauthorized"),
        ("ssl", "DescribeCertificates", "UnauthorizedOperation"),
        ("teo", "DescribeZones", "UnauthorizedOperation.CamUnauthorized"),
    ],
)
def test_key_with_dns_alone(
    stand_in: TencentCloudService, product: str, action: str, code: str
) -> None:
    """Policies allow a key some services; each service has a refusal of its own."""
    stand_in.add_key("AKIDdns", "secret", services=frozenset({"dnspod"}))

    assert code == Client(stand_in, "AKIDdns", "secret").code(product, action)


# --- The store


def test_pair_is_stored_once_on_request(stand_in: TencentCloudService, client: Client) -> None:
    """`Repeatable` is true by default; false returns the earlier id, and the alias stays."""
    issued = issue()
    first = client.call("ssl", "UploadCertificate", **pair(issued), Alias="first")
    second = client.call("ssl", "UploadCertificate", **pair(issued), Alias="second")
    again = client.call("ssl", "UploadCertificate", **pair(issued), Repeatable=False, Alias="third")

    assert first["CertificateId"] != second["CertificateId"]
    assert first["CertificateId"] == again["CertificateId"] == again["RepeatCertId"]
    assert ["first", "second"] == [stored.alias for stored in stand_in.certificates.stored()]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"CertificatePublicKey": "no PEM"}, "FailedOperation.CertificateParseError"),
        ({"CertificatePrivateKey": issue().privkey_pem}, "FailedOperation.CertificateMismatch"),
        ({**pair(issue(days=-0.5))}, "FailedOperation.CertificateInvalid"),
        ({"Name": "x"}, "UnknownParameter"),
        ({"Repeatable": "false"}, "InvalidParameter"),
    ],
)
def test_upload_that_is_refused(
    stand_in: TencentCloudService, client: Client, changed: dict[str, Any], code: str
) -> None:
    """A refused pair is not stored."""
    assert code == client.code("ssl", "UploadCertificate", **{**pair(issue()), **changed})
    assert [] == stand_in.certificates.stored()


def test_full_account(stand_in: TencentCloudService, client: Client) -> None:
    """The quota counts every upload."""
    stand_in.certificates.quota = 1
    stand_in.add_certificate(issue(), "one")

    code = client.code("ssl", "UploadCertificate", **pair(issue()))

    assert "InvalidParameter.CertificatesNumberExceeded" == code


def test_list_of_certificates(stand_in: TencentCloudService, client: Client) -> None:
    """Pages are newest first; moments are those of Beijing; the usual page has ten."""
    for number in range(12):
        stand_in.add_certificate(issue(f"n{number}.example.com"), str(number))

    usual = client.call("ssl", "DescribeCertificates")
    rest = client.call("ssl", "DescribeCertificates", Offset=10, Limit=5000)["Certificates"]

    assert (10, 12) == (len(usual["Certificates"]), usual["TotalCount"])
    assert ["1", "0"] == [listed["Alias"] for listed in rest]
    stored = stand_in.certificates.stored()[0]
    beijing = stored.leaf.not_valid_after_utc + timedelta(hours=8)
    assert f"{beijing:%Y-%m-%d %H:%M:%S}" == rest[1]["CertEndTime"]


def test_removal_looks_for_users_on_request(stand_in: TencentCloudService, client: Client) -> None:
    """A checked removal is a task: in progress, then refused or done. An unchecked removal takes
    even a certificate in use.
    """
    cert_id = stand_in.add_certificate(issue(), "one")
    stand_in.add_cdn_domain(WWW, certificate=cert_id)

    def ended() -> int:
        task = client.call("ssl", "DeleteCertificate", CertificateId=cert_id, IsCheckResource=True)
        statuses = [
            client.call("ssl", "DescribeDeleteCertificatesTaskResult", TaskIds=[task["TaskId"]])
            for _ in range(2)
        ]
        assert 0 == statuses[0]["DeleteTaskResult"][0]["Status"]
        return int(statuses[1]["DeleteTaskResult"][0]["Status"])

    assert 4 == ended()
    stand_in.certificates.role_is_granted = False
    assert 3 == ended()
    assert client.call("ssl", "DeleteCertificate", CertificateId=cert_id)["DeleteResult"]
    assert [] == stand_in.certificates.stored()
    code = client.code("ssl", "DeleteCertificate", CertificateId=cert_id)
    assert "FailedOperation.CertificateNotFound" == code


# --- The CDN


def config(client: Client, name: str = WWW) -> dict[str, Any]:
    filters = [{"Name": "domain", "Value": [name]}]
    [found] = client.call("cdn", "DescribeDomainsConfig", Filters=filters)["Domains"]
    return dict(found)


def test_one_leaf_is_set(stand_in: TencentCloudService, client: Client) -> None:
    """Everything but the leaf stays."""
    old, new = (stand_in.add_certificate(issue(), name) for name in ("old", "new"))
    hsts = {"Switch": "on", "MaxAge": 600}
    stand_in.add_cdn_domain(WWW, certificate=old, redirects=True, https={"Hsts": hsts})
    before = config(client)

    leaf = {"Route": "Https.CertInfo.CertId", "Value": update(new)}
    client.call("cdn", "ModifyDomainConfig", Domain=WWW, **leaf)

    after = config(client)
    assert (new, new) == (after["Https"]["CertInfo"]["CertId"], stand_in.domain(WWW).bound)
    del before["Https"]["CertInfo"], after["Https"]["CertInfo"]
    del before["UpdateTime"], after["UpdateTime"]
    assert before == after


def test_omitted_properties_get_their_default(
    stand_in: TencentCloudService, client: Client
) -> None:
    """An omitted property of a given object falls back; an omitted object stays."""
    cert_id = stand_in.add_certificate(issue(), "one")
    more = {"Http2": "on", "TlsVersion": ["TLSv1.3"]}
    stand_in.add_cdn_domain(WWW, certificate=cert_id, redirects=True, https=more)

    https = {"Switch": "on", "CertInfo": {"CertId": cert_id}}
    client.call("cdn", "UpdateDomainConfig", Domain=WWW, Https=https)

    found = stand_in.domain(WWW)
    assert ("off", 3) == (found.https["Http2"], len(found.https["TlsVersion"]))
    assert "on" == found.redirect["Switch"]


LEAF = {"Domain": WWW, "Route": "Https.CertInfo.CertId", "Value": update("gone")}


@pytest.mark.parametrize(
    ("action", "params", "code"),
    [
        ("DescribeDomainsConfig", {"Limit": 101}, "InvalidParameter.CdnParamError"),
        (
            "DescribeDomainsConfig",
            {"Filters": [{"Name": "domain", "Value": list("abcdef")}]},
            "InvalidParameter.CdnParamError",
        ),
        ("DescribeDomainsConfig", {"Size": 1}, "UnknownParameter"),
        ("ModifyDomainConfig", LEAF, "InvalidParameter.CdnCertInfoNotFound"),
        ("ModifyDomainConfig", {"Domain": WWW}, "MissingParameter"),
        (
            "ModifyDomainConfig",
            {**LEAF, "Domain": "no.example.com"},
            "ResourceNotFound.CdnHostNotExists",
        ),
        ("ModifyDomainConfig", {**LEAF, "Value": "x"}, "InvalidParameter.CdnParamError"),
        ("ModifyDomainConfig", {**LEAF, "Route": "Https"}, "InvalidParameter.CdnParamError"),
        ("ModifyDomainConfig", {**LEAF, "Route": "Https.Name"}, "InvalidParameter.CdnParamError"),
        (
            "UpdateDomainConfig",
            {"Domain": WWW, "Https": {"Switch": "on"}},
            "InvalidParameter.CdnCertNoCertInfo",
        ),
        (
            "UpdateDomainConfig",
            {"Domain": WWW, "Https": {"SslStatus": "deployed"}},
            "InvalidParameter.CdnParamError",
        ),
        (
            "UpdateDomainConfig",
            {"Domain": WWW, "Https": {"TlsVersion": ["TLSv1", "TLSv1.3"]}},
            "InvalidParameter.CdnParamError",
        ),
    ],
)
def test_call_to_the_cdn_that_is_refused(
    stand_in: TencentCloudService, client: Client, action: str, params: dict[str, Any], code: str
) -> None:
    """A refused call changes nothing."""
    stand_in.add_cdn_domain(WWW)

    assert code == client.code("cdn", action, **params)
    assert "off" == stand_in.domain(WWW).https["Switch"]


@pytest.mark.parametrize(
    ("domain", "code"),
    [
        ({"held": True}, "ResourceInUse.CdnOpInProgress"),
        ({"status": "offline"}, "InvalidParameter.CdnHostInvalidStatus"),
        ({"readonly": "global"}, "ResourceUnavailable.CdnHostIsLocked"),
        ({"disable": "overdue"}, "ResourceUnavailable.CdnHostIsLocked"),
    ],
)
def test_domain_that_cannot_be_changed(
    stand_in: TencentCloudService, client: Client, domain: dict[str, Any], code: str
) -> None:
    """The state of the domain is listed, and a change is refused."""
    old, new = (stand_in.add_certificate(issue(), name) for name in ("old", "new"))
    stand_in.add_cdn_domain(WWW, certificate=old, **domain)
    if domain.get("held"):
        client.call("cdn", "ModifyDomainConfig", **{**LEAF, "Value": update(new)})
        assert "deploying" == config(client)["Https"]["SslStatus"]

    assert code == client.code("cdn", "ModifyDomainConfig", **{**LEAF, "Value": update(old)})


# --- EdgeOne


def test_certificates_of_a_host_are_replaced(stand_in: TencentCloudService, client: Client) -> None:
    """One certificate of each kind of key; the list of the call is the whole list."""
    zone = stand_in.add_zone("example.com")
    ecc, rsa, new = (
        stand_in.add_certificate(issue(key_type=kind), "x")
        for kind in ("ec256", "rsa2048", "ec256")
    )
    stand_in.add_host(WWW, zone, ecc, rsa)

    def bind(*cert_ids: str, **more: Any) -> str:
        entries = [{"CertId": cert_id} for cert_id in cert_ids]
        params = {"ZoneId": zone.id, "Hosts": [WWW], "Mode": "sslcert", "ServerCertInfo": entries}
        return client.code("teo", "ModifyHostsCertificate", **{**params, **more})

    assert "InvalidParameter.InvalidCertInfo" == bind(ecc, new)
    assert "" == bind(new, rsa)
    assert [new, rsa] == [one.id for one in stand_in.host(WWW).certificates]
    assert "" == bind(new)
    assert [new] == [one.id for one in stand_in.host(WWW).certificates]
    assert "InvalidParameterValue" == bind(new, Hosts=[])
    assert "InvalidParameterValue" == bind(new, Hosts=["*.example.com"])
    assert "InvalidParameter.HostNotFound" == bind(new, Hosts=["a.example.com"])
    assert "ResourceUnavailable.CertNotFound" == bind("gone")
    assert "ResourceUnavailable.ZoneNotFound" == bind(new, ZoneId="zone-x")
    assert "UnknownParameter" == bind(new, Host=WWW)
    other = stand_in.add_certificate(issue("other.example.org"), "other")
    assert "InvalidParameter.CertNotMatchDomain" == bind(other)
    stand_in.host(WWW).held = True
    assert "" == bind(ecc)
    assert "OperationDenied.DomainStatusUnstable" == bind(new)


def test_zones_and_hosts_in_pages(stand_in: TencentCloudService, client: Client) -> None:
    """A page has 20 entries by default; the most are 100 zones and 200 hosts."""
    zone, _ = stand_in.add_zone("example.com"), stand_in.add_zone("example.org")
    for number in range(21):
        stand_in.add_host(f"n{number}.example.com", zone)

    assert 2 == client.call("teo", "DescribeZones")["TotalCount"]
    hosts = client.call("teo", "DescribeAccelerationDomains", ZoneId=zone.id)
    assert (21, 20) == (hosts["TotalCount"], len(hosts["AccelerationDomains"]))
    assert "InvalidParameter" == client.code("teo", "DescribeZones", Limit=101)
    assert "InvalidParameter" == client.code(
        "teo", "DescribeAccelerationDomains", ZoneId=zone.id, Limit=201
    )


def test_edges_serve_what_is_in_force(stand_in: TencentCloudService) -> None:
    """The edges of both places present the bound certificates by name."""
    first, second = issue("a.example.com"), issue("b.example.com")
    stand_in.add_cdn_domain("a.example.com", certificate=stand_in.add_certificate(first, "a"))
    zone = stand_in.add_zone("example.com")
    stand_in.add_host("b.example.com", zone, stand_in.add_certificate(second, "b"))

    with stand_in.edges as edges:
        assert {first.fingerprint} == presented(edges.addresses, edges.port, "a.example.com")
        assert {second.fingerprint} == presented(edges.addresses, edges.port, "b.example.com")


def presented(addresses: list[str], port: int, name: str) -> set[str]:
    context = ssl.create_default_context(cadata=AUTHORITY.root_pem)
    found = set()
    for address in addresses:
        with (
            socket.create_connection((address, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            leaf = tls.getpeercert(binary_form=True)
            assert leaf is not None
            found.add(hashlib.sha256(leaf).hexdigest())
    return found
