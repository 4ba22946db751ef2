"""What other ACME clients tell the command that they run after a renewal.

acme.sh exports its own files before it runs `--reloadcmd` (not the ones that `--install-cert` has
just written, which hold the same); certbot names the lineage's directory under `live/`; lego names
the two files. Which names a certificate has is read in the certificate; what certbot says of them
only tells whether the files are those that it means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from certferry.core.desired import PemFiles
from certferry.core.identifiers import base_name
from certferry.errors import ConfigError
from certferry.text import Text

ACME_SH = "acme.sh"
QINIU = "qiniu"
"""No client: the mode in which every certificate that is deployed to Qiniu is synced."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate that a client has just renewed: whose it is, what it is called there, the files
    that the client keeps it in, and where it says so the domains that these are for.
    """

    client: str
    name: str
    files: PemFiles
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """How a client speaks: the variables that it sets, and what they mean, as name, fullchain and
    key; `domains` is one more that it may set, with domains between spaces. `called_by` is what
    makes it run the hook; `patience` how long it lets a hook run.
    """

    variables: tuple[str, ...]
    meaning: Callable[..., tuple[str, str, str]]
    called_by: str
    domains: str = ""
    patience: timedelta | None = None


CLIENTS: Mapping[str, Client] = {
    ACME_SH: Client(
        ("Le_Domain", "CERT_FULLCHAIN_PATH", "CERT_KEY_PATH"),
        lambda domain, fullchain, privkey: (domain, fullchain, privkey),
        'acme.sh --install-cert -d NAME … --reloadcmd "certferry hook acme.sh"',
    ),
    "certbot": Client(
        ("RENEWED_LINEAGE",),
        lambda lineage: (
            Path(lineage).name,
            f"{lineage}/fullchain.pem",
            f"{lineage}/privkey.pem",
        ),
        'certbot renew --deploy-hook "certferry hook certbot"',
        domains="RENEWED_DOMAINS",
    ),
    "lego": Client(
        ("LEGO_CERT_DOMAIN", "LEGO_CERT_PATH", "LEGO_CERT_KEY_PATH"),
        lambda domain, fullchain, privkey: (domain, fullchain, privkey),
        'lego … renew --renew-hook "certferry hook lego"',
        # lego 4.9 kills a hook after two minutes; some are left to end in order.
        patience=timedelta(seconds=90),
    ),
}

MODES = (*CLIENTS, QINIU)


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
    name, *files = speech.meaning(*(environ[name] for name in speech.variables))
    return Renewed(
        client,
        base_name(name),
        PemFiles(*(str(Path(file).absolute()) for file in files)),
        tuple(environ.get(speech.domains, "").split()),
    )


def whoever_renewed(environ: Mapping[str, str]) -> Renewed | None:
    """Read what whichever client says that runs this, if one does."""
    for client, speech in CLIENTS.items():
        if all(environ.get(name) for name in speech.variables):
            return renewed_by(client, environ)
    return None
