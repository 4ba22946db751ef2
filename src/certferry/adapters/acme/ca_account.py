"""The account at a CA, as an operator asks for it: shown, given another key, put out of use; and
what it has issued, revoked.

The requests about an account, and about certificates that were issued (RFC 8555 §7.3, §7.6).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from acme import jws, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from josepy.jwa import ES256, ES384, RS256
from josepy.jwk import JWKEC, JWKRSA

from certferry.adapters.acme import csr
from certferry.adapters.acme.account import Accounts, account_key, key_of
from certferry.adapters.acme.client import Client, read_answer
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.persist import remember_key
from certferry.adapters.acme.problems import Refused, in_our_words
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.certificates.pem import parse_key
from certferry.errors import CertificateError, PlanRefused, StateUnavailable
from certferry.ports.issuer import AccountFacts
from certferry.ports.progress import Pause
from certferry.ports.state import AcmeAccount, StateStore
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
        desired = messages.Revocation(certificate=leaf, reason=reason.code)
        self._post(self.resource("revokeCert"), desired)

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


_ALREADY = "alreadyRevoked"
_NOT_OURS = {"unauthorized", "accountDoesNotExist"}


class AcmeCaAccount:
    """See `ports.issuer.CaAccount`, of one directory."""

    def __init__(
        self,
        directory: str,
        state: StateStore,
        *,
        ca_bundle: Path | None,
        proxy: str | None = None,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._state = state
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._pause = pause
        self._now = now
        self._accounts = Accounts(directory, state)

    def facts(self) -> AccountFacts | None:
        """See `CaAccount.facts`."""
        if self._state.account(self._directory) is None:
            return None
        with self._client() as client:
            account = self._accounts.sign_in_if_known(client)
            if account is None or account.url is None:
                return AccountFacts(None, None)
            try:
                return client.account(account.url)
            except Refused as refused:
                if not self._accounts.is_unknown(client, account, refused):
                    raise
                return AccountFacts(account.url, None)

    def rollover(self) -> None:
        """See `CaAccount.rollover`."""
        with self._client() as client:
            account = self._with_next_key(self._signed_in(client))
            try:
                client.change_key(account.url or "", account_key(account), _next_key(account))
            except Refused as refused:
                # Also said when an earlier try was carried out and its answer was lost.
                if client.knows(_next_key(account)):
                    self._keep(account, _with_new_key(account))
                    return
                if refused.is_final:
                    self._keep(account, replace(account, next_key_pem=None))
                raise
            self._keep(account, _with_new_key(account))

    def deactivate(self) -> None:
        """See `CaAccount.deactivate`."""
        with self._client() as client:
            account = self._signed_in(client)
            try:
                client.deactivate(account.url or "")
            except Refused as refused:
                if not self._accounts.is_unknown(client, account, refused):
                    raise
            self._state.replace_account(account, None)

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        """See `CaAccount.revoke`."""
        leaf = x509.load_pem_x509_certificate(bundle.cert_pem.encode())
        with self._client() as client, _done_if_revoked_already():
            if self._accounts.sign_in_if_known(client) is not None:
                try:
                    client.revoke_certificate(leaf, reason)
                except Refused as refused:
                    if refused.kind not in _NOT_OURS or not bundle.key_matches:
                        raise
                else:
                    return
            client.sign_with(parse_key(bundle.privkey_pem))
            client.revoke_certificate(leaf, reason)

    def _signed_in(self, client: AccountClient) -> AcmeAccount:
        """Return the account that requests are signed for. Raises `PlanRefused`."""
        account = self._accounts.sign_in_if_known(client)
        if account is None:
            raise PlanRefused(
                Text("there is no account at {directory}", directory=self._directory),
                hint=Text("`certferry sync` makes one when a certificate is first ordered there"),
            )
        return account

    def _with_next_key(self, account: AcmeAccount) -> AcmeAccount:
        """Write the new key down before the CA hears of it; one from a try that was cut off is
        used.
        """
        if account.next_key_pem is not None:
            return account
        remember_key(self._state, self._directory, account_key(account))
        after = replace(account, next_key_pem=csr.new_key(KeyType.EC256))
        self._keep(account, after)
        return after

    def _keep(self, before: AcmeAccount, after: AcmeAccount) -> None:
        if not self._state.replace_account(before, after):
            raise StateUnavailable(
                Text("the account at {directory} was changed meanwhile", directory=self._directory),
                hint=Text("another run is at work; try again when it has ended"),
            )

    @contextlib.contextmanager
    def _client(self) -> Iterator[AccountClient]:
        network = Network(
            ca_bundle=self._ca_bundle, proxy=self._proxy, pause=self._pause, now=self._now
        )
        with in_our_words(self._now), contextlib.closing(network):
            yield AccountClient.at(self._directory, network)


@contextlib.contextmanager
def _done_if_revoked_already() -> Iterator[None]:
    """Take it for done that the certificate was revoked before, as by a run that was killed."""
    try:
        yield
    except Refused as refused:
        if refused.kind != _ALREADY:
            raise


def _next_key(account: AcmeAccount) -> JWKEC:
    return key_of(account.next_key_pem or account.key_pem, account.directory)


def _with_new_key(account: AcmeAccount) -> AcmeAccount:
    return replace(account, key_pem=account.next_key_pem or account.key_pem, next_key_pem=None)
