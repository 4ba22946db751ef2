"""When a CA wants a certificate renewed (RFC 9773): where to ask, and how the answer is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from cryptography import x509
from josepy.b64 import b64encode

from certferry.adapters.acme.client import WITHOUT_SENSE
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.problems import Refused, moment_of, not_acme
from certferry.core.certificates.renewal import RenewalInfo, RenewalWindow
from certferry.core.redaction import quoted

_LONGEST_PAGE = 300  # characters of an address that an operator is to open


def certificate_id(cert_pem: str) -> str | None:
    """Return the identifier of a certificate (§4.1); `None` without its authority's."""
    certificate = x509.load_pem_x509_certificate(cert_pem.encode())
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    serial = certificate.serial_number
    size = math.ceil((max(serial, ~serial).bit_length() + 1) / 8)  # with room for the sign
    authority, number = found.value.key_identifier, serial.to_bytes(size, "big", signed=True)
    return None if authority is None else f"{_base64url(authority)}.{_base64url(number)}"


def ask(
    network: Network, resource: str, identifier: str, now: Callable[[], datetime]
) -> RenewalInfo:
    """Ask for a certificate's window. Raises what `Network.get` raises, and `CaUnavailable`."""
    try:
        response = network.get(f"{resource.rstrip('/')}/{identifier}")
    except Refused as refused:
        if refused.is_final and refused.status != HTTPStatus.TOO_MANY_REQUESTS:
            return RenewalInfo()
        raise
    try:
        document = response.json()
        suggested, page = document["suggestedWindow"], _page(document.get("explanationURL"))
        window = RenewalWindow(_moment(suggested["start"]), _moment(suggested["end"]), page)
    except WITHOUT_SENSE as problem:
        raise not_acme(quoted(f"{type(problem).__name__}: {problem}")) from problem
    moment = now()
    again = moment_of(response.headers.get("Retry-After"), moment)
    return RenewalInfo(window, None if again is None else again - moment)


def _moment(written: str) -> datetime:
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        raise ValueError(written)
    return moment.astimezone(UTC)


def _page(page: object) -> str | None:
    """Return the address of a page that a person can open, `None` for anything else."""
    if not isinstance(page, str) or len(page) > _LONGEST_PAGE:
        return None
    is_address = page.startswith(("https://", "http://")) and page.isascii() and page.isprintable()
    return page if is_address and " " not in page else None


def _base64url(data: bytes) -> str:
    return b64encode(data).decode()
