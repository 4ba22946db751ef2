"""The translations: complete, with the same placeholders, in up-to-date catalogues."""

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
"""Words of templates that are the same in every language."""

UNCHANGED = "证书未变更,跳过同步"
"""The beginning of a run without changes, unchanged for monitors."""


def places(sentence: str) -> list[str]:
    """Return the named placeholders of a template, in alphabetical order."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None)


def messages(language: str) -> list[Message]:
    """Return the messages of a catalogue, without its header."""
    return [message for message in translations.read(language) if message.id]


def ids(catalog: object) -> set[str]:
    assert isinstance(catalog, Catalog)
    return {str(message.id) for message in catalog if message.id}


@cache
def of_the_sources() -> set[str]:
    """Return every sentence of the sources. The extraction takes a second."""
    return ids(translations.extract())


def test_there_is_a_catalogue_for_each_language_but_english() -> None:
    """Catalogues and the languages of `--lang` agree."""
    catalogues = {path.name for path in translations.LOCALE.iterdir() if path.is_dir()}

    assert catalogues == set(translations.LANGUAGES) == set(SPOKEN) - {"en"}


def test_the_template_has_the_sentences_of_the_sources() -> None:
    """A new extraction gives the same sentences: none new and none gone."""
    with translations.TEMPLATE.open("rb") as file:
        in_template = ids(read_po(file))
    sources = of_the_sources()

    assert (set(), set()) == (sources - in_template, in_template - sources), UPDATE


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_every_sentence_is_translated(language: str) -> None:
    """A catalogue has a translation for exactly the sentences of the sources, sure and in use."""
    catalog = translations.read(language)
    translated = {str(m.id) for m in messages(language) if m.string}

    assert set() == of_the_sources() - translated, UPDATE
    assert set() == translated - of_the_sources(), UPDATE
    assert [] == [m.id for m in messages(language) if m.fuzzy]
    assert [] == list(catalog.obsolete)


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_a_translation_has_the_places_of_its_sentence(language: str) -> None:
    """Each named placeholder of a template is in its translation, once, and no other."""
    different = [m.id for m in messages(language) if places(str(m.id)) != places(str(m.string))]

    assert [] == different


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_a_translation_keeps_commands_and_settings(language: str) -> None:
    """Commands and settings in backquotes are the same in every language."""
    quoted = re.compile(r"`[^`]*`")

    lost = [
        m.id
        for m in messages(language)
        if sorted(quoted.findall(str(m.id))) != sorted(quoted.findall(str(m.string)))
    ]

    assert [] == lost


def test_chinese_is_chinese() -> None:
    """All sentences are translated; only sentences without words are the same in both languages."""
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
    """A sentence that operators send to a vendor's support reads like native Chinese."""
    half = re.compile(r"[\u4e00-\u9fff],|,[\u4e00-\u9fff]")
    translated = [str(message.string) for message in messages("zh")]

    assert [] == [
        sentence for sentence in translated if half.search(sentence.removeprefix(UNCHANGED))
    ]


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_every_sentence_of_click_is_translated(language: str) -> None:
    """Each sentence of the installed click that an operator may see has a translation, in every
    number.
    """
    catalog = translations.read(language, CLICK)
    missing = [
        message.id
        for message in translations.extract_click()
        if message.id and not ((entry := catalog.get(message.id)) and all(forms(entry)))
    ]

    assert [] == missing, UPDATE


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_a_translation_of_click_has_placeholders_of_click_alone(language: str) -> None:
    """The translation may leave out a placeholder for a word that click leaves in English."""
    for message in translations.read(language, CLICK):
        allowed = {place for sentence in ids_of(message) for place in places(sentence)}

        assert (
            not {place for translation in forms(message) for place in places(translation)} - allowed
        )


def forms(message: Message) -> tuple[str, ...]:
    """Return the translations of a message, one for each number."""
    translation = message.string or ""
    return (translation,) if isinstance(translation, str) else tuple(translation)


def ids_of(message: Message) -> tuple[str, ...]:
    """Return the sentences of a message, one for each number."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


@pytest.mark.parametrize("domain", translations.DOMAINS)
def test_the_shipped_catalogues_are_compiled_from_the_sources(domain: str) -> None:
    """The compiled catalogue is up to date with the catalogue in the checkout."""
    for language in translations.LANGUAGES:
        shipped = translations.catalogue(language, domain).with_suffix(".mo").read_bytes()

        assert translations.mo_of(translations.read(language, domain)) == shipped, UPDATE


def test_a_catalogue_is_the_same_from_every_version_of_babel() -> None:
    """Files leave out the version of Babel, so another version on a new machine gives the same
    files.
    """
    for language in translations.LANGUAGES:
        catalogue = translations.read(language)

        assert b"Babel" not in translations.mo_of(catalogue)
        assert b"Babel" not in translations.po_of(translations.updated(language))


def test_sentences_in_pieces_are_found_whole() -> None:
    """Adjacent strings are a single sentence, as Python reads them."""
    tree = ast.parse('Text("a {b}"\n  " c", b=Text("d"))\nMeaning("words", "advice", E)\nText(x)')

    assert {"a {b} c", "d", "words", "advice"} == set(translations.sentences(tree))


def test_sentences_of_templates_are_found() -> None:
    """Sentences are found in text, attributes, conditions and macros."""
    sentences = translations.template_sentences(
        '{% macro m() %}<a title="{{ say("a {b}", b=say("c")) }}">{% endmacro %}'
        "{{ say('d') if say('e') else text(f) }}"
    )

    assert {"a {b}", "c", "d", "e"} == set(sentences)
    with pytest.raises(ValueError, match="line 2"):
        list(translations.template_sentences("{{ say('d') }}\n{{ say(d) }}"))


def test_templates_have_no_words_of_their_own() -> None:
    """All letters are in `say`, in markup, or in blocks."""
    words = re.compile(r"[A-Za-z]{2}")
    words_of_templates = {
        path.name: [
            word for word in visible_words(path.read_text(encoding="utf-8")) if words.search(word)
        ]
        for path in translations.templates()
    }

    assert {} == {
        name: words_found for name, words_found in words_of_templates.items() if words_found
    }


def visible_words(source: str) -> list[str]:
    """Return the words that a template shows unchanged, without names and commands in `<code>`."""
    for markup in (r"\{#.*?#\}", r"\{%.*?%\}", r"\{\{.*?\}\}", r"<code>.*?</code>", r"<[^>]*>"):
        source = re.sub(markup, " ", source, flags=re.DOTALL)
    return NAMES.sub("", source).split()


def test_updating_keeps_translations() -> None:
    """Translations stay in the same order without guesses, and the result is reproducible."""
    once = translations.po_of(translations.updated("zh"))

    assert once == translations.po_of(translations.updated("zh"))
    assert "证书未变更,跳过同步".encode() in once


def test_the_catalogues_are_shipped() -> None:
    """The wheel and git have the catalogues."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    assert not {"*.mo", "*.po", "*.pot"} & set(ignored)


def test_advice_to_renew_names_a_certificate() -> None:
    """Without a name, `sync --renew` orders every certificate at once: sentences and pages give a
    name, or `--all` on purpose.
    """
    bare = re.compile(r"sync --renew(?! (?:\{|NAME|--all|staging))(?=[`\s])")
    pages = [*ROOT.glob("docs/reference/*.md"), *ROOT.glob("docs/how-to/*.md"), *ROOT.glob("R*.md")]

    sentences_found = [sentence for sentence in of_the_sources() if bare.search(sentence)]
    pages_found = [page.name for page in pages if bare.search(page.read_text(encoding="utf-8"))]

    assert ([], []) == (sentences_found, pages_found)
