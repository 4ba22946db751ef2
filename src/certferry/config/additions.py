"""What `certferry add` declares: for which names, who proves them, where they are served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certferry.config.certificates import account_among
from certferry.config.model import Settings
from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.names import is_wildcard, normalise
from certferry.core.discovery.proposal import (
    ProposedCertificate,
    ProposedDeployment,
    lineage_of,
    named_apart,
)
from certferry.errors import ConfigError
from certferry.text import Text


def already_declared(settings: Settings, domains: Sequence[str]) -> bool:
    """Return whether each domain is a declared name. Raises `ConfigError` for what is no domain."""
    declared = {name for desired in settings.declared for name in desired.names}
    return declared.issuperset(map(normalise, domains))


def covered_already(settings: Settings, domains: Sequence[str]) -> Iterator[Text]:
    """Yield a sentence for each domain that a declared wildcard covers: it may need none."""
    for name in dict.fromkeys(map(normalise, domains)):
        for desired in settings.declared:
            if covered_by(desired.names, name):
                yield Text(
                    "{lineage} covers {name} already: the next sync serves it there, unless its"
                    " deployment names other domains",
                    lineage=desired.lineage,
                    name=name,
                )


@dataclass(frozen=True, slots=True)
class Choice:
    """An account to choose: the one that the `option` names, else the only one of the `labels`."""

    option: str
    labels: Sequence[str]
    named: str | None

    def account(self, settings: Settings) -> str:
        """Return the account; empty where there is none. Raises `ConfigError`."""
        if self.named is not None:
            try:
                return account_among(self.labels)(self.named)
            except ConfigError as wrong:
                raise ConfigError(
                    Text("{name}: {problem}", name=self.option, problem=wrong.message)
                ) from None
        if len(self.labels) > 1:
            problem = Text("{path} has several accounts that could be meant: {labels}")
            raise ConfigError(
                problem.filled(path=settings.path, labels=self.labels),
                hint=Text("say which with {option}", option=f"{self.option} {self.labels[0]}"),
            )
        return next(iter(self.labels), "")


def additions(
    settings: Settings, domains: Sequence[str], dns: Choice, to: Choice, *, each: bool
) -> tuple[ProposedCertificate, ...]:
    """Return what to declare: one for all domains, or one for `each`. Raises `ConfigError`."""
    names = tuple(dict.fromkeys(map(normalise, domains)))
    for name in names:
        for desired in settings.declared:
            if name in desired.names:
                problem = Text("{name} is declared already, in {lineage}")
                raise ConfigError(
                    problem.filled(name=name, lineage=desired.lineage),
                    hint=Text("leave it out, or change the list of names with an editor"),
                )
    proven = dns.account(settings)
    if not proven:
        raise ConfigError(
            Text("{path} has no account of a DNS service", path=settings.path),
            hint=Text("write one: `certferry help config` shows each under [accounts]"),
        )
    served = to.account(settings)
    deployments = (ProposedDeployment(served),) if served else ()
    groups = [(name,) for name in names] if each else [names]
    for group in groups:
        _must_not_overlap(group)
    proposed = [
        ProposedCertificate(lineage_of(group), group, proven, deployments=deployments)
        for group in groups
    ]
    return tuple(named_apart(proposed, (desired.lineage for desired in settings.declared)))


def _must_not_overlap(names: Sequence[str]) -> None:
    """Raise `ConfigError` for names that Let's Encrypt refuses in one order ("redundant with a
    wildcard domain in the same request": letsencrypt/boulder, pull request 3542).
    """
    for name in names:
        others = [other for other in names if is_wildcard(other) and other != name]
        for wildcard in (other for other in others if covered_by([other], name)):
            raise ConfigError(
                Text(
                    "{wildcard} covers {name}, and Let's Encrypt refuses both in one certificate",
                    wildcard=wildcard,
                    name=name,
                ),
                hint=Text("leave {name} out", name=name),
            )
