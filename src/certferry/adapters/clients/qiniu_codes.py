"""Qiniu's codes: what each means in plain words, and what to do about it.

From docs/facts/qiniu.md §4.5 and §5.3 to §5.7. Codes that say no more than their message are left
out. Which client makes the certificate is not known here, so the advice is for certferry's own and
for those of other clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from certferry.errors import (
    CopyGone,
    DeployError,
    TargetAccessDenied,
    TargetBusy,
    TargetInUse,
    TargetRejected,
)

UNCHANGED = 400910
ACCOUNT_FULL = 400500
HTTPS_IS_OFF = frozenset({400302, 400})  # with its code, or none at all
NO_SUCH_CERTIFICATE = frozenset({400401, 404001})  # 404001 is any resource (§4.4)
NO_SUCH_DOMAIN = frozenset({612, 404001})  # of a write, and of a read
WRONG_DOMAIN_TYPE = 403  # "domaintype is not allowed", which comes without a code (§6.5)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Which kind of error a code is, its meaning and the advice, as templates of texts. The advice
    may have a place for the certificate's name.
    """

    error: type[DeployError]
    words: str
    advice: str


_CHAIN = Meaning(
    TargetRejected,
    "the certificate chain cannot be verified",
    "Qiniu takes certificates of public CAs only, with the issuer certificates after the leaf",
)
_PAIR = Meaning(
    TargetRejected,
    "certificate and private key do not belong together",
    "a new pair is needed: `certferry sync --renew {lineage}`, or from the client that makes it",
)
_KEY = Meaning(
    TargetRejected,
    "the private key is not accepted",
    "a new pair is needed: `certferry sync --renew {lineage}`, or from the client that makes it",
)
_TOO_SHORT = Meaning(
    TargetRejected,
    "too little of the certificate's life is left",
    "Qiniu wants about 30 days; a new certificate is needed: `certferry sync --renew {lineage}`, or"
    " from the client that makes it",
)
_NO_EC = Meaning(
    TargetRejected,
    "elliptic-curve keys are not supported for this domain",
    'set `key_type = "rsa2048"` under [acme], and issue anew: `certferry sync --renew {lineage}`;'
    " or have the client that makes it use an RSA key",
)
_UNREADABLE = Meaning(
    TargetRejected,
    "the certificate cannot be read",
    "a fullchain is PEM text: the leaf first, then its issuer certificates",
)
_IN_USE_BY_CDN = Meaning(
    TargetInUse,
    "a CDN domain is still bound to it",
    "this is normal until a change of the domain has come to its end; a later run tries again",
)
_NOT_SELF_SERVICE = Meaning(
    TargetRejected,
    "the domain cannot be changed by self-service",
    "ask Qiniu's support, with the name of the domain, to lift the restriction",
)
NO_DOMAIN = Meaning(
    TargetRejected,
    "it is not a CDN domain of this account",
    "add it in Qiniu's console under CDN, or correct `domains`",
)

MEANINGS: dict[int, Meaning] = {
    405: Meaning(
        TargetRejected,
        "this host does not offer the call",
        "set `api`, `fusion` and `uc` of the account back to what they are without being set",
    ),
    612: NO_DOMAIN,
    404001: NO_DOMAIN,
    400013: Meaning(
        TargetBusy, "the same change has been made already", "the next run looks at the domain anew"
    ),
    400020: Meaning(
        TargetRejected,
        "the domain has no ICP filing",
        "domains served in mainland China need one: file it, or set another area for the domain",
    ),
    400030: Meaning(
        TargetBusy,
        "an earlier change of the domain is not finished",
        "changes take 5 to 15 minutes, at times hours; a later run goes on from here",
    ),
    400045: _KEY,
    400062: Meaning(
        TargetRejected,
        "the domain exists at Qiniu already",
        "if it is in another account, use the keys of that one, or ask Qiniu's support",
    ),
    400302: Meaning(
        TargetRejected,
        "the domain does not use HTTPS any more",
        "the next run switches HTTPS on again",
    ),
    400309: Meaning(
        TargetRejected,
        "the domain's cache settings are missing",
        "save the domain's cache settings once in Qiniu's console; a later run goes on from here",
    ),
    400317: Meaning(
        TargetRejected,
        "the domain is not offline",
        "this change is possible only for a domain that is offline; look at it in Qiniu's console",
    ),
    400319: _NO_EC,
    400320: Meaning(
        TargetRejected,
        "the domain is offline",
        "bring it online in Qiniu's console, or take it out of `domains`",
    ),
    400321: Meaning(
        TargetRejected,
        "the certificate is not valid yet",
        "compare this machine's clock with the true time",
    ),
    400322: _TOO_SHORT,
    400323: _CHAIN,
    400324: _PAIR,
    400325: _CHAIN,
    400326: Meaning(
        TargetRejected,
        "the certificate does not cover the domain",
        "add the domain to `names`; a wildcard reaches one label deep, and the wildcard domain"
        " *.example.com needs *.example.com itself",
    ),
    400327: _KEY,
    400328: _PAIR,
    400329: Meaning(
        TargetRejected,
        "the certificate has expired",
        "a new one is needed: `certferry sync --renew {lineage}`, or from the client that makes it",
    ),
    400338: _CHAIN,
    400348: Meaning(
        TargetRejected,
        "the certificate's common name is not accepted",
        'use a certificate profile with a common name: profile = "classic" under [acme], or in the'
        " client that makes it",
    ),
    400397: Meaning(
        TargetRejected,
        "several domains share its CNAME",
        "give the domain a CNAME of its own in Qiniu's console",
    ),
    400401: Meaning(
        CopyGone,
        "there is no such certificate",
        "the certificate was removed at Qiniu; the next run uploads it again",
    ),
    400402: Meaning(
        TargetRejected,
        "this CA cannot issue for the name",
        "use a certificate of another CA, or ask Qiniu's support which it takes for the name",
    ),
    400407: _NOT_SELF_SERVICE,
    ACCOUNT_FULL: Meaning(
        TargetRejected,
        "the account holds as many certificates as it may",
        "remove unused ones in Qiniu's console, or ask its support for more",
    ),
    400514: _NO_EC,
    400611: _IN_USE_BY_CDN,
    400722: _NOT_SELF_SERVICE,
    400911: Meaning(
        TargetInUse,
        "a Kodo domain is bound to it",
        "bind the Kodo domain to another certificate; a later run tries again",
    ),
    400932: Meaning(
        TargetRejected,
        "the account has not proven that the domain is its own",
        "prove it in Qiniu's console with the TXT record that it asks for",
    ),
    401000: Meaning(
        TargetAccessDenied,
        "the account's owner is not verified",
        "complete the verification (实名认证) in Qiniu's console",
    ),
    403023: Meaning(
        TargetRejected,
        "the domain belongs to another account",
        "use the keys of the account that the domain is in",
    ),
    404904: Meaning(
        TargetRejected,
        "the domain's CNAME does not point at Qiniu",
        "set the CNAME that Qiniu's console shows for the domain, and wait for it to be seen",
    ),
    404905: _NOT_SELF_SERVICE,
    404906: _UNREADABLE,
    404907: _UNREADABLE,
    404908: Meaning(
        TargetRejected,
        "the certificate belongs to another account",
        "use the keys of the account that it was uploaded to",
    ),
    404910: _NOT_SELF_SERVICE,
    404923: Meaning(
        TargetRejected,
        "HTTPS is not possible for a private bucket on the video platform",
        "change the domain's platform or source in Qiniu's console",
    ),
    500233: _TOO_SHORT,
    500923: Meaning(
        TargetRejected,
        "the domain is frozen",
        "Qiniu's console says why (unpaid bill, ICP filing, content); lift that first",
    ),
}

_BY_WORDS = {"expire day should more than": _TOO_SHORT}
"""What comes without a code of its own (§4.6)."""
_NAME_TOO_LONG = "name too long"
"""As in "certification name too long", whose code is not known (§4.1)."""


def meaning_of(code: int, words: str) -> Meaning | None:
    """Return what an answer means, by its code or else by its words."""
    by_words = (meaning for said, meaning in _BY_WORDS.items() if said in words.lower())
    return MEANINGS.get(code) or next(by_words, None)


def is_name_too_long(words: str) -> bool:
    """Tell whether an upload was refused for its name's length alone."""
    return _NAME_TOO_LONG in words.lower()
