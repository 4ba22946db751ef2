"""The parameters of a call to Alibaba Cloud DNS, read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from certferry_sandbox.alidns_answers import Refused
from certferry_sandbox.alidns_signing import COMMON

PAGES = frozenset({"PageNumber", "PageSize"})
EVERYWHERE = frozenset({*COMMON, "Format", "Lang", "UserClientIp"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "DescribeDomains": PAGES | {"KeyWord", "GroupId", "SearchMode", "ResourceGroupId"},
    "DescribeSubDomainRecords": PAGES | {"SubDomain", "DomainName", "Type", "Line"},
    "DescribeDomainRecordInfo": frozenset({"RecordId"}),
    "AddDomainRecord": frozenset({"DomainName", "RR", "Type", "Value", "TTL", "Priority", "Line"}),
    "DeleteDomainRecord": frozenset({"RecordId"}),
}
"""The parameters of each call, beside those of every one."""

Item = TypeVar("Item")


class Params:
    """The parameters of one call."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def must_be_of(self, allowed: frozenset[str]) -> None:
        """Refuse what the call does not have."""
        for name in self._fields:
            if name not in allowed | EVERYWHERE:
                raise Refused("UnsupportedParameter", f'The parameter "{name}" is not supported.')

    def text(self, name: str) -> str:
        """Give a parameter; "" when it is not there."""
        return self._fields.get(name, "")

    def required(self, name: str) -> str:
        """Give a parameter that must be there."""
        if not self.text(name):
            raise Refused("MissingParameter", f'The input parameter "{name}" is not supplied.')
        return self.text(name)

    def number(self, name: str, default: int, *, least: int, most: int = 2**31) -> int:
        """Give a whole number within its bounds."""
        written = self._fields.get(name)
        if written is None:
            return default
        if not (written.isascii() and written.isdigit() and least <= int(written) <= most):
            raise Refused("InvalidParameter", f"The specified value of {name} is not valid.")
        return int(written)

    def page(self, items: Sequence[Item], *, most: int) -> tuple[Sequence[Item], dict[str, int]]:
        """Give the page that was asked for, and what is told of the whole list."""
        size = self.number("PageSize", 20, least=1, most=most)
        number = self.number("PageNumber", 1, least=1)
        whole = {"TotalCount": len(items), "PageNumber": number, "PageSize": size}
        return items[(number - 1) * size : number * size], whole
