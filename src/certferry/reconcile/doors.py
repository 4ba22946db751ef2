"""Everything the engine reaches the world through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry.core.desired.certificate import Delivery
from certferry.core.planning.rollouts import Claims
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer
from certferry.ports.probe import Probe
from certferry.ports.progress import UNSEEN, Looks, Progress
from certferry.ports.receiver import Receiver
from certferry.ports.source import CertificateSource
from certferry.ports.state import Lease, StateStore
from certferry.ports.target import DeployTarget


@dataclass(frozen=True, slots=True)
class Doors:
    """The ports, joined by the wiring. Providers and targets are found by their account's label,
    receivers by what is to be delivered how.

    `lease` takes the lease of a lineage for a `with` block; `now` is the only clock; what happens
    is told to `progress`, the history's keeper included; `verify_timeout` is how long a
    domain may take to serve what it is bound to; `claims` are those of the whole configuration,
    for however few certificates the run is; `looks` is shown what the run sees.
    """

    issuer: Issuer
    source: CertificateSource
    dns: Mapping[str, DnsProvider]
    targets: Mapping[str, DeployTarget]
    receiver: Callable[[Delivery], Receiver]
    probe: Probe
    state: StateStore
    lease: Callable[[str], AbstractContextManager[Lease]]
    now: Callable[[], datetime]
    progress: Progress
    verify_timeout: timedelta = timedelta(hours=1)
    claims: Claims = field(default_factory=Claims)
    looks: Looks = UNSEEN
