"""What a configuration that is wrong says still of whom to tell: its channels and its heartbeat.

Nothing else of it is used, and a run never goes by it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from certferry.config.document import Document
from certferry.config.files import read_file, read_untrusted_file
from certferry.config.find import find_file
from certferry.config.findings import nearest
from certferry.config.load import as_far_as_read
from certferry.config.model import Monitoring, Settings, StateSettings
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted

_STATE = "state"
_WANTED = ("env_files", _STATE, "notify", "heartbeat")
_TABLE = re.compile(r"^(?=[ \t]*\[)", re.MULTILINE)

_NO_STATE = Path(os.devnull, "state.db")
"""Where there can be none."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """Whom to tell. Unless it `is_trusted`, another user may have written it; unless it
    `has_state`, where certferry remembers is not known.
    """

    settings: Settings
    is_trusted: bool
    has_state: bool


def salvage(path: Path | None, environ: Mapping[str, str]) -> Salvaged | None:
    """Read whom to tell from the file that could not be read; `None` where it cannot be read for
    that either. Of a file that other users may have written, the state is not taken.
    """
    found = find_file(path, environ)
    if found is None:
        return None
    is_trusted = True
    try:
        data = read_file(found).data
    except ConfigError as wrong:
        if not isinstance(wrong.__cause__, NotTrusted):
            return None
        is_trusted = False
        try:
            data = read_untrusted_file(found)
        except OSError:
            return None
    text = data.decode("utf-8-sig", errors="replace")
    values, may_lack_state = _values(text)
    # Not `readable_by_others`: that is what is told, and no reason not to tell it.
    # Nor is a line told: of a text that is not TOML none can be counted.
    document = Document(found, values)
    settings, findings = as_far_as_read(document, environ)
    settings = replace(settings, monitoring=Monitoring(settings.monitoring.heartbeat))
    is_wrong = may_lack_state or any(one.table == "[state]" for one in findings)
    has_state = is_trusted and not is_wrong
    if not has_state:
        settings = replace(settings, state=StateSettings(_NO_STATE, _NO_STATE))
    return Salvaged(settings, is_trusted, has_state)


def _values(text: str) -> tuple[dict[str, object], bool]:
    """Read the wanted tables, each by itself where the whole is not TOML; and tell whether there
    may be a `[state]` that was not read.
    """
    with suppress(ValueError, RecursionError):
        values = tomllib.loads(text)
        return _wanted(values), _STATE not in values and _is_misspelt(values)
    found: dict[str, object] = {}
    for part in _TABLE.split(text):
        with suppress(ValueError, RecursionError):
            _merge(found, _wanted(tomllib.loads(part)))
    return found, _STATE not in found


def _is_misspelt(values: Iterable[str]) -> bool:
    return any(nearest(key, (_STATE,)) for key in values)


def _wanted(values: Mapping[str, object]) -> dict[str, object]:
    return {key: values[key] for key in _WANTED if key in values}


def _merge(into: dict[str, object], more: Mapping[str, object]) -> None:
    for key, value in more.items():
        known = into.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            into.setdefault(key, value)
