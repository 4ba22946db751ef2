"""The domains of a certificate: globs, two accounts, two certificates, another name."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run, certificate, covering
from tests.acceptance.requests_made import assert_nothing_written
from tests.core.certificates.odd_kinds import on_curve
from tests.support.tiers import thorough

# --- Globs over an account's domains, from the command to the edges


def steps(run: Run, action: str) -> dict[str, Any]:
    """Return the steps of the certificate, by domain."""
    return {step["domain"]: step for step in run.steps if step["action"] == action}


def outcomes(run: Run, action: str) -> dict[str, str]:
    return {domain: step["outcome"] for domain, step in steps(run, action).items()}


def test_domain_that_appears_is_served_by_the_next_run(
    world: World, tmp_path: Path, name: str
) -> None:
    """The run serves the domains that the globs match, and leaves the excluded domains alone. The
    plan says why a new domain is included, and after its deployment the next run changes nothing.
    """
    for label in ("img-1", "img-2", "test", "img-test"):
        world.add_http_domain(f"{label}.{name}")
    deploy = f'domains = ["img-*.{name}", "{name}"]', f'exclude = ["*test.{name}"]'
    host = Host(world, tmp_path, covering(name, *deploy))

    first = host.run("sync", "--json")
    world.add_http_domain(f"img-3.{name}")
    world.add_http_domain(f"www.{name}")
    plan = host.run("plan", "--json")
    second, third = host.run("sync", "--json"), host.run("sync", "--json")

    assert 0 == first.code, first
    assert {f"img-1.{name}": "done", f"img-2.{name}": "done", name: "done"} == outcomes(
        first, "verify"
    )
    [(new, step)] = steps(plan, "deploy").items()
    assert f"img-3.{name}" == new
    assert (
        f'new to the certificate, found by domains = "img-*.{name}"; HTTPS is off →'
        " will be turned on" == step["reason"]["message"]
    )
    assert 0 == second.code, second
    assert "done" == outcomes(second, "verify")[new]
    assert (1, 0) == (second.left.qiniu_writes, second.left.certificates)
    assert 0 == third.code
    assert_nothing_written(third.left)
    for label in ("test", "img-test", "www"):
        assert None is world.qiniu.bound(f"{label}.{name}")


def test_wildcard_domain_and_its_children(world: World, tmp_path: Path, name: str) -> None:
    """The wildcard domain is served like a domain below its name. A child domain has the
    certificate of its parent: the run leaves the child alone, and the edges present the right
    certificate.
    """
    world.add_http_domain(f"*.{name}")
    child = f"child.{name}"
    world.qiniu.add_domain(child, type="pan", parent=f".{name}")
    host = Host(world, tmp_path, covering(name, f'domains = ["*.{name}"]'))

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    assert {f"*.{name}": "done"} == outcomes(run, "verify")
    assert 1 == len(world.qiniu.requests(f"PUT /domain/.{name}/*"))
    assert [] == world.qiniu.requests(f"PUT /domain/{child}/*")
    assert None is world.qiniu.bound(name)


@pytest.mark.parametrize(
    ("deploy", "message"),
    [
        (['domains = ["*.{name}.cn"]'], "*.{name}.cn matches no online domain"),
        (
            ['domains = ["*"]', 'exclude = ["{name}"]'],
            "`exclude` excludes every covered domain of the account qiniu: {name}",
        ),
    ],
    ids=["glob", "exclude"],
)
def test_nothing_is_left_to_serve(
    deploy: list[str], message: str, world: World, tmp_path: Path, name: str
) -> None:
    """Every command reports the reason, and nothing is ordered or changed."""
    lines = [line.format(name=name) for line in deploy]
    host = Host(world, tmp_path, covering(name, *lines))

    for command, code in (("plan", 1), ("sync", 1), ("status", 1)):
        run = host.run(command)
        assert code == run.code, run
        assert message.format(name=name) in " ".join(run.out.split()), run
        assert_nothing_written(run.left)
        assert 0 == run.left.orders
    assert "hint: " in host.run("plan").out


@thorough
def test_misspelt_exclude_is_reported(world: World, tmp_path: Path, name: str) -> None:
    """The warning appears before a deployment to the domain that was meant, and delays nothing."""
    host = Host(world, tmp_path, covering(name, f'exclude = ["tset.{name}"]'))

    plan, run, settled = host.run("plan"), host.run("sync"), host.run("plan")

    message = f"`exclude` lists tset.{name}, which the deployment would not contain anyway"
    assert message in " ".join(plan.out.split())
    assert 0 == run.code, run
    assert message in " ".join(settled.out.split())
    assert "as declared\n" in settled.out


def test_file_that_empties_its_own_list(world: World, tmp_path: Path, name: str) -> None:
    """The mistake is reported with its line, before the first request."""
    host = Host(world, tmp_path, covering(name, f'domains = ["{name}"]', 'exclude = ["*"]'))
    line = 1 + host.config.read_text().splitlines().index('exclude = ["*"]')

    run = host.run("-q", "sync")

    assert 2 == run.code
    assert f":{line}: [[certificates.deploy]] exclude: excludes" in run.complaint.error
    assert 0 == run.left.qiniu_requests


# --- Two accounts of one service in a file, from the command to the edges


_numbers = itertools.count(1)


class TwoAccounts(Host):
    """A machine whose file names the world's account `one`, and a second account `two`."""

    def __init__(self, world: World, directory: Path, certificates: str) -> None:
        super().__init__(world, directory, certificates)
        number = next(_numbers)
        self.keys = {"TWO_AK": f"second-access-{number}", "TWO_SK": f"second-secret-{number}"}
        world.qiniu.add_account(*self.keys.values())
        table = self.config.read_text().partition("[accounts.qiniu]")[2].partition("\n\n")[0]
        two = table.replace("QINIU_ACCESS_KEY", "TWO_AK").replace("QINIU_SECRET_KEY", "TWO_SK")
        self.rewrite(
            f"[accounts.qiniu]{table}",
            f'[accounts.one]\ntype = "qiniu"{table}\n\n[accounts.two]\ntype = "qiniu"{two}',
        )

    def run(self, *arguments: str, **environ: str) -> Run:
        """See `Host.run`: the environment has the keys of both accounts."""
        return super().run(*arguments, **self.keys, **environ)

    def add_to_two(self, name: str) -> None:
        """Put a domain with HTTPS off into the second account."""
        self.world.add_http_domain(name, account=self.keys["TWO_AK"])


def tables(name: str, of_one: str = '"auto"', of_two: str = '"auto"') -> str:
    """Return the tables of a certificate that both accounts serve, each with its domains."""
    return (
        f'\n[[certificates]]\nname = "{name}"\nnames = ["{name}", "*.{name}"]\ndns = "dnspod"\n'
        f'[[certificates.deploy]]\nto = "one"\ndomains = {of_one}\n'
        f'[[certificates.deploy]]\nto = "two"\ndomains = {of_two}\n'
    )


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> TwoAccounts:
    """A machine that serves the domains of both accounts; the name itself is at the first."""
    return TwoAccounts(world, tmp_path, tables(name))


def test_each_account_serves_its_own_domains(host: TwoAccounts, name: str) -> None:
    """A single order gives each account a copy, and every domain is verified at its own account;
    the second run changes nothing.
    """
    host.add_to_two(f"two.{name}")

    first, again = host.run("sync", "--json"), host.run("sync", "--json")
    status = host.run("status", "--json")

    assert 0 == first.code, first
    assert (1, 2) == (first.left.certificates, first.left.qiniu_uploads)
    [certificate] = status.document["certificates"]
    assert {("one", name, "verified"), ("two", f"two.{name}", "verified")} == {
        (domain["target"], domain["domain"], domain["state"]) for domain in certificate["domains"]
    }
    assert host.world.qiniu.bound(name) != host.world.qiniu.bound(f"two.{name}")
    assert 0 == again.code, again
    assert_nothing_written(again.left)


@thorough
def test_account_whose_keys_are_wrong_holds_up_no_other(host: TwoAccounts, name: str) -> None:
    """The failure names the account's label; the other account's domains are served."""
    host.add_to_two(f"two.{name}")
    host.keys["TWO_SK"] = "wrong"

    run = host.run("sync", "--json")

    assert 1 == run.code, run
    ended = {(step["target"], step["domain"]): step["outcome"] for step in run.steps}
    assert "done" == ended["one", name]
    assert "failed" == ended["two", None]
    assert None is host.world.qiniu.bound(f"two.{name}")


@thorough
def test_domain_that_has_moved_to_the_other_account(host: TwoAccounts, name: str) -> None:
    """The next run finds and serves the domain at its new account."""
    host.add_to_two(f"two.{name}")
    host.run("sync")
    host.add_to_two(name)  # a domain is at a single account

    run = host.run("sync", "--json")

    assert (
        "done"
        == {
            (step["target"], step["domain"]): step["outcome"]
            for step in run.steps
            if step["action"] == "verify"
        }["two", name]
    ), run


@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_domain_listed_for_two_accounts(
    command: str, world: World, tmp_path: Path, name: str
) -> None:
    """The message names both lines, because a domain belongs to a single account; no service is
    asked.
    """
    host = TwoAccounts(world, tmp_path, tables(name, f'["{name}"]', f'["*.{name}", "{name}"]'))

    run = host.run("-q", command)

    assert 2 == run.code, run
    assert f"{name} is also listed for the account one, at line " in run.complaint.error
    assert 0 == run.left.qiniu_requests


# --- Certificates of one file that cover the same domain, from the command's side


def deployed(run: Run) -> dict[str, set[str]]:
    return {
        lineage["name"]: {step["domain"] for step in lineage["steps"] if step["action"] == "deploy"}
        for lineage in run.document["certificates"]
    }


@pytest.fixture
def host_of_both(world: World, tmp_path: Path, name: str) -> Host:
    """A machine with a certificate for everything below a name, and files with a certificate for a
    single domain below. Both certificates are deployed to all covered domains.
    """
    world.add_http_domain(f"img.{name}")
    world.add_http_domain(f"pics.{name}")
    bundle = make_bundle(f"pics.{name}", not_before=datetime.now(UTC))
    fullchain, privkey = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    fullchain.write_text(bundle.fullchain_pem)
    privkey.write_text(bundle.privkey_pem.reveal())
    return Host(
        world,
        tmp_path,
        f'\n[[certificates]]\nname = "wide"\nnames = ["*.{name}"]\ndns = "dnspod"\n'
        'deploy = [{ to = "qiniu" }]\n'
        f'\n[[certificates]]\nname = "pics"\nfullchain = "{fullchain}"\nprivkey = "{privkey}"\n'
        'deploy = [{ to = "qiniu" }]\n',
    )


@thorough
def test_files_of_a_kind_that_cannot_be_read_stop_no_other(host_of_both: Host, name: str) -> None:
    """The plan and the run name the kind of a complete pair of SM2; the other certificate is issued
    and served.
    """
    for path in ("fullchain.pem", "privkey.pem"):
        file = host_of_both.directory / path
        file.write_text(on_curve(file.read_text()))

    plan, run = host_of_both.run("plan"), host_of_both.run("sync", "--json")

    kind = "certferry cannot read this kind of certificate: SM2"
    assert kind in plan.out + plan.err
    assert 1 == run.code, run
    ok = {lineage["name"]: lineage["ok"] for lineage in run.document["certificates"]}
    assert {"wide": True, "pics": False} == ok
    assert kind in run.out
    assert host_of_both.world.qiniu.bound(f"img.{name}") is not None


def test_each_domain_has_one_certificate(host_of_both: Host, name: str) -> None:
    """The more exact certificate wins, although its names are only in its files. A run for one
    certificate respects the claims of the other.
    """
    wide, pics = {f"img.{name}"}, {f"pics.{name}"}

    assert {"wide": wide, "pics": pics} == deployed(host_of_both.run("plan", "--json"))
    assert {"wide": wide} == deployed(host_of_both.run("plan", "--json", "wide"))
    assert {"pics": pics} == deployed(host_of_both.run("plan", "--json", "pics"))


def lineage(lineage: str, name: str) -> str:
    """Declare a certificate for a name, deployed to all covered domains."""
    return (
        f'\n[[certificates]]\nname = "{lineage}"\nnames = ["{name}"]\ndns = "dnspod"\n'
        'deploy = [{ to = "qiniu" }]\n'
    )


def test_copy_of_a_certificate_is_judged_alike_by_every_command(
    world: World, tmp_path: Path, name: str
) -> None:
    """One certificate serves all domains and the copy is superfluous: every command agrees. The
    warning names both declarations with their lines.
    """
    world.add_http_domain(name)
    host_of_both = Host(world, tmp_path, lineage("img", name) + lineage("img2", name))
    lines = host_of_both.config.read_text().splitlines()
    first, second = (number for number, line in enumerate(lines, 1) if line == "[[certificates]]")
    same = f"img2 has the same names as img, at line {first}"
    assert 0 == host_of_both.run("sync").code
    served = "every domain of the certificate is served by img"

    plan, status = host_of_both.run("plan"), host_of_both.run("status")
    run, check = host_of_both.run("sync"), host_of_both.run("check")

    assert "img2: not needed\n" in plan.out + plan.err
    assert served in plan.out + plan.err
    assert "every domain of the certificate is served by img" in run.out + run.err
    assert "not needed" in status.out
    assert (0, 0, 0, 0) == (plan.code, run.code, status.code, check.code), check
    document = host_of_both.run("plan", "img2", "--json").document
    (planned,) = document["certificates"]
    assert [{"target": "qiniu", "lineages": ["img"], "message": served}] == (planned["ceded"])
    doctor = host_of_both.run("doctor", "--json").document["findings"]
    assert ["names_twice"] == [each["code"] for each in doctor if "same names" in each["message"]]
    for reported in (plan, status, run):
        assert f":{second + 2}: [[certificates]] names: {same}" in reported.err
    assert same not in host_of_both.run("-q", "plan").err
    host_of_both.config.write_text(
        host_of_both.config.read_text() + lineage("other", f"other.{name}")
    )
    assert same not in host_of_both.run("plan", "other").err


def test_same_names_with_another_kind_of_key_are_no_mistake(
    world: World, tmp_path: Path, name: str
) -> None:
    """A second certificate with another kind of key serves old clients."""
    old = lineage("old", name).replace('dns = "dnspod"', 'dns = "dnspod"\nkey_type = "rsa2048"')
    host_of_both = Host(world, tmp_path, lineage("img", name) + old)

    assert "same names" not in host_of_both.run("plan").err


# --- A certificate with a new name in the file, and a certificate that the file has lost


@pytest.fixture
def renamed_host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine whose certificate `img` is served."""
    world.add_http_domain(name)
    renamed_host = Host(world, tmp_path, certificate(name, name="img"))
    assert 0 == renamed_host.run("sync").code
    return renamed_host


def on_one_line(words: str) -> str:
    return " ".join(words.split())


def test_renamed_certificate_goes_on_without_a_new_one(renamed_host: Host) -> None:
    """The plan suggests `rename`. Afterwards runs order, upload and bind nothing: the served
    certificate belongs to the new name, and a successor takes its place.
    """
    renamed_host.rewrite('name = "img"', 'name = "pics"')

    plan, renamed = renamed_host.run("plan"), renamed_host.run("rename", "img", "pics")
    after, sync = renamed_host.run("plan"), renamed_host.run("sync")

    assert "img is no longer declared, and pics has exactly its names" in on_one_line(plan.err)
    assert "certferry rename img pics` keeps the certificate" in on_one_line(plan.err)
    assert "1 certificate to issue" in plan.out
    assert 0 == renamed.code, renamed
    assert "pics has the certificate of img, valid until" in renamed.out
    assert "Nothing to do" in after.out
    assert "" == after.err
    assert (0, 0, 0) == (sync.code, sync.left.orders, sync.left.qiniu_writes), sync
    assert "not declared" not in sync.err
    with renamed_host.remembering() as store:
        (old,), (new,) = store.versions("img"), store.versions("pics")
    assert old.certificate.fingerprint == new.certificate.fingerprint
    renewed = renamed_host.run("sync", "--renew", "pics")
    assert (0, 1, 2) == (renewed.code, renewed.left.qiniu_uploads, renewed.left.qiniu_writes)
    reported = [line for line in renamed_host.run("history").out.splitlines() if "drift" in line]
    assert [] == reported


def test_renamed_twice_and_back_changes_nothing_at_the_cdn(renamed_host: Host) -> None:
    """A repeated renaming and the way back leave the CDN unchanged: the copy at the CDN still
    belongs to the certificate.
    """
    renamed_host.rewrite('name = "img"', 'name = "pics"')
    first, again = (
        renamed_host.run("rename", "img", "pics"),
        renamed_host.run("rename", "img", "pics"),
    )
    renamed_host.rewrite('name = "pics"', 'name = "img"')
    back, sync = renamed_host.run("rename", "pics", "img"), renamed_host.run("sync")

    assert (0, 0, 0, 0) == (first.code, again.code, back.code, sync.code)
    assert "Nothing was changed" in again.out
    assert 0 == sync.left.qiniu_writes


def test_renamed_certificate_that_leaves_the_file_is_reported_by_its_last_name(
    renamed_host: Host,
) -> None:
    """`forget` of the last name ends the certificate: runs do not report the earlier names."""
    renamed_host.rewrite('name = "img"', 'name = "pics"')
    assert 0 == renamed_host.run("rename", "img", "pics").code
    assert 0 == renamed_host.run("sync").code
    renamed_host.rewrite('name = "pics"\n', 'name = "other"\n')
    renamed_host.rewrite('names = ["', 'names = ["other.')

    before = renamed_host.run("plan")
    assert 0 == renamed_host.run("forget", "pics").code
    after = renamed_host.run("plan")

    assert "pics is no longer declared" in on_one_line(before.err)
    assert "img is not declared" not in on_one_line(before.err)
    assert "not declared" not in on_one_line(after.err)


WORDS = "img is no longer declared: certferry neither renews nor deploys the certificate"


def test_removed_declaration_is_reported_by_every_run(renamed_host: Host, name: str) -> None:
    """The report comes from runs and from all reading commands, until `forget` confirms the
    removal. A new declaration and a new removal start the report again.
    """
    with EventReceiver() as hook:
        channel = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
        renamed_host.config.write_text(renamed_host.config.read_text() + channel)
        whole = renamed_host.config.read_text()
        renamed_host.rewrite(f'name = "img"\ndns = "dnspod"\nnames = ["{name}"]', _other(name))

        plan, runs = (
            renamed_host.run("plan"),
            [renamed_host.run("sync", "--json") for _ in range(2)],
        )
        alone = renamed_host.run("sync", f"other.{name}")
        reported = [each["code"] for each in hook.events]
        check, status = renamed_host.run("check", "--json").document, renamed_host.run("status")
        doctor = renamed_host.run("doctor", "--json").document

        assert all(WORDS in on_one_line(run.err) for run in (plan, *runs))
        assert all("certferry forget img" in on_one_line(run.err) for run in (plan, *runs))
        assert ["img"] == [each["name"] for each in runs[1].document["undeclared"]]
        assert WORDS not in on_one_line(alone.err)
        assert ["undeclared"] == reported
        assert "WARNING" == check["status"]
        assert ["undeclared"] == [each["code"] for each in check["problems"]]
        assert WORDS in on_one_line(status.out)
        assert "undeclared" in {each["code"] for each in doctor["findings"]}

        forgotten = renamed_host.run("forget", "img")
        after = renamed_host.run("sync")

        assert (0, 0) == (forgotten.code, after.code)
        assert "img is forgotten." in on_one_line(forgotten.out)
        assert "" == after.err
        assert "OK" == renamed_host.run("check", "--json").document["status"]
        assert "forgotten" in renamed_host.run("history", "img").out
        assert ["trouble", "recovered"] == [each["event"] for each in hook.events]
        cut = renamed_host.config.read_text()
        renamed_host.config.write_text(whole)
        renamed_host.run("sync", "--no-wait")
        renamed_host.config.write_text(cut)
        assert WORDS in on_one_line(renamed_host.run("sync").err)
        renamed_host.config.write_text(whole)
        assert WORDS not in on_one_line(renamed_host.run("status").out)


def test_certificates_of_another_file(renamed_host: Host, name: str) -> None:
    """Two files may share a state; the certificates of a deleted file are reported."""
    (renamed_host.directory / "other").mkdir()
    other = Host(
        renamed_host.world, renamed_host.directory / "other", certificate(f"b.{name}", to=None)
    )
    other.rewrite(f"sqlite:///{other.state}", f"sqlite:///{renamed_host.state}")
    assert 0 == renamed_host.run("sync").code

    runs = [other.run("sync") for _ in range(2)]
    renamed_host.config.unlink()
    third = other.run("sync")

    assert all("not declared" not in on_one_line(run.err) for run in runs)
    assert WORDS in on_one_line(third.err)


def test_forget_of_an_unknown_or_declared_name(renamed_host: Host, name: str) -> None:
    """`forget` refuses a certificate that the file still has, by name or by domain, and a name that
    never existed.
    """
    unknown = renamed_host.run("-q", "forget", "ing")

    for word in ("img", name):
        still = renamed_host.run("-q", "forget", word)
        assert (2, "img is still in the configuration file") == (still.code, still.complaint.error)
    assert (2, "there is no certificate called ing") == (unknown.code, unknown.complaint.error)


def test_domain_selects_the_certificate_to_rename_or_forget(renamed_host: Host, name: str) -> None:
    """A domain selects its certificate, even if the file has lost the certificate."""
    renamed_host.rewrite('name = "img"', 'name = "pics"')

    declared = renamed_host.run("-q", "forget", name)
    renamed = renamed_host.run("rename", "img", name)

    assert (2, "pics is still in the configuration file") == (
        declared.code,
        declared.complaint.error,
    )
    assert "pics has the certificate of img" in renamed.out
    with renamed_host.remembering() as store:
        assert {"img", "pics"} == set(store.lineages())
    renamed_host.rewrite(f'name = "pics"\ndns = "dnspod"\nnames = ["{name}"]', _other(f"x.{name}"))
    assert "pics is no longer declared" in on_one_line(renamed_host.run("plan").err)
    two = renamed_host.run("-q", "forget", name)
    assert f"{name} is in several certificates: img, pics" == two.complaint.error


def test_domain_selects_the_certificate_to_forget(renamed_host: Host, name: str) -> None:
    """The domain selects the certificate, and runs are silent about the certificate afterwards."""
    renamed_host.rewrite(f'name = "img"\ndns = "dnspod"\nnames = ["{name}"]', _other(f"x.{name}"))

    forgotten = renamed_host.run("forget", name)

    assert "img is forgotten. Its certificate stays deployed, and is valid until" in on_one_line(
        forgotten.out
    )
    assert "not declared" not in renamed_host.run("plan").err


def test_rename_of_an_unknown_or_declared_name(renamed_host: Host) -> None:
    """`rename` refuses a name that the file still has, and a name that never existed."""
    still = renamed_host.run("-q", "rename", "img", "img")
    renamed_host.rewrite('name = "img"', 'name = "pics"')
    unknown = renamed_host.run("-q", "rename", "ing", "pics")

    assert (2, "img is still in the configuration file") == (still.code, still.complaint.error)
    assert (2, "ing has no valid certificate") == (unknown.code, unknown.complaint.error)


def _other(name: str) -> str:
    return f'name = "other"\ndns = "dnspod"\nnames = ["{name}", "other.{name}"]'
