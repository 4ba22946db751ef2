"""Alibaba Cloud DNS on the wire: answers, refusals, the RPC signature, and a call's parameters.

An answer has a RequestId; a refusal has a code and a message as well. The signature is computed
from the raw form, after the vendor's page ("RPC mechanism") and without certferry's own signing
code, so that each checks the other. Every byte outside the table `STAYS` is percent-encoded.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from certferry_sandbox.httpd import Response

REQUEST_ID = "536E9CAD-DB30-4647-AC87-AA5CC38C5382"  # from the vendor's examples

Body = Mapping[str, Any]


class Refused(Exception):
    """The refusal of a call: an error code, a message and an HTTP status."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(code, words)
        self.code = code
        self.words = words
        self.status = status


def respond(body: Body) -> Response:
    """Return the answer to a call that succeeded."""
    return Response.json({"RequestId": REQUEST_ID, **body})


def refuse(code: str, words: str, status: int = 400) -> Response:
    """Return the answer to a refused call."""
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
"""The answer to a caller that does not ask for JSON."""


STAYS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
SKEW = timedelta(minutes=15)  # InvalidTimeStamp.Expired (the gateway's common error codes)
COMMON = (
    *("Action", "Version", "AccessKeyId", "Signature"),
    *("SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp"),
)


@dataclass
class Account:
    """An account with one AccessKey.

    The account's policy allows the actions in `allowed`; `None` allows every action.
    """

    key_id: str
    secret: str = field(repr=False)
    allowed: frozenset[str] | None = None


Pair = tuple[bytes, bytes]


def read_form(raw: bytes) -> list[Pair]:
    """Return the names and values of a form.

    Raises `Refused` for a part without `=`, and for a name that occurs twice.
    """
    pairs = []
    for part in raw.split(b"&") if raw else []:
        name, equals, value = part.partition(b"=")
        if not equals:
            raise Refused("InvalidParameter", "The specified parameter is not valid.")
        pairs.append((_decoded(name), _decoded(value)))
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused("InvalidParameter", "A parameter is given twice.")
    return pairs


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" "))


def expected_signature(method: str, pairs: Sequence[Pair], secret: str) -> tuple[str, str]:
    """Return the right signature for a call, and the string to sign."""
    canonical = b"&".join(
        _encoded(name) + b"=" + _encoded(value)
        for name, value in sorted(pairs)
        if name != b"Signature"
    )
    signed = b"&".join((method.encode(), b"%2F", _encoded(canonical)))
    digest = hmac.digest(secret.encode() + b"&", signed, "sha1")
    return base64.standard_b64encode(digest).decode("ascii"), signed.decode("ascii")


def _encoded(raw: bytes) -> bytes:
    return b"".join(bytes([b]) if b in STAYS else b"%%%02X" % b for b in raw)


class Accounts:
    """All accounts, and the check of the signatures that their keys make."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._nonces: set[str] = set()

    def add(self, account: Account) -> Account:
        """Open an account."""
        self._accounts[account.key_id] = account
        return account

    def first(self) -> Account:
        """Return the account that was opened first."""
        return next(iter(self._accounts.values()))

    def caller(self, method: str, pairs: Sequence[Pair], now: datetime) -> Account:
        """Return the account that signed a call. Raises `Refused`."""
        params = {name.decode(): value.decode(errors="replace") for name, value in pairs}
        for name in COMMON:
            if not params.get(name):
                raise Refused(f"Missing{name}", f"{name} is mandatory for this action.")
        self._must_be_well_formed(params, now)
        account = self._accounts.get(params["AccessKeyId"])
        if params["AccessKeyId"].startswith("STS."):
            raise Refused("MissingSecurityToken", "SecurityToken is mandatory for this action.")
        if account is None:
            raise Refused("InvalidAccessKeyId.NotFound", "Specified access key is not found.", 404)
        expected, signed = expected_signature(method, pairs, account.secret)
        if not hmac.compare_digest(expected, params["Signature"]):
            # The real service quotes its own string to sign, which contains the key's id.
            words = "Specified signature is not matched with our calculation. server string to sign"
            raise Refused("SignatureDoesNotMatch", f"{words} is:{signed}")
        nonce = params["SignatureNonce"]
        if nonce in self._nonces:
            raise Refused("SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces.add(nonce)
        return account

    def _must_be_well_formed(self, params: Mapping[str, str], now: datetime) -> None:
        if params["Version"] != "2015-01-09":
            raise Refused("InvalidVersion", "Specified parameter Version is not valid.", 404)
        if (params["SignatureMethod"], params["SignatureVersion"]) != ("HMAC-SHA1", "1.0"):
            raise Refused("InvalidSignatureMethod", "Specified signature method is not valid.")
        try:
            stated = datetime.strptime(params["Timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(
                tzinfo=UTC
            )
        except ValueError:
            raise Refused(
                "InvalidTimeStamp.Format",
                "Specified time stamp or date value is not well formatted.",
            ) from None
        if abs(stated - now) > SKEW:
            raise Refused(
                "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."
            )


PAGES = frozenset({"PageNumber", "PageSize"})
EVERYWHERE = frozenset({*COMMON, "Format", "Lang", "UserClientIp"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "DescribeDomains": PAGES | {"KeyWord", "GroupId", "SearchMode", "ResourceGroupId"},
    "DescribeSubDomainRecords": PAGES | {"SubDomain", "DomainName", "Type", "Line"},
    "DescribeDomainRecordInfo": frozenset({"RecordId"}),
    "AddDomainRecord": frozenset({"DomainName", "RR", "Type", "Value", "TTL", "Priority", "Line"}),
    "DeleteDomainRecord": frozenset({"RecordId"}),
}
"""The parameters of each call, beside the parameters that every call has (`EVERYWHERE`)."""

Item = TypeVar("Item")


class Params:
    """The parameters of one call."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def must_be_of(self, allowed: frozenset[str]) -> None:
        """Check that the call has only allowed parameters. Raises `Refused`."""
        for name in self._fields:
            if name not in allowed | EVERYWHERE:
                raise Refused("UnsupportedParameter", f'The parameter "{name}" is not supported.')

    def text(self, name: str) -> str:
        """Return a parameter, or "" if the call lacks the parameter."""
        return self._fields.get(name, "")

    def required(self, name: str) -> str:
        """Return a parameter. Raises `Refused` if the parameter is missing or empty."""
        if not self.text(name):
            raise Refused("MissingParameter", f'The input parameter "{name}" is not supplied.')
        return self.text(name)

    def number(self, name: str, default: int, *, least: int, most: int = 2**31) -> int:
        """Return a whole number, or the default if the parameter is missing.

        Raises `Refused` for a number outside the bounds.
        """
        digits = self._fields.get(name)
        if digits is None:
            return default
        if not (digits.isascii() and digits.isdigit() and least <= int(digits) <= most):
            raise Refused("InvalidParameter", f"The specified value of {name} is not valid.")
        return int(digits)

    def page(self, items: Sequence[Item], *, most: int) -> tuple[Sequence[Item], dict[str, int]]:
        """Return the requested page, and the fields of the answer about the whole list."""
        size = self.number("PageSize", 20, least=1, most=most)
        number = self.number("PageNumber", 1, least=1)
        whole = {"TotalCount": len(items), "PageNumber": number, "PageSize": size}
        return items[(number - 1) * size : number * size], whole
