"""The how-tos of the vendors, by their own policies, tables and commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.house.tree import ROOT

GUIDES = ROOT / "docs" / "how-to"
CALLED = "img.example.com"
"""The name in the guides; a test takes a fresh name in its place."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = "…"
COPY = re.compile(r"\b(certificate|证书|verified|已验证) \S+(?= (?:→|\d))")
DAY = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC)?")


@dataclass(frozen=True)
class Guide:
    """A page, and the simulated account in which the page's commands run."""

    vendor: str
    language: str

    def __str__(self) -> str:
        return f"{self.vendor}-{self.language}"

    @property
    def text(self) -> str:
        suffix = ".zh-CN.md" if self.language == "zh" else ".md"
        return (GUIDES / f"to-{self.vendor}{suffix}").read_text(encoding="utf-8")

    def blocks(self, kind: str) -> list[str]:
        return [block for found, block in BLOCK.findall(self.text) if found == kind]

    @property
    def actions(self) -> set[str]:
        """Return the actions that the policy of the page allows."""
        [policy] = self.blocks("json")
        [statement] = [
            value[0] for key, value in json.loads(policy).items() if key.lower() == "statement"
        ]
        return set(statement.get("Action") or statement["action"])

    @property
    def commands(self) -> list[list[str]]:
        """Return the arguments of the page's commands on certificates, in order."""
        typed = [row for block in self.blocks("console") for row in block.splitlines()]
        words = [row.removeprefix("$ certferry ").split() for row in typed if "certferry" in row]
        return [
            argv for argv in words if argv[0] in {"doctor", "discover", "plan", "sync", "status"}
        ]

    @property
    def samples(self) -> list[str]:
        """Return the lines that the page shows as printed, without keys."""
        rows = [row for block in self.blocks("text") for row in block.splitlines()]
        return [row for row in rows if row not in {"", LEFT_OUT} and "=" not in row[:20]]

    def tables(self, name: str, *deploy: str) -> str:
        """Return the page's certificate, for a fresh name, with more lines of the deployment."""
        [block] = self.blocks("toml")
        _, _, tables = block.partition("[[certificates]]")
        lines = "".join(f"{row}\n" for row in deploy)
        return f"\n[[certificates]]{tables}{lines}".replace(CALLED, name)

    @contextmanager
    def account(self, world: World, name: str) -> Iterator[None]:
        """Run the vendor with the domains of the sandbox, below the fresh name."""
        if self.vendor == "aliyun":
            with world.with_aliyun():
                world.add_aliyun_domain(f"c.{name}", product="dcdn", is_https=True)
                world.add_aliyun_domain(f"b.{name}")
                yield
        else:
            with world.with_tencentcloud():
                world.add_tencent_domain(f"e.{name}", product="eo", is_https=True)
                world.add_tencent_domain(f"d.{name}")
                yield


every_guide = pytest.mark.parametrize(
    "guide",
    [Guide(vendor, language) for vendor in ("aliyun", "tencentcloud") for language in ("en", "zh")],
    ids=str,
)


@pytest.fixture
def name(new_name: Callable[[], str]) -> str:
    return new_name()


def followed(guide: Guide, host: Host, **keys: str) -> list[Run]:
    """Run the commands of a page."""
    return [host.run("--lang", guide.language, *argv, **keys) for argv in guide.commands]


def masked(row: str) -> str:
    """Return a line without widths, dates and the ids of certificates."""
    return COPY.sub(r"\1 ID", DAY.sub("DAY", " ".join(row.split())))


@every_guide
def test_guide_shows_what_is_printed(world: World, tmp_path: Path, name: str, guide: Guide) -> None:
    """Each command succeeds, and each line on the page is printed: by the commands, or by the plan
    of a key with rights for DNS alone.
    """
    with guide.account(world, name):
        host = Host(world, tmp_path, guide.tables(name))
        runs = followed(guide, host)
        again = host.run("--lang", "en", "sync")
        keys = world.add_users_for_dns()
        refused = host.run("--lang", guide.language, "plan", **keys)

    assert ["doctor", "discover", "plan", "sync", "status"] == [argv[0] for argv in guide.commands]
    assert [0] * len(runs) == [run.code for run in runs], runs
    assert "Nothing changed" in again.out
    printed = "\n".join(run.out for run in (*runs, refused)).replace(name, CALLED)
    lines = {masked(row) for row in printed.splitlines()}
    assert len(guide.samples) > 15
    assert [] == [row for row in guide.samples if masked(row) not in lines], printed


@every_guide
def test_policy_of_the_guide_is_enough(
    world: World, tmp_path: Path, name: str, guide: Guide
) -> None:
    """A user with the policy of the page issues, deploys, verifies and retires; each call is one of
    the policy's.
    """
    with guide.account(world, name):
        host = Host(world, tmp_path, guide.tables(name))
        keys: dict[str, str] = {}
        if world.aliyun is not None:  # the stand-in knows policies by their actions
            secret = world.credentials.aliyun_secret
            world.aliyun.add_ram_user("LTAI5tGuide", secret, allowed=sorted(guide.actions))
            keys = {"Ali_Key": "LTAI5tGuide"}
        runs = followed(guide, host, **keys)
        made = (
            set()
            if world.tencentcloud is None
            else {call.action for call in world.tencentcloud.calls()}
        )

    assert [0] * len(runs) == [run.code for run in runs], runs
    at_dnspod = {"DescribeDomainList", "DescribeRecordList", "DescribeRecord", "CreateRecord"}
    allowed = {action.partition(":")[2] for action in guide.actions}
    assert set() == made - at_dnspod - {"DeleteRecord"} - allowed


@every_guide
def test_policy_is_that_of_the_reference(guide: Guide) -> None:
    """The hint on a missing right and the page of rules have no other action for the CDNs."""
    suffix = ".zh-CN.md" if guide.language == "zh" else ".md"
    reference = ROOT / "docs" / "reference" / f"{guide.vendor}{suffix}"
    [policy] = [
        block for kind, block in BLOCK.findall(reference.read_text("utf-8")) if kind == "json"
    ]

    listed = set(re.findall(r'"([a-z-]+:[A-Za-z*]+)"', policy))

    assert listed == {action for action in guide.actions if not action.startswith("alidns:")}


@every_guide
def test_key_for_dns_alone_is_refused_before_an_order(
    world: World, tmp_path: Path, name: str, guide: Guide
) -> None:
    """The plan is blocked, and a run neither orders nor writes a challenge."""
    with guide.account(world, name):
        host = Host(world, tmp_path, guide.tables(name))
        keys = world.add_users_for_dns()
        planned = host.run("plan", **keys)
        ended = host.run("sync", **keys)

    assert (1, 1) == (planned.code, ended.code), ended
    assert {"ssl:UploadCertificate", "yundun-cert:UploadUserCertificate"} & set(
        re.findall(r"[a-z-]+:Upload[A-Za-z]+", planned.out)
    )
    assert [] == host.fingerprints("img")


def test_other_certificates_stay_until_their_end_at_aliyun(
    world: World, tmp_path: Path, name: str
) -> None:
    """`all-unused` neither plans nor tries to remove an unexpired certificate of another program,
    because Alibaba Cloud does not say which products use the certificate.
    """
    guide = Guide("aliyun", "en")
    with guide.account(world, name):
        host = Host(world, tmp_path, guide.tables(name, 'retire = "all-unused"'))
        planned = host.run("plan", "--json")
        ended = host.run("sync")
        assert world.aliyun is not None
        removals = world.aliyun.calls("DeleteUserCertificate")

    [certificate] = planned.document["certificates"]
    assert "retire" not in {step["action"] for step in certificate["steps"]}
    assert 0 == ended.code, ended
    assert [] == removals
