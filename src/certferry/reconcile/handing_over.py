"""Removal of the private key from the error of a failed upload or delivery.

A service may quote the key in a spelling that a search for the key misses. Therefore all words
quoted from a service are withheld. The other sentences are searched for the key.
"""

from __future__ import annotations

from certferry.core.redaction import Secret, hold_pieces
from certferry.errors import CertferryError
from certferry.text import Text, own_words

_WORDS = Text("[words withheld: they may quote the private key]")
_MESSAGE = Text("the message is withheld: it quotes the private key")


def without_key(error: CertferryError, key: Secret, *, withholds_words: bool) -> CertferryError:
    """Return a copy of the error. A fixed sentence replaces every sentence with a piece of the key.

    With `withholds_words`, quoted words are replaced first. Callers set the flag for services, and
    not for an operator's own files and programs.
    """

    def worded(sentence: Text) -> Text:
        sentence = own_words(sentence, _WORDS) if withholds_words else sentence
        return _MESSAGE if hold_pieces(str(sentence), [key]) else sentence

    return error.reworded(worded)
