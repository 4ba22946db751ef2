"""Write the file of metrics for node_exporter's textfile collector."""

from __future__ import annotations

import errno
from pathlib import Path

from certferry.adapters.files.directory import FileAccess, opened_where_it_is
from certferry.errors import Problem, system_words
from certferry.file_trust import NotTrusted
from certferry.text import Text

MISSED = "metrics_missed"  # the code of a problem with the file

_ACCESS = FileAccess(0o644)  # another user's collector reads the file, which holds no secret


def write_metrics(path: Path, text: str) -> Problem | None:
    """Replace the file of metrics as a whole; return the problem, if any."""
    try:
        with opened_where_it_is(path.parent) as place:
            place.replace(path.name, text.encode(), _ACCESS)
    except NotTrusted as exc:
        message = Text("{path} {problem}", path=exc.path, problem=exc.problem)
        return Problem(MISSED, message, exc.fix)
    except OSError as exc:
        message = Text("{path} cannot be written: {problem}", path=path, problem=system_words(exc))
        return Problem(MISSED, message, _advice(path, exc))
    return None


def _advice(path: Path, problem: OSError) -> Text:
    folder = path.parent
    if not folder.is_dir():
        sentence = Text("create the directory {folder}, or set another `file` under [metrics]")
        return sentence.filled(folder=folder)
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Text("free some space at {folder}", folder=folder)
    if path.is_dir():
        return Text("{path} is a directory: set `file` under [metrics] to a file in it", path=path)
    return Text(
        "allow certferry's user to write to {folder}, or set another `file` under [metrics]; if "
        "systemd starts the run, install the schedule again",
        folder=folder,
    )
