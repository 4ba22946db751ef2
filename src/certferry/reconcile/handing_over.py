"""Removal of the private key from the error of a failed upload or delivery.

A service may quote the sent key in any spelling, and masks recognise only known spellings.
Therefore a service's words are withheld entirely, and an adapter's own sentences are searched for
the key.
"""

from __future__ import annotations

from certferry.core.redaction import Secret, hold_pieces
from certferry.errors import CertferryError
from certferry.text import Text, own_words

_WORDS = Text("[words withheld: they may quote the private key]")
_MESSAGE = Text("the message is withheld: it quotes the private key")


def without_key(error: CertferryError, key: Secret, *, withholds_words: bool) -> CertferryError:
    """Return a copy of the error in which every sentence with a piece of the key is replaced.

    With `withholds_words`, as for services, all quoted words are removed as well. The words of an
    operator's own program are kept.
    """

    def worded(sentence: Text) -> Text:
        sentence = own_words(sentence, _WORDS) if withholds_words else sentence
        return _MESSAGE if hold_pieces(str(sentence), [key]) else sentence

    return error.reworded(worded)
