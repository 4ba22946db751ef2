"""Where Qiniu answers each of its calls, and which signature it takes there: tried in an order,
and what worked is remembered.

Programs that run in production disagree: what one host and scheme does for most accounts, it
refuses for others with 401, or does not know (404) (docs/facts/qiniu.md §1.2, §6.2,
§6.3, §6.4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlsplit

from certferry.ports.account_memory import AccountMemory

log = logging.getLogger(__name__)

_UNAUTHORIZED = frozenset({HTTPStatus.UNAUTHORIZED})
_UNAUTHORIZED_OR_ABSENT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND})


class Scheme(StrEnum):
    """The two signatures, by the word that begins the Authorization header."""

    QBOX = "QBox"
    QINIU = "Qiniu"


class CallGroup(StrEnum):
    """Calls that one host answers under one scheme; the words are those of the notes."""

    CERTIFICATES = "sslcert"
    DOMAINS = "domain"
    BUCKETS = "buckets"
    BUCKET_DOMAINS = "bucket domains"
    BINDINGS = "bindings"
    BIND = "bind"
    LIVE = "pili"

    @property
    def refusals(self) -> frozenset[int]:
        """The statuses that ask for another way. A 404 about a domain or a bucket is an answer, and
        so is whatever Pili says, to which there is one way.
        """
        if self is CallGroup.LIVE:
            return frozenset()
        answers_404 = {CallGroup.DOMAINS, CallGroup.BUCKET_DOMAINS, CallGroup.BIND}
        return _UNAUTHORIZED if self in answers_404 else _UNAUTHORIZED_OR_ABSENT

    @property
    def has_backup(self) -> bool:
        """Whether another host is asked when there is no connection to the first."""
        return self in {CallGroup.BUCKETS, CallGroup.BUCKET_DOMAINS, CallGroup.BINDINGS}


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where Qiniu is: base URLs, without a slash at the end. A backup is "" where there is none,
    and so is Pili.
    """

    api: str
    fusion: str
    uc: str
    api_backup: str = ""
    uc_backup: str = ""
    pili: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """A host, by its base URL, and a scheme; `form` tells calls apart that ask for the same."""

    url: str
    scheme: Scheme
    form: str = ""

    @property
    def host(self) -> str:
        """The host's name, with a port that is not the usual one."""
        return urlsplit(self.url).netloc

    def __str__(self) -> str:
        """Name it for the operator."""
        return f"{self.host} ({self.scheme}{', ' if self.form else ''}{self.form})"

    @property
    def as_note(self) -> str:
        """Spell it for the account's notes."""
        return f"{self.scheme} {self.url} {self.form}".rstrip()


SOURCE_FORM = "/domain?bucket="
"""The second of uc's calls that list a bucket's domains (§6.4)."""


def ways_of(hosts: Hosts) -> Mapping[CallGroup, tuple[Way, ...]]:
    """Return the ways of each group of calls, first what works for most accounts."""
    qbox, qiniu = Scheme.QBOX, Scheme.QINIU
    api, fusion, uc = hosts.api, hosts.fusion, hosts.uc
    ways: Mapping[CallGroup, Iterable[Way]] = {
        # fusion as in the documents of 2026 and several programs, api as in acme.sh and certimate.
        CallGroup.CERTIFICATES: (Way(fusion, qbox), Way(api, qbox), Way(api, qiniu)),
        CallGroup.DOMAINS: (Way(api, qiniu), Way(api, qbox)),
        CallGroup.BUCKETS: (Way(uc, qiniu), Way(hosts.uc_backup, qiniu)),
        CallGroup.BUCKET_DOMAINS: (
            Way(uc, qiniu),
            Way(hosts.uc_backup, qiniu),
            Way(uc, qiniu, SOURCE_FORM),
        ),
        # uc since 2024-11, api.qiniuapi.com before that.
        CallGroup.BINDINGS: (
            Way(uc, qiniu),
            Way(api, qbox),
            Way(api, qiniu),
            Way(hosts.api_backup, qiniu),
        ),
        CallGroup.BIND: (Way(api, qbox), Way(api, qiniu)),
        CallGroup.LIVE: (Way(hosts.pili, qiniu),),
    }
    return {group: tuple(way for way in found if way.url) for group, found in ways.items()}


class Ways:
    """The ways of one account. A way other than the first that worked is tried first from then on,
    also by later runs, until it works no more.
    """

    def __init__(self, hosts: Hosts, memory: AccountMemory) -> None:
        self._ways = ways_of(hosts)
        self._memory = memory
        self._remembered: dict[CallGroup, Way | None] = {}

    def of(self, group: CallGroup) -> tuple[Way, ...]:
        """Return the ways of a group, in the order in which to try them."""
        ways = self._ways[group]
        if group not in self._remembered:
            noted = self._memory.note(_name(group))
            known = (way for way in ways if way.as_note == noted)
            self._remembered[group] = next(known, None)
        first = self._remembered[group]
        return ways if first is None else (first, *(way for way in ways if way != first))

    def worked(self, group: CallGroup, way: Way) -> None:
        """Remember a way. The first of all needs no note."""
        if way != self._ways[group][0] and self._remembered.get(group) != way:
            log.info("Qiniu takes %s at %s", group, way)
            self._remembered[group] = way
            self._memory.update(_name(group), lambda _: way.as_note)

    def failed(self, group: CallGroup, way: Way) -> None:
        """Forget a way, if it is the one that is remembered."""
        if self._remembered.get(group) == way:
            self._remembered[group] = None
            self._memory.update(_name(group), lambda _: None)


def _name(group: CallGroup) -> str:
    return f"way: {group}"
