"""Proposals for declarations: certificates and deployments for the domains of accounts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain, count

from msgspec import Struct, field

from certferry.core.certificates.certificate import CertificateBundle, KeyType, covered_by, first_of
from certferry.core.certificates.names import CHALLENGE, WILDCARD, base_name, is_wildcard, suffixes
from certferry.core.desired.certificate import KEY_MODE, MODE, PemFiles
from certferry.core.discovery.inventory import FoundDomain, FoundZone
from certferry.errors import DnsRejected, ZoneNotFound
from certferry.text import Text
from certferry.values import replace

_NAMED = 5  # how many zones a message lists
_NO_ZONE = Text("the account has no zones")


def zone_for(name: str, zones: Iterable[FoundZone]) -> FoundZone | None:
    """Return the longest usable zone that holds a name, else the longest unusable zone that holds
    the name, else `None`.
    """
    by_name = {zone.name: zone for zone in zones}
    holding = [by_name[suffix] for suffix in suffixes(name) if suffix in by_name]
    return next((z for z in holding if z.problem is None), next(iter(holding), None))


def must_have_zone(name: str, zones: Sequence[FoundZone]) -> FoundZone:
    """Return a name's usable zone. Raises `ZoneNotFound`, or `DnsRejected` for an unusable zone."""
    zone = zone_for(name, zones)
    if zone is None:
        usable_first = sorted(
            zones, key=lambda candidate: (candidate.problem is not None, candidate.name)
        )
        raise no_zone_for(name, [candidate.name for candidate in usable_first])
    if zone.problem is not None:
        hint = Text("no challenge can be written there until the problem is fixed at the provider")
        raise DnsRejected(zone.problem, hint=hint)
    return zone


def no_zone_for(name: str, zones: Sequence[str]) -> ZoneNotFound:
    """Return the error for a name without a zone.

    The hint lists the account's zones, and for a challenge name a CNAME that would help.
    """
    holds = Text("the account has {zones}", zones=first_of(zones, _NAMED)) if zones else _NO_ZONE
    hint = Text(
        "{holds}: add the domain to the account, or set `dns` of the certificate to the account"
        " that has the domain"
    ).filled(holds=holds)
    if zones and name.startswith(f"{CHALLENGE}."):
        further = Text(
            "{hint}. If neither is possible, set a CNAME once, and certferry writes the"
            " challenges at its target: {record}"
        )
        hint = further.filled(hint=hint, record=f"{name}. CNAME {CHALLENGE}.{zones[0]}.")
    return ZoneNotFound(Text("no zone of the account holds {name}", name=name), hint=hint)


UNKNOWN = "…"  # stands for an account that the operator must fill in
HTTPS_OFF = Text("HTTPS is off there, and a sync would switch it on")
_NOT_CHOSEN = Text("not chosen")
_NO_DNS = (Text("Fill in the DNS account that proves the names."),)


class Grouping(Enum):
    """The ways in which the domains of a zone share certificates."""

    #: All domains share a certificate. Several domains below one name are covered by a wildcard.
    WILDCARD = "wildcard"
    #: All domains share a certificate that has the name of each domain.
    NAMES = "names"
    #: Each domain has a certificate.
    EACH = "each"


class Access(Struct, frozen=True):
    """The owner, group and modes of delivered files. `None` stands for the user or the group that
    runs certferry.
    """

    owner: str | None = None  #: The files' owner.
    group: str | None = None  #: The files' group.
    mode: int = MODE  #: The mode of all files except the key.
    key_mode: int = KEY_MODE  #: The mode of the key's file.


class ProposedDeployment(Struct, frozen=True):
    """A proposed deployment to an account, or to a directory."""

    #: The account, or the kind of receiver.
    to: str
    #: The account's domains; `None` for all covered domains.
    domains: tuple[str, ...] | None = None
    #: The directory for four files.
    directory: str = ""
    #: The command that makes a server read the files.
    reload: str = ""
    access: Access = field(default_factory=Access)  #: The files' owner, group and modes.


class ProposedCertificate(Struct, frozen=True):
    """A certificate to declare."""

    lineage: str  #: The lineage's name.
    #: The names to issue for; empty with `files`.
    names: tuple[str, ...] = ()
    #: The account that writes challenge records.
    dns: str = ""
    key_type: KeyType | None = None  #: The kind of key; `None` for the file's default.
    #: The files of a certificate made by another client.
    files: PemFiles | None = None
    deployments: tuple[ProposedDeployment, ...] = ()  #: The proposed deployments.
    #: Sentences for the operator, written as comments beside the declaration.
    remarks: tuple[Text, ...] = ()
    #: The existing certificate to begin with.
    adopts: CertificateBundle | None = None

    @property
    def covered(self) -> tuple[str, ...]:
        """The names of the certificate: those of `adopts`, if any, else `names`."""
        return self.names if self.adopts is None else self.adopts.certificate.names


class LeftOut(Struct, frozen=True):
    """A domain left out of a proposal."""

    name: str  #: The domain's name.
    reason: Text  #: Why the domain is left out.
    #: A declaration that the operator may still write for the domain, if possible.
    certificate: ProposedCertificate | None = None


class Proposal(Struct, frozen=True):
    """Proposed declarations, and the domains left out."""

    certificates: tuple[ProposedCertificate, ...] = ()  #: The proposed declarations.
    left_out: tuple[LeftOut, ...] = ()  #: The domains left out.


class Service(Struct, frozen=True):
    """The service of a target account."""

    #: The name for people.
    called: Text
    #: Words in lowercase. Another client's command that contains a word deploys to the service.
    command_words: tuple[str, ...]


class TargetAccount(Struct, frozen=True):
    """A target account with its domains."""

    #: The account's label.
    label: str
    domains: tuple[FoundDomain, ...] = ()  #: The account's domains.
    service: Service | None = None  #: The account's service; `None` if unknown.


class Places(Struct, frozen=True):
    """A DNS account to prove names with, and target accounts with domains."""

    #: The label of the DNS account; empty for none.
    dns: str = ""
    #: The zones of the DNS account; `None` if the account cannot list zones: then every name counts
    #: as provable.
    zones: tuple[FoundZone, ...] | None = ()
    targets: tuple[TargetAccount, ...] = ()  #: The target accounts.

    @property
    def domains(self) -> tuple[FoundDomain, ...]:
        """The domains of all target accounts."""
        return tuple(domain for target in self.targets for domain in target.domains)

    @property
    def services(self) -> tuple[Service, ...]:
        """The known services of the target accounts."""
        return tuple(target.service for target in self.targets if target.service is not None)

    def zone_of(self, name: str) -> FoundZone | None:
        """Return the zone for a name's challenge records, or `None`."""
        base = base_name(name)
        return FoundZone(base) if self.zones is None else zone_for(base, self.zones)

    def obstacle(self, name: str) -> Text | None:
        """Return why a name cannot be proven, or `None`."""
        zone = self.zone_of(name)
        if zone is None:
            return Text("no zone of the account {account} contains the name", account=self.dns)
        return zone.problem


def as_nested(domains: Iterable[FoundDomain]) -> tuple[FoundDomain, ...]:
    """Return domains sorted by the labels of their names from the right, as zones are nested."""
    return tuple(sorted(domains, key=lambda domain: _sorting(domain.domain)))


def obstacle_to(domain: FoundDomain, places: Places) -> Text | None:
    """Return why a domain is left out of a proposal, or `None`."""
    return places.obstacle(domain.domain) if domain.problem is None else domain.problem.message


def has_https_off(domain: FoundDomain) -> bool:
    """Return whether HTTPS is off, so a deployment would switch HTTPS on. Return false if the
    target hides the binding.
    """
    return not domain.has_https and not domain.binding_hidden


def with_https(domains: Iterable[FoundDomain]) -> frozenset[str]:
    """Return the names of the domains that are chosen by default: domains without
    `has_https_off`.
    """
    return frozenset(domain.domain for domain in domains if not has_https_off(domain))


def propose_for_domains(
    places: Places,
    most_names: int,
    wanted: Collection[str] | None = None,
    grouping: Grouping = Grouping.NAMES,
) -> Proposal:
    """Return a proposal for the `wanted` domains (`None` for all), grouped by zone. Domains of
    several target accounts share certificates.

    A certificate has at most `most_names` names.
    """
    groups: dict[str, dict[str, None]] = {}
    left_out = []
    listed = [(target, domain) for target in places.targets for domain in target.domains]
    for target, domain in sorted(listed, key=lambda pair: _sorting(pair[1].domain)):
        name, reason = domain.domain, obstacle_to(domain, places)
        if reason is not None:
            left_out.append(LeftOut(name, reason, _by_itself(target, domain, places)))
        elif wanted is not None and name not in wanted:
            left_out.append(_not_wanted(domain))
        elif (zone := places.zone_of(name)) is not None:
            groups.setdefault(zone.name, {})[name] = None
    certificates = (
        ProposedCertificate(_name_for_most(names, domains), names, places.dns)
        for zone, domains in sorted((zone, tuple(names)) for zone, names in groups.items())
        for names in _shared(domains, zone if places.zones else "", most_names, grouping)
    )
    return Proposal(with_domains(named_apart(certificates, ()), places, wanted), tuple(left_out))


def propose_beside(
    declared: Iterable[str],
    surveyed: Mapping[str, Sequence[FoundDomain]],
    zones: Mapping[str, tuple[FoundZone, ...] | None],
    most_names: int,
) -> Proposal:
    """Return a proposal for the `surveyed` domains (by target account). New lineages get names that
    are not `declared`.

    `zones` are zones by DNS account. Without zones, each proposed certificate has the account
    `UNKNOWN`, and a remark.
    """
    certificates, left_out = list[ProposedCertificate](), list[LeftOut]()
    for label, domains in surveyed.items():
        proving = [Places(dns, held) for dns, held in zones.items()]
        for places in _shared_out(label, domains, proving or [Places(UNKNOWN, None)]):
            proposal = propose_for_domains(places, most_names)
            certificates += [
                certificate if zones else replace(certificate, remarks=_NO_DNS)
                for certificate in proposal.certificates
            ]
            left_out += proposal.left_out
    return Proposal(tuple(named_apart(certificates, declared)), tuple(left_out))


def _shared_out(
    label: str, domains: Iterable[FoundDomain], proving: Sequence[Places]
) -> Iterable[Places]:
    """Return the DNS accounts, each with the target account's domains that the DNS account proves.
    A domain belongs to the first DNS account that can prove the name. If none can, the domain
    belongs to the first DNS account.
    """
    shares: dict[str, list[FoundDomain]] = {}
    for domain in domains:
        fit = [places for places in proving if places.obstacle(domain.domain) is None]
        shares.setdefault((fit or proving)[0].dns, []).append(domain)
    return [
        replace(places, targets=(TargetAccount(label, tuple(shares[places.dns])),))
        for places in proving
        if places.dns in shares
    ]


def named_apart(
    certificates: Iterable[ProposedCertificate], declared: Iterable[str]
) -> Iterable[ProposedCertificate]:
    """Yield the certificates with unique names, adding a number to names already taken."""
    taken = set(declared)
    for certificate in certificates:
        names = chain(
            [certificate.lineage], (f"{certificate.lineage}-{number}" for number in count(2))
        )
        free = next(name for name in names if name not in taken)
        taken.add(free)
        yield replace(certificate, lineage=free)


def _not_wanted(domain: FoundDomain) -> LeftOut:
    return LeftOut(domain.domain, HTTPS_OFF if has_https_off(domain) else _NOT_CHOSEN)


def _by_itself(
    target: TargetAccount, domain: FoundDomain, places: Places
) -> ProposedCertificate | None:
    """Return the certificate that a left-out domain could have.

    Return `None` for a domain that uses another domain's certificate.
    """
    if not domain.by_itself:
        return None
    dns, names = UNKNOWN if places.zone_of(domain.domain) is None else places.dns, (domain.domain,)
    alone = (ProposedDeployment(target.label, names),)
    return ProposedCertificate(name_for(names), names, dns, deployments=alone)


def with_domains(
    certificates: Iterable[ProposedCertificate],
    places: Places,
    wanted: Collection[str] | None = None,
) -> tuple[ProposedCertificate, ...]:
    """Return the certificates with deployments. Each `wanted` domain (`None`: every domain) belongs
    to the best certificate that covers the domain (`fitness`).

    A domain belongs to one certificate only, because runs of two certificates would replace each
    other's certificate for ever. A domain that cannot be changed, or uses another domain's
    certificate, belongs to none.
    """
    proposed = tuple(certificates)
    holders = defaultdict[str, list[int]](list)
    for n, certificate in enumerate(proposed):
        for name in certificate.covered:
            holders[name].append(n)
    deployments = defaultdict[int, list[ProposedDeployment]](list)
    for target in places.targets:
        for n, deployment in _deployments_to(target, proposed, holders, wanted):
            deployments[n].append(deployment)
    return tuple(
        _deployed(certificate, deployments[n], places) for n, certificate in enumerate(proposed)
    )


def _deployments_to(
    target: TargetAccount,
    proposed: Sequence[ProposedCertificate],
    holders: Mapping[str, Sequence[int]],
    wanted: Collection[str] | None,
) -> Iterator[tuple[int, ProposedDeployment]]:
    """Yield each deployment to a target account, with the position in `proposed` of its
    certificate. `holders` has, by name, the positions of the certificates with that name.

    The deployment has `domains=None` if the certificate could serve no other domain of the account.
    """
    given, able = defaultdict[int, list[str]](list), defaultdict[int, list[str]](list)
    for domain in target.domains:
        # Names are looked up: comparing each of thousands of domains with every certificate takes
        # minutes.
        holding = (holders.get(name, ()) for name in _names_covering(domain.domain))
        fitting = sorted({*chain.from_iterable(holding)}) if domain.by_itself else []
        for n in fitting:
            able[n].append(domain.domain)
        is_wanted = wanted is None or domain.domain in wanted
        if fitting and is_wanted and domain.problem is None:
            best = max(fitting, key=lambda n: fitness(proposed[n], domain.domain))
            given[best].append(domain.domain)
    for n, domains in sorted(given.items()):
        is_all = set(domains) == set(able[n])
        chosen = None if is_all else tuple(sorted(domains, key=_sorting))
        yield n, ProposedDeployment(target.label, chosen)


def _names_covering(domain: str) -> tuple[str, ...]:
    """Return the possible SANs that cover a domain, by the rule of `certificate.covers`."""
    return (domain,) if is_wildcard(domain) else (domain, WILDCARD + domain.partition(".")[2])


def not_wanted(
    certificates: Iterable[ProposedCertificate], places: Places, wanted: Collection[str]
) -> tuple[LeftOut, ...]:
    """Return the domains that the certificates could serve and that are missing in `wanted`."""
    covered = [name for certificate in certificates for name in certificate.covered]
    return tuple(
        _not_wanted(domain)
        for domain in as_nested(places.domains)
        if domain.by_itself and domain.problem is None and domain.domain not in wanted
        if covered_by(covered, domain.domain)
    )


def fitness(certificate: ProposedCertificate, domain: str) -> tuple[bool, int, float]:
    """Return a sorting key. Of several certificates, the best certificate for a domain has the
    largest key.

    The best certificate names the domain itself. Among equals, an ECDSA key is better, and then a
    later end.
    """
    if certificate.adopts is None:
        return (domain in certificate.covered, 0, 0.0)
    made = certificate.adopts.certificate
    return (
        domain in certificate.covered,
        made.key_type.startswith("ec"),
        made.not_after.timestamp(),
    )


def _deployed(
    certificate: ProposedCertificate, deployments: Sequence[ProposedDeployment], places: Places
) -> ProposedCertificate:
    """Return a certificate with the deployments to target accounts, before any other deployments.
    If there are target accounts, but no deployment to one, add a remark.
    """
    if deployments or not places.targets:
        return replace(certificate, deployments=(*deployments, *certificate.deployments))
    labels = [target.label for target in places.targets]
    nothing = Text("the account {account} has no domain left for the certificate to serve")
    if len(labels) > 1:
        nothing = Text(
            "none of the accounts {account} has a domain left for the certificate to serve"
        )
    remark = nothing.filled(account=labels)
    return replace(certificate, remarks=(*certificate.remarks, remark))


def _shared(
    domains: Sequence[str], zone: str, most: int, grouping: Grouping
) -> Iterable[tuple[str, ...]]:
    """Return the names of each certificate for the domains of a zone (`""` if unknown)."""
    if grouping is Grouping.EACH:
        return [(domain,) for domain in domains]
    if grouping is Grouping.WILDCARD:
        domains = [*domains, *_wildcards(domains, zone)]
    wildcards = [domain for domain in domains if is_wildcard(domain)]
    # A CA refuses an order for a wildcard together with a name covered by the wildcard.
    alone = {
        domain for domain in domains if domain in wildcards or not covered_by(wildcards, domain)
    }
    names = sorted(alone, key=_sorting)
    return [tuple(names[start : start + most]) for start in range(0, len(names), most)]


def _wildcards(domains: Sequence[str], zone: str) -> Iterable[str]:
    """Return the wildcards that cover several of the domains and lie within the zone; none for an
    unknown zone.
    """
    parents = Counter(domain.partition(".")[2] for domain in domains if not is_wildcard(domain))
    several = (parent for parent, children in parents.items() if children > 1)
    return [WILDCARD + parent for parent in several if zone in suffixes(parent)]


def _name_for_most(names: Sequence[str], domains: Sequence[str]) -> str:
    """Return a name for a certificate. The certificate is named after the wildcard that covers the
    most domains, if no host among `names` covers as many, and the base name of the wildcard is not
    among `names`. Otherwise return the name by `name_for`.

    Without this rule a certificate for 26 hosts under a wildcard would be named after a single
    other host.
    """
    needed = Counter(name for name in names for domain in domains if covered_by([name], domain))
    most = max(names, key=lambda name: (needed[name], not is_wildcard(name)))
    return name_for([most] if base_name(most) not in names else names)


def name_for(names: Sequence[str]) -> str:
    """Return a name for a certificate: the first host among `names`. For wildcards alone, return
    `wildcard.` and the base name of the first wildcard.

    The name may become the name of a directory, so a star is avoided.
    """
    hosts = [name for name in names if not is_wildcard(name)]
    return hosts[0] if hosts else f"wildcard.{base_name(names[0])}"


def _sorting(name: str) -> tuple[list[str], bool]:
    """Return a key that sorts by the labels from the right; a wildcard comes after its base."""
    return base_name(name).split(".")[::-1], is_wildcard(name)
