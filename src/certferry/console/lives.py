"""Make lists of certificates: filter the certificates, divide them into pages, and give each
certificate a state in a word or two.
"""

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
    """The state of a certificate, as a badge."""

    #: The class of the badge.
    level: str
    #: The state in a word or two.
    word: Text


def state_of(life: Life) -> State:
    """Return the state of a certificate, judged by the stored records alone."""
    if life.concerns:
        return State(life.severity, Text("needs attention"))
    if life.is_owned_elsewhere:
        return State("", Text("not needed"))
    if life.is_pending:
        return State(Severity.NOTICE, Text("pending"))
    return State(Severity.OK, Text("in order"))


class Wanted(Struct, frozen=True):
    """A filter of certificates. Empty values filter nothing."""

    #: A key of `STATES`: only certificates in this state.
    state: str = ""
    #: Words: only certificates with each word in a name or domain.
    words: str = ""
    #: The beginning of a day: only certificates with a milestone within 24 hours from then.
    day: datetime | None = None
    #: The label of an account: only certificates that use the account, for DNS or as a target.
    account: str = ""


class ListView(Struct, frozen=True):
    """A page of the certificates that match a filter, the first to end at the top."""

    #: The certificates on this page.
    lives: Sequence[Life]
    #: The number of all matching certificates.
    count: int
    #: The number of this page, from 1.
    number: int
    #: The number of pages.
    pages: int
    #: The position of this page's first certificate, from 1.
    first: int


def list_view(stored: Snapshot, wanted: Wanted, asked: str, size: int) -> ListView:
    """Return a page of the certificates that match `wanted`, with `size` certificates a page.
    `asked` has the number of the page (see `page_number`).
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
    """Return the moment in a query; `None` if the text is no moment with an offset from UTC, or if
    a calculation with the moment could overflow.
    """
    try:
        moment = datetime.fromisoformat(asked)
    except ValueError:
        return None
    is_usable = moment.tzinfo is not None and MINYEAR < moment.year < MAXYEAR
    return moment if is_usable else None
