"""Read the environment variables by which another ACME client, after a renewal, tells `certferry
hook` about the renewed files. Choose the declared certificates for these files.

acme.sh and lego set the paths of the certificate and of the key, certbot the directory of both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePath

from msgspec import Struct

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import base_name
from certferry.core.desired.certificate import DesiredCertificate, PemFiles
from certferry.errors import CertificateError, ConfigError, PlanRefused
from certferry.ports.source import CertificateSource
from certferry.text import Text
from certferry.values import replace

ACME_SH = "acme.sh"
CERTBOT = "certbot"


class Renewed(Struct, frozen=True):
    """A certificate just renewed by another client."""

    #: The client's name.
    client: str
    #: The certificate's name in certferry.
    name: str
    #: The client's files.
    files: PemFiles


class HookCaller(Struct, frozen=True):
    """How a client calls the hook."""

    #: The environment variables with the name, the fullchain's path and the key's path; for
    #: certbot, the variable with the directory of both files.
    variables: tuple[str, ...]
    #: The command that makes the client call the hook, for messages.
    called_by: str
    #: How long the client waits for the hook; None: for ever.
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
        # lego 4.9 kills a hook after two minutes, so 30 seconds are left for an orderly end.
        patience=timedelta(seconds=90),
    ),
}


def renewed_by(client: str, environ: Mapping[str, str]) -> Renewed:
    """Return the certificate that a client's variables name. Raise `ConfigError` if the client has
    not set all of the variables.
    """
    caller = CLIENTS[client]
    missing = [name for name in caller.variables if not environ.get(name)]
    if missing:
        hint = Text(
            "let {client} run certferry, because {client} sets the variables: {command}; by hand,"
            " run `certferry sync`"
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
    """Return the certificate that a client's variables name, for the first client in `CLIENTS`
    whose variables are all set. Return `None` if there is no such client.
    """
    for client, caller in CLIENTS.items():
        if all(environ.get(name) for name in caller.variables):
            return renewed_by(client, environ)
    return None


Versions = Callable[[str], Sequence[Version]]
"""Returns a lineage's versions, the newest first."""


def declared_for(
    files: PemFiles,
    declared: Sequence[DesiredCertificate],
    source: CertificateSource,
    versions: Versions,
) -> tuple[DesiredCertificate, ...]:
    """Return the declared certificates for which a client's renewed files are meant, perhaps none.

    The first of these cases that has declarations counts:

    1. declarations with the path of the same fullchain. In this case no file is read;
    2. declarations whose files hold the renewed certificate;
    3. declarations with exactly the renewed certificate's names, for which certferry issues the
       certificate itself. They are returned with the client's files.

    Raise `CertificateError` or `PlanRefused` if the renewed files are unusable, or if declared
    files are unusable and no case fits. Raise `PlanRefused` in the third case for another key type
    than declared, and if the state has a later certificate. Raise `ConfigError` if declared files
    hold another certificate for the same names.
    """
    same_files = tuple(
        certificate for certificate in declared if _is_same(certificate.files, files)
    )
    if same_files:
        return same_files
    renewed = source.read(files).certificate
    held, broken = _held(declared, source)
    copies = tuple(
        certificate for certificate, leaf in held if leaf.fingerprint == renewed.fingerprint
    )
    if copies:
        return copies
    for certificate, leaf in held:
        if _are_same(leaf.names, renewed.names):
            path = "" if certificate.files is None else certificate.files.fullchain
            problem = Text("{lineage}: {declared} contains a certificate other than {made}")
            hint = Text(
                "have the client write the declared file before it runs the hook (acme.sh:"
                " --fullchain-file), or {advice}"
            )
            raise ConfigError(
                problem.filled(lineage=certificate.lineage, declared=path, made=files.fullchain),
                hint=hint.filled(advice=how_to_declare(files)),
            )
    wanted = [w for w in declared if w.files is None and _are_same(w.names, renewed.names)]
    for certificate in wanted:
        _must_be_as_desired(certificate, renewed)
        _must_be_the_newest(certificate, renewed, files, versions)
    if broken and not wanted:
        raise broken[0]
    return tuple(replace(certificate, names=(), dns="", files=files) for certificate in wanted)


def how_to_declare(files: PemFiles) -> Text:
    """Return the advice to declare a client's files, as a part of a hint."""
    return Text(
        'declare it under [[certificates]]: fullchain = "{fullchain}" and privkey = "{privkey}"'
    ).filled(fullchain=files.fullchain, privkey=files.privkey)


def _is_same(declared: PemFiles | None, files: PemFiles) -> bool:
    """Return whether both name the same fullchain. The paths of the keys do not count: a key at
    another path may be a copy.
    """
    return declared is not None and PurePath(declared.fullchain) == PurePath(files.fullchain)


def _are_same(names: Collection[str], others: Collection[str]) -> bool:
    return {name.lower() for name in names} == {name.lower() for name in others}


def _held(
    declared: Sequence[DesiredCertificate], source: CertificateSource
) -> tuple[list[tuple[DesiredCertificate, Certificate]], list[CertificateError | PlanRefused]]:
    """Return each declaration with usable files, together with the certificate in the files. Also
    return the errors of unusable files.
    """
    held = []
    broken: list[CertificateError | PlanRefused] = []
    for certificate in declared:
        if certificate.files is not None:
            try:
                held.append((certificate, source.read(certificate.files).certificate))
            except (CertificateError, PlanRefused) as error:
                message = Text(
                    "no declared certificate is the renewed one; perhaps {lineage}, but {problem}"
                )
                problem = message.filled(lineage=certificate.lineage, problem=error.message)
                broken.append(type(error)(problem, hint=error.hint))
    return held, broken


def _must_be_as_desired(desired: DesiredCertificate, renewed: Certificate) -> None:
    """Raise `PlanRefused` for a key type other than the declared type. Otherwise each run would
    replace the certificate that the hook deployed, and each hook the certificate of the run.
    """
    if renewed.key_type != desired.key_type:
        problem = Text("{lineage}: the key is {had}; declared: {wanted}")
        raise PlanRefused(
            problem.filled(
                lineage=desired.lineage, had=renewed.key_type, wanted=desired.key_type.value
            ),
            hint=Text(
                "have the client make a key of the declared type (acme.sh: --keylength; certbot"
                " and lego: --key-type), or set `key_type` to the present type"
            ),
        )


def _must_be_the_newest(
    desired: DesiredCertificate, renewed: Certificate, files: PemFiles, versions: Versions
) -> None:
    """Raise `PlanRefused` if the state has a later certificate. Otherwise a hook that is called
    again for old files would undo a renewal.
    """
    latest = max((v.certificate.not_before for v in versions(desired.lineage)), default=None)
    if latest is not None and latest > renewed.not_before:
        message = Text(
            "{lineage}: {path} contains a certificate of {made}, but a later certificate of"
            " {latest} exists"
        )
        hint = Text(
            "certferry has renewed the certificate since: switch it off in the client, or {advice}"
        )
        facts = {"path": files.fullchain, "made": renewed.not_before, "latest": latest}
        raise PlanRefused(
            message.filled(lineage=desired.lineage, **facts),
            hint=hint.filled(advice=how_to_declare(files)),
        )
