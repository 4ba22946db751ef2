"""`certferry help`: the reference and the how-tos that came with the package, without a network;
and `certferry completion`: scripts that complete commands, options and certificates in a shell.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Mapping

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
)

from certferry.cli.commands import COMMANDS
from certferry.cli.exits import Exit, UsageMistake, familiar_word
from certferry.cli.options import COMPLETION, PROGRAM, Front
from certferry.ports.adapter import CodeMeaning
from certferry.present import pages as page_text
from certferry.present.console import Console
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.present.pages import about_code, pages, schemas
from certferry.text import Text

_JSON = "json"


def _complete_topic(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del parameter
    language = ctx.find_root().obj.voice.language
    return [
        CompletionItem(topic, help=page.title)
        for topic, page in pages(language).items()
        if topic.startswith(incomplete)
    ]


@click.command("help", context_settings={"ignore_unknown_options": True})  # -1 is a code
@click.argument("topic", metavar="[TOPIC]", required=False, shell_complete=_complete_topic)
@click.argument("document", metavar="[DOCUMENT]", required=False)
@click.pass_context
def command(ctx: click.Context, topic: str | None, document: str | None) -> Exit:
    """Print the reference and the how-tos, without a network.

    Without a TOPIC the topics are listed. A TOPIC may also be a command, a code that an error, a
    finding or a document has, or one that Qiniu or another service answers with. With `json`, a
    DOCUMENT prints the JSON Schema of that document.
    """
    from certferry.wiring.adapters import installed

    front: Front = ctx.obj
    language = front.voice.language
    known = pages(language)
    if document is not None:
        _print_schema(topic, document, front, ctx)
    elif topic is None:
        front.console.print(_listed(front))
    elif topic in known:
        _show(known[topic].text, front.console)
    elif (part := about_code(topic, language)) is not None:
        _show(part, front.console)
    elif meanings := installed().meanings_of(topic):
        front.console.print_wrapped(_meant(topic, meanings, front))
    else:
        _help_of_command(topic, front, ctx)
    return Exit.OK


def _listed(front: Front) -> Iterator[Line]:
    say, found = front.voice.say, pages(front.voice.language)
    how = Text("certferry help TOPIC, where TOPIC is one of these, a command, or a code:")
    schema = Text("certferry help json DOCUMENT prints a JSON Schema: {list}")
    rows = [(Span(topic, Tone.STRONG), Span(page.title)) for topic, page in found.items()]
    yield from (line(say(how)), line(), *columns(rows, "  "), line())
    yield line(say(schema.filled(list=", ".join(schemas()))))


def _meant(code: str, meanings: Mapping[str, CodeMeaning], front: Front) -> Iterator[Line]:
    """Render what a code of a service's means, and what to do, for each service that has it."""
    say = front.voice.say
    for number, (service, known) in enumerate(meanings.items()):
        if number:
            yield line()
        said = Text("{service}, code {code}", service=front.voice.word(service), code=code)
        if known.meaning is not None:
            said = Text("{said}: {meaning}", said=said, meaning=known.meaning)
        yield line(say(said))
        yield from front.voice.hint(known.advice)


def _show(text: str, console: Console) -> None:
    console.print(page_text.lines(text, shutil.get_terminal_size().columns))


def _print_schema(topic: str | None, document: str, front: Front, ctx: click.Context) -> None:
    known = schemas()
    if topic != _JSON:
        raise UsageMistake(Text("only `certferry help json` takes a document"), ctx)
    if document not in known:
        problem = Text("no such document: {name}; known: {known}", name=document, known=list(known))
        raise UsageMistake(problem, ctx)
    # Written as it is: it is for programs.
    front.console.stdout.write(known[document].read_text(encoding="utf-8"))


def _help_of_command(topic: str, front: Front, ctx: click.Context) -> None:
    """Print what `--help` prints. Raises `UsageMistake` for what is neither topic nor command."""
    root = ctx.find_root()
    group = root.command
    found = group.get_command(root, topic) if isinstance(group, click.Group) else None
    if found is None:
        raise UsageMistake(_unknown(topic, front), ctx)
    with found.make_context(topic, ["--help"], parent=root, resilient_parsing=True) as inner:
        front.console.stdout.write(found.get_help(inner) + "\n")


def _unknown(topic: str, front: Front) -> Text:
    if topic.lstrip("-").isdigit():
        return Text(
            "the code {code} is not explained here: go by the words of the message that has it",
            code=topic,
        )
    familiar = familiar_word([topic])
    if familiar is not None:
        return Text("no such topic: {name}; {known}", name=topic, known=familiar)
    known = list(pages(front.voice.language))
    meant = difflib.get_close_matches(topic, [*known, *COMMANDS], n=1)
    if meant:
        others = Text("did you mean `{meant}`?", meant=meant[0])
    else:
        others = Text("known: {known}", known=known)
    return Text("no such topic: {name}; {known}", name=topic, known=others)


_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}

_HELP = """Print a script that completes certferry's commands in a shell.

\b
bash: certferry completion bash > ~/.local/share/bash-completion/completions/certferry
zsh:  certferry completion zsh > "${fpath[1]}/_certferry"
fish: certferry completion fish > ~/.config/fish/completions/certferry.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", metavar="SHELL", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> Exit:
    """Print the script of a shell."""
    front: Front = ctx.obj
    # Written as it is: these are no words for a person.
    front.console.stdout.write(script(shell, ctx.find_root().command))
    return Exit.OK


def script(shell: str, program: click.Command) -> str:
    """Return the script of a shell."""
    completer = _SHELLS[shell](program, {}, PROGRAM, COMPLETION)
    # The base class's: that of bash would run the bash of this machine to see how old it is.
    return ShellComplete.source(completer)


def answer(program: click.Command, console: Console, asked: str) -> Exit:
    """Answer a shell that asks what may stand where, in the words of the help."""
    shell, _, task = asked.partition("_")
    if shell not in _SHELLS or task not in {"source", "complete"}:
        return Exit.USAGE
    if task == "source":
        console.stdout.write(script(shell, program))
        return Exit.OK
    completer = _SHELLS[shell](program, {"obj": console}, PROGRAM, COMPLETION)
    items = completer.get_completions(*completer.get_completion_args())
    for item in items:
        console.stdout.write(completer.format_completion(item) + "\n")
    return Exit.OK
