"""The text of a configuration file for a proposal; and one with a certificate more, or less, in
which every other line stays. A changed text is read again and must mean what was meant, so no
spelling of TOML has to be thought of here. Pure.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product

from certferry.config.certificates import account_among
from certferry.config.document import Document, LineIndex
from certferry.config.model import Settings
from certferry.config.values import DIRECTORIES
from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.names import is_wildcard, normalise, pattern_of
from certferry.core.discovery import proposal as proposals
from certferry.core.discovery.proposal import LeftOut, ProposedCertificate, ProposedDeployment
from certferry.errors import ConfigError
from certferry.text import Text

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
    """What stands above the certificates. `settings` are an operator's own; `directory` and `email`
    are `None` where those say it; `heartbeat` refers to its address.
    """

    settings: str = field(default="", repr=False)
    env_files: tuple[str, ...] = ()
    directory: str | None = None
    email: str | None = None
    accounts: tuple[NewAccount, ...] = ()
    channel: NewAccount | None = None
    heartbeat: str = ""


def text_of(preamble: Preamble, proposal: proposals.Proposal, say: Say) -> str:
    """Return the whole file."""
    header = _comment(
        say(Text("Written by `certferry init`. Every setting: `certferry help config`.")),
        say(Text("See its effect with `certferry plan`; nothing is changed before a sync.")),
    )
    env_files = ""
    if preamble.env_files:
        about = say(Text("Where the keys are: KEY=value lines, for their owner alone (0600)."))
        env_files = f"{_comment(about)}\nenv_files = {_list(preamble.env_files)}"
    parts = [
        header,
        env_files,
        preamble.settings.strip(),
        _acme(preamble, say),
        *(_account(account) for account in preamble.accounts),
        _notifications(preamble, say),
        tables_of(proposal, say),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def tables_of(proposal: proposals.Proposal, say: Say) -> str:
    """Return the certificates' tables, and those left out as comments; empty without either."""
    parts = [
        *(_certificate(one, say) for one in proposal.certificates),
        _left_out(proposal.left_out, say),
    ]
    return "\n\n".join(part for part in parts if part)


def with_keys(settings: Document, accounts: Sequence[NewAccount]) -> str:
    """Return the operator's text with the keys that accounts lack. Raises `ConfigError`."""
    lines = settings.text.splitlines()
    below: dict[int, list[str]] = {}
    for account in accounts:
        if account.label in settings.tables("accounts") and account.settings:
            number = settings.line(("accounts", account.label)) or 0
            header = lines[number - 1].partition("#")[0].strip() if number else ""
            if header != f"[accounts.{account.label}]":
                problem = Text("{path}: [accounts.{label}] is no table of its own")
                raise ConfigError(
                    problem.filled(path=settings.path, label=account.label),
                    hint=Text("write it as one, or write its keys there"),
                )
            below[number] = _settings(account)
    return "\n".join(
        row for number, line in enumerate(lines, start=1) for row in (line, *below.get(number, []))
    )


def with_accounts(settings: Document, accounts: Sequence[NewAccount]) -> Document:
    """Return an operator's settings with accounts, and with what theirs lack, as values alone."""
    tables = {label: dict(table) for label, table in settings.tables("accounts").items()}
    for account in accounts:
        table = tables.setdefault(account.label, {"type": account.type})
        table |= account.settings
    return replace(settings, values={**settings.values, "accounts": tables})


def with_tables(settings: Document, tables: Mapping[str, Mapping[str, object]]) -> Document:
    """Return an operator's settings with more tables, as values that stand in no file."""
    return replace(settings, path=None, values={**settings.values, **tables})


def toml_string(words: str) -> str:
    """Write a string as TOML has it: as JSON does, which lets DEL pass."""
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def _acme(preamble: Preamble, say: Say) -> str:
    if preamble.directory is None:
        return ""
    names = {url: name for name, url in DIRECTORIES.items()}
    about = say(Text("The CA writes to this address when something is wrong with a certificate."))
    email = (
        f"email = {toml_string(preamble.email)}"
        if preamble.email
        else '# email = "ops@example.com"'
    )
    directory = names.get(preamble.directory, preamble.directory)
    return f"[acme]\ndirectory = {toml_string(directory)}\n{_comment(about)}\n{email}"


def _account(account: NewAccount) -> str:
    lines = [f"[accounts.{account.label}]"]
    if account.type != account.label:
        lines.append(f"type = {toml_string(account.type)}")
    return "\n".join([*lines, *_settings(account)])


def _notifications(preamble: Preamble, say: Say) -> str:
    parts, channel = [], preamble.channel
    if channel is not None:
        about = say(Text("Failures and recoveries are reported here."))
        table = [f"[notify.{channel.label}]", f"type = {toml_string(channel.type)}"]
        parts.append("\n".join([_comment(about), *table, *_settings(channel)]))
    if preamble.heartbeat:
        about = say(Text("Each run pings this address; its service reports when the runs stop."))
        parts.append(f"{_comment(about)}\n[heartbeat]\nurl = {toml_string(preamble.heartbeat)}")
    return "\n\n".join(parts)


def _settings(account: NewAccount) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in account.settings.items()]


def _certificate(one: ProposedCertificate, say: Say) -> str:
    lines = [_comment(say(remark)) for remark in one.remarks]
    lines += ["[[certificates]]", f"name = {toml_string(one.lineage)}"]
    if one.files is not None:
        lines.append(_comment(say(Text("It is for {names}.", names=one.covered))))
        lines.append(f"fullchain = {toml_string(one.files.fullchain)}")
        lines.append(f"privkey = {toml_string(one.files.privkey)}")
    else:
        lines += [f"names = {_list(one.names)}", f"dns = {toml_string(one.dns)}"]
    if one.key_type is not None:
        lines.append(f"key_type = {toml_string(one.key_type.value)}")
    for deployment in one.deployments:
        lines += ["", *_deployment(deployment, say)]
    return "\n".join(lines)


def _deployment(deployment: ProposedDeployment, say: Say) -> Iterator[str]:
    yield "[[certificates.deploy]]"
    yield f"to = {toml_string(deployment.to)}"
    if deployment.directory:
        yield f"directory = {toml_string(deployment.directory)}"
        yield from _access(deployment.access)
        if deployment.reload:
            # As its client did: what stands there may be anything that a shell understands.
            yield f'reload = ["sh", "-c", {toml_string(deployment.reload)}]'
    elif deployment.domains is not None:
        yield f"domains = {_list([pattern_of(domain) for domain in deployment.domains])}"
    else:
        yield _comment(say(Text("Every domain of the account that the certificate covers.")))
        yield 'domains = "auto"'


def _access(access: proposals.Access) -> Iterator[str]:
    """Write only what is not the rule."""
    usual = proposals.Access()
    for key in ("owner", "group"):
        name = getattr(access, key)
        if name is not None:
            yield f"{key} = {toml_string(name)}"
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
    if isinstance(value, list):
        return _list(value)
    return toml_string(value) if isinstance(value, str) else json.dumps(value)


def _list(words: Sequence[str]) -> str:
    written = [toml_string(word) for word in words]
    on_one_line = f"[{', '.join(written)}]"
    if len(on_one_line) <= _SHORT:
        return on_one_line
    return "\n".join(["[", *(f"    {word}," for word in written), "]"])


def _comment(*lines: str) -> str:
    """Write lines as comments, in which TOML wants no control characters."""
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return "\n".join(f"# {line}".rstrip() for line in shown)


_CERTIFICATES = "certificates"


@dataclass(frozen=True, slots=True)
class Edited:
    """A changed text, and its blocks of lines (`+` or `-`), each with its first line's number."""

    text: str
    sign: str
    blocks: tuple[tuple[int, tuple[str, ...]], ...]


def with_certificates(document: Document, tables: str) -> Edited:
    """Return the text with more certificates, of this TOML, below its own. Raises `ConfigError`."""
    rows = document.text.split("\n")
    ends = [
        _end(rows, table.last)
        for table in LineIndex(document.text).tables
        if table.trail[0] == _CERTIFICATES
    ]
    at = max(ends) if ends else _without_blanks_at_the_end(rows)
    return_ = "\r" if "\r\n" in document.text else ""
    added = [row + return_ for row in tables.rstrip("\n").split("\n")]
    above, below = rows[:at], rows[at:]
    between = [return_] if above and above[-1].strip() else []
    if above and return_ and not above[-1].endswith(return_):
        above[-1] += return_  # the last line had no end
    if not any(row.strip() for row in below):
        below = [""]
    elif below[0].strip():
        below = [return_, *below]
    meant = [*_declared(document), *tomllib.loads(tables)[_CERTIFICATES]]
    text = _checked(document, "\n".join([*above, *between, *added, *below]), meant)
    return Edited(text, "+", ((len(above) + len(between) + 1, tuple(added)),))


def without_certificate(document: Document, number: int) -> Edited:
    """Return the text without a certificate (from 0), its deployments, and the comments directly
    above. Raises `ConfigError` where it stands in no table of its own.
    """
    rows = document.text.split("\n")
    found = list(_blocks(rows, document, number))
    gone = tuple((first + 1, tuple(rows[first:last])) for first, last in found)
    for first, last in reversed(found):
        del rows[first:last]
        if not any(row.strip() for row in rows[first:]):
            rows[_without_blanks_at_the_end(rows) :] = [""]
        while first < len(rows) - 1 and not "".join(rows[max(first - 1, 0) : first + 1]).strip():
            del rows[first]
    meant = [one for n, one in enumerate(_declared(document)) if n != number]
    return Edited(_checked(document, "\n".join(rows), meant), "-", gone)


def _blocks(rows: Sequence[str], document: Document, number: int) -> Iterator[tuple[int, int]]:
    """Yield the lines (from 0, end excluded) of a certificate, with the comments directly above."""
    in_order = LineIndex(document.text).tables
    for of_it, tables in groupby(in_order, lambda one: one.trail[:2] == (_CERTIFICATES, number)):
        if of_it:
            first, *more = tables
            begun = first.first - 1
            while begun > 0 and _is_comment(rows[begun - 1]):
                begun -= 1
            yield begun, _end(rows, [first, *more][-1].last)


def _end(rows: Sequence[str], last: int) -> int:
    """Return where a table ends (from 0), with comments that stand above no other table."""
    end = last
    while end < len(rows) and _is_comment(rows[end]):
        end += 1
    return end if end == len(rows) or not rows[end].strip() else last


def _is_comment(row: str) -> bool:
    return row.lstrip().startswith("#")


def _without_blanks_at_the_end(rows: Sequence[str]) -> int:
    return next((n for n in range(len(rows), 0, -1) if rows[n - 1].strip()), 0)


def _declared(document: Document) -> Sequence[object]:
    found = document.values.get(_CERTIFICATES, [])
    return found if isinstance(found, list) else []


def _checked(document: Document, text: str, meant: Sequence[object]) -> str:
    """Return a text that declares what is meant, and else what it did; refuse any other."""
    values = {**document.values, _CERTIFICATES: list(meant)}
    if not meant:
        del values[_CERTIFICATES]
    try:
        found = tomllib.loads(text)
    except ValueError:
        found = {}
    if found != values:
        problem = Text("{path} does not have each certificate under a [[certificates]] of its own")
        hint = Text("change it with an editor; nothing was changed")
        raise ConfigError(problem.filled(path=document.path), hint=hint)
    return text


# what `certferry add` declares: for which names, who proves them, where they are served


def already_declared(settings: Settings, domains: Sequence[str]) -> bool:
    """Return whether each domain is a declared name. Raises `ConfigError` for what is no domain."""
    declared = {name for desired in settings.declared for name in desired.names}
    return declared.issuperset(map(normalise, domains))


def covered_already(settings: Settings, domains: Sequence[str]) -> Iterator[Text]:
    """Yield a sentence for each domain that a declared wildcard covers: it may need none."""
    for name in dict.fromkeys(map(normalise, domains)):
        for desired in settings.declared:
            if covered_by(desired.names, name):
                yield Text(
                    "{lineage} covers {name} already: the next sync serves it there, unless its"
                    " deployment names other domains",
                    lineage=desired.lineage,
                    name=name,
                )


@dataclass(frozen=True, slots=True)
class Choice:
    """An account to choose: the one that the `option` names, else the only one of the `labels`;
    `wrong_kind` is said of an account that is none of them.
    """

    option: str
    labels: Sequence[str]
    named: str | None
    wrong_kind: Text

    def account(self, settings: Settings) -> str:
        """Return the account, or "". Raises `ConfigError`."""
        if self.named in settings.accounts.keys() - self.labels and self.labels:
            raise ConfigError(self.wrong_kind.filled(name=self.named, accounts=self.labels))
        if self.named is not None:
            try:
                return account_among(self.labels)(self.named)
            except ConfigError as wrong:
                message = Text("{name}: {problem}", name=self.option, problem=wrong.message)
                raise ConfigError(message) from None
        if len(self.labels) > 1:
            problem = Text("{path} has several accounts that could be meant: {labels}")
            hint = Text("say which with {option}", option=f"{self.option} {self.labels[0]}")
            raise ConfigError(problem.filled(path=settings.path, labels=self.labels), hint=hint)
        return next(iter(self.labels), "")


def additions(
    settings: Settings, domains: Sequence[str], dns: Choice, to: Choice, *, each: bool
) -> tuple[ProposedCertificate, ...]:
    """Return what to declare: one for all domains, or one for `each`. Raises `ConfigError`."""
    names = tuple(dict.fromkeys(map(normalise, domains)))
    for name in names:
        for desired in settings.declared:
            if name in desired.names:
                problem = Text("{name} is declared already, in {lineage}")
                hint = Text("leave it out, or change the list of names with an editor")
                raise ConfigError(problem.filled(name=name, lineage=desired.lineage), hint=hint)
    proven = dns.account(settings)
    if not proven:
        problem = Text("{path} has no account of a DNS service", path=settings.path)
        hint = Text("write one: `certferry help config` shows each under [accounts]")
        raise ConfigError(problem, hint=hint)
    served = to.account(settings)
    deployments = (ProposedDeployment(served),) if served else ()
    groups = [(name,) for name in names] if each else [names]
    for group in groups:
        _must_not_overlap(group)
    proposed = [
        ProposedCertificate(proposals.name_for(group), group, proven, deployments=deployments)
        for group in groups
    ]
    return tuple(
        proposals.named_apart(proposed, (desired.lineage for desired in settings.declared))
    )


def _must_not_overlap(names: Sequence[str]) -> None:
    """Raise `ConfigError` for names that Let's Encrypt refuses in one order ("redundant with a
    wildcard domain in the same request": letsencrypt/boulder, pull request 3542).
    """
    problem = Text("{wildcard} covers {name}, and Let's Encrypt refuses both in one certificate")
    for name, wildcard in product(names, filter(is_wildcard, names)):
        if wildcard != name and covered_by([wildcard], name):
            hint = Text("leave {name} out", name=name)
            raise ConfigError(problem.filled(wildcard=wildcard, name=name), hint=hint)
