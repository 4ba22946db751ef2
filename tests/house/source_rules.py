"""Rules of STYLE.md that a program can check in every file.

`scripts/check` runs this module: each breach is a line `path:line: problem`, and the exit code is
1.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache, lru_cache, partial
from pathlib import Path

from tests.house.tree import PACKAGE, ROOT, SANDBOX, modules, relative

Breach = tuple[int, str]
"""A line and its problem."""
Rule = Callable[[ast.Module, str], Iterator[Breach]]

MOST_LINES = 600
SHORTEST_DOCSTRING = len("A module.")

EXCEPTION = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no (?:cover|branch))")
EXCEPTION_WITH_REASON = re.compile(
    r"#\s*(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\]|pragma: no (cover|branch))"
    r"\s+[-–—#:]+ *\S+ \S+"
)
URGENT = frozenset({"warning", "error", "exception", "critical", "log"})

# Sentences made of others, or from tables whose sentences are found elsewhere.
NOT_LITERAL = {
    "text.py": {"self.template"},
    "cli/commands.py": {"paragraph", "what"},
    "adapters/cdn/refusals.py": {"self.words", "self.advice"},
    "config/mistakes.py": {"template"},
    "adapters/state/columns.py": {"value['text']"},
    "console/site.py": {"template"},
}


@lru_cache(maxsize=1)
def _nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """Return every node of a module, cached for all rules: walking took half of their time."""
    return tuple(ast.walk(tree))


@lru_cache(maxsize=1)
def _tokens(text: str) -> tuple[tokenize.TokenInfo, ...]:
    """Return the tokens of a module, cached for all rules."""
    return tuple(tokenize.generate_tokens(io.StringIO(text).readline))


def docstring(tree: ast.Module, text: str) -> Iterator[Breach]:
    """The first line of a module's docstring describes the module."""
    del text
    text_of_docstring = ast.get_docstring(tree)
    if not text_of_docstring or len(text_of_docstring.splitlines()[0]) <= SHORTEST_DOCSTRING:
        yield 1, "the module's docstring does not say what it is"


def length(tree: ast.Module, text: str) -> Iterator[Breach]:
    del tree
    if len(text.splitlines()) > MOST_LINES:
        yield MOST_LINES + 1, f"the module is longer than {MOST_LINES} lines"


def late_annotations(tree: ast.Module, text: str) -> Iterator[Breach]:
    """A module with code begins with `from __future__ import annotations`."""
    del text
    has_code = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
    late = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    if has_code and not late:
        yield 1, "annotations are read at import"


_SENTENCE = re.compile(r"Text\(|\w+\.filled\(")


def warnings(tree: ast.Module, text: str) -> Iterator[Breach]:
    """Warnings and errors are sentences in the reader's language; only output of `-v` is ours."""
    del text
    for node in _nodes(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in URGENT
            and "log" in ast.unparse(node.func.value).lower()
            and not (node.args and _SENTENCE.match(ast.unparse(node.args[0])))
        ):
            yield node.lineno, f"no Text: {ast.unparse(node)}"


def exceptions(tree: ast.Module, text: str) -> Iterator[Breach]:
    """`noqa`, `type: ignore` and `no cover` name their rule and give a reason, on the same line."""
    del tree
    if EXCEPTION.search(text) is None:  # few files have an exception, and tokenizing takes long
        return
    for token in _tokens(text):
        comment = token.string if token.type == tokenize.COMMENT else ""
        if EXCEPTION.search(comment) and not EXCEPTION_WITH_REASON.search(comment):
            yield token.start[0], f"without a reason: {comment}"


def literal_sentences(tree: ast.Module, text: str, allowed: frozenset[str]) -> Iterator[Breach]:
    """A `Text` begins with its literal sentence, so that the translations find the sentence."""
    del text
    for node in _nodes(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id != "Text" or not node.args:
            continue
        first = node.args[0]
        is_literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
        if not is_literal and ast.unparse(first) not in allowed:
            yield node.lineno, f"the sentence is not written here: {ast.unparse(first)}"


ACTORLESS = re.compile(
    r"\b(whoever|whomever|whosever|nobody|anybody|somebody|everybody|someone|everyone)\b(?!@|-|`)",
    re.IGNORECASE,
)
"""Words that leave out who acts: STYLE.md, "Plain words". `NOBODY` in capitals is a name."""


def plain_words(tree: ast.Module, text: str) -> Iterator[Breach]:
    del tree
    if ACTORLESS.search(text) is None:
        return
    for token in _tokens(text):
        is_prose = token.type == tokenize.STRING and token.string.startswith('"""')
        if token.type != tokenize.COMMENT and not is_prose:
            continue
        for number, line in enumerate(token.string.splitlines()):
            match = ACTORLESS.search(line)
            if match is not None and not match[0].isupper():
                yield token.start[0] + number, f"{match[0]!r} does not say who acts"


RETIRED = re.compile(
    r"(?:^|_)(?:told|tells?|teller|telling|doors?|visits?|wish(?:es|ed)?|believed|spoilt"
    r"|vain|ceded|ferried|bettered|peculiar)(?:_|$)"
    r"|held_back|let_in|hand_out|(?:set|put)_right|under_way"
)
RETIRED_PROSE = re.compile(
    r"\b(?:in vain|held back|let in|handed out|ceded|ferried|bettered|spoilt|(?:set|put) right"
    r"|gone on with|under way|\w+ is told|are told)\b"
)
INVERTED = re.compile(r"(?:^|[.:!?] )((?:[A-Z][a-z]+ed|Alike|Left out) (?:are|must be))\b")
"""Sentences in German order, such as "Asked are the bound domains": the subject comes first."""

VAGUE = re.compile(r"\s*(?:Give|Tell|Say)s?\b")
"""Vague verbs: *Return*, *Read*, *Store*, *Raise*, *Render* are more precise."""


def retired_words(tree: ast.Module, text: str) -> Iterator[Breach]:
    """Names and prose use the words of docs/glossary.md and of the field."""
    for token in _tokens(text):
        line = token.start[0]
        if token.type == tokenize.NAME and _is_retired(token.string):
            if token.string != "told_at":  # a column of the state
                yield line, f"`{token.string}` is a retired word"
        elif token.type == tokenize.COMMENT and (match := RETIRED_PROSE.search(token.string)):
            yield line, f"{match[0]!r} are retired words"
    for node in _nodes(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        text_of_docstring = ast.get_docstring(node) or ""
        line = getattr(node, "lineno", 1)
        if VAGUE.match(text_of_docstring):
            yield line, f"the docstring begins with {text_of_docstring.split()[0]!r}"
        if match := RETIRED_PROSE.search(" ".join(text_of_docstring.split())):
            yield line, f"{match[0]!r} are retired words"
        if match := INVERTED.search(" ".join(text_of_docstring.split())):
            yield line, f"the subject comes before {match[1]!r}"


@cache
def _is_retired(name: str) -> bool:
    in_snake_case = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return RETIRED.search(in_snake_case) is not None


VENDORS = re.compile(
    r"qiniu|qbox|kodo|\bpili\b|七牛|dnspod|tencent|腾讯|alidns|aliyun|阿里|alibaba|cloudflare"
    r"|powerdns|lexicon|dingtalk|钉钉|feishu|飞书|wecom",
    re.IGNORECASE,
)
VENDORS_FOLDERS = frozenset(
    {"aliyun", "cloudflare", "dnspod", "lexicon", "notify", "qiniu", "tencentcloud"}
)
"""The folders of the vendors' own adapters."""
NAMES_A_VENDOR = {
    "wiring/registry.py": "the choices that no adapter may make",
    "extras.py": "an extra's name, and the name of the library in the extra",
    "adapters/s3/objects.py": "a vendor's buckets lack a function of S3's API",
    "adapters/rfc2136/update_server.py": "a product's setting, in the advice for its servers",
}
"""The other modules with a vendor's name, each with the reason."""


def vendors(tree: ast.Module, text: str) -> Iterator[Breach]:
    """Neither code nor prose names a vendor; a page of facts may be cited by its name."""
    del tree
    for number, line in enumerate(FACTS.sub("", text).splitlines(), start=1):
        if match := VENDORS.search(line):
            yield number, f"{match[0]!r} is a vendor's"


def may_name_vendors(within: Path) -> bool:
    """Return whether a module of the package is in a vendor's folder, or in the list."""
    parts = within.parts
    return within.as_posix() in NAMES_A_VENDOR or (
        parts[0] == "adapters" and parts[1] in VENDORS_FOLDERS
    )


_SOURCE = r"docs/[\w/.-]+\.md|RFC\s+\d+|draft-[\w.-]+|ECMA-\d+|X\.\d+|SP [\d-]+[A-Z]?"
_SECTION = r"§\d+(?:\.\d+)*"
_BREAK = r"\s+(?:#\s+)?"
"""Between two words of prose, possibly on two lines of a comment."""
CITATION = re.compile(
    rf"(?:(?P<source>{_SOURCE}){_BREAK}|\]\((?P<link>[\w./-]+\.md)\){_BREAK})?"
    rf"(?P<sections>{_SECTION}(?:(?:,|;| and| to){_BREAK}{_SECTION})*)"
)
"""`docs/facts/<page>.md §N`, `RFC <number> §N`, `[…](<page>.md) §N`, with further sections
after.
"""
FACTS = re.compile(r"docs/facts/\w+\.md")
PAGE_ALONE = re.compile(rf"docs/facts/(?!README)\w+\.md(?!{_BREAK}§)")
NUMBERED = re.compile(r"^#+ §(\d+(?:\.\d+)*) ", re.MULTILINE)
ELSEWHERE = re.compile(r"(fact|production)[\s#_]+sheets?\b", re.IGNORECASE)
"""Earlier names of pages of facts that this repository does not have."""


@cache
def sections_of(page: Path) -> frozenset[str]:
    """Return the numbers of a page's sections; a missing page has none."""
    return frozenset(NUMBERED.findall(page.read_text(encoding="utf-8")) if page.is_file() else ())


def citations(tree: ast.Module, text: str) -> Iterator[Breach]:
    """A citation leads to an existing section; `§N` alone belongs to the page in the docstring."""
    text_of_docstring = ast.get_docstring(tree) or ""
    named = {match["source"] for match in CITATION.finditer(text_of_docstring) if match["source"]}
    pages = {source for source in named if FACTS.fullmatch(source)}
    own = ROOT / next(iter(pages)) if len(pages) == len(named) == 1 else None
    yield from _unknown_sections(text, ROOT, own)
    if own is None and (pages or re.search(_SOURCE, text_of_docstring) is None):
        for match in CITATION.finditer(text):
            if match["source"] is None and match["link"] is None:
                yield _line(text, match), f"{match['sections']!r} of which page?"
    for match in PAGE_ALONE.finditer(text):
        yield _line(text, match), f"{match[0]} is cited without a section"


def page_citations(page: Path) -> Iterator[Breach]:
    """Check a page of Markdown like `citations`: in a page of facts, `§N` alone is its own."""
    text = page.read_text(encoding="utf-8")
    own = page if page.parent.name == "facts" else None
    yield from _unknown_sections(text, page.parent, own)


def _unknown_sections(text: str, folder: Path, own: Path | None) -> Iterator[Breach]:
    for match in ELSEWHERE.finditer(text):
        yield _line(text, match), f"{match[0]!r} is no page of this repository: cite docs/facts"
    for match in CITATION.finditer(text):
        source, link = match["source"] or "", match["link"]
        if source.startswith("docs/"):
            page: Path | None = ROOT / source
        elif source:
            page = None  # a standard
        else:
            page = folder / link if link else own
        if page is None:
            continue
        for number in re.findall(r"[\d.]*\d", match["sections"]):
            if number not in sections_of(page):
                yield _line(text, match), f"{page.name} has no section {number}"


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


PORT = re.compile(r"`[\w.]*\b[A-Z]\w+`")


def described(tree: ast.Module, text: str) -> Iterator[Breach]:
    """A public method has a docstring, or its class names the type that describes its methods."""
    del text
    for node in _nodes(tree):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        if PORT.search(ast.get_docstring(node) or ""):
            continue
        for method in node.body:
            match method:
                case ast.FunctionDef(decorator_list=[ast.Attribute(attr="setter")]):
                    continue
                case ast.FunctionDef(name=name) if not name.startswith("_"):
                    if not ast.get_docstring(method):
                        yield method.lineno, f"{name} has no docstring"


def properties(tree: ast.Module, text: str) -> Iterator[Breach]:
    del text
    for node in _nodes(tree):
        match node:
            case ast.FunctionDef(name=name) if name.startswith("test_"):
                if not ast.get_docstring(node):
                    yield node.lineno, f"{name} does not say what it holds"


PRODUCTION: tuple[Rule, ...] = (docstring, described, length, late_annotations, warnings)
EVERYWHERE: tuple[Rule, ...] = (exceptions, plain_words, citations)


def breaches() -> Iterator[str]:
    for folder in (PACKAGE, SANDBOX, ROOT / "tests", ROOT / "benchmarks", ROOT / "release"):
        for path in modules(folder):
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            for rule in _rules_of(path):
                for line, problem in rule(tree, text):
                    yield f"{relative(path)}:{line}: {problem}"
    for page in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))):
        for line, problem in page_citations(page):
            yield f"{relative(page)}:{line}: {problem}"


def _rules_of(path: Path) -> Iterator[Rule]:
    yield from EVERYWHERE
    package = next(
        (candidate for candidate in (PACKAGE, SANDBOX) if path.is_relative_to(candidate)), None
    )
    if package is None:
        if path.is_relative_to(ROOT / "tests"):
            yield properties
        return
    within = path.relative_to(package)
    yield from PRODUCTION
    yield retired_words
    if within.parts[0] != "testing":
        allowed = frozenset(NOT_LITERAL.get(within.as_posix(), ()))
        yield partial(literal_sentences, allowed=allowed)
    if package == PACKAGE and not may_name_vendors(within):
        yield vendors


def main() -> int:
    all_breaches = list(breaches())
    print("\n".join(all_breaches) or "source rules: kept")  # noqa: T201 - a program's output
    return 1 if all_breaches else 0


if __name__ == "__main__":
    sys.exit(main())
