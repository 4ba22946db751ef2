"""`certferry help`: the pages that came with the package, without a network;
and `certferry completion`: scripts that complete commands, options and certificates in a shell.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, MutableMapping

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from certferry.cli.commands import COMMANDS, what_instead
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import COMPLETION, PROGRAM, Front
from certferry.ports.adapter import CodeMeaning
from certferry.present import pages as page_text
from certferry.present.console import Console
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.present.pages import about_code, about_words, pages, schemas
from certferry.text import Text
from certferry.wiring.adapters import installed

_JSON = "json"


def _topics(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    language = ctx.find_root().obj.voice.language
    return [
        CompletionItem(topic, help=page.title)
        for topic, page in pages(language).items()
        if topic.startswith(incomplete)
    ]


@click.command("help", context_settings={"ignore_unknown_options": True})  # -1 is a code
@click.argument("words", metavar="[TOPIC] [DOCUMENT]", nargs=-1, shell_complete=_topics)
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> Exit:  # noqa: A001 - its name
    """Print the reference and the how-tos, without a network.

    Without a TOPIC the topics are listed. A TOPIC may also be a command, a code that an error, a
    finding or a document has, or the code or the words that Qiniu or another service answers with.
    With `json`, a DOCUMENT prints the JSON Schema of that document.
    """
    front: Front = ctx.obj
    language = front.voice.language
    known, topic = pages(language), " ".join(words)
    if len(words) > 1 and words[0] in known:
        _print_schema(words[0], " ".join(words[1:]), front, ctx)
    elif not words:
        front.console.print(_listed(front))
    elif topic in known:
        _show(known[topic].text, front.console)
    elif (part := about_code(topic, language)) is not None:
        _show(part, front.console)
    elif meanings := installed().meanings_of(topic):
        front.console.print_wrapped(_meant(topic, meanings, front))
    elif found := about_words(topic, language):
        _show("\n\n".join(page.text for page in found), front.console)
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
    for page in about_words(code, front.voice.language):
        yield line(f"{page.title} (`certferry help {page.topic}`)")


def _show(text: str, console: Console) -> None:
    console.print(page_text.lines(text, shutil.get_terminal_size().columns))


def _print_schema(topic: str, document: str, front: Front, ctx: click.Context) -> None:
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
    others = what_instead([topic], list(pages(front.voice.language)), more=COMMANDS)
    return Text("no such topic: {name}; {known}", name=topic, known=others)


_SHELLS = ("bash", "zsh", "fish")

_HELP = """Print a script that completes certferry's commands in a shell.

\b
bash: certferry completion bash > ~/.local/share/bash-completion/completions/certferry
zsh:  certferry completion zsh > "${fpath[1]}/_certferry"
fish: certferry completion fish > ~/.config/fish/completions/certferry.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", metavar="SHELL", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> Exit:
    """Print the script of a shell."""
    front: Front = ctx.obj
    # Written as it is: these are no words for a person.
    front.console.stdout.write(script(shell, ctx.find_root().command))
    return Exit.OK


def _completer(
    shell: str, program: click.Command, arguments: MutableMapping[str, object]
) -> ShellComplete:
    kind = get_completion_class(shell) or ShellComplete  # it knows each of the shells
    return kind(program, arguments, PROGRAM, COMPLETION)


def script(shell: str, program: click.Command) -> str:
    """Return the script of a shell."""
    completer = _completer(shell, program, {})
    # The base class's: that of bash would run the bash of this machine to see how old it is.
    written = ShellComplete.source(completer)
    # click's script for fish ends what a command does at its first comma.
    return written.replace('string split "," $completion', 'string split --max 1 "," $completion')


def answer(program: click.Command, console: Console, asked: str) -> Exit:
    """Answer a shell that asks what may stand where, in the words of the help."""
    shell, _, task = asked.partition("_")
    if shell not in _SHELLS or task not in {"source", "complete"}:
        return Exit.USAGE
    if task == "source":
        console.stdout.write(script(shell, program))
        return Exit.OK
    completer = _completer(shell, program, {"obj": console})
    items = completer.get_completions(*completer.get_completion_args())
    for item in items:
        console.stdout.write(completer.format_completion(item) + "\n")
    return Exit.OK
