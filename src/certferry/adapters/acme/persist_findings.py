"""What a look at the records of dns-persist-01 finds: those that prove names, and those to set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from certferry.adapters.acme.persist_look import Looked
from certferry.adapters.acme.persist_proofs import (
    MAKE_ACCOUNT,
    NO_ACCOUNT,
    NOT_OFFERED,
    SET_RECORD,
)
from certferry.core.dns_persist import Fault, Holder, Offer
from certferry.core.findings import Code, Finding, Severity, info, of_error, warning
from certferry.core.identifiers import base_name
from certferry.errors import DnsError
from certferry.text import Text

ENDS_SOON = timedelta(days=30)
"""Before then an operator who sets records by hand wants to know."""


def findings_of(
    looked: Iterable[Looked], spare: Collection[str], now: datetime
) -> Iterator[Finding]:
    """Tell what each record is worth. The names of `spare`, without `*.`, can be proven by an
    account as well: for them nothing fails.
    """
    for one in looked:
        yield _finding(one, _weight(one.name in spare), now)


def without_records(
    names: Collection[str], spare: Collection[str], offer: Offer | None, holder: Holder | None
) -> Iterator[Finding]:
    """Tell why no record can prove a name: the CA does not offer it, or there is no account."""
    for name in dict.fromkeys(map(base_name, names)) if offer is None or holder is None else ():
        if offer is None:
            fix = Text("name the account that has the zone as `dns` of the certificate")
            code, message = Code.DNS_PERSIST_NOT_OFFERED, NOT_OFFERED
        else:
            code, message, fix = (
                Code.DNS_PERSIST_MISSING,
                NO_ACCOUNT,
                MAKE_ACCOUNT.filled(name=name),
            )
        yield Finding(_weight(name in spare), code, name, message, fix)


def _weight(is_spare: bool) -> Severity:  # noqa: FBT001 - a yes or no about the name
    return Severity.WARNING if is_spare else Severity.ERROR


def _finding(one: Looked, weight: Severity, now: datetime) -> Finding:
    found, name, place = one.found, one.name, one.record.name
    if isinstance(found, DnsError):
        return of_error(Code.NOT_LOOKED_AT, name, found, Severity.WARNING)
    fix = SET_RECORD.filled(record=one.record.as_zone_line)
    if found.fault is not None:
        missing = found.fault is Fault.MISSING
        code = Code.DNS_PERSIST_MISSING if missing else Code.DNS_PERSIST_WRONG
        return Finding(weight, code, name, one.why, fix)
    if found.until is None:
        message = Text(
            "the record at {place} proves it for ever (dns-persist-01, experimental)", place=place
        )
        return info(Code.DNS_PERSIST, name, message)
    message = Text(
        "the record at {place} proves it until {moment} (dns-persist-01, experimental)",
        place=place,
        moment=found.until,
    )
    if found.until - now > ENDS_SOON:
        return info(Code.DNS_PERSIST, name, message)
    return warning(Code.DNS_PERSIST_ENDS, name, message, fix)
