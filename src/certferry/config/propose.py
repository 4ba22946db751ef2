"""A proposal as the text of a configuration file, with comments for its reader. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from certferry.config.bind import (
    Dataclass,
    is_secret,
    may_be_left_empty,
    may_be_seen,
    meanings,
    must_be_written,
    read_answer,
)
from certferry.config.document import Document
from certferry.config.values import DIRECTORIES
from certferry.core.certificates.names import pattern_of
from certferry.core.discovery.proposal import (
    Access,
    LeftOut,
    Proposal,
    ProposedCertificate,
    ProposedDeployment,
)
from certferry.errors import ConfigError
from certferry.ports.adapter import Adapter, Variable
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Question:
    """A key of an account, and what it is. A secret is kept under the first of the `names` that
    variables of the environment may have. What has none is no secret: `read` gives the value that
    stands in the file for an answer, or raises `ConfigError`. What `may_be_seen` is shown while it
    is typed, wherever it is kept; what `may_be_empty` has a default.
    """

    key: str
    what: Text
    names: tuple[str, ...] = ()
    read: Callable[[str], object] = str
    may_be_seen: bool = False
    may_be_empty: bool = False


def questions_of(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Give what must be asked for an account of this type: what the environment may hold, then
    every other key that has no default.
    """
    variables = adapter.ENVIRONMENT
    return (
        *(
            Question(
                one.key,
                one.what,
                tuple(one.names),
                may_be_seen=one.is_public or may_be_seen(adapter.Settings, one.key),
            )
            for one in variables
        ),
        *_others(type_, adapter, variables),
    )


def questions_of_channel(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Give what is asked for a channel of notifications: every key that has no default, then what
    some of its services want as well, such as a password.
    """
    settings: type[Dataclass] = adapter.Settings
    more = _asked_for(type_, adapter, may_be_left_empty(settings))
    return (
        *_others(type_, adapter, ()),
        *(replace(question, may_be_empty=True) for question in more),
    )


def _others(type_: str, adapter: Adapter, variables: Sequence[Variable]) -> Iterator[Question]:
    settings: type[Dataclass] = adapter.Settings
    known = {variable.key for variable in variables}
    yield from _asked_for(
        type_, adapter, [key for key in must_be_written(settings) if key not in known]
    )


def _asked_for(type_: str, adapter: Adapter, keys: Sequence[str]) -> Iterator[Question]:
    settings: type[Dataclass] = adapter.Settings
    said = meanings(settings)
    for key in keys:
        unsaid = Text("{key} of the account at {service}", key=key, service=adapter.SERVICE)
        what = said.get(key, unsaid)
        if is_secret(settings, key):
            yield Question(key, what, (_variable(type_, key),))
        else:
            yield Question(key, what, read=partial(read_answer, settings, key))


def _variable(type_: str, key: str) -> str:
    """Make a name for a variable that the adapter has none for."""
    return "".join(c if c.isalnum() else "_" for c in f"{type_}_{key}").upper()


Say = Callable[[Text], str]

_SHORT = 72
"""Characters of a list that still stands on one line."""


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to declare: its settings are references to secrets, or plain values."""

    label: str
    type: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Preamble:
    """What stands above the certificates. `settings` are an operator's own, taken as they are;
    `directory` and `email` are `None` where those say it. `heartbeat` refers to its address.
    """

    settings: str = field(default="", repr=False)
    env_files: tuple[str, ...] = ()
    directory: str | None = None
    email: str | None = None
    accounts: tuple[NewAccount, ...] = ()
    channel: NewAccount | None = None
    heartbeat: str = ""


def text_of(preamble: Preamble, proposal: Proposal, say: Say) -> str:
    """Give the whole file."""
    parts = [
        _header(say),
        _env_files(preamble.env_files, say),
        preamble.settings.strip(),
        _acme(preamble, say),
        *(_account(account) for account in preamble.accounts),
        _telling(preamble, say),
        tables_of(proposal, say),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def tables_of(proposal: Proposal, say: Say) -> str:
    """Give the tables of the certificates alone, and those that are left out as comments; nothing
    where there is neither.
    """
    parts = [
        *(_certificate(one, say) for one in proposal.certificates),
        _left_out(proposal.left_out, say),
    ]
    return "\n\n".join(part for part in parts if part)


def with_keys(settings: Document, accounts: Sequence[NewAccount]) -> str:
    """Give the text of an operator's own settings, with what their accounts lack.

    Raises `ConfigError` where there is no line to write them below.
    """
    lines = settings.text.splitlines()
    below: dict[int, list[str]] = {}
    for account in accounts:
        if account.label in settings.tables("accounts") and account.settings:
            number = settings.line(("accounts", account.label)) or 0
            header = lines[number - 1].partition("#")[0].strip() if number else ""
            if header != f"[accounts.{account.label}]":
                raise ConfigError(
                    Text(
                        "{path}: [accounts.{label}] is no table of its own",
                        path=settings.path,
                        label=account.label,
                    ),
                    hint=Text("write it as one, or write its keys there"),
                )
            below[number] = _settings(account)
    return "\n".join(
        row for number, line in enumerate(lines, start=1) for row in (line, *below.get(number, []))
    )


def with_accounts(settings: Document, accounts: Sequence[NewAccount]) -> Document:
    """Give an operator's own settings with accounts, and with what theirs lack, as values alone."""
    tables = {label: dict(table) for label, table in settings.tables("accounts").items()}
    for account in accounts:
        table = tables.setdefault(account.label, {"type": account.type})
        table |= account.settings
    return replace(settings, values={**settings.values, "accounts": tables})


def with_tables(settings: Document, tables: Mapping[str, Mapping[str, object]]) -> Document:
    """Give an operator's own settings with more tables, as values alone. They stand in no file:
    what is wrong with them is told without one.
    """
    return replace(settings, path=None, values={**settings.values, **tables})


def quoted(words: str) -> str:
    """Write a string as TOML has it: as JSON does, which lets DEL pass."""
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def _header(say: Say) -> str:
    return _comment(
        say(Text("Written by `certferry init`. Every setting: `certferry help config`.")),
        say(Text("See its effect with `certferry plan`; nothing is changed before a sync.")),
    )


def _env_files(paths: Sequence[str], say: Say) -> str:
    if not paths:
        return ""
    about = say(Text("Where the keys are: KEY=value lines, for their owner alone (0600)."))
    return f"{_comment(about)}\nenv_files = {_list(paths)}"


def _acme(preamble: Preamble, say: Say) -> str:
    if preamble.directory is None:
        return ""
    names = {url: name for name, url in DIRECTORIES.items()}
    about = say(Text("The CA writes to this address when something is wrong with a certificate."))
    email = f"email = {quoted(preamble.email)}" if preamble.email else '# email = "ops@example.com"'
    directory = names.get(preamble.directory, preamble.directory)
    return f"[acme]\ndirectory = {quoted(directory)}\n{_comment(about)}\n{email}"


def _account(account: NewAccount) -> str:
    lines = [f"[accounts.{account.label}]"]
    if account.type != account.label:
        lines.append(f"type = {quoted(account.type)}")
    return "\n".join([*lines, *_settings(account)])


def _telling(preamble: Preamble, say: Say) -> str:
    parts, channel = [], preamble.channel
    if channel is not None:
        about = say(Text("What fails, and that it works again, is told here."))
        table = [f"[notify.{channel.label}]", f"type = {quoted(channel.type)}"]
        parts.append("\n".join([_comment(about), *table, *_settings(channel)]))
    if preamble.heartbeat:
        about = say(Text("Each run pings this address, whose service tells when the runs stop."))
        parts.append(f"{_comment(about)}\n[heartbeat]\nurl = {quoted(preamble.heartbeat)}")
    return "\n\n".join(parts)


def _settings(account: NewAccount) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in account.settings.items()]


def _certificate(one: ProposedCertificate, say: Say) -> str:
    lines = [_comment(say(remark)) for remark in one.remarks]
    lines += ["[[certificates]]", f"name = {quoted(one.lineage)}"]
    if one.files is not None:
        lines.append(_comment(say(Text("It is for {names}.", names=one.covered))))
        lines.append(f"fullchain = {quoted(one.files.fullchain)}")
        lines.append(f"privkey = {quoted(one.files.privkey)}")
    else:
        lines += [f"names = {_list(one.names)}", f"dns = {quoted(one.dns)}"]
    if one.key_type is not None:
        lines.append(f"key_type = {quoted(one.key_type.value)}")
    for deployment in one.deployments:
        lines += ["", *_deployment(deployment, say)]
    return "\n".join(lines)


def _deployment(deployment: ProposedDeployment, say: Say) -> Iterator[str]:
    yield "[[certificates.deploy]]"
    yield f"to = {quoted(deployment.to)}"
    if deployment.directory:
        yield f"directory = {quoted(deployment.directory)}"
        yield from _access(deployment.access)
        if deployment.reload:
            # As its client did: what stands there may be anything that a shell understands.
            yield f'reload = ["sh", "-c", {quoted(deployment.reload)}]'
    elif deployment.domains is not None:
        yield f"domains = {_list([pattern_of(domain) for domain in deployment.domains])}"
    else:
        yield _comment(say(Text("Every domain of the account that the certificate covers.")))
        yield 'domains = "auto"'


def _access(access: Access) -> Iterator[str]:
    """Say only what is not the rule."""
    usual = Access()
    for key in ("owner", "group"):
        name = getattr(access, key)
        if name is not None:
            yield f"{key} = {quoted(name)}"
    for key in ("mode", "key_mode"):
        mode = getattr(access, key)
        if mode != getattr(usual, key):
            yield f'{key} = "{mode:04o}"'


def _left_out(left_out: Sequence[LeftOut], say: Say) -> str:
    parts = []
    tables = [one for one in left_out if one.certificate is not None]
    if tables:
        lines = [_comment(say(Text("Left out; solve the problem, then remove the #.")))]
        for one in tables:
            reason = Text("{name}: {reason}", name=one.name, reason=one.reason)
            lines += ["#", _comment(say(reason))]
            if one.certificate is not None:
                lines.append(_comment(*_certificate(one.certificate, say).split("\n")))
        parts.append("\n".join(lines))
    others = [one for one in left_out if one.certificate is None]
    for reason in dict.fromkeys(one.reason for one in others):
        names = [f"  {one.name}" for one in others if one.reason == reason]
        parts.append(_comment(say(Text("Left out: {reason}", reason=reason)), *names))
    return "\n\n".join(parts)


def _value(value: object) -> str:
    match value:
        case str():
            return quoted(value)
        case list():
            return _list(value)
        case _:
            return json.dumps(value)


def _list(words: Sequence[str]) -> str:
    written = [quoted(word) for word in words]
    on_one_line = f"[{', '.join(written)}]"
    if len(on_one_line) <= _SHORT:
        return on_one_line
    return "\n".join(["[", *(f"    {word}," for word in written), "]"])


def _comment(*lines: str) -> str:
    """Write lines as comments, in which TOML wants no control characters."""
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return "\n".join(f"# {line}".rstrip() for line in shown)
