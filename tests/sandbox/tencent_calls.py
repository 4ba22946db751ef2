"""Calls to the stand-in of Tencent Cloud, signed by the vendor's SDK."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from certferry_sandbox.tencentcloud.service import VERSIONS, TencentCloudService

SECRET_ID = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3Qw7Rt2u"
SECRET_KEY = "Gu5t9xGARNpq86cd98joQYCN3Qw7Rt2u"


@dataclass(frozen=True)
class Client:
    """A client with a key."""

    service: TencentCloudService
    secret_id: str = SECRET_ID
    secret_key: str = field(default=SECRET_KEY, repr=False)

    def call(self, product: str, action: str, **params: Any) -> dict[str, Any]:
        """Make a call and return the body. Raises `TencentCloudSDKException` for an error."""
        http = HttpProfile(protocol="http", endpoint=self.service.url.partition("://")[2])
        client = CommonClient(
            product,
            VERSIONS[product],
            Credential(self.secret_id, self.secret_key),
            "",
            ClientProfile(httpProfile=http),
        )
        body = json.dumps(client.call_json(action, params))
        response: dict[str, Any] = json.loads(body)["Response"]
        return response

    def code(self, product: str, action: str, **params: Any) -> str:
        """Make a call and return the code of the error; empty for a success."""
        try:
            self.call(product, action, **params)
        except TencentCloudSDKException as refused:
            return str(refused.get_code())
        return ""
