"""Which services `certferry init` writes accounts of: whose keys are there, or as answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from certferry.cli.init_keys import found
from certferry.cli.interview import Interview
from certferry.config.findings import instead_of
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.wiring.adapters import Family
from certferry.wiring.settings import Service, offered


def chosen(
    family: Family,
    declared: Collection[str],
    environ: Mapping[str, str],
    inherited: Mapping[str, Secret],
    interview: Interview | None,
) -> Service:
    """Choose the service of a family that an account is to be of; `declared` are the types of the
    accounts that the operator's own settings have.

    It is asked for where there are several, unless the keys of one alone are there. Without an
    interview, accounts count for more than keys, and the usual service comes first.
    """
    services = offered(family)
    ready = [one for one in services if one.type in declared]
    keyed = [
        one
        for one in services
        if one in ready or any(found(q, environ, inherited) for q in one.questions)
    ]
    if interview is None or len(services) == 1:
        return (ready or keyed or services)[0]
    return keyed[0] if len(keyed) == 1 else _asked(family, services, interview)


def _asked(family: Family, services: Sequence[Service], interview: Interview) -> Service:
    by_type = {service.type: service for service in services}

    def read(answer: str) -> Service:
        if answer not in by_type:
            raise ConfigError(
                Text(
                    "{type} is no {role}; {advice}",
                    type=answer,
                    role=family.role,
                    advice=instead_of(answer, list(by_type)),
                )
            )
        return by_type[answer]

    usual, *_ = services
    question = Text(
        "{role}: {services} (Enter for {usual})",
        role=family.role,
        services=[Text("{type} ({service})", type=s.type, service=s.name) for s in services],
        usual=usual.type,
    )
    return interview.ask_for(question, read) or usual
