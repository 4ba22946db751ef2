"""The contract of `certferry.ports.dns.DnsProvider`, as tests for any provider."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from certferry.errors import DnsAccessDenied, Retry, ZoneNotFound
from certferry.ports.dns import DnsProvider

ZONE = "example.com"
NAME = f"_acme-challenge.img.{ZONE}"
APEX_NAME = f"_acme-challenge.{ZONE}"
UNKNOWN_NAME = "_acme-challenge.img.example.net"

Values = Callable[[str], list[str]]
"""Maps a name to the TXT values in DNS, with a value for each record."""


def challenge(about: str) -> str:
    """Return a value in the form of a challenge, another for each word (RFC 8555 §8.4)."""
    return urlsafe_b64encode(hashlib.sha256(about.encode()).digest()).rstrip(b"=").decode()


VALUE, OURS, OURS_TOO, THEIRS = map(challenge, ("value", "ours", "ours too", "theirs"))


class DnsWritingContract:
    """The promises about writing, for every service, also for services that keep only the last
    values of a name.

    `name` and `apex_name` are names of the account, `unknown_name` is outside the account, and
    `room` is the number of values that fit at a name.
    """

    name: ClassVar[str] = NAME
    apex_name: ClassVar[str] = APEX_NAME
    unknown_name: ClassVar[str] = UNKNOWN_NAME
    room: ClassVar[int] = 6

    def test_value_that_was_added_is_there(self, provider: DnsProvider, values: Values) -> None:
        """Adding writes the unchanged value at exactly the given name."""
        provider.add_txt(self.name, VALUE)

        assert [VALUE] == values(self.name)
        assert [] == values(self.apex_name)

    def test_values_at_one_name_stand_beside_each_other(
        self, provider: DnsProvider, values: Values
    ) -> None:
        """Apex and wildcard share a name, so adding keeps the present values (RFC 8555 §8.4)."""
        handles = {provider.add_txt(self.apex_name, value) for value in (OURS, OURS_TOO)}

        assert {OURS, OURS_TOO} == set(values(self.apex_name))
        assert 2 == len(handles)  # noqa: PLR2004 - one for each value

    def test_values_added_at_the_same_time_are_all_there(
        self, provider: DnsProvider, values: Values
    ) -> None:
        """Several threads may use a provider at the same time."""
        wanted = sorted(challenge(str(number)) for number in range(self.room))

        with ThreadPoolExecutor(len(wanted)) as threads:
            handles = list(threads.map(lambda value: provider.add_txt(self.name, value), wanted))

        assert wanted == sorted(values(self.name))
        assert len(wanted) == len(set(handles))

    def test_name_outside_the_account_is_refused(self, provider: DnsProvider) -> None:
        """The error contains the name, and a hint."""
        with pytest.raises(ZoneNotFound, match=self.unknown_name) as adding:
            provider.add_txt(self.unknown_name, VALUE)
        with pytest.raises(ZoneNotFound, match=self.unknown_name) as removing:
            provider.remove_txt(self.unknown_name, VALUE, None)

        assert adding.value.hint is not None
        assert removing.value.hint is not None

    def test_refused_credentials_are_reported_as_such(
        self, denied: DnsProvider, values: Values
    ) -> None:
        """Nothing is written, and the error allows no retry."""
        with pytest.raises(DnsAccessDenied) as refused:
            denied.add_txt(self.name, VALUE)

        assert refused.value.hint is not None
        assert Retry.NEVER == refused.value.retry
        assert [] == values(self.name)


class DnsProviderContract(DnsWritingContract):
    """Every promise of the port.

    Inherit from this class in a class that pytest collects, and define four fixtures. They are
    about an account that is new for every test, has the zone example.com without TXT records, and
    lacks example.net:

    - `provider` is connected to the account;
    - `other` is connected to the same account, as from another process;
    - `denied` has credentials that the service refuses;
    - `values` reads the TXT values in DNS.
    """

    def test_adding_twice_leaves_one_record(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """Adding a value again adds nothing, and both handles remove the record."""
        provider.add_txt(NAME, VALUE)
        handle = other.add_txt(NAME, VALUE)

        assert [VALUE] == values(NAME)
        assert provider.remove_txt(NAME, VALUE, handle)
        assert [] == values(NAME)

    def test_another_process_removes_by_the_handle(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """A handle is valid in another process."""
        handle = provider.add_txt(NAME, VALUE)

        assert other.remove_txt(NAME, VALUE, handle)
        assert [] == values(NAME)

    def test_another_process_removes_without_a_handle(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """Name and value suffice if the answer with the handle was lost."""
        provider.add_txt(NAME, VALUE)

        assert other.remove_txt(NAME, VALUE, None)
        assert [] == values(NAME)

    def test_removal_leaves_other_values_alone(self, provider: DnsProvider, values: Values) -> None:
        """Only the given value is removed: other values may belong to another client or order."""
        provider.add_txt(NAME, THEIRS)
        handle = provider.add_txt(NAME, OURS)
        provider.add_txt(NAME, OURS_TOO)
        provider.add_txt(APEX_NAME, OURS)

        provider.remove_txt(NAME, OURS, handle)
        provider.remove_txt(NAME, OURS_TOO, None)

        assert [THEIRS] == values(NAME)
        assert [OURS] == values(APEX_NAME)

    def test_removing_what_is_gone_is_fine(self, provider: DnsProvider) -> None:
        """The result is `False`, with the handle and without."""
        handle = provider.add_txt(NAME, VALUE)
        provider.remove_txt(NAME, VALUE, handle)

        assert not provider.remove_txt(NAME, VALUE, handle)
        assert not provider.remove_txt(NAME, VALUE, None)

    def test_value_goes_also_when_the_handle_is_older(
        self, provider: DnsProvider, values: Values
    ) -> None:
        """A removal with an older handle also removes a value that was added again."""
        old = provider.add_txt(NAME, VALUE)
        provider.remove_txt(NAME, VALUE, old)
        provider.add_txt(NAME, VALUE)

        assert provider.remove_txt(NAME, VALUE, old)
        assert [] == values(NAME)

    def test_handle_of_another_record_is_not_trusted(
        self, provider: DnsProvider, other: DnsProvider, values: Values
    ) -> None:
        """A stored handle may be changed or wrong, so name and value decide."""
        theirs = provider.add_txt(NAME, THEIRS)
        at_apex = provider.add_txt(APEX_NAME, OURS)

        assert not other.remove_txt(NAME, OURS, theirs)
        assert not other.remove_txt(NAME, OURS, at_apex)

        assert [THEIRS] == values(NAME)
        assert [OURS] == values(APEX_NAME)
