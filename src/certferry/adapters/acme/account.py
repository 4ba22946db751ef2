"""The account at a CA: one per directory, registered once, found again by its key."""

from __future__ import annotations

import threading
from dataclasses import replace

from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC

from certferry.adapters.acme import csr
from certferry.adapters.acme.client import Client
from certferry.adapters.acme.problems import Refused
from certferry.core.certificate import KeyType
from certferry.core.external_account import ExternalAccount
from certferry.errors import StateError
from certferry.ports.state import AcmeAccount, StateStore
from certferry.text import Text


class Accounts:
    """The account at `directory`, for every order of this process."""

    def __init__(
        self,
        directory: str,
        state: StateStore,
        *,
        email: str | None = None,
        external: ExternalAccount | None = None,
    ) -> None:
        self._directory = directory
        self._state = state
        self._email = email
        self._external = external
        # Orders that begin at once must not register one account each.
        self._registering = threading.Lock()

    def sign_in(self, client: Client) -> AcmeAccount:
        """Sign the client's requests for the account, which is registered first if need be."""
        with self._registering:
            account = self._state.account(self._directory) or self._new()
            while account.url is None:
                account = self._register(client, account)
        client.sign_in(_account_key(account), account.url)
        return account

    def is_unknown(self, client: Client, account: AcmeAccount, refused: Refused) -> bool:
        """Tell whether a request was refused because the CA no longer knows the account.

        `unauthorized` may have other reasons, so the CA is asked about the account itself. The
        client is to sign in again afterwards.
        """
        if refused.kind == "accountDoesNotExist":
            return True
        return refused.kind == "unauthorized" and not client.knows(_account_key(account))

    def forget(self, account: AcmeAccount) -> None:
        """Forget an account that the CA no longer knows, unless it has been replaced already."""
        self._state.forget_account(account.directory, account.key_pem)

    def _new(self) -> AcmeAccount:
        # The key is kept before the CA is asked, so that a run that is killed after the CA has
        # registered it finds its account again.
        account = AcmeAccount(self._directory, csr.new_key(KeyType.EC256))
        return self._state.save_account(account)

    def _register(self, client: Client, account: AcmeAccount) -> AcmeAccount:
        external = self._external
        binding = None if external is None else (external.kid, external.hmac_key.reveal())
        url = client.register(_account_key(account), self._email, binding)
        return self._state.save_account(replace(account, url=url))


def _account_key(account: AcmeAccount) -> JWKEC:
    try:
        key = JWKEC.load(account.key_pem.reveal().encode())
    except JoseError:
        key = None
    if not isinstance(key, JWKEC):
        raise StateError(
            Text("the account key for {directory} cannot be read", directory=account.directory)
        )
    return key
