"""The contract of `certferry.ports.target.DeployTarget`, as tests that any target can run."""

from __future__ import annotations

from certferry_sandbox.testing.contracts.target_certificates import (
    ForeignersContract,
    RetiringContract,
    UploadingContract,
)
from certferry_sandbox.testing.contracts.target_domains import BindingContract, LookingContract
from certferry_sandbox.testing.contracts.target_world import TargetWorld

__all__ = ["DeployTargetContract", "TargetWorld"]


class DeployTargetContract(
    LookingContract, UploadingContract, BindingContract, RetiringContract, ForeignersContract
):
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give four fixtures about an account that
    is fresh for every test: `world`, a `TargetWorld`; `target`; `other`, the same account as
    another process would connect to it; and `denied`, the same with credentials that are not
    accepted. What a target does about answers that are lost is for its own tests, since only they
    can lose them.

    ```python
    class TestMyTarget(DeployTargetContract):
        @pytest.fixture
        def world(self, account: Account) -> TargetWorld: ...

        @pytest.fixture
        def target(self, account: Account) -> DeployTarget: ...
    ```
    """
