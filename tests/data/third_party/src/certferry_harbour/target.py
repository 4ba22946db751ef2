"""Domains that Harbour serves.

API: https://harbour.example/api (made up).
Permissions: a token that may write certificates and domains.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from certferry.core.certificates.certificate import Certificate, CertificateBundle
from certferry.core.certificates.lineage import label_of, owner_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
)
from certferry.core.planning.choice import choose
from certferry.core.redaction import Secret
from certferry.errors import (
    CopyGone,
    TargetAccessDenied,
    TargetInUse,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.adapter import Context, Http, NoAnswer, Variable
from certferry.ports.target import DeployTarget, Scope
from certferry.text import Text

SERVICE = "Harbour"
ENVIRONMENT = (Variable("token", ("HARBOUR_TOKEN",), Text("the token of the Harbour account")),)

REQUESTS_PER_SECOND = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """An account at Harbour."""

    token: Secret
    api: Annotated[str, Text("the address of the API")] = "https://api.harbour.example"


def connect(settings: Settings, context: Context) -> DeployTarget:
    """See `ports.adapter.Adapter.connect`."""
    return Domains(settings, context.http(REQUESTS_PER_SECOND))


class Domains:
    """The domains of an account. Harbour applies each accepted change at once."""

    def __init__(self, settings: Settings, http: Http) -> None:
        self._settings = settings
        self._http = http

    def observe(self, scope: Scope) -> ObservedTarget:
        """See `ports.target.DeployTarget.observe`."""
        bound: dict[str, str | None] = self._ask("GET", "domains")
        chosen = choose(scope, bound)
        names = (*(scope.domains or ()), *chosen.wanted)
        return ObservedTarget(
            domains=tuple(_domain(name, bound) for name in names),
            excluded=tuple(chosen.excluded),
            remotes=tuple(
                RemoteCertificate(remote_id, label, certificate.fingerprint, certificate.not_after)
                for remote_id, label in self._labels().items()
                for certificate in scope.known
                if label == _label(scope.lineage, certificate)
            ),
        )

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`."""
        label = _label(lineage, bundle.certificate)
        for remote_id, other in self._labels().items():
            if other == label:
                return remote_id
        pem = {"fullchain": bundle.fullchain_pem, "privkey": bundle.privkey_pem.reveal()}
        return str(self._ask("PUT", f"certificates/{label}", pem)["id"])

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> None:
        """See `ports.target.DeployTarget.bind`. A domain has no other settings."""
        if remote_id not in self._labels():
            raise CopyGone(Text("Harbour has no certificate {id}", id=remote_id))
        self._ask("PUT", f"domains/{domain}", {"certificate": remote_id})

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire`."""
        existing = self._labels().get(remote_id)
        if existing is None:
            return False
        if existing != label or (owner_of(existing) is None and not unmanaged):
            raise TargetRejected(Text("{label} is not ours to remove", label=existing))
        if remote_id in self._ask("GET", "domains").values():
            raise TargetInUse(Text("a domain uses {label}", label=label))
        return bool(self._ask("DELETE", f"certificates/{remote_id}")["removed"])

    def _labels(self) -> dict[str, str]:
        labels: dict[str, str] = self._ask("GET", "certificates")
        return labels

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        try:
            answer = self._http.send(
                method,
                f"{self._settings.api}/{path}",
                {"Authorization": f"Bearer {self._settings.token.reveal()}"},
                None if body is None else json.dumps(body).encode(),
                repeatable=True,
            )
        except NoAnswer as silence:
            raise TargetUnavailable(silence.problem) from silence
        if answer.status == 401:
            raise TargetAccessDenied(
                Text("Harbour does not accept the token"),
                hint=Text("make a new one in Harbour's console"),
            )
        if answer.status != 200:
            raise TargetRejected(Text("Harbour answered {status}", status=answer.status))
        return json.loads(answer.body)


def _domain(name: str, bound: dict[str, str | None]) -> ObservedDomain:
    if name in bound:
        return ObservedDomain(name, Kind.CDN, DomainState.READY, bound[name])
    problem = TargetRejected(
        Text("Harbour has no domain {name}", name=name), hint=Text("add it at Harbour")
    )
    return ObservedDomain(name, Kind.CDN, DomainState.UNAVAILABLE, problem=problem)


def _label(lineage: str, certificate: Certificate) -> str:
    return label_of(lineage, certificate.fingerprint)
