"""`certferry help`: topics, codes, words of errors, commands, and schemas."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from certferry.adapters.qiniu.errors import MEANINGS
from certferry.cli.exits import Exit
from certferry.present.language import voice_in
from certferry.present.layout import width
from certferry.present.page_search import search, sections_of
from certferry.present.pages import about_words, pages, schemas
from certferry.text import Text
from certferry.wiring.adapters import CHANNELS, DNS_PROVIDERS, TARGETS, installed
from tests.support.command import Ended, run_here
from tests.support.schemas import schema
from tests.support.tiers import sampled


def help_for(*words: str, language: str = "en", columns: int = 80) -> Ended:
    return run_here(
        ["help", *words], {"CERTFERRY_LANG": language, "COLUMNS": str(columns), "PATH": ""}
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_topics_have_titles(language: str) -> None:
    """Every topic is listed in the language of the run, with the command for a schema."""
    ended = help_for(language=language)

    assert (Exit.OK, "") == (ended.code, ended.err)
    rows = dict(re.findall(r"^  (\S+) +(.+)$", ended.out, re.MULTILINE))
    assert {topic: page.title for topic, page in pages(language).items()} == rows
    assert {"config", "json", "exit-codes", "codes", "qiniu", "backup"} <= set(rows)
    assert "certferry help json DOCUMENT" in ended.out


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("topic", pages("en"))
def test_topic_fits_the_terminal(topic: str, language: str) -> None:
    """Only text to type, and words longer than a line, are wider than the terminal."""
    ended = help_for(topic, language=language, columns=60)

    assert Exit.OK == ended.code
    assert pages(language)[topic].title == ended.out.splitlines()[0].replace("`", "")
    assert "](" not in ended.out.replace("`](", "")
    wide = [row for row in ended.out.splitlines() if width(row) > 60]
    assert [] == [row for row in wide if not row.startswith("    ") and " " in row.strip()]


def test_explanation_of_a_code() -> None:
    """The explanation has cause and fix for every place of the code."""
    ended = help_for("expired")

    assert Exit.OK == ended.code
    assert 4 == ended.out.count("`expired`\n  cause: ")
    assert 4 == ended.out.count("  what to do: ")
    assert "zone" not in ended.out


def test_explanation_of_a_code_of_a_service() -> None:
    """The codes come from the tables of messages, and each is explained in the reader's
    language.
    """
    table, voices = installed(), {language: voice_in(language) for language in ("en", "zh")}
    families = (DNS_PROVIDERS, TARGETS, CHANNELS)
    adapters = [table.find(family, name) for family in families for name in table.names(family)]
    services = {adapter.called: adapter.codes for adapter in adapters if adapter.codes}

    assert {"Qiniu", "DNSPod", "Cloudflare", "Tencent Cloud", "DingTalk"} <= set(map(str, services))
    assert {"400611", "404001", "400322"} | {str(code) for code in MEANINGS} <= set(
        services[Text("Qiniu")]
    )
    for service, codes in services.items():
        for code, meaning in sampled([*codes.items()], 12):
            meanings = table.meanings_of(code)
            assert meaning == meanings[service]
            assert all(voice.say(meaning.advice) for voice in voices.values())
    for code, (language, voice) in product(("400611", "10004", "-1", "400322"), voices.items()):
        ended = help_for(code, language=language)
        assert Exit.OK == ended.code
        (meaning,) = table.meanings_of(code).values()
        assert voice.say(meaning.advice) in " ".join(ended.out.split("\n"))


def test_service_that_has_a_part_of_a_code() -> None:
    """A part of a code counts only if no service has the whole code."""
    whole = help_for("OperationDenied.ProductUpgraded").out
    part = help_for("OperationDenied.NoSuchWord").out

    assert "Tencent Cloud, code" in whole
    assert "Alibaba Cloud, code" not in whole
    assert "Alibaba Cloud, code" in part


def test_code_of_two_services() -> None:
    """Each explanation names its service."""
    output = help_for("401").out

    assert "Qiniu, code 401: access_key and secret_key are not accepted\nhint: " in output
    assert "\n\nTelegram, code 401\nhint: " in output


def test_code_of_a_family() -> None:
    """A code with a part after the dot is found, as in a message."""
    assert "Tencent Cloud, code AuthFailure.SignatureFailure\nhint: compare" in (
        help_for("AuthFailure.SignatureFailure").out
    )


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (["bad", "token"], "bad-token"),
        (["domaintype", "is", "not", "allowed"], "domaintype"),
        (['{"error":"domaintype is not allowed"}'], "domaintype"),
        (["code: 612, message: no such domain"], "no-such-domain"),
        (["无此域名"], "no-such-domain"),
        (["源站域名"], "cdn-or-source"),
        (["*.example.com"], "wildcard-dot"),
        (["域名处理中"], "still-processing"),
        (["login", "token", "validation", "failed"], "login-token"),
        (["too", "many", "certificates", "(5)", "already", "issued"], "too-many-certificates"),
        (["限流"], "too-many-certificates"),
    ],
)
def test_words_of_an_error_lead_to_a_page(words: list[str], topic: str, language: str) -> None:
    """Pasted words lead to a single page, within other words and without quotes."""
    ended = help_for(*words, language=language)

    assert (Exit.OK, help_for(topic, language=language).out) == (ended.code, ended.out)


def test_word_in_a_title_leads_to_one_page() -> None:
    """A word in code in a title or a first paragraph leads to its page. A number in a table has two
    lines, which name the page.
    """
    page_by_word = {word: page for page in pages("en").values() for word in page.pasted}
    explained = {
        word: page for word, page in page_by_word.items() if page in about_words(word, "en")
    }

    assert {"400030", "400322", "400611", "400911", "404001", "612"} <= set(explained)
    for word, page in explained.items():
        assert [page] == about_words(word, "en")
        if installed().meanings_of(word):
            assert f"`certferry help {page.topic}`" in help_for(word).out


def test_unknown_code() -> None:
    """No page with a similar name is suggested for a number."""
    ended = help_for("612345")

    assert Exit.USAGE == ended.code
    assert "the code 612345 is not explained here" in ended.err


def test_help_of_a_command() -> None:
    """The help is the same as with `--help`, also for a command of a group."""
    for command in (["sync"], ["state", "move"], ["console", "user", "add"]):
        by_help, by_option = (
            help_for(*command),
            run_here([*command, "--help"], {"CERTFERRY_LANG": "en"}),
        )
        assert Exit.OK == by_help.code
        assert by_option.out == by_help.out
    assert "notify test" in help_for("notify").out


# --- Any words lead to the part of a page that contains the words


@pytest.mark.parametrize(
    ("words", "language", "printed"),
    [
        ("nginx below", "en", ("The console", "nginx, below a path", "console")),
        (
            "restoring backups",
            "en",
            ("Back up and restore", "Restore on an empty machine", "backup"),
        ),
        ("如何回滚", "zh", ("七牛：certferry 遵守的规则", "回退（回滚）", "qiniu")),
        ("如何回滚", "en", ("七牛：certferry 遵守的规则", "回退（回滚）", "qiniu")),
        ("config secrets", "en", ("The configuration", "Secrets", "config")),
        ("config notify", "zh", ("配置", "`[notify.…]`：通知渠道", "config")),
    ],
)
def test_words_of_one_part_of_a_page(
    words: str, language: str, printed: tuple[str, str, str]
) -> None:
    """The part is printed below its page's title, with the command for the whole page; a page of
    the other language is used if the run's language has no page.
    """
    title, heading, topic = printed
    ended = help_for(*words.split(), language=language)

    assert (Exit.OK, "") == (ended.code, ended.err)
    assert [title, "", heading] == ended.out.splitlines()[:3]
    assert f"`certferry help {topic}`" in ended.out


def test_words_of_many_pages() -> None:
    """The parts are listed as commands, the best match first."""
    ended = help_for("wrong", "signature")

    rows = re.findall(r"^  certferry help (\S+) +(.+)$", ended.out, re.MULTILINE)
    assert Exit.OK == ended.code
    assert "Pages with the words:" == ended.out.splitlines()[0]
    assert {"bad-token", "qiniu"} <= {topic for topic, _ in rows[:3]}


def test_words_of_rows_in_a_table() -> None:
    """Exactly the rows with the words are printed."""
    printed = help_for("codes", "limits").out

    assert "`rate_limited`\n  exit: 1, again\n" in printed
    assert "ca_unavailable" not in printed


def test_words_of_a_command() -> None:
    """A search finds the help of commands as well."""
    assert "\n  certferry help revoke  " in help_for("keyCompromise").out


def test_command_of_another_client() -> None:
    """The command to run instead comes first, followed by pages with the word."""
    first, *others = help_for("renew").out.splitlines()

    assert first.startswith("run `certferry sync`, which renews what is due")
    assert "Pages with the words:" in others


@pytest.mark.parametrize("language", ["en", "zh"])
def test_title_leads_to_its_page(language: str) -> None:
    """Every page is the best match of its own title."""
    texts = [part for page in pages(language).values() for part in sections_of(page)]

    matches = {page.topic: search(page.title, texts).sections for page in pages(language).values()}

    assert {topic: topic for topic in matches} == {
        topic: sections[0].topic for topic, sections in matches.items()
    }


@pytest.mark.parametrize("name", schemas())
def test_schema_is_printed_unchanged(name: str) -> None:
    """A program can read the output."""
    assert schema(name) == json.loads(help_for("json", name).out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["confg"], "'confg'\n\nhint: did you mean `config`?"),
        (["acount"], "'acount'\n\nhint: did you mean `account`?"),
        (["certonly"], "'certonly'\n\nhint: run `certferry sync`"),
        (["zzz", "qqq"], "'zzz qqq'\n\nhint: `certferry help` lists the topics"),
    ],
)
def test_unknown_words_are_an_error(words: list[str], expected: str) -> None:
    """The hint has the nearest topic, or the list of topics."""
    ended = help_for(*words)

    assert (Exit.USAGE, "") == (ended.code, ended.out)
    assert f"error: no page and no command contains {expected}" in ended.err


def test_unknown_schema_is_an_error() -> None:
    """The error lists the known documents."""
    ended = help_for("json", "zzz")

    assert (Exit.USAGE, "") == (ended.code, ended.out)
    assert "error: no document zzz; known: check, " in ended.err


def test_completion_of_topics() -> None:
    """Shells complete the names of topics."""
    environ = {
        "CERTFERRY_LANG": "en",
        "_CERTFERRY_COMPLETE": "zsh_complete",
        "COMP_WORDS": "certferry help exit",
        "COMP_CWORD": "2",
    }

    assert "exit-codes\nExit codes\n" in run_here([], environ).out
