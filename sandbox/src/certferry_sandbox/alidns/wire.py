"""Alibaba Cloud DNS on the wire: answers with a RequestId, refusals with a code and its words, the
RPC signature verified from the raw form, and the parameters of a call, read strictly.

The signature is written from the vendor's page ("RPC mechanism"), apart from the signing that
certferry itself does, so that one checks the other: characters are encoded one by one, in a table
of what stays as it is.
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
    """Return a success."""
    return Response.json({"RequestId": REQUEST_ID, **body})


def refuse(code: str, words: str, status: int = 400) -> Response:
    """Return a refusal."""
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


STAYS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
SKEW = timedelta(minutes=15)  # InvalidTimeStamp.Expired (the gateway's common error codes)
COMMON = (
    *("Action", "Version", "AccessKeyId", "Signature"),
    *("SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp"),
)


@dataclass
class Account:
    """An account with one AccessKey. `allowed` are the actions that its policy allows; `None` is
    every one.
    """

    key_id: str
    secret: str = field(repr=False)
    allowed: frozenset[str] | None = None


Pair = tuple[bytes, bytes]


def read_form(raw: bytes) -> list[Pair]:
    """Take a form apart, without any tolerance."""
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
    """Return the signature that a client must have made, and the string that it signs."""
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
    """The accounts that exist, and the check of what their keys sign."""

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
        """Find out who signed a call. Raises Refused."""
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
            # The real one quotes what it would have signed, with the id of the key in it.
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
"""The parameters of each call, beside those of every one."""

Item = TypeVar("Item")


class Params:
    """The parameters of one call."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def must_be_of(self, allowed: frozenset[str]) -> None:
        """Refuse what the call does not have."""
        for name in self._fields:
            if name not in allowed | EVERYWHERE:
                raise Refused("UnsupportedParameter", f'The parameter "{name}" is not supported.')

    def text(self, name: str) -> str:
        """Return a parameter; "" when it is not there."""
        return self._fields.get(name, "")

    def required(self, name: str) -> str:
        """Return a parameter that must be there."""
        if not self.text(name):
            raise Refused("MissingParameter", f'The input parameter "{name}" is not supplied.')
        return self.text(name)

    def number(self, name: str, default: int, *, least: int, most: int = 2**31) -> int:
        """Return a whole number within its bounds."""
        written = self._fields.get(name)
        if written is None:
            return default
        if not (written.isascii() and written.isdigit() and least <= int(written) <= most):
            raise Refused("InvalidParameter", f"The specified value of {name} is not valid.")
        return int(written)

    def page(self, items: Sequence[Item], *, most: int) -> tuple[Sequence[Item], dict[str, int]]:
        """Return the page that was asked for, and what the answer says of the whole list."""
        size = self.number("PageSize", 20, least=1, most=most)
        number = self.number("PageNumber", 1, least=1)
        whole = {"TotalCount": len(items), "PageNumber": number, "PageSize": size}
        return items[(number - 1) * size : number * size], whole
