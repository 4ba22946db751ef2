"""Qiniu's two signatures, byte for byte (docs/facts/qiniu.md §2): QBox, and the newer Qiniu."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from certferry.adapters.clients.http import Request
from certferry.core.secret import Secret

FORM = "application/x-www-form-urlencoded"
OCTET_STREAM = "application/octet-stream"
PREFIX = "X-Qiniu-"
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Keys:
    """An account's key pair. The access key goes over the wire; the secret key never does."""

    access_key: Secret
    secret_key: Secret


def sign_qbox(request: Request, keys: Keys) -> Request:
    """Give the request with its QBox signature, which covers path and query only."""
    message = qbox_message(request.url, request.headers, request.body)
    return _with_headers(request, Authorization=f"QBox {token(keys, message)}")


def sign_qiniu(request: Request, keys: Keys, now: datetime) -> Request:
    """Give the request dated and with its Qiniu signature, which covers all of it.

    A request without a Content-Type gets that of forms, as from the vendor's SDKs, whatever its
    method: the documents allow leaving it out, the SDKs are what the servers see every day.
    """
    date = now.astimezone(UTC).strftime(DATE_FORMAT)
    content_type = request.headers.get("Content-Type", FORM)
    dated = _with_headers(request, **{"Content-Type": content_type, "X-Qiniu-Date": date})
    message = qiniu_message(dated.method, dated.url, dated.headers, dated.body)
    return _with_headers(dated, Authorization=f"Qiniu {token(keys, message)}")


def qbox_message(url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Give what QBox signs (§2.1): of the body, only a form."""
    covered = body if headers.get("Content-Type") == FORM else None
    return f"{_path_and_query(url)}\n".encode() + (covered or b"")


def qiniu_message(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Give what Qiniu signs (§2.2): the line, the host, the headers that count, the body.

    The empty line at the end of the headers is there also when nothing follows it.
    """
    content_type = headers.get("Content-Type")
    lines = [f"{method} {_path_and_query(url)}", f"Host: {_host(url)}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in sorted(_qiniu_headers(headers))]
    covered = body if content_type and content_type != OCTET_STREAM else None
    return "\n".join([*lines, "", ""]).encode() + (covered or b"")


def token(keys: Keys, message: bytes) -> str:
    """Give access key and signature: HMAC-SHA1 in URL-safe base64, its padding kept (§2)."""
    key = keys.secret_key.reveal().encode()
    digest = hmac.new(key, message, hashlib.sha1).digest()
    return f"{keys.access_key.reveal()}:{base64.urlsafe_b64encode(digest).decode()}"


def _path_and_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _host(url: str) -> str:
    """Give the Host header as it goes over the wire: without the port when it is the usual one."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(DEFAULT_PORTS.get(parts.scheme, ""))


def _qiniu_headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # The SDKs look for the prefix in this very spelling, so nothing else counts (§2.2).
    for name, value in headers.items():
        if name.startswith(PREFIX) and name != PREFIX:
            yield "-".join(word.capitalize() for word in name.split("-")), value


def _with_headers(request: Request, **headers: str) -> Request:
    return replace(request, headers={**request.headers, **headers})
