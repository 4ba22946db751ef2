"""The bucket that the settings name for the state."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from certferry.adapters.state.connect import empty_state
from certferry.config.mistakes import config_error
from certferry.config.model import Settings
from certferry.errors import ConfigError, how_to_install_with
from certferry.ports.objects import ObjectStore
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.accounts import AccountNotes, Paces, VendorAccounts

_KINDS = {"kodo": "qiniu"}
"""The types of the accounts that have buckets, by what stands before their names in `url`."""


def objects_of(settings: Settings) -> ObjectStore:
    """Open the bucket of the state. Sends nothing. Raises `ConfigError`."""
    parts = urlsplit(str(settings.state.database))
    prefix = parts.path.strip("/")
    if parts.scheme in _KINDS:
        # What an account remembers is in the state, which is not there yet.
        accounts = VendorAccounts(
            settings,
            lambda label: AccountNotes(empty_state, label, is_kept=False),
            run=Run(),
            paces=Paces(),
            language="en",
        )
        return accounts.bucket(_account(settings, parts.scheme), parts.netloc, prefix)
    if parts.scheme != "s3":
        said = Text("there are no buckets at {beginning}; they are at kodo:// and s3://")
        problem = said.filled(beginning=f"{parts.scheme}://")
        raise config_error([settings.state.place.mistake("url", problem)])
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        from certferry.adapters.s3.objects import S3Objects
    except ModuleNotFoundError as missing:
        if missing.name != "obstore":
            raise
        said = Text("the library for buckets of S3 is not installed")
        raise ConfigError(said, hint=how_to_install_with("s3")) from missing
    endpoint, region = options.get("endpoint", ""), options.get("region", "")
    return S3Objects(parts.netloc, prefix, endpoint=endpoint, region=region)


def _account(settings: Settings, scheme: str) -> str:
    """Return the label of the account that has the bucket."""
    accounts = [one.label for one in settings.accounts.values() if one.type == _KINDS[scheme]]
    named = settings.state.account
    if named in accounts:
        return str(named)
    if named is None and len(accounts) == 1:
        return accounts[0]
    problem = Text("there is no account {label} that has buckets", label=named)
    if named is None and accounts:
        problem = Text("several accounts have buckets ({labels}): name one, `account`")
        problem = problem.filled(labels=accounts)
    elif named is None:
        problem = Text("no account under [accounts] has buckets of this kind")
    raise config_error([settings.state.place.mistake("account" if named else "url", problem)])
