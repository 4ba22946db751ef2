"""The way of `certferry init`: what is known, what is found, what is proposed, what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from certferry.cli import init_text
from certferry.cli.events import log_change
from certferry.cli.exits import Exit
from certferry.cli.init_files import Files, put
from certferry.cli.init_keys import Keys, Wanted, gather
from certferry.cli.interview import Interview
from certferry.cli.lines import line
from certferry.cli.options import Front
from certferry.config.addresses import DIRECTORIES, directory_url, email_address
from certferry.config.certificates import MOST_NAMES
from certferry.config.document import Document, read_document
from certferry.config.env_files import EnvFile, env_files_of, fill_in
from certferry.config.find import NAME
from certferry.config.load import load_before
from certferry.config.model import Settings
from certferry.config.propose import Draft, accounts_of, text_of, with_accounts, with_keys
from certferry.core.proposal import LeftOut, Places, Proposal, in_order, propose_for_domains
from certferry.core.survey import FoundDomain
from certferry.errors import ConfigError
from certferry.migration.home import OldClient, OldHome
from certferry.migration.takeover import propose_for_inherited
from certferry.ports.progress import nobody
from certferry.text import Text
from certferry.wiring.old_clients import inheritance, started_by
from certferry.wiring.session import DNS_PROVIDERS, TARGETS, Session, open_session, open_to_look

NEEDS_ACCOUNT = frozenset({DIRECTORIES["zerossl"], DIRECTORIES["google"]})
"""Directories that want an external account (RFC 8555 §7.3.4), whose key no client gives away."""

SIGNS_OF_LIFE = 50
"""After how many domains something is said: ten are asked for in a second (Qiniu fact sheet §9)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    client: str | None
    home: Path | None
    files: Files
    settings: Path | None = None
    email: str | None = None
    keep_client: bool = False


def run(asked: Asked, front: Front, interview: Interview | None) -> Exit:
    """Write a configuration. Raises `ConfigError` and whatever the accounts answer."""
    return _Run(asked, front, interview).to_the_end()


class _Run:
    def __init__(self, asked: Asked, front: Front, interview: Interview | None) -> None:
        self._asked = asked
        self._front = front
        self._desk = front.desk
        self._interview = interview
        self._now = datetime.now(UTC)
        self._directory_given = ""
        self._environ = asked.files.environment(front.desk.environ)

    def to_the_end(self) -> Exit:
        inherited = self._inherited()
        given = self._given()
        env_files = () if given is None else self._env_files(given)
        self._environ = fill_in(self._environ, env_files)
        if self._asked.files.keys.exists():  # from an earlier time: the keys may be others by now
            self._say(Text("Keys are read from {path}.", path=self._asked.files.keys))
        keys = self._keys(inherited, given)
        self._environ |= {name: secret.reveal() for name, secret in keys.fresh.items()}
        has_no_ca = given is None or "acme" not in given.values
        email = self._email(inherited) if has_no_ca else None
        draft = Draft(
            settings="" if given is None else with_keys(given, keys.accounts),
            env_files=self._asked.files.named(
                with_keys=bool(keys.fresh), already=[file.path for file in env_files]
            ),
            directory=DIRECTORIES["letsencrypt"] if has_no_ca else None,
            email=email,
            accounts=tuple(a for a in keys.accounts if a.label not in accounts_of(given)),
        )
        places, inherited = self._look(given, keys, inherited)
        proposal = self._propose(inherited, places)
        directories = _directories(inherited, proposal)
        if draft.directory is not None:
            draft = replace(draft, directory=_directory(directories, draft.directory))
        self._tell_of_other_cas(directories, draft.directory or self._directory_given)
        text = text_of(draft, proposal, self._desk.voice.say)
        if not self._agreed(text, draft.settings):
            self._say(Text("Nothing was written."))
            return Exit.OK
        self._write(text, keys, proposal, inherited)
        return Exit.OK

    # what is known

    def _inherited(self) -> OldHome | None:
        if self._asked.client is None:
            return None
        client = OldClient(self._asked.client)
        found = inheritance(client, self._asked.home, self._environ)
        self._warn(*init_text.unreadable(found))
        if found.unreadable and not found.certificates:
            said = Text(
                "no certificate of {client}'s in {home} can be read", client=client, home=found.home
            )
            hint = Text(
                "see the warnings above; if the files are another user's, run this as that user"
            )
            raise ConfigError(said, hint=hint)
        if not found.certificates:
            raise ConfigError(
                Text("no certificate of {client}'s is in {home}", client=client, home=found.home),
                hint=Text("name the client's directory with --home"),
            )
        return found

    def _given(self) -> Document | None:
        """Read the settings to begin with."""
        if self._asked.settings is None:
            return None
        document = read_document(self._asked.settings)
        if "certificates" in document.values:
            raise ConfigError(
                Text("{path} declares certificates", path=self._asked.settings),
                hint=Text("leave them out: they are what is to be proposed"),
            )
        return document

    def _env_files(self, given: Document) -> tuple[EnvFile, ...]:
        """Read the environment files that the given settings name; then no other can be named."""
        files = self._asked.files
        found = env_files_of(given, files.config, self._desk.environ)
        others = files.named(already=[file.path for file in found])
        if "env_files" in given.values and others:
            raise ConfigError(
                Text(
                    "{path} names its own env_files, without {others}",
                    path=given.path,
                    others=others,
                ),
                hint=Text("add it there"),
            )
        return found

    def _keys(self, inherited: OldHome | None, given: Document | None) -> Keys:
        """Find the keys that the given settings do not have."""
        there = accounts_of(given)
        wanted = [
            Wanted(type_, label, frozenset(there.get(label, {})), optional=optional)
            for type_, optional in (("dnspod", False), ("qiniu", inherited is not None))
            for label in (_label_of(type_, there),)
            if not (type_ == "dnspod" and self._asked.keep_client)
        ]
        theirs = inherited.keys if inherited else {}
        if given is None or "env_files" not in given.values:
            return gather(wanted, self._environ, theirs, self._interview)
        # Nobody is asked for keys that could be written nowhere.
        hint = Text("set them, or put them into one of the env_files of {path}", path=given.path)
        keys = gather(wanted, self._environ, theirs, None, hint)
        if keys.fresh:
            said = Text(
                "{path} names its own env_files, and only {client} has {names}",
                path=given.path,
                client=self._asked.client,
                names=list(keys.fresh),
            )
            raise ConfigError(said, hint=hint)
        return keys

    def _email(self, inherited: OldHome | None) -> str | None:
        known = self._asked.email or (inherited.email if inherited else None)
        if known is not None:
            with suppress(ConfigError):  # what a client holds may be none
                return email_address(known)
        if self._interview is None:
            return None
        question = Text("An address that the CA may write to (nothing, if it may not)")
        return self._interview.ask_for(question, email_address)

    # what is found

    def _look(
        self, given: Document | None, keys: Keys, inherited: OldHome | None
    ) -> tuple[Places, OldHome | None]:
        """Look at the accounts, show what is there, and call the client's lineages as they are
        called in the state.
        """
        # What is wrong with the given settings is wrong in their file: the other is not there yet.
        document = with_accounts(given or Document(None, {}), keys.accounts)
        settings = load_before(document, self._asked.files.config, self._environ)
        self._directory_given = settings.acme.directory
        target = _label(settings, TARGETS)
        # Where nothing is to be issued, nobody need know who could prove a name.
        dns = "" if self._asked.keep_client else _label(settings, DNS_PROVIDERS)
        with open_to_look(settings) as session:
            zones = session.zones(dns) if dns else ()
            places = Places(dns, zones, target, ())
            if target:
                places = replace(places, domains=in_order(self._survey(session, target)))
            if inherited is not None:
                certificates = session.as_remembered(inherited.certificates)
                inherited = replace(inherited, certificates=certificates)
        if places.domains and not self._front.quiet:
            self._desk.remark_table(init_text.found(places, self._now, self._desk.voice))
        if places.target and not places.domains:
            self._warn(Text("the account {account} has no domains", account=places.target))
        return places, inherited

    def _survey(self, session: Session, target: str) -> tuple[FoundDomain, ...]:
        self._say(Text("Looking at the domains of the account {account} …", account=target))
        survey = session.survey(target, self._tell_how_far)
        if survey.unseen is not None:
            said = Text("there may be more domains: {problem}", problem=survey.unseen.message)
            self._warn(said)
        return survey.domains

    def _tell_how_far(self, count: int, total: int) -> None:
        """Say that it goes on: an account of hundreds of domains takes a minute."""
        if count % SIGNS_OF_LIFE == 0 and count < total:
            self._say(Text("… {count} of {total} domains", count=count, total=total))

    # what is proposed

    def _propose(self, inherited: OldHome | None, places: Places) -> Proposal:
        if inherited is None:
            return propose_for_domains(places, MOST_NAMES)
        client = inherited.client.value
        if not places.target:
            self._warn(*init_text.nothing_goes_to_qiniu(inherited))
        keep = self._asked.keep_client
        return propose_for_inherited(inherited.certificates, places, client, keep_client=keep)

    def _tell_of_other_cas(self, directories: Sequence[str], directory: str) -> None:
        """Warn where a certificate has come from another CA: names may be pinned to it by CAA."""
        for earlier in dict.fromkeys(directories):
            if earlier != directory:
                said = Text(
                    "certificates have come from {earlier}; the next ones come from {directory}",
                    earlier=earlier,
                    directory=directory,
                )
                self._warn(said)

    def _agreed(self, text: str, settings: str) -> bool:
        """Show what would be written, and ask; whoever cannot be asked has agreed."""
        if self._interview is None:
            return True
        # Given settings may hold a secret: their owner knows them.
        shown = (
            text.replace(settings.strip(), f"# … {self._asked.settings} …") if settings else text
        )
        self._desk.show(line(row) for row in shown.splitlines())
        path = self._asked.files.config
        return self._interview.confirm(Text("Write this to {path}?", path=path))

    # what is written

    def _write(self, text: str, keys: Keys, proposal: Proposal, inherited: OldHome | None) -> None:
        def adopt(settings: Settings) -> None:
            with open_session(settings, progress=nobody) as session:
                for one in proposal.certificates:
                    if one.adopts is not None:
                        session.adopt(one.lineage, one.adopts)

        files = self._asked.files
        paths, copies = put(files, text, keys.fresh, self._environ, adopt)
        self._log(paths, proposal)
        if self._front.quiet:
            return
        voice = self._desk.voice
        self._desk.show(init_text.written(paths, copies, voice))
        self._desk.show(init_text.proposed(proposal.certificates, self._now, voice))
        self._warn(*(_left_out(one) for one in proposal.left_out))
        if inherited is not None:
            starters = started_by(inherited, self._desk.environ)
            self._desk.show(init_text.to_switch_off(inherited, proposal, starters, voice))
        usual = files.config == Path(NAME)
        self._desk.show(init_text.next_step(files.config, usual=usual, voice=voice))

    def _log(self, paths: Sequence[Path], proposal: Proposal) -> None:
        journal = self._desk.journal
        for path in paths:
            log_change("init.write", init_text.writing_of(path), journal)
        for one in proposal.certificates:
            if one.adopts is not None:
                said = init_text.standing_of(one, self._now)
                log_change("init.adopt", said, journal, one.lineage)

    def _say(self, text: Text) -> None:
        if not self._front.quiet:
            self._desk.remark([line(self._desk.voice.say(text))])

    def _warn(self, *problems: Text) -> None:
        self._desk.remark(init_text.warned(problems, self._desk.voice))


def _label_of(type_: str, accounts: Mapping[str, Mapping[str, object]]) -> str:
    """Give the label of the account of a type, which is called like it where there is none."""
    labels = (label for label, table in accounts.items() if table.get("type", label) == type_)
    return next(labels, type_)


def _label(settings: Settings, types: Mapping[str, str]) -> str:
    """Give the first account of one of these types, nothing when there is none."""
    return next((a.label for a in settings.accounts.values() if a.type in types), "")


def _directory(directories: Sequence[str], usual: str) -> str:
    """Give the CA that most of the certificates to be renewed come from."""
    counted = Counter(filter(_is_usable, directories))
    return counted.most_common(1)[0][0] if counted else usual


def _directories(home: OldHome | None, proposal: Proposal) -> Sequence[str]:
    """Give where each of the certificates to be renewed comes from, as far as it is known."""
    taken = () if home is None else home.taken_over_by(proposal)
    return [one.directory for one in taken if one.directory]


def _is_usable(directory: str) -> bool:
    try:
        return directory_url(directory) == directory and directory not in NEEDS_ACCOUNT
    except ConfigError:
        return False


def _left_out(one: LeftOut) -> Text:
    return Text("{name} is left out: {reason}", name=one.name, reason=one.reason)
