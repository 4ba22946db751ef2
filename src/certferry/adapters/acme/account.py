"""The account at a CA: one per directory, registered once, found again by its key."""

from __future__ import annotations

import threading
from dataclasses import replace

from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC

from certferry.adapters.acme import csr
from certferry.adapters.acme.client import Client
from certferry.adapters.acme.problems import Refused
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import ExternalAccount
from certferry.core.secret import Secret
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
            account = self._settled(client, self._state.account(self._directory) or self._new())
            while account.url is None:
                account = self._register(client, account)
        client.sign_in(account_key(account), account.url)
        return account

    def sign_in_if_known(self, client: Client) -> AcmeAccount | None:
        """Sign the client's requests for the account that there is, if there is one."""
        account = self._state.account(self._directory)
        if account is None or account.url is None:
            return None
        account = self._settled(client, account)
        if account.url is not None:
            client.sign_in(account_key(account), account.url)
        return account

    def is_unknown(self, client: Client, account: AcmeAccount, refused: Refused) -> bool:
        """Tell whether a request was refused because the CA no longer knows the account.

        `unauthorized` may have other reasons, so the CA is asked about the account itself. The
        client is to sign in again afterwards.
        """
        if refused.kind == "accountDoesNotExist":
            return True
        return refused.kind == "unauthorized" and not client.knows(account_key(account))

    def forget(self, client: Client, account: AcmeAccount) -> None:
        """Forget an account that the CA no longer knows, unless it has been replaced already, or is
        known by its next key.
        """
        if account.next_key_pem is None:
            self._state.forget_account(account.directory, account.key_pem)
        elif self._settled(client, account) == account:
            self._state.replace_account(account, None)

    def _settled(self, client: Client, account: AcmeAccount) -> AcmeAccount:
        """Return the account with the key that is in force: after a change that was cut off, the CA
        tells which of the two that is.
        """
        next_key = account.next_key_pem
        if next_key is None or not client.knows(key_of(next_key, account.directory)):
            return account
        after = replace(account, key_pem=next_key, next_key_pem=None)
        if self._state.replace_account(account, after):
            return after
        return self._state.account(account.directory) or account

    def _new(self) -> AcmeAccount:
        # The key is kept before the CA is asked, so that a run that is killed after the CA has
        # registered it finds its account again.
        account = AcmeAccount(self._directory, csr.new_key(KeyType.EC256))
        return self._state.save_account(account)

    def _register(self, client: Client, account: AcmeAccount) -> AcmeAccount:
        external = self._external
        binding = None if external is None else (external.kid, external.hmac_key.reveal())
        url = client.register(account_key(account), self._email, binding)
        return self._state.save_account(replace(account, url=url))


def account_key(account: AcmeAccount) -> JWKEC:
    """Return the key that an account's requests are signed with. Raises `StateError`."""
    return key_of(account.key_pem, account.directory)


def key_of(key_pem: Secret, directory: str) -> JWKEC:
    """Read the key of an account at a directory. Raises `StateError`."""
    try:
        key = JWKEC.load(key_pem.reveal().encode())
    except JoseError:
        key = None
    if not isinstance(key, JWKEC):
        raise StateError(
            Text("the account key for {directory} cannot be read", directory=directory)
        )
    return key
