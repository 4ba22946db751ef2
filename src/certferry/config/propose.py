"""Make the text of a new configuration file, or change the text of an existing file: add or remove
certificates. The functions write no file.

A change keeps all other lines, except blank lines beside the certificate. The changed text is
parsed again and compared with the intended values, so the functions need not know every spelling
of TOML.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product

from msgspec import Struct

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
from certferry.values import replace

Say = Callable[[Text], str]

_SHORT = 72
"""The most characters of a list that is written on one line. A longer list has a line for each
item.
"""


class NewAccount(Struct, frozen=True):
    """A table to write into the file: an account, new or with more keys, or a channel."""

    #: The name of the account or channel in the file.
    label: str
    #: The name of the adapter.
    type: str
    #: References to secrets, or plain values, by key.
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Preamble:
    """The part of a new file above the certificates."""

    #: The text of settings that the operator has written already (`init --settings`).
    settings: str = field(default="", repr=False)
    #: The paths of environment files.
    env_files: tuple[str, ...] = ()
    #: The URL of the CA's directory; `None` if `settings` has a table `[acme]`.
    directory: str | None = None
    #: The operator's mail address for the CA; `None` if unknown, or if `settings` has the address.
    email: str | None = None
    #: The accounts that `settings` does not declare.
    accounts: tuple[NewAccount, ...] = ()
    #: The channel for notifications, if any.
    channel: NewAccount | None = None
    #: A reference to the heartbeat's URL; empty: no heartbeat.
    heartbeat: str = ""


def text_of(preamble: Preamble, proposal: proposals.Proposal, say: Say) -> str:
    """Return the text of the whole file. `say` translates the comments."""
    header = _comment(
        say(Text("Written by `certferry init`. Every setting: `certferry help config`.")),
        say(Text("See its effect with `certferry plan`; nothing is changed before a sync.")),
    )
    env_files = ""
    if preamble.env_files:
        about = say(Text("The files with the keys: KEY=value lines, for their owner alone (0600)."))
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
    """Return the tables of the proposed certificates in TOML, then comments with the names that
    were left out. Return "" if the proposal is empty.
    """
    parts = [
        *(_certificate(certificate, say) for certificate in proposal.certificates),
        _left_out(proposal.left_out, say),
    ]
    return "\n\n".join(part for part in parts if part)


def with_keys(settings: Document, accounts: Sequence[NewAccount]) -> str:
    """Return the text of `settings`, with more keys for the accounts that the text declares. Other
    `accounts` are ignored. Raises `ConfigError` if an account to change has no table of its own.
    """
    lines = settings.text.splitlines()
    below: dict[int, list[str]] = {}
    for account in accounts:
        if account.label in settings.tables("accounts") and account.settings:
            number = settings.line(("accounts", account.label)) or 0
            header = lines[number - 1].partition("#")[0].strip() if number else ""
            if header != f"[accounts.{account.label}]":
                problem = Text("{path}: [accounts.{label}] is not a table of its own")
                raise ConfigError(
                    problem.filled(path=settings.path, label=account.label),
                    hint=Text("write the account as a table, or write its keys there"),
                )
            below[number] = _settings(account)
    return "\n".join(
        row for number, line in enumerate(lines, start=1) for row in (line, *below.get(number, []))
    )


def with_accounts(settings: Document, accounts: Sequence[NewAccount]) -> Document:
    """Return the document with `accounts` among its values: new accounts, and more keys for
    accounts that the document declares. The document's text stays unchanged.
    """
    tables = {label: dict(table) for label, table in settings.tables("accounts").items()}
    for account in accounts:
        table = tables.setdefault(account.label, {"type": account.type})
        table |= account.settings
    return replace(settings, values={**settings.values, "accounts": tables})


def with_tables(settings: Document, tables: Mapping[str, Mapping[str, object]]) -> Document:
    """Return the document with more tables among its values, and without a path, so error messages
    name no file.
    """
    return replace(settings, path=None, values={**settings.values, **tables})


def toml_string(words: str) -> str:
    """Return a string in TOML: as in JSON, but with DEL escaped."""
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def _acme(preamble: Preamble, say: Say) -> str:
    if preamble.directory is None:
        return ""
    names = {url: name for name, url in DIRECTORIES.items()}
    about = say(Text("The CA writes to this address about problems with a certificate."))
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
        about = say(Text("Each run pings this address; the service reports when runs stop."))
        parts.append(f"{_comment(about)}\n[heartbeat]\nurl = {toml_string(preamble.heartbeat)}")
    return "\n\n".join(parts)


def _settings(account: NewAccount) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in account.settings.items()]


def _certificate(certificate: ProposedCertificate, say: Say) -> str:
    lines = [_comment(say(remark)) for remark in certificate.remarks]
    lines += ["[[certificates]]", f"name = {toml_string(certificate.lineage)}"]
    if certificate.files is not None:
        lines.append(_comment(say(Text("It is for {names}.", names=certificate.covered))))
        lines.append(f"fullchain = {toml_string(certificate.files.fullchain)}")
        lines.append(f"privkey = {toml_string(certificate.files.privkey)}")
    else:
        lines += [f"names = {_list(certificate.names)}", f"dns = {toml_string(certificate.dns)}"]
    if certificate.key_type is not None:
        lines.append(f"key_type = {toml_string(certificate.key_type.value)}")
    for deployment in certificate.deployments:
        lines += ["", *_deployment(deployment, say)]
    return "\n".join(lines)


def _deployment(deployment: ProposedDeployment, say: Say) -> Iterator[str]:
    yield "[[certificates.deploy]]"
    yield f"to = {toml_string(deployment.to)}"
    if deployment.directory:
        yield f"directory = {toml_string(deployment.directory)}"
        yield from _access(deployment.access)
        if deployment.reload:
            # A shell, because the other client's reload command may use any feature of a shell.
            yield f'reload = ["sh", "-c", {toml_string(deployment.reload)}]'
    elif deployment.domains is not None:
        yield f"domains = {_list([pattern_of(domain) for domain in deployment.domains])}"
    else:
        yield _comment(say(Text("Every domain of the account that the certificate covers.")))
        yield 'domains = "auto"'


def _access(access: proposals.Access) -> Iterator[str]:
    """Yield the lines for owner, group and modes that differ from the defaults."""
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
    tables = [omitted for omitted in left_out if omitted.certificate is not None]
    if tables:
        lines = [_comment(say(Text("Left out; solve the problem, then remove the #.")))]
        for omitted in tables:
            reason = Text("{name}: {reason}", name=omitted.name, reason=omitted.reason)
            lines += ["#", _comment(say(reason))]
            if omitted.certificate is not None:
                lines.append(_comment(*_certificate(omitted.certificate, say).split("\n")))
        parts.append("\n".join(lines))
    others = [omitted for omitted in left_out if omitted.certificate is None]
    for reason in dict.fromkeys(omitted.reason for omitted in others):
        names = [f"  {omitted.name}" for omitted in others if omitted.reason == reason]
        parts.append(_comment(say(Text("Left out: {reason}", reason=reason)), *names))
    return "\n\n".join(parts)


def _value(value: object) -> str:
    if isinstance(value, list):
        return _list(value)
    return toml_string(value) if isinstance(value, str) else json.dumps(value)


def _list(words: Sequence[str]) -> str:
    items = [toml_string(word) for word in words]
    on_one_line = f"[{', '.join(items)}]"
    if len(on_one_line) <= _SHORT:
        return on_one_line
    return "\n".join(["[", *(f"    {word}," for word in items), "]"])


def _comment(*lines: str) -> str:
    """Return lines as comments. TOML allows no control characters in comments."""
    shown = (
        "".join(character if character.isprintable() else " " for character in line)
        for line in lines
    )
    return "\n".join(f"# {line}".rstrip() for line in shown)


_CERTIFICATES = "certificates"


class Edited(Struct, frozen=True):
    """A configuration file's text after a change."""

    #: The whole text after the change.
    text: str
    #: `+` for added lines, `-` for removed lines.
    sign: str
    #: Changed blocks of lines, each with the number of the first line.
    blocks: tuple[tuple[int, tuple[str, ...]], ...]


def with_certificates(document: Document, tables: str) -> Edited:
    """Return the document's text with the certificates of `tables` (TOML) added below the last
    certificate, or at the end. Raises `ConfigError` if the text declares certificates in a form
    that cannot be extended.
    """
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
        above[-1] += return_  # the text's last line had no line end
    if not any(row.strip() for row in below):
        below = [""]
    elif below[0].strip():
        below = [return_, *below]
    meant = [*_declared(document), *tomllib.loads(tables)[_CERTIFICATES]]
    text = _checked(document, "\n".join([*above, *between, *added, *below]), meant)
    return Edited(text, "+", ((len(above) + len(between) + 1, tuple(added)),))


def without_certificate(document: Document, number: int) -> Edited:
    """Return the document's text without certificate `number` (from 0), its deployments, and the
    comments directly above. Raises `ConfigError` if the certificate is not in a table of its own.
    """
    rows = document.text.split("\n")
    blocks = list(_blocks(rows, document, number))
    gone = tuple((first + 1, tuple(rows[first:last])) for first, last in blocks)
    for first, last in reversed(blocks):
        del rows[first:last]
        if not any(row.strip() for row in rows[first:]):
            rows[_without_blanks_at_the_end(rows) :] = [""]
        while first < len(rows) - 1 and not "".join(rows[max(first - 1, 0) : first + 1]).strip():
            del rows[first]
    meant = [
        certificate
        for position, certificate in enumerate(_declared(document))
        if position != number
    ]
    return Edited(_checked(document, "\n".join(rows), meant), "-", gone)


def _blocks(rows: Sequence[str], document: Document, number: int) -> Iterator[tuple[int, int]]:
    """Yield the range of each block of lines of certificate `number`, with the comments directly
    above the block: the index of the first line (from 0), and the index after the last line.
    """
    in_order = LineIndex(document.text).tables
    for belongs, tables in groupby(
        in_order, lambda table: table.trail[:2] == (_CERTIFICATES, number)
    ):
        if belongs:
            first, *more = tables
            begun = first.first - 1
            while begun > 0 and _is_comment(rows[begun - 1]):
                begun -= 1
            yield begun, _end(rows, [first, *more][-1].last)


def _end(rows: Sequence[str], last: int) -> int:
    """Return the last line (from 1) of a table whose last value is on line `last`. Comments
    directly below belong to the table, unless another table follows the comments directly.
    """
    end = last
    while end < len(rows) and _is_comment(rows[end]):
        end += 1
    return end if end == len(rows) or not rows[end].strip() else last


def _is_comment(row: str) -> bool:
    return row.lstrip().startswith("#")


def _without_blanks_at_the_end(rows: Sequence[str]) -> int:
    return next((count for count in range(len(rows), 0, -1) if rows[count - 1].strip()), 0)


def _declared(document: Document) -> Sequence[object]:
    certificates = document.values.get(_CERTIFICATES, [])
    return certificates if isinstance(certificates, list) else []


def _checked(document: Document, text: str, meant: Sequence[object]) -> str:
    """Return the text, if the text declares exactly the certificates `meant` and is otherwise
    unchanged. Raises `ConfigError` otherwise.
    """
    values = {**document.values, _CERTIFICATES: list(meant)}
    if not meant:
        del values[_CERTIFICATES]
    try:
        parsed = tomllib.loads(text)
    except ValueError:
        parsed = {}
    if parsed != values:
        problem = Text("{path} does not list each certificate under its own [[certificates]]")
        hint = Text("edit the file with an editor; nothing was changed")
        raise ConfigError(problem.filled(path=document.path), hint=hint)
    return text


# for `certferry add`: the names, the account proving the names, the account serving the names


def already_declared(settings: Settings, domains: Sequence[str]) -> bool:
    """Return whether every domain is a declared name. Raises `ConfigError` for an invalid
    domain.
    """
    declared = {name for desired in settings.declared for name in desired.names}
    return declared.issuperset(map(normalise, domains))


def covered_already(settings: Settings, domains: Sequence[str]) -> Iterator[Text]:
    """Yield a sentence for each domain and each declared certificate that covers the domain: the
    domain may need no other certificate.
    """
    for name in dict.fromkeys(map(normalise, domains)):
        for desired in settings.declared:
            if covered_by(desired.names, name):
                yield Text(
                    "{lineage} already covers {name}: the next sync serves it there, unless the"
                    " deployment lists other domains",
                    lineage=desired.lineage,
                    name=name,
                )


@dataclass(frozen=True, slots=True)
class Choice:
    """Chooses an account for `certferry add`: the account named by the operator, or else the only
    account in `labels`.
    """

    #: The command's option that names the account, such as `--dns`.
    option: str
    #: The labels of the possible accounts.
    labels: Sequence[str]
    #: The account named by the operator.
    named: str | None
    #: The message for an account that exists but is not among `labels`.
    wrong_kind: Text

    def account(self, settings: Settings) -> str:
        """Return the label of the account, or "" if `labels` is empty and no account is named.
        Raises `ConfigError` for a wrong name, and for several accounts without a name.
        """
        if self.named in settings.accounts.keys() - self.labels and self.labels:
            raise ConfigError(self.wrong_kind.filled(name=self.named, accounts=self.labels))
        if self.named is not None:
            try:
                return account_among(self.labels)(self.named)
            except ConfigError as error:
                message = Text("{name}: {problem}", name=self.option, problem=error.message)
                raise ConfigError(message) from None
        if len(self.labels) > 1:
            problem = Text("{path} has several possible accounts: {labels}")
            hint = Text("choose an account with {option}", option=f"{self.option} {self.labels[0]}")
            raise ConfigError(problem.filled(path=settings.path, labels=self.labels), hint=hint)
        return next(iter(self.labels), "")


def additions(
    settings: Settings,
    domains: Sequence[str],
    dns: Choice,
    to: Choice,
    *,
    each: bool,
    directory: str = "",
    reload: str = "",
) -> tuple[ProposedCertificate, ...]:
    """Return the certificates to declare: one certificate for all domains, or with `each` one for
    each domain. `directory` and `reload` are those of a server. Raises `ConfigError`, such as for a
    domain that is declared already.
    """
    names = tuple(dict.fromkeys(map(normalise, domains)))
    for name in names:
        for desired in settings.declared:
            if name in desired.names:
                problem = Text("{name} is already declared, in {lineage}")
                hint = Text("remove the setting, or edit the list of names")
                raise ConfigError(problem.filled(name=name, lineage=desired.lineage), hint=hint)
    proven = dns.account(settings)
    if not proven:
        problem = Text("{path} has no account of a DNS service", path=settings.path)
        hint = Text(
            "add an account: `certferry help config` shows each DNS service under [accounts]"
        )
        raise ConfigError(problem, hint=hint)
    served = to.account(settings)
    deployment = ProposedDeployment(served, directory=directory, reload=reload)
    deployments = (deployment,) if served else ()
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
            hint = Text("remove {name}", name=name)
            raise ConfigError(problem.filled(wildcard=wildcard, name=name), hint=hint)
