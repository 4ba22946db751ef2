"""The manual pages and the completions of a release: their text, and the programs that read
them.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry import __version__
from certferry.cli.commands import COMMANDS
from certferry.present.layout import width
from certferry.present.pages import pages
from release import Release, manuals
from release.manuals import COMPLETIONS, FOLDERS, Author, without_tests
from release.roff import Manual, escaped, flowing, tree_of
from tests.house.tree import ROOT
from tests.support.command import run_here
from tests.support.programs import program_path
from tests.support.tiers import thorough

EPOCH = 1_700_000_000
DAY = "2023-11-14"
MARKS = {r"\-": "-", r"\(aq": "'", r"\(ga": "`", r"\(dq": '"', r"\(ha": "^", r"\(ti": "~"}
LANGUAGES = pytest.mark.parametrize("language", FOLDERS)


@cache
def pages_of(language: str) -> dict[str, str]:
    return Author(language, DAY).manuals()


def plain_text(source: str) -> str:
    """Return the text of a page, without layout."""
    words = re.sub(r"\\(?:f[RBI]|:|&)", "", source)
    for mark, character in MARKS.items():
        words = words.replace(mark, character)
    return words.replace(r"\(rs", "\\")


def lines_of(text: str) -> list[str]:
    """Return the lines of a page that consists of `text` alone."""
    page = Manual("x", 7, DAY, "1", lambda target: "certferry-x(7)" * target.startswith("x"))
    page.document(tree_of(text).children)
    return page.text.splitlines()[6:]


# --- The text of the pages


@LANGUAGES
def test_every_command_has_a_page_with_its_options(language: str) -> None:
    """A page has the options that `--help` prints, in the page's language."""
    manuals_by_path = pages_of(language)
    for name in COMMANDS:
        page = plain_text(manuals_by_path[f"man1/certferry-{name}.1"])
        help_text = run_here(
            [name, "--help"], {"CERTFERRY_LANG": language, "COLUMNS": "400"}
        ).out.replace("`", "")
        options = re.findall(r"^  (?:-\w, )?(--[\w-]+)[^\n]*?  +(\S+)", help_text, re.MULTILINE)
        listed = [option for option in options if option[0] != "--help"]
        assert [] == [option for option in listed if not all(part in page for part in option)], name
    assert "--log-file" in plain_text(manuals_by_path["man1/certferry.1"])


@LANGUAGES
def test_commands_of_a_group_share_a_page(language: str) -> None:
    """A page has the group's commands at any depth, each with its own options."""
    page = plain_text(pages_of(language)["man1/certferry-console.1"])
    assert "\n.SS certferry console user add\n" in page
    assert (
        page.index("console token add")
        < page.index("--days")
        < page.index(".SS certferry console user")
    )


@LANGUAGES
def test_topics_of_the_help_command_have_pages(language: str) -> None:
    """The configuration is in section 5, all other topics in section 7, and certferry(1) names each
    page.
    """
    manuals_by_path, first = pages_of(language), plain_text(pages_of(language)["man1/certferry.1"])
    names = {path.rpartition("/")[2] for path in manuals_by_path if not path.startswith("man1")}

    assert {f"certferry-{topic}.7" for topic in pages(language)} - names == {"certferry-config.7"}
    assert "certferry.toml.5" in names
    assert [] == [name for name in names if f"{name[:-2]}({name[-1]})" not in first]


@LANGUAGES
def test_manuals_name_no_tests(language: str) -> None:
    """Operators have no tests. Sentences stay the same without the citations."""
    assert [] == [
        path for path, source in pages_of(language).items() if "tests/" in plain_text(source)
    ]
    text = "It goes on (`tests/a.py::b`, `tests/a.py::c`). It waits: `tests/a.py::d`\n"
    table = "## What shows it\n\nAll.\n\n| promise | test |\n| --- | --- |\n| x | `tests/x.py` |\n"
    assert "It goes on. It waits\n\n\n## Next\n" == without_tests(f"{text}\n{table}\n## Next\n")


@LANGUAGES
def test_references_lead_to_pages(language: str) -> None:
    """Each reference to a page of a section has a page."""
    manuals_by_path = pages_of(language)
    paths = {path.rpartition("/")[2] for path in manuals_by_path}
    named = {
        f"{name}.{section}"
        for source in manuals_by_path.values()
        for name, section in re.findall(r"(certferry[a-z.-]*)\((\d)\)", plain_text(source))
    }
    assert {"certferry-backup.7", "certferry.toml.5", "certferry-sync.1"} <= named <= paths


@LANGUAGES
def test_first_line_of_a_page_is_for_mandb(language: str) -> None:
    """The name and the description fit on a line without line breaks and font changes."""
    for path, source in pages_of(language).items():
        name, _, section = path.rpartition("/")[2].rpartition(".")
        head = source.splitlines()
        assert f'.TH {name.upper()} {section} {DAY} "certferry' in head[1]
        first_line = head[head.index(next(line for line in head if line.startswith(".SH"))) + 1]
        assert first_line.startswith(escaped(name) + r" \- ")
        assert "\\f" not in first_line
        assert "\\:" not in first_line


@LANGUAGES
def test_pages_are_the_same_on_any_machine(language: str) -> None:
    """Pages name no folder of the builder, and contain no marks of Markdown."""
    text = "".join(pages_of(language).values())
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert [] == re.findall(r"\*\*.*|\]\([a-z.].*", text, re.MULTILINE)[:5]


# --- From Markdown to man(7)


@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=40))
def test_text_is_shown_unchanged(words: str) -> None:
    """Characters with a meaning in roff are escaped, also at the start of a line."""
    assert words == plain_text(escaped(words))
    assert words == plain_text(flowing(words))
    assert not flowing(words).startswith((".", "'"))


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# Title\n\n[中文](x.zh-CN.md)\n\nOne\ntwo.", ["One two."]),
        ("一行\n两行", [r"一\:行\:两\:行"]),
        ("（甲）、乙。\n`丙` 丁", [r"（甲）、\:乙。\fB\:丙\fR 丁"]),
        ("`甲`，**乙**。", [r"\fB甲\fR，\fB\:乙\fR。"]),
        ("a\n\n## Section `b`\n\nc\n\nd", ["a", r".SH Section \fBb\fR", "c", ".PP", "d"]),
        (".profile is *read*", [r"\&.profile is \fIread\fR"]),
        ("**bold `code` bold** plain", [r"\fBbold \fBcode\fB bold\fR plain"]),
        ("[the way](x.md#part), [lost](y.md)", [r"the way, \fBcertferry\-x\fR(7), lost"]),
        ("```console\n.a\n\n'b\n```", [".RS 4", ".EX", r"\&.a", "", r"\(aqb", ".EE", ".RE"]),
        ("- a\n  b\n- c", [r".IP \(bu 2", "a b", r".IP \(bu 2", "c"]),
        ("3. a\n\n   b\n", [".IP 3. 4", "a", ".RS 4", ".PP", "b", ".RE"]),
        ("| k | v |\n| - | - |\n| `x` | y |", [".TP", r"\fBx\fR", "y"]),
        (
            "| k | v | w |\n| - | - | - |\n| x | | z |",
            [".TP", r"\fBx\fR", r"\fIw\fR: z"],
        ),
        ("<!-- a remark -->\n\n![a picture](p.png)\n\na", ["a"]),
    ],
)
def test_markdown_becomes_lines_of_man(markdown: str, expected: list[str]) -> None:
    """Tables become lists of terms, which fit in 80 columns."""
    assert expected == [line for line in lines_of(markdown) if line != ".PP" or ".PP" in expected]


# --- Completions of commands


def complete_by_bash(words: str, script: Path) -> list[str]:
    """Return bash's completions of the last word."""
    typed = words.split(" ")
    program = (
        'compopt() { :; }; . "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2)); '
        "_certferry_completion certferry; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    return shell(["bash", "--norc", "-c", program, "bash", str(script), *typed]).split()


def shell(command: list[str], **environ: str) -> str:
    """Run a shell with certferry in the PATH, and return the output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        env={**os.environ, "PATH": path, "CERTFERRY_LANG": "en", "TERM": "dumb", **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """Return a folder like /usr/share, with the completions."""
    manuals.write_completions(ROOT, tmp_path)
    return tmp_path


def test_bash_completes_commands_and_options(share: Path) -> None:
    """The completions come from the file of a package; sourcing the file starts no program."""
    script = share / COMPLETIONS["bash"]
    assert ["sync"] == complete_by_bash("certferry sy", script)
    assert "" == shell(["bash", "--norc", "-c", f"PATH=/nowhere; . {script}"])


@thorough
def test_zsh_completes_commands(share: Path, tmp_path: Path) -> None:
    """The shell loads the function from the system's folder, and calls the function on a tab."""
    program_path("zsh")
    folder = (share / COMPLETIONS["zsh"]).parent
    typed = f"""
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'fpath=({folder} $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump'
        zpty -w z 'print be"gun"'; zpty -r z out '*begun*'
        zpty -w -n z $'certferry rollb\\t'
        zpty -r z out '*rollback*' && print found
    """
    assert "found" in shell(["zsh", "-f", "-c", typed])


@thorough
def test_fish_completes_commands(share: Path, tmp_path: Path) -> None:
    """The completions come from the vendor's folder, with the whole description of each command."""
    program_path("fish")
    output = shell(
        ["fish", "-c", "complete --do-complete 'certferry sy'"],
        XDG_DATA_DIRS=str(share),
        HOME=str(tmp_path),
    )
    assert output == "sync\tApply the configuration: issue, deploy, verify, clean up.\n"


# --- Programs that read the pages


@thorough
def test_readers_accept_the_pages(tmp_path: Path) -> None:
    """The checks of mandoc pass, and lexgrog finds each description for mandb. In 80 columns only
    commands to type are wider than the screen.
    """
    program_path("mandoc")
    program_path("man")
    manuals.write_manuals(ROOT, tmp_path, EPOCH)
    paths = sorted(map(str, tmp_path.rglob("certferry*.[157]")))
    lint = ["mandoc", "-K", "utf-8", "-T", "lint", "-W", "warning", *paths]
    environ = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}

    linted = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert (0, "") == (linted.returncode, linted.stdout)
    subprocess.run(["lexgrog", *paths], env=environ, stdout=subprocess.PIPE, check=True)
    wide = {
        path: rows
        for path in paths
        if (
            rows := [row for row in rows_in_man(path, environ) if width(row) > 80 and is_prose(row)]
        )
    }
    assert {} == wide


def rows_in_man(path: str, environ: dict[str, str]) -> list[str]:
    formatted = subprocess.run(
        ["man", "--local-file", path], env=environ, capture_output=True, text=True, check=True
    ).stdout
    return re.sub(r".\x08|\x1b\[[\d;]*m", "", formatted).splitlines()


def is_prose(row: str) -> bool:
    return not row.startswith(" " * 11)


@thorough
def test_man_finds_what_the_archive_has(tmp_path: Path) -> None:
    """After the guide's commands man finds the pages in both languages."""
    program_path("man")
    home, dist, work = (tmp_path / part for part in ("home", "dist", "work"))
    for folder in (home / ".local" / "bin", dist, work):
        folder.mkdir(parents=True)
    manuals.make(Release(__version__, EPOCH, ROOT, dist, work))
    guide = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    part = guide.partition("\n## Completions and manual pages\n")[2].partition("\n## ")[0]
    typed = "\n".join(re.findall(r"^\$ (.+)$", part, re.MULTILINE))
    environ = {"HOME": str(home), "PATH": f"{home}/.local/bin:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", typed], cwd=dist, env=environ, check=True)

    for page, manual in (
        (["certferry-sync"], "man1/certferry-sync.1"),
        (["certferry.toml"], "man5/certferry.toml.5"),
        (["--locale=zh_CN", "certferry-from-acme-sh"], "zh_CN/man7/certferry-from-acme-sh.7"),
    ):
        command = ["man", "--where", *page]
        answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert f"{home}/.local/share/man/{manual}\n" == answer.stdout


@thorough
def test_archive_is_reproducible(tmp_path: Path) -> None:
    """A build in another folder gives the same bytes, with the folders of /usr/share."""
    archives = []
    for name in ("one", "two"):
        tree, dist, work = (tmp_path / name / part for part in ("tree", "dist", "work"))
        for folder in (dist, work):
            folder.mkdir(parents=True)
        shutil.copytree(ROOT, tree, symlinks=True, ignore=_made)
        [archive] = manuals.make(Release("1.0", EPOCH, tree, dist, work))
        archives.append(archive.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as packed:
        names = packed.getnames()

    assert archives[0] == archives[1]
    assert {"man/man1/certferry.1", "man/zh_CN/man5/certferry.toml.5", *COMPLETIONS.values()} <= {
        *names
    }


def _made(folder: str, names: list[str]) -> set[str]:
    """Return the names that are no sources."""
    return {
        name for name in names if name.startswith(".") or name in {"build", "dist", "__pycache__"}
    }
