"""What the operator can do about each type of problem that a CA reports (RFC 8555 §6.7)."""

from __future__ import annotations

from datetime import datetime

import requests

from certferry.adapters.clients.http_bounds import UnknownProxy
from certferry.errors import IssuanceError, RateLimited
from certferry.text import Text

_CAA = Text(
    "a CAA record of the name, or of a parent, allows other CAs only: add one that allows this CA"
    ' (for Let\'s Encrypt: 0 issue "letsencrypt.org"), or remove it'
)
_DNS = Text(
    "the CA could not look the name up: check that the domain is delegated to the name servers"
    " that hold the zone, and that DNSSEC is either right or off"
)
_REACH = Text(
    "the CA could not reach the name servers: check that they answer from anywhere in the world"
)
_RATE = Text(
    "run `certferry sync` again when the CA allows it; certificates for tests belong to a staging"
    " directory"
)
_BUSY = Text("this is temporary: run `certferry sync` again later, it goes on from here")
_CONTACT = Text("correct `email` under [acme], or leave it out")
_EAB = Text(
    "this CA takes accounts only with an external account binding: set `eab_kid` and"
    " `eab_hmac_key` under [acme] to what its customer page shows"
)
_NAME = Text(
    "the CA's policy does not allow the name: check its spelling and that its suffix is public,"
    " or take it out of `names`"
)
_PROTOCOL = Text("this should not happen: please report it with the output of `certferry -v sync`")

FOR_PROOFS: dict[str, Text] = {
    "caa": _CAA,
    "connection": _REACH,
    "dns": _DNS,
    "dnssec": _DNS,
    "incorrectResponse": Text(
        "the CA saw another TXT value than ours: look for a CNAME at the challenge name, and for a"
        " name server that answers from elsewhere"
    ),
    "rateLimited": _RATE,
    "rejectedIdentifier": _NAME,
    "serverInternal": _BUSY,
    "tls": _REACH,
    "unauthorized": Text(
        "the CA did not see our TXT value: check that the account under `dns` holds the zone that"
        " the domain is delegated to, and that all of its name servers show the same"
    ),
    "unknownHost": _DNS,
}
"""Problems found while a name was validated."""

FOR_REQUESTS: dict[str, Text] = {
    "accountDoesNotExist": Text("run `certferry sync` again: a new account is then registered"),
    "alreadyReplaced": Text(
        "the certificate already has a successor at the CA: run `certferry sync` again, it is then"
        " ordered as a new one"
    ),
    "badCSR": Text(
        "the CA does not take the key or the combination of names: try another `key_type`, and"
        " fewer names"
    ),
    "badNonce": _BUSY,
    "badPublicKey": _PROTOCOL,
    "badSignatureAlgorithm": _PROTOCOL,
    "caa": _CAA,
    "connection": _REACH,
    "dns": _DNS,
    "dnssec": _DNS,
    "externalAccountRequired": _EAB,
    "invalidContact": _CONTACT,
    "invalidEmail": _CONTACT,
    "invalidProfile": Text(
        "choose one of the profiles that the CA's directory lists as `profile` under [acme], or"
        " leave it out"
    ),
    "malformed": _PROTOCOL,
    "orderNotReady": _BUSY,
    "rateLimited": _RATE,
    "rejectedIdentifier": _NAME,
    "serverInternal": _BUSY,
    "unauthorized": Text(
        "the CA does not let this account do it: check its state at the CA, and with an external"
        " account binding also `eab_kid` and `eab_hmac_key`"
    ),
    "unsupportedContact": _CONTACT,
    "unsupportedIdentifier": Text(
        "the CA issues for host names only, or not for wildcards: take the name out of `names`"
    ),
    "userActionRequired": Text(
        "open the page that the CA names, do what it asks (mostly: agree to new terms), then run"
        " `certferry sync` again"
    ),
}
"""Problems found with an order, a request or the account."""


def for_status(error: type[IssuanceError], moment: datetime | None) -> Text:
    """Give the hint where the HTTP status alone decides. `moment`: when the CA takes more."""
    if error is not RateLimited:
        return _BUSY
    if moment is None:
        return _RATE
    return Text(
        "run `certferry sync` again after {moment}; certificates for tests belong to a staging"
        " directory",
        moment=moment,
    )


UNTRUSTED = Text(
    "the directory's own TLS certificate is not trusted: a private CA needs `ca_bundle`"
    " under [acme]; otherwise a gateway may be intercepting the connection"
)


def for_transport(failure: requests.RequestException) -> Text:
    """Give the hint for a request that brought no answer."""
    if isinstance(failure, UnknownProxy):
        return Text(
            "certferry does not support SOCKS proxies: set HTTPS_PROXY to the proxy's"
            " http:// address, or add the CA's host to NO_PROXY"
        )
    if isinstance(failure, requests.exceptions.ProxyError):
        return Text(
            "check the proxy in `proxy` under [acme], or else in HTTPS_PROXY, which hosts in"
            " NO_PROXY bypass"
        )
    if isinstance(failure, ValueError):
        return Text("`directory` under [acme] must be an https address")
    return Text(
        "check the network and `directory` under [acme]; the next `certferry sync` goes on from"
        " here"
    )
