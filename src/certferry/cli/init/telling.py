"""How operators are to be told, as `certferry init` asks for it: one channel and a heartbeat, each
tried at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from certferry.cli.init import text
from certferry.cli.init.keys import KeyRing, account_of, fresh_in, option_of
from certferry.cli.interview import NONE, Back, Interview
from certferry.config.bind import as_a_key
from certferry.config.document import Document
from certferry.config.load import load_before
from certferry.config.mistakes import instead_of
from certferry.config.model import Settings
from certferry.config.propose import NewAccount, with_tables
from certferry.core.secret import Secret
from certferry.errors import CertferryError, ConfigError
from certferry.ports.notifier import Sent
from certferry.present.console import Console
from certferry.present.news_text import answer_lines
from certferry.text import Text
from certferry.wiring.adapters import CHANNELS
from certferry.wiring.looking import open_to_look
from certferry.wiring.monitoring import try_heartbeat
from certferry.wiring.settings import offered

LABEL = "ops"
"""How the channel is called in the file."""
VARIABLE = "HEARTBEAT_URL"

_HEADING = Text("Where to tell you of trouble (optional)")
_WHAT_A_HEARTBEAT_IS = Text(
    "A heartbeat tells you that the runs stopped: each pings an address of healthchecks.io or the"
    " like."
)
_HEARTBEAT = Text("Heartbeat URL (Enter to skip)")
_ANOTHER_HEARTBEAT = Text("Heartbeat URL, or `none`")
_ANYWAY = Text("Use it all the same?")


@dataclass(frozen=True, slots=True)
class Told:
    """One way of being told, as it stands in the file, and the keys that it needs."""

    channel: NewAccount | None = None
    heartbeat: str = ""
    fresh: Mapping[str, Secret] | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """Asks how operators are to be told, and tries it."""

    given: Document
    config: Path
    environ: Mapping[str, str]
    console: Console
    keys: KeyRing
    interview: Interview

    def channel(self, kept: Told | None) -> Told | None:
        """Ask for one channel of notifications, until it has taken a message or is meant all the
        same; `None` where there is to be none. No answer means the one that was `kept`, whose keys
        are known still.
        """
        services = offered(CHANNELS)
        options = [option_of(service, self.interview) for service in services]
        earlier = None if kept is None or kept.channel is None else kept.channel.type
        usual = next((n for n, one in enumerate(services) if one.type == earlier), None)

        def refused(answer: str) -> Text:
            known = [service.type for service in services]
            advice = instead_of(answer, known)
            return Text("{type} is no channel; {advice}", type=repr(answer), advice=advice)

        while True:
            chosen = self.interview.choose(_HEADING, options, usual, refused, or_none=True)
            if chosen is None:
                return None
            service = services[chosen]
            known = {question.key: self.keys.found(question) for question in service.questions}
            unknown = [one for one in service.questions if known[one.key] is None]
            try:
                answers = self.keys.ask(unknown, service, _any_secret) or {}
            except Back:
                continue
            answered = {key: one for key, one in (known | answers).items() if one is not None}
            told = Told(account_of(LABEL, service.type, answered), fresh=fresh_in(answered))
            if self._is_meant(lambda told=told: self._takes_message(told)):  # type: ignore[misc]  # of this turn
                return told

    def heartbeat(self, kept: Told | None) -> Told | None:
        """Ask for the address of a heartbeat, unless the environment has it; `None` where there is
        to be none. No answer means the one that was `kept`.
        """
        if self.environ.get(VARIABLE):
            there = Told(heartbeat=f"env:{VARIABLE}")
            return there if self._is_meant(lambda: self._is_pinged(there)) else None
        self.interview.tell(_WHAT_A_HEARTBEAT_IS)
        earlier = None if kept is None else (kept.fresh or {}).get(VARIABLE)
        question = _HEARTBEAT if earlier is None else _ANOTHER_HEARTBEAT
        while True:
            address = self.interview.ask_for(question, _any_secret, kept=earlier, hidden=True)
            if address is None or address.reveal().casefold() in NONE:
                return None
            told = Told(heartbeat=f"env:{VARIABLE}", fresh={VARIABLE: address})
            if self._is_meant(lambda told=told: self._is_pinged(told)):  # type: ignore[misc]  # of this turn
                return told

    def _is_meant(self, works: Callable[[], bool]) -> bool:
        """Try it. What does not work now may be meant, since a service may be out of reach from
        here; a setting that is wrong is not.
        """
        try:
            if works():
                return True
        except ConfigError as error:
            self._tell(error.message, error.hint)
            return False
        except CertferryError as error:
            self._tell(error.message, error.hint)
        return self.interview.confirm(_ANYWAY)

    def _takes_message(self, told: Told) -> bool:
        channel = told.channel
        if channel is None:
            return False
        table = {"type": channel.type, **channel.settings}
        settings = self._settings({"notify": {channel.label: table}}, told)
        with open_to_look(settings, language=self.console.voice.language) as session:
            channels = session.teller.channels
            names = [channel.label]
            channels.must_connect(channel.label)
            self.interview.tell(Text("Sending a test message …"))
            answers = channels.try_out(names)
            lines = answer_lines(answers, channels.services(names), self.console.voice)
            self.console.remark(lines)
        return isinstance(answers[channel.label], Sent)

    def _is_pinged(self, told: Told) -> bool:
        self.interview.tell(Text("Sending a test ping …"))
        settings = self._settings({"heartbeat": {"url": told.heartbeat}}, told)
        missed = try_heartbeat(settings)
        if missed is not None:
            self._tell(missed.message, missed.hint)
            return False
        self.interview.tell(Text("heartbeat: the ping was taken."))
        return True

    def _settings(self, tables: Mapping[str, Mapping[str, object]], told: Told) -> Settings:
        fresh = {name: key.reveal() for name, key in (told.fresh or {}).items()}
        document = with_tables(self.given, tables)
        return load_before(document, self.config, {**self.environ, **fresh})

    def _tell(self, problem: Text, hint: Text | None) -> None:
        self.console.remark(text.complaint(problem, hint, self.console.voice))


def _any_secret(answer: str) -> Secret:
    """Read a secret in which a blank may be, as in passwords of mail servers."""
    return as_a_key(Secret(answer))
