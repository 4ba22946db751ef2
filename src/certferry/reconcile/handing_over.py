"""A call that is given a private key: nothing that is said of its failure repeats the key.

A service may quote what it was sent, in any spelling, and no mask knows every spelling. So the
words of a service are withheld as a whole, and what an adapter says itself is searched for the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from certferry.core.redaction import Secret, hold_pieces
from certferry.errors import CertferryError, TargetRejected
from certferry.text import Text, own_words

_WORDS = Text("[words withheld: they may quote the private key]")
_MESSAGE = Text("what was said of it is withheld: it quotes the private key")


@contextmanager
def without_key(key: Secret, *, withholds_words: bool) -> Iterator[None]:
    """Let errors leave a `with` block without the key. With `withholds_words` they lose whatever
    they quote; a program's words stay, since the program is the operator's own.
    """
    try:
        yield
    except CertferryError as error:
        withheld = partial(_without_key, key=key, withholds_words=withholds_words)
        raise error.reworded(withheld) from None


def _without_key(said: Text, *, key: Secret, withholds_words: bool) -> Text:
    if withholds_words:
        said = own_words(said, _WORDS)
    return _MESSAGE if hold_pieces(str(said), [key]) else said


def must_not_repeat(key: Secret, remote_id: str) -> None:
    """Raise `TargetRejected` for an id that repeats the key: ids are stored, and shown."""
    if hold_pieces(remote_id, [key]):
        said = Text("the target took the certificate under an id that repeats the private key")
        raise TargetRejected(said, hint=Text("report this to the target's support"))
