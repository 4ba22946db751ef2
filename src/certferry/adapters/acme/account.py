"""The account at a CA: one per directory, registered once, found again by its key."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace

from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC

from certferry.adapters.acme import csr
from certferry.adapters.acme.client import Client
from certferry.adapters.acme.problems import Refused
from certferry.core.certificate import KeyType
from certferry.core.secret import Secret
from certferry.errors import ConfigError, StateError
from certferry.ports.state import AcmeAccount, StateStore
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
