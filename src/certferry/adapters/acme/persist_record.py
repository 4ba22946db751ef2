"""The record of dns-persist-01 that proves a name, made for an operator to set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from certferry.adapters.acme.account import Accounts, account_key
from certferry.adapters.acme.ca_account import AccountClient
from certferry.adapters.acme.issuer import Settings
from certferry.adapters.acme.network import Network
from certferry.adapters.acme.persist import NOT_OFFERED, thumbprint
from certferry.adapters.acme.problems import Refused, in_our_words
from certferry.core.certificates.names import base_name
from certferry.core.dns_persist import Holder, Offer, PersistRecord, record_for
from certferry.errors import OrderFailed
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore
from certferry.text import Text


def persist_record(
    name: str,
    settings: Settings,
    *,
    wildcard: bool,
    state: StateStore,
    pause: Pause,
    now: Callable[[], datetime],
) -> PersistRecord:
    """Return the record that proves a name to the CA, with its wildcard if asked. The account that
    it names is registered where there is none yet, and asked for with the key that it is made with
    (draft-ietf-acme-dns-persist-02 §4.5). Raises `IssuanceError` and `StateError`.
    """
    network = Network(ca_bundle=settings.ca_bundle, proxy=settings.proxy, pause=pause, now=now)
    with in_our_words(now), contextlib.closing(network):
        client = AccountClient.at(settings.directory, network)
        offer = _offer_of(client)
        holder = _signed_in(client, settings, state)
        return record_for(base_name(name), offer, holder, wildcard=wildcard)


def _offer_of(client: AccountClient) -> Offer:
    if client.offer is None:
        raise OrderFailed(
            NOT_OFFERED, hint=Text("until it does, challenges are written by an account (`dns`)")
        )
    return client.offer


def _signed_in(client: AccountClient, settings: Settings, state: StateStore) -> Holder:
    """Return an account that the CA knows and takes requests of: another where it has forgotten the
    one that there was.
    """
    accounts = Accounts(settings.directory, state, email=settings.email, external=settings.external)
    account = accounts.sign_in(client)
    try:
        facts = client.account(account.url or "")
    except Refused as refused:
        if not accounts.is_unknown(client, account, refused):
            raise
        accounts.forget(client, account)
        account = accounts.sign_in(client)
        facts = client.account(account.url or "")
    if facts.status != "valid":
        raise OrderFailed(
            Text("the account {url} is {status} at the CA", url=facts.url, status=facts.status),
            hint=Text("`certferry account deactivate` puts it out of use here as well"),
        )
    return Holder(account.url or "", (thumbprint(account_key(account)),))
