"""The keys that `certferry init` works with: referred to where they are already, asked for and
tried at their service, or taken from another client. None of them is ever shown, nor written into
the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from certferry.cli.init import text
from certferry.cli.interview import Interview, Option, Step, walk
from certferry.config.bind import Question, as_a_key
from certferry.config.check import RESERVED
from certferry.config.document import Document
from certferry.config.load import load_before
from certferry.config.mistakes import in_lines, instead_of
from certferry.config.propose import NewAccount, with_accounts
from certferry.core.secret import Secret
from certferry.errors import (
    CertferryError,
    ClockWrong,
    ConfigError,
    DnsAccessDenied,
    TargetAccessDenied,
)
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.adapters import Family
from certferry.wiring.settings import Service, offered
from certferry.wiring.workspace import Workspace

_IN_THE_FILE = Text(
    "write settings that are no variables under their account, in a file for --settings"
)
_ANYHOW = Text("set them, name a file that does with --env-file, or answer at a terminal")
_BLANK = Text("has a blank inside, which no key has: copy the key alone")
_ASK_AGAIN = (ConfigError, DnsAccessDenied, TargetAccessDenied, ClockWrong)
"""What other keys, or the right time, would fix. Whatever else fails says nothing of the keys."""

Takes = Callable[[NewAccount, Mapping[str, Secret]], bool]
"""Returns whether a service accepts an account with such keys; it prints why not."""

Missing = tuple[Question, str]
"""A question without an answer, and the label of the account that it is about."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is written of a key: its value, or a reference to a variable, of that `name`. A `fresh`
    secret is not where that leads yet.
    """

    written: object
    name: str = ""
    fresh: Secret | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """An account with references to its keys, `None` where there is none; the keys that are not
    where those lead yet, by the names of their variables; and what is missing.
    """

    account: NewAccount | None = None
    fresh: Mapping[str, Secret] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()


class KeyRing:
    """Finds keys: in the environment, then with another client, then by asking, if there is an
    interview. What was typed once is kept for a second time.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        inherited: Mapping[str, Secret],
        interview: Interview | None,
        takes: Takes = lambda _account, _fresh: True,
    ) -> None:
        self._environ = environ
        self._inherited = inherited
        self._interview = interview
        self._takes = takes
        self._earlier: dict[str, Answer] = {}

    def service(self, family: Family, there: Mapping[str, Mapping[str, object]]) -> Service:
        """Choose the service of a family that an account is to be of; `there` are the accounts of
        the operator's own settings, by their labels.

        It is asked for where there are several, unless the keys of one alone are there. Without an
        interview, accounts count for more than keys, and the usual service comes first.
        """
        services, ask = offered(family), self._interview
        declared = {str(table.get("type", label)) for label, table in there.items()}
        ready = [one for one in services if one.type in declared]
        keyed = [one for one in services if one in ready or any(map(self.found, one.questions))]
        if ask is None or len(services) == 1:
            return (ready or keyed or services)[0]
        if len(keyed) == 1:
            return keyed[0]

        def refused(answer: str) -> Text:
            advice = instead_of(answer, [one.type for one in services])
            said = Text("{type} is no {role}; {advice}")
            return said.filled(type=answer, role=family.role, advice=advice)

        options = [option_of(service, ask, with_type=True) for service in services]
        return services[ask.choose(family.role, options, 0, refused) or 0]

    def account(
        self,
        service: Service,
        label: str,
        has: Collection[str],
        fresh: Mapping[str, Secret],
        *,
        optional: bool,
    ) -> Keys:
        """Find the keys of an account beside those that it `has`, which is asked for again until
        its service takes what was typed; `fresh` are those of other accounts. An `optional` account
        may be missing as a whole.
        """
        questions = [q for q in service.questions if q.key not in has]
        known = {q.key: self.found(q) for q in questions}
        if optional and self._interview is None and not any(known.values()):
            return Keys()
        unknown = [q for q in questions if known[q.key] is None]
        while True:
            given = self.ask(unknown, service, optional=optional)
            if given is None:
                return Keys()
            answered = {key: one for key, one in (known | given).items() if one is not None}
            account = account_of(label, service.type, answered)
            new = fresh_in(answered)
            if not given or self._takes(account, {**fresh, **new}):
                missing = [(q, label) for q in unknown if q.key not in given]
                return Keys(account, new, tuple(missing))

    def found(self, question: Question) -> Answer | None:
        """Find a key without asking."""
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
        read: Callable[[str], Secret] | None = None,
        *,
        optional: bool = False,
    ) -> dict[str, Answer] | None:
        """Ask for keys, one after the other; `None` if the first answer of an `optional` account
        says that there is no such account. `read` makes a secret of what was typed.
        """
        ask = self._interview
        if ask is None or not questions:
            return {}
        if service.where_keys_are is not None:
            called = ask.word(service.name)
            ask.print(Text("{service}: {where}", service=called, where=service.where_keys_are))
        first = questions[0] if optional else None
        take = partial(self._ask_one, ask, read or typed_key, first)
        steps = [Step(question.key, partial(take, question)) for question in questions]
        try:
            given: dict[str, Answer] = walk(steps, {}, ask, inside=True)
        except _NoAccount:
            return None
        return given

    def _ask_one(
        self,
        ask: Interview,
        read: Callable[[str], Secret],
        first: Question | None,
        question: Question,
        given: dict[str, Answer],
    ) -> dict[str, Answer]:
        may_end = question is first
        what, needed = question.what, not may_end and not question.may_be_empty
        name = next(iter(question.names), f"{question.key}: {question.what}")
        earlier = self._earlier.get(name)
        if not needed and earlier is None:
            what = Text("{what} (Enter to skip)", what=what)

        def answer(typed: str) -> Answer:
            if question.names:
                return _reference(name, read(typed))
            return Answer(question.read(typed))

        hidden = bool(question.names) and not question.may_be_seen
        answered = ask.ask_for(what, answer, needed=needed, kept=earlier, hidden=hidden)
        if answered is None:
            if may_end:
                raise _NoAccount
            return given
        self._earlier[name] = answered
        return {**given, question.key: answered}


class _NoAccount(Exception):
    """The first key of an optional account was skipped."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries the keys of one account after the other, by calls that read alone."""

    given: Document
    config: Path
    environ: Mapping[str, str]
    console: Console

    def takes(self, account: NewAccount, fresh: Mapping[str, Secret]) -> bool:
        """See `Takes`. A service that does not answer now has not refused the keys."""
        voice, label = self.console.voice, account.label
        self._print(Text("Checking the keys of {account} …", account=label))
        environ = {**self.environ, **{name: key.reveal() for name, key in fresh.items()}}
        try:
            # They stand in no file yet: what is wrong with them names none.
            document = replace(with_accounts(self.given, [account]), path=None)
            settings = load_before(document, self.config, environ)
            with Workspace(settings, reads_only=True, language=voice.language) as workspace:
                was_asked = workspace.accounts(Run()).credentials_work(label)
        except _ASK_AGAIN as error:
            self.console.print_stderr(text.complaint(error.message, error.hint, voice))
            return False
        except CertferryError as error:
            said = Text("the keys could not be checked: {problem}", problem=error.message)
            self.console.print_stderr(text.warned([said], voice))
            return True
        said = Text("{account} accepts the keys.", account=label)
        if not was_asked:
            said = Text(
                "{account} cannot be asked for that yet: `certferry sync --rehearse` tries it"
                " without counting."
            ).filled(account=label)
        self._print(said)
        return True

    def _print(self, said: Text) -> None:
        self.console.print_stderr([line(self.console.voice.say(said))])


def account_of(label: str, type_: str, answers: Mapping[str, Answer]) -> NewAccount:
    """Return the table in which answers stand."""
    return NewAccount(label, type_, {key: answer.written for key, answer in answers.items()})


def fresh_in(answers: Mapping[str, Answer]) -> dict[str, Secret]:
    """Return the keys that are to be kept yet, by the names of their variables."""
    return {answer.name: answer.fresh for answer in answers.values() if answer.fresh}


def label_of(type_: str, there: Mapping[str, Mapping[str, object]]) -> str:
    """Return the label of the account of a type, which is called like it where there is none, as
    far as that is no word of the file's.
    """
    labels = (label for label, table in there.items() if table.get("type", label) == type_)
    return next(labels, f"my-{type_}" if type_ in RESERVED else type_)


def must_not_be_missing(missing: Sequence[Missing], given: Document) -> None:
    """Raise `ConfigError` with all questions that have no answer, and where to write them."""
    if not missing:
        return
    hint = _hint_of(given) if "env_files" in given.values else _ANYHOW
    if not all(question.names for question, _ in missing):
        hint = Text("{one}; {other}", one=hint, other=_IN_THE_FILE)
    unset = Text("{name}: not set: {what}")
    named = [
        (next(iter(one.names), f"[accounts.{label}] {one.key}"), one.what) for one, label in missing
    ]
    lines = [unset.filled(name=name, what=what) for name, what in named]
    raise ConfigError(in_lines(lines), hint=hint)


def must_have_a_place(fresh: Mapping[str, Secret], given: Document, client: str) -> None:
    """Raise `ConfigError` where keys would go into a file that the settings do not name."""
    if fresh and "env_files" in given.values:
        said = Text("{path} names its own env_files, and only {client} has {names}")
        said = said.filled(path=given.path, client=client, names=list(fresh))
        raise ConfigError(said, hint=_hint_of(given))


def _hint_of(given: Document) -> Text:
    return Text("set them, or put them into one of the env_files of {path}", path=given.path)


def typed_key(answer: str) -> Secret:
    """Read a key that was typed or pasted. Raises `ConfigError` for what can be none."""
    key = as_a_key(Secret(answer))
    if " " in answer:
        raise ConfigError(_BLANK)
    return key


def option_of(service: Service, interview: Interview, *, with_type: bool = False) -> Option:
    """Return a service as it is called, and `with_type` by its type too, where that differs."""
    called, type_ = interview.word(service.name), service.type
    label = called
    if with_type and called.casefold() not in {type_, type_.replace("-", " ")}:
        label = f"{called} ({type_})"
    return Option(label, frozenset({type_, service.name.casefold(), called.casefold()}))


def _reference(name: str, fresh: Secret | None = None) -> Answer:
    return Answer(f"env:{name}", name, fresh)
