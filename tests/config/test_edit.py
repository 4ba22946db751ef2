"""Certificates that come into a configuration file and go from it, and nothing else changes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.document import Document, document_of
from certferry.config.propose import with_certificates, without_certificate
from certferry.errors import ConfigError

HEAD = """\
# Ours.
env_files = ["/etc/ssl/.cdn-env"]  # 0600

[accounts.dnspod]   # the keys are there
id    = "env:DP_Id"
token = "env:DP_Key"
# line = "x"

"""
IMG = """\
# The pictures.
# Ask the web team.
[[certificates]]
name  = "img"
names = [
    "img.example.com",  # [[certificates]]
]
dns = "dnspod"
# key_type = "rsa2048"
"""
DEPLOY = """
# The CDN.
[[certificates.deploy]]
to = "qiniu"
"""
WWW = """
# The site.
[[certificates]]
name = "www"
names = ["www.example.com"]
dns = "dnspod"
"""
TAIL = """
# Who is told.
[notify.ops]
type = "dingtalk"
url = "env:URL"
# the end
"""
NEW = """\
[[certificates]]
name = "new"
names = ["new.example.com"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
"""


def document(text: str) -> Document:
    """Give a text as a file that was read."""
    return document_of(Path("certferry.toml"), text)


def test_a_certificate_comes_below_the_others() -> None:
    """Every line of the file stays, and it stands by itself, with one blank line around it."""
    assert (
        HEAD + IMG + DEPLOY + WWW + "\n" + NEW + TAIL
        == with_certificates(document(HEAD + IMG + DEPLOY + WWW + TAIL), NEW).text
    )


def test_the_first_certificate_comes_at_the_end() -> None:
    """Below whatever there is."""
    assert HEAD + NEW == with_certificates(document(HEAD), NEW).text
    assert HEAD + "# the end\n\n" + NEW == with_certificates(document(HEAD + "# the end"), NEW).text
    assert NEW == with_certificates(document(""), NEW).text
    assert NEW == with_certificates(document("\n\n"), NEW).text


def test_a_certificate_directly_above_another_table() -> None:
    """A comment that stands directly above that belongs to it."""
    text = WWW.lstrip() + "# Who is told.\n[notify.ops]\n"

    assert (
        WWW.lstrip() + "\n" + NEW + "\n# Who is told.\n[notify.ops]\n"
        == with_certificates(document(text), NEW).text
    )


@pytest.mark.parametrize(
    ("text", "number", "left"),
    [
        (HEAD + IMG + DEPLOY + WWW + TAIL, 0, HEAD + WWW.lstrip() + TAIL),
        (HEAD + IMG + DEPLOY + WWW + TAIL, 1, HEAD + IMG + DEPLOY + TAIL),
        (HEAD + IMG + DEPLOY + WWW, 1, HEAD + IMG + DEPLOY),
        (IMG + DEPLOY, 0, ""),
        (HEAD + IMG, 0, HEAD.rstrip("\n") + "\n"),
        (WWW.lstrip() + "# Who.\n[notify.ops]\n", 0, "# Who.\n[notify.ops]\n"),
    ],
    ids=["first", "between", "last", "only", "last-of-all", "directly-above"],
)
def test_a_certificate_goes(text: str, number: int, left: str) -> None:
    """With its deployments, its comments, and those above it; no gap is left where it was."""
    assert left == without_certificate(document(text), number).text


def test_a_deployment_that_stands_elsewhere_goes_too() -> None:
    """TOML lets other tables stand between; these stay."""
    text = IMG + TAIL + DEPLOY + WWW

    assert TAIL.lstrip() + WWW == without_certificate(document(text), 0).text


def test_what_is_shown_of_a_change() -> None:
    """The lines that come or go, and where they stand; nothing of those around them."""
    text = IMG + TAIL + DEPLOY + WWW
    come, gone = with_certificates(document(HEAD), NEW), without_certificate(document(text), 0)

    assert ("+", ((9, tuple(NEW.splitlines())),)) == (come.sign, come.blocks)
    assert "-" == gone.sign
    assert [(1, IMG), (17, DEPLOY.lstrip())] == [
        (line, "".join(f"{row}\n" for row in rows)) for line, rows in gone.blocks
    ]


def test_line_ends_of_windows_stay() -> None:
    """What comes has the same ones."""
    text = (HEAD + IMG + DEPLOY + WWW + TAIL).replace("\n", "\r\n")
    more = with_certificates(document(text), NEW).text

    assert more.count("\n") == more.count("\r\n")
    assert text == without_certificate(document(more), 2).text


@pytest.mark.parametrize(
    "text",
    [
        'certificates = [{ names = ["a.example.com"], dns = "x" }]\n',
        "certificates = []\n",
        "[certificates]\n",
    ],
)
def test_certificates_that_are_no_tables_of_their_own(text: str) -> None:
    """They are left to an editor."""
    with pytest.raises(ConfigError, match=r"under a \[\[certificates\]\] of its own"):
        with_certificates(document(text), NEW)
    with pytest.raises(ConfigError, match=r"under a \[\[certificates\]\] of its own"):
        without_certificate(document(text), 0)


COMMENTS = st.sampled_from(["", "\n", "# one\n", "\n# one\n\n", "# one\n# two\n\n", "\n\n\n"])
OTHERS = st.sampled_from(
    [HEAD[7:], TAIL, "[dns]\nresolvers = [\n'1.1.1.1', # x\n\n]\n", "[verify]\n"]
)
ONES = st.sampled_from([IMG, WWW, IMG + DEPLOY, '[[certificates]]\nx = """\n# no\n\n"""\n'])


@given(st.data(), st.lists(st.tuples(COMMENTS, ONES), min_size=1, max_size=4), COMMENTS)
def test_whatever_the_layout(data: st.DataObject, ones: list[tuple[str, str]], end: str) -> None:
    """What is taken out is exactly one, what comes is exactly what was meant, and no other line
    that is not blank is lost or moved.
    """
    others = data.draw(st.lists(st.tuples(COMMENTS, OTHERS), max_size=3, unique_by=lambda o: o[1]))
    parts = data.draw(st.permutations([*ones, *others]))
    # What is written above every table cannot follow one.
    parts.sort(key=lambda part: not part[1].startswith("env_files"))
    text = "".join(comment + part for comment, part in parts) + end
    before = tomllib.loads(text)["certificates"]
    number = data.draw(st.integers(0, len(before) - 1))

    less = without_certificate(document(text), number).text
    more = with_certificates(document(text), NEW).text

    assert [one for n, one in enumerate(before) if n != number] == tomllib.loads(less).get(
        "certificates", []
    )
    assert text_lines(less) == text_lines(text, within=less)
    assert [*before, *tomllib.loads(NEW)["certificates"]] == tomllib.loads(more)["certificates"]
    assert not set(text_lines(text)) - set(text_lines(more))


def text_lines(text: str, within: str | None = None) -> list[str]:
    """Give the lines that are not blank; `within` another text, those in a common order with it."""
    found = [row for row in text.splitlines() if row.strip()]
    if within is None:
        return found
    others = iter(found)
    return [row for row in text_lines(within) if any(row == other for other in others)]
