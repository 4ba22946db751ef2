"""`certferry help`: the packaged pages, without a network. `certferry completion`: scripts that
complete commands, options and certificates in a shell.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, suppress

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from certferry.cli.commands import COMMANDS, command_of, paragraphs, spoken
from certferry.cli.exits import Exit, UsageMistake, familiar_word
from certferry.cli.options import COMPLETION, PROGRAM, CommandContext
from certferry.errors import ConfigError
from certferry.ports.adapter import CodeMeaning
from certferry.present import pages as page_text
from certferry.present.console import Console
from certferry.present.language import LANGUAGES
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.present.page_search import Section, search, sections_of, terms
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
@click.argument("words", metavar="[WORDS]...", nargs=-1, shell_complete=_topics)
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> Exit:  # noqa: A001 - its name
    """Print the reference and the how-tos, or search them, offline.

    Without WORDS, lists the topics. WORDS are a topic, alone or with words of a section (`certferry
    help config notify`); a command; the code of an error, a finding or a document; an answer of a
    service; or any words: prints the section that contains the words, or lists the pages.
    `certferry help json DOCUMENT` prints the JSON Schema of a document.
    """
    context: CommandContext = ctx.obj
    if not words:
        context.console.print(_listed(context))
    elif words[0] == _JSON and len(words) > 1:
        _print_schema(" ".join(words[1:]), context, ctx)
    elif not (
        _print_named(" ".join(words), context)
        or _print_help_of(words, context, ctx)
        or _print_part(words, context)
        or _print_found(words, context, ctx)
    ):
        raise _unknown(words, context)
    return Exit.OK


def _print_named(asked: str, context: CommandContext) -> bool:
    """Print the page called `asked`, else the section about the code `asked`, else the meaning of
    this code at each service, else the pages about this answer of another program. Return `False`
    if nothing was printed.
    """
    language = context.voice.language
    topics = pages(language)
    if asked in topics:
        _show(topics[asked].text, context.console)
    elif (part := about_code(asked, language)) is not None:
        _show(part, context.console)
    elif meanings := installed().meanings_of(asked):
        context.console.print_wrapped(_meant(asked, meanings, context))
    elif matching := about_words(asked, language):
        _show("\n\n".join(page.text for page in matching), context.console)
    else:
        return False
    return True


def _listed(context: CommandContext) -> Iterator[Line]:
    say, all_pages = context.voice.say, pages(context.voice.language).values()
    yield line(
        say(Text("certferry help TOPIC prints a page, certferry help WORDS searches all pages:"))
    )
    for folder, heading in _HEADINGS.items():
        here = [page for page in all_pages if page.folder == folder]
        rows = [(Span(page.topic, Tone.STRONG), Span(page.title)) for page in here]
        yield from (line(), line(Span(say(heading), Tone.STRONG)), *columns(rows, "  "))
    schema = Text("certferry help json DOCUMENT prints a JSON Schema: {list}")
    yield from (line(), line(say(schema.filled(list=", ".join(schemas())))))


_HEADINGS = {"help": Text("Errors"), "how-to": Text("How-tos"), "reference": Text("Reference")}
"""The heading of each folder of pages in the list of topics."""


def _meant(
    code: str, meanings: Mapping[Text, CodeMeaning], context: CommandContext
) -> Iterator[Line]:
    """Render the meaning and the fix of a code for each service that has the code, then the titles
    of the pages about the code.
    """
    say = context.voice.say
    for number, (service, meaning) in enumerate(meanings.items()):
        if number:
            yield line()
        sentence = Text("{service}, code {code}", service=service, code=code)
        if meaning.meaning is not None:
            sentence = Text("{said}: {meaning}", said=sentence, meaning=meaning.meaning)
        yield line(say(sentence))
        yield from context.voice.hint(meaning.advice)
    for page in about_words(code, context.voice.language):
        yield line(f"{page.title} (`certferry help {page.topic}`)")


def _show(text: str, console: Console) -> None:
    console.print(page_text.lines(text, shutil.get_terminal_size().columns))


def _print_schema(document: str, context: CommandContext, ctx: click.Context) -> None:
    files = schemas()
    if document not in files:
        problem = Text("no document {name}; known: {known}", name=document, known=list(files))
        raise UsageMistake(problem, ctx)
    # JSON Schema is for programs, so the text is written unwrapped.
    context.console.stdout.write(files[document].read_text(encoding="utf-8"))


def _print_help_of(words: Sequence[str], context: CommandContext, ctx: click.Context) -> bool:
    """Print the `--help` of a command. Return `False` if the words name no command."""
    with ExitStack() as entered:
        inner = ctx.find_root()
        for word in words:
            group = inner.command
            command = group.get_command(inner, word) if isinstance(group, click.Group) else None
            if command is None:
                return False
            inner = entered.enter_context(
                command.make_context(word, ["--help"], parent=inner, resilient_parsing=True)
            )
        context.console.stdout.write(inner.get_help() + "\n")
    return True


def _print_part(words: Sequence[str], context: CommandContext) -> bool:
    """Print parts of a page. The first word is the page's topic; the other words choose the parts.

    Print every section with all other words in the heading. Without one, print the section that
    matches the other words best. Return `False` if the first word is no topic, or if no section
    matches.
    """
    topic, *others = words
    page = pages(context.voice.language).get(topic)
    if page is None:
        return False
    wanted = frozenset(terms(" ".join(others)))
    parts = list(sections_of(page))
    shown = [part for part in parts if wanted and wanted <= frozenset(terms(part.heading))]
    shown = shown or list(search(" ".join(others), parts).sections)
    if shown:
        _show_parts(shown, wanted, context)
    return bool(shown)


def _print_found(words: Sequence[str], context: CommandContext, ctx: click.Context) -> bool:
    """Search the pages and the help texts of commands for `words`. Return `False` without a match.

    If one section clearly matches best, print the section. List the other matches, at most
    `_MOST_LISTED`. For another ACME client's word, print certferry's command, and only list the
    matches. Search pages in another language only if nothing in the operator's language matches.
    """
    own = context.voice.language
    for language in sorted(LANGUAGES, key=lambda each: each != own):
        texts = [part for page in pages(language).values() for part in sections_of(page)]
        texts += _helps(ctx.find_root()) if language == own else []
        result = search(" ".join(words), texts)
        if result.sections:
            break
    else:
        return False
    suggestion = familiar_word(words)
    if suggestion is not None:
        context.console.print_wrapped([line(context.voice.say(suggestion)), line()])
    best, *others = result.sections
    is_clear = result.is_clear and suggestion is None
    if not is_clear:
        others = [best, *others]
    elif best.is_command:
        _print_help_of(best.topic.split(), context, ctx)
    else:
        _show_parts([best], frozenset(terms(" ".join(words))), context)
    if others:
        context.console.print_wrapped(_others(others[:_MOST_LISTED], context, is_more=is_clear))
    return True


_MOST_LISTED = 7
"""The most topics listed for a search. Topics with a lower rank seldom answer the question."""


def _show_parts(parts: Sequence[Section], wanted: frozenset[str], context: CommandContext) -> None:
    """Print parts of a page under the page's title, and the command for the whole page."""
    title, topic = parts[0].title, parts[0].topic
    text = "\n\n".join(part.about(wanted) for part in parts)
    _show(text if parts[0].heading == title else f"# {title}\n\n{text}", context.console)
    whole = Text("the whole page: `certferry help {topic}`", topic=topic)
    context.console.print([line(), line(context.voice.say(whole))])


def _others(parts: Sequence[Section], context: CommandContext, *, is_more: bool) -> Iterator[Line]:
    heading = Text("More pages with the words:") if is_more else Text("Pages with the words:")
    if is_more:
        yield line()
    yield line(context.voice.say(heading))
    rows = [
        (
            Span(f"certferry help {part.topic}", Tone.STRONG),
            Span(part.title if part.heading == part.title else f"{part.title}: {part.heading}"),
        )
        for part in parts
    ]
    yield from columns(rows, "  ")


def _helps(root: click.Context) -> Iterator[Section]:
    """Yield the help of every installed command and subcommand, as sections for the search."""
    voice = root.obj.voice
    for name in COMMANDS:
        with suppress(ConfigError):  # certferry-sandbox may be absent
            yield from _help_of(name, spoken(command_of(name), voice))


def _help_of(path: str, command: click.Command) -> Iterator[Section]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    passages = [
        *paragraphs(command.help or ""),
        *(f"{each.opts[0]} {each.help}" for each in options),
    ]
    title = command.short_help or path
    yield Section(path, title, title, [[text] for text in passages], is_command=True)
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            if not part.hidden:
                yield from _help_of(f"{path} {name}", part)


def _unknown(words: Sequence[str], context: CommandContext) -> UsageMistake:
    """Return the error for unknown words, with a suggestion."""
    asked = " ".join(words)
    if asked.lstrip("-").isdigit():
        message = Text(
            "the code {code} is not explained here; the words of the message explain it",
            code=asked,
        )
        return UsageMistake(message)
    topics = [*pages(context.voice.language), *COMMANDS]
    meant = difflib.get_close_matches(asked, topics, n=1)
    hint = familiar_word(words) or Text("`certferry help` lists the topics")
    if meant:
        hint = Text("did you mean `{meant}`?", meant=meant[0])
    return UsageMistake(
        Text("no page and no command contains {words}", words=repr(asked)), hint=hint
    )


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
    context: CommandContext = ctx.obj
    # A script is for a shell, so the text is written unwrapped.
    context.console.stdout.write(script(shell, ctx.find_root().command))
    return Exit.OK


def _completer(
    shell: str, program: click.Command, arguments: MutableMapping[str, object]
) -> ShellComplete:
    kind = get_completion_class(shell) or ShellComplete  # click knows every shell in `_SHELLS`
    return kind(program, arguments, PROGRAM, COMPLETION)


def script(shell: str, program: click.Command) -> str:
    """Return the completion script of a shell."""
    completer = _completer(shell, program, {})
    # For bash, click's subclass would start bash to read the version of bash, so the base class
    # makes the script.
    source = ShellComplete.source(completer)
    # click's script for fish cuts a command's summary at the first comma.
    return source.replace('string split "," $completion', 'string split --max 1 "," $completion')


def answer(program: click.Command, console: Console, asked: str) -> Exit:
    """Answer a shell that set the variable `COMPLETION` to `asked`, such as `bash_complete`. Print
    the shell's completion script, or the words that may come next, with their help. Return USAGE
    for an unknown shell or request, else OK.
    """
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
