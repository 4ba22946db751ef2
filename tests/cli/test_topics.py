"""`certferry help`: what is printed for each thing that may be asked for."""

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


def asked(*words: str, language: str = "en", columns: int = 80) -> Ended:
    return run_here(
        ["help", *words], {"CERTFERRY_LANG": language, "COLUMNS": str(columns), "PATH": ""}
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_topics_are_listed_with_their_titles(language: str) -> None:
    """Each that there is, in the language of the run, and how to get a schema."""
    ended = asked(language=language)

    assert (Exit.OK, "") == (ended.code, ended.err)
    rows = dict(re.findall(r"^  (\S+) +(.+)$", ended.out, re.MULTILINE))
    assert {topic: page.title for topic, page in pages(language).items()} == rows
    assert {"config", "json", "exit-codes", "codes", "qiniu", "backup"} <= set(rows)
    assert "certferry help json DOCUMENT" in ended.out


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("topic", pages("en"))
def test_every_topic_fits_its_terminal(topic: str, language: str) -> None:
    """Nothing but what is to be typed, and what is longer than a line by itself, is wider."""
    ended = asked(topic, language=language, columns=60)

    assert Exit.OK == ended.code
    assert pages(language)[topic].title == ended.out.splitlines()[0].replace("`", "")
    assert "](" not in ended.out.replace("`](", "")
    wide = [row for row in ended.out.splitlines() if width(row) > 60]
    assert [] == [row for row in wide if not row.startswith("    ") and " " in row.strip()]


def test_a_code_is_explained() -> None:
    """With cause and fix, wherever it is reported."""
    ended = asked("expired")

    assert Exit.OK == ended.code
    assert 4 == ended.out.count("`expired`\n  cause: ")
    assert 4 == ended.out.count("  what to do: ")
    assert "zone" not in ended.out


def test_every_code_of_a_service_is_explained() -> None:
    """Those that messages print beside a service's words, from the tables that messages are made
    of; each in the reader's language.
    """
    table, voices = installed(), {language: voice_in(language) for language in ("en", "zh")}
    families = (DNS_PROVIDERS, TARGETS, CHANNELS)
    adapters = [table.find(family, name) for family in families for name in table.names(family)]
    services = {one.called: one.codes for one in adapters if one.codes}

    assert {"Qiniu", "DNSPod", "Cloudflare", "Tencent Cloud", "DingTalk"} <= set(map(str, services))
    assert {"400611", "404001", "400322"} | {str(code) for code in MEANINGS} <= set(
        services[Text("Qiniu")]
    )
    for service, codes in services.items():
        for code, known in sampled([*codes.items()], 12):
            found = table.meanings_of(code)
            assert known == found[service]
            assert all(voice.say(known.advice) for voice in voices.values())
    for code, (language, voice) in product(("400611", "10004", "-1", "400322"), voices.items()):
        ended = asked(code, language=language)
        assert Exit.OK == ended.code
        (known,) = table.meanings_of(code).values()
        assert voice.say(known.advice) in " ".join(ended.out.split("\n"))


def test_a_code_of_two_services() -> None:
    """Each says whose it is."""
    said = asked("401").out

    assert "Qiniu, code 401: access_key and secret_key are not accepted\nhint: " in said
    assert "\n\nTelegram, code 401\nhint: " in said


def test_a_code_of_a_family() -> None:
    """As the message gives it, with what follows the dot."""
    assert "Tencent Cloud, code AuthFailure.SignatureFailure\nhint: compare" in (
        asked("AuthFailure.SignatureFailure").out
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
def test_the_words_of_an_error_lead_to_its_page(
    words: list[str], topic: str, language: str
) -> None:
    """As they are pasted, within others, and without quotes; to one page alone."""
    ended = asked(*words, language=language)

    assert (Exit.OK, asked(topic, language=language).out) == (ended.code, ended.out)


def test_every_word_leads_to_one_page() -> None:
    """The page that has it in code in its title or first paragraph. A number that a table explains
    is explained in two lines, which name the page.
    """
    found = {word: page for page in pages("en").values() for word in page.pasted}
    helped = {word: page for word, page in found.items() if page in about_words(word, "en")}

    assert {"400030", "400322", "400611", "400911", "404001", "612"} <= set(helped)
    for word, page in helped.items():
        assert [page] == about_words(word, "en")
        if installed().meanings_of(word):
            assert f"`certferry help {page.topic}`" in asked(word).out


def test_a_code_that_no_table_has() -> None:
    """No page with a name like it is offered for a number."""
    ended = asked("612345")

    assert Exit.USAGE == ended.code
    assert "the code 612345 is not explained here" in ended.err


def test_a_command_is_explained_by_its_own_help() -> None:
    """As with `--help`, also one of a group."""
    for command in (["sync"], ["state", "move"], ["console", "user", "add"]):
        by_help, by_option = (
            asked(*command),
            run_here([*command, "--help"], {"CERTFERRY_LANG": "en"}),
        )
        assert Exit.OK == by_help.code
        assert by_option.out == by_help.out
    assert "notify test" in asked("notify").out


# --- Any words find the part of a page that has them


@pytest.mark.parametrize(
    ("words", "language", "printed"),
    [
        ("nginx", "en", ("The console", "nginx, below a path", "console")),
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
def test_words_that_one_part_of_a_page_is_about(
    words: str, language: str, printed: tuple[str, str, str]
) -> None:
    """The part is printed under its page's title, with the way to the whole page; where no page of
    the run's language has the words, that of another one.
    """
    title, heading, topic = printed
    ended = asked(*words.split(), language=language)

    assert (Exit.OK, "") == (ended.code, ended.err)
    assert [title, "", heading] == ended.out.splitlines()[:3]
    assert f"`certferry help {topic}`" in ended.out


def test_words_that_many_pages_have() -> None:
    """Their parts are listed, the best first, as what to type."""
    ended = asked("wrong", "signature")

    rows = re.findall(r"^  certferry help (\S+) +(.+)$", ended.out, re.MULTILINE)
    assert Exit.OK == ended.code
    assert "Pages with the words:" == ended.out.splitlines()[0]
    assert {"bad-token", "qiniu"} <= {topic for topic, _ in rows[:3]}


def test_words_of_a_long_table() -> None:
    """Its rows that have the words are printed, and no others."""
    printed = asked("codes", "limits").out

    assert "`rate_limited`\n  exit: 1, again\n" in printed
    assert "ca_unavailable" not in printed


def test_words_of_a_command() -> None:
    """A search finds the help of the commands as well."""
    assert "\n  certferry help revoke  " in asked("keyCompromise").out


def test_a_word_of_another_client() -> None:
    """The command to run instead stands first, then the pages that have the word."""
    first, *others = asked("renew").out.splitlines()

    assert first.startswith("run `certferry sync`, which renews what is due")
    assert "Pages with the words:" in others


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_title_of_a_page_finds_it(language: str) -> None:
    """Every page is the first that what it is called finds."""
    texts = [part for page in pages(language).values() for part in sections_of(page)]

    found = {page.topic: search(page.title, texts).sections for page in pages(language).values()}

    assert {topic: topic for topic in found} == {
        topic: sections[0].topic for topic, sections in found.items()
    }


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_printed_as_it_is(name: str) -> None:
    """For a program to take."""
    assert schema(name) == json.loads(asked("json", name).out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["confg"], "'confg'\n\nhint: did you mean `config`?"),
        (["acount"], "'acount'\n\nhint: did you mean `account`?"),
        (["certonly"], "'certonly'\n\nhint: run `certferry sync`"),
        (["zzz", "qqq"], "'zzz qqq'\n\nhint: `certferry help` lists the topics"),
    ],
)
def test_what_is_not_there_is_a_mistake(words: list[str], said: str) -> None:
    """With what was probably meant."""
    ended = asked(*words)

    assert (Exit.USAGE, "") == (ended.code, ended.out)
    assert f"error: no page and no command contains {said}" in ended.err


def test_a_schema_that_is_not_there() -> None:
    """Those that there are are named."""
    ended = asked("json", "zzz")

    assert (Exit.USAGE, "") == (ended.code, ended.out)
    assert "error: no document zzz; known: check, " in ended.err


def test_topics_are_completed() -> None:
    """In a shell."""
    environ = {
        "CERTFERRY_LANG": "en",
        "_CERTFERRY_COMPLETE": "zsh_complete",
        "COMP_WORDS": "certferry help exit",
        "COMP_CWORD": "2",
    }

    assert "exit-codes\nExit codes\n" in run_here([], environ).out
