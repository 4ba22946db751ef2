"""Edit the declared certificates in the configuration file, or adapt the state to an edited file.

`certferry add` and `remove` show the difference, ask the operator, and write only a file that
loads. `rename` and `forget` change the state, for a name that the file no longer declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import (
    CommandContext,
    interview_or_refuse,
    name_argument,
    say,
    say_changed,
    warn,
)
from certferry.cli.selection import read_settings, workspace_of
from certferry.config import propose
from certferry.config.document import Document, read_document
from certferry.config.load import NAME, load_text
from certferry.config.propose import Edited, without_certificate
from certferry.config.write import change_file
from certferry.core.discovery.proposal import Proposal
from certferry.core.observed.records import HistoryEntry
from certferry.errors import ConfigError
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, line
from certferry.reconcile.by_hand import carry_over
from certferry.reconcile.run import held_lease
from certferry.text import Text
from certferry.wiring import recorded
from certferry.wiring.adapters import DNS_PROVIDERS, SERVERS, TARGETS, installed
from certferry.wiring.selection import lineages_meant, must_be_known, the_one_meant
from certferry.wiring.settings import ADAPTERS, checked, load_checked
from certferry.wiring.workspace import who_runs

_NO_DNS = Text("{name} is not a DNS account; available: {accounts}")
_NO_TARGET = Text("{name} is not an account that serves certificates; available: {accounts}")

yes_option = click.option("--yes", is_flag=True, help="Write without asking.")


@click.command("add")
@click.argument("domains", metavar="DOMAIN...", nargs=-1, required=True)
@click.option("--each", is_flag=True, help="One certificate for each DOMAIN.")
@click.option("--dns", metavar="ACCOUNT", help="The account that writes the challenge records.")
@click.option("--to", metavar="ACCOUNT", help="The account that serves the certificate.")
@click.option("--directory", metavar="DIR", help="The directory on a server reached by SSH.")
@click.option("--reload", metavar="COMMAND", help="The command there that reloads the server.")
@yes_option
@click.pass_obj
def add(
    context: CommandContext,
    domains: tuple[str, ...],
    dns: str | None,
    to: str | None,
    directory: str | None,
    reload: str | None,
    *,
    each: bool,
    yes: bool,
) -> Exit:
    """Declare a certificate for DOMAINs in the configuration file.

    Shows the difference first. Comments and layout of the file stay. Uses the accounts in the file;
    with several, choose with --dns and --to. Nothing is issued before the next sync.
    """
    settings = load_checked(context.config, context.console.environ)
    domains = tuple(urlsplit(word).hostname or word if "://" in word else word for word in domains)
    if propose.already_declared(settings, domains):
        return say(context, Text("All of them are already declared. Nothing was changed."))
    accounts, adapters = settings.accounts.values(), installed()
    proving, serving = adapters.labels(DNS_PROVIDERS, accounts), adapters.labels(TARGETS, accounts)
    servers = adapters.labels(SERVERS, accounts)
    if reload is not None and directory is None:
        raise UsageMistake(Text("--reload needs --directory"))
    if directory is not None:
        serving = servers
    elif to in servers or (servers and not serving):
        raise ConfigError(
            Text("{name} is a server, which takes files into a directory", name=to or servers[0]),
            hint=Text("name the directory there with --directory, for example /etc/nginx/tls"),
        )
    proven = propose.Choice("--dns", proving, dns, _NO_DNS)
    served = propose.Choice("--to", serving, to, _NO_TARGET)
    certificates = propose.additions(
        settings, domains, proven, served, each=each, directory=directory or "", reload=reload or ""
    )
    for covered in propose.covered_already(settings, domains):
        warn(context, covered)
    document = read_document(settings.path or Path(NAME))
    tables = propose.tables_of(Proposal(certificates), context.voice.say)
    if change(context, document, propose.with_certificates(document, tables), "file.add", yes=yes):
        names = " ".join(certificate.lineage for certificate in certificates)
        say(context, Text("To see the changes: `certferry plan {names}`", names=names))
    return Exit.OK


@click.command("remove")
@name_argument()
@yes_option
@click.pass_obj
def remove(context: CommandContext, name: str, *, yes: bool) -> Exit:
    """Take a certificate out of the configuration file.

    NAME is the certificate, or a domain whose certificate has one name. Removes its deployments and
    the comments directly above; shows the difference first. A bound certificate stays bound, and is
    no longer renewed.
    """
    settings = load_checked(context.config, context.console.environ)
    desired = the_one_meant(settings.declared, name)
    lineage = desired.lineage
    # The certificate's other domains may still need the certificate.
    if name != lineage and len(desired.names) > 1:
        message = Text("{lineage} is for {names}", lineage=lineage, names=desired.names)
        hint = Text(
            "to remove the whole certificate: `certferry remove {lineage}`; to remove {name}"
            " alone, edit `names`"
        )
        raise ConfigError(message, hint=hint.filled(lineage=lineage, name=name))
    place = settings.places[lineage]
    edited = without_certificate(place.document, int(place.trail[-1]))
    if change(context, place.document, edited, "file.remove", yes=yes):
        message = Text(
            "{lineage} is no longer declared: certferry neither renews nor deploys the certificate."
        )
        say(context, message.filled(lineage=lineage))
        if not yes and _is_kept(context, lineage):
            question = Text("Let the certificate expire? If yes, runs stop reminding you of it.")
            if interview_or_refuse(context, UsageMistake(question)).confirm(question):
                return _forget(context, lineage)
        say(
            context,
            Text("To let it expire without reminders: `certferry forget {name}`", name=lineage),
        )
    return Exit.OK


def _is_kept(context: CommandContext, lineage: str) -> bool:
    """Return whether the state has a certificate of a lineage that is still valid. Without a
    declaration in the file, runs report the certificate.
    """
    with workspace_of(context) as workspace:
        versions = workspace.state.versions_of([lineage])[lineage]
        return recorded.newest(versions, workspace.state.now()) is not None


def change(
    context: CommandContext, document: Document, edited: Edited, event: str, *, yes: bool
) -> bool:
    """Show the difference, ask the operator, and write the edited file. With `yes` do not ask.
    Return whether the file was written.

    Raise `ConfigError` if the edited file would not load, cannot be written, or was changed by
    another program meanwhile. Raise `UsageMistake` if there is no terminal to ask at.
    """
    path = document.path or Path(NAME)
    try:
        checked(load_text(edited.text, path, context.console.environ, ADAPTERS))
    except ConfigError as error:
        message = Text("the change would make the file invalid: {problem}", problem=error.message)
        raise ConfigError(message, hint=Text("nothing was changed")) from error
    if not (yes and context.quiet):
        context.console.print(_difference(edited, path, context.voice))
    if not yes:
        refusal = Text("nothing was written: without a terminal, confirm with --yes")
        interview = interview_or_refuse(context, UsageMistake(refusal))
        if not interview.confirm(Text("Write this to {path}?", path=path)):
            say(context, Text("Nothing was written."))
            return False
    change_file(path, document.text, edited.text)
    say_changed(context, event, Text("Written: {path}", path=path))
    return True


def _difference(edited: Edited, path: Path, voice: Voice) -> Iterator[Line]:
    """Render only the removed or added lines: unchanged lines beside them may hold a secret."""
    tone = Tone.GOOD if edited.sign == "+" else Tone.BAD
    for number, rows in edited.blocks:
        yield line(voice.say(Text("{path}, line {line}:", path=path, line=number)))
        yield from (line(Span(f"{edited.sign} {row.rstrip()}", tone)) for row in rows)
        yield line()


@click.command("rename")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.pass_obj
def rename(context: CommandContext, old: str, new: str) -> Exit:
    """Move the certificate of OLD to the name NEW.

    First rename the certificate in the configuration file. Nothing is issued, uploaded or bound
    again.
    """
    settings = read_settings(context, ())
    if old in {declared.lineage for declared in settings.certificates}:
        raise _still_declared(old, Text("first rename the certificate in the file"))
    new = the_one_meant(settings.certificates, new).lineage
    with workspace_of(context, settings, reads_only=False) as workspace:
        versions = workspace.state.versions(old)
        certificate = recorded.newest(versions, workspace.state.now())
        if certificate is None:
            raise ConfigError(
                Text("{lineage} has no valid certificate", lineage=old),
                hint=Text("`certferry history` shows all names so far"),
            )
        number = next(v.number for v in versions if v.certificate == certificate)
        with held_lease(workspace.state, workspace.state.now, old):
            carry_over(old, new, certificate, workspace.state)
            bundle = workspace.state.bundle(old, number)
            adopted = workspace.adopt(new, bundle, who_runs(settings))
        if adopted:  # from now on runs renew the certificate under the new name
            recorded.forget(old, workspace.state)
    message = Text("{new} has the certificate of {old}, valid until {moment}.")
    if not adopted:
        message = Text(
            "{new} already has the same certificate, or a later one. Nothing was changed."
        )
    return say(context, message.filled(old=old, new=new, moment=certificate.not_after))


@click.command("forget")
@click.argument("name", metavar="NAME")
@click.pass_obj
def forget(context: CommandContext, name: str) -> Exit:
    """Confirm the end of NAME, a certificate removed from the file.

    Until then every run warns of NAME while its certificate is valid. Nothing is removed: a
    deployed certificate stays until it expires. To continue with NAME, declare it again.
    """
    return _forget(context, name)


def _forget(context: CommandContext, name: str) -> Exit:
    with workspace_of(context, reads_only=False) as workspace:
        moment = workspace.state.now()
        for declared in lineages_meant(name, workspace.settings.declared):
            raise _still_declared(declared, Text("first remove the certificate from the file"))
        lineage = must_be_known(name, workspace)
        recorded.must_be_declared_nowhere(lineage, workspace.settings, workspace.state)
        versions = workspace.state.versions_of([lineage])[lineage]
        certificate = recorded.newest(versions, moment)
        recorded.forget(lineage, workspace.state)
        who = who_runs(workspace.settings)
        workspace.state.append_history(HistoryEntry(moment, lineage, "forgotten", who))
    if certificate is None:
        return say(context, Text("{lineage} is forgotten.", lineage=lineage))
    message = Text(
        "{lineage} is forgotten. Its certificate stays deployed, and is valid until {moment}."
    )
    return say(context, message.filled(lineage=lineage, moment=certificate.not_after))


def _still_declared(lineage: str, hint: Text) -> ConfigError:
    message = Text("{lineage} is still in the configuration file", lineage=lineage)
    return ConfigError(message, hint=hint)
