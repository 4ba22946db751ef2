"""The console: its streams, its pages, and its words."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from certferry.present.layout import Span, TextTable, Tone, coloured, line, plain, width
from certferry.present.pages import lines
from tests.cli.consoles import Paper, TestConsole, terminal
from tests.house import translations

# --- Streams: data on stdout, remarks on stderr, colour and drawing only on a terminal


FAILED = line(Span("failed", Tone.BAD), " img")
TABLE = TextTable(
    ("NAME", "STATE", "SERVED"),
    (
        (Span("  图片.example.com"), Span("verified", Tone.GOOD), Span("2 of 2")),
        (Span("  img.example.com"), Span("failed", Tone.BAD), Span("0 of 2")),
    ),
)
PLAIN = (
    "NAME                STATE     SERVED\n"
    "  图片.example.com  verified  2 of 2\n"
    "  img.example.com   failed    0 of 2\n"
)
DOWNWARDS = (
    "  图片.example.com\n"
    "    state   verified\n"
    "    served  2 of 2\n"
    "  img.example.com\n"
    "    state   failed\n"
    "    served  0 of 2\n"
)


def test_a_terminal_gets_colour() -> None:
    """Data and remarks are coloured on a terminal."""
    console = terminal()

    console.console.print([FAILED])
    console.console.print_stderr([FAILED])

    assert "\x1b[31mfailed\x1b[0m img\n" == console.out == console.err


@pytest.mark.parametrize(
    "console",
    [TestConsole(), terminal(NO_COLOR="1"), terminal(TERM="dumb"), terminal(TERM="")],
    ids=["a file", "NO_COLOR", "a dumb terminal", "no TERM"],
)
def test_colour_is_left_out_on_request(console: TestConsole) -> None:
    """The words are clear without colour."""
    console.console.print([FAILED])

    assert "failed img\n" == console.out


def test_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any script: if columns are too wide, rows are written downwards."""
    for columns, expected in ((36, PLAIN), (35, DOWNWARDS), (25, DOWNWARDS)):
        monkeypatch.setenv("COLUMNS", str(columns))
        console = terminal(NO_COLOR="1")

        console.console.print_table(TABLE)

        assert expected == console.out
        assert all(width(row) <= columns for row in console.out.split("\n"))


def test_table_is_coloured_by_default() -> None:
    """Tables obey NO_COLOR as well."""
    coloured, bare = terminal(), terminal(NO_COLOR="1")

    coloured.console.print_table(TABLE)
    bare.console.print_table(TABLE)

    assert "\x1b[31mfailed" in coloured.out
    assert "\x1b" not in bare.out


def test_table_in_a_file_is_plain_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and pipes get columns of any width."""
    monkeypatch.setenv("COLUMNS", "10")
    console = TestConsole()

    console.console.print_table(TABLE, below=[line("img: due")])

    assert PLAIN + "\nimg: due\n" == console.out


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", "图片"), ("UTF8", "图片"), ("ascii", "\\u56fe\\u7247")]
)
def test_document_is_readable_if_the_stream_can_encode_it(encoding: str, expected: str) -> None:
    """JSON stays valid under an old locale."""
    console = TestConsole(stdout=Paper(encoding=encoding))

    console.console.print_json({"name": "图片"})

    assert expected in console.out
    assert {"name": "图片"} == json.loads(console.out)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_document_on_a_terminal_moves_no_cursor(encoding: str) -> None:
    """A document may quote others, and JSON leaves eight-bit controls and changes of direction
    unescaped.
    """
    console = TestConsole(stdout=Paper(encoding=encoding))
    hostile = {"name": "\x1b[2J\x9b31m\u202e\x7f"}

    console.console.print_json(hostile)

    assert console.out.isprintable() or set(console.out) <= {"\n", *map(chr, range(32, 127))}
    assert hostile == json.loads(console.out)


# --- Markdown on a terminal


def shown(text: str, cells: int = 40) -> str:
    """Return a page without colour."""
    return "\n".join(plain(row) for row in lines(dedent(text), cells))


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("# A title: `x`", "A title: `x`"),
        ("one\ntwo", "one two"),
        ("一\n二 `x`\n三", "一二 `x` 三"),
        ("**bold** and *soft* and `a*b*c` and a * b", "bold and soft and `a*b*c` and a * b"),
        ("**`a`**：一", "`a`：一"),
        ("see [it](config.md)", "see it (`certferry help config`)"),
        ("see [it](../how-to/backup.zh-CN.md#x)", "see it (`certferry help backup`)"),
        ("see [it](https://x.example)", "see it (https://x.example)"),
        ("see [it](../decisions/0001-x.md)", "see it"),
        ("- one\n  more\n- two", "- one more\n- two"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("```console\n$ a  b\n\n$ c\n```", "    $ a  b\n\n    $ c"),
        ("[中文](x.zh-CN.md)\n\nText", "Text"),
        ("<!-- for authors -->\n\nText", "Text"),
    ],
)
def test_marks_become_plain_text(source: str, page: str) -> None:
    """The meaning of the marks stays."""
    assert page == shown(source)


def test_a_list_hangs() -> None:
    """A long item continues below its own words."""
    assert "- 12345678 12345678 12345678\n  12345678" == shown("- 12345678" + " 12345678" * 3, 30)


def test_a_row_of_a_table_is_written_downwards() -> None:
    """First comes the first cell, and below each other cell with contents, by its header."""
    table = """\
        | code | cause | fix |
        | --- | --- | --- |
        | `a` | one or another thing that happened | do [it](x.md) |
        | `b` | a \\| b | |
        """

    assert dedent("""\
        `a`
          cause: one or another thing that
            happened
          fix: do it (`certferry help x`)

        `b`
          cause: a | b""") == shown(table)


def test_page_has_a_readable_width() -> None:
    """On a terminal of any width. Headings are strong."""
    rows = shown("word " * 100, 400).splitlines()

    assert max(map(len, rows)) <= 100
    assert ["\x1b[1mA\x1b[0m"] == [coloured(row) for row in lines("# A", 80)]


# --- Sentences that confused new operators, and their replacements


SENTENCES = {
    str(message.id): str(message.string) for message in translations.read("zh") if message.id
}

ENGLISH = [
    ("Bring the world to the declared state", "Apply the configuration: issue, deploy, verify"),
    ("Tell on stderr what happens inside", "Print debug details to stderr"),
    ("Wait no longer than this for what takes its time", "Stop waiting after SECONDS"),
    ("An address that the CA may write to", "Contact email for the CA (optional; Enter to skip)"),
    ("the DNSPod API token itself", "DNSPod token"),
    ("Written, for you alone", "Written (mode 0600)"),
    ("nothing sets {name} when the system", "cron and systemd start the run without {name}"),
    ("the target is carrying out a change", "is applying the change (usually {least}–{most} min)"),
    ("no language of certferry's", "{variable}={word} is not supported"),
    ("adopted to be ferried", "deploy only; {client} keeps renewing it"),
    ("acme.sh is not at home there", "no acme.sh found there (no account.conf)"),
    ("run in a circle", "CNAME loop at {name}"),
    ("found the certificate wanting", "Qiniu rejected the certificate"),
    ("the CA asks for patience", "the CA asks certferry to retry later"),
    ("the proxy gave no way to", "cannot reach {host} through the proxy"),
    ("is not a valid integer range", "is not a whole number"),
    ("ferry", "HTTPS is off → will be turned on"),
    ("look skipped", "stopped during: issue"),
]
CHINESE = [
    ("所有应答的地址均已出示该证书", "所有能连上的节点都已换上该证书"),
    ("目标正在执行变更", "正在处理变更（通常 {least}–{most} 分钟）"),
    ("显示何人何时做了什么", "显示操作历史"),
    ("使实际状态与声明一致", "按配置执行"),
    ("无法达到声明的状态", "无法按配置执行"),
    ("查看 已跳过 已停止", "签发时被中止"),
    ("所属域名", "{service} 域名"),
    ("DNSPod API Token 本身", "DNSPod Token"),
    ("亲眼看到", "（输入不显示）"),
]
UNNAMED = ("whoever", "nobody", "somebody", "anybody", "it is waited for", "ferried", "ferries")


@pytest.mark.parametrize(("before", "now"), ENGLISH)
def test_english(before: str, now: str) -> None:
    """The earlier sentence is gone, and its replacement exists."""
    assert [] == [
        sentence for sentence in SENTENCES if before in sentence and "certferry" not in sentence
    ]
    assert [] != [sentence for sentence in SENTENCES if now in sentence]


@pytest.mark.parametrize(("before", "now"), CHINESE)
def test_chinese(before: str, now: str) -> None:
    """The same holds for the Chinese sentences."""
    assert [] == [sentence for sentence in SENTENCES.values() if before in sentence]
    assert [] != [sentence for sentence in SENTENCES.values() if now in sentence]


def test_headers_of_the_status_in_chinese() -> None:
    """The bound certificate, and the addresses that serve the certificate."""
    assert ("绑定的证书", "已生效节点") == (SENTENCES["BOUND"], SENTENCES["SERVED"])


@pytest.mark.parametrize("word", UNNAMED)
def test_every_sentence_names_its_subject(word: str) -> None:
    """Sentences of the catalogue never leave the reader to guess."""
    assert [] == [
        sentence for sentence in SENTENCES if word in sentence.lower().split("certferry")[0]
    ]
