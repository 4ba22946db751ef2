"""The words of other clients, and what is meant by them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from certferry.text import Text

FAMILIAR = {
    "apply": "sync",
    "certificates": "status",
    "certonly": "sync",
    "cron": "schedule install",
    "delete": "remove",
    "deploy": "sync",
    "install": "sync",
    "install-cert": "export",
    "install-cronjob": "schedule install",
    "installcert": "export",
    "issue": "sync",
    "list": "status",
    "log": "history",
    "ls": "status",
    "obtain": "sync",
    "register": "sync",
    "run": "sync",
    "setup": "init",
    "show_account": "account show",
    "test": "doctor",
    "validate": "doctor",
    "version": "--version",
}
"""What operators of other clients type, as a command or after two dashes, and the words for it
here. None of them runs: an alias of `deploy`, for instance, would order what is due as well.
"""

RENEW = frozenset({"renew", "renew-all", "renew_all", "renewall"})
"""What orders only what is due in other clients, so that it is `sync` here, and not its --renew."""


def familiar_word(words: Sequence[str], familiar: Mapping[str, str] = FAMILIAR) -> Text | None:
    """Return what to run for a word of another client; a certificate's name may follow it."""
    word, *rest = words
    if word in RENEW and familiar:
        name = next((one for one in rest if not one.startswith("-")), "NAME")
        return Text(
            "run `certferry sync`, which renews what is due; `certferry sync --renew {name}` orders"
            " one certificate now, due or not",
            name=name,
        )
    if word not in familiar:
        return None
    return Text("run `{command}`", command=f"certferry {familiar[word]}")
