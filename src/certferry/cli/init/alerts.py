"""How operators are alerted, as `certferry init` asks for it: one channel and a heartbeat, each
tried at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.adapters import CHANNELS
from certferry.wiring.monitoring import try_heartbeat
from certferry.wiring.settings import offered
from certferry.wiring.workspace import Workspace

LABEL = "ops"
"""How the channel is called in the file."""
VARIABLE = "HEARTBEAT_URL"
_REFERENCE = f"env:{VARIABLE}"

_HEADING = Text("Where to tell you of trouble (optional)")
_WHAT_A_HEARTBEAT_IS = Text(
    "A heartbeat tells you that the runs stopped: each pings an address of healthchecks.io or the"
    " like."
)


@dataclass(frozen=True, slots=True)
class Alert:
    """A channel or a heartbeat, as it stands in the file, and the keys that it needs."""

    channel: NewAccount | None = None
    heartbeat: str = ""
    fresh: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alerts:
    """Asks how operators are to be alerted, and tries it."""

    given: Document
    config: Path
    environ: Mapping[str, str]
    console: Console
    keys: KeyRing
    interview: Interview

    def channel(self, kept: Alert | None) -> Alert | None:
        """Ask for one channel of notifications, until it has taken a message or is meant all the
        same; `None` where there is to be none. No answer means the one that was `kept`, whose keys
        are known still.
        """
        services, ask = offered(CHANNELS), self.interview
        options = [option_of(service, ask) for service in services]
        earlier = None if kept is None or kept.channel is None else kept.channel.type
        usual = next((n for n, one in enumerate(services) if one.type == earlier), None)

        def refused(answer: str) -> Text:
            advice = instead_of(answer, [service.type for service in services])
            return Text("{type} is no channel; {advice}", type=repr(answer), advice=advice)

        while (chosen := ask.choose(_HEADING, options, usual, refused, or_none=True)) is not None:
            service = services[chosen]
            known = {question.key: self.keys.found(question) for question in service.questions}
            unknown = [one for one in service.questions if known[one.key] is None]
            try:
                answers = self.keys.ask(unknown, service, _any_secret) or {}
            except Back:
                continue
            answered = {key: one for key, one in (known | answers).items() if one is not None}
            alert = Alert(account_of(LABEL, service.type, answered), fresh=fresh_in(answered))
            if self._is_meant(self._takes_message, alert):
                return alert
        return None

    def heartbeat(self, kept: Alert | None) -> Alert | None:
        """Ask for the address of a heartbeat, unless the environment has it; `None` where there is
        to be none. No answer means the one that was `kept`.
        """
        if self.environ.get(VARIABLE):
            there = Alert(heartbeat=_REFERENCE)
            return there if self._is_meant(self._is_pinged, there) else None
        self.interview.print(_WHAT_A_HEARTBEAT_IS)
        earlier = None if kept is None else kept.fresh.get(VARIABLE)
        question = Text("Heartbeat URL, or `none`")
        if earlier is None:
            question = Text("Heartbeat URL (Enter to skip)")
        while True:
            address = self.interview.ask_for(question, _any_secret, kept=earlier, hidden=True)
            if address is None or address.reveal().casefold() in NONE:
                return None
            alert = Alert(heartbeat=_REFERENCE, fresh={VARIABLE: address})
            if self._is_meant(self._is_pinged, alert):
                return alert

    def _is_meant(self, works: Callable[[Alert], bool], alert: Alert) -> bool:
        """Try it. What does not work now may be meant, since a service may be out of reach from
        here; a setting that is wrong is not.
        """
        try:
            if works(alert):
                return True
        except CertferryError as error:
            self._complain(error.message, error.hint)
            if isinstance(error, ConfigError):
                return False
        return self.interview.confirm(Text("Use it all the same?"))

    def _takes_message(self, alert: Alert) -> bool:
        channel = alert.channel
        if channel is None:
            return False
        table = {"type": channel.type, **channel.settings}
        settings = self._settings({"notify": {channel.label: table}}, alert)
        language = self.console.voice.language
        with Workspace(settings, reads_only=True, language=language) as workspace:
            channels, names = workspace.notifications(Run()).channels, [channel.label]
            channels.must_connect(channel.label)
            self.interview.print(Text("Sending a test message …"))
            answers = channels.try_out(names)
            lines = answer_lines(answers, channels.services(names), self.console.voice)
            self.console.print_stderr(lines)
        return isinstance(answers[channel.label], Sent)

    def _is_pinged(self, alert: Alert) -> bool:
        self.interview.print(Text("Sending a test ping …"))
        missed = try_heartbeat(self._settings({"heartbeat": {"url": alert.heartbeat}}, alert))
        if missed is not None:
            self._complain(missed.message, missed.hint)
            return False
        self.interview.print(Text("heartbeat: the ping was taken."))
        return True

    def _settings(self, tables: Mapping[str, Mapping[str, object]], alert: Alert) -> Settings:
        fresh = {name: key.reveal() for name, key in alert.fresh.items()}
        document = with_tables(self.given, tables)
        return load_before(document, self.config, {**self.environ, **fresh})

    def _complain(self, problem: Text, hint: Text | None) -> None:
        self.console.print_stderr(text.complaint(problem, hint, self.console.voice))


def _any_secret(answer: str) -> Secret:
    """Read a secret in which a blank may be, as in passwords of mail servers."""
    return as_a_key(Secret(answer))
