"""Find the keys of accounts for `certferry init`, and choose a channel and a heartbeat.

A key comes from the environment, else from another ACME client's files, else from the operator, and
then the key is tried at its service. The configuration file only refers to keys, by environment
variable. Secret keys stay off the screen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from msgspec import Struct
from msgspec import field as struct_field

from certferry import errors
from certferry.cli.init.files import Beginning
from certferry.cli.interview import NONE, Back, Interview, Option, Step, walk
from certferry.config.bind import Question, as_a_key
from certferry.config.document import Document
from certferry.config.mistakes import in_lines
from certferry.config.propose import NewAccount, with_accounts, with_tables
from certferry.config.tables import RESERVED
from certferry.core.redaction import Secret
from certferry.errors import Problem
from certferry.ports.notifier import Sent
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.present.news_text import answer_lines
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.adapters import CHANNELS, Family, type_instead_of
from certferry.wiring.monitoring import try_heartbeat
from certferry.wiring.settings import Service, offered
from certferry.wiring.workspace import Workspace

_IN_THE_FILE = Text(
    "write settings other than variables under their account, in a file for --settings"
)
_ANYHOW = Text("set the variables, use --env-file FILE, or answer at a terminal")
_BLANK = Text("contains a space, which no key has: copy only the key")
_ASK_AGAIN = (
    errors.ConfigError,
    errors.DnsAccessDenied,
    errors.TargetAccessDenied,
    errors.ClockWrong,
)
"""Errors of `takes` that other keys, or a correct clock, would prevent. Other errors prove nothing
about the keys, so the keys are accepted.
"""

Takes = Callable[[NewAccount, Mapping[str, Secret]], bool]
"""Returns whether a service accepts an account with these keys (by environment variable), and
prints the reason for a refusal.
"""

Missing = tuple[Question, str]
"""An unanswered question, and the label of its account."""


class WrittenKey(Struct, frozen=True):
    """The value of an account's setting in the configuration file, and the key behind the value."""

    #: The value in the file: a reference such as `env:NAME`, or a setting that is no secret.
    written: object
    #: The environment variable of the key; empty for a setting that is no secret.
    name: str = ""
    #: The key itself, if still to be stored.
    fresh: Secret | None = None


class Keys(Struct, frozen=True):
    """An account with references to its keys."""

    #: The account; None if nothing has to be written for the account, or if it was skipped.
    account: NewAccount | None = None
    #: Keys to store, by environment variable.
    fresh: Mapping[str, Secret] = struct_field(default_factory=dict)
    #: Unanswered questions.
    missing: tuple[Missing, ...] = ()


@dataclass(slots=True)
class KeyRing:
    """Finds keys in the environment, in another ACME client's files, or by asking, and remembers
    typed keys.
    """

    #: Environment variables, also from environment files.
    _environ: Mapping[str, str]
    #: Keys of the other ACME client, by certferry's environment variable.
    _inherited: Mapping[str, Secret]
    #: Asks the operator; None: ask nothing.
    _interview: Interview | None
    #: Tries typed keys at their service.
    _takes: Takes
    #: The last answer to each question, by the question's variable or text: the answer kept if the
    #: question is asked again.
    _earlier: dict[str, WrittenKey] = field(default_factory=dict)

    def service(self, family: Family, there: Mapping[str, Mapping[str, object]]) -> Service:
        """Return the service of a family's account. A family is a kind of account, such as DNS
        services. `there` are the declared accounts, by label.

        Without an interview, return a service with a declared account, else a service with keys,
        else the usual service. With an interview the operator chooses, unless the family has one
        service, or one service alone has a declared account or keys.
        """
        services, ask = offered(family), self._interview
        declared = {str(table.get("type", label)) for label, table in there.items()}
        ready = [candidate for candidate in services if candidate.type in declared]
        keyed = [
            candidate
            for candidate in services
            if candidate in ready or any(map(self.found, candidate.questions))
        ]
        if ask is None or len(services) == 1:
            return (ready or keyed or services)[0]
        if len(keyed) == 1:
            return keyed[0]

        def refused(answer: str) -> Text:
            advice = type_instead_of(answer, [candidate.type for candidate in services])
            message = Text("{type} is not a {role}; {advice}")
            return message.filled(type=answer, role=family.role, advice=advice)

        options = [option_of(service, ask, with_type=True) for service in services]
        return services[ask.choose(family.role, options, 0, refused) or 0]

    def further_accounts(
        self,
        family: Family,
        there: Mapping[str, Mapping[str, object]],
        chosen: Mapping[str, str],
        fresh: Mapping[str, Secret],
    ) -> Iterator[tuple[str, Keys]]:
        """Yield the label, and the account with its keys, of further accounts of a family: of each
        account declared in `there`, and of each service without one whose required keys are found.

        Skip the account chosen for this family. `chosen` has the label of each family's account, by
        `Family.group`. For an account declared or chosen already, yield an empty `Keys`.
        """
        services = {service.type: service for service in offered(family)}
        types = {label: str(table.get("type", label)) for label, table in there.items()}
        for label, type_ in types.items():
            if type_ in services and label != chosen.get(family.group):
                yield label, Keys()
        for type_, service in services.items():
            if type_ in types.values() or not self._has_all_keys(service):
                continue
            label = label_of(type_, there)
            if label not in chosen.values():
                yield label, self.account(service, label, (), fresh, optional=True)
            elif label != chosen.get(family.group):  # the chosen DNS account
                yield label, Keys()

    def _has_all_keys(self, service: Service) -> bool:
        needed = [question for question in service.questions if not question.may_be_empty]
        return bool(needed) and all(map(self.found, needed))

    def account(
        self,
        service: Service,
        label: str,
        has: Collection[str],
        fresh: Mapping[str, Secret],
        *,
        optional: bool,
    ) -> Keys:
        """Return an account with the keys that the account lacks. Ask for missing keys until the
        service accepts the account. Only an account with typed keys is tried at the service.

        `has` are the settings that the account has already, `fresh` the new keys of other accounts.
        An `optional` account may be skipped as a whole; the result then has no account.
        """
        questions = [q for q in service.questions if q.key not in has]
        at_hand = {q.key: self.found(q) for q in questions}
        if optional and self._interview is None and not any(at_hand.values()):
            return Keys()
        unknown = [q for q in questions if at_hand[q.key] is None]
        while True:
            given = self.ask(unknown, service, optional=optional)
            if given is None:
                return Keys()
            answered = {
                key: answer for key, answer in (at_hand | given).items() if answer is not None
            }
            account = account_of(label, service.type, answered)
            new = fresh_in(answered)
            if not given or self._takes(account, {**fresh, **new}):
                missing = [(q, label) for q in unknown if q.key not in given]
                return Keys(account, new, tuple(missing))

    def found(self, question: Question) -> WrittenKey | None:
        """Return the key that answers the question, from the environment, else from the other ACME
        client. Return None if neither has the key.
        """
        name = next((name for name in question.names if self._environ.get(name)), None)
        if name is not None:
            return _reference(name)
        usual = next(iter(question.names), "")
        inherited = self._inherited.get(usual)
        return _reference(usual, inherited) if inherited else None

    def ask(
        self,
        questions: Sequence[Question],
        service: Service,
        parse: Callable[[str], Secret] | None = None,
        *,
        optional: bool = False,
    ) -> dict[str, WrittenKey] | None:
        """Ask for keys, read each answer with `parse` (by default `typed_key`), and return the
        given keys by setting. Without an interview return no keys. Return None if the operator
        skips the first key of an `optional` account.

        Raise `Back` if the operator goes back at the first question, and `Interrupted`.
        """
        ask = self._interview
        if ask is None or not questions:
            return {}
        if service.where_keys_are is not None:
            where = Text("{service}: {where}", service=service.called, where=service.where_keys_are)
            ask.print(where)
        first = questions[0] if optional else None
        take = partial(self._ask_one, ask, parse or typed_key, first)
        # Some services show a pair as `ID,Token`: a pasted pair answers both questions.
        seconds: list[Question | None] = [*questions[1:], None]
        pairs = zip(questions, seconds if parse is None else [None] * len(seconds), strict=True)
        steps = [Step(question.key, partial(take, question, second)) for question, second in pairs]
        try:
            given: dict[str, WrittenKey] = walk(steps, {}, ask, inside=True)
        except _NoAccount:
            return None
        return given

    def _ask_one(
        self,
        ask: Interview,
        parse: Callable[[str], Secret],
        first: Question | None,
        question: Question,
        second: Question | None,
        given: dict[str, WrittenKey],
    ) -> dict[str, WrittenKey]:
        if question.key in given:
            return given
        beside: dict[str, WrittenKey] = {}
        may_end = question is first
        prompt, needed = question.what, not may_end and not question.may_be_empty
        name = next(iter(question.names), f"{question.key}: {question.what}")
        earlier = self._earlier.get(name)
        if not needed and earlier is None:
            prompt = Text("{what} (Enter to skip)", what=prompt)

        def answer(typed: str) -> WrittenKey:
            typed, comma, other = typed.partition(",") if second else (typed, "", "")
            if not question.names:
                return WrittenKey(question.read(typed))
            if question.key == "url" and "://" not in typed:
                raise errors.ConfigError(Text("must be a URL, for example https://host/path"))
            key = parse(typed)
            if question.pattern and not re.fullmatch(question.pattern, key.reveal(), re.ASCII):
                raise errors.ConfigError(Text("not the {what}", what=question.what))
            if second and second.names and comma:
                name_beside = second.names[0]
                beside[second.key] = _reference(name_beside, parse(other.strip()))
                self._earlier[name_beside] = beside[second.key]
            return _reference(name, key)

        hidden = bool(question.names) and not question.may_be_seen
        answered = ask.ask_for(prompt, answer, needed=needed, kept=earlier, hidden=hidden)
        if answered is None:
            if may_end:
                raise _NoAccount
            return given
        self._earlier[name] = answered
        return {**given, question.key: answered, **beside}


class _NoAccount(Exception):
    """Raised if the operator skips the first key of an optional account."""


def takes(
    start: Beginning, console: Console, account: NewAccount, fresh: Mapping[str, Secret]
) -> bool:
    """Try an account's keys in calls that only read, and print the result. Return False for an
    error of `_ASK_AGAIN`, and True otherwise, even after another `CertferryError`.
    """
    voice, label = console.voice, account.label
    console.print_stderr([line(voice.say(Text("Checking the keys of {account} …", account=label)))])
    try:
        # The keys are not stored in any file yet, so error messages must not name the file.
        document = replace(with_accounts(start.given, [account]), path=None)
        settings = start.settings(document, fresh)
        with Workspace(settings, reads_only=True, language=voice.language) as workspace:
            was_asked = workspace.accounts(Run()).credentials_work(label)
    except _ASK_AGAIN as error:
        console.print_stderr([*voice.error(error.message), *voice.hint(error.hint)])
        return False
    except errors.CertferryError as error:
        message = Text("the keys could not be checked: {problem}", problem=error.message)
        console.print_stderr(voice.warning(message))
        return True
    message = Text("{account} accepts the keys.")
    if not was_asked:
        message = Text(
            "{account} cannot be checked yet: `certferry sync --rehearse` tries an order at the"
            " CA's staging directory, which does not count against the CA's limits."
        )
    console.print_stderr([line(voice.say(message.filled(account=label)))])
    return True


def account_of(label: str, type_: str, answers: Mapping[str, WrittenKey]) -> NewAccount:
    """Return an account's table for the configuration file, with a setting for each answer."""
    return NewAccount(label, type_, {key: answer.written for key, answer in answers.items()})


def fresh_in(answers: Mapping[str, WrittenKey]) -> dict[str, Secret]:
    """Return the keys among `answers` that still have to be stored, by environment variable."""
    return {answer.name: answer.fresh for answer in answers.values() if answer.fresh}


def label_of(type_: str, there: Mapping[str, Mapping[str, object]]) -> str:
    """Return the label of the declared account of a type, or a label for a new account."""
    labels = (label for label, table in there.items() if table.get("type", label) == type_)
    return next(labels, f"my-{type_}" if type_ in RESERVED else type_)


def must_not_be_missing(missing: Sequence[Missing], given: Document) -> None:
    """Raise `ConfigError` if questions are unanswered. The error lists the questions, and the hint
    says where to write the answers.
    """
    if not missing:
        return
    hint = _hint_of(given) if "env_files" in given.values else _ANYHOW
    if not all(question.names for question, _ in missing):
        hint = Text("{one}; {other}", one=hint, other=_IN_THE_FILE)
    lines = []
    for question, label in missing:
        name = next(iter(question.names), f"[accounts.{label}] {question.key}")
        lines.append(Text("{name}: not set: {what}", name=name, what=question.what))
    raise errors.ConfigError(in_lines(lines), hint=hint)


def must_have_a_place(fresh: Mapping[str, Secret], given: Document, client: str) -> None:
    """Raise `ConfigError` if keys have to be stored, and the settings in `given` have `env_files`
    of their own: the new environment file would not be among these files.
    """
    if fresh and "env_files" in given.values:
        message = Text("{path} names its own env_files, and only {client} has {names}")
        message = message.filled(path=given.path, client=client, names=list(fresh))
        raise errors.ConfigError(message, hint=_hint_of(given))


def _hint_of(given: Document) -> Text:
    return Text("set the variables, or add them to a file in env_files of {path}", path=given.path)


def typed_key(answer: str) -> Secret:
    """Read a typed or pasted key. Raise `ConfigError` for text that cannot be a key."""
    key = as_a_key(Secret(answer))
    if " " in answer:
        raise errors.ConfigError(_BLANK)
    return key


def option_of(service: Service, interview: Interview, *, with_type: bool = False) -> Option:
    """Return a service as an option of a list, chosen by its name or type. With `with_type` the
    label also shows the type, if the type differs from the service's name.
    """
    called, type_ = interview.voice.say(service.called), service.type
    label = called
    if with_type and called.casefold() not in {type_, type_.replace("-", " ")}:
        label = f"{called} ({type_})"
    return Option(label, frozenset({type_, service.name.casefold(), called.casefold()}))


def _reference(name: str, fresh: Secret | None = None) -> WrittenKey:
    return WrittenKey(f"env:{name}", name, fresh)


LABEL = "ops"
"""The label of the new channel in the configuration file."""
VARIABLE = "HEARTBEAT_URL"
_REFERENCE = f"env:{VARIABLE}"

_HEADING = Text("Channel for trouble (optional)")
_WHAT_A_HEARTBEAT_IS = Text(
    "A heartbeat tells you that the runs have stopped: each run pings an address of"
    " healthchecks.io or a similar service."
)


class Alert(Struct, frozen=True):
    """The channel or the heartbeat that the operator chose."""

    #: The channel's table for the configuration file; None for a heartbeat.
    channel: NewAccount | None = None
    #: A reference to the heartbeat's URL; "" for a channel.
    heartbeat: str = ""
    #: Secrets to store, by environment variable.
    fresh: Mapping[str, Secret] = struct_field(default_factory=dict)


class Alerts(Struct, frozen=True):
    """Asks for a channel and a heartbeat, and tries each by a message or a ping."""

    #: The settings that the new file builds on.
    start: Beginning
    #: Prints the results of the tries.
    console: Console
    #: Finds the keys of a channel.
    keys: KeyRing
    #: Asks the operator.
    interview: Interview

    def channel(self, kept: Alert | None) -> Alert | None:
        """Ask for a channel until a channel takes a test message, or the operator accepts a channel
        that failed. Return None if the operator wants no channel.

        `kept` is the channel chosen before the operator went back, if any.
        """
        services, ask = offered(CHANNELS), self.interview
        options = [option_of(service, ask) for service in services]
        earlier = kept and kept.channel and kept.channel.type
        usual = next((n for n, candidate in enumerate(services) if candidate.type == earlier), None)

        def refused(answer: str) -> Text:
            advice = type_instead_of(answer, [service.type for service in services])
            return Text("{type} is not a channel; {advice}", type=repr(answer), advice=advice)

        while (chosen := ask.choose(_HEADING, options, usual, refused, or_none=True)) is not None:
            service = services[chosen]
            at_hand = {question.key: self.keys.found(question) for question in service.questions}
            unknown = [q for q in service.questions if at_hand[q.key] is None]
            try:
                answers = self.keys.ask(unknown, service, _any_secret) or {}
            except Back:
                continue
            answered = {key: a for key, a in (at_hand | answers).items() if a is not None}
            alert = Alert(account_of(LABEL, service.type, answered), fresh=fresh_in(answered))
            if self._is_meant(self._takes_message, alert):
                return alert
        return None

    def heartbeat(self, kept: Alert | None) -> Alert | None:
        """Ask for the heartbeat's URL until a ping succeeds, or the operator accepts a URL that
        failed. An empty answer means the URL in `kept`, if any. Return None for no heartbeat.

        If the environment has the URL, ask for none, and ping this URL. Return None if the ping
        fails, unless the operator accepts the URL.
        """
        if self.start.environ.get(VARIABLE):
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
        """Try a channel or a heartbeat by `works`, and return whether to use the alert. If `works`
        returns False or raises `CertferryError`, ask the operator. After a `ConfigError`, a wrong
        setting, return False without asking.
        """
        try:
            if works(alert):
                return True
        except errors.CertferryError as error:
            self._complain(error.problem())
            if isinstance(error, errors.ConfigError):
                return False
        return self.interview.confirm(Text("Use the key anyway?"))

    def _takes_message(self, alert: Alert) -> bool:
        channel = alert.channel
        if channel is None:
            return False
        tables = {"notify": {channel.label: {"type": channel.type, **channel.settings}}}
        settings = self.start.settings(with_tables(self.start.given, tables), alert.fresh)
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
        document = with_tables(self.start.given, {"heartbeat": {"url": alert.heartbeat}})
        missed = try_heartbeat(self.start.settings(document, alert.fresh))
        if missed is None:
            self.interview.print(Text("heartbeat: the ping was accepted."))
        else:
            self._complain(missed)
        return missed is None

    def _complain(self, problem: Problem) -> None:
        voice = self.console.voice
        self.console.print_stderr([*voice.error(problem.message), *voice.hint(problem.hint)])


def _any_secret(answer: str) -> Secret:
    """Read a secret that may contain blanks, such as a mail server's password."""
    return as_a_key(Secret(answer))
