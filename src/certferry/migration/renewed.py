"""What other ACME clients pass to the command that they run after a renewal.

acme.sh exports the paths of its own files, certbot the lineage's directory, lego the two files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePath

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import base_name
from certferry.core.desired.certificate import DesiredCertificate, PemFiles
from certferry.errors import CertificateError, ConfigError, PlanRefused
from certferry.ports.source import CertificateSource
from certferry.text import Text

ACME_SH = "acme.sh"
CERTBOT = "certbot"
QINIU = "qiniu"
"""No client: the mode in which every certificate that is deployed to Qiniu is synced."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate that a client has just renewed, by the client's name and files for it."""

    client: str
    name: str
    files: PemFiles


@dataclass(frozen=True, slots=True)
class HookCaller:
    """A client, its variables (name, fullchain, key), what makes it run the hook, for how long."""

    variables: tuple[str, ...]
    called_by: str
    patience: timedelta | None = None


CLIENTS: Mapping[str, HookCaller] = {
    ACME_SH: HookCaller(
        ("Le_Domain", "CERT_FULLCHAIN_PATH", "CERT_KEY_PATH"),
        'acme.sh --install-cert -d NAME … --reloadcmd "certferry hook acme.sh"',
    ),
    CERTBOT: HookCaller(
        ("RENEWED_LINEAGE",), 'certbot renew --deploy-hook "certferry hook certbot"'
    ),
    "lego": HookCaller(
        ("LEGO_CERT_DOMAIN", "LEGO_CERT_PATH", "LEGO_CERT_KEY_PATH"),
        'lego … renew --renew-hook "certferry hook lego"',
        # lego 4.9 kills a hook after two minutes; some are left to end in order.
        patience=timedelta(seconds=90),
    ),
}


def renewed_by(client: str, environ: Mapping[str, str]) -> Renewed:
    """Read a client's variables. Raises `ConfigError` when it has not set all of them."""
    caller = CLIENTS[client]
    missing = [name for name in caller.variables if not environ.get(name)]
    if missing:
        hint = Text(
            "this is for {client} to run, with its variables: {command}; by hand, run"
            " `certferry sync`"
        )
        raise ConfigError(
            Text("{client} has not set {missing}", client=client, missing=missing),
            hint=hint.filled(client=client, command=caller.called_by),
        )
    name, *files = (environ[name] for name in caller.variables)
    if client == CERTBOT:
        name, files = Path(name).name, [f"{name}/fullchain.pem", f"{name}/privkey.pem"]
    return Renewed(client, base_name(name), PemFiles(*(str(Path(f).absolute()) for f in files)))


def renewed_by_any(environ: Mapping[str, str]) -> Renewed | None:
    """Read the variables of the client that runs this; `None` where none has set its own."""
    for client, caller in CLIENTS.items():
        if all(environ.get(name) for name in caller.variables):
            return renewed_by(client, environ)
    return None


Versions = Callable[[str], Sequence[Version]]
"""A lineage → its certificates so far."""


def declared_for(
    files: PemFiles,
    declared: Sequence[DesiredCertificate],
    source: CertificateSource,
    versions: Versions,
) -> tuple[DesiredCertificate, ...]:
    """Return the declared certificates that a client's files are meant for, if any.

    Meant are those with the same files; else with files of the same certificate; else with exactly
    its names, where one that certferry would issue is taken from the client instead.

    Raises `CertificateError` and `PlanRefused` when the files cannot be taken, are not as desired
    or not the newest; `ConfigError` when declared files hold another certificate for the names.
    """
    same_files = tuple(one for one in declared if _is_same(one.files, files))
    if same_files:
        return same_files
    renewed = source.read(files).certificate
    held, broken = _held(declared, source)
    copies = tuple(one for one, found in held if found.fingerprint == renewed.fingerprint)
    if copies:
        return copies
    for one, found in held:
        if _are_same(found.names, renewed.names):
            path = "" if one.files is None else one.files.fullchain
            problem = Text("{lineage}: {declared} holds another certificate than {made}")
            hint = Text(
                "have the client write the declared file before it runs the hook (acme.sh:"
                " --fullchain-file), or {advice}"
            )
            raise ConfigError(
                problem.filled(lineage=one.lineage, declared=path, made=files.fullchain),
                hint=hint.filled(advice=how_to_declare(files)),
            )
    wanted = [w for w in declared if w.files is None and _are_same(w.names, renewed.names)]
    for one in wanted:
        _must_be_as_desired(one, renewed)
        _must_be_the_newest(one, renewed, files, versions)
    if broken and not wanted:
        raise broken[0]
    return tuple(replace(one, names=(), dns="", files=files) for one in wanted)


def how_to_declare(files: PemFiles) -> Text:
    """Return how a client's files are declared."""
    return Text(
        'declare it under [[certificates]]: fullchain = "{fullchain}" and privkey = "{privkey}"'
    ).filled(fullchain=files.fullchain, privkey=files.privkey)


def _is_same(declared: PemFiles | None, files: PemFiles) -> bool:
    """Compare the fullchain alone: a key that is declared elsewhere may be a copy."""
    return declared is not None and PurePath(declared.fullchain) == PurePath(files.fullchain)


def _are_same(names: Collection[str], others: Collection[str]) -> bool:
    return {name.lower() for name in names} == {name.lower() for name in others}


def _held(
    declared: Sequence[DesiredCertificate], source: CertificateSource
) -> tuple[list[tuple[DesiredCertificate, Certificate]], list[CertificateError | PlanRefused]]:
    """Return what declared files hold, and what is wrong with the others."""
    held = []
    broken: list[CertificateError | PlanRefused] = []
    for one in declared:
        if one.files is not None:
            try:
                held.append((one, source.read(one.files).certificate))
            except (CertificateError, PlanRefused) as error:
                said = Text(
                    "no declared certificate is the renewed one; {lineage} may be meant, but"
                    " {problem}"
                )
                problem = said.filled(lineage=one.lineage, problem=error.message)
                broken.append(type(error)(problem, hint=error.hint))
    return held, broken


def _must_be_as_desired(one: DesiredCertificate, renewed: Certificate) -> None:
    """Refuse another kind of key: runs and hooks would replace each other's for ever."""
    if renewed.key_type != one.key_type:
        problem = Text("{lineage}: the key is {had}; asked for: {wanted}")
        raise PlanRefused(
            problem.filled(lineage=one.lineage, had=renewed.key_type, wanted=one.key_type.value),
            hint=Text(
                "have the client make such a key (acme.sh: --keylength; certbot and lego:"
                " --key-type), or declare `key_type` as it is"
            ),
        )


def _must_be_the_newest(
    one: DesiredCertificate, renewed: Certificate, files: PemFiles, versions: Versions
) -> None:
    """Refuse an older one: a hook that is run again would bring back what was replaced since."""
    latest = max((v.certificate.not_before for v in versions(one.lineage)), default=None)
    if latest is not None and latest > renewed.not_before:
        said = Text(
            "{lineage}: {path} holds a certificate of {made}, and there is a later one of {latest}"
        )
        hint = Text("certferry has renewed it since: switch it off in the client, or {advice}")
        facts = {"path": files.fullchain, "made": renewed.not_before, "latest": latest}
        raise PlanRefused(
            said.filled(lineage=one.lineage, **facts),
            hint=hint.filled(advice=how_to_declare(files)),
        )
