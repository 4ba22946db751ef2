"""What `certferry add` and `remove` share: the difference is shown first, and the file is written
when the operator agrees, and only if it loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from certferry.cli.complaints import UsageMistake
from certferry.cli.interview import interview_at
from certferry.cli.options import Front, say
from certferry.config.document import Document
from certferry.config.load import NAME, load_text
from certferry.config.propose import Edited
from certferry.config.write import change_file
from certferry.errors import ConfigError
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, line
from certferry.present.log_entries import log_change
from certferry.text import Text
from certferry.wiring.profiles import checked
from certferry.wiring.settings import ADAPTERS


def change(front: Front, document: Document, edited: Edited, event: str, *, yes: bool) -> bool:
    """Put the new text in the place of the file that was read, and tell whether that was done: with
    `yes`, or when it is agreed to at the terminal.

    Raises `ConfigError` for a text that would not load, and `UsageMistake` where there is no
    terminal to ask at; then nothing is written.
    """
    path = document.path or Path(NAME)
    try:
        checked(load_text(edited.text, path, front.console.environ, ADAPTERS))
    except ConfigError as error:
        said = Text("with this change the file would be wrong: {problem}", problem=error.message)
        raise ConfigError(said, hint=Text("nothing was changed")) from error
    if not (yes and front.quiet):
        front.console.show(_difference(edited, path, front.voice))
    if not yes:
        interview = interview_at(front.console)
        if interview is None:
            raise UsageMistake(
                Text("nothing was written: there is no terminal to ask at; --yes writes it")
            )
        if not interview.confirm(Text("Write this to {path}?", path=path)):
            say(front, Text("Nothing was written."))
            return False
    change_file(path, document.text, edited.text)
    written = Text("Written: {path}", path=path)
    log_change(event, written, front.console.run_log)
    say(front, written)
    return True


def _difference(edited: Edited, path: Path, voice: Voice) -> Iterator[Line]:
    """Show the lines that go or come. None of those around them: a secret may stand there."""
    tone = Tone.GOOD if edited.sign == "+" else Tone.BAD
    for number, rows in edited.blocks:
        yield line(voice.say(Text("{path}, line {line}:", path=path, line=number)))
        for row in rows:
            yield line(Span(f"{edited.sign} {row.rstrip()}", tone))
        yield line()
