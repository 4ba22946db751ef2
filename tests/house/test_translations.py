"""Every sentence has its translation, with the same places, and the catalogues are up to date."""

from __future__ import annotations

import ast
import re
import string
from functools import cache

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

from certferry.cli.commands import CLICK
from certferry.present.language import LANGUAGES as SPOKEN
from tests.house import translations
from tests.house.tree import ROOT

UPDATE = "run scripts/translations, translate what is new in certferry.po, and run it again"

CHINESE = re.compile(r"[\u4e00-\u9fff]")

# Sentences that read the same in both languages: places, commands, punctuation.
LETTERS = re.compile(r"[A-Za-z]{2}")
SAME = {
    "DNSPod token",
    "chmod 600 {path}",
    "{count} of {all}",
    "acme.sh --deploy -d NAME --deploy-hook certferry",
}

NAMES = re.compile(r"\b(certferry|UTC)\b")
"""What templates show that is the same in every language."""

UNCHANGED = "证书未变更,跳过同步"
"""How a run without changes begins; monitors look for it as it is."""


def places(sentence: str) -> list[str]:
    """Return the named places of a template, in alphabetical order."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None)


def messages(language: str) -> list[Message]:
    """Return the messages of a catalogue, without its header."""
    return [message for message in translations.read(language) if message.id]


def ids(found: object) -> set[str]:
    assert isinstance(found, Catalog)
    return {str(message.id) for message in found if message.id}


@cache
def of_the_sources() -> set[str]:
    """Return every sentence of the sources. Reading them takes a second."""
    return ids(translations.extract())


def test_there_is_a_catalogue_for_each_language_but_english() -> None:
    """What `--lang` offers is there, and nothing else."""
    catalogues = {path.name for path in translations.LOCALE.iterdir() if path.is_dir()}

    assert catalogues == set(translations.LANGUAGES) == set(SPOKEN) - {"en"}


def test_the_template_has_the_sentences_of_the_sources() -> None:
    """Extracting again finds what was extracted last: nothing new, and nothing that is gone."""
    with translations.TEMPLATE.open("rb") as file:
        written = ids(read_po(file))
    sources = of_the_sources()

    assert (set(), set()) == (sources - written, written - sources), UPDATE


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_every_sentence_is_translated_and_nothing_else_is(language: str) -> None:
    """A catalogue has a translation for each sentence of the sources, sure and in use."""
    catalog = translations.read(language)
    translated = {str(m.id) for m in messages(language) if m.string}

    assert set() == of_the_sources() - translated, UPDATE
    assert set() == translated - of_the_sources(), UPDATE
    assert [] == [m.id for m in messages(language) if m.fuzzy]
    assert [] == list(catalog.obsolete)


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_a_translation_has_the_places_of_its_sentence(language: str) -> None:
    """Each named place of a template is in its translation, once, and no other."""
    different = [m.id for m in messages(language) if places(str(m.id)) != places(str(m.string))]

    assert [] == different


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_a_translation_keeps_what_is_typed(language: str) -> None:
    """Commands and settings in backquotes are the same in every language."""
    quoted = re.compile(r"`[^`]*`")

    lost = [
        m.id
        for m in messages(language)
        if sorted(quoted.findall(str(m.id))) != sorted(quoted.findall(str(m.string)))
    ]

    assert [] == lost


def test_chinese_is_chinese() -> None:
    """No sentence was left in English; only what has no words reads the same in both."""
    english = []
    for message in messages("zh"):
        words = re.sub(r"\{\w+\}", "", str(message.id))
        same = message.id in SAME
        if LETTERS.search(words) and not same and not CHINESE.search(str(message.string)):
            english.append((message.id, message.string))

    assert [] == english


def test_chinese_has_a_word_for_the_end_and_a_word_for_what_is_past() -> None:
    """到期 is the moment of an end, 过期 what has ended; what is due for renewal is neither."""
    rules = {
        "过期": re.compile(r"expired|has ended"),
        "到期": re.compile(r"[Ee]xpir|\b[Ee]nd|soonest"),
    }
    mixed = [
        str(message.string)
        for message in messages("zh")
        for word, english in rules.items()
        if word in str(message.string) and not english.search(str(message.id))
    ]
    assert [] == mixed


def test_chinese_commas_are_full_width() -> None:
    """A sentence that operators send to a vendor's support reads as one of theirs."""
    half = re.compile(r"[\u4e00-\u9fff],|,[\u4e00-\u9fff]")
    said = [str(message.string) for message in messages("zh")]

    assert [] == [one for one in said if half.search(one.removeprefix(UNCHANGED))]


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_every_sentence_of_click_is_translated(language: str) -> None:
    """What an operator can meet of the click that is installed is there, in its every number."""
    known = translations.read(language, CLICK)
    missing = [
        message.id
        for message in translations.extract_click()
        if message.id and not ((found := known.get(message.id)) and all(forms(found)))
    ]

    assert [] == missing, UPDATE


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_a_translation_of_click_names_nothing_that_click_does_not_fill_in(language: str) -> None:
    """Its places are among those of the sentence; a word that click leaves in English may go."""
    for message in translations.read(language, CLICK):
        allowed = {place for sentence in ids_of(message) for place in places(sentence)}

        assert not {place for said in forms(message) for place in places(said)} - allowed


def forms(message: Message) -> tuple[str, ...]:
    """Return the translations of a message, one for each number."""
    said = message.string or ""
    return (said,) if isinstance(said, str) else tuple(said)


def ids_of(message: Message) -> tuple[str, ...]:
    """Return the sentences of a message, one for each number."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


@pytest.mark.parametrize("domain", translations.DOMAINS)
def test_what_is_shipped_is_what_translators_wrote(domain: str) -> None:
    """The compiled catalogue is made from the one in the checkout: no step is left to do."""
    for language in translations.LANGUAGES:
        shipped = translations.catalogue(language, domain).with_suffix(".mo").read_bytes()

        assert translations.mo_of(translations.read(language, domain)) == shipped, UPDATE


def test_a_catalogue_is_the_same_from_every_version_of_babel() -> None:
    """No file names the version that wrote it; a newer one on a new machine changes nothing."""
    for language in translations.LANGUAGES:
        catalogue = translations.read(language)

        assert b"Babel" not in translations.mo_of(catalogue)
        assert b"Babel" not in translations.po_of(translations.updated(language))


def test_sentences_in_pieces_are_found_whole() -> None:
    """Strings that are written one after the other are one sentence, as Python reads them."""
    tree = ast.parse('Text("a {b}"\n  " c", b=Text("d"))\nMeaning("words", "advice", E)\nText(x)')

    assert {"a {b} c", "d", "words", "advice"} == set(translations.sentences(tree))


def test_sentences_of_templates_are_found() -> None:
    """Wherever a template says something: in text, attributes, conditions and macros."""
    found = translations.template_sentences(
        '{% macro m() %}<a title="{{ say("a {b}", b=say("c")) }}">{% endmacro %}'
        "{{ say('d') if say('e') else text(f) }}"
    )

    assert {"a {b}", "c", "d", "e"} == set(found)
    with pytest.raises(ValueError, match="line 2"):
        list(translations.template_sentences("{{ say('d') }}\n{{ say(d) }}"))


def test_a_page_says_nothing_that_is_not_in_the_catalogue() -> None:
    """No template has words of its own: its letters are in `say`, in markup, or in blocks."""
    words = re.compile(r"[A-Za-z]{2}")
    said = {
        path.name: [
            one for one in visible_words(path.read_text(encoding="utf-8")) if words.search(one)
        ]
        for path in translations.templates()
    }

    assert {} == {name: found for name, found in said.items() if found}


def visible_words(source: str) -> list[str]:
    """Return what a template shows as it stands, but names and commands in `<code>`."""
    for markup in (r"\{#.*?#\}", r"\{%.*?%\}", r"\{\{.*?\}\}", r"<code>.*?</code>", r"<[^>]*>"):
        source = re.sub(markup, " ", source, flags=re.DOTALL)
    return NAMES.sub("", source).split()


def test_updating_keeps_translations_and_guesses_nothing() -> None:
    """What is translated stays so, in the same order each time; what is made is reproducible."""
    once = translations.po_of(translations.updated("zh"))

    assert once == translations.po_of(translations.updated("zh"))
    assert "证书未变更,跳过同步".encode() in once


def test_the_catalogues_are_shipped() -> None:
    """Nothing keeps the catalogues out of the wheel or of git."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    assert not {"*.mo", "*.po", "*.pot"} & set(ignored)


def test_advice_to_renew_names_a_certificate() -> None:
    """Without a name, `sync --renew` orders every certificate at once: no sentence and no page says
    so, unless it says `--all`, which is asked for.
    """
    bare = re.compile(r"sync --renew(?! (?:\{|NAME|--all|staging))(?=[`\s])")
    pages = [*ROOT.glob("docs/reference/*.md"), *ROOT.glob("docs/how-to/*.md"), *ROOT.glob("R*.md")]

    said = [sentence for sentence in of_the_sources() if bare.search(sentence)]
    written = [page.name for page in pages if bare.search(page.read_text(encoding="utf-8"))]

    assert ([], []) == (said, written)
