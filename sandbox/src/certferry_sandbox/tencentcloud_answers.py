"""How Tencent Cloud's API 3.0 answers: always with status 200, errors in the body, and the
parameters of a call (docs/facts/dnspod.md §2.1, §2.3).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from certferry_sandbox.httpd import Request, Response

Body = Mapping[str, Any]


class Refused(Exception):
    """The call ends with this error and nothing else."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def answer(body: Body) -> Response:
    """Give what a call asked for."""
    return Response.json({"Response": {**body, "RequestId": str(uuid.uuid4())}})


def refusal(refused: Refused) -> Response:
    """Give an error."""
    return answer({"Error": {"Code": refused.code, "Message": refused.message}})


class Params:
    """The fields of one call, each taken once and with its type."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.given = dict(fields)
        self._fields = dict(fields)

    @classmethod
    def of(cls, request: Request) -> Params:
        """Read the body, which must be declared as what it is. Raises `Refused`."""
        declared = request.headers.get("Content-Type", "").partition(";")[0].strip()
        if declared != "application/json":
            raise Refused("UnsupportedProtocol", "The Content-Type is not supported.")
        try:
            fields = json.loads(request.body)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise Refused("InvalidParameter", "The body is no JSON object.")
        return cls(fields)

    def text(self, name: str, default: str | None = None) -> str:
        """Take a string; without a default it is mandatory. Raises `Refused`."""
        value = self._take(name, default)
        if not isinstance(value, str):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """Take a whole number; without a default it is mandatory. Raises `Refused`."""
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused("InvalidParameter", f"The type of parameter `{name}` is wrong.")
        return value

    def done(self) -> None:
        """See that there is no other parameter. Raises `Refused`."""
        for name in self._fields:
            raise Refused("UnknownParameter", f"The parameter `{name}` is not recognized.")

    def _take(self, name: str, default: str | int | None) -> object:
        if name not in self._fields and default is None:
            raise Refused("MissingParameter", f"The request is missing the parameter `{name}`.")
        return self._fields.pop(name, default)
