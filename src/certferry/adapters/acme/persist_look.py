"""Look for the records that prove names by dns-persist-01, and judge them as the CA will."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from josepy.b64 import b64encode
from josepy.jwk import JWKEC

from certferry.adapters.acme.account import account_key, key_of
from certferry.adapters.acme.names_look import AT_ONCE
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.dns_persist import (
    Holder,
    Offer,
    PersistRecord,
    Verdict,
    judge,
    record_for,
    record_name,
    with_wildcards,
)
from certferry.errors import DnsError
from certferry.ports.state import StateStore
from certferry.text import Text

_NOTE = "earlier keys"


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found for a name without `*.`: the `record` that would prove it, and what those that
    are there are worth, or why that is not known.
    """

    name: str
    record: PersistRecord
    found: Verdict | DnsError

    @property
    def is_proven(self) -> bool:
        """Whether a record proves the name."""
        return isinstance(self.found, Verdict) and self.found.fault is None

    @property
    def why(self) -> Text:
        """Why none does."""
        if isinstance(self.found, DnsError):
            return self.found.message
        assert self.found.fault is not None  # noqa: S101 - for the type checker
        return self.found.fault.value.filled(place=self.record.name)


@dataclass(frozen=True, slots=True)
class PersistLook:
    """Looks through resolvers for what names an account at a CA."""

    offer: Offer
    holder: Holder
    resolvers: Resolvers
    now: Callable[[], datetime]

    def look(self, names: Iterable[str]) -> list[Looked]:
        """Look at the names, each of which is judged with its wildcard if that is among them."""
        wanted = with_wildcards(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._looked, wanted, wanted.values()))

    def _looked(self, name: str, wildcard: bool) -> Looked:  # noqa: FBT001 - as `map` gives it
        record = record_for(name, self.offer, self.holder, wildcard=wildcard)
        return Looked(name, record, self._judged(name, wildcard=wildcard))

    def _judged(self, name: str, *, wildcard: bool) -> Verdict | DnsError:
        try:
            values = self.resolvers.txt(record_name(name))
        except DnsError as problem:
            return problem
        return judge(values, name, self.offer, self.holder, self.now(), wildcard=wildcard)


def holder_in(state: StateStore, directory: str) -> Holder | None:
    """Return the account at a directory as records name it, `None` before there is one. Raises
    `StateError`.
    """
    account = state.account(directory)
    if account is None or account.url is None:
        return None
    keys = [account_key(account)]
    if account.next_key_pem is not None:  # after a change that was cut off, either is in force
        keys.append(key_of(account.next_key_pem, directory))
    earlier = (state.account_note(directory, _NOTE) or "").split()
    return Holder(account.url, tuple(dict.fromkeys([*map(thumbprint, keys), *earlier])))


def remember_key(state: StateStore, directory: str, key: JWKEC) -> None:
    """Keep the thumbprint of a key that is about to be replaced: the CA goes on to take records
    that were made with it (draft-ietf-acme-dns-persist-02 §4.2).
    """

    def added(note: str | None) -> str:
        return " ".join(dict.fromkeys([thumbprint(key), *(note or "").split()]))

    state.update_account_note(directory, _NOTE, added)


def thumbprint(key: JWKEC) -> str:
    """Return the thumbprint of a key (RFC 7638), in base64url."""
    return b64encode(key.thumbprint()).decode()
