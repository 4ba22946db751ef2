"""Whether a domain is named for two accounts of a service that lets it be at one only: asked when
the file is read.
"""

from __future__ import annotations

from collections.abc import Iterator

from certferry.config.document import Place
from certferry.config.findings import Finding
from certferry.config.model import AccountTable, Settings
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.wiring.adapters import TARGETS, installed
from certferry.wiring.described import Described


def named_for_two(settings: Settings) -> Iterator[Finding]:
    """Give a finding for each deployment to a second account."""
    first: dict[tuple[str, str], tuple[str, Place]] = {}
    for domain, account, place in _named(settings):
        other, earlier = first.setdefault((account.type, domain), (account.label, place))
        service = None if other == account.label else _service(account)
        if service is not None:
            problem = Text(
                "{domain} is named for the account {other} as well, at line {line}, and {service}"
                " has a domain at one account only; take it out of one",
                domain=domain,
                other=other,
                line=earlier.line,
                service=service.adapter.SERVICE,
            )
            yield place.finding("domains", problem)


def _named(settings: Settings) -> Iterator[tuple[str, AccountTable, Place]]:
    for wish in settings.declared:
        for number, deployment in enumerate(wish.deployments):
            account = settings.accounts.get(deployment.target)
            if account is not None:
                place = settings.places[wish.lineage].below("deploy", number)
                yield from ((domain, account, place) for domain in deployment.domains or ())


def _service(account: AccountTable) -> Described | None:
    """Give the account's service, if it is one of these."""
    try:
        found = installed().find(TARGETS, account.type)
    except (KeyError, ConfigError):
        return None  # what is wrong with it is told when it is connected
    return found if found.has_one_account_a_domain else None
