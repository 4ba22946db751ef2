"""The keys that `certferry init` works with: referred to where they are already, asked for, or
taken from another client. None of them is ever shown, nor written into the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from certferry.cli.interview import Interview
from certferry.config.findings import in_lines
from certferry.config.propose import NewAccount
from certferry.config.questions import Question
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.wiring.settings import Service

_IN_THE_FILE = Text(
    "write settings that are no variables under their account, in a file for --settings"
)
_ANYHOW = Text("set them, name a file that does with --env-file, or answer at a terminal")


@dataclass(frozen=True, slots=True)
class Keys:
    """Accounts with references to their keys, and the keys that are not where those lead yet, by
    the names of their variables.
    """

    accounts: tuple[NewAccount, ...] = ()
    fresh: Mapping[str, Secret] = field(default_factory=dict)


Takes = Callable[[NewAccount, Mapping[str, Secret]], bool]
"""Tells whether a service lets in an account whose keys are such; it says why not itself."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account to have keys for, beside those that it `has`; an `optional` one may be missing as
    a whole.
    """

    service: Service
    label: str
    has: frozenset[str] = frozenset()
    optional: bool = False


def gather(
    wanted: Sequence[Wanted],
    environ: Mapping[str, str],
    inherited: Mapping[str, Secret],
    interview: Interview | None,
    hint: Text = _ANYHOW,
    takes: Takes = lambda _account, _fresh: True,
) -> Keys:
    """Find the keys: in the environment, then with the other client, then by asking, where an
    account is asked for again until the service `takes` what was typed.

    Raises `ConfigError` that names everything that is missing, with the `hint`.
    """
    accounts: list[NewAccount] = []
    fresh: dict[str, Secret] = {}
    missing: list[tuple[Question, str]] = []
    for account in wanted:
        questions = [q for q in account.service.questions if q.key not in account.has]
        answers = {q.key: found(q, environ, inherited) for q in questions}
        if account.optional and not any(answers.values()) and interview is None:
            continue
        open_ones = [q for q in questions if answers[q.key] is None]
        while True:
            given = _ask(open_ones, interview, account)
            if given is None:
                break
            answered = {key: one for key, one in (answers | given).items() if one is not None}
            written = {key: answer.written for key, answer in answered.items()}
            made = NewAccount(account.label, account.service.type, written)
            typed = {answer.name: answer.fresh for answer in answered.values() if answer.fresh}
            if not given or takes(made, fresh | typed):
                missing += [(q, account.label) for q in open_ones if q.key not in given]
                accounts.append(made)
                fresh |= typed
                break
    if missing:
        raise _missing(missing, hint)
    return Keys(tuple(accounts), fresh)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is written of a key: its value, or a reference to a variable, of that `name`. A `fresh`
    secret is not where that leads yet.
    """

    written: object
    name: str = ""
    fresh: Secret | None = None


def found(
    question: Question, environ: Mapping[str, str], inherited: Mapping[str, Secret]
) -> Answer | None:
    """Find a key without asking."""
    name = next((name for name in question.names if environ.get(name)), None)
    if name is not None:
        return _reference(name)
    usual = next(iter(question.names), "")
    return _reference(usual, inherited[usual]) if inherited.get(usual) else None


def _reference(name: str, fresh: Secret | None = None) -> Answer:
    return Answer(f"env:{name}", name, fresh)


def _ask(
    questions: Sequence[Question], interview: Interview | None, account: Wanted
) -> dict[str, Answer | None] | None:
    """Ask for the missing keys; `None` when the first answer says that there is no such account."""
    given: dict[str, Answer | None] = {}
    if interview is None:
        return given
    service, optional = account.service, account.optional
    if questions and service.where_keys_are is not None:
        interview.tell(
            Text("{service}: {where}", service=service.name, where=service.where_keys_are)
        )
    for number, question in enumerate(questions):
        may_end = optional and number == 0
        answer = _answer(question, interview, may_end=may_end)
        if answer is not None:
            given[question.key] = answer
        elif may_end:
            return None
    return given


def _answer(question: Question, interview: Interview, *, may_end: bool) -> Answer | None:
    what = question.what
    if may_end:
        what = Text("{what} (Enter to skip)", what=what)
    if question.names:
        needed = not may_end
        secret = (
            interview.ask_for(what, Secret, needed=needed)
            if question.may_be_seen
            else interview.ask_secret(what, needed=needed)
        )
        return _reference(question.names[0], secret) if secret else None
    value = interview.ask_for(what, question.read, needed=not may_end)
    return None if value is None else Answer(value)


def _missing(missing: Sequence[tuple[Question, str]], hint: Text) -> ConfigError:
    """Tell of questions without an answer, and of which accounts they are."""
    if not all(question.names for question, _ in missing):
        hint = Text("{one}; {other}", one=hint, other=_IN_THE_FILE)
    return ConfigError(in_lines([_not_set(*one) for one in missing]), hint=hint)


def _not_set(question: Question, label: str) -> Text:
    name = next(iter(question.names), f"[accounts.{label}] {question.key}")
    return Text("{name}: not set: {what}", name=name, what=question.what)
