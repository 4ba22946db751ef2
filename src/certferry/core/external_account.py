"""The operator's account at a CA outside ACME, to which the CA binds an ACME account (RFC 8555
§7.3.4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text

# Bytes in groups of four letters; the last group may be cut, but never to one letter.
_BASE64URL = re.compile(r"(?:[\w-]{4})*(?:[\w-]{2,4}={0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """The operator's account at a CA outside ACME (RFC 8555 §7.3.4): its key identifier, and its
    HMAC key in base64url. Raises `ConfigError` when the latter is not that.
    """

    kid: str
    hmac_key: Secret

    def __post_init__(self) -> None:
        if not _BASE64URL.fullmatch(self.hmac_key.reveal()):
            raise ConfigError(
                Text("`eab_hmac_key` is not base64url text"),
                hint=Text("copy it from the CA's customer page, as it stands there"),
            )
