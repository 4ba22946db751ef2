"""The requests about an account, and about certificates that were issued (RFC 8555 §7.3, §7.6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from acme import jws, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from josepy.jwa import ES256, ES384, RS256
from josepy.jwk import JWKEC, JWKRSA

from certferry.adapters.acme.client import Client, read_answer
from certferry.core.revocation import RevocationReason
from certferry.errors import CertificateError
from certferry.ports.ca_account import AccountFacts
from certferry.text import Text

_P384 = 384  # bits


class AccountClient(Client):
    """A client that can also change what its account is. Raises what `Client` raises."""

    def account(self, url: str) -> AccountFacts:
        """Look at the account (§7.3.2)."""
        return read_answer(lambda document: _facts(url, document), self._post_as_get(url))

    def change_key(self, url: str, old: JWKEC, new: JWKEC) -> None:
        """Give the account at `url` another key (§7.3.5): what the new one signs is signed by the
        old one.
        """
        where = self.resource("keyChange")
        change = {"account": url, "oldKey": old.public_key().to_partial_json()}
        inner = jws.JWS.sign(json.dumps(change).encode(), key=new, alg=ES256, nonce=None, url=where)
        self.sign_in(old, url)
        self._post(where, inner)

    def deactivate(self, url: str) -> None:
        """Put the account out of use (§7.3.6)."""
        self._post(url, messages.UpdateRegistration(status=messages.STATUS_DEACTIVATED))

    def revoke_certificate(self, leaf: x509.Certificate, reason: RevocationReason) -> None:
        """Revoke a certificate as the account or key that signs (§7.6)."""
        wish = messages.Revocation(certificate=leaf, reason=reason.code)
        self._post(self.resource("revokeCert"), wish)

    def sign_with(self, key: PrivateKeyTypes) -> None:
        """Sign everything that follows with a certificate's own key (§7.6). Raises
        `CertificateError` for a kind of key that ACME has no signatures for.
        """
        if isinstance(key, rsa.RSAPrivateKey):
            self.net.key, self.net.alg = JWKRSA(key=key), RS256
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            self.net.key = JWKEC(key=key)
            self.net.alg = ES384 if key.curve.key_size == _P384 else ES256
        else:
            raise CertificateError(Text("no request to a CA can be signed with a key of this kind"))
        self.net.account = None


def _facts(url: str, document: Mapping[str, Any]) -> AccountFacts:
    status, contacts = document["status"], document.get("contact", [])
    if not all(isinstance(word, str) for word in (status, *contacts)):
        raise TypeError(contacts)
    return AccountFacts(url, status, tuple(contacts))
