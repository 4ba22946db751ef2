"""Values of the core, for property tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from certferry.core.certificates.certificate import Certificate, KeyType
from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    HttpsSettings,
    Kind,
    Retirement,
)
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
    TargetRules,
)
from certferry.errors import TargetRejected

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LINEAGE = "img"
DOMAINS = ("img.example.com", "a.img.example.com", "cdn.example.com")

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
hostnames = (
    st.lists(labels, min_size=2, max_size=4)
    .map(".".join)
    .filter(lambda name: not name.rsplit(".", 1)[-1].isdigit())
)


def certificate(
    fingerprint: str = "ab" * 32,
    names: tuple[str, ...] = ("img.example.com",),
    not_before: datetime = NOW - timedelta(days=10),
    lifetime: timedelta = timedelta(days=90),
    key_type: str = "ec256",
) -> Certificate:
    return Certificate(
        fingerprint=fingerprint,
        names=names,
        common_name=names[0],
        serial="1f",
        issuer="Sandbox CA",
        not_before=not_before,
        not_after=not_before + lifetime,
        key_type=key_type,
    )


def version(
    number: int, of: Certificate, *, key_matches: bool = True, chain: bool = True
) -> Version:
    return Version(number, of, of.not_before, key_matches, chain)


fingerprints = st.sampled_from(["aa" * 32, "bb" * 32, "cc" * 32])

versions = st.lists(
    st.builds(
        certificate,
        fingerprint=fingerprints,
        names=st.sampled_from([("img.example.com",), ("img.example.com", "*.img.example.com")]),
        not_before=st.integers(-100, 0).map(lambda days: NOW + timedelta(days=days)),
        lifetime=st.sampled_from([timedelta(days=90), timedelta(days=45), timedelta(days=6)]),
        key_type=st.sampled_from(["ec256", "rsa2048"]),
    ),
    max_size=3,
    unique_by=lambda c: c.fingerprint,
).map(lambda drawn: tuple(version(len(drawn) - i, c) for i, c in enumerate(drawn)))

certificates = st.builds(
    DesiredHttps,
    force_https=st.sampled_from([None, True, False]),
    http2=st.sampled_from([None, True]),
    tls_versions=st.sampled_from([None, ("TLSv1.2", "TLSv1.3")]),
)

settings_found = st.builds(
    HttpsSettings,
    force_https=st.booleans(),
    http2=st.booleans(),
    tls_versions=st.sampled_from([None, ("TLSv1.2",), ("TLSv1.2", "TLSv1.3")]),
)


@st.composite
def observed_targets(draw: st.DrawFn, versions_there: tuple[Version, ...]) -> ObservedTarget:
    """Draw a target in any state, with copies of any of the versions."""
    if draw(st.integers(0, 9)) == 0:
        return ObservedTarget(label="qiniu", failure=TargetRejected("unreadable"))
    remotes = tuple(
        RemoteCertificate(
            remote_id=f"id-{v.number}",
            label=label_of(LINEAGE, v.certificate.fingerprint),
            fingerprint=v.certificate.fingerprint,
            not_after=v.certificate.not_after,
        )
        for v in versions_there
        if draw(st.booleans())
    )
    bound = st.sampled_from([None, "foreign", *(remote.remote_id for remote in remotes)])
    domains = tuple(
        ObservedDomain(
            domain=name,
            kind=Kind.CDN,
            state=draw(st.sampled_from(DomainState)),
            bound=draw(bound),
            https=draw(settings_found),
            problem=TargetRejected("said so"),
        )
        for name in draw(st.lists(st.sampled_from(DOMAINS), unique=True))
    )
    served = {
        domain.domain: (
            Served(
                "192.0.2.1",
                draw(st.none() | fingerprints),
                valid=draw(st.booleans()),
                silent=draw(st.booleans()),
            ),
        )
        for domain in domains
        if draw(st.booleans())
    }
    return ObservedTarget("qiniu", TargetRules(timedelta(days=30)), domains, remotes, served)


@st.composite
def situations(draw: st.DrawFn) -> tuple[DesiredCertificate, Observation]:
    """Draw a declaration and a world in any state."""
    drawn_versions = draw(versions)
    deployments = draw(
        st.lists(
            st.builds(
                DesiredDeployment,
                target=st.just("qiniu"),
                domains=st.just(None),
                https=certificates,
                retire=st.sampled_from([Retirement.SUPERSEDED, Retirement.NEVER]),
            ),
            max_size=1,
        )
    )
    desired = DesiredCertificate(
        lineage=LINEAGE,
        names=("img.example.com", "*.img.example.com"),
        dns="dnspod",
        key_type=draw(st.sampled_from([KeyType.EC256, KeyType.RSA2048])),
        deployments=tuple(deployments),
    )
    targets = tuple(draw(observed_targets(drawn_versions)) for _ in deployments)
    return desired, Observation(drawn_versions, targets)
