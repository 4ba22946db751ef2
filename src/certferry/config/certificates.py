"""Read `[[certificates]]`, and `[[certificates.deploy]]` below each certificate."""

from __future__ import annotations

import os
import os.path
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import PurePath
from types import MappingProxyType
from typing import TypeVar

from msgspec import Struct, field

from certferry.config import values
from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.mistakes import Mistake, nearest
from certferry.config.model import AcmeSettings, CaSettings, ReadOptions
from certferry.config.programs import arguments_on_server, directory_on_server, words_of
from certferry.config.serves import read_serves
from certferry.config.tables import RESERVED, key_type
from certferry.config.values import Read, TomlTable
from certferry.core.certificates import names as identifiers
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired import certificate as desired
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.desired.declaration import delivered
from certferry.core.planning.choice import AUTO
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.values import replace

MOST_NAMES = 100
"""Maximum number of names in a certificate of Let's Encrypt (docs/facts/letsencrypt.md §1.1)."""

RELOAD_TIMEOUT = timedelta(seconds=60)
COMMAND_TIMEOUT = timedelta(minutes=5)

SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        Kind.FILES.value: (
            *("directory", "owner", "group", "mode", "key_mode", "test", "reload", "timeout"),
            *("serves", "on_failure", "hosts"),
        ),
        Kind.COMMAND.value: ("command", "name", "timeout", "serves", "hosts"),
    }
)
"""The keys of a deployment beside `to`, for each word that `to` may have in place of an account."""

_LINEAGE = re.compile(r"(?!\.\.?\Z)[^\s/\\-][^\s/\\]*")
_COMMON = frozenset({"to", "domains", "exclude", "retire", "drift", "on_failure"})
"""The keys that a deployment to any account may have. The account's adapter may declare more."""

_MODE = re.compile(r"0?[0-7]{3}")
_OWNER_READS, _OTHERS, _OTHERS_WRITE, _RUN_OR_SPECIAL = 0o400, 0o007, 0o002, ~0o666

E = TypeVar("E", bound=StrEnum)

Zones = tuple[tuple[str, str], ...]
"""See `DesiredCertificate.dns_zones`."""


def with_equal_names(
    declared: Iterable[DesiredCertificate], places: Mapping[str, Place]
) -> Iterator[Mistake]:
    """Yield a mistake for each certificate with the same names and key type as an earlier
    certificate: most likely the operator copied the table.
    """
    first: dict[tuple[frozenset[str], KeyType], str] = {}
    for certificate in declared:
        other = first.setdefault(
            (frozenset(certificate.names), certificate.key_type), certificate.lineage
        )
        if certificate.names and other != certificate.lineage:
            problem = Text(
                "{lineage} has the same names as {other}, at line {line}: declare one certificate"
                " with several deployments"
            )
            problem = problem.filled(
                lineage=certificate.lineage, other=other, line=places[other].line
            )
            yield places[certificate.lineage].mistake("names", problem)


class CertificateReader(Struct, frozen=True):
    """Reads the certificates with the deployments that this host carries out. A wrong value is
    reported as a mistake and replaced by a default, so reading continues; the caller raises the
    error for all mistakes.
    """

    #: The labels of the declared accounts.
    accounts: Collection[str]
    #: The settings of `[acme]`.
    acme: AcmeSettings
    #: The starts of relative paths.
    paths: Paths
    #: Returns the reader of a deployment's options for an account's label or type, or `None` for an
    #: unknown type.
    options_of: Callable[[str], ReadOptions | None]
    #: This host's name in the state.
    host: str
    #: The labels of the accounts that are servers, which take files into directories.
    servers: Collection[str] = ()
    #: The lineage of the certificate deployed to a domain, by account and domain.
    named: dict[tuple[str, str], str] = field(default_factory=dict)
    #: The place in the configuration file of each directory, by ("files" or account, path), and of
    #: each command, by (lineage, name): no other deployment may use these.
    taken: dict[tuple[str, str], Place] = field(default_factory=dict)
    #: Every host named in a deployment.
    hosts: set[str] = field(default_factory=set)
    #: The places of the deployments carried out by `host`, by lineage.
    deployed: dict[str, tuple[Place, ...]] = field(default_factory=dict)

    def read(self, root: TomlTable) -> tuple[tuple[DesiredCertificate, ...], dict[str, Place]]:
        """Return every declared certificate, and the place of each lineage's first table."""
        certificates: list[DesiredCertificate] = []
        places: dict[str, Place] = {}
        for table in root.tables("certificates"):
            certificates.append(self._certificate(table))
            first = places.setdefault(certificates[-1].lineage, table.place)
            if first is not table.place:
                problem = Text(
                    "{lineage} is already declared, at line {line}; give one of the two"
                    " another `name`"
                )
                problem = problem.filled(lineage=certificates[-1].lineage, line=first.line)
                table.report("name" if "name" in table else "names", problem)
            self._report_twice_named(table, certificates[-1])
        return tuple(certificates), places

    def _certificate(self, table: TomlTable) -> DesiredCertificate:
        lineage = table.take("name", _lineage, None)
        if "fullchain" in table or "privkey" in table:
            certificate = self._imported(table, lineage)
        else:
            certificate = self._issued(table, lineage)
        if certificate.files is not None:
            source = os.path.realpath(PurePath(certificate.files.fullchain).parent)
            self.taken.setdefault((Kind.FILES.value, source), table.place)
        deployments = [
            (self._deployment(below, certificate), below) for below in table.tables("deploy")
        ]
        table.done()
        here = [
            (deployment, below.place) for deployment, below in deployments if deployment is not None
        ]
        self.deployed.setdefault(certificate.lineage, tuple(place for _, place in here))
        return replace(certificate, deployments=tuple(deployment for deployment, _ in here))

    def _report_twice_named(self, table: TomlTable, certificate: DesiredCertificate) -> None:
        """Report a domain that two deployments name. Otherwise each deployment would replace the
        other's certificate at the domain, in every run.
        """
        for deployment in certificate.deployments:
            if deployment.delivery is not None:  # `_must_be_free` reports shared receivers
                continue
            for domain in deployment.domains or ():
                place, lineage = (deployment.target, domain), certificate.lineage
                if self.named.get(place) == lineage:
                    problem = Text("two deployments to {target} name {domain}")
                    table.report("deploy", problem.filled(target=place[0], domain=domain))
                elif place in self.named:
                    problem = Text("{lineage} names {domain} already")
                    table.report("deploy", problem.filled(lineage=self.named[place], domain=domain))
                self.named.setdefault(place, lineage)

    def _issued(self, table: TomlTable, lineage: str | None) -> DesiredCertificate:
        names = _names(table)
        _must_be_issued_by_each(self.acme.authorities, table, names)
        dns, zones = read_dns_accounts(
            table, names, account_among(self.accounts), self.acme.issuance
        )
        return DesiredCertificate(
            lineage=lineage or next(iter(names), str(table.place.trail)),
            names=names,
            dns=dns,
            dns_zones=zones,
            key_type=table.take("key_type", key_type, self.acme.key_type),
            issuance=self.acme.issuance,
        )

    def _imported(self, table: TomlTable, lineage: str | None) -> DesiredCertificate:
        """Read a certificate that another ACME client writes to files. Without a `name`, the
        lineage has the name of the files' directory.
        """
        for key in {"fullchain", "privkey"}.difference(table.written):
            table.report(key, Text("missing: a certificate from files also needs its key"))
        decided = [key for key in ("names", "dns", "key_type") if key in table]
        for key in decided:
            table.report(key, Text("not with `fullchain`: the client that made the files decides"))
        table.allow(*decided)
        fullchain, privkey = (
            table.take(key, lambda value: str(self.paths.resolve(values.word(value))), "")
            for key in ("fullchain", "privkey")
        )
        called = PurePath(os.path.normpath(fullchain)).parent.name
        return DesiredCertificate(
            lineage=lineage or called or str(table.place.trail),
            names=(),
            files=desired.PemFiles(fullchain, privkey),
        )

    def _deployment(
        self, table: TomlTable, certificate: DesiredCertificate
    ) -> DesiredDeployment | None:
        """Return a deployment, or `None` if only other hosts carry out the deployment (`hosts`)."""
        if "to" not in table:
            table.report("to", Text("missing: the account that serves the certificate"))
        target = table.take("to", self._target, "")
        if target in RESERVED:
            hosts = table.take_list("hosts", values.word, (self.host,))
            self.hosts.update(hosts if "hosts" in table else ())
            is_here = self.host in hosts
            delivery = self._delivery(target, certificate.lineage, table, is_here=is_here)
            deployment = delivered(delivery, read_serves(table, certificate.names))
            if target == Kind.FILES.value:
                deployment = replace(deployment, on_failure=_on_failure(table))
            table.done()
            return deployment if is_here else None
        if target in self.servers:
            return self._to_server(table, target, certificate)
        if "hosts" in table and target:
            self._report_hosts(table, target)
        kind, https = self._options(table, target)
        domains, globs, exclude = _domains(table, certificate.names)
        deployment = DesiredDeployment(
            target=target,
            domains=domains,
            globs=globs,
            exclude=exclude,
            kind=kind,
            https=https,
            retire=table.take("retire", _one_of(desired.Retirement), desired.Retirement.SUPERSEDED),
            drift=table.take("drift", _one_of(desired.DriftPolicy), desired.DriftPolicy.REPAIR),
            on_failure=_on_failure(table),
        )
        if not target:
            # `to` is missing or wrong, so the keys may be meant for `files` or `command`.
            for settings in SETTINGS.values():
                table.allow(*settings)
        table.done()
        return deployment

    @staticmethod
    def _report_hosts(table: TomlTable, target: str) -> None:
        problem = Text('only for "files" and "command": any host deploys to {target}')
        table.report("hosts", problem.filled(target=target))
        table.allow("hosts")

    def _to_server(
        self, table: TomlTable, target: str, certificate: DesiredCertificate
    ) -> DesiredDeployment:
        if "hosts" in table:
            self._report_hosts(table, target)
        files = self._files(table, on_server=target)
        problem = Text("line {line} already uses {name}; choose another directory")
        self._must_be_free(table, "directory", (target, files.directory), problem)
        deployment = delivered(files, read_serves(table, certificate.names))
        deployment = replace(deployment, on_failure=_on_failure(table))
        table.done()
        return deployment

    def _target(self, value: object) -> str:
        if isinstance(value, str) and value in RESERVED:
            return value
        try:
            return account_among(self.accounts)(value)
        except ConfigError as unknown:
            if not isinstance(value, str) or nearest(value, [*self.accounts, *RESERVED]):
                raise
            if self.options_of(value) is not None:  # a known target without an account in this file
                raise
            problem = Text(
                "{problem}. certferry supports the CDNs listed by `certferry help adapters`. For"
                ' another CDN, to = "command" hands the certificate to a program of yours, and to'
                ' = "files" writes the certificate to a directory'
            )
            raise ConfigError(problem.filled(problem=unknown.message)) from None

    def _options(self, table: TomlTable, target: str) -> tuple[Kind, desired.DesiredHttps]:
        """Return the kind and the HTTPS settings, read by the target's adapter. For a misspelt
        target, use the adapter of the target probably meant. For an unknown target, return
        defaults.
        """
        given = target or str(table.take("to", lambda given: given, ""))
        target = target or nearest(given, self.accounts) or ""
        beside = [key for key in table.written if key not in _COMMON]
        reader = self.options_of(target) if beside else None
        if reader is None:
            table.allow(*beside)  # the unknown target is reported, so its keys need no mistakes
            return Kind.AUTO, desired.DesiredHttps()
        return reader(table)

    def _delivery(
        self, to: str, lineage: str, table: TomlTable, *, is_here: bool
    ) -> desired.FileDelivery | desired.CommandDelivery:
        if to == Kind.FILES.value:
            files = self._files(table)
            # A directory holds the files of one certificate only. Real paths are compared, because
            # several symbolic links may lead to the same directory.
            place = files.directory and os.path.realpath(files.directory)
            problem = Text("line {line} already uses {name}; choose another directory")
            if is_here:
                self._must_be_free(table, "directory", (to, place), problem)
            return files
        command = self._command(table)
        problem = Text(
            "{name} already runs for this certificate, at line {line}; give one of the two"
            " another `name`"
        )
        if is_here:
            self._must_be_free(table, "name", (lineage, command.label), problem)
        return command

    def _must_be_free(
        self, table: TomlTable, key: str, name: tuple[str, str], problem: Text
    ) -> None:
        first = self.taken.setdefault(name, table.place) if name[1] else table.place
        if first is not table.place:
            problem = problem.filled(name=name[1], line=first.line)
            table.report(key if key in table else "command", problem)

    def _files(self, table: TomlTable, on_server: str = "") -> desired.FileDelivery:
        """Read a directory with its files' rights and programs: of this host, or of the server with
        the account `on_server`.
        """
        if "directory" not in table:
            table.report("directory", Text("missing: the directory for the four PEM files"))
        for key in ("timeout", "test"):
            if key in table and "reload" not in table:
                table.report(key, Text("only together with `reload`"))
        if "on_failure" in table and "serves" not in table:
            table.report("on_failure", Text("only together with `serves`"))
        arguments = arguments_on_server if on_server else self._arguments
        directory = directory_on_server if on_server else self._directory
        reload = table.take("reload", arguments, None)
        test = table.take("test", arguments, None)
        timeout = table.take("timeout", values.seconds, RELOAD_TIMEOUT)
        return desired.FileDelivery(
            directory=table.take("directory", directory, ""),
            owner=table.take("owner", values.word, None),
            group=table.take("group", values.word, None),
            mode=table.take("mode", _mode, desired.MODE),
            key_mode=table.take("key_mode", _key_mode, desired.KEY_MODE),
            reload=self._program(reload, timeout, on_server) if reload else None,
            test=self._program(test, timeout, on_server) if test else None,
            account=on_server,
        )

    def _command(self, table: TomlTable) -> desired.CommandDelivery:
        if "command" not in table:
            table.report("command", Text("missing: the command to run for the certificate"))
        arguments = table.take("command", self._arguments, ("",))
        timeout = table.take("timeout", values.seconds, COMMAND_TIMEOUT)
        name = table.take("name", values.word, PurePath(arguments[0]).name)
        return desired.CommandDelivery(name, self._program(arguments, timeout))

    def _program(
        self, arguments: tuple[str, ...], timeout: timedelta, on_server: str = ""
    ) -> desired.Program:
        directory = "" if on_server else str(self.paths.directory)
        return desired.Program(arguments, directory, timeout)

    def _directory(self, value: object) -> str:
        return os.path.normpath(self.paths.resolve(values.word(value)))

    def _arguments(self, value: object) -> tuple[str, ...]:
        """Read a command: a list of arguments, or a string that is split as a shell splits it. If
        the program's name has a slash, the name becomes an absolute path.
        """
        program, *others = words_of(value)
        if "/" in program:
            program = str(self.paths.resolve(program))
        return (program, *others)


def _lineage(value: object) -> str:
    name = values.word(value)
    if not _LINEAGE.fullmatch(name):
        raise ConfigError(
            Text("must not contain spaces or slashes, begin with a dash, or consist of dots")
        )
    return name


def _names(table: TomlTable) -> tuple[str, ...]:
    if "names" not in table:
        table.report("names", Text("missing: the names for the certificate"))
    listed = table.take_list(
        "names", lambda value: identifiers.normalise(values.one_name(value)), ()
    )
    names = tuple(dict.fromkeys(listed))
    if len(names) > MOST_NAMES:
        problem = Text(
            "{count} names; a certificate can have {most}: split them into several [[certificates]]"
        )
        problem = problem.filled(count=len(names), most=MOST_NAMES)
        table.report("names", problem)
    return names


def _domains(
    table: TomlTable, names: tuple[str, ...]
) -> tuple[tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]]:
    """Read `domains` and `exclude`. Return `domains`, `globs` and `exclude` of `DesiredDeployment`.
    `names` are the certificate's names; empty if the names are unknown.
    """

    def pattern(value: object) -> str:
        return identifiers.read_pattern(values.one_name(value))

    patterns = table.take_list("domains", pattern, None, instead=AUTO)
    exclude = tuple(dict.fromkeys(table.take_list("exclude", pattern, (), empty=True)))
    meant = names if patterns is None else patterns
    left = dict.fromkeys(
        domain
        for domain in meant
        if not any(identifiers.takes_all(excluded, domain) for excluded in exclude)
    )
    if meant and exclude and not left:
        problem = Text(
            "excludes every domain that the certificate covers; remove the domains that"
            " should be served"
        )
        if patterns is not None:
            problem = Text(
                "excludes every domain of `domains` ({patterns}); remove the domains that should"
                " be served",
                patterns=list(patterns),
            )
        table.report("exclude", problem)
    if patterns is None:
        return None, (), exclude
    domains = dict.fromkeys(
        identifiers.domain_of(domain) for domain in left if not identifiers.is_glob(domain)
    )
    return tuple(domains), tuple(filter(identifiers.is_glob, left)), exclude


def _on_failure(table: TomlTable) -> desired.OnFailure:
    return table.take("on_failure", _one_of(desired.OnFailure), desired.OnFailure.KEEP)


def _one_of(members: type[E]) -> Read[E]:
    reader = values.one_of([member.value for member in members])
    return lambda value: members(reader(value))


def _mode(value: object) -> int:
    digits = values.string(value)
    if not _MODE.fullmatch(digits):
        raise ConfigError(Text('must be an octal mode in quotes, for example "0644"'))
    mode = int(digits, 8)
    if mode & _RUN_OR_SPECIAL or not mode & _OWNER_READS or mode & _OTHERS_WRITE:
        raise ConfigError(
            Text(
                "must let the owner read, no user execute and not every user write, for example"
                " 0644"
            )
        )
    return mode


def _key_mode(value: object) -> int:
    mode = _mode(value)
    if mode & _OTHERS:
        raise ConfigError(Text("would open the private key to every user; write 0600 or 0640"))
    return mode


def _must_be_issued_by_each(
    authorities: Iterable[CaSettings], table: TomlTable, names: Sequence[str]
) -> None:
    """Report `names` that a CA of `[acme]` never issues."""
    for ca in authorities:
        if ca.directory not in values.ONE_NAME_ONLY:
            continue
        if len(names) > 1 or any(map(identifiers.is_wildcard, names)):
            problem = Text(
                "{ca} issues certificates for one name and without `*`: choose another CA for"
                " `directory` or `fallback` under [acme]",
                ca=ca.name,
            )
            table.report("names", problem)


# the accounts writing the challenge records: an account, or a table of zones


def read_dns_accounts(
    table: TomlTable, names: Sequence[str], read: Read[str], issuance: desired.Issuance
) -> tuple[str, Zones]:
    """Read `dns`: the label of an account, or a table with an account for each zone. Return the
    label and the zones, of which at most one is not empty.

    Both are empty after a mistake. Both are also empty if `dns` is absent because permanent records
    (dns-persist-01) prove the names.
    """
    has_fallback = len(issuance.authorities) > 1
    if "dns" not in table and not issuance.dns_persist:
        table.report("dns", Text("missing: the account that writes the challenge records"))
    elif "dns" not in table and has_fallback:
        problem = Text(
            "missing: with `dns_persist` a record proves names to the main CA only; the CAs in"
            " `fallback` need an account that writes the challenge records"
        )
        table.report("dns", problem)
    if not table.holds(dict, "dns"):
        return table.take("dns", read, ""), ()
    zones = _zones(table.table("dns"), read)
    if not zones:
        table.report("dns", Text("contains no zone with its account"))
    for name in names if zones and (has_fallback or not issuance.dns_persist) else ():
        if not any(identifiers.is_within(identifiers.base_name(name), zone) for zone, _ in zones):
            problem = Text(
                "none of the zones contains {name}: add {line}, with the account that writes"
                " there. If a CNAME leads the challenge into another zone, use the other zone's"
                " account",
                name=name,
                line=f'"{identifiers.base_name(name)}" = "{zones[0][1]}"',
            )
            table.report("dns", problem)
    return "", zones


def _zones(table: TomlTable, read: Read[str]) -> Zones:
    accounts: dict[str, str] = {}
    for key in table.written:
        account = table.take(key, read, "")
        try:
            zone = identifiers.normalise(key)
        except ConfigError as wrong:
            table.report(key, wrong.message)
            continue
        if identifiers.is_wildcard(zone):
            table.report(key, Text("a zone has no `*`: a zone contains every name below it"))
            continue
        if zone in accounts:
            table.report(key, Text("the zone is already listed, in another spelling"))
        accounts[zone] = account
    return tuple(sorted(accounts.items(), key=lambda entry: (-entry[0].count("."), entry[0])))


def account_among(accounts: Collection[str]) -> Read[str]:
    """Make a reader of an account's label, which raises `ConfigError` unless the label is among
    `accounts`.
    """

    def read(value: object) -> str:
        label = values.word(value)
        if label not in accounts:
            raise ConfigError(_no_account(label, accounts))
        return label

    return read


def _no_account(label: str, accounts: Collection[str]) -> Text:
    meant = nearest(label, accounts)
    problem = Text("there is no account {name}; did you mean {meant}? declared are {accounts}")
    if not accounts:
        problem = Text("there is no account {name}; none is declared")
    elif meant is None:
        problem = Text("there is no account {name}; declared are {accounts}")
    elif len(accounts) == 1:
        problem = Text("there is no account {name}; did you mean {meant}?")
    return problem.filled(name=label, meant=meant, accounts=sorted(accounts))
