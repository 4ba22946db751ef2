"""The way of `certferry init`: what is known, what is found, what is proposed, what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from certferry.cli import init_text
from certferry.cli.exits import Exit
from certferry.cli.init_files import keep, put
from certferry.cli.init_keys import Keys
from certferry.cli.init_known import (
    Asked,
    Known,
    address,
    env_files_in,
    keys_of,
    must_have_certificates,
    settings_to_begin_with,
)
from certferry.cli.init_trial import Trial
from certferry.cli.interview import Interview
from certferry.cli.options import Front
from certferry.config.addresses import DIRECTORIES, directory_url
from certferry.config.certificates import MOST_NAMES
from certferry.config.document import Document
from certferry.config.env_files import EnvFile, fill_in
from certferry.config.find import NAME
from certferry.config.load import load_before
from certferry.config.model import Settings
from certferry.config.propose import Preamble, text_of, with_accounts, with_keys
from certferry.core.proposal import Places, Proposal, in_order, propose_for_domains
from certferry.core.survey import FoundDomain
from certferry.errors import CertferryError, ConfigError, Interrupted
from certferry.migration.adopt import as_remembered
from certferry.migration.home import OldCertificate, OldClient, OldHome
from certferry.migration.takeover import propose_takeover
from certferry.ports.progress import no_listener
from certferry.present.layout import line
from certferry.present.log_entries import log_change
from certferry.text import Text
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, installed
from certferry.wiring.adoption import adopt_into
from certferry.wiring.looking import open_to_look, survey_of, zones_of
from certferry.wiring.old_clients import old_home
from certferry.wiring.session import Session, open_session
from certferry.wiring.settings import offered

NEEDS_ACCOUNT = frozenset({DIRECTORIES["zerossl"], DIRECTORIES["google"]})
"""Directories that want an external account (RFC 8555 §7.3.4), whose key no client gives away."""

SIGNS_OF_LIFE = 50
"""After how many domains something is said: ten are asked for in a second (Qiniu fact sheet §9)."""


def run(asked: Asked, front: Front, interview: Interview | None) -> Exit:
    """Write a configuration. Raises `ConfigError` and whatever the accounts answer."""
    return _Run(asked, front, interview).to_the_end()


class _Run:
    def __init__(self, asked: Asked, front: Front, interview: Interview | None) -> None:
        self._asked = asked
        self._front = front
        self._console = front.console
        self._interview = interview
        self._now = datetime.now(UTC)
        self._environ = asked.files.environment(front.console.environ)
        self._client = asked.client or ""

    def to_the_end(self) -> Exit:
        if self._interview is not None:
            self._console.remark(init_text.introduction(self._asked.files, self._console.voice))
        home = self._home()
        given = settings_to_begin_with(self._asked.settings)
        env_files = env_files_in(given, self._asked.files, self._console.environ)
        self._environ = fill_in(self._environ, env_files)
        if self._asked.files.keys.exists():  # from an earlier time: the keys may be others by now
            self._say(Text("Keys are read from {path}.", path=self._asked.files.keys))
        trial = Trial(given, self._asked.files.config, self._environ, self._console)
        known = keys_of(self._asked, home, given, self._environ, self._interview, trial.takes)
        keys = known.keys
        self._environ |= {name: secret.reveal() for name, secret in keys.fresh.items()}
        preamble = self._preamble(given, env_files, keys, home)
        settings = self._settings(given, keys)
        with self._kept(keys):
            places, home = self._look(settings, home, known)
        proposal = self._propose(home, places)
        directories = _directories(home, proposal)
        if preamble.directory is not None:
            preamble = replace(preamble, directory=_most_usual(directories, preamble.directory))
        self._tell_of_other_cas(directories, preamble.directory or settings.acme.directory)
        text = text_of(preamble, proposal, self._console.voice.say)
        if not self._agreed(text, preamble.settings):
            self._say(Text("Nothing was written."))
            return Exit.OK
        self._write(text, keys, proposal, home)
        return Exit.OK

    # what is known

    def _home(self) -> OldHome | None:
        if self._asked.client is None:
            return None
        found = old_home(OldClient(self._asked.client), self._asked.home, self._environ)
        self._warn(*init_text.unreadable(found))
        must_have_certificates(found)
        return found

    def _preamble(
        self, given: Document, env_files: Sequence[EnvFile], keys: Keys, home: OldHome | None
    ) -> Preamble:
        has_ca = "acme" in given.values
        return Preamble(
            settings=with_keys(given, keys.accounts),
            env_files=self._asked.files.named(
                with_keys=bool(keys.fresh), already=[file.path for file in env_files]
            ),
            directory=None if has_ca else DIRECTORIES["letsencrypt"],
            email=None if has_ca else address(self._asked, home, self._interview),
            accounts=tuple(a for a in keys.accounts if a.label not in given.tables("accounts")),
        )

    def _settings(self, given: Document, keys: Keys) -> Settings:
        # What is wrong with the given settings is wrong in their file: the other is not there yet.
        document = with_accounts(given, keys.accounts)
        return load_before(document, self._asked.files.config, self._environ)

    # what is found

    def _look(
        self, settings: Settings, home: OldHome | None, known: Known
    ) -> tuple[Places, OldHome | None]:
        """Look at the accounts, show what is there, and call the client's certificates as they are
        called in the state.
        """
        dns, target = known.dns, known.target
        with open_to_look(settings, language=self._console.voice.language) as session:
            if dns:
                self._say(Text("Looking at the zones of the account {account} …", account=dns))
            zones = zones_of(session, dns) if dns else ()
            places = Places(dns, zones, target, ())
            if target:
                places = replace(places, domains=in_order(self._survey(session, target)))
            if home is not None:
                home = replace(home, certificates=as_remembered(home.certificates, session.state))
        if places.domains and not self._front.quiet:
            service = _service_of(dns, settings)
            shown = init_text.found(places, service, self._now, self._console.voice)
            self._console.remark_table(shown)
        return places, home

    @contextmanager
    def _kept(self, keys: Keys) -> Iterator[None]:
        """Keep what was typed and taken where the look fails: the next interview begins with it."""
        try:
            yield
        except Interrupted:
            raise
        except CertferryError:
            if self._interview is not None and keys.fresh:
                path = self._asked.files.keys
                keep(path, keys.fresh)
                self._say(Text("The keys are kept in {path}, for the next `init`.", path=path))
            raise

    def _survey(self, session: Session, target: str) -> tuple[FoundDomain, ...]:
        self._say(Text("Looking at the domains of the account {account} …", account=target))
        survey = survey_of(session, target, self._tell_how_far)
        for error in survey.unread:
            self._warn(Text("not everything could be read: {problem}", problem=error.message))
        if not survey.domains and not survey.unread:
            self._warn(Text("the account {account} has no domains", account=target))
        return survey.domains

    def _tell_how_far(self, count: int, total: int) -> None:
        """Say that it goes on: an account of hundreds of domains takes a minute."""
        if count % SIGNS_OF_LIFE == 0 and count < total:
            self._say(Text("… {count} of {total} domains", count=count, total=total))

    # what is proposed

    def _propose(self, home: OldHome | None, places: Places) -> Proposal:
        if home is None:
            return propose_for_domains(places, MOST_NAMES)
        if not places.target:
            usual, *_ = offered(TARGETS)
            self._warn(*init_text.nothing_goes_there(home, usual))
        keep = self._asked.keep_client
        found = home.certificates if keep else [*map(self._as_allowed, home.certificates)]
        return propose_takeover(found, places, home.client.value, keep_client=keep)

    def _as_allowed(self, one: OldCertificate) -> OldCertificate:
        """Leave out what another user's notes have written and run, unless the operator, who would
        do it from then on, has said yes to that. `--yes` does not.
        """
        if one.doubt is None or not one.installed.directory:
            return one
        ask = self._interview
        if ask is not None and ask.confirm(init_text.may_be_followed(one, one.doubt)):
            return one
        self._warn(init_text.not_followed(one, one.doubt))
        return replace(one, installed=one.installed.not_followed())

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
        """Show what would be written, and ask; `--yes` has agreed."""
        if self._interview is None:
            return True
        # Given settings may hold a secret: their owner knows them.
        shown = (
            text.replace(settings.strip(), f"# … {self._asked.settings} …") if settings else text
        )
        self._console.show(line(row) for row in shown.splitlines())
        path = self._asked.files.config
        return self._interview.confirm(Text("Write this to {path}?", path=path))

    # what is written

    def _write(self, text: str, keys: Keys, proposal: Proposal, home: OldHome | None) -> None:
        def adopt(settings: Settings) -> None:
            with open_session(settings, progress=no_listener) as session:
                for one in proposal.certificates:
                    if one.adopts is not None:
                        adopt_into(session, one.lineage, one.adopts)

        files = self._asked.files
        paths, copies = put(files, text, keys.fresh, self._environ, adopt)
        self._log(paths, proposal)
        if self._front.quiet:
            return
        voice = self._console.voice
        self._console.show(init_text.written(paths, copies, voice))
        self._console.show(
            init_text.proposed(proposal.certificates, self._client, self._now, voice)
        )
        self._warn(*init_text.left_out(proposal))
        if home is not None:
            self._console.show(init_text.to_switch_off(home, proposal, voice))
        usual = files.config == Path(NAME)
        self._console.show(init_text.next_steps(files.config, usual=usual, voice=voice))

    def _log(self, paths: Sequence[Path], proposal: Proposal) -> None:
        run_log = self._console.run_log
        for path in paths:
            log_change("init.write", init_text.writing_of(path), run_log)
        for one in proposal.certificates:
            if one.adopts is not None:
                said = init_text.standing_of(one, self._client, self._now)
                log_change("init.adopt", said, run_log, one.lineage)

    def _say(self, text: Text) -> None:
        if not self._front.quiet:
            self._console.remark([line(self._console.voice.say(text))])

    def _warn(self, *problems: Text) -> None:
        self._console.remark(init_text.warned(problems, self._console.voice))


def _service_of(label: str, settings: Settings) -> str:
    """Give how the service of a DNS account that was looked at is called; of none, nothing."""
    if not label:
        return ""
    return installed().find(DNS_PROVIDERS, settings.accounts[label].type).adapter.SERVICE


def _directories(home: OldHome | None, proposal: Proposal) -> list[str]:
    """Give where each of the certificates to be renewed comes from, as far as it is known."""
    taken = () if home is None else home.taken_over_by(proposal)
    return [one.directory for one in taken if one.directory]


def _most_usual(directories: Sequence[str], usual: str) -> str:
    """Give the CA that most of the certificates come from, if it can be gone on with."""
    counted = Counter(filter(_is_usable, directories))
    return counted.most_common(1)[0][0] if counted else usual


def _is_usable(directory: str) -> bool:
    try:
        return directory_url(directory) == directory and directory not in NEEDS_ACCOUNT
    except ConfigError:
        return False
