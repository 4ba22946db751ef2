"""DNSPod's token API on the wire: answers with a status, and the parameters of a call.

The source of everything below is docs/facts/dnspod.md §1.1 and §1.4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

from certferry_sandbox.httpd import Request, Response

CHINA = timezone(timedelta(hours=8))  # `created_at` and similar fields do not name this zone
LONG_AGO = "2015-01-18 20:21:45"  # the date of domains and records that were there from the start
COOKIES = (
    ("Set-Cookie", "DNSPODID=0123456789abcdef; path=/"),
    ("Set-Cookie", "_xsrf=0123456789abcdef; path=/"),
)

Body = Mapping[str, Any]
"""The fields of an answer beside the status."""


class Status(Enum):
    """A status code, and its message in English and Chinese.

    A code can have another meaning in another call.
    """

    DONE = ("1", "Action completed successful", "操作已经成功完成")
    LOGIN_FAILED = ("-1", "Login fail, please check login info", "登录失败")
    LIMITED = ("-2", "API usage limit exceeded", "API 使用超出限制")
    NO_PERMISSION = ("-7", "No permission to use this API", "没有使用该接口的权限")
    LOGIN_BANNED = (
        "-8",
        "Login failed too many times, banned for now",
        "登录失败次数过多,帐号被暂时封禁",
    )
    DOMAIN_BANNED = ("-15", "Domain is banned", "域名已被封禁")
    CLOSED = ("-99", "This feature is closed temporarily, try later", "此功能暂停开放,请稍候重试")
    POST_ONLY = ("2", "POST method only", "只允许 POST 方法")
    UNKNOWN = ("3", "Unknown error", "未知错误")
    BAD_PARAMETER = ("6", "Parameter missing or invalid", "缺少参数或者参数错误")
    BAD_DOMAIN = ("6", "Domain id invalid", "域名 ID 错误")
    LIST_BAD_OFFSET = ("6", "Offset invalid", "记录开始的偏移无效")
    LIST_BAD_LENGTH = ("7", "Length invalid", "共要获取的记录的数量无效")
    NOT_OWNER_WRITE = ("7", "Not the domain owner or no permission", "不是域名所有者或者没有权限")
    RECORDS_BAD_OFFSET = ("7", "Offset invalid", "记录开始的偏移无效")
    RECORDS_BAD_LENGTH = ("8", "Length invalid", "共要获取的记录的数量无效")
    BAD_RECORD = ("8", "Record id invalid", "记录 ID 错误")
    NOT_OWNER = ("8", "Not the domain owner", "不是域名所有者")
    NOT_OWNER_RECORDS = ("9", "Not the domain owner", "不是域名所有者")
    NO_DOMAINS = ("9", "No domains", "没有域名")
    NO_RECORDS = ("10", "No records", "没有记录")
    NO_SUCH_DOMAIN = ("13", "Domain is not exists", "域名不存在")
    DOMAIN_LOCKED = ("21", "Domain is locked", "域名被锁定")
    BAD_SUB_DOMAIN = ("22", "Sub domain invalid", "子域名不合法")
    TOO_MANY_LEVELS = ("23", "Sub domain has too many levels", "子域名级数超出限制")
    BAD_WILDCARD = ("24", "Wildcard sub domain invalid", "泛解析子域名错误")
    TOO_MANY = ("25", "Too many records of this type at this name", "轮循记录数量超出限制")
    TOO_MANY_A = ("500025", "Too many A records at this name", "A 记录负载均衡超出限制")
    TOO_MANY_CNAME = ("500026", "Too many CNAME records at this name", "CNAME 记录负载均衡超出限制")
    BAD_LINE = ("26", "Record line invalid", "记录线路错误")
    BAD_TYPE = ("27", "Record type invalid", "记录类型错误")
    CONFLICT = ("31", "A conflicting record exists at this name", "存在冲突的记录")
    CREATE_BAD_TTL = ("32", "TTL is out of range", "记录的 TTL 值超出了限制")
    BAD_VALUE = ("34", "Record value invalid", "记录值非法")
    DUPLICATE = ("104", "Domain record already exists", "记录已经存在,无需再次添加")
    TOKEN_ID_INVALID = ("10002", "The login token ID is invalid", "传入的 Token ID 错误")
    TOKEN_UNKNOWN = ("10003", "The login token does not exist", "传入的 Token 不存在")
    TOKEN_WRONG = ("10004", "The login token validation failed", "传入的 Token 校验失败")

    @property
    def code(self) -> str:
        """The code: a number as a string, as in answers."""
        return self.value[0]

    def words(self, lang: str) -> str:
        """Return the message: Chinese for `cn`, English for any other language."""
        return self.value[2 if lang == "cn" else 1]


class Refused(Exception):
    """The refusal of a call with a status. `english` replaces the status' English message."""

    def __init__(self, status: Status, english: str = "") -> None:
        super().__init__(status.code, english or status.words("en"))
        self.status = status
        self._english = english

    def words(self, lang: str) -> str:
        """Return the message: Chinese for `cn`, English for any other language."""
        return self._english if self._english and lang != "cn" else self.status.words(lang)


def in_china(moment: datetime) -> str:
    """Return a moment as text in Chinese time, as the API writes moments."""
    return moment.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")


def respond(whole: Body, *, as_json: bool) -> Response:
    """Return an answer in JSON or XML. The HTTP status is always 200."""
    if as_json:
        # The real service declares JSON as HTML, so clients cannot rely on the Content-Type.
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
        return Response(200, text, "text/html;charset=UTF-8", COOKIES)
    # A placeholder, because no client of this stand-in reads XML.
    return Response(200, b"<dnspod/>", "text/xml;charset=UTF-8", COOKIES)


def page(status: int, title: str) -> Response:
    """Return an HTML error page, as the proxy in front of the API does."""
    html = f"<html><head><title>{title}</title></head><body>{title}</body></html>"
    return Response(status, html.encode(), "text/html", COOKIES)


FORM = "application/x-www-form-urlencoded"


class Params:
    """The fields of one form. The last value of a repeated field counts."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields

    @classmethod
    def of(cls, request: Request) -> Params:
        """Return the fields of a request: of the body for a POST, of the query otherwise.

        A body that is not declared as a form has no fields.
        """
        if request.method != "POST":
            return cls(dict(parse_qsl(request.query)))
        declared = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if declared != FORM:
            return cls({})
        return cls(dict(parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)))

    def text(self, name: str, default: str = "") -> str:
        """Return a field, or the default if the field is missing."""
        return self.fields.get(name, default)

    def number(self, name: str, default: int, refusal: Status, *, least: int = 0) -> int:
        """Return a whole number, or the default if the field is missing.

        Raises Refused with `refusal` for other text and for a number below `least`.
        """
        digits = self.fields.get(name)
        if digits is None:
            return default
        if not digits.isascii() or not digits.isdigit() or int(digits) < least:
            raise Refused(refusal)
        return int(digits)

    def says_no(self, name: str) -> bool:
        """Whether a field is `no`."""
        return self.fields.get(name) == "no"
