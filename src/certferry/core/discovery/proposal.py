"""What to declare for what was found at a target."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain, count

from certferry.core.certificates.certificate import CertificateBundle, KeyType, covered_by, first_of
from certferry.core.certificates.names import CHALLENGE, WILDCARD, base_name, is_wildcard, suffixes
from certferry.core.desired.certificate import KEY_MODE, MODE, PemFiles
from certferry.core.discovery.inventory import FoundDomain, FoundZone
from certferry.errors import DnsRejected, ZoneNotFound
from certferry.text import Text

_NAMED = 5  # zones, in a message
_NO_ZONE = Text("it has none at all")


def zone_for(name: str, zones: Iterable[FoundZone]) -> FoundZone | None:
    """Return the longest zone that holds a name; of those, one that takes records, if any does."""
    by_name = {zone.name: zone for zone in zones}
    holding = [by_name[suffix] for suffix in suffixes(name) if suffix in by_name]
    return next((z for z in holding if z.problem is None), next(iter(holding), None))


def must_have_zone(name: str, zones: Sequence[FoundZone]) -> FoundZone:
    """Return a name's usable zone. Raises `ZoneNotFound`, or `DnsRejected` for its state."""
    zone = zone_for(name, zones)
    if zone is None:
        usable_first = sorted(zones, key=lambda one: (one.problem is not None, one.name))
        raise no_zone_for(name, [one.name for one in usable_first])
    if zone.problem is not None:
        hint = Text("no challenge can be written there until that is fixed at the provider")
        raise DnsRejected(zone.problem, hint=hint)
    return zone


def no_zone_for(name: str, zones: Sequence[str]) -> ZoneNotFound:
    """Return the error that names the zones there are, and a CNAME that would do instead."""
    holds = Text("it has {zones}", zones=first_of(zones, _NAMED)) if zones else _NO_ZONE
    hint = Text(
        "{holds}: add the domain to the account, or name the account that has it as `dns` of"
        " the certificate"
    ).filled(holds=holds)
    if zones and name.startswith(f"{CHALLENGE}."):
        further = Text(
            "{hint}. Where neither can be, set this record once, and the challenges are written at"
            " its end: {record}"
        )
        hint = further.filled(hint=hint, record=f"{name}. CNAME {CHALLENGE}.{zones[0]}.")
    return ZoneNotFound(Text("no zone of the account holds {name}", name=name), hint=hint)


UNKNOWN = "…"  # in the place of an account that is to be filled in
HTTPS_OFF = Text("HTTPS is off there, and a sync would switch it on")
_NOT_CHOSEN = Text("it was not chosen")
_NO_DNS = (Text("Fill in the DNS account that proves these names."),)


class Grouping(Enum):
    """How the domains of a zone share certificates: `EACH` has one, or all share one of their
    `NAMES`, with a `WILDCARD` for several below one name.
    """

    WILDCARD = "wildcard"
    NAMES = "names"
    EACH = "each"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read the copies; without `owner` or `group`, those of certferry's own user."""

    owner: str | None = None
    group: str | None = None
    mode: int = MODE
    key_mode: int = KEY_MODE


@dataclass(frozen=True, slots=True)
class ProposedDeployment:
    """A place: an account's `domains` (`None`: all covered), or a `directory` of four files."""

    to: str
    domains: tuple[str, ...] | None = None
    directory: str = ""
    reload: str = ""
    access: Access = field(default_factory=Access)


@dataclass(frozen=True, slots=True)
class ProposedCertificate:
    """A certificate to declare, for `names` or from `files`; it may begin with one it `adopts`."""

    lineage: str
    names: tuple[str, ...] = ()
    dns: str = ""
    key_type: KeyType | None = None
    files: PemFiles | None = None
    deployments: tuple[ProposedDeployment, ...] = ()
    remarks: tuple[Text, ...] = ()
    adopts: CertificateBundle | None = None

    @property
    def covered(self) -> tuple[str, ...]:
        """The names that it is for, here or where it is made."""
        return self.names if self.adopts is None else self.adopts.certificate.names


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What nothing is proposed for, and why; what could be declared all the same."""

    name: str
    reason: Text
    certificate: ProposedCertificate | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to declare, and what is left out."""

    certificates: tuple[ProposedCertificate, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """Accounts by label (`""`: none), with their zones and domains; where `zones` is `None`, the
    account lists none, and every name is its own zone.
    """

    dns: str = ""
    zones: tuple[FoundZone, ...] | None = ()
    target: str = ""
    domains: tuple[FoundDomain, ...] = ()

    def zone_of(self, name: str) -> FoundZone | None:
        """Return the zone to prove a name in, or `None`."""
        base = base_name(name)
        return FoundZone(base) if self.zones is None else zone_for(base, self.zones)

    def obstacle(self, name: str) -> Text | None:
        """Return why a name cannot be proven, `None` when it can."""
        zone = self.zone_of(name)
        if zone is None:
            return Text("no zone of the account {account} holds it", account=self.dns)
        return zone.problem


def as_nested(domains: Iterable[FoundDomain]) -> tuple[FoundDomain, ...]:
    """Sort domains as their names are nested."""
    return tuple(sorted(domains, key=lambda found: _sorting(found.domain)))


def obstacle_to(domain: FoundDomain, places: Places) -> Text | None:
    """Return why no certificate can be proposed for a domain, `None` when one can."""
    return places.obstacle(domain.domain) if domain.problem is None else domain.problem.message


def has_https_off(domain: FoundDomain) -> bool:
    """Return whether a deployment would switch HTTPS on; `False` if the target hides it."""
    return not domain.has_https and not domain.binding_hidden


def with_https(domains: Iterable[FoundDomain]) -> frozenset[str]:
    """Return what certificates are proposed for unless the operator chooses others."""
    return frozenset(one.domain for one in domains if not has_https_off(one))


def propose_for_domains(
    places: Places,
    most_names: int,
    wanted: Collection[str] | None = None,
    grouping: Grouping = Grouping.NAMES,
) -> Proposal:
    """Propose certificates for the `wanted` domains, `None` for all, by zone."""
    groups: dict[str, list[str]] = {}
    left_out = []
    for domain in as_nested(places.domains):
        name, reason = domain.domain, obstacle_to(domain, places)
        if reason is not None:
            left_out.append(LeftOut(name, reason, _by_itself(domain, places)))
        elif wanted is not None and name not in wanted:
            left_out.append(_not_wanted(domain))
        elif (zone := places.zone_of(name)) is not None:
            groups.setdefault(zone.name, []).append(name)
    certificates = (
        ProposedCertificate(_name_for_most(names, domains), names, places.dns)
        for zone, domains in sorted(groups.items())
        for names in _shared(domains, zone if places.zones else "", most_names, grouping)
    )
    return Proposal(with_domains(named_apart(certificates, ()), places, wanted), tuple(left_out))


def propose_beside(
    declared: Iterable[str],
    found: Mapping[str, Sequence[FoundDomain]],
    zones: Mapping[str, tuple[FoundZone, ...] | None],
    most_names: int,
) -> Proposal:
    """Propose certificates beside the `declared` ones; without DNS accounts, none is filled in."""
    certificates, left_out = list[ProposedCertificate](), list[LeftOut]()
    for target, domains in found.items():
        proving = [Places(dns, held, target) for dns, held in zones.items()]
        proving = proving or [Places(UNKNOWN, None, target)]
        for places in _shared_out(domains, proving):
            proposal = propose_for_domains(places, most_names)
            certificates += [
                one if zones else replace(one, remarks=_NO_DNS) for one in proposal.certificates
            ]
            left_out += proposal.left_out
    return Proposal(tuple(named_apart(certificates, declared)), tuple(left_out))


def _shared_out(domains: Iterable[FoundDomain], proving: Sequence[Places]) -> Iterable[Places]:
    """Assign each domain to the first DNS account that can prove it, else to the first."""
    shares: dict[str, list[FoundDomain]] = {}
    for domain in domains:
        fit = [one for one in proving if one.obstacle(domain.domain) is None]
        shares.setdefault((fit or proving)[0].dns, []).append(domain)
    return [replace(p, domains=tuple(shares[p.dns])) for p in proving if p.dns in shares]


def named_apart(
    certificates: Iterable[ProposedCertificate], declared: Iterable[str]
) -> Iterable[ProposedCertificate]:
    """Number the lineages whose names are taken: two cannot have one name."""
    taken = set(declared)
    for one in certificates:
        names = chain([one.lineage], (f"{one.lineage}-{number}" for number in count(2)))
        free = next(name for name in names if name not in taken)
        taken.add(free)
        yield replace(one, lineage=free)


def _not_wanted(domain: FoundDomain) -> LeftOut:
    return LeftOut(domain.domain, HTTPS_OFF if has_https_off(domain) else _NOT_CHOSEN)


def _by_itself(domain: FoundDomain, places: Places) -> ProposedCertificate | None:
    """Propose what a domain that is left out would get; nothing where it takes another's."""
    if not domain.by_itself:
        return None
    dns, names = UNKNOWN if places.zone_of(domain.domain) is None else places.dns, (domain.domain,)
    alone = (ProposedDeployment(places.target, names),)
    return ProposedCertificate(name_for(names), names, dns, deployments=alone)


def with_domains(
    certificates: Iterable[ProposedCertificate],
    places: Places,
    wanted: Collection[str] | None = None,
) -> tuple[ProposedCertificate, ...]:
    """Assign each wanted domain to one certificate: two would replace each other for ever."""
    found = tuple(certificates)
    holders = defaultdict[str, list[int]](list)
    given, able = defaultdict[int, list[str]](list), defaultdict[int, list[str]](list)
    for n, one in enumerate(found):
        for name in one.covered:
            holders[name].append(n)
    for domain in places.domains:
        # By names: comparing every domain with every certificate takes minutes for thousands.
        known = (holders.get(name, ()) for name in _names_covering(domain.domain))
        fitting = sorted({*chain.from_iterable(known)}) if domain.by_itself else []
        for n in fitting:
            able[n].append(domain.domain)
        is_wanted = wanted is None or domain.domain in wanted
        if fitting and is_wanted and domain.problem is None:
            best = max(fitting, key=lambda n: fitness(found[n], domain.domain))
            given[best].append(domain.domain)
    return tuple(_deployed(one, given[n], able[n], places) for n, one in enumerate(found))


def _names_covering(domain: str) -> tuple[str, ...]:
    """Return the SANs that cover a domain, as `certificate.covers` says."""
    return (domain,) if is_wildcard(domain) else (domain, WILDCARD + domain.partition(".")[2])


def not_wanted(
    certificates: Iterable[ProposedCertificate], places: Places, wanted: Collection[str]
) -> tuple[LeftOut, ...]:
    """Return the domains that certificates cover and that are not `wanted`."""
    covered = [name for one in certificates for name in one.covered]
    return tuple(
        _not_wanted(one)
        for one in as_nested(places.domains)
        if one.by_itself and one.problem is None and one.domain not in wanted
        if covered_by(covered, one.domain)
    )


def fitness(one: ProposedCertificate, domain: str) -> tuple[bool, int, float]:
    """Prefer a certificate that has the very name, then the smaller key, then the longer life."""
    if one.adopts is None:
        return (domain in one.covered, 0, 0.0)
    made = one.adopts.certificate
    return (domain in one.covered, made.key_type.startswith("ec"), made.not_after.timestamp())


def _deployed(
    one: ProposedCertificate, domains: Sequence[str], able: Sequence[str], places: Places
) -> ProposedCertificate:
    """Return a certificate deployed to domains of those that it is `able` to serve."""
    if not places.target:
        return one
    if not domains:
        nothing = Text("no domain of the account {account} is left for it to serve")
        nothing = nothing.filled(account=places.target)
        return replace(one, remarks=(*one.remarks, nothing))
    chosen = None if set(domains) == set(able) else tuple(sorted(domains, key=_sorting))
    first = ProposedDeployment(places.target, chosen)
    return replace(one, deployments=(first, *one.deployments))


def _shared(
    domains: Sequence[str], zone: str, most: int, grouping: Grouping
) -> Iterable[tuple[str, ...]]:
    """Return the names of each certificate for the domains of a zone, `""` where it is unknown."""
    if grouping is Grouping.EACH:
        return [(domain,) for domain in domains]
    if grouping is Grouping.WILDCARD:
        domains = [*domains, *_wildcards(domains, zone)]
    wildcards = [domain for domain in domains if is_wildcard(domain)]
    # A CA refuses to be asked for a wildcard and for what it covers.
    alone = {one for one in domains if one in wildcards or not covered_by(wildcards, one)}
    names = sorted(alone, key=_sorting)
    return [tuple(names[start : start + most]) for start in range(0, len(names), most)]


def _wildcards(domains: Sequence[str], zone: str) -> Iterable[str]:
    """Return the wildcards above several of the domains, none above the zone that proves them."""
    parents = Counter(one.partition(".")[2] for one in domains if not is_wildcard(one))
    several = (parent for parent, children in parents.items() if children > 1)
    return [WILDCARD + parent for parent in several if zone in suffixes(parent)]


def _name_for_most(names: Sequence[str], domains: Sequence[str]) -> str:
    """Name a certificate by the wildcard that most of its domains need, where a single host beside
    that one would be told of 26 others.
    """
    needed = Counter(name for name in names for domain in domains if covered_by([name], domain))
    most = max(names, key=lambda name: (needed[name], not is_wildcard(name)))
    return name_for([most] if base_name(most) not in names else names)


def name_for(names: Sequence[str]) -> str:
    """Name a certificate by its first host. A wildcard's star suits no directory."""
    hosts = [name for name in names if not is_wildcard(name)]
    return hosts[0] if hosts else f"wildcard.{base_name(names[0])}"


def _sorting(name: str) -> tuple[list[str], bool]:
    """Sort by the labels from the right, as zones are nested; a wildcard after its own base."""
    return base_name(name).split(".")[::-1], is_wildcard(name)
