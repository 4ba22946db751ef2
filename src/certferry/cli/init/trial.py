"""Keys that were just typed into `certferry init`, tried at their service at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from certferry.cli.init import text
from certferry.config.document import Document
from certferry.config.load import load_before
from certferry.config.propose import NewAccount, with_accounts
from certferry.core.secret import Secret
from certferry.errors import (
    CertferryError,
    ClockWrong,
    ConfigError,
    DnsAccessDenied,
    TargetAccessDenied,
)
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text
from certferry.wiring.key_check import let_in

_ASK_AGAIN = (ConfigError, DnsAccessDenied, TargetAccessDenied, ClockWrong)
"""What other keys, or the right time, would mend. Whatever else fails says nothing of the keys."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries the keys of one account after the other, by calls that read alone."""

    given: Document
    config: Path
    environ: Mapping[str, str]
    console: Console

    def takes(self, account: NewAccount, fresh: Mapping[str, Secret]) -> bool:
        """See `keys.Takes`. A service that does not answer now has not refused the keys."""
        say = self.console.voice.say
        self.console.remark(
            [line(say(Text("Checking the keys of {account} …", account=account.label)))]
        )
        environ = {**self.environ, **{name: key.reveal() for name, key in fresh.items()}}
        try:
            # They stand in no file yet: what is wrong with them is told without one.
            document = replace(with_accounts(self.given, [account]), path=None)
            settings = load_before(document, self.config, environ)
            was_asked = let_in(settings, account.label, language=self.console.voice.language)
        except _ASK_AGAIN as error:
            self.console.remark(text.complaint(error.message, error.hint, self.console.voice))
            return False
        except CertferryError as error:
            said = Text("the keys could not be checked: {problem}", problem=error.message)
            self.console.remark(text.warned([said], self.console.voice))
            return True
        said = Text("{account} accepts the keys.", account=account.label)
        if not was_asked:
            said = Text(
                "{account} cannot be asked for that yet: `certferry sync --rehearse` tries it"
                " without counting.",
                account=account.label,
            )
        self.console.remark([line(say(said))])
        return True
