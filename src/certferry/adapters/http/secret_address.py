"""The address of a webhook, which is a secret: read without being shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from certferry.core.network import is_loopback
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text


def secret_address(written: Secret, api: str = "", usual: str = "") -> Secret:
    """Return the address, at `api` where that is another than the `usual` place of the service.

    Raises `ConfigError`, which does not show it.
    """
    address = written.reveal()
    try:
        parts = urlsplit(address)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise ConfigError(Text("`url` must be the whole address, such as https://host/path"))
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("`url` must not hold a user name or password"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            Text("`url` must begin with https://; http:// is for addresses of this machine only")
        )
    if api == usual:
        return written
    query = f"?{parts.query}" if parts.query else ""
    return Secret(f"{api.rstrip('/')}{parts.path}{query}")
