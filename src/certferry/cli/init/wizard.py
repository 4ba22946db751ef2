"""The steps of `certferry init`: find keys, read the accounts, propose certificates, write files.

In an interview the operator answers questions, and may go back to earlier questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from certferry.cli.exits import Exit
from certferry.cli.init import files, keys, text
from certferry.cli.init.answers import Answers
from certferry.cli.interview import Back, Interview, Option, Step, walk
from certferry.cli.options import CommandContext
from certferry.cli.status import show_plan
from certferry.config.certificates import MOST_NAMES
from certferry.config.env_files import fill_in
from certferry.config.model import Settings
from certferry.config.propose import Preamble, text_of, with_accounts, with_keys
from certferry.config.values import (
    DIRECTORIES,
    NEED_EXTERNAL_ACCOUNT,
    directory_url,
    email_address,
)
from certferry.core.certificates.certificate import covered_by
from certferry.core.discovery import proposal as proposing
from certferry.core.discovery.inventory import FoundDomain
from certferry.errors import CertferryError, ConfigError, DeployError, Interrupted
from certferry.migration.home import OldCertificate, OldClient, OldHome
from certferry.migration.takeover import as_remembered, propose_takeover
from certferry.present.layout import line
from certferry.present.progress import log_change
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.accounts import VendorAccounts
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, Family, installed
from certferry.wiring.machine import old_home
from certferry.wiring.settings import offered
from certferry.wiring.workspace import Workspace, who_runs

SIGNS_OF_LIFE = 50
"""The number of domains between two progress messages: about five seconds, because a CDN answers
for ten domains a second (docs/facts/qiniu.md §9).
"""


def run(asked: files.Asked, context: CommandContext, interview: Interview | None) -> Exit:
    """Write a configuration. Return OK, also if the operator declines. Without an interview ask
    nothing. Raise `ConfigError`, errors of the accounts, and `Interrupted`.
    """
    return _Wizard(asked, context, interview).to_the_end()


class _Wizard:
    def __init__(
        self, asked: files.Asked, context: CommandContext, interview: Interview | None
    ) -> None:
        self._asked = asked
        self._context = context
        self._console = context.console
        self._voice = context.console.voice
        self._interview = interview
        self._now = datetime.now(UTC)
        self._client = asked.client or ""
        self._environ = asked.files.environment(context.console.environ)
        # The last answers, for questions that are asked again after the operator went back.
        # `_chosen` is None until the operator has chosen domains.
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
        # Mistakes in the given file must be reported before the operator types a key.
        self._start.settings(self._given, {})
        if self._asked.files.keys.exists():  # an earlier interview's keys may be wrong by now
            self._say(Text("Keys are read from {path}.", path=self._asked.files.keys))
        # Ask for keys only if there is a place to write them.
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
        # A client that keeps renewing proves the names itself, so no DNS account is needed.
        families = [TARGETS] if self._asked.keep_client else [DNS_PROVIDERS, TARGETS]
        steps: list[Step[Answers]] = []
        for family in families:
            steps.append(Step("service", partial(self._choose_service, ring, family)))
            steps.append(Step("keys", partial(self._find_keys, ring, family)))
        steps.append(Step("further", partial(self._find_further, ring)))
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
        """Yield the steps that ask for a channel and a heartbeat, unless the given settings have
        them.
        """
        alerts = keys.Alerts(self._start, self._console, ring, interview)
        if "notify" not in self._given.values:
            yield Step("channel", partial(self._ask_channel, alerts))
        if "heartbeat" not in self._given.values:
            yield Step("heartbeat", partial(self._ask_heartbeat, alerts))

    def _ask_channel(self, alerts: keys.Alerts, answers: Answers) -> Answers:
        self._channel = alerts.channel(self._channel)
        return replace(answers, channel=self._channel)

    def _ask_heartbeat(self, alerts: keys.Alerts, answers: Answers) -> Answers:
        self._heartbeat = alerts.heartbeat(self._heartbeat)
        return replace(answers, heartbeat=self._heartbeat)

    # the answers

    def _old_home(self) -> OldHome | None:
        if self._asked.client is None:
            return None
        home = old_home(OldClient(self._asked.client), self._asked.home, self._environ)
        client = home.client.value
        for entry in home.unreadable:
            message = Text("{client}: {entry} is left out: {problem}")
            self._warn(message.filled(client=client, entry=entry.entry, problem=entry.problem))
        if home.certificates:
            return home
        message = Text("{home} contains no certificate of {client}")
        hint = Text("set the client's directory with --home")
        if home.unreadable:
            message = Text("no certificate of {client} in {home} can be read")
            hint = Text(
                "see the warnings above; if another user owns the files, run the command as"
                " that user"
            )
        raise ConfigError(message.filled(client=client, home=home.home), hint=hint)

    def _choose_service(self, ring: keys.KeyRing, family: Family, answers: Answers) -> Answers:
        service = ring.service(family, self._given.tables("accounts"))
        return replace(answers, services={**answers.services, family.group: service})

    def _find_keys(self, ring: keys.KeyRing, family: Family, answers: Answers) -> Answers:
        """Add the account of a family, with the keys that the given settings lack. An account
        already added for another family, such as one for DNS and CDN, needs no more keys.
        """
        there, service = self._given.tables("accounts"), answers.services[family.group]
        label = keys.label_of(service.type, there)
        labels = {**answers.labels, family.group: label}
        if label in answers.labels.values():
            return replace(answers, labels=labels)
        # The certificates of another client may go to files only, so a target account is optional.
        optional, has = self._home is not None and family is TARGETS, there.get(label, {})
        keys_found = ring.account(service, label, has, answers.fresh, optional=optional)
        missing = (*answers.missing, *keys_found.missing)
        if keys_found.account is None:
            return replace(answers, labels=labels if label in there else answers.labels)
        accounts, fresh = (
            (*answers.accounts, keys_found.account),
            {**answers.fresh, **keys_found.fresh},
        )
        return replace(answers, labels=labels, accounts=accounts, fresh=fresh, missing=missing)

    def _find_further(self, ring: keys.KeyRing, answers: Answers) -> Answers:
        """Add the other target accounts of the given settings, and an account for each other target
        service whose keys are all at hand.
        """
        there, first = self._given.tables("accounts"), answers.labels
        for label, found in ring.further_accounts(TARGETS, there, first, answers.fresh):
            accounts = answers.accounts + (() if found.account is None else (found.account,))
            further, fresh = (*answers.further, label), {**answers.fresh, **found.fresh}
            answers = replace(answers, further=further, accounts=accounts, fresh=fresh)
        return answers

    def _ask_address(self, answers: Answers) -> Answers:
        keys.must_not_be_missing(answers.missing, self._given)
        keys.must_have_a_place(answers.fresh, self._given, self._client)
        if "acme" in self._given.values:
            return answers
        return replace(answers, email=self._email(), directory=DIRECTORIES["letsencrypt"])

    def _email(self) -> str | None:
        address = self._asked.email or (self._home.email if self._home else None)
        if address is not None:
            with suppress(ConfigError):  # the other client's address may be invalid
                return email_address(address)
        if self._interview is None:
            return None
        question = Text("Contact email for the CA (optional; Enter to skip)")
        return self._interview.ask_for(question, email_address)

    def _settings(self, answers: Answers) -> Settings:
        # The new file does not exist yet, so error messages name the file of `--settings`.
        return self._start.settings(with_accounts(self._given, answers.accounts), answers.fresh)

    # the domains and zones

    def _look(self, answers: Answers) -> Answers:
        """Read the zones and domains of the accounts. Give each of the other client's certificates
        the name under which the state already has the certificate (`as_remembered`). Leave out the
        further accounts that are unreadable or without domains.
        """
        # Report mistakes in the settings before reading any account.
        with_keys(self._given, answers.accounts)
        settings, home, dns = self._settings(answers), self._home, answers.dns
        with (
            self._kept(answers),
            Workspace(settings, reads_only=True, language=self._voice.language) as workspace,
        ):
            if dns:
                self._say(Text("Reading the zones of the account {account} …", account=dns))
            accounts = workspace.accounts(Run())
            zones = accounts.zones_of(dns) if dns else ()
            targets = [
                self._target(accounts, settings, label, is_further=label in answers.further)
                for label in answers.targets
            ]
            places = proposing.Places(dns, zones, tuple(filter(None, targets)))
            if home is not None:
                home = replace(home, certificates=as_remembered(home.certificates, workspace.state))
        kept = {target.label for target in places.targets}
        left_out = {label for label in answers.further if label not in kept and label != dns}
        asked_for = tuple(account for account in answers.accounts if account.label not in left_out)
        return replace(answers, places=places, home=home, accounts=asked_for)

    def _target(
        self, accounts: VendorAccounts, settings: Settings, label: str, *, is_further: bool
    ) -> proposing.TargetAccount | None:
        """Return a target account with its domains. Return None for a further account that cannot
        be read, or has no domains; for the chosen account raise `DeployError` or `ConfigError`.
        """
        try:
            domains = proposing.as_nested(self._survey(accounts, label))
        except (DeployError, ConfigError) as error:
            if not is_further:
                raise
            self._warn(Text("{account}: {problem}", account=label, problem=error.message))
            return None
        described = installed().target_of(settings.accounts[label])
        service = None
        if described is not None:
            service = proposing.Service(described.called, described.command_words)
        is_of_use = bool(domains) or not is_further
        return proposing.TargetAccount(label, domains, service) if is_of_use else None

    @contextmanager
    def _kept(self, answers: Answers) -> Iterator[None]:
        """If the `with` block of an interview raises `CertferryError`, store the new keys, so the
        next interview starts with these keys.
        """
        try:
            yield
        except CertferryError:
            if self._interview is not None and answers.fresh_keys:
                path = self._asked.files.keys
                files.keep(path, answers.fresh_keys)
                self._say(Text("The keys are kept in {path}, for the next `init`.", path=path))
            raise

    def _survey(self, accounts: VendorAccounts, target: str) -> tuple[FoundDomain, ...]:
        def looked(count: int, total: int) -> None:
            # An account with hundreds of domains takes a minute.
            if count % SIGNS_OF_LIFE == 0 and count < total:
                self._say(Text("… {count} of {total} domains", count=count, total=total))

        self._say(Text("Reading the domains of the account {account} …", account=target))
        survey = accounts.survey_of(target)(looked)
        for error in survey.unread:
            self._warn(Text("not everything could be read: {problem}", problem=error.message))
        if not survey.domains and not survey.unread:
            self._warn(Text("the account {account} has no domains", account=target))
        return survey.domains

    # the choices

    def _choose_domains(self, answers: Answers) -> Answers:
        """Show the domains, and ask which of them get certificates. The default is the operator's
        earlier choice, else the domains that serve HTTPS. If no question is needed, choose the
        domains that serve HTTPS.
        """
        ask, offered_ones = self._interview, self._offered(answers)
        usual = proposing.with_https(offered_ones)
        off = [domain.domain for domain in offered_ones if proposing.has_https_off(domain)]
        # Certificates taken over from another ACME client have their names already, so the operator
        # only has to decide about domains whose HTTPS would be switched on.
        is_asked = ask is not None and (off or (len(offered_ones) > 1 and answers.home is None))
        on = (domain.domain for domain in offered_ones if domain.domain in usual)
        numbered = [*dict.fromkeys((*on, *off))]  # two accounts may list a domain
        self._show_domains(answers, numbered if is_asked else [])
        if ask is None or not is_asked:
            return replace(answers, wanted=usual)
        if off:
            ask.print(text.https_is_off(off, answers.places.services))
        ask.print(
            Text("Which domains should get certificates? Numbers like 1-3,7, names, `all`, `none`.")
        )
        earlier = (self._chosen or frozenset()) & {*numbered} or usual
        marked = frozenset(n for n, name in enumerate(numbered, start=1) if name in earlier)
        chosen = ask.choose_several(Text("Domains"), numbered, marked)
        self._chosen = frozenset(numbered[number - 1] for number in chosen)
        return replace(answers, wanted=self._chosen)

    def _show_domains(self, answers: Answers, numbered: Sequence[str]) -> None:
        """Print the domains of the target accounts, the `numbered` domains first. Under `-q` print
        the domains only if some are `numbered`, for a question.
        """
        if not answers.places.domains or not (numbered or not self._context.quiet):
            return
        service = ""
        if answers.dns:
            type_ = self._settings(answers).accounts[answers.dns].type
            service = installed().find(DNS_PROVIDERS, type_).adapter.SERVICE
        self._console.print_stderr_table(
            text.found(answers.places, service, self._now, self._voice, numbered)
        )

    def _offered(self, answers: Answers) -> list[FoundDomain]:
        """Return the domains that can get certificates. In a takeover these are the domains that
        the other client's certificates cover.
        """
        places, home = answers.places, answers.home
        if home is None:
            return [
                domain for domain in places.domains if proposing.obstacle_to(domain, places) is None
            ]
        covered = [name for old in home.certificates for name in old.bundle.certificate.names]
        return [
            domain
            for domain in places.domains
            if domain.problem is None and domain.by_itself and covered_by(covered, domain.domain)
        ]

    def _choose_grouping(self, answers: Answers) -> Answers:
        """Ask how domains share certificates, if this is an interview, certferry takes over no
        certificates, and the groupings differ in their certificates.
        """
        ask = self._interview
        if ask is None or answers.home is not None:
            return answers
        ways: dict[tuple[tuple[str, ...], ...], proposing.Grouping] = {}
        for grouping in proposing.Grouping:
            made = proposing.propose_for_domains(
                answers.places, MOST_NAMES, answers.wanted, grouping
            )
            names = tuple(certificate.names for certificate in made.certificates)
            # If `NAMES` gives the same certificates as `WILDCARD`, offer `NAMES`: its description
            # promises no wildcard.
            if names not in ways or grouping is proposing.Grouping.NAMES:
                ways[names] = grouping
        if len(ways) == 1:
            return answers
        options = [
            Option(self._voice.say(text.grouped(grouping, names)), frozenset({grouping.value}))
            for names, grouping in ways.items()
        ]
        chosen = ask.choose(Text("Certificates"), options, 0, _no_such_number)
        return replace(answers, grouping=list(ways.values())[chosen or 0])

    # the proposal

    def _propose(self, answers: Answers) -> Answers:
        """Propose certificates, and render the configuration file. Unless the given settings choose
        a CA, the file names the CA of most certificates that certferry takes over, else Let's
        Encrypt. A CA that certferry cannot use (`_is_usable`) does not count.
        """
        proposal, directory = self._proposal(answers), answers.directory
        taken = () if answers.home is None else answers.home.taken_over_by(proposal)
        directories = [certificate.directory for certificate in taken if certificate.directory]
        if directory is not None:
            counted = Counter(filter(_is_usable, directories))
            directory = counted.most_common(1)[0][0] if counted else directory
        in_force = directory or self._settings(answers).acme.directory
        for earlier in dict.fromkeys(directories):
            if earlier != in_force:  # CAA records may allow the earlier CA only
                message = Text(
                    "earlier certificates are from {earlier}; the next are from {directory}"
                )
                self._warn(message.filled(earlier=earlier, directory=in_force))
        file_text = text_of(self._preamble(answers, directory), proposal, self._voice.say)
        return replace(answers, proposal=proposal, text=file_text)

    def _proposal(self, answers: Answers) -> proposing.Proposal:
        home, places = answers.home, answers.places
        if home is None:
            return proposing.propose_for_domains(
                places, MOST_NAMES, answers.wanted, answers.grouping
            )
        if not places.targets:
            self._warn_of_hooks(home)
        keeps = self._asked.keep_client
        certificates = home.certificates if keeps else [*map(self._as_allowed, home.certificates)]
        return propose_takeover(
            certificates, places, home.client.value, answers.wanted, keep_client=keeps
        )

    def _warn_of_hooks(self, home: OldHome) -> None:
        """Warn of each service to which a hook of the other client deploys. The caller has found no
        target account, so certferry lacks keys for every such service.
        """
        hooks = [hook for certificate in home.certificates for hook in certificate.installed.runs]
        for offer in offered(TARGETS):
            service = proposing.Service(offer.called, offer.command_words)
            programs = dict.fromkeys(hook.program for hook in hooks if hook.destination([service]))
            if not programs:
                continue
            message = Text(
                "{client} runs {programs} for {service}, and certferry needs keys to deploy"
                " there: set {variables}, or use --env-file FILE",
                client=home.client.value,
                programs=list(programs),
                service=offer.called,
                variables=[question.names[0] for question in offer.questions if question.names],
            )
            self._warn(message)

    def _preamble(self, answers: Answers, directory: str | None) -> Preamble:
        there = self._given.tables("accounts")
        return Preamble(
            settings=with_keys(self._given, answers.accounts),
            env_files=self._asked.files.named(
                with_keys=bool(answers.fresh_keys), already=[file.path for file in self._env_files]
            ),
            directory=directory,
            email=answers.email,
            accounts=tuple(account for account in answers.accounts if account.label not in there),
            channel=answers.channel.channel if answers.channel else None,
            heartbeat=answers.heartbeat.heartbeat if answers.heartbeat else "",
        )

    def _as_allowed(self, certificate: OldCertificate) -> OldCertificate:
        """Return the other client's certificate, with the copies and commands that the client's
        files note for it. If another user could change these files, leave out the copies and
        commands, unless the operator agrees in the interview.
        """
        if certificate.doubt is None or not certificate.installed.directory:
            return certificate
        ask = self._interview
        if ask is not None and ask.confirm(text.may_be_followed(certificate, certificate.doubt)):
            return certificate
        message = Text("{name}: {doubt}; the client's copies and commands are left out")
        self._warn(message.filled(name=certificate.lineage, doubt=certificate.doubt))
        return replace(certificate, installed=certificate.installed.not_followed())

    def _agree(self, answers: Answers) -> Answers:
        """Show the file, and ask whether to write the file. After a no, ask whether to choose the
        domains again or type other keys, if either was asked before, and raise `Back` for this.
        """
        ask = self._interview
        if ask is None:
            return answers
        settings, shown = with_keys(self._given, answers.accounts).strip(), answers.text
        if settings:  # The file of `--settings` may hold a secret, so its text is not printed.
            shown = shown.replace(settings, f"# … {self._asked.settings} …")
        self._console.print(line(row) for row in shown.splitlines())
        path = self._asked.files.config
        if ask.confirm(Text("Write this to {path}?", path=path), usual=not path.exists()):
            return answers
        ways = []
        if self._chosen is not None:
            ways.append(("domains", Text("choose the domains again")))
        if answers.fresh:
            ways.append(("keys", Text("type other keys")))
        if ways:
            ways.append(("stop", Text("stop, and write nothing")))
            options = [Option(self._voice.say(label), frozenset({to})) for to, label in ways]
            chosen = ask.choose(Text("What next"), options, 0, _no_such_number)
            if (to := ways[chosen or 0][0]) != "stop":
                raise Back(to)
        return replace(answers, is_agreed=False)

    # the files

    def _write(self, answers: Answers) -> None:
        proposal, home = answers.proposal, answers.home

        def adopt(settings: Settings) -> None:
            with Workspace(settings) as workspace:
                for certificate in proposal.certificates:
                    if certificate.adopts is not None:
                        workspace.adopt(certificate.lineage, certificate.adopts, who_runs(settings))

        own = self._asked.files
        environ = self._environ | files.revealed(answers.fresh_keys)
        paths, copies = files.put(own, answers.text, answers.fresh_keys, environ, adopt)
        run_log, voice = self._console.run_log, self._voice
        sentences = [Text("Written (mode 0600): {path}", path=path) for path in paths]
        for sentence in sentences:
            log_change("init.write", sentence, run_log)
        for certificate in proposal.certificates:
            if certificate.adopts is not None:
                sentence = text.standing_of(certificate, self._client, self._now)
                log_change("init.adopt", sentence, run_log, certificate.lineage)
        if self._context.quiet:
            return
        kept = [Text("The previous file is kept: {path}", path=path) for path in copies]
        self._console.print(line(voice.say(sentence)) for sentence in (*sentences, *kept))
        self._console.print(text.proposed(proposal.certificates, self._client, self._now, voice))
        asked_for = (
            {domain.domain for domain in self._offered(answers)} if self._interview else set()
        )
        self._warn(*text.left_out(proposal, asked_for))
        if not proposal.certificates:
            self._warn(Text("{path} declares no certificates", path=own.config))
        if home is not None:
            self._console.print(text.to_switch_off(home, proposal, voice))
        has_channel = answers.channel is not None or "notify" in self._given.values
        has_heartbeat = answers.heartbeat is not None or "heartbeat" in self._given.values
        following = text.next_steps(
            has_channel=has_channel, has_heartbeat=has_heartbeat, voice=voice
        )
        self._console.print_wrapped(following)

    def _plan(self, answers: Answers) -> Exit:
        """Offer to run `certferry plan`, if certificates were proposed in an interview. Return OK
        whatever the plan's exit code, because `init` has written its files.
        """
        ask = self._interview
        if ask is None or not answers.proposal.certificates:
            return Exit.OK
        is_wanted = False
        with suppress(Back, Interrupted):
            is_wanted = ask.confirm(Text("Run `certferry plan` now?"), usual=True)
        if not is_wanted:
            return Exit.OK
        show_plan(replace(self._context, config=self._asked.files.config))
        return Exit.OK

    def _say(self, text_: Text) -> None:
        if not self._context.quiet:
            self._console.print_stderr([line(self._voice.say(text_))])

    def _warn(self, *problems: Text) -> None:
        for problem in problems:
            self._console.print_stderr(self._voice.warning(problem))


def _no_such_number(answer: str) -> Text:
    return Text("{answer} is not in the list", answer=repr(answer))


def _is_usable(directory: str) -> bool:
    """Return whether certferry can go on with the CA that issued the certificates taken over. A CA
    with external accounts is not usable, because certferry cannot read the external account's key
    from the other client.
    """
    try:
        return directory_url(directory) == directory and directory not in NEED_EXTERNAL_ACCOUNT
    except ConfigError:
        return False
