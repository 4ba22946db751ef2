"""Another client's certificates taken over: declared, adopted, and switched off."""

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

# --- What is proposed to declare for what another client made


def test_lineage_is_gone_on_with() -> None:
    """The same names and key, proven at the account whose zone holds them."""
    one = inherited("img", "img.example.com", "*.img.example.com")

    [found] = taken_over(places(domain("img.example.com")), one).certificates

    assert ("img", one.names, "dnspod", KeyType.EC256) == (
        found.lineage,
        found.names,
        found.dns,
        found.key_type,
    )
    assert (ProposedDeployment("qiniu"),) == found.deployments
    assert one.bundle is found.adopts
    assert () == found.remarks


def test_name_that_cannot_be_proven_leaves_the_lineage_with_its_client() -> None:
    """It is imported from then on, and says why."""
    one = inherited("img", "img.example.com", "img.example.net")

    [found] = taken_over(places(domain("img.example.com")), one).certificates

    assert ((), FILES, None) == (found.names, found.files, found.key_type)
    [remark] = map(str, found.remarks)
    assert "acme.sh keeps renewing the certificate" in remark
    assert "img.example.net: no zone of the account dnspod contains the name" in remark


@pytest.mark.parametrize("domains", [(), ("img.example.com",)])
def test_client_that_is_kept_is_asked_for_its_files(domains: tuple[str, ...]) -> None:
    """Nothing is issued, whatever could be."""
    one = inherited("img", "img.example.com")

    proposal = propose_takeover([one], places(*map(domain, domains)), "certbot", keep_client=True)

    [found] = proposal.certificates
    assert FILES == found.files
    assert len(domains) == len(found.deployments)


def test_two_lineages_for_one_domain_do_not_take_turns() -> None:
    """Of two that cover it the one that has its very name gets it, then the younger one; of two for
    the same names the other is left out.
    """
    old = inherited("old", "img.example.com", age=20)
    new = inherited("new", "img.example.com", age=1)
    wide = inherited("wide", "*.example.com", age=0)
    domains = places(domain("img.example.com"), domain("a.example.com"))

    proposal = taken_over(domains, old, new, wide)

    found = {one.lineage: one for one in proposal.certificates}
    assert {"new", "wide"} == set(found)
    [left] = proposal.left_out
    assert left.certificate is not None
    assert ("old", old.bundle) == (left.name, left.certificate.adopts)
    assert "new has the same names, and takes precedence" == str(left.reason)
    assert "left for the certificate to serve" in str(left.certificate.remarks[0])
    assert (ProposedDeployment("qiniu"),) == found["new"].deployments
    assert (ProposedDeployment("qiniu", ("a.example.com",)),) == found["wide"].deployments


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("in_turn", [True, False])
def test_of_two_for_the_same_names_one_is_gone_on_with(*, served: bool, in_turn: bool) -> None:
    """Whether a domain is there for it or not, and in whatever order they are found."""
    lineages = [inherited(name, "img.example.com") for name in ("a", "b")]
    domains = [domain("img.example.com")] if served else []

    proposal = taken_over(places(*domains), *(lineages if in_turn else lineages[::-1]))

    assert 1 == len(proposal.certificates) == len(proposal.left_out)
    assert [served] == [bool(one.deployments) for one in proposal.certificates]


@pytest.mark.parametrize(("directory", "target"), [("/opt/a", "qiniu"), ("", "qiniu"), ("", "")])
def test_second_one_that_may_be_of_use_stays(directory: str, target: str) -> None:
    """Its copies go on being made, or nothing is known of what is served."""
    found = Places("dnspod", (FoundZone("example.com"),), target, (domain("img.example.com"),))
    copies = Installed(f"{directory}/fullchain.pem", f"{directory}/privkey.pem")
    first = inherited("a", "img.example.com", installed=copies if directory else Installed())
    second = inherited("b", "img.example.com", age=1)

    proposal = taken_over(found, first, second)

    lineages = [one.lineage for one in proposal.certificates]
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
def test_program_is_named_without_what_may_be_a_key(reload: str, program: str) -> None:
    """Neither its variables nor its arguments are shown, in the file or on a screen: the first word
    is its name, where it cannot be anything else.
    """
    assert program == OldHook(reload).program
    one = inherited("img", "img.example.com", installed=Installed(reload=reload))
    for keep in (True, False):
        [found] = propose_takeover([one], places(), "acme.sh", keep_client=keep).certificates
        assert any(f"`{program}`" in str(remark) for remark in found.remarks)
        assert not any("HUNTER2" in str(remark) for remark in found.remarks)


def test_copies_in_files_go_on_being_made() -> None:
    """Where the names fit, by a deployment; where not, it is said."""
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
    ("reload", "kept", "reported"),
    [
        ("systemctl reload nginx", "systemctl reload nginx", False),
        (DISPATCHER, "", True),
        (OWN_HOOK, "", False),
        ("certferry hook qiniu", "", False),
        ("", "", False),
    ],
)
def test_what_deployed_to_qiniu_is_not_run_beside_us(
    reload: str, kept: str, *, reported: bool
) -> None:
    """The old script would upload, bind and delete as it always did; our own hook would wait for
    the run that it is part of.
    """
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", reload)

    [one] = taken_over(places(), inherited("a", "a.example.com", installed=files)).certificates

    assert [kept] == [deployment.reload for deployment in one.deployments]
    assert reported == any(
        "`/opt/ssl/hook.sh` is left out" in str(remark) for remark in one.remarks
    )


def test_what_deploys_to_qiniu_goes_on_where_no_other_tool_does() -> None:
    """Without keys to an account there, the old script is what keeps the certificate alive."""
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", DISPATCHER)
    found = Places("dnspod", (FoundZone("example.com"),), "", ())

    [one] = taken_over(found, inherited("a", "a.example.com", installed=files)).certificates

    assert [DISPATCHER] == [deployment.reload for deployment in one.deployments]
    assert "`/opt/ssl/hook.sh` keeps running, with the paths in CERTFERRY_FULLCHAIN" in remarks(one)
    assert "is left out" not in remarks(one)


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
def test_program_that_may_deploy_to_qiniu_silently_is_reported(reload: str, reported: str) -> None:
    """A dispatcher need not be called after what it does."""
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", reload)
    lineage = inherited("a", "a.example.com", installed=files)

    [one] = taken_over(places(), lineage).certificates

    assert reported in remarks(one)
    assert ("keeps running" in remarks(one)) == bool(reported)


@pytest.mark.parametrize(
    ("reload", "reported"), [(DISPATCHER, True), (OWN_HOOK, False), ("x", False)]
)
def test_client_that_goes_on_is_to_run_our_hook(reload: str, *, reported: bool) -> None:
    """Where it is kept and still runs the old script, what to change is reported."""
    one = inherited("img", "img.example.com", installed=Installed(reload=reload))

    [kept] = propose_takeover([one], places(), "acme.sh", keep_client=True).certificates

    advice = "have acme.sh run `certferry hook acme.sh` instead"
    assert reported == any(advice in str(remark) for remark in kept.remarks)

    nowhere = Places("dnspod", (FoundZone("example.com"),), "", ())
    [kept] = propose_takeover([one], nowhere, "acme.sh", keep_client=True).certificates
    assert () == kept.remarks


def test_without_an_account_everything_stays_with_the_client() -> None:
    """Nothing can be proven where no account is known."""
    found = Places("", (), "qiniu", (domain("img.example.com"),))

    [one] = taken_over(found, inherited("img", "img.example.com")).certificates

    assert FILES == one.files


SSL = "/opt/ssl/img"
COPIES = Installed(f"{SSL}/fullchain.pem", f"{SSL}/privkey.pem")


def remarks(one: ProposedCertificate) -> str:
    return "\n".join(map(str, one.remarks))


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
def test_nothing_that_the_client_did_is_dropped_in_silence(
    installed: Installed, reported: str
) -> None:
    """Copies that are made no more and programs that are run no more are named, and just these."""
    [one] = taken_over(places(), inherited("a", "a.example.com", installed=installed)).certificates

    assert reported in remarks(one)
    assert "HUNTER2" not in remarks(one)
    assert f"{SSL}/cert.pem" not in remarks(one)


def test_hook_of_the_clients_own_that_goes_on() -> None:
    """What deploys to Qiniu beside us is reported, however it is hooked in."""
    one = inherited("img", "img.example.com", installed=Installed(hooks=("qiniu", "haproxy")))

    [kept] = propose_takeover([one], places(), "acme.sh", keep_client=True).certificates

    assert "acme.sh still runs `qiniu` after a renewal" in remarks(kept)
    assert "haproxy" not in remarks(kept)


@pytest.mark.parametrize(
    ("found", "declared"),
    [
        (Access(), Access()),
        (Access("www-data", "mail", 0o640, 0o640), Access("www-data", "mail", 0o640, 0o640)),
        (Access(None, "ssl-cert", 0o664, 0o440), Access(None, "ssl-cert", 0o664, 0o440)),
        (Access(None, None, 0o4777, 0o200), Access(None, None, 0o664, 0o600)),
    ],
)
def test_who_reads_the_copies_goes_on_reading_them(found: Access, declared: Access) -> None:
    """Owner, group and modes are declared as they are, as far as they may be."""
    one = inherited("a", "a.example.com", installed=replace(COPIES, access=found))

    [taken] = taken_over(places(), one).certificates

    assert [declared] == [deployment.access for deployment in taken.deployments]
    assert "every user could read" not in remarks(taken)


def test_key_that_every_user_can_read() -> None:
    """That cannot be declared, and is reported."""
    open_to_all = replace(COPIES, access=Access(key_mode=0o644))

    [taken] = taken_over(
        places(), inherited("a", "a.example.com", installed=open_to_all)
    ).certificates

    assert [0o640] == [deployment.access.key_mode for deployment in taken.deployments]
    assert f"every user could read {SSL}/privkey.pem" in remarks(taken)


@pytest.mark.parametrize("in_turn", [True, False])
def test_two_names_that_were_copied_to_one_directory(*, in_turn: bool) -> None:
    """One of them has it, and the other says so: both could not even be loaded."""
    lineages = [
        inherited(name, f"{name}.example.com", age=age, installed=COPIES)
        for name, age in (("a", 20), ("b", 10))
    ]

    proposal = taken_over(places(), *(lineages if in_turn else lineages[::-1]))

    owners = {one.lineage: one.deployments for one in proposal.certificates}
    assert {"a": (), "b": (ProposedDeployment("files", None, SSL),)} == owners
    [older] = [one for one in proposal.certificates if one.lineage == "a"]
    assert f"{SSL} and its commands are left to b, which was copied there too" in remarks(older)


@pytest.mark.parametrize("more", ["", " >/dev/null 2>&1"])
def test_our_own_hook_is_not_reported(more: str) -> None:
    """What it did, certferry does."""
    installed = replace(COPIES, reload=OWN_HOOK + more, hooks=(OWN_HOOK,))

    [one] = taken_over(places(), inherited("a", "a.example.com", installed=installed)).certificates

    assert "left out" not in remarks(one)


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (f"{OWN_HOOK} && systemctl reload nginx", "certferry"),
        (f"/opt/told.sh; {OWN_HOOK} >/dev/null 2>&1", "/opt/told.sh"),
        (f"{OWN_HOOK}\nservice x reload", "certferry"),
    ],
)
def test_what_stands_beside_our_own_hook_is_named(command: str, program: str) -> None:
    """By the first word of the command that it is in: what runs no more is reported."""
    installed = replace(COPIES, reload=command)

    [one] = taken_over(places(), inherited("a", "a.example.com", installed=installed)).certificates

    assert f"`{program}`, which acme.sh runs" in remarks(one)


def test_duplicates_that_were_copied_to_one_directory() -> None:
    """A site that was issued for anew with another kind of key: the other one is of no use."""
    lineages = [
        inherited(name, "img.example.com", age=age, installed=COPIES)
        for name, age in (("a", 20), ("b", 10))
    ]

    proposal = taken_over(places(domain("img.example.com")), *lineages)

    assert ["b"] == [one.lineage for one in proposal.certificates]
    assert ["a"] == [one.name for one in proposal.left_out]


# --- Taking over what another client made


NOW = datetime(2026, 11, 25, tzinfo=UTC)
LINEAGE = "img"


def made(age: int) -> CertificateBundle:
    return make_bundle("img.example.com", not_before=NOW - timedelta(days=age))


def adopted(state: MemoryState, bundle: CertificateBundle) -> bool:
    lease = partial(held_lease, state, lambda: NOW)
    return adopt(LINEAGE, bundle, state=state, lease=lease, now=NOW, who="ops@host")


def fingerprints(state: MemoryState) -> list[str]:
    """Return what the lineage has, newest first."""
    return [version.certificate.fingerprint for version in state.versions(LINEAGE)]


def test_it_becomes_the_current_certificate() -> None:
    """With its key, and written down as what happened."""
    state, bundle = MemoryState(), made(10)

    assert adopted(state, bundle)

    assert [bundle.certificate.fingerprint] == fingerprints(state)
    assert bundle == state.bundle(LINEAGE, 1)
    [entry] = state.history(LINEAGE, 10)
    assert ("adopted", "ops@host") == (entry.event, entry.who)


def test_again_it_changes_nothing() -> None:
    """The second time it is known."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)

    assert not adopted(state, bundle)
    assert 1 == len(state.history(LINEAGE, 10))


@pytest.mark.parametrize(("age", "taken"), [(5, True), (20, False)])
def test_only_a_later_certificate_takes_the_place_of_another(age: int, taken: object) -> None:
    """A lineage that has been renewed here does not go back to what the other client had."""
    state, here, there = MemoryState(), made(10), made(age)
    adopted(state, here)

    assert taken is adopted(state, there)

    newest = there if taken else here
    assert newest.certificate.fingerprint == fingerprints(state)[0]


def test_lineage_that_another_run_works_on_is_left_alone() -> None:
    """The lease says whose turn it is."""
    state = MemoryState()
    state.acquire(LINEAGE, NOW)

    with pytest.raises(LeaseHeld):
        adopted(state, made(10))

    assert [] == fingerprints(state)


def adopted_state(lineage: str, bundle: CertificateBundle) -> OldCertificate:
    """Find a certificate in another client's directory."""
    return OldCertificate(lineage, bundle, PemFiles("f", "k"), "stop")


def test_certificate_that_is_remembered_keeps_its_name() -> None:
    """Whatever its client calls it, and whatever has been made since; others stay as they are."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)
    adopted(state, made(2))
    found = [adopted_state("img.example.com", bundle), adopted_state("b", made(5))]

    assert [LINEAGE, "b"] == [one.lineage for one in as_remembered(found, state)]


def test_certificate_that_is_remembered_twice() -> None:
    """The name that its client has for it goes before the other."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)
    state.save_version(state.acquire("z", NOW), bundle, NOW)

    for name in (LINEAGE, "z"):
        assert [name] == [
            one.lineage for one in as_remembered([adopted_state(name, bundle)], state)
        ]


@pytest.mark.parametrize("name", [LINEAGE, "img.example.com"])
def test_name_that_is_another_ones_is_not_given_twice(name: str) -> None:
    """Two lineages never share one."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)
    found = [adopted_state("a", bundle), adopted_state(name, bundle)]

    names = [one.lineage for one in as_remembered(found, state)]

    assert 2 == len(set(names))
    assert LINEAGE in names
