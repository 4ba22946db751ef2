"""A domain's HTTPS settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """A domain's HTTPS settings as the target reports them; `None` where it does not say."""

    force_https: bool | None = None
    http2: bool | None = None
    tls_versions: tuple[str, ...] | None = None
