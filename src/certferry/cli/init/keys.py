"""The keys that `certferry init` works with: referred to where they are already, asked for, or
taken from another client. None of them is ever shown, nor written into the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from certferry.cli.interview import Interview, Option, Step, walk
from certferry.config.bind import Question, as_a_key
from certferry.config.check import RESERVED
from certferry.config.document import Document
from certferry.config.findings import in_lines, instead_of
from certferry.config.propose import NewAccount
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.wiring.adapters import Family
from certferry.wiring.settings import Service, offered

_IN_THE_FILE = Text(
    "write settings that are no variables under their account, in a file for --settings"
)
ANYHOW = Text("set them, name a file that does with --env-file, or answer at a terminal")
_BLANK = Text("has a blank inside, which no key has: copy the key alone")

Takes = Callable[[NewAccount, Mapping[str, Secret]], bool]
"""Tells whether a service lets in an account whose keys are such; it says why not itself."""

Missing = tuple[Question, str]
"""A question without an answer, and the label of the account that it is about."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account to have keys for, beside those that it `has`; an `optional` one may be missing as
    a whole.
    """

    service: Service
    label: str
    has: frozenset[str] = frozenset()
    optional: bool = False


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
        self._typed: dict[str, Secret] = {}
        self._written: dict[str, object] = {}

    def service(self, family: Family, there: Mapping[str, Mapping[str, object]]) -> Service:
        """Choose the service of a family that an account is to be of; `there` are the accounts of
        the operator's own settings, by their labels.

        It is asked for where there are several, unless the keys of one alone are there. Without an
        interview, accounts count for more than keys, and the usual service comes first.
        """
        services = offered(family)
        declared = {str(table.get("type", label)) for label, table in there.items()}
        ready = [one for one in services if one.type in declared]
        keyed = [one for one in services if one in ready or self._has_any(one)]
        if self._interview is None or len(services) == 1:
            return (ready or keyed or services)[0]
        if len(keyed) == 1:
            return keyed[0]
        return services[_asked_service(family, services, self._interview)]

    def account(self, wanted: Wanted, fresh: Mapping[str, Secret]) -> Keys:
        """Find the keys of an account, which is asked for again until its service takes what was
        typed; `fresh` are those of other accounts.
        """
        questions = [q for q in wanted.service.questions if q.key not in wanted.has]
        known = {q.key: self.found(q) for q in questions}
        if wanted.optional and self._interview is None and not any(known.values()):
            return Keys()
        unknown = [q for q in questions if known[q.key] is None]
        while True:
            given = self.ask(unknown, wanted.service, optional=wanted.optional)
            if given is None:
                return Keys()
            answered = {key: one for key, one in (known | given).items() if one is not None}
            account = account_of(wanted.label, wanted.service.type, answered)
            new = fresh_in(answered)
            if not given or self._takes(account, {**fresh, **new}):
                missing = [(q, wanted.label) for q in unknown if q.key not in given]
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
    ) -> dict[str, Answer | None] | None:
        """Ask for keys, one after the other; `None` when the first answer of an `optional` account
        says that there is no such account. `read` makes a secret of what was typed.
        """
        interview = self._interview
        if interview is None or not questions:
            return {}
        if service.where_keys_are is not None:
            called = interview.word(service.name)
            interview.tell(Text("{service}: {where}", service=called, where=service.where_keys_are))
        steps = [
            Step(
                question.key,
                partial(
                    self._ask_one,
                    question,
                    interview,
                    read or typed_key,
                    may_end=optional and number == 0,
                ),
            )
            for number, question in enumerate(questions)
        ]
        try:
            given: dict[str, Answer | None] = walk(steps, {}, interview, inside=True)
        except _NoAccount:
            return None
        return given

    def _ask_one(
        self,
        question: Question,
        interview: Interview,
        read: Callable[[str], Secret],
        given: dict[str, Answer | None],
        *,
        may_end: bool,
    ) -> dict[str, Answer | None]:
        what, needed = question.what, not may_end and not question.may_be_empty
        name = next(iter(question.names), f"{question.key}: {question.what}")
        if not needed and name not in self._typed and name not in self._written:
            what = Text("{what} (Enter to skip)", what=what)
        answer: Answer | None
        if question.names:
            hidden, kept = not question.may_be_seen, self._typed.get(name)
            secret = interview.ask_for(what, read, needed=needed, kept=kept, hidden=hidden)
            answer = None if secret is None else _reference(name, secret)
            if secret is not None:
                self._typed[name] = secret
        else:
            earlier = self._written.get(name)
            value = interview.ask_for(what, question.read, needed=needed, kept=earlier)
            answer = None if value is None else Answer(value)
            if value is not None:
                self._written[name] = value
        if answer is None and may_end:
            raise _NoAccount
        return given if answer is None else {**given, question.key: answer}

    def _has_any(self, service: Service) -> bool:
        return any(self.found(question) for question in service.questions)


class _NoAccount(Exception):
    """The first key of an optional account was skipped."""


def account_of(label: str, type_: str, answers: Mapping[str, Answer]) -> NewAccount:
    """Give the table in which answers stand."""
    return NewAccount(label, type_, {key: answer.written for key, answer in answers.items()})


def fresh_in(answers: Mapping[str, Answer]) -> dict[str, Secret]:
    """Give the keys that are to be kept yet, by the names of their variables."""
    return {answer.name: answer.fresh for answer in answers.values() if answer.fresh}


def label_of(type_: str, there: Mapping[str, Mapping[str, object]]) -> str:
    """Give the label of the account of a type, which is called like it where there is none, as far
    as that is no word of the file's.
    """
    labels = (label for label, table in there.items() if table.get("type", label) == type_)
    return next(labels, f"my-{type_}" if type_ in RESERVED else type_)


def must_not_be_missing(missing: Sequence[Missing], given: Document) -> None:
    """Raise `ConfigError` with all questions that have no answer, and where to write them."""
    if not missing:
        return
    hint = hint_of(given) if "env_files" in given.values else ANYHOW
    if not all(question.names for question, _ in missing):
        hint = Text("{one}; {other}", one=hint, other=_IN_THE_FILE)
    raise ConfigError(in_lines([_not_set(*one) for one in missing]), hint=hint)


def must_have_a_place(fresh: Mapping[str, Secret], given: Document, client: str) -> None:
    """Raise `ConfigError` where keys would go into a file that the settings do not name."""
    if fresh and "env_files" in given.values:
        said = Text(
            "{path} names its own env_files, and only {client} has {names}",
            path=given.path,
            client=client,
            names=list(fresh),
        )
        raise ConfigError(said, hint=hint_of(given))


def hint_of(given: Document) -> Text:
    """Say where keys go whose files the settings name themselves."""
    return Text("set them, or put them into one of the env_files of {path}", path=given.path)


def typed_key(answer: str) -> Secret:
    """Read a key that was typed or pasted. Raises `ConfigError` for what can be none."""
    key = as_a_key(Secret(answer))
    if " " in answer:
        raise ConfigError(_BLANK)
    return key


def _asked_service(family: Family, services: Sequence[Service], interview: Interview) -> int:
    def refused(answer: str) -> Text:
        return Text(
            "{type} is no {role}; {advice}",
            type=answer,
            role=family.role,
            advice=instead_of(answer, [one.type for one in services]),
        )

    options = [option_of(service, interview, with_type=True) for service in services]
    chosen = interview.choose(family.role, options, 0, refused)
    return chosen or 0


def option_of(service: Service, interview: Interview, *, with_type: bool = False) -> Option:
    """Show a service as it is called, and `with_type` by its type too, where that differs."""
    called, type_ = interview.word(service.name), service.type
    label = called
    if with_type and called.casefold() not in {type_, type_.replace("-", " ")}:
        label = f"{called} ({type_})"
    return Option(label, frozenset({type_, service.name.casefold(), called.casefold()}))


def _reference(name: str, fresh: Secret | None = None) -> Answer:
    return Answer(f"env:{name}", name, fresh)


def _not_set(question: Question, label: str) -> Text:
    name = next(iter(question.names), f"[accounts.{label}] {question.key}")
    return Text("{name}: not set: {what}", name=name, what=question.what)
