"""The way of `certferry init`: what is known, what is found, what is proposed, what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from certferry.cli.exits import Exit
from certferry.cli.init import files, keys, text
from certferry.cli.interview import Back, Interview, Option, Step, walk
from certferry.cli.options import Front
from certferry.cli.status import show_plan
from certferry.config.certificates import MOST_NAMES
from certferry.config.env_files import fill_in
from certferry.config.model import Settings
from certferry.config.propose import NewAccount, Preamble, text_of, with_accounts, with_keys
from certferry.config.values import DIRECTORIES, directory_url, email_address
from certferry.core.certificates.certificate import covered_by
from certferry.core.discovery import proposal as proposing
from certferry.core.discovery.inventory import FoundDomain
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, ConfigError, Interrupted
from certferry.migration.home import OldCertificate, OldClient, OldHome
from certferry.migration.takeover import as_remembered, propose_takeover
from certferry.present.layout import line
from certferry.present.progress import log_change
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.accounts import VendorAccounts
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, Family, installed
from certferry.wiring.machine import old_home
from certferry.wiring.settings import Service, offered
from certferry.wiring.workspace import Workspace, who_runs

NEEDS_ACCOUNT = frozenset({DIRECTORIES["zerossl"], DIRECTORIES["google"]})
"""Directories that want an external account (RFC 8555 §7.3.4), whose key no client gives away."""

SIGNS_OF_LIFE = 50
"""After how many domains something is said: ten are asked for in a second
(docs/facts/qiniu.md §9)."""


def run(asked: files.Asked, front: Front, interview: Interview | None) -> Exit:
    """Write a configuration. Raises `ConfigError` and whatever the accounts answer."""
    return _Wizard(asked, front, interview).to_the_end()


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known so far; `services` and `labels` of accounts by the groups of their families."""

    services: Mapping[str, Service] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    accounts: tuple[NewAccount, ...] = ()
    fresh: Mapping[str, Secret] = field(default_factory=dict)
    missing: tuple[keys.Missing, ...] = ()
    email: str | None = None
    places: proposing.Places = field(default_factory=proposing.Places)
    home: OldHome | None = None
    directory: str | None = None
    wanted: frozenset[str] = frozenset()
    grouping: proposing.Grouping = proposing.Grouping.WILDCARD
    channel: keys.Alert | None = None
    heartbeat: keys.Alert | None = None
    proposal: proposing.Proposal = field(default_factory=proposing.Proposal)
    text: str = field(default="", repr=False)
    is_agreed: bool = True

    @property
    def dns(self) -> str:
        """The label of the account that proves names, or ""."""
        return self.labels.get(DNS_PROVIDERS.group, "")

    @property
    def target(self) -> str:
        """The label of the account whose domains are listed, or ""."""
        return self.labels.get(TARGETS.group, "")

    @property
    def fresh_keys(self) -> dict[str, Secret]:
        """All keys that are to be kept yet."""
        alerts = [one.fresh for one in (self.channel, self.heartbeat) if one is not None]
        return {**self.fresh, **{name: key for fresh in alerts for name, key in fresh.items()}}


class _Wizard:
    def __init__(self, asked: files.Asked, front: Front, interview: Interview | None) -> None:
        self._asked = asked
        self._front = front
        self._console = front.console
        self._voice = front.console.voice
        self._interview = interview
        self._now = datetime.now(UTC)
        self._client = asked.client or ""
        self._environ = asked.files.environment(front.console.environ)
        # What was answered before the operator went back; `None`: no domain was chosen so far.
        self._chosen: frozenset[str] | None = None
        self._channel: keys.Alert | None = None
        self._heartbeat: keys.Alert | None = None

    def to_the_end(self) -> Exit:
        if self._interview is not None:
            self._console.print_stderr(text.introduction(self._asked.files, self._voice))
        self._home = self._old_home()
        self._given = files.settings_to_begin_with(self._asked.settings)
        self._env_files = files.env_files_in(self._given, self._asked.files, self._console.environ)
        self._environ = fill_in(self._environ, self._env_files)
        self._start = files.Beginning(self._given, self._asked.files.config, self._environ)
        # What is wrong in the given file is reported before a key is typed.
        self._start.settings(self._given, {})
        if self._asked.files.keys.exists():  # from an earlier time: the keys may be others by now
            self._say(Text("Keys are read from {path}.", path=self._asked.files.keys))
        # Keys that could be written nowhere are not asked for.
        has_place = "env_files" not in self._given.values
        theirs, ask = self._home.keys if self._home else {}, self._interview if has_place else None
        ring = keys.KeyRing(
            self._environ, theirs, ask, partial(keys.takes, self._start, self._console)
        )
        answers = walk(self._steps(ring, has_place=has_place), Answers(), self._interview)
        if not answers.is_agreed:
            self._say(Text("Nothing was written."))
            return Exit.OK
        self._write(answers)
        return self._plan(answers)

    def _steps(self, ring: keys.KeyRing, *, has_place: bool) -> list[Step[Answers]]:
        # Where nothing is to be issued, it makes no difference who could prove a name.
        families = [TARGETS] if self._asked.keep_client else [DNS_PROVIDERS, TARGETS]
        steps: list[Step[Answers]] = []
        for family in families:
            steps.append(Step("service", partial(self._choose_service, ring, family)))
            steps.append(Step("keys", partial(self._find_keys, ring, family)))
        steps.append(Step("address", self._ask_address))
        if self._interview is not None and has_place:
            steps += self._alerts(ring, self._interview)
        return [
            *steps,
            Step("look", self._look),
            Step("domains", self._choose_domains),
            Step("grouping", self._choose_grouping),
            Step("propose", self._propose),
            Step("agree", self._agree),
        ]

    def _alerts(self, ring: keys.KeyRing, interview: Interview) -> Iterator[Step[Answers]]:
        """Ask how operators are to be alerted, where the given settings do not say it."""
        alerts = keys.Alerts(self._start, self._console, ring, interview)
        if "notify" not in self._given.values:
            yield Step("channel", partial(self._ask_channel, alerts))
        if "heartbeat" not in self._given.values:
            yield Step("heartbeat", partial(self._ask_heartbeat, alerts))

    def _ask_channel(self, alerts: keys.Alerts, known: Answers) -> Answers:
        self._channel = alerts.channel(self._channel)
        return replace(known, channel=self._channel)

    def _ask_heartbeat(self, alerts: keys.Alerts, known: Answers) -> Answers:
        self._heartbeat = alerts.heartbeat(self._heartbeat)
        return replace(known, heartbeat=self._heartbeat)

    # what is known

    def _old_home(self) -> OldHome | None:
        if self._asked.client is None:
            return None
        found = old_home(OldClient(self._asked.client), self._asked.home, self._environ)
        client = found.client.value
        for one in found.unreadable:
            said = Text("{client}: {entry} is left out: {problem}")
            self._warn(said.filled(client=client, entry=one.entry, problem=one.problem))
        if found.certificates:
            return found
        said = Text("no certificate of {client}'s is in {home}")
        hint = Text("name the client's directory with --home")
        if found.unreadable:
            said = Text("no certificate of {client}'s in {home} can be read")
            hint = Text(
                "see the warnings above; if the files are another user's, run this as that user"
            )
        raise ConfigError(said.filled(client=client, home=found.home), hint=hint)

    def _choose_service(self, ring: keys.KeyRing, family: Family, known: Answers) -> Answers:
        service = ring.service(family, self._given.tables("accounts"))
        return replace(known, services={**known.services, family.group: service})

    def _find_keys(self, ring: keys.KeyRing, family: Family, known: Answers) -> Answers:
        """Find the keys that the given settings do not have; an account may be of both families."""
        there, service = self._given.tables("accounts"), known.services[family.group]
        label = keys.label_of(service.type, there)
        labels = {**known.labels, family.group: label}
        if label in known.labels.values():
            return replace(known, labels=labels)
        # What a client made may go to files alone.
        optional, has = self._home is not None and family is TARGETS, there.get(label, {})
        found = ring.account(service, label, has, known.fresh, optional=optional)
        missing = (*known.missing, *found.missing)
        if found.account is None:
            return replace(known, labels=labels if label in there else known.labels)
        accounts, fresh = (*known.accounts, found.account), {**known.fresh, **found.fresh}
        return replace(known, labels=labels, accounts=accounts, fresh=fresh, missing=missing)

    def _ask_address(self, known: Answers) -> Answers:
        keys.must_not_be_missing(known.missing, self._given)
        keys.must_have_a_place(known.fresh, self._given, self._client)
        if "acme" in self._given.values:
            return known
        return replace(known, email=self._email(), directory=DIRECTORIES["letsencrypt"])

    def _email(self) -> str | None:
        known = self._asked.email or (self._home.email if self._home else None)
        if known is not None:
            with suppress(ConfigError):  # what a client holds may be none
                return email_address(known)
        if self._interview is None:
            return None
        question = Text("Contact email for the CA (optional; Enter to skip)")
        return self._interview.ask_for(question, email_address)

    def _settings(self, known: Answers) -> Settings:
        # What is wrong with the given settings is wrong in their file: the other is not there yet.
        return self._start.settings(with_accounts(self._given, known.accounts), known.fresh)

    # what is found

    def _look(self, known: Answers) -> Answers:
        """Read the accounts, and name the client's certificates as the state does."""
        # A mistake in the settings of a file is reported before any account is read.
        with_keys(self._given, known.accounts)
        settings, home = self._settings(known), self._home
        dns, target = known.dns, known.target
        with (
            self._kept(known),
            Workspace(settings, reads_only=True, language=self._voice.language) as workspace,
        ):
            if dns:
                self._say(Text("Looking at the zones of the account {account} …", account=dns))
            accounts = workspace.accounts(Run())
            zones = accounts.zones_of(dns) if dns else ()
            places = proposing.Places(dns, zones, target, ())
            if target:
                places = replace(
                    places, domains=proposing.as_nested(self._survey(accounts, target))
                )
            if home is not None:
                home = replace(home, certificates=as_remembered(home.certificates, workspace.state))
        return replace(known, places=places, home=home)

    @contextmanager
    def _kept(self, known: Answers) -> Iterator[None]:
        """Keep what was typed and taken where the look fails: the next interview begins with it."""
        try:
            yield
        except CertferryError:
            if self._interview is not None and known.fresh_keys:
                path = self._asked.files.keys
                files.keep(path, known.fresh_keys)
                self._say(Text("The keys are kept in {path}, for the next `init`.", path=path))
            raise

    def _survey(self, accounts: VendorAccounts, target: str) -> tuple[FoundDomain, ...]:
        def looked(count: int, total: int) -> None:
            # An account of hundreds of domains takes a minute.
            if count % SIGNS_OF_LIFE == 0 and count < total:
                self._say(Text("… {count} of {total} domains", count=count, total=total))

        self._say(Text("Looking at the domains of the account {account} …", account=target))
        survey = accounts.survey_of(target)(looked)
        for error in survey.unread:
            self._warn(Text("not everything could be read: {problem}", problem=error.message))
        if not survey.domains and not survey.unread:
            self._warn(Text("the account {account} has no domains", account=target))
        return survey.domains

    # what is chosen

    def _choose_domains(self, known: Answers) -> Answers:
        """Show the domains, and ask which get certificates: by default those that serve HTTPS."""
        ask, offered_ones = self._interview, self._offered(known)
        usual = proposing.with_https(offered_ones)
        off = [one.domain for one in offered_ones if proposing.has_https_off(one)]
        # Where the names are those of another client, only what it would switch on is asked for.
        is_asked = ask is not None and (off or (len(offered_ones) > 1 and known.home is None))
        numbered = [*(one.domain for one in offered_ones if one.domain in usual), *off]
        self._show_domains(known, numbered if is_asked else [])
        if ask is None or not is_asked:
            return replace(known, wanted=usual)
        if off:
            ask.print(text.https_is_off(off))
        ask.print(
            Text("Which domains get certificates? Numbers such as 1-3,7, names, `all`, `none`.")
        )
        earlier = (self._chosen or frozenset()) & {*numbered} or usual
        marked = frozenset(n for n, name in enumerate(numbered, start=1) if name in earlier)
        chosen = ask.choose_several(Text("Domains"), numbered, marked)
        self._chosen = frozenset(numbered[number - 1] for number in chosen)
        return replace(known, wanted=self._chosen)

    def _show_domains(self, known: Answers, numbered: Sequence[str]) -> None:
        """Show what was found, and first of all what there is to choose from."""
        if not known.places.domains or not (numbered or not self._front.quiet):
            return
        service = ""
        if known.dns:
            type_ = self._settings(known).accounts[known.dns].type
            service = installed().find(DNS_PROVIDERS, type_).adapter.SERVICE
        by_name = {one.domain: one for one in known.places.domains}
        in_turn = [by_name[name] for name in dict.fromkeys([*numbered, *by_name])]
        places = replace(known.places, domains=tuple(in_turn))
        self._console.print_stderr_table(
            text.found(places, service, self._now, self._voice, numbered)
        )

    def _offered(self, known: Answers) -> list[FoundDomain]:
        """Return the domains that can have certificates; in a takeover, those that it is about."""
        places, home = known.places, known.home
        if home is None:
            return [one for one in places.domains if proposing.obstacle_to(one, places) is None]
        covered = [name for one in home.certificates for name in one.bundle.certificate.names]
        return [
            one
            for one in places.domains
            if one.problem is None and one.by_itself and covered_by(covered, one.domain)
        ]

    def _choose_grouping(self, known: Answers) -> Answers:
        """Ask how domains are to share certificates, where that makes a difference."""
        ask = self._interview
        if ask is None or known.home is not None:
            return known
        ways: dict[tuple[tuple[str, ...], ...], proposing.Grouping] = {}
        for grouping in proposing.Grouping:
            made = proposing.propose_for_domains(known.places, MOST_NAMES, known.wanted, grouping)
            names = tuple(one.names for one in made.certificates)
            # Of two ways with the same result, the one in plainer words.
            if names not in ways or grouping is proposing.Grouping.NAMES:
                ways[names] = grouping
        if len(ways) == 1:
            return known
        options = [
            Option(self._voice.say(text.grouped(grouping, names)), frozenset({grouping.value}))
            for names, grouping in ways.items()
        ]
        chosen = ask.choose(Text("Certificates"), options, 0, _no_such_number)
        return replace(known, grouping=list(ways.values())[chosen or 0])

    # what is proposed

    def _propose(self, known: Answers) -> Answers:
        """Propose certificates, of the CA that most of a client's have come from."""
        proposal, directory = self._proposal(known), known.directory
        taken = () if known.home is None else known.home.taken_over_by(proposal)
        directories = [one.directory for one in taken if one.directory]
        if directory is not None:
            counted = Counter(filter(_is_usable, directories))
            directory = counted.most_common(1)[0][0] if counted else directory
        in_force = directory or self._settings(known).acme.directory
        for earlier in dict.fromkeys(directories):
            if earlier != in_force:  # names may be pinned to it by CAA
                said = Text(
                    "certificates have come from {earlier}; the next ones come from {directory}"
                )
                self._warn(said.filled(earlier=earlier, directory=in_force))
        written = text_of(self._preamble(known, directory), proposal, self._voice.say)
        return replace(known, proposal=proposal, text=written)

    def _proposal(self, known: Answers) -> proposing.Proposal:
        home, places = known.home, known.places
        if home is None:
            return proposing.propose_for_domains(places, MOST_NAMES, known.wanted, known.grouping)
        if not places.target:
            self._warn_of_hooks(home)
        keeps = self._asked.keep_client
        found = home.certificates if keeps else [*map(self._as_allowed, home.certificates)]
        return propose_takeover(found, places, home.client.value, known.wanted, keep_client=keeps)

    def _warn_of_hooks(self, home: OldHome) -> None:
        """Warn of what the client ran for the usual target, where there are no keys to do it."""
        hooks = [hook for one in home.certificates for hook in one.installed.runs]
        programs = dict.fromkeys(hook.program for hook in hooks if hook.goes_to_qiniu)
        if programs:
            usual, *_ = offered(TARGETS)
            said = Text(
                "{client} runs {programs} for {service}, and certferry deploys nothing there"
                " without keys: set {variables}, or name a file that does with --env-file",
                client=home.client.value,
                programs=list(programs),
                service=usual.name,
                variables=[question.names[0] for question in usual.questions if question.names],
            )
            self._warn(said)

    def _preamble(self, known: Answers, directory: str | None) -> Preamble:
        there = self._given.tables("accounts")
        return Preamble(
            settings=with_keys(self._given, known.accounts),
            env_files=self._asked.files.named(
                with_keys=bool(known.fresh_keys), already=[file.path for file in self._env_files]
            ),
            directory=directory,
            email=known.email,
            accounts=tuple(one for one in known.accounts if one.label not in there),
            channel=known.channel.channel if known.channel else None,
            heartbeat=known.heartbeat.heartbeat if known.heartbeat else "",
        )

    def _as_allowed(self, one: OldCertificate) -> OldCertificate:
        """Leave out what another user's notes do, unless the operator, not `--yes`, agrees."""
        if one.doubt is None or not one.installed.directory:
            return one
        ask = self._interview
        if ask is not None and ask.confirm(text.may_be_followed(one, one.doubt)):
            return one
        said = Text("{name}: {doubt}; the copies and commands that it names are left out")
        self._warn(said.filled(name=one.lineage, doubt=one.doubt))
        return replace(one, installed=one.installed.not_followed())

    def _agree(self, known: Answers) -> Answers:
        """Show the file, and ask; `--yes` agrees. A no may mean other domains or other keys."""
        ask = self._interview
        if ask is None:
            return known
        settings, shown = with_keys(self._given, known.accounts).strip(), known.text
        if settings:  # Given settings may hold a secret: their owner knows them.
            shown = shown.replace(settings, f"# … {self._asked.settings} …")
        self._console.print(line(row) for row in shown.splitlines())
        path = self._asked.files.config
        if ask.confirm(Text("Write this to {path}?", path=path), usual=not path.exists()):
            return known
        ways = []
        if self._chosen is not None:
            ways.append(("domains", Text("choose the domains again")))
        if known.fresh:
            ways.append(("keys", Text("type other keys")))
        if ways:
            ways.append(("stop", Text("stop, and write nothing")))
            options = [Option(self._voice.say(said), frozenset({to})) for to, said in ways]
            chosen = ask.choose(Text("What now"), options, 0, _no_such_number)
            if (to := ways[chosen or 0][0]) != "stop":
                raise Back(to)
        return replace(known, is_agreed=False)

    # what is written

    def _write(self, known: Answers) -> None:
        proposal, home = known.proposal, known.home

        def adopt(settings: Settings) -> None:
            with Workspace(settings) as workspace:
                for one in proposal.certificates:
                    if one.adopts is not None:
                        workspace.adopt(one.lineage, one.adopts, who_runs(settings))

        own = self._asked.files
        environ = self._environ | files.revealed(known.fresh_keys)
        paths, copies = files.put(own, known.text, known.fresh_keys, environ, adopt)
        run_log, voice = self._console.run_log, self._voice
        written = [Text("Written (mode 0600): {path}", path=path) for path in paths]
        for said in written:
            log_change("init.write", said, run_log)
        for one in proposal.certificates:
            if one.adopts is not None:
                said = text.standing_of(one, self._client, self._now)
                log_change("init.adopt", said, run_log, one.lineage)
        if self._front.quiet:
            return
        kept = [Text("The previous file is kept: {path}", path=path) for path in copies]
        self._console.print(line(voice.say(said)) for said in (*written, *kept))
        self._console.print(text.proposed(proposal.certificates, self._client, self._now, voice))
        asked_for = {one.domain for one in self._offered(known)} if self._interview else set()
        self._warn(*text.left_out(proposal, asked_for))
        if not proposal.certificates:
            self._warn(Text("{path} declares no certificates", path=own.config))
        if home is not None:
            self._console.print(text.to_switch_off(home, proposal, voice))
        has_channel = known.channel is not None or "notify" in self._given.values
        has_heartbeat = known.heartbeat is not None or "heartbeat" in self._given.values
        following = text.next_steps(
            has_channel=has_channel, has_heartbeat=has_heartbeat, voice=voice
        )
        self._console.print_wrapped(following)

    def _plan(self, known: Answers) -> Exit:
        """Offer to run `certferry plan`; its result does not matter: the files are written."""
        ask = self._interview
        if ask is None or not known.proposal.certificates:
            return Exit.OK
        is_wanted = False
        with suppress(Back, Interrupted):
            is_wanted = ask.confirm(Text("Run `certferry plan` now?"), usual=True)
        if not is_wanted:
            return Exit.OK
        return show_plan(replace(self._front, config=self._asked.files.config))

    def _say(self, text_: Text) -> None:
        if not self._front.quiet:
            self._console.print_stderr([line(self._voice.say(text_))])

    def _warn(self, *problems: Text) -> None:
        for problem in problems:
            self._console.print_stderr(self._voice.warning(problem))


def _no_such_number(answer: str) -> Text:
    return Text("{answer} is not in the list", answer=repr(answer))


def _is_usable(directory: str) -> bool:
    try:
        return directory_url(directory) == directory and directory not in NEEDS_ACCOUNT
    except ConfigError:
        return False
