"""The contract of `certferry.ports.dns.DnsProvider`, as tests that any provider can run."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from certferry.errors import DnsAccessDenied, Retry, ZoneNotFound
from certferry.ports.dns import DnsProvider

ZONE = "example.com"
NAME = f"_acme-challenge.img.{ZONE}"
APEX_NAME = f"_acme-challenge.{ZONE}"
UNKNOWN_NAME = "_acme-challenge.img.example.net"

Values = Callable[[str], list[str]]
"""Name → every TXT value that is really there, one for each record."""


class DnsProviderContract:
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give four fixtures about an account that
    is fresh for every test and holds the zone example.com, without any TXT record, and not
    example.net: `provider`; `other`, the same account as another process would connect to it;
    `denied`, the same with credentials that are not accepted; and `values`.
    """

    def test_value_that_was_added_is_there(self, provider: DnsProvider, values: Values) -> None:
        """Adding writes the value as it is, at exactly this name."""
        provider.add_txt(NAME, "gfj9Xq-_Rg85nM")

        assert ["gfj9Xq-_Rg85nM"] == values(NAME)
        assert [] == values(APEX_NAME)

    def test_values_at_one_name_stand_beside_each_other(
        self, provider: DnsProvider, values: Values
    ) -> None:
        """Apex and wildcard share a name, so adding keeps what is there (RFC 8555 §8.4)."""
        handles = {provider.add_txt(APEX_NAME, value) for value in ("of-apex", "of-wildcard")}

        assert {"of-apex", "of-wildcard"} == set(values(APEX_NAME))
        assert 2 == len(handles)  # noqa: PLR2004 - one for each value

    def test_adding_twice_leaves_one_record(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """Adding is idempotent, and both handles remove the one record."""
        provider.add_txt(NAME, "value")
        handle = other.add_txt(NAME, "value")

        assert ["value"] == values(NAME)
        assert provider.remove_txt(NAME, "value", handle)
        assert [] == values(NAME)

    def test_values_added_at_the_same_time_are_all_there(
        self, provider: DnsProvider, values: Values
    ) -> None:
        """A provider is used from several threads."""
        wanted = [f"value-{number}" for number in range(6)]

        with ThreadPoolExecutor(len(wanted)) as threads:
            handles = list(threads.map(lambda value: provider.add_txt(NAME, value), wanted))

        assert wanted == sorted(values(NAME))
        assert len(wanted) == len(set(handles))

    def test_another_process_removes_by_the_handle(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """A handle is worth something beyond the object that gave it."""
        handle = provider.add_txt(NAME, "value")

        assert other.remove_txt(NAME, "value", handle)
        assert [] == values(NAME)

    def test_another_process_removes_without_a_handle(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """Name and value are enough when the handle was never learned."""
        provider.add_txt(NAME, "value")

        assert other.remove_txt(NAME, "value", None)
        assert [] == values(NAME)

    def test_removal_leaves_other_values_alone(self, provider: DnsProvider, values: Values) -> None:
        """Only this value goes: the others may be another client's, or another order's."""
        provider.add_txt(NAME, "theirs")
        handle = provider.add_txt(NAME, "ours")
        provider.add_txt(NAME, "ours too")
        provider.add_txt(APEX_NAME, "ours")

        provider.remove_txt(NAME, "ours", handle)
        provider.remove_txt(NAME, "ours too", None)

        assert ["theirs"] == values(NAME)
        assert ["ours"] == values(APEX_NAME)

    def test_removing_what_is_gone_is_fine(self, provider: DnsProvider) -> None:
        """It is told that nothing was there, with the handle and without."""
        handle = provider.add_txt(NAME, "value")
        provider.remove_txt(NAME, "value", handle)

        assert not provider.remove_txt(NAME, "value", handle)
        assert not provider.remove_txt(NAME, "value", None)

    def test_value_goes_also_when_the_handle_is_older(
        self, provider: DnsProvider, values: Values
    ) -> None:
        """A value that was added anew does not hide behind the handle it had before."""
        old = provider.add_txt(NAME, "value")
        provider.remove_txt(NAME, "value", old)
        provider.add_txt(NAME, "value")

        assert provider.remove_txt(NAME, "value", old)
        assert [] == values(NAME)

    def test_handle_of_another_record_is_not_believed(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """Where it was kept, it may have been changed: name and value decide."""
        theirs = provider.add_txt(NAME, "theirs")
        at_apex = provider.add_txt(APEX_NAME, "ours")

        assert not other.remove_txt(NAME, "ours", theirs)
        assert not other.remove_txt(NAME, "ours", at_apex)

        assert ["theirs"] == values(NAME)
        assert ["ours"] == values(APEX_NAME)

    def test_name_outside_the_account_is_refused(self, provider: DnsProvider) -> None:
        """The error names the name, and says what to do."""
        with pytest.raises(ZoneNotFound, match=UNKNOWN_NAME) as adding:
            provider.add_txt(UNKNOWN_NAME, "value")
        with pytest.raises(ZoneNotFound, match=UNKNOWN_NAME) as removing:
            provider.remove_txt(UNKNOWN_NAME, "value", None)

        assert adding.value.hint is not None
        assert removing.value.hint is not None

    def test_refused_credentials_are_told_as_such(
        self, denied: DnsProvider, values: Values
    ) -> None:
        """Nothing is written, and trying again by itself is ruled out."""
        with pytest.raises(DnsAccessDenied) as refused:
            denied.add_txt(NAME, "value")

        assert refused.value.hint is not None
        assert Retry.NEVER == refused.value.retry
        assert [] == values(NAME)
