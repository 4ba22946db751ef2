"""The line index, against texts whose every value says where it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.document import Trail, index_lines

MARKER = re.compile(r"v\d+e")

SCALARS = st.sampled_from(
    [
        '"{v} # ] }} , = \\" \\\\"',
        "'{v} [ {{ # \\'",
        '"""{v}\n[no.table] # "quoted" \\""" x = 1\n"""""',
        "'''{v}\nx = [ '' , '\n'''''",
        '""',
    ]
)
PLAIN = st.sampled_from(["1_000", "-inf", "true", "1979-05-27 07:32:00", "0x1f", "''", '""""""'])
BETWEEN = st.sampled_from(["", " ", "\n", '  # ] , } = "\n', "\n\n\t# '''\n"])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """Draw a value; `{v}` stands where its marker comes, on its first line."""
    shape = draw(st.sampled_from(["scalar", "scalar", "plain", "list", "table"]))
    if depth == 0 or shape == "scalar":
        return draw(SCALARS)
    if shape == "plain":
        return draw(PLAIN)
    if shape == "list":
        items = draw(st.lists(values(depth - 1), max_size=3))
        gaps = [draw(BETWEEN) for _ in items]
        body = ",".join(gap + item + draw(BETWEEN) for gap, item in zip(gaps, items, strict=True))
        comma = draw(st.sampled_from(["", ","])) if items else ""
        return f"[{body}{comma}{draw(BETWEEN)}]"
    inner = [draw(values(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    pairs = [f"{draw(keys(number))} = {value}" for number, value in enumerate(inner)]
    return "{{ " + ", ".join(pairs) + " }}"


def keys(number: int) -> st.SearchStrategy[str]:
    """Draw a spelling of a key that no other number has."""
    spellings = ["k{n}", '"k {n} ] = #"', "'k.{n}'", "a{n}.b", "\"q{n}\" . 'r'", '"\\u00e9{n}"']
    return st.sampled_from([spelling.format(n=number) for spelling in spellings])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw a TOML text: tables, lists of tables below each other, dotted keys, comments."""
    written: list[str] = []
    number = 0
    lists: list[str] = []
    for _ in range(draw(st.integers(1, 8))):
        number += 1
        kind = draw(st.sampled_from(["table", "list", "item", "below"]))
        if kind == "table":
            written.append(f"[t.{draw(keys(number))}]")
        elif kind == "list" or not lists:
            lists.append(f"l{number}")
            written.append(f"[[ l{number} ]] # [x]")
        elif kind == "item":
            written.append(f"[[{draw(st.sampled_from(lists))}]]")
        else:
            written.append(f"[[{draw(st.sampled_from(lists))} . sub]]")
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            written.append(f"{draw(keys(number))} = {draw(values())}{draw(BETWEEN)}")
        written.append(draw(BETWEEN))
    text = "\n".join(written).replace("{{", "{").replace("}}", "}")
    pieces = text.split("{v}")
    marked = "".join(f"{piece}v{mark}e" for mark, piece in enumerate(pieces[:-1])) + pieces[-1]
    return marked + draw(st.sampled_from(["", "\n"]))


def walk(value: object, trail: Trail = ()) -> Iterator[tuple[Trail, object]]:
    """Give everything in a parsed text with the trail to it."""
    if trail:
        yield trail, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*trail, key))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from walk(inner, (*trail, number))


@given(texts())
def test_everything_in_a_text_has_a_line(text: str) -> None:
    """The index knows exactly the values that the parser finds."""
    assert {trail for trail, _ in walk(tomllib.loads(text))} == set(index_lines(text))


@given(texts(), st.sampled_from(["\n", "\r\n"]))
def test_the_line_is_where_the_value_begins(text: str, line_end: str) -> None:
    """A marker in a value is found on the line the index gives, however lines end."""
    lines = text.split("\n")
    index = index_lines(text.replace("\n", line_end))

    for trail, value in walk(tomllib.loads(text)):
        if isinstance(value, str) and (marker := MARKER.search(value)):
            assert marker[0] in lines[index[trail] - 1]


def test_a_table_counts_from_its_header() -> None:
    """Headers, also of items and of tables that others have named before, have their own lines."""
    text = """\
[a.b]
x = 1
[a]
y = 2
[[c]]
[[c.d]]
[[c.d]]
z = [
  1,
  # between
  2,
]
[[c]]
[c.e]
"""
    assert {
        ("a",): 3,
        ("a", "b"): 1,
        ("a", "b", "x"): 2,
        ("a", "y"): 4,
        ("c",): 5,
        ("c", 0): 5,
        ("c", 0, "d"): 6,
        ("c", 0, "d", 0): 6,
        ("c", 0, "d", 1): 7,
        ("c", 0, "d", 1, "z"): 8,
        ("c", 0, "d", 1, "z", 0): 9,
        ("c", 0, "d", 1, "z", 1): 11,
        ("c", 1): 13,
        ("c", 1, "e"): 14,
    } == index_lines(text)


@pytest.mark.parametrize("text", ["", "\n\n", "# only words\n", "\r\n"])
def test_a_text_without_values_has_no_lines(text: str) -> None:
    """There is nothing to find in blank lines and comments."""
    assert {} == index_lines(text)
