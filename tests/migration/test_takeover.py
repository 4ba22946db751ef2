"""The takeover of another client's certificates: proposal, adoption, and the end of the client's
renewals.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.desired.certificate import PemFiles
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import (
    Access,
    Places,
    ProposedCertificate,
    ProposedDeployment,
    TargetAccount,
)
from certferry.errors import LeaseHeld
from certferry.migration.home import Installed, OldCertificate, OldHook
from certferry.migration.takeover import adopt, as_remembered, propose_takeover
from certferry.reconcile.run import held_lease
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_state import MemoryState
from tests.core.discovery.account_contents import domain, places
from tests.migration.client_certificates import FILES, inherited, taken_over

# --- The proposal for another client's certificates


def test_lineage_continues_at_certferry() -> None:
    """The proposal has the same names and type of key, and the DNS account whose zone contains the
    names.
    """
    old = inherited("img", "img.example.com", "*.img.example.com")

    [proposed] = taken_over(places(domain("img.example.com")), old).certificates

    assert ("img", old.names, "dnspod", KeyType.EC256) == (
        proposed.lineage,
        proposed.names,
        proposed.dns,
        proposed.key_type,
    )
    assert (ProposedDeployment("qiniu"),) == proposed.deployments
    assert old.bundle is proposed.adopts
    assert () == proposed.remarks


def test_name_outside_all_zones_leaves_the_lineage_to_the_client() -> None:
    """The proposal imports the client's files, and a remark has the reason."""
    old = inherited("img", "img.example.com", "img.example.net")

    [proposed] = taken_over(places(domain("img.example.com")), old).certificates

    assert ((), FILES, None) == (proposed.names, proposed.files, proposed.key_type)
    [remark] = map(str, proposed.remarks)
    assert "acme.sh keeps renewing the certificate" in remark
    assert "img.example.net: no zone of the account dnspod contains the name" in remark


@pytest.mark.parametrize("domains", [(), ("img.example.com",)])
def test_client_that_stays_renews_all_certificates(domains: tuple[str, ...]) -> None:
    """The proposal imports the client's files, even for names in the account's zones."""
    old = inherited("img", "img.example.com")

    proposal = propose_takeover([old], places(*map(domain, domains)), "certbot", keep_client=True)

    [proposed] = proposal.certificates
    assert FILES == proposed.files
    assert len(domains) == len(proposed.deployments)


def test_certificates_for_one_domain() -> None:
    """A certificate with the domain's exact name takes precedence over a wildcard, then the younger
    certificate over the older. For certificates with the same names the proposal contains only one.
    """
    old = inherited("old", "img.example.com", age=20)
    new = inherited("new", "img.example.com", age=1)
    wide = inherited("wide", "*.example.com", age=0)
    domains = places(domain("img.example.com"), domain("a.example.com"))

    proposal = taken_over(domains, old, new, wide)

    by_lineage = {certificate.lineage: certificate for certificate in proposal.certificates}
    assert {"new", "wide"} == set(by_lineage)
    [duplicate] = proposal.left_out
    assert duplicate.certificate is not None
    assert ("old", old.bundle) == (duplicate.name, duplicate.certificate.adopts)
    assert "new has the same names, and takes precedence" == str(duplicate.reason)
    assert "left for the certificate to serve" in str(duplicate.certificate.remarks[0])
    assert (ProposedDeployment("qiniu"),) == by_lineage["new"].deployments
    assert (ProposedDeployment("qiniu", ("a.example.com",)),) == by_lineage["wide"].deployments


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("in_turn", [True, False])
def test_one_of_two_certificates_for_the_same_names_continues(
    *, served: bool, in_turn: bool
) -> None:
    """The result is the same with and without a served domain, and in either order of the
    certificates.
    """
    lineages = [inherited(name, "img.example.com") for name in ("a", "b")]
    domains = [domain("img.example.com")] if served else []

    proposal = taken_over(places(*domains), *(lineages if in_turn else lineages[::-1]))

    assert 1 == len(proposal.certificates) == len(proposal.left_out)
    assert [served] == [bool(certificate.deployments) for certificate in proposal.certificates]


@pytest.mark.parametrize(("directory", "target"), [("/opt/a", "qiniu"), ("", "qiniu"), ("", "")])
def test_second_certificate_with_a_possible_use_stays(directory: str, target: str) -> None:
    """A certificate stays in the proposal if its copies are still in use, or if the target is
    unknown.
    """
    account = TargetAccount(target, (domain("img.example.com"),))
    places_of_account = Places("dnspod", (FoundZone("example.com"),), (account,) if target else ())
    copies = Installed(f"{directory}/fullchain.pem", f"{directory}/privkey.pem")
    first = inherited("a", "img.example.com", installed=copies if directory else Installed())
    second = inherited("b", "img.example.com", age=1)

    proposal = taken_over(places_of_account, first, second)

    lineages = [certificate.lineage for certificate in proposal.certificates]
    assert (["a", "b"] if directory or not target else ["b"]) == lineages


@pytest.mark.parametrize(
    ("reload", "program"),
    [
        ("/opt/ssl/hook.sh qiniu HUNTER2", "/opt/ssl/hook.sh"),
        ("/opt/ssl/qiniu.sh;echo HUNTER2", "/opt/ssl/qiniu.sh"),
        ("SECRET_TOKEN=HUNTER2 /opt/ssl/hook.sh qiniu", "…"),
        ("A='HUNTER2 x' B=\"HUNTER2\" env C=HUNTER2 '/opt/my qiniu' -k", "…"),
        ("'HUNTER2 x' qiniu", "…"),
        ("export QINIU_SK=HUNTER2; /opt/ssl/hook.sh", "export"),
        ("QINIU_SK='x HUNTER2 /opt/hook.sh", "…"),
        ("QINIU_SK=HUNTER2", "…"),
    ],
)
def test_program_is_named_without_possible_secrets(reload: str, program: str) -> None:
    """A remark never shows variables or arguments of a command. The first word is shown if the word
    can only be the program's name.
    """
    assert program == OldHook(reload).program
    old = inherited("img", "img.example.com", installed=Installed(reload=reload))
    for keep in (True, False):
        [proposed] = propose_takeover([old], places(), "acme.sh", keep_client=keep).certificates
        assert any(f"`{program}`" in str(remark) for remark in proposed.remarks)
        assert not any("HUNTER2" in str(remark) for remark in proposed.remarks)


def test_copies_become_deployments() -> None:
    """If the file names fit, a deployment continues the copies; otherwise a remark names the
    copies.
    """
    fits = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", "reload")
    other = Installed("/opt/ssl/img.pem", "/opt/ssl/img.key")

    first, second = taken_over(
        places(),
        inherited("a", "a.example.com", installed=fits),
        inherited("b", "b.example.com", installed=other),
    ).certificates

    assert (ProposedDeployment("files", None, "/opt/ssl/img", "reload"),) == first.deployments
    assert () == second.deployments
    assert any("programs that read /opt/ssl/img.pem" in str(remark) for remark in second.remarks)


DISPATCHER = "/opt/ssl/hook.sh QINIU"
OWN_HOOK = "certferry --log-file /var/log/cdn.log hook acme.sh"


@pytest.mark.parametrize(
    ("reload", "declared", "reported"),
    [
        ("systemctl reload nginx", "systemctl reload nginx", False),
        (DISPATCHER, "", True),
        (OWN_HOOK, "", False),
        ("certferry hook qiniu", "", False),
        ("", "", False),
    ],
)
def test_former_script_for_qiniu_does_not_run_beside_certferry(
    reload: str, declared: str, *, reported: bool
) -> None:
    """The script would upload, bind and delete certificates as before; certferry's own hook would
    wait for the run that started the hook.
    """
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", reload)

    [certificate] = taken_over(
        places(), inherited("a", "a.example.com", installed=files)
    ).certificates

    assert [declared] == [deployment.reload for deployment in certificate.deployments]
    assert reported == any(
        "`/opt/ssl/hook.sh` is left out" in str(remark) for remark in certificate.remarks
    )


def test_former_script_for_qiniu_continues_without_an_account() -> None:
    """The script alone deploys renewed certificates if certferry has no keys to an account at
    Qiniu.
    """
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", DISPATCHER)
    places_of_account = Places("dnspod", (FoundZone("example.com"),))

    [certificate] = taken_over(
        places_of_account, inherited("a", "a.example.com", installed=files)
    ).certificates

    assert [DISPATCHER] == [deployment.reload for deployment in certificate.deployments]
    assert "`/opt/ssl/hook.sh` keeps running, with the paths in CERTFERRY_FULLCHAIN" in remarks(
        certificate
    )
    assert "is left out" not in remarks(certificate)


@pytest.mark.parametrize(
    ("reload", "reported"),
    [
        (
            "/opt/ssl/push.sh",
            "`/opt/ssl/push.sh` keeps running, with the paths in CERTFERRY_FULLCHAIN",
        ),
        ("systemctl reload nginx", ""),
        ("", ""),
    ],
)
def test_program_that_may_deploy_to_qiniu_is_reported(reload: str, reported: str) -> None:
    """A dispatcher may deploy to Qiniu under any name."""
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", reload)
    lineage = inherited("a", "a.example.com", installed=files)

    [certificate] = taken_over(places(), lineage).certificates

    assert reported in remarks(certificate)
    assert ("keeps running" in remarks(certificate)) == bool(reported)


@pytest.mark.parametrize(
    ("reload", "reported"), [(DISPATCHER, True), (OWN_HOOK, False), ("x", False)]
)
def test_client_that_stays_gets_advice_to_run_the_hook(reload: str, *, reported: bool) -> None:
    """A remark advises to run certferry's hook if the client stays and still runs the former
    script.
    """
    old = inherited("img", "img.example.com", installed=Installed(reload=reload))

    [proposed] = propose_takeover([old], places(), "acme.sh", keep_client=True).certificates

    advice = "have acme.sh run `certferry hook acme.sh` instead"
    assert reported == any(advice in str(remark) for remark in proposed.remarks)

    nowhere = Places("dnspod", (FoundZone("example.com"),))
    [proposed] = propose_takeover([old], nowhere, "acme.sh", keep_client=True).certificates
    assert () == proposed.remarks


def test_all_certificates_stay_with_the_client_without_an_account() -> None:
    """Without a DNS account certferry can prove no name."""
    places_of_account = Places("", (), (TargetAccount("qiniu", (domain("img.example.com"),)),))

    [certificate] = taken_over(places_of_account, inherited("img", "img.example.com")).certificates

    assert FILES == certificate.files


SSL = "/opt/ssl/img"
COPIES = Installed(f"{SSL}/fullchain.pem", f"{SSL}/privkey.pem")


def remarks(certificate: ProposedCertificate) -> str:
    return "\n".join(map(str, certificate.remarks))


@pytest.mark.parametrize(
    ("installed", "reported"),
    [
        (Installed(reload="/opt/push.sh HUNTER2"), "`/opt/push.sh`, which acme.sh runs"),
        (Installed("/opt/a.pem", "/opt/a.key", "service x reload"), "`service`, which acme.sh"),
        (Installed(hooks=("haproxy",)), "`haproxy`, which acme.sh runs"),
        (Installed(hooks=("qiniu",)), "`qiniu` is left out: certferry deploys to Qiniu now"),
        (replace(COPIES, reload="x", hooks=("/opt/after.sh",)), "`/opt/after.sh`, which acme.sh"),
        (replace(COPIES, reload=f"systemctl reload x; {OWN_HOOK}"), "`systemctl`, which acme.sh"),
        (Installed(others=("/opt/a.crt", "/opt/a.ca")), "read /opt/a.crt, /opt/a.ca today"),
        (
            replace(COPIES, others=(f"{SSL}/cert.pem", "/opt/ca.pem")),
            "programs that read /opt/ca.pem today",
        ),
    ],
)
def test_every_copy_and_program_that_ends_is_reported(installed: Installed, reported: str) -> None:
    """Remarks name exactly the copies that go stale and the programs that run no more."""
    [certificate] = taken_over(
        places(), inherited("a", "a.example.com", installed=installed)
    ).certificates

    assert reported in remarks(certificate)
    assert "HUNTER2" not in remarks(certificate)
    assert f"{SSL}/cert.pem" not in remarks(certificate)


def test_hook_of_a_client_that_stays() -> None:
    """A remark names every hook that also deploys to Qiniu."""
    old = inherited("img", "img.example.com", installed=Installed(hooks=("qiniu", "haproxy")))

    [proposed] = propose_takeover([old], places(), "acme.sh", keep_client=True).certificates

    assert "acme.sh still runs `qiniu` after a renewal" in remarks(proposed)
    assert "haproxy" not in remarks(proposed)


@pytest.mark.parametrize(
    ("existing", "declared"),
    [
        (Access(), Access()),
        (Access("www-data", "mail", 0o640, 0o640), Access("www-data", "mail", 0o640, 0o640)),
        (Access(None, "ssl-cert", 0o664, 0o440), Access(None, "ssl-cert", 0o664, 0o440)),
        (Access(None, None, 0o4777, 0o200), Access(None, None, 0o664, 0o600)),
    ],
)
def test_readers_of_the_copies_keep_their_access(existing: Access, declared: Access) -> None:
    """The deployment has the owner, group and modes of the copies, as far as certferry allows the
    modes.
    """
    old = inherited("a", "a.example.com", installed=replace(COPIES, access=existing))

    [proposed] = taken_over(places(), old).certificates

    assert [declared] == [deployment.access for deployment in proposed.deployments]
    assert "every user could read" not in remarks(proposed)


def test_key_that_every_user_can_read() -> None:
    """The deployment has a stricter mode, and a remark names the readable key."""
    open_to_all = replace(COPIES, access=Access(key_mode=0o644))

    [proposed] = taken_over(
        places(), inherited("a", "a.example.com", installed=open_to_all)
    ).certificates

    assert [0o640] == [deployment.access.key_mode for deployment in proposed.deployments]
    assert f"every user could read {SSL}/privkey.pem" in remarks(proposed)


@pytest.mark.parametrize("in_turn", [True, False])
def test_two_certificates_copied_to_one_directory(*, in_turn: bool) -> None:
    """Only the younger certificate gets the directory, with a remark at the older: certferry would
    refuse a configuration with both deployments.
    """
    lineages = [
        inherited(name, f"{name}.example.com", age=age, installed=COPIES)
        for name, age in (("a", 20), ("b", 10))
    ]

    proposal = taken_over(places(), *(lineages if in_turn else lineages[::-1]))

    owners = {certificate.lineage: certificate.deployments for certificate in proposal.certificates}
    assert {"a": (), "b": (ProposedDeployment("files", None, SSL),)} == owners
    [older] = [certificate for certificate in proposal.certificates if certificate.lineage == "a"]
    assert f"{SSL} and its commands are left to b, which was copied there too" in remarks(older)


@pytest.mark.parametrize("more", ["", " >/dev/null 2>&1"])
def test_hook_of_certferry_is_not_reported(more: str) -> None:
    """A takeover makes the former hook superfluous."""
    installed = replace(COPIES, reload=OWN_HOOK + more, hooks=(OWN_HOOK,))

    [certificate] = taken_over(
        places(), inherited("a", "a.example.com", installed=installed)
    ).certificates

    assert "left out" not in remarks(certificate)


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (f"{OWN_HOOK} && systemctl reload nginx", "certferry"),
        (f"/opt/told.sh; {OWN_HOOK} >/dev/null 2>&1", "/opt/told.sh"),
        (f"{OWN_HOOK}\nservice x reload", "certferry"),
    ],
)
def test_command_beside_the_hook_of_certferry_is_named(command: str, program: str) -> None:
    """A remark has the first word of each former command line."""
    installed = replace(COPIES, reload=command)

    [certificate] = taken_over(
        places(), inherited("a", "a.example.com", installed=installed)
    ).certificates

    assert f"`{program}`, which acme.sh runs" in remarks(certificate)


def test_duplicates_copied_to_one_directory() -> None:
    """After a new issue with another type of key the older certificate is superfluous."""
    lineages = [
        inherited(name, "img.example.com", age=age, installed=COPIES)
        for name, age in (("a", 20), ("b", 10))
    ]

    proposal = taken_over(places(domain("img.example.com")), *lineages)

    assert ["b"] == [certificate.lineage for certificate in proposal.certificates]
    assert ["a"] == [duplicate.name for duplicate in proposal.left_out]


# --- The adoption of another client's certificate


NOW = datetime(2026, 11, 25, tzinfo=UTC)
LINEAGE = "img"


def bundle_of_age(age: int) -> CertificateBundle:
    return make_bundle("img.example.com", not_before=NOW - timedelta(days=age))


def adopted(state: MemoryState, bundle: CertificateBundle) -> bool:
    lease = partial(held_lease, state, lambda: NOW)
    return adopt(LINEAGE, bundle, state=state, lease=lease, now=NOW, who="ops@host")


def fingerprints(state: MemoryState) -> list[str]:
    """Return the fingerprints of the lineage's versions, newest first."""
    return [version.certificate.fingerprint for version in state.versions(LINEAGE)]


def test_adopted_certificate_becomes_the_current_version() -> None:
    """The state has the certificate with its key, and the history has an entry."""
    state, bundle = MemoryState(), bundle_of_age(10)

    assert adopted(state, bundle)

    assert [bundle.certificate.fingerprint] == fingerprints(state)
    assert bundle == state.bundle(LINEAGE, 1)
    [entry] = state.history(LINEAGE, 10)
    assert ("adopted", "ops@host") == (entry.event, entry.who)


def test_second_adoption_changes_nothing() -> None:
    """The fingerprint identifies the certificate of the first adoption."""
    state, bundle = MemoryState(), bundle_of_age(10)
    adopted(state, bundle)

    assert not adopted(state, bundle)
    assert 1 == len(state.history(LINEAGE, 10))


@pytest.mark.parametrize(("age", "is_adopted"), [(5, True), (20, False)])
def test_younger_certificate_alone_replaces_another(age: int, is_adopted: object) -> None:
    """A lineage that certferry has renewed does not return to the other client's certificate."""
    state, own, theirs = MemoryState(), bundle_of_age(10), bundle_of_age(age)
    adopted(state, own)

    assert is_adopted is adopted(state, theirs)

    newest = theirs if is_adopted else own
    assert newest.certificate.fingerprint == fingerprints(state)[0]


def test_lineage_with_the_lease_of_another_run_is_unchanged() -> None:
    """The adoption ends without a write if another run has the lease."""
    state = MemoryState()
    state.acquire(LINEAGE, NOW)

    with pytest.raises(LeaseHeld):
        adopted(state, bundle_of_age(10))

    assert [] == fingerprints(state)


def adopted_state(lineage: str, bundle: CertificateBundle) -> OldCertificate:
    """Return a certificate in another client's directory."""
    return OldCertificate(lineage, bundle, PemFiles("f", "k"), "stop")


def test_known_certificate_keeps_its_lineage() -> None:
    """The state's name for a certificate takes precedence over the client's name, even after newer
    versions; unknown certificates keep the client's name.
    """
    state, bundle = MemoryState(), bundle_of_age(10)
    adopted(state, bundle)
    adopted(state, bundle_of_age(2))
    old_certificates = [
        adopted_state("img.example.com", bundle),
        adopted_state("b", bundle_of_age(5)),
    ]

    assert [LINEAGE, "b"] == [
        certificate.lineage for certificate in as_remembered(old_certificates, state)
    ]


def test_certificate_known_in_two_lineages() -> None:
    """The lineage with the client's name takes precedence."""
    state, bundle = MemoryState(), bundle_of_age(10)
    adopted(state, bundle)
    state.save_version(state.acquire("z", NOW), bundle, NOW)

    for name in (LINEAGE, "z"):
        assert [name] == [
            certificate.lineage
            for certificate in as_remembered([adopted_state(name, bundle)], state)
        ]


@pytest.mark.parametrize("name", [LINEAGE, "img.example.com"])
def test_name_of_another_certificate_is_used_once(name: str) -> None:
    """Two lineages never have the same name."""
    state, bundle = MemoryState(), bundle_of_age(10)
    adopted(state, bundle)
    old_certificates = [adopted_state("a", bundle), adopted_state(name, bundle)]

    names = [certificate.lineage for certificate in as_remembered(old_certificates, state)]

    assert 2 == len(set(names))
    assert LINEAGE in names
