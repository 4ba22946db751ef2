"""Lists of certificates: the state of each, the filters, and the pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, datetime, timedelta

from msgspec import Struct

from certferry.console.causes import page_number
from certferry.console.snapshot import Snapshot
from certferry.core.assessment.agenda import DAYS, Life
from certferry.core.desired.certificate import DesiredCertificate
from certferry.errors import Severity
from certferry.text import Text

STATES = {
    "trouble": Text("needs attention"),
    "soon": Text("in the next 14 days"),
    "ok": Text("in order"),
}
"""The states by which a list can be filtered."""

_DAY = timedelta(days=1)


class State(Struct, frozen=True):
    """How a certificate stands."""

    #: The class of the badge.
    level: str
    #: The standing in a word or two.
    word: Text


def state_of(life: Life) -> State:
    """Return how a certificate stands, judged from the stored records alone."""
    if life.concerns:
        return State(life.severity, Text("needs attention"))
    if life.is_owned_elsewhere:
        return State("", Text("not needed"))
    if life.is_pending:
        return State(Severity.NOTICE, Text("pending"))
    return State(Severity.OK, Text("in order"))


class Wanted(Struct, frozen=True):
    """A filter of certificates. Empty values filter nothing."""

    #: One of `STATES`.
    state: str = ""
    #: Words in a name or domain.
    words: str = ""
    #: The moment at which a day begins. The certificate has a milestone on that day.
    day: datetime | None = None
    #: The label of an account. The certificate uses the account, for DNS or as a target.
    account: str = ""


class ListView(Struct, frozen=True):
    """A page of matching certificates, the first to end at the top."""

    lives: Sequence[Life]
    #: The number of all matching certificates.
    count: int
    #: The number of this page, from 1.
    number: int
    pages: int
    #: The position of this page's first certificate, from 1.
    first: int


def list_view(stored: Snapshot, wanted: Wanted, asked: str, size: int) -> ListView:
    """Return the page `asked` of the matching certificates, or the nearest page, with `size`
    certificates a page.
    """
    words = wanted.words.casefold().split()
    matching = [
        life
        for life in stored.agenda.lives
        if _is_in(wanted.state, life, stored.at)
        and (not wanted.account or wanted.account in _accounts(life, stored))
        and (wanted.day is None or _comes(life, stored.at, wanted.day, wanted.day + _DAY))
        and _has(words, life, stored)
    ]
    pages = max(-(-len(matching) // size), 1)
    number = page_number(asked, pages)
    first = (number - 1) * size
    return ListView(matching[first : first + size], len(matching), number, pages, first + 1)


def _is_in(state: str, life: Life, now: datetime) -> bool:
    if state == "trouble":
        return bool(life.concerns)
    if state == "soon":
        return _comes(life, now, now, now + DAYS * _DAY)
    return state != "ok" or state_of(life).level == Severity.OK


def _comes(life: Life, now: datetime, begin: datetime, end: datetime) -> bool:
    return any(begin <= milestone.at < end for milestone in life.coming(now))


def _accounts(life: Life, stored: Snapshot) -> set[str]:
    desired = stored.declared.get(life.lineage)
    return set() if desired is None else accounts_of(desired)


def accounts_of(desired: DesiredCertificate) -> set[str]:
    """Return the labels of the accounts that a certificate uses, for DNS and as targets."""
    return {*desired.dns_accounts, *(deployment.target for deployment in desired.deployments)}


def _has(words: Sequence[str], life: Life, stored: Snapshot) -> bool:
    """Return whether every word is in a name or domain of the certificate."""
    if not words:
        return True
    texts = (life.lineage, *stored.names(life.lineage), *(place.domain for place in life.places))
    searched = " ".join(texts).casefold()
    return all(word in searched for word in words)


def day_of(asked: str) -> datetime | None:
    """Return the moment in a query; `None` if the text is not a usable moment with a zone."""
    try:
        moment = datetime.fromisoformat(asked)
    except ValueError:
        return None
    is_usable = moment.tzinfo is not None and MINYEAR < moment.year < MAXYEAR
    return moment if is_usable else None
