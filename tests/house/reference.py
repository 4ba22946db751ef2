"""Writes the generated pages of reference in each language: the built-in adapters, and all codes.

`scripts/reference` runs this module. The adapters' sentences come from the catalogues, the meanings
of codes from `codes.toml`, and the sentences around both from `pages.toml`; exit code and retry
come from the sources.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from certferry.cli import exits
from certferry.config.bind import (
    FURTHER,
    choices,
    meanings,
    must_be_written,
    without_none,
    written_as,
)
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, Reported, RunEnded
from certferry.ports.adapter import PrivateKey
from certferry.present.language import voice_in
from certferry.text import Text
from certferry.wiring.adapters import (
    CHANNELS,
    DNS_PROVIDERS,
    SERVERS,
    TARGETS,
    BrokenAdapter,
    Described,
    Family,
    installed,
)
from tests.house.tree import ROOT

REFERENCE = ROOT / "docs" / "reference"
ADAPTERS, CODES, DOCTOR = (REFERENCE / f"{name}.md" for name in ("adapters", "codes", "doctor"))
SUFFIX = {"en": ".md", "zh": ".zh-CN.md"}
ERRORS = ("runs", "state", "issuance", "dns", "targets")
"""The sections whose codes are errors of `certferry.errors`."""
_LISTED = re.compile(r"^\| (`[a-z_`、, ]+) \|[^|]*\|([^|]*)\|([^|]*)\|$", re.MULTILINE)

Meaning = tuple[str, str]
"""Cause and fix."""
Say = Callable[[Text], str]


Words = dict[str, Any]
"""The sentences of a page in a language, beside the adapters' own (`pages.toml`)."""

FAMILIES = {DNS_PROVIDERS: "dns", TARGETS: "targets", SERVERS: "servers", CHANNELS: "channels"}
TYPES = {
    Secret: "secret",
    PrivateKey: "private_key",
    Secret | str: "secret_or_string",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    timedelta: "seconds",
    tuple[str, ...]: "strings",
    Path: "path",
}
"""The words of the pages for a family of adapters, and for a setting's type."""


def all_pages() -> dict[Path, str]:
    """Return every generated page, in each language."""
    words = tomllib.loads(Path(__file__).with_name("pages.toml").read_text(encoding="utf-8"))
    return {
        page.with_suffix(SUFFIX[language]): made(words_of_page, language)
        for page, made in ((ADAPTERS, adapters_page), (CODES, codes_page))
        for language, words_of_page in words[page.stem].items()
    }


def adapters_page(words: Words, language: str) -> str:
    parts, say = [words["title"], words["intro"]], voice_in(language).say
    for family, called in FAMILIES.items():
        parts.append(words["families"][called])
        adapters = (installed().find(family, name) for name in installed().names(family))
        parts += [
            part
            for adapter in adapters
            if adapter.is_ours
            for part in _adapter(adapter, family, words, say)
        ]
    author = words["author"]
    parts += [author["title"], author["intro"], _table(author["columns"], iter(author["names"]))]
    return "\n\n".join(parts) + "\n"


def _adapter(adapter: Described, family: Family, words: Words, say: Say) -> Iterator[str]:
    yield f"### {adapter.adapter.SERVICE}: `{adapter.name}`"
    if adapter.where_keys_are is not None:
        yield words["keys"].format(where=say(adapter.where_keys_are))
    yield words["channel"] if family is CHANNELS else words["settings"]
    yield _table(words["setting_columns"], _settings(adapter, words, say))
    if family is not TARGETS:
        return
    if dataclasses.fields(adapter.options):
        yield words["deployments"]
        yield _table(words["deployment_columns"], _options(adapter.options, words, say))
    else:
        yield words["no_more"]
    rule = adapter.needs_common_name
    if rule is not None:
        exception = words["exception"].format(key=rule.unless) if rule.unless else ""
        yield words["common_name"].format(exception=exception)


def _settings(adapter: Described, words: Words, say: Say) -> Iterator[tuple[str, ...]]:
    settings = adapter.adapter.Settings
    variables = {variable.key: variable for variable in adapter.adapter.ENVIRONMENT}
    types, descriptions = get_type_hints(settings), meanings(settings)
    required = must_be_written(settings)
    for field in dataclasses.fields(settings):
        key = written_as(field.name)
        variable = variables.get(key)
        if types[field.name] == FURTHER:
            yield (
                words["further"],
                words["types"][TYPES[Secret | str]],
                words["empty"],
                "",
                say(descriptions[key]),
            )
            continue
        yield (
            f"`{key}`",
            _type(types[field.name], words),
            words["required"] if key in required else _default(field.default, words),
            words["between"].join(f"`{name}`" for name in (variable.names if variable else ())),
            say(variable.description if variable else descriptions[key]),
        )


def _options(options: Any, words: Words, say: Say) -> Iterator[tuple[str, ...]]:
    types, descriptions = get_type_hints(options), meanings(options)
    for field in dataclasses.fields(options):
        allowed = choices(types[field.name])
        yield (
            f"`{field.name}`",
            words["between"].join(f"`{word}`" for word in allowed) or words["types"][TYPES[bool]],
            words["keep"] if field.default is None else _default(field.default, words),
            say(descriptions[field.name]),
        )


def _type(annotation: Any, words: Words) -> str:
    kind = without_none(annotation)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return str(words["between"]).join(f"`{member.value}`" for member in kind)
    return str(words["types"][TYPES[kind]])


def _default(value: object, words: Words) -> str:
    match value:
        case None | "" | ():
            return str(words["empty"])
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case timedelta():
            return f"`{value.total_seconds():g}`"
    return f"`{value}`"


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@cache
def code_meanings(language: str) -> dict[str, dict[str, Meaning]]:
    """Return cause and fix of each code, by section."""
    table = tomllib.loads(Path(__file__).with_name("codes.toml").read_text(encoding="utf-8"))
    return {
        section: {code: tuple(by_language[language]) for code, by_language in sorted(codes.items())}
        for section, codes in table.items()
    }


def errors() -> dict[str, type[Reported]]:
    """Return every class of error by its code, with the errors that end a run."""
    kinds_found: list[type[Reported]] = [CertferryError, BrokenAdapter, *RunEnded.__subclasses__()]
    for error in kinds_found:
        kinds_found += [kind for kind in error.__subclasses__() if kind not in kinds_found]
    return {error.code: error for error in kinds_found if error.__module__.startswith("certferry.")}


def codes_page(words: Words, language: str) -> str:
    parts = [words["title"], words["intro"]]
    for section, heading in words["sections"].items():
        is_doctors, is_errors = section == "doctor", section in ERRORS
        meanings_of_codes = (
            _of_doctor(words, language) if is_doctors else code_meanings(language)[section]
        )
        code, exit_code, *others = words["columns"]
        columns = (code, *((exit_code,) if is_errors else ()), *others)
        rows = (
            (f"`{name}`", *((_exit(name, words),) if is_errors else ()), *meaning)
            for name, meaning in meanings_of_codes.items()
        )
        parts += [heading, _table(columns, rows)]
    return "\n\n".join(parts) + "\n"


def _exit(code: str, words: Words) -> str:
    kind = errors().get(code)
    if kind is None:  # an error of the command line itself
        return str(int(exits.Exit.USAGE if code == "usage" else exits.Exit.FAILED))
    again = words["again"] if kind.default_retry.allowed else ""
    return f"{int(exits.of_error(kind('')))}{again}"


def _of_doctor(words: Words, language: str) -> dict[str, Meaning]:
    path = DOCTOR.with_suffix(SUFFIX[language])
    return {
        code: (cause.strip(), fix.strip() or words["nothing"])
        for listed, cause, fix in _LISTED.findall(path.read_text(encoding="utf-8"))
        for code in re.findall(r"[a-z_]+", listed)
    }


def main() -> None:
    for path, text in all_pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
