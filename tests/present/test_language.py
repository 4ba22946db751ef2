"""The language of a run, and the layout of Chinese."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, timedelta, timezone
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli import exits
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.main import run
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import OF_DOMAINS, DomainStatus, LineageStatus, Standing
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import Served
from certferry.core.observed.records import HistoryEntry
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.reasons import applying
from certferry.errors import DnsUnavailable
from certferry.present import documents, plan_text, report_text, status_text
from certferry.present.language import LANGUAGES, VARIABLE, WORDS, Voice, voice_for, voice_in
from certferry.present.layout import aligned, plain, stacked, width, wrapped
from certferry.text import Text
from certferry.values import replace
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NEW, NOON

ZH = voice_in("zh")
EN = voice_in("en")


@pytest.mark.parametrize(
    ("arguments", "environ", "language"),
    [
        ([], {}, "en"),
        ([], {"LANG": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "zh"}, "zh"),
        ([], {"LANG": "zh-Hans"}, "zh"),
        ([], {"LANG": "zh_CN.GBK@pinyin"}, "zh"),
        ([], {"LANG": "en_US.UTF-8"}, "en"),
        ([], {"LANG": "de_DE.UTF-8"}, "en"),
        ([], {"LANG": "C.UTF-8"}, "en"),
        ([], {"LANG": "zhuang"}, "en"),
        ([], {"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ([], {"LC_ALL": "C", "LC_MESSAGES": "zh_CN", "LANG": "zh_CN"}, "en"),
        ([], {"LC_ALL": "zh_CN", "LC_MESSAGES": "C", "LANG": "C"}, "zh"),
        ([], {"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN"}, "zh"),
        ([], {VARIABLE: "zh", "LC_ALL": "C"}, "zh"),
        ([], {VARIABLE: "en", "LC_ALL": "zh_CN.UTF-8"}, "en"),
        ([], {VARIABLE: "zh_CN"}, "zh"),
        ([], {VARIABLE: "", "LANG": "zh_CN"}, "zh"),
        (["--lang", "zh", "sync"], {VARIABLE: "en"}, "zh"),
        (["--lang=en", "sync"], {VARIABLE: "zh"}, "en"),
        (["-v", "--config", "x", "--lang", "zh"], {}, "zh"),
        (["--", "--lang", "zh"], {}, "en"),
        (["--lang"], {}, "en"),
        (["--lang", "fr"], {"LANG": "zh_CN"}, "zh"),
        (["--lang", "zh_CN"], {}, "zh"),
        (["--lang", "cn"], {}, "zh"),
    ],
)
def test_chosen_language(arguments: list[str], environ: Mapping[str, str], language: str) -> None:
    """The option wins over the variable, and the variable over the locale, by the rules of
    POSIX.
    """
    assert language == voice_for(arguments, environ).language


@pytest.mark.parametrize(
    ("voice", "sentence"),
    [
        (voice_in("en"), "run `certferry --config 'my {x}.toml' sync img`"),
        (voice_in("zh"), "请运行 `certferry --config 'my {x}.toml' sync img`"),
    ],
)
def test_printed_command_names_the_configuration_file(voice: Voice, sentence: str) -> None:
    """A pasted command finds the file; its path may have blanks and braces."""
    voice.read_by(Path("my {x}.toml"))

    assert sentence == voice.say(Text("run `certferry sync {name}`", name="img"))


def test_a_file_is_named_in_our_own_commands_alone() -> None:
    """Prose, commands without a file and quoted words stay without the option."""
    voice = Voice()
    voice.read_by(Path("x.toml"))

    sentence = Text(
        "certferry reads TOML: `certferry help config`; {words}", words="certferry sync"
    )

    assert "certferry reads TOML: `certferry help config`; certferry sync" == voice.say(sentence)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_voice(language: str) -> None:
    """The voice of a language has its code."""
    assert language == voice_in(language).language


def complained(*arguments: str, **environ: str) -> tuple[int, str]:
    """Run the command in this process, and return its exit code and stderr."""
    console = TestConsole(environ=environ)
    return run(arguments, console.console), console.err


def test_unknown_language_exits_with_2() -> None:
    """Option and variable are checked, and the error lists the languages."""
    option = "error: invalid value for '--lang': 'fr' is not one of 'zh', 'en'"
    variable = "error: CERTFERRY_LANG=fr is not supported"
    expected = f"{option}\n\nhint: run `certferry --help`\n"
    assert (Exit.USAGE, expected) == complained("--lang", "fr", "history")
    hint = "set CERTFERRY_LANG to zh or en; without CERTFERRY_LANG, the system's locale decides"
    expected = f"{variable}\n\nhint: {hint}\n"
    assert (Exit.USAGE, expected) == complained("history", CERTFERRY_LANG="fr")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["snyc"], "没有这个命令：snyc；是否想输入 `sync`？", "请运行 `certferry --help`"),
        (["sync", "--renwe"], "没有这个选项：'--renwe'", "是否想输入 --renew？"),
        (["sync", "-v"], "没有这个选项：'-v'", "请写在命令之前：certferry -v … sync"),
        (["-v", "-q", "sync"], "-v 和 -q 不能同时使用", "请运行 `certferry --help`"),
        (
            ["sync", "--wait", "soon"],
            "'--wait' 的值无效：“soon”不是整数",
            "请运行 `certferry sync --help`",
        ),
        (
            ["history", "--limit", "0"],
            "'--limit' 的值无效：0 不在范围 1<=x<=1000000 内",
            "请运行 `certferry history --help`",
        ),
        (["--config"], "选项 '--config' 需要一个参数", "请运行 `certferry --help`"),
        (["sync", "--json=1"], "选项 '--json' 不带参数", "请运行 `certferry sync --help`"),
        (
            ["schedule", "install", "--systemd=1"],
            "选项 '--systemd' 不带参数",
            "请运行 `certferry schedule install --help`",
        ),
        (
            ["schedule", "instal"],
            "没有这个命令：instal；是否想输入 `install`？",
            "请运行 `certferry schedule --help`",
        ),
        (
            ["export", "img", "--dir", __file__],
            f"'--dir' 的值无效：{__file__!r} 是文件",
            "请运行 `certferry export --help`",
        ),
        (
            ["completion"],
            "缺少参数 'SHELL'；可选：bash, zsh, fish",
            "请运行 `certferry completion --help`",
        ),
        (["export", "img"], "缺少选项 '--dir'", "请运行 `certferry export --help`"),
        (["export"], "缺少参数 'NAME'", "请运行 `certferry export --help`"),
        (["demo", "a", "b"], "多余的参数（a b）", "请运行 `certferry demo --help`"),
        (
            ["completion", "ksh"],
            "'SHELL' 的值无效：'ksh' 不是以下之一：'bash', 'zsh', 'fish'",
            "请运行 `certferry completion --help`",
        ),
    ],
)
def test_a_mistyped_command_line_is_reported_in_chinese(
    arguments: list[str], error: str, hint: str
) -> None:
    """Errors of click are reported as all others, in the chosen language."""
    expected = (Exit.USAGE, f"错误：{error}\n\n提示：{hint}\n")

    assert expected == complained("--lang", "zh", *arguments)
    assert expected == complained(*arguments, LANG="zh_CN.UTF-8")


def test_a_mistake_of_the_command_line_is_a_text() -> None:
    """Errors of certferry itself are translated directly."""
    mistake = UsageMistake(Text("--wait and --no-wait cannot be combined"))

    (shown, *_) = ZH.end(exits.problem_of(mistake))

    assert "错误：--wait 和 --no-wait 不能同时使用" == plain(shown)


def test_help_is_chinese_and_fits(capsys: pytest.CaptureFixture[str]) -> None:
    """Headings, usage, options and paragraphs are translated, in lines as wide as the English."""
    assert Exit.OK == run(["--lang", "zh", "sync", "--help"], TestConsole().console)

    page = capsys.readouterr().out
    first, *rows = page.splitlines()
    assert "用法: certferry sync [选项] [NAME]..." == first
    assert {"  按配置执行：签发、部署、验证、清理。", "选项:"} <= set(rows)
    assert "  -h, --help      显示本帮助并退出。" == rows[-1]
    assert max(map(width, rows)) <= 80


def test_the_help_of_the_program_lists_commands_in_chinese(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table is translated, and the meanings begin in the same column."""
    assert Exit.OK == run(["--help"], TestConsole(environ={"LC_ALL": "zh_CN.UTF-8"}).console)

    assert "  plan         显示 sync 将执行的操作及原因。\n" in capsys.readouterr().out


def test_help_in_english_is_as_click_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A default is shown, and paragraphs stay apart."""
    assert Exit.OK == run(["history", "--help"], TestConsole().console)

    assert (
        dedent("""\
        Usage: certferry history [OPTIONS] [NAME]

          Show the history of changes, newest first.

          Without NAME: every certificate so far.

        Options:
          --limit N   Show at most this many entries.  [default: 50; 1<=x<=1000000]
          --verify    Report the first entry that was changed, removed or inserted,
                      and exit 1.
          --json      Print one JSON document on stdout.
          -h, --help  Show this message and exit.
        """)
        == capsys.readouterr().out
    )


PLAN = values.plan(
    values.rollout(),
    values.rollout("a.img.example.com", values.HTTPS_OFF),
    issue=values.issue(),
    findings=(values.frozen("b.img.example.com"), values.too_short("c.img.example.com")),
)


def test_a_plan_in_chinese() -> None:
    """Actions, reasons, hints and the count are translated; names, commands and targets are typed
    by hand, so they stay.
    """
    assert dedent("""\
        img: 应续期（有效期 90 天，剩余 29 天）
          签发     img.example.com、*.img.example.com
          部署     qiniu → img.example.com
                   证书  0123456789ab → …
          验证     img.example.com
          部署     qiniu → a.img.example.com（HTTPS 未启用 → 将启用）
                   证书  0123456789ab → …
          验证     a.img.example.com
          已拒绝   qiniu → c.img.example.com: 剩余有效期 6 天，而 qiniu 要求至少 30 天
                   提示：use a CA whose certificates live longer
          受阻     qiniu → b.img.example.com: frozen at the CDN
                   提示：unfreeze it in the console

        待签发 1 张证书、待部署 2 处、拒绝 1 项、受阻 1 项。尚未做任何改动；请先解决受阻的部分。
        """) == values.text_of(list(plan_text.lines([PLAN], ZH)))


USUAL = (timedelta(minutes=8), timedelta(minutes=15))
ISSUED = StepOutcome(
    Action.ISSUE, Outcome.DONE, Text("valid until {moment}", moment=NOON + timedelta(days=90))
)
PROCESSING = StepOutcome(Action.DEPLOY, Outcome.WAITING, applying("qiniu", USUAL), "qiniu", IMG)
SEEN = StepOutcome(
    Action.VERIFY, Outcome.UNCHANGED, Text("served by every address that answers"), "qiniu", IMG
)
FAILED = StepOutcome(
    Action.RETIRE,
    Outcome.FAILED,
    Text("cannot connect to {host}: {reason}", host="api.qiniu.com", reason="refused"),
    "qiniu",
    label="certferry-img-0123",
    hint=Text("try again in a few minutes"),
)


def test_a_sync_in_chinese() -> None:
    """Outcomes are aligned by their width on the screen."""
    report = values.report(values.lineage(ISSUED, PROCESSING, SEEN, FAILED))

    assert dedent("""\
        img: 失败
          签发     完成      有效期至 2027-02-22 12:00 UTC
          部署     等待中    qiniu → img.example.com: qiniu 正在处理变更（通常 8–15 分钟）
          验证     未变更    img.example.com: 所有能连上的节点都已换上该证书
          清理     失败      qiniu 上的 certferry-img-0123: 无法连接 api.qiniu.com：refused
                             提示：请几分钟后重试

        1 张证书：1 项完成、1 项未变更、1 项等待中、1 项失败。再次运行 `certferry sync` 以继续。
        """) == values.text_of(list(report_text.lines(report, ZH)))
    assert (
        "错误：img: 清理 失败: qiniu 上的 certferry-img-0123: 无法连接 api.qiniu.com："
        "refused\n提示：请几分钟后重试\n"
    ) == values.text_of(list(report_text.what_is_wrong(report, ZH)))


def test_second_run_in_chinese_has_the_known_sentence() -> None:
    """Operators search their logs for the sentence."""
    (*_, single) = report_text.lines(values.report(values.lineage(SEEN)), ZH)
    (*_, several) = report_text.lines(values.report(values.lineage(SEEN), values.lineage(SEEN)), ZH)

    assert "证书未变更,跳过同步" == plain(single)
    assert plain(several).startswith("证书未变更,跳过同步（共 2 张证书")


STATUS = LineageStatus(
    "img",
    (IMG,),
    values.version(),
    NOON + timedelta(days=60),
    values.DUE,
    (
        DomainStatus(
            "qiniu",
            Kind.CDN,
            IMG,
            Standing.PROPAGATING,
            "5f3c0123456789",
            NOON + timedelta(days=60),
            (
                Served("192.0.2.1", NEW, valid=True),
                Served("192.0.2.2", None, valid=False),
                Served("192.0.2.3", None, valid=False, silent=True),
            ),
            not_after=NOON + timedelta(days=90),
        ),
    ),
    standing=Standing.DUE,
    until=NOON + timedelta(days=90),
)


def test_a_status_in_chinese_is_aligned() -> None:
    """Each column begins in the same cell of every row, whatever the script."""
    table = status_text.table([STATUS], NOON, ZH)

    assert dedent("""\
        名称               状态    剩余   续期        最迟上传    绑定的证书    已生效节点
        img                待续期  90 天  2027-01-23
          img.example.com  生效中                     2027-01-23  5f3c01234567  1/2，1 个无应答
        """) == values.text_of(aligned(table))


def test_a_status_in_chinese_on_a_narrow_terminal() -> None:
    """Rows written downwards are aligned as well."""
    page = values.text_of(list(stacked(status_text.table([STATUS], NOON, ZH))))

    assert (
        dedent("""\
        img
          状态        待续期
          剩余        90 天
          续期        2027-01-23
          img.example.com
            状态        生效中
            最迟上传    2027-01-23
            绑定的证书  5f3c01234567
            已生效节点  1/2，1 个无应答
        """)
        == page
    )
    assert max(map(width, page.splitlines())) <= 40


def test_an_error_in_chinese() -> None:
    """Further lines stay to the right of a wide label."""
    error = DnsUnavailable(
        Text("example.com: not seen\nmissing at {server}", server="ns2.example.net"),
        hint=Text("try again in a few minutes"),
    )

    assert dedent("""\
        错误：example.com: not seen
              missing at ns2.example.net

        提示：请几分钟后重试
        """) == values.text_of(list(ZH.end(exits.problem_of(error))))


def test_history_in_chinese() -> None:
    """Events and another tool's changes are reported in words; the words of a service stay
    unchanged.
    """
    entry = HistoryEntry(NOON, "img", "issue failed", "root@host", {"domain": IMG})
    facts = "certificate: 160d954b691f, tls_versions: TLSv1.2, TLSv1.3, http2: unknown"
    drift = replace(entry, event="drift found", facts={"domain": IMG, "found": facts})
    issued = replace(entry, event="issued", facts={"issuer": "R13", "ca": "letsencrypt"})

    assert [
        "2026-11-24 12:00 UTC  img  签发失败  root@host  img.example.com",
        (
            "2026-11-24 12:00 UTC  img  发现外部改动  root@host  img.example.com · "
            "发现：证书：160d954b691f, tls_versions：TLSv1.2, TLSv1.3, http2：未知"
        ),
        "2026-11-24 12:00 UTC  img  已签发  root@host  签发者：R13 · ca：letsencrypt",
    ] == [
        values.text_of(status_text.history([history_entry], ZH)).rstrip("\n")
        for history_entry in (entry, drift, issued)
    ]
    [shown] = values.text_of(status_text.history([drift], EN)).splitlines()
    assert shown.endswith(f"found: {facts}")
    assert facts in str(documents.of_history([drift]))


def test_programs_read_the_same_words_in_every_language() -> None:
    """Keys, codes, actions, outcomes and states of JSON stay English; its sentences are
    translated.
    """
    report = values.report(values.lineage(ISSUED, PROCESSING, FAILED))

    english, chinese = (
        json.loads(
            json.dumps(
                [
                    documents.rendered(documents.of_report(report), voice),
                    documents.rendered(documents.of_plans([PLAN]), voice),
                    documents.rendered(documents.of_statuses([STATUS], Recorded()), voice),
                ]
            )
        )
        for voice in (EN, ZH)
    )

    assert without_sentences(english) == without_sentences(chinese)
    assert english != chinese


SENTENCES = {"message", "detail", "hint", "problem"}


def without_sentences(document: object) -> object:
    if isinstance(document, list):
        return [without_sentences(item) for item in document]
    if isinstance(document, dict):
        return {
            key: None if key in SENTENCES else without_sentences(value)
            for key, value in document.items()
        }
    return document


def test_every_word_of_a_program_has_a_word_for_people() -> None:
    """Actions, outcomes and standings are shown in Chinese to a reader of Chinese."""
    programs = {word.value for words in (Action, Outcome, OF_DOMAINS) for word in words}

    assert programs <= set(WORDS)
    assert all(ZH.word(word) != word for word in programs)
    plainer = {"adopt", "adopted", "adopt failed", "bound", "deployed", "foreign", "look"}
    assert plainer | {"fingerprint", "remote_id"} == {
        word for word in WORDS if EN.word(word) != word
    }


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(days=1), "1 天"),
        (timedelta(days=89, hours=5), "89 天"),
        (timedelta(hours=3), "3 小时"),
        (timedelta(minutes=1), "1 分钟"),
        (timedelta(seconds=0), "0 秒"),
    ],
)
def test_durations_in_chinese(duration: timedelta, words: str) -> None:
    """A duration has a single unit, rounded down, as in English."""
    assert words == ZH.say(Text("{left}", left=duration))


def test_lists_in_chinese() -> None:
    """Members of a list stand between enumeration commas."""
    assert "a、b、3 天" == ZH.say(Text("{names}", names=["a", "b", timedelta(days=3)]))


WORDS_OF_BOTH = st.text(alphabet="ab 中文，。（）", max_size=60)


@given(WORDS_OF_BOTH, st.integers(6, 30))
def test_wrapping_keeps_all_words_and_fits(words: str, cells: int) -> None:
    """Lines keep every character but spaces, and fit unless a single word is too long."""
    rows = wrapped(words, cells)

    assert "".join(words.split()) == "".join("".join(rows).split())
    assert all(row and row == row.rstrip() for row in rows)
    for row in rows:
        assert width(row) <= cells or len(wrapped(row, 1)) == 1


@given(st.text(alphabet="中文，。（）", min_size=1, max_size=40))
def test_punctuation_stays_with_its_character(words: str) -> None:
    """A line begins with a closing mark only if it has marks alone."""
    _, *later = wrapped("中" + words, 8)

    assert not [row for row in later if row[0] in "，。）"]


def test_moments_are_reported_by_the_clock_of_the_reader() -> None:
    """Moments have the reader's offset; a day and a time of today follow the same clock."""
    reader = Voice(zone=timezone(timedelta(hours=8)))
    late = NOON + timedelta(hours=5)

    assert "it ends at 2026-11-25 01:00 +08:00" == reader.say(Text("it ends at {at}", at=late))
    assert "a, 2026-11-25 01:00 +08:00" == reader.say(Text("{all}", all=["a", late]))
    assert ("2026-11-25", "2026-11-24") == (reader.day(late), Voice(zone=UTC).day(late))
    assert ("20:00 +08:00", "2026-11-25 01:00 +08:00") == (
        reader.clock(NOON, NOON),
        reader.clock(late, NOON),
    )
    # Stored text, and text for programs, is in UTC.
    assert "it ends at 2026-11-24 17:00 UTC" == str(Text("it ends at {at}", at=late))
