"""How Alibaba Cloud DNS answers: objects with a RequestId, refusals with a code and its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certferry_sandbox.httpd import Response

REQUEST_ID = "536E9CAD-DB30-4647-AC87-AA5CC38C5382"  # the documents' own

Body = Mapping[str, Any]


class Refused(Exception):
    """The call ends with this code and nothing else."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(code, words)
        self.code = code
        self.words = words
        self.status = status


def respond(body: Body) -> Response:
    """Give a success."""
    return Response.json({"RequestId": REQUEST_ID, **body})


def refuse(code: str, words: str, status: int = 400) -> Response:
    """Give a refusal."""
    return Response.json(
        {
            "RequestId": REQUEST_ID,
            "HostId": "alidns.aliyuncs.com",
            "Code": code,
            "Message": words,
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={code}&product=Alidns",
        },
        status,
    )


XML = Response(
    200, f"<Response><RequestId>{REQUEST_ID}</RequestId></Response>".encode(), "text/xml"
)
"""What comes to a caller that does not ask for JSON."""
