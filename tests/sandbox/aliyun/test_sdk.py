"""The stand-in of Alibaba Cloud, called by the vendor's own SDKs.

The SDKs are imported inside the tests: only the thorough tier has the time for their packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from certferry_sandbox.aliyun.gateway import Endpoint
from certferry_sandbox.aliyun.service import AliyunService
from certferry_sandbox.httpd import utc_now
from tests.sandbox.aliyun_calls import KEY_ID, KEY_SECRET, NAMES, issue
from tests.support.tiers import thorough

IMG = NAMES[0]


@pytest.fixture
def real_time() -> Iterator[AliyunService]:
    """Run a stand-in with the real time, which the SDKs sign."""
    with AliyunService() as running:
        running.add_account(KEY_ID, KEY_SECRET)
        yield running


@pytest.fixture
def sdk(real_time: AliyunService) -> Any:
    """Return clients and models of the vendor's SDKs for CDN, DCDN and CAS."""
    from alibabacloud_cas20200407 import client as cas_client
    from alibabacloud_cas20200407 import models as cas_models
    from alibabacloud_cdn20180510 import client as cdn_client
    from alibabacloud_cdn20180510 import models as cdn_models
    from alibabacloud_dcdn20180115 import client as dcdn_client
    from alibabacloud_dcdn20180115 import models as dcdn_models
    from alibabacloud_tea_openapi.models import Config

    def config(endpoint: Endpoint, secret: str = KEY_SECRET) -> Any:
        return Config(
            access_key_id=KEY_ID,
            access_key_secret=secret,
            endpoint=endpoint.url.removeprefix("http://"),
            protocol="http",
            signature_algorithm="v2",
        )

    return SimpleNamespace(
        cdn=cdn_client.Client(config(real_time.cdn)),
        dcdn=dcdn_client.Client(config(real_time.dcdn)),
        cas=cas_client.Client(config(real_time.cas)),
        denied=cas_client.Client(config(real_time.cas, "other")),
        cdn_models=cdn_models,
        dcdn_models=dcdn_models,
        cas_models=cas_models,
    )


@thorough
def test_certificate_by_the_sdks(real_time: AliyunService, sdk: Any) -> None:
    """Uploaded, found, bound at both products, read back and deleted; each answer fits the SDK."""
    now = utc_now()
    issued = issue(*NAMES, start=now)
    for product in real_time.products:
        real_time.add_domain(IMG, product=product)
        real_time.products[product].domains.processing_time *= 0

    upload = sdk.cas_models.UploadUserCertificateRequest(
        name="mine", cert=issued.fullchain_pem, key=issued.privkey_pem
    )
    number = sdk.cas.upload_user_certificate(upload).body.cert_id
    listing = sdk.cas_models.ListUserCertificateOrderRequest(order_type="UPLOAD")
    [listed] = sdk.cas.list_user_certificate_order(listing).body.certificate_order_list
    assert (number, "mine", issued.fingerprint) == (
        listed.certificate_id,
        listed.name,
        listed.sha_2.lower(),
    )
    detail = sdk.cas_models.GetUserCertificateDetailRequest(cert_id=number)
    assert issued.fullchain_pem == sdk.cas.get_user_certificate_detail(detail).body.cert

    for name, models, twin in (("cdn", sdk.cdn_models, ""), ("dcdn", sdk.dcdn_models, "Dcdn")):
        client = getattr(sdk, name)
        prefix = "dcdn_" if twin else ""
        set_request = getattr(models, f"Set{twin or 'Cdn'}DomainSSLCertificateRequest")
        binding = set_request(domain_name=IMG, sslprotocol="on", cert_type="cas", cert_id=number)
        getattr(client, f"set_{name}_domain_sslcertificate")(binding)
        domains = getattr(models, f"Describe{twin}UserDomainsRequest")(page_size=500)
        [domain] = getattr(client, f"describe_{prefix}user_domains")(domains).body.domains.page_data
        info = getattr(models, f"Describe{twin}DomainCertificateInfoRequest")(domain_name=IMG)
        [read] = getattr(client, f"describe_{prefix}domain_certificate_info")(
            info
        ).body.cert_infos.cert_info
        https = getattr(models, f"Describe{twin or 'Cdn'}HttpsDomainListRequest")(page_size=500)
        [entry] = getattr(client, f"describe_{name}_https_domain_list")(
            https
        ).body.cert_infos.cert_info
        vips = getattr(models, f"Describe{twin}UserVipsByDomainRequest")(domain_name=IMG)
        addresses = getattr(client, f"describe_{prefix}user_vips_by_domain")(vips).body.vips.vip

        assert (IMG, "online") == (domain.domain_name, domain.domain_status)
        assert (str(number), "cas", "success") == (read.cert_id, read.cert_type, read.status)
        assert (IMG, "ok", "mine") == (entry.domain_name, entry.cert_status, entry.cert_name)
        assert real_time.edges.addresses == addresses
        assert issued.fingerprint == real_time.bound(IMG, product=name)

    sdk.cas.delete_user_certificate(sdk.cas_models.DeleteUserCertificateRequest(cert_id=number))
    assert [] == real_time.store.stored()


@thorough
def test_refusals_by_the_sdks(real_time: AliyunService, sdk: Any) -> None:
    """The SDK reads code, message and status of a refusal."""
    from alibabacloud_tea_openapi.exceptions import ClientException

    listing = sdk.cas_models.ListUserCertificateOrderRequest()
    with pytest.raises(ClientException) as of_the_key:
        sdk.denied.list_user_certificate_order(listing)
    with pytest.raises(ClientException) as of_the_list:
        sdk.cdn.describe_cdn_https_domain_list(sdk.cdn_models.DescribeCdnHttpsDomainListRequest())

    assert ("SignatureDoesNotMatch", 400) == (of_the_key.value.code, of_the_key.value.status_code)
    assert ("NoHttpsDomain", 400) == (of_the_list.value.code, of_the_list.value.status_code)
    assert 2 == len(real_time.calls())
