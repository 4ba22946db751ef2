"""What other ACME clients tell the command that they run after a renewal.

acme.sh exports its own files before it runs `--reloadcmd` (not the ones that `--install-cert` has
just written, which hold the same); certbot names the lineage's directory under `live/`; lego names
the two files. Which names a certificate has is read in the certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from certferry.core.desired import PemFiles
from certferry.core.identifiers import base_name
from certferry.errors import ConfigError
from certferry.text import Text

ACME_SH = "acme.sh"
CERTBOT = "certbot"
QINIU = "qiniu"
"""No client: the mode in which every certificate that is deployed to Qiniu is synced."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate that a client has just renewed: whose it is, what it is called there, and the
    files that the client keeps it in.
    """

    client: str
    name: str
    files: PemFiles


@dataclass(frozen=True, slots=True)
class Client:
    """How a client speaks: the variables that it sets, with name, fullchain and key; certbot has
    one for all three. `called_by` is what makes it run the hook; `patience` how long it lets one
    run.
    """

    variables: tuple[str, ...]
    called_by: str
    patience: timedelta | None = None


CLIENTS: Mapping[str, Client] = {
    ACME_SH: Client(
        ("Le_Domain", "CERT_FULLCHAIN_PATH", "CERT_KEY_PATH"),
        'acme.sh --install-cert -d NAME … --reloadcmd "certferry hook acme.sh"',
    ),
    CERTBOT: Client(("RENEWED_LINEAGE",), 'certbot renew --deploy-hook "certferry hook certbot"'),
    "lego": Client(
        ("LEGO_CERT_DOMAIN", "LEGO_CERT_PATH", "LEGO_CERT_KEY_PATH"),
        'lego … renew --renew-hook "certferry hook lego"',
        # lego 4.9 kills a hook after two minutes; some are left to end in order.
        patience=timedelta(seconds=90),
    ),
}


def renewed_by(client: str, environ: Mapping[str, str]) -> Renewed:
    """Read what a client says. Raises `ConfigError` when it does not say all of it, as when a
    person runs the hook by hand.
    """
    speech = CLIENTS[client]
    missing = [name for name in speech.variables if not environ.get(name)]
    if missing:
        raise ConfigError(
            Text("{client} has not set {missing}", client=client, missing=missing),
            hint=Text(
                "this is for {client} to run, with its variables: {command}; by hand, run"
                " `certferry sync`",
                client=client,
                command=speech.called_by,
            ),
        )
    said = [environ[name] for name in speech.variables]
    if client == CERTBOT:
        [lineage] = said
        said = [Path(lineage).name, f"{lineage}/fullchain.pem", f"{lineage}/privkey.pem"]
    name, *files = said
    return Renewed(client, base_name(name), PemFiles(*(str(Path(f).absolute()) for f in files)))


def renewed_by_any(environ: Mapping[str, str]) -> Renewed | None:
    """Read what the client says that runs this; `None` where none has set its variables."""
    for client, speech in CLIENTS.items():
        if all(environ.get(name) for name in speech.variables):
            return renewed_by(client, environ)
    return None
