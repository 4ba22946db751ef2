"""Alibaba Cloud's RPC gateway: signatures, rights, parameters and answers of every product.

Each product of the cloud is an `Endpoint`. The signature is computed from the raw query and form,
after the vendor's page ("RPC mechanism") and without certferry's own signing code, so that each
checks the other. Every byte outside the table `STAYS` is percent-encoded.

An answer has a RequestId; a refusal has a code and a message as well. A parameter that a call does
not have is refused; the real service is more lenient (docs/facts/aliyun.md §1).
"""

from __future__ import annotations

import base64
import hmac
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from certferry_sandbox.faults import Script
from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response

REQUEST_ID = "536E9CAD-DB30-4647-AC87-AA5CC38C5382"  # from the vendor's examples
FORM = "application/x-www-form-urlencoded"

Body = Mapping[str, Any]
Now = Callable[[], datetime]


class Refused(Exception):
    """The refusal of a call: an error code, a message and an HTTP status.

    `more` has further fields of the answer.
    """

    def __init__(self, code: str, words: str, status: int = 400, more: Body | None = None) -> None:
        super().__init__(code, words)
        self.code = code
        self.words = words
        self.status = status
        self.more = more or {}


@dataclass(frozen=True)
class Api:
    """The facts of a product's API that the gateway knows."""

    #: The product's name in addresses of help pages.
    product: str
    #: The real host, which refusals name.
    host: str
    #: The only version of the API.
    version: str
    #: The product's name in RAM policies, as in `cdn:DescribeUserDomains`.
    ram_name: str
    #: The parameters of each action, beside the parameters that every call has (`EVERYWHERE`).
    parameters: Mapping[str, frozenset[str]]
    #: The actions that ask for a change.
    writes: frozenset[str]
    #: The actions that the gateway takes by POST only.
    by_post: frozenset[str] = frozenset()


def respond(body: Body) -> Response:
    """Return the answer to a call that succeeded."""
    return Response.json({"RequestId": REQUEST_ID, **body})


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
EVERYWHERE = frozenset({*COMMON, "Format", "Lang", "RegionId", "UserClientIp"})
PAGES = frozenset({"PageNumber", "PageSize"})


@dataclass
class Account:
    """An AccessKey, of an account or of a RAM user of an account."""

    key_id: str
    secret: str = field(repr=False)
    #: Shell patterns over "<ram_name>:<action>", or over the action alone. `None` allows all.
    allowed: frozenset[str] | None = None
    #: The key of the account whose domains and certificates the calls see.
    owner: str = ""

    @property
    def uid(self) -> str:
        """The key id of the account itself."""
        return self.owner or self.key_id

    def may(self, api: Api, action: str) -> bool:
        """Whether the policy allows an action."""
        names = (action, f"{api.ram_name}:{action}")
        return self.allowed is None or any(
            fnmatchcase(name, pattern) for pattern in self.allowed for name in names
        )


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
    """All keys, and the check of their signatures. Several endpoints may share the keys."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._nonces: set[str] = set()

    def add(self, account: Account) -> Account:
        """Add a key. Raises LookupError if the owner has no account."""
        if account.owner and account.owner not in self._accounts:
            raise LookupError(account.owner)
        self._accounts[account.key_id] = account
        return account

    def first(self) -> Account:
        """Return the account that was opened first."""
        return next(iter(self._accounts.values()))

    def uid(self, key_id: str | None = None) -> str:
        """Return the `uid` of a key, by default of the first account. Raises LookupError."""
        return (self.first() if key_id is None else self._accounts[key_id]).uid

    def caller(self, api: Api, method: str, pairs: Sequence[Pair], now: datetime) -> Account:
        """Return the account that signed a call. Raises `Refused`."""
        params = _texts(pairs)
        for name in COMMON:
            if not params.get(name):
                raise Refused(f"Missing{name}", f"{name} is mandatory for this action.")
        _must_be_well_formed(api, params, now)
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


def _must_be_well_formed(api: Api, params: Mapping[str, str], now: datetime) -> None:
    if params["Version"] != api.version:
        raise Refused("InvalidVersion", "Specified parameter Version is not valid.", 404)
    if (params["SignatureMethod"], params["SignatureVersion"]) != ("HMAC-SHA1", "1.0"):
        raise Refused("InvalidSignatureMethod", "Specified signature method is not valid.")
    try:
        stated = datetime.strptime(params["Timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused(
            "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."
        ) from None
    if abs(stated - now) > SKEW:
        raise Refused("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")


Item = TypeVar("Item")


class Params:
    """The parameters of one call."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def must_be_of(self, allowed: Collection[str]) -> None:
        """Check that the call has only allowed parameters. Raises `Refused`."""
        for name in self._fields:
            if name not in allowed and name not in EVERYWHERE:
                raise Refused("UnsupportedParameter", f'The parameter "{name}" is not supported.')

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def text(self, name: str) -> str:
        """Return a parameter, or "" if the call lacks the parameter."""
        return self._fields.get(name, "")

    def required(self, name: str) -> str:
        """Return a parameter. Raises `Refused` if the parameter is missing or empty."""
        if not self.text(name):
            raise Refused("MissingParameter", f'The input parameter "{name}" is not supplied.')
        return self.text(name)

    def choice(self, name: str, *choices: str) -> str:
        """Return a parameter with one of these values, or the first value if missing.

        Raises `Refused` for another value.
        """
        value = self._fields.get(name, choices[0])
        if value not in choices:
            raise _invalid(name)
        return value

    def number(self, name: str, default: int, *, least: int, most: int = 2**31) -> int:
        """Return a whole number, or the default if the parameter is missing.

        Raises `Refused` for a number outside the bounds.
        """
        digits = self._fields.get(name)
        if digits is None:
            return default
        if not (digits.isascii() and digits.isdigit() and least <= int(digits) <= most):
            raise _invalid(name)
        return int(digits)

    def page(
        self,
        items: Sequence[Item],
        *,
        most: int,
        default: int = 20,
        number: str = "PageNumber",
        size: str = "PageSize",
    ) -> tuple[Sequence[Item], dict[str, int]]:
        """Return the requested page, and the fields of the answer about the whole list.

        `number` and `size` are the names of the parameters, and of the fields.
        """
        length = self.number(size, default, least=1, most=most)
        page = self.number(number, 1, least=1)
        whole = {"TotalCount": len(items), number: page, size: length}
        return items[(page - 1) * length : page * length], whole


def _invalid(name: str) -> Refused:
    return Refused("InvalidParameter", f"The specified value of {name} is not valid.")


@dataclass
class RateLimits:
    """The most calls a second of an account. An action without an entry has no limit.

    `code`, `words`, `status`: the refusal above the limit.
    """

    per_second: Mapping[str, int] = field(default_factory=dict)
    code: str = "Throttling.User"
    words: str = "Request was denied due to user flow control."
    status: int = 400
    _recent: dict[tuple[str, str], deque[datetime]] = field(default_factory=dict)

    def count(self, uid: str, action: str, now: datetime) -> None:
        """Count a call. Raises `Refused` above the limit."""
        if action not in self.per_second:
            return
        recent = self._recent.setdefault((uid, action), deque())
        while recent and now - recent[0] >= timedelta(seconds=1):
            recent.popleft()
        if len(recent) >= self.per_second[action]:
            raise Refused(self.code, self.words, self.status)
        recent.append(now)


@dataclass(frozen=True)
class Call:
    """A call that arrived, with or without an answer."""

    action: str
    params: Mapping[str, str]


Work = Callable[[Account, Params], Body]


class Endpoint(HttpStandIn):
    """The address of one product, in plain HTTP.

    `faults` are armed by action: `faults.add(Fault.reset_after(), on="AddDomainRecord")`.

    `rate_limits`: the limits of each action, by default none.
    `forbidden`: code and HTTP status for a RAM user without the right; codes differ by product
    (docs/facts/aliyun.md §2).
    `before`: called with each request before the request is answered.
    """

    def __init__(
        self, api: Api, accounts: Accounts, *, now: Now, lock: threading.RLock | None = None
    ) -> None:
        self.api = api
        self.http = HttpService(self._answer, clock=now, label=_action_of)
        self.rate_limits = RateLimits()
        self.forbidden = ("Forbidden.RAM", 403)
        self.before: Callable[[Request], object] = lambda _: None
        self.actions: Mapping[str, Work] = {}
        self._accounts = accounts
        self._now = now
        self._lock = lock or threading.RLock()
        self._script = Script[Response]()

    def answer_next(
        self,
        action: str,
        code: str,
        words: str = "",
        *,
        status: int = 400,
        times: int = 1,
        does_the_work: bool = False,
    ) -> None:
        """Answer the next calls of an action (a shell pattern) with this code.

        The stand-in first checks signature and parameters. With `does_the_work`, the call also
        takes effect.
        """
        response = self._refusal(Refused(code, words or f"{code} happened.", status))
        self._script.add(action, response, times=times, does_the_work=does_the_work)

    def calls(self, action: str = "*") -> list[Call]:
        """Return the calls so far of an action (a shell pattern), in the order of arrival."""
        arrived = [
            Call(_action_of(request), _params_of(request)) for request in self.http.requests()
        ]
        return [call for call in arrived if fnmatchcase(call.action, action)]

    def writes(self) -> list[Call]:
        """Return the calls so far that ask for a change."""
        return [call for call in self.calls() if call.action in self.api.writes]

    def _answer(self, request: Request) -> Response:
        self.before(request)
        try:
            with self._lock:
                return self._work(request)
        except Refused as refusal:
            return self._refusal(refusal)

    def _work(self, request: Request) -> Response:
        if (request.method, request.path) not in {("POST", "/"), ("GET", "/")}:
            raise Refused("InvalidApi.NotFound", "Specified api is not found.", 404)
        pairs = _pairs_of(request)
        now = self._now()
        account = self._accounts.caller(self.api, request.method, pairs, now)
        params = Params(_texts(pairs))
        action = params.required("Action")
        if action not in self.api.parameters:
            raise Refused("InvalidAction.NotFound", "Specified api is not found.", 404)
        if action in self.api.by_post and request.method != "POST":
            # From memory: the pages say only "Method: POST".
            raise Refused("UnsupportedHTTPMethod", "This http method is not supported.", 403)
        params.must_be_of(self.api.parameters[action])
        if not account.may(self.api, action):
            raise self._not_allowed(action)
        self.rate_limits.count(account.uid, action, now)
        if params.text("Format").upper() != "JSON":
            return XML
        return self._script.answer(action, lambda: respond(self.actions[action](account, params)))

    def _not_allowed(self, action: str) -> Refused:
        code, status = self.forbidden
        detail = {
            "PolicyType": "AccountLevelIdentityBasedPolicy",
            "AuthPrincipalType": "SubUser",
            "AuthAction": f"{self.api.ram_name}:{action}",
            "NoPermissionType": "ImplicitDeny",
        }
        words = "User not authorized to operate on the specified resource."
        return Refused(code, words, status, {"AccessDeniedDetail": detail})

    def _refusal(self, refusal: Refused) -> Response:
        code = refusal.code
        advice = f"https://api.aliyun.com/troubleshoot?q={code}&product={self.api.product}"
        body = {
            "RequestId": REQUEST_ID,
            "HostId": self.api.host,
            "Code": code,
            "Message": refusal.words,
            "Recommend": advice,
            **refusal.more,
        }
        return Response.json(body, refusal.status)


def _pairs_of(request: Request) -> list[Pair]:
    """Return the parameters: of the query, and of the form of a POST."""
    raw = [request.query.encode()]
    declared = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and declared == FORM:
        raw.append(request.body)
    return read_form(b"&".join(part for part in raw if part))


def _texts(pairs: Sequence[Pair]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in pairs}


def _params_of(request: Request) -> dict[str, str]:
    return _texts(_pairs_of(request))


def _action_of(request: Request) -> str:
    try:
        return _params_of(request).get("Action", "")
    except Refused:
        return ""
