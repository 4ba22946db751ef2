"""Recognise a wrong text that an operator pasted in place of a key, before anything is sent.

Each service has a table with the forms of wrong texts. `KEYS.must_fit(token=token)` raises an error
for a text of such a form:

    KEYS = KeyForms(SERVICE, Text("make a token at …"), (Mistaken("token", "^$", EMPTY),))
"""

from __future__ import annotations

import re

from msgspec import Struct

from certferry.errors import ConfigError
from certferry.text import Text

EMPTY = Text("is empty")


class Mistaken(Struct, frozen=True):
    """A kind of wrong text pasted in place of a key, such as a key of another service."""

    #: The settings that may hold such a text, separated by spaces.
    settings: str
    #: A regular expression, searched for in the setting.
    pattern: str
    #: The end of a sentence that begins with the setting.
    problem: Text
    #: The next step, if the service's usual hint does not fit.
    hint: Text | None = None


class KeyForms(Struct, frozen=True):
    """The forms of wrong texts for the keys of one service. The first match decides."""

    #: The service's name in sentences about the account.
    service: Text | str
    #: The usual next step.
    hint: Text
    #: The kinds of wrong texts, in the order of the search.
    mistaken: tuple[Mistaken, ...]

    def must_fit(self, **keys: str) -> None:
        """Raise `ConfigError` for a mistaken text; `keys` maps settings to stripped values."""
        for row in self.mistaken:
            for setting in row.settings.split():
                if re.search(row.pattern, keys[setting]):
                    words = Text("`{key}` of the {service} account {problem}")
                    raise ConfigError(
                        words.filled(key=setting, service=self.service, problem=row.problem),
                        hint=row.hint or self.hint,
                    )
