"""Open the bucket that holds the state."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from certferry.adapters.state.connect import empty_state
from certferry.config.mistakes import config_error
from certferry.config.model import Settings
from certferry.config.tables import must_be_of_a_bucket
from certferry.errors import ConfigError
from certferry.extras import how_to_install_with
from certferry.ports.objects import ObjectStore
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.accounts import AccountNotes, Paces, VendorAccounts
from certferry.wiring.registry import BUCKETS


def objects_of(settings: Settings) -> ObjectStore:
    """Open the bucket of the state. Sends nothing. Raises `ConfigError`."""
    parts = urlsplit(str(settings.state.database))
    prefix = parts.path.strip("/")
    if BUCKETS.get(parts.scheme):
        # An account's notes belong in the state. The state is not open yet, so the notes stay in
        # memory.
        accounts = VendorAccounts(
            settings,
            lambda label: AccountNotes(empty_state, label, is_kept=False),
            run=Run(),
            paces=Paces(),
            language="en",
        )
        return accounts.bucket(_account(settings, parts.scheme), parts.netloc, prefix)
    try:
        must_be_of_a_bucket(str(settings.state.database), BUCKETS)
    except ConfigError as wrong:
        raise config_error([settings.state.place.mistake("url", wrong.message)]) from None
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        from certferry.adapters.s3.objects import S3Objects
    except ModuleNotFoundError as missing:
        if missing.name != "obstore":
            raise
        message = Text("the library for buckets of S3 is not installed")
        raise ConfigError(message, hint=how_to_install_with("s3")) from missing
    endpoint, region = options.get("endpoint", ""), options.get("region", "")
    return S3Objects(parts.netloc, prefix, endpoint=endpoint, region=region)


def _account(settings: Settings, scheme: str) -> str:
    """Return the label of the account with the keys for the bucket. Raises `ConfigError` unless one
    account is named or is the only account of the type.
    """
    accounts = [
        account.label for account in settings.accounts.values() if account.type == BUCKETS[scheme]
    ]
    named = settings.state.account
    if named in accounts:
        return str(named)
    if named is None and len(accounts) == 1:
        return accounts[0]
    problem = Text("no account {label} with buckets exists", label=named)
    if named is None and accounts:
        problem = Text("several accounts have buckets ({labels}): choose one with `account`")
        problem = problem.filled(labels=accounts)
    elif named is None:
        problem = Text("no account under [accounts] has buckets of this kind")
    raise config_error([settings.state.place.mistake("account" if named else "url", problem)])
