"""The contract of `certferry.ports.state.StateStore`, as tests that any implementation can run."""

from __future__ import annotations

from certferry_sandbox.testing.contracts.state_accounts import AccountNotesContract
from certferry_sandbox.testing.contracts.state_acme import AcmeContract
from certferry_sandbox.testing.contracts.state_hosts import HostsContract
from certferry_sandbox.testing.contracts.state_leases import LeasesContract
from certferry_sandbox.testing.contracts.state_notices import NoticesContract
from certferry_sandbox.testing.contracts.state_order_log import OrderLogContract
from certferry_sandbox.testing.contracts.state_remembered import RememberedContract
from certferry_sandbox.testing.contracts.state_sightings import SightingsContract
from certferry_sandbox.testing.contracts.state_targets import HistoryContract, TargetsContract
from certferry_sandbox.testing.contracts.state_versions import VersionsContract


class StateStoreContract(
    LeasesContract,
    VersionsContract,
    AcmeContract,
    OrderLogContract,
    TargetsContract,
    RememberedContract,
    AccountNotesContract,
    NoticesContract,
    SightingsContract,
    HistoryContract,
    HostsContract,
):
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give three fixtures: `store`, an empty
    store, `other`, a second handle on the same data, as another process would have it, and
    `elsewhere`, a third one, as a process of another host would have it. All are closed by the
    fixture. What a process that has ended leaves behind, and what a full disk
    does, is for each implementation's own tests.

    ```python
    class TestMyState(StateStoreContract):
        @pytest.fixture
        def store(self, place: Place) -> Iterator[StateStore]: ...

        @pytest.fixture
        def other(self, place: Place) -> Iterator[StateStore]: ...

        @pytest.fixture
        def elsewhere(self, place: Place) -> Iterator[StateStore]: ...
    ```
    """
