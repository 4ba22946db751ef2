"""The account at a CA, as an operator asks for it: shown, given another key, put out of use; and
what it has issued, revoked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from josepy.jwk import JWKEC

from certferry.adapters.acme import csr
from certferry.adapters.acme.account import Accounts, account_key, key_of
from certferry.adapters.acme.account_requests import AccountClient
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.persist_look import remember_key
from certferry.adapters.acme.problems import Refused, in_our_words
from certferry.core.certificate import CertificateBundle, KeyType
from certferry.core.pem import parse_key
from certferry.core.revocation import RevocationReason
from certferry.errors import PlanRefused, StateUnavailable
from certferry.ports.ca_account import AccountFacts
from certferry.ports.progress import Pause
from certferry.ports.state import AcmeAccount, StateStore
from certferry.text import Text

_ALREADY = "alreadyRevoked"
_NOT_OURS = {"unauthorized", "accountDoesNotExist"}


class AcmeCaAccount:
    """See `ports.ca_account.CaAccount`, of one directory."""

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

    def look(self) -> AccountFacts | None:
        """See `CaAccount.look`."""
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
