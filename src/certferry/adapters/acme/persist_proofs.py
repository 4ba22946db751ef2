"""Which names of an order their own records prove, by dns-persist-01; told before it is made where
neither a record nor an account proves one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from certferry.adapters.acme.order_context import Propagation
from certferry.adapters.acme.persist_look import Looked, PersistLook, holder_in
from certferry.adapters.acme.provable import unwritable
from certferry.adapters.acme.resolvers import Resolvers
from certferry.core.dns_persist import Offer
from certferry.core.identifiers import base_name
from certferry.errors import DnsError, RecordMissing, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.state import StateStore
from certferry.text import Text

NOT_OFFERED = Text(
    "the CA's directory does not offer dns-persist-01 as draft -02 has it (`issuerDomainNames`,"
    " `accountHashPrefix`)"
)
NO_ACCOUNT = Text("there is no account at the CA yet that a record could name")
MAKE_ACCOUNT = Text("`certferry dns-persist {name}` makes it, and prints the record to set")
SET_RECORD = Text("set this record once, by hand: {record}")


class PersistProofs:
    """Looks for records at one directory, whose offer is remembered: `read_offer` gives it, and
    raises `IssuanceError`.
    """

    def __init__(
        self,
        directory: str,
        state: StateStore,
        resolvers: Resolvers,
        now: Callable[[], datetime],
        read_offer: Callable[[], Offer | None],
    ) -> None:
        self._directory = directory
        self._state = state
        self._resolvers = resolvers
        self._now = now
        self._read_offer = read_offer
        self._known: list[Offer | None] = []

    def proven(self, names: Sequence[str]) -> frozenset[str]:
        """Return the names, without `*.`, that a record proves now. Raises `IssuanceError`."""
        look = self._look()
        looked = look.look(names) if isinstance(look, PersistLook) else []
        return frozenset(one.name for one in looked if one.is_proven)

    def must_be_provable(
        self, names: Sequence[str], dns: DnsProvider, propagation: Propagation
    ) -> frozenset[str]:
        """Return the names, without `*.`, that a record proves. Raises `RecordMissing` with what
        to set where the others are not an account's to prove, `DnsError` and `IssuanceError`.
        """
        look = self._look()
        looked = look.look(names) if isinstance(look, PersistLook) else []
        proven = frozenset(one.name for one in looked if one.is_proven)
        left = [name for name in names if base_name(name) not in proven]
        missing = dict(unwritable(left, dns, propagation))
        if not missing:
            return proven
        if isinstance(look, Text):
            raise _not_to_be_had(missing, look)
        raise _missing([(one, missing[one.name]) for one in looked if one.name in missing])

    def _look(self) -> PersistLook | Text:
        """Return what looks for the records, or why there can be none."""
        offer = self._offer()
        if offer is None:
            return NOT_OFFERED
        holder = holder_in(self._state, self._directory)
        if holder is None:
            return NO_ACCOUNT
        return PersistLook(offer, holder, self._resolvers, self._now)

    def _offer(self) -> Offer | None:
        # Several at once may read it: behind a lock, each would wait for a CA that is silent.
        if not self._known:
            self._known.append(self._read_offer())
        return self._known[0]


def _not_to_be_had(missing: dict[str, ZoneNotFound], why: Text) -> RecordMissing:
    name, problem = next(iter(missing.items()))
    said = Text("{one}; {other}", one=problem.message, other=why)
    make = MAKE_ACCOUNT.filled(name=name)
    return RecordMissing(said, hint=problem.hint if why is NOT_OFFERED else make)


def _missing(found: Sequence[tuple[Looked, ZoneNotFound]]) -> DnsError:
    """Tell all of it at once: each record is set by hand."""
    [(_, problem), *_] = found
    said = problem.message
    for one, _ in found:
        said = Text("{one}; {other}", one=said, other=one.why)
    for one, _ in found:
        if isinstance(one.found, DnsError):
            return type(one.found)(said, hint=one.found.hint, retry=one.found.retry)
    records = [one.record.as_zone_line for one, _ in found]
    return RecordMissing(said, hint=SET_RECORD.filled(record="\n".join(records)))
