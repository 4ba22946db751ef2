"""A failed call that was given a private key: nothing that is said of the failure repeats the key.

A service may quote what it was sent, in any spelling, and no mask knows every spelling. So the
words of a service are withheld as a whole, and what an adapter says itself is searched for the key.
"""

from __future__ import annotations

from certferry.core.redaction import Secret, hold_pieces
from certferry.errors import CertferryError
from certferry.text import Text, own_words

_WORDS = Text("[words withheld: they may quote the private key]")
_MESSAGE = Text("what was said of it is withheld: it quotes the private key")


def without_key(error: CertferryError, key: Secret, *, withholds_words: bool) -> CertferryError:
    """Return an error without the key. With `withholds_words` it loses whatever it quotes; a
    program's words stay, since the program is the operator's own.
    """

    def worded(said: Text) -> Text:
        said = own_words(said, _WORDS) if withholds_words else said
        return _MESSAGE if hold_pieces(str(said), [key]) else said

    return error.reworded(worded)
