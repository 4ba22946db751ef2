"""ACME accounts, one per CA directory: registration, and changes asked for by operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from cryptography import x509
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC

from certferry.adapters.acme import csr
from certferry.adapters.acme.acme_client import Client, opened
from certferry.adapters.acme.network import IssuerSettings
from certferry.adapters.acme.problems import Refused
from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.certificates.pem import parse_key
from certferry.core.dns_persist import Holder
from certferry.core.redaction import Secret
from certferry.errors import LeaseHeld, PlanRefused, StateError, StateUnavailable
from certferry.ports.issuer import AccountFacts
from certferry.ports.progress import Pause
from certferry.ports.state import AcmeAccount, Lease, StateStore, holding
from certferry.text import Text
from certferry.values import replace

_EARLIER_KEYS = "earlier keys"
"""Name of the stored note with the thumbprints of a directory's replaced account keys."""

_REST = 0.25  # seconds between two tries to take the account's lease
_PATIENCE = timedelta(minutes=3)
"""How long to wait for another run's lease: longer than the lease of a dead host lasts."""

_T = TypeVar("_T")

_NOT_OURS = {"unauthorized", "accountDoesNotExist"}


class AccountKeeper:
    """The account at one directory, shared by all runs on all hosts that use the state.

    The account has a lease of its own. A run holds that lease while the run registers the account
    or replaces the account's key.
    """

    def __init__(
        self, settings: IssuerSettings, state: StateStore, pause: Pause, now: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._directory = settings.directory
        self._state = state
        self._pause = pause
        self._now = now

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Wait for the account's lease and hold the lease for a `with` block.

        Raises `StateUnavailable` if another run keeps the lease for too long.
        """
        lease = self._taken()
        deadline = self._now() + _PATIENCE
        while lease is None:
            if self._now() > deadline:
                raise _at_work(self._directory)
            self._pause(_REST)
            lease = self._taken()
        try:
            with holding(self._state, lease):
                yield
        finally:
            self._state.release(lease)

    def _taken(self) -> Lease | None:
        with suppress(LeaseHeld):  # no lineage has this name
            return self._state.acquire(f"\1account {self._directory}", self._now())
        return None

    def sign_in(self, client: Client) -> AcmeAccount:
        """Register the account if needed, have the client sign requests for the account, and return
        the account. Raises `IssuanceError` and `StateError`.
        """
        account = self._state.account(self._directory)
        if account is None or account.url is None or account.next_key_pem is not None:
            with self.lease():  # another run may have stored an account meanwhile
                account = self._settled(client, self._state.account(self._directory) or self._new())
                while account.url is None:
                    account = self._register(client, account)
        client.sign_in(account_key(account), account.url)
        return account

    def sign_in_if_known(self, client: Client) -> AcmeAccount | None:
        """Have the client sign requests for the stored account, and return the account. Return
        `None` if the state has no registered account.
        """
        account = self._state.account(self._directory)
        if account is None or account.url is None:
            return None
        account = self._settled(client, account)
        if account.url is not None:
            client.sign_in(account_key(account), account.url)
        return account

    def is_unknown(self, client: Client, account: AcmeAccount, refused: Refused) -> bool:
        """Return whether a request was refused because the CA has no valid account for the key."""
        if refused.kind == "accountDoesNotExist":
            return True
        return refused.kind == "unauthorized" and not client.knows(account_key(account))

    def for_account(self, client: Client, request: Callable[[AcmeAccount], _T]) -> _T:
        """Sign in, make a request, and return the result. If the CA does not know the account,
        repeat the request once, with the key in force or with a new account.
        """
        account = self.sign_in(client)
        try:
            return request(account)
        except Refused as refused:
            if not self.is_unknown(client, account, refused):
                raise
        # The state may have another account by now, stored by another run. The CA may have the next
        # key already.
        if account.next_key_pem is None:
            self._state.forget_account(account.directory, account.key_pem)
        elif self._settled(client, account) == account:
            self._state.replace_account(account, None)
        return request(self.sign_in(client))

    def _settled(self, client: Client, account: AcmeAccount) -> AcmeAccount:
        """Return the account with the key in force.

        If a change of the key was interrupted, ask the CA which key is in force.
        """
        next_key = account.next_key_pem
        if next_key is None or not client.knows(key_of(next_key, account.directory)):
            return account
        after = _with_new_key(account)
        if self._state.replace_account(account, after):
            return after
        return self._state.account(account.directory) or account

    def _new(self) -> AcmeAccount:
        # The key is stored before the CA is asked. If the run is killed during the registration,
        # the next run finds the account at the CA by the key.
        account = AcmeAccount(self._directory, csr.new_key(KeyType.EC256))
        return self._state.save_account(account)

    def _register(self, client: Client, account: AcmeAccount) -> AcmeAccount:
        external = self._settings.external
        binding = None if external is None else (external.kid, external.hmac_key.reveal())
        url = client.register(account_key(account), self._settings.email, binding)
        return self._state.save_account(replace(account, url=url))


class AcmeCaAccount:
    """The `ports.issuer.CaAccount` of one directory."""

    def __init__(
        self, settings: IssuerSettings, state: StateStore, pause: Pause, now: Callable[[], datetime]
    ) -> None:
        self._directory = settings.directory
        self._state = state
        self._accounts = AccountKeeper(settings, state, pause, now)
        self._open = partial(opened, settings, pause, now)

    def facts(self) -> AccountFacts | None:
        if self._state.account(self._directory) is None:
            return None
        with self._open() as client:
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
        with self._signed_in() as (client, stored):
            account = self._with_next_key(stored)
            new_key = account_key(_with_new_key(account))
            try:
                client.change_key(account.url or "", account_key(account), new_key)
            except Refused as refused:
                # An earlier try may have succeeded although the answer was lost. The CA then
                # refuses this try, and knows the new key.
                if not client.knows(new_key):
                    if refused.is_final:
                        self._keep(account, replace(account, next_key_pem=None))
                    raise
            self._keep(account, _with_new_key(account))

    def deactivate(self) -> None:
        with self._signed_in() as (client, account):
            try:
                client.deactivate(account.url or "")
            except Refused as refused:
                if not self._accounts.is_unknown(client, account, refused):
                    raise
            self._state.replace_account(account, None)

    def revoke(self, bundle: CertificateBundle, reason: RevocationReason) -> None:
        leaf = x509.load_pem_x509_certificate(bundle.cert_pem.encode())
        with self._open() as client:
            try:
                if self._accounts.sign_in_if_known(client) is not None:
                    try:
                        return client.revoke_certificate(leaf, reason)
                    except Refused as refused:
                        if refused.kind not in _NOT_OURS or not bundle.key_matches:
                            raise
                client.sign_with(parse_key(bundle.privkey_pem))
                client.revoke_certificate(leaf, reason)
            except Refused as refused:
                if refused.kind != "alreadyRevoked":  # for example by a killed run
                    raise

    @contextmanager
    def _signed_in(self) -> Iterator[tuple[Client, AcmeAccount]]:
        """Hold the lease and sign in to the account. Raises `PlanRefused` without an account."""
        with self._accounts.lease(), self._open() as client:
            account = self._accounts.sign_in_if_known(client)
            if account is None:
                message = Text("there is no account at {directory}", directory=self._directory)
                hint = Text("`certferry sync` creates an account with the first order at the CA")
                raise PlanRefused(message, hint=hint)
            yield client, account

    def _with_next_key(self, account: AcmeAccount) -> AcmeAccount:
        """Store a new key, and the thumbprint of the present key, before the CA gets the new key.
        Return the account with both keys. If an earlier try stored a new key, use that key.

        The thumbprint is kept because a dns-persist-01 record that names the present key stays
        valid afterwards (draft-ietf-acme-dns-persist-02 §4.2).
        """
        if account.next_key_pem is not None:
            return account
        key = thumbprint(account_key(account))

        def added(note: str | None) -> str:
            return " ".join(dict.fromkeys([key, *(note or "").split()]))

        self._state.update_account_note(self._directory, _EARLIER_KEYS, added)
        after = replace(account, next_key_pem=csr.new_key(KeyType.EC256))
        self._keep(account, after)
        return after

    def _keep(self, before: AcmeAccount, after: AcmeAccount) -> None:
        if not self._state.replace_account(before, after):
            raise _at_work(self._directory)


def _at_work(directory: str) -> StateUnavailable:
    return StateUnavailable(
        Text("another run is working on the account at {directory}", directory=directory),
        hint=Text("try again after that run has ended"),
    )


def holder_in(state: StateStore, directory: str) -> Holder | None:
    """Return the URL of the account at a directory, and the thumbprints of all keys that the
    account has or had: a dns-persist-01 record may name any of these keys.

    Return `None` if no account is registered. Raises `StateError`.
    """
    account = state.account(directory)
    if account is None or account.url is None:
        return None
    # After an interrupted change of keys, either key may be in force.
    keys = [key_of(k, directory) for k in (account.key_pem, account.next_key_pem) if k is not None]
    earlier = (state.account_note(directory, _EARLIER_KEYS) or "").split()
    return Holder(account.url, tuple(dict.fromkeys([*map(thumbprint, keys), *earlier])))


def thumbprint(key: JWKEC) -> str:
    """Return the thumbprint of a key (RFC 7638), in base64url."""
    return b64encode(key.thumbprint()).decode()


def account_key(account: AcmeAccount) -> JWKEC:
    """Return the key that signs an account's requests. Raises `StateError`."""
    return key_of(account.key_pem, account.directory)


def key_of(key_pem: Secret, directory: str) -> JWKEC:
    """Read the key of an account at a directory. Raises `StateError`."""
    with suppress(JoseError):
        key = JWKEC.load(key_pem.reveal().encode())
        if isinstance(key, JWKEC):
            return key
    raise StateError(Text("the account key for {directory} cannot be read", directory=directory))


def _with_new_key(account: AcmeAccount) -> AcmeAccount:
    return replace(account, key_pem=account.next_key_pem or account.key_pem, next_key_pem=None)
