"""Adapters from entry points: certferry's own, other authors', and broken ones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from certferry.config.load import load
from certferry.config.model import Settings
from certferry.core.desired.certificate import Kind
from certferry.errors import ConfigError, DeployError, DnsError, DnsUnavailable, Interrupted
from certferry.ports.survey import ZoneFinder
from certferry.present.language import voice_in
from certferry.reconcile.examination import cnames_of, examine_account
from certferry.reconcile.handing_over import without_key
from certferry.reconcile.run import Run
from certferry.wiring.accounts import Paces, VendorAccounts
from certferry.wiring.adapters import DNS_PROVIDERS, OURS, TARGETS, installed, package_of
from certferry.wiring.settings import InstalledAdapters, offered
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.qiniu.account import bundle
from tests.house.tree import ROOT
from tests.wiring.packages import DNS_GROUP, TARGET_GROUP, Packages, adapter

GOOD = "good"
SECRET = "do-not-show-me-4711"

RULE = "from certferry.ports.adapter import CommonNameRule\n"
LITERAL = "from typing import Literal\n"
HARBOUR = ROOT / "tests/data/third_party/src/certferry_harbour/target.py"
DEPLOYED = "@dataclass(frozen=True)\nclass DeploySettings:\n"

Connect = Callable[[str], VendorAccounts]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Return a folder of packages with a single good package."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    folder_of_packages = Packages(tmp_path)
    folder_of_packages.install("certferry-good", "good_dns", adapter(), **{GOOD: DNS_GROUP})
    yield folder_of_packages
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def connect(packages: Packages, tmp_path: Path) -> Connect:
    """Return a function that reads a configuration and gives its accounts, by the table of the
    packages.
    """

    def accounts(text: str) -> VendorAccounts:
        return VendorAccounts(
            settings(tmp_path, text),
            lambda _: MemoryAccount(),
            run=Run(),
            paces=Paces(),
            language="en",
            table=packages.table(),
        )

    return accounts


def settings(folder: Path, text: str) -> Settings:
    return load(written(folder, text), {"HOME": str(folder)})


def written(folder: Path, text: str) -> Path:
    """Write a configuration with access for its owner alone."""
    path = folder / "certferry.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def refusal(connect: Connect, text: str, label: str = "bad") -> str:
    """Return the message about an account that cannot be connected."""
    with pytest.raises(ConfigError) as caught:
        connect(text).dns(label)
    return str(caught.value.message)


def test_built_in_adapters_are_found_like_all_others() -> None:
    """Also in an editable install, through the entry points of the package `certferry`."""
    assert "dnspod" in installed().names(DNS_PROVIDERS)
    assert "qiniu" in installed().names(TARGETS)
    assert installed().find(TARGETS, "qiniu").is_ours


def test_package_is_imported_on_first_use(packages: Packages) -> None:
    """A package without an account costs no time, and its errors stay unnoticed."""
    packages.install("certferry-bad", "bad_dns", "raise SystemExit(1)", bad=DNS_GROUP)

    table = packages.table()

    ours = {
        entry_point.name
        for entry_point in installed().declared(DNS_GROUP)
        if package_of(entry_point) == OURS
    }
    assert [*sorted(ours), "bad", GOOD] == table.names(DNS_PROVIDERS)
    assert not {"bad_dns", "good_dns"} & set(sys.modules)


def test_offers_are_in_the_order_of_the_ranks(packages: Packages) -> None:
    """A package may choose a rank; the usual service stays first, and a package without a rank is
    last.
    """
    packages.install("certferry-first", "bad_dns", f"{adapter()}\nRANK = 0", first=DNS_GROUP)
    packages.install("certferry-mid", "bad_dns_2", f"{adapter()}\nRANK = 35", mid=DNS_GROUP)

    offers = [service.type for service in offered(DNS_PROVIDERS, packages.table())]

    assert ["dnspod", "first", "tencentcloud", "aliyun", "mid", "cloudflare"] == offers[:6]
    assert ["rfc2136", "acme-dns", "lexicon", "command", "alidns", GOOD] == offers[6:]


def test_name_of_a_service_for_people(packages: Packages) -> None:
    """`CALLED`, in the reader's language, or else `SERVICE`."""
    chinese = voice_in("zh")

    assert "七牛" == chinese.say(installed().find(TARGETS, "qiniu").called)
    assert "DNSPod" == chinese.say(installed().find(DNS_PROVIDERS, "dnspod").called)
    assert "Ours" == chinese.say(packages.table().find(DNS_PROVIDERS, GOOD).called)


def test_name_that_no_package_declares(connect: Connect, tmp_path: Path) -> None:
    """The error has the nearest spelling among all packages, with file and line."""
    message = refusal(connect, '[accounts.bad]\ntype = "goud"\n')

    expected = (
        "certferry.toml:2: [accounts.bad] type: goud is not a DNS provider; did you mean good?"
    )
    assert f"{tmp_path}/{expected}" == message


@pytest.mark.parametrize(
    ("module", "result"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise SystemExit('bye')", "cannot be imported: SystemExit: bye"),
        ("def connect(:", "cannot be imported: SyntaxError"),
        (adapter().replace("def connect", "def connects"), "bad_dns has no connect"),
        ("def connect(s, c): ...", "bad_dns has no SERVICE, ENVIRONMENT, Settings"),
        (
            adapter().replace("@dataclass(frozen=True)", ""),
            "`Settings` of bad_dns is not a dataclass",
        ),
        (adapter().replace("token: str", "token: object"), "no operator could write token"),
        (
            adapter().replace("return Port()", "return settings.nothing"),
            "bad failed: AttributeError: 'Settings' object has no attribute 'nothing'",
        ),
        (adapter().replace("return Port()", "return None"), "has no add_txt, remove_txt"),
        (f"{adapter()}\n{DEPLOYED}    colour: str = ''", "no deployment has colour"),
        (f"{adapter()}\n{DEPLOYED}    http2: bool", "no deployment has http2"),
        (
            f"{LITERAL}{adapter()}\n{DEPLOYED}    kind: Literal['files'] = 'files'",
            "no domain is any of files",
        ),
        (adapter().replace("token: str", "token: 'Nothing'"), "NameError: name 'Nothing'"),
        (adapter().replace("(Variable(", "('OURS_TOKEN', ("), "has no `Variable`s with names"),
        (adapter().replace('("OURS_TOKEN",)', '("OURS_TOKEN")'), "has no `Variable`s with names"),
        (
            adapter().replace('Variable("token"', 'Variable("key"'),
            "`Settings` of bad_dns has no key",
        ),
        (f"{adapter()}\nNEEDS_COMMON_NAME = True", "is not a `CommonNameRule`"),
        (f"{adapter()}\nCALLED = 'Ours'", "`CALLED` of bad_dns is not a `Text`"),
        (f"{adapter()}\nCOMMAND_WORDS = ('Ours',)", "`COMMAND_WORDS` of bad_dns is not a tuple"),
        (f"{adapter()}\nRANK = True", "`RANK` of bad_dns is not a whole number"),
        (f"{adapter()}\nONLY_SENDS = 'yes'", "`ONLY_SENDS` of bad_dns is neither True nor False"),
        (
            f"{adapter()}\n{RULE}NEEDS_COMMON_NAME = CommonNameRule('no_such')",
            "`Settings` of bad_dns has no no_such",
        ),
    ],
)
def test_broken_package_is_named(
    packages: Packages, connect: Connect, module: str, result: str
) -> None:
    """There is a single error, at the line of the account; an account of another package works."""
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)
    text = '[accounts.good]\n[accounts.bad]\ntoken = "t"\n'

    message = refusal(connect, text)

    assert "[accounts.bad] type: the package certferry-bad: " in message
    assert result in message
    assert 1 == len(message.splitlines())
    assert connect(text).dns(GOOD) is not None


def test_package_with_a_name_of_certferry(
    packages: Packages, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The name keeps its meaning, so that no key reaches another service; a warning names the
    package.
    """
    packages.install("certferry-bad", "bad_dns", adapter(), dnspod=DNS_GROUP)

    with caplog.at_level(logging.WARNING):
        connect('[accounts.dnspod]\nid = "1"\ntoken = "t"\n').dns("dnspod")

    (record,) = caplog.records
    assert "the package certferry-bad declares the DNS provider dnspod" in str(record.msg)
    assert "bad_dns" not in sys.modules


def test_name_that_two_packages_declare(packages: Packages, connect: Connect) -> None:
    """Neither package gets the keys; other accounts work."""
    for package, module in (("certferry-bad", "bad_dns"), ("certferry-worse", "worse_dns")):
        packages.install(package, module, adapter(), bad=DNS_GROUP)

    message = refusal(connect, "[accounts.bad]\n")

    assert (
        "several packages declare the DNS provider bad: certferry-bad, certferry-worse" in message
    )
    assert connect("[accounts.good]\n").dns(GOOD) is not None


def test_foreign_error_of_a_port_becomes_an_error_of_ours(
    packages: Packages, connect: Connect
) -> None:
    """The error names the package, and hides the secrets of the settings."""
    module = adapter(f"RuntimeError('token {SECRET} refused')")
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)
    port = connect(f'[accounts.bad]\ntoken = "{SECRET}"\n').dns("bad")

    with pytest.raises(DnsError) as caught:
        port.add_txt("_acme-challenge.example.com", "value")

    assert "the package certferry-bad: bad failed: RuntimeError: token ••• refused" == str(
        caught.value
    )
    assert port.remove_txt("_acme-challenge.example.com", "value", None)


def in_a_pass(work: Callable[[], object]) -> BaseException | None:
    """Do work in a thread, as a run does; return the raised error."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).exception()


UNREADABLE = "type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()"


@pytest.mark.parametrize(
    ("raised", "result"), [("KeyboardInterrupt()", "KeyboardInterrupt"), (UNREADABLE, "Odd")]
)
def test_strange_error_of_a_port_fails_that_account(
    packages: Packages, connect: Connect, raised: str, result: str
) -> None:
    """An interruption without an operator, and an error that cannot be printed, are failures of the
    package. Other work goes on.
    """
    packages.install("certferry-bad", "bad_dns", adapter(raised), bad=DNS_GROUP)
    port = connect("[accounts.bad]\n").dns("bad")

    failed = in_a_pass(lambda: port.add_txt("_acme-challenge.example.com", "value"))

    assert isinstance(failed, DnsError)
    assert f"the package certferry-bad: bad failed: {result}" == str(failed)


def test_interruption_raised_by_a_package_while_connecting(
    packages: Packages, connect: Connect
) -> None:
    """The package connects in a thread of its own, since an operator's Ctrl-C is raised in the main
    thread.
    """
    module = adapter().replace("return Port()", "raise KeyboardInterrupt")
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)

    assert "certferry-bad: bad failed: KeyboardInterrupt" in refusal(connect, "[accounts.bad]\n")


def test_ctrl_c_during_a_call(packages: Packages, connect: Connect) -> None:
    """In the main thread the interruption comes from the operator, and ends the command."""
    packages.install("certferry-bad", "bad_dns", adapter("KeyboardInterrupt"), bad=DNS_GROUP)
    port = connect("[accounts.bad]\n").dns("bad")

    with pytest.raises(KeyboardInterrupt):
        port.add_txt("_acme-challenge.example.com", "value")


@pytest.mark.parametrize(
    ("more", "call", "result"),
    [
        ("zones = lambda self: (1, 2)", "zones", "gave tuple of int and not tuple of FoundZone"),
        (
            "name_servers = lambda self, zone: frozenset({1})",
            "name_servers",
            "gave frozenset of int and not frozenset of str",
        ),
    ],
)
def test_port_with_wrong_members_in_its_answer(
    packages: Packages, connect: Connect, more: str, call: str, result: str
) -> None:
    """The members of an answer are checked before use."""
    name, _, value = more.partition(" = ")
    module = f"{adapter()}\nPort.{name} = {value}\n"
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)
    port: Any = connect("[accounts.bad]\n").dns("bad")

    with pytest.raises(DnsError, match=f"bad failed: TypeError: {result}"):
        port.zones() if call == "zones" else port.name_servers("example.com")


STOPPED = "__import__('certferry.errors').errors.Interrupted('stopped')"
SILENT = (
    "__import__('certferry.ports.adapter').ports.adapter.NoAnswer(Text('silence'), maybe_done=True)"
)


@pytest.mark.parametrize(("raised", "kind"), [(STOPPED, Interrupted), (SILENT, DnsUnavailable)])
def test_errors_of_the_contract_pass(
    packages: Packages, connect: Connect, raised: str, kind: type[Exception]
) -> None:
    """Certferry's own errors pass unchanged; a silent service is unavailable."""
    packages.install("certferry-bad", "bad_dns", adapter(raised), bad=DNS_GROUP)
    port = connect("[accounts.bad]\n").dns("bad")

    with pytest.raises(kind):
        port.add_txt("_acme-challenge.example.com", "value")


@pytest.mark.parametrize(("method", "word"), [("zone", "zones"), ("zones_of", "zone_of")])
def test_ability_that_is_misspelt_is_reported(
    packages: Packages, connect: Connect, caplog: pytest.LogCaptureFixture, method: str, word: str
) -> None:
    """The port would otherwise seem to lack the ability. A method with another name is ignored."""
    module = adapter() + f"\nPort.{method} = lambda self: ()\nPort.close = lambda self: None\n"
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)

    connect("[accounts.bad]\n").dns("bad")

    (result,) = (record.getMessage() for record in caplog.records)
    assert (
        f"the package certferry-bad: bad has {method}, which is never called; did you mean {word}?"
        == result
    )


def test_settings_whose_check_fails(packages: Packages, connect: Connect) -> None:
    """The error of the check is reported for the account, without its secret."""
    settings = 'token: str = ""\n'
    judged = (
        "token: __import__('certferry').core.redaction.Secret\n\n"
        "    def __post_init__(self):\n        raise ValueError(self.token.reveal())\n"
    )
    module = adapter().replace(settings, judged)
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)

    message = refusal(connect, f'[accounts.bad]\ntoken = "{SECRET}"\n')

    assert "[accounts.bad] type: the package certferry-bad: ValueError: •••" in message
    assert SECRET not in message


def test_zone_that_a_packages_port_finds(packages: Packages, connect: Connect) -> None:
    """Certferry asks the port for a zone if possible; an answer of another type is an error of the
    package.
    """
    module = adapter() + "\nPort.zone_of = lambda self, name: None\n"
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)
    packages.install("certferry-plain", "plain_dns", adapter(), plain=DNS_GROUP)
    accounts = connect("[accounts.bad]\n[accounts.plain]\n")

    with pytest.raises(DnsError, match="gave NoneType and not FoundZone"):
        cast("ZoneFinder", accounts.dns("bad")).zone_of("_acme-challenge.example.com")
    assert not hasattr(accounts.dns("plain"), "zone_of")


def test_port_with_an_answer_of_another_type(packages: Packages, connect: Connect) -> None:
    """The error is reported at once, before any use of the answer."""
    module = adapter().replace("raise RuntimeError('no token for you')", "return None")
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)
    port = connect("[accounts.bad]\n").dns("bad")

    with pytest.raises(DnsError, match="bad failed: TypeError: gave NoneType and not str"):
        port.add_txt("_acme-challenge.example.com", "value")


TARGET = f"""{LITERAL}{adapter()}
{DEPLOYED}    kind: Literal["auto", "bucket"] = "auto"
    http2: bool | None = None

"""
SERVED = """[accounts.depot]
[accounts.dnspod]
id = "1"
token = "t"
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "depot"
kind = "bucket"
"""


def test_target_has_kinds_of_its_own(packages: Packages, tmp_path: Path) -> None:
    """A deployment may set exactly the words of its target."""
    packages.install("certferry-depot", "depot_target", TARGET, depot=TARGET_GROUP)
    adapters = InstalledAdapters(packages.table)
    path = written(tmp_path, SERVED)

    [desired] = load(path, {"HOME": str(tmp_path)}, adapters).certificates
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, SERVED.replace("bucket", "kodo")), {}, adapters)

    [deployment] = desired.deployments
    assert (Kind("bucket"), True) == (deployment.kind, deployment.kind.is_target_specific)
    assert "kind: must be one of auto, bucket" in str(caught.value)


def test_options_of_a_deployment_whose_check_fails(packages: Packages, tmp_path: Path) -> None:
    """The file is refused at the deployment, with the package, since the operator's choice is
    unknown.
    """
    module = f"{TARGET}    def wrong(self, written):\n        return written['kind']\n"
    packages.install("certferry-depot", "depot_target", module, depot=TARGET_GROUP)

    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, SERVED), {}, InstalledAdapters(packages.table))

    assert (
        f"{tmp_path}/certferry.toml:9: [[certificates.deploy]] to: the package certferry-depot:"
        " TypeError: list indices must be integers or slices, not str"
    ) == str(caught.value)


def test_target_that_cannot_list_domains(packages: Packages, connect: Connect) -> None:
    """`init` reports the missing ability; the account would otherwise seem empty."""
    module = HARBOUR.read_text(encoding="utf-8")
    packages.install("certferry-depot", "depot_target", module, depot=TARGET_GROUP)
    accounts = connect('[accounts.depot]\ntoken = "t"\n')

    survey = accounts.survey_of("depot")(lambda *_: None)

    assert () == survey.domains
    assert ["depot cannot list its domains"] == [str(error) for error in survey.unread]


def test_words_that_quote_an_uploads_key(
    packages: Packages, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A package's error may quote the whole answer of its service: the log has the place without
    the words, and the report withholds the words of an upload.
    """
    module = HARBOUR.read_text(encoding="utf-8").replace(
        "label = _label(lineage, bundle.certificate)",
        "raise RuntimeError('sent ' + bundle.privkey_pem.reveal()[30:60].swapcase())",
    )
    packages.install("certferry-depot", "depot_target", module, depot=TARGET_GROUP)
    target = connect('[accounts.depot]\ntoken = "t"\n').target("depot")
    made = bundle("img.example.com")

    with (
        caplog.at_level(logging.DEBUG, "certferry"),
        pytest.raises(DeployError) as caught,
    ):
        target.upload("img", made)

    sent = made.privkey_pem.reveal()[30:60].swapcase()
    shown = without_key(caught.value, made.privkey_pem, withholds_words=True)
    withheld = "depot failed: [words withheld: they may quote the private key]"
    assert f"the package certferry-depot: {withheld}" == str(shown)
    assert "in upload" in caplog.text
    assert sent not in caplog.text


EXAMINED = """
    def zones(self):
        return ()

    def examine(self, account):
        raise RuntimeError("no examination for you")

    def clock_ahead(self):
        return "late"

    def name_servers(self, zone):
        return frozenset({"ns1." + zone})
"""
"""Abilities for `doctor` of another package's port, half of them broken."""


def test_account_of_a_package_that_is_examined(packages: Packages, connect: Connect) -> None:
    """Valid answers are passed on; errors and answers of another type are errors of the package."""
    module = adapter().replace("    def remove_txt", EXAMINED + "\n    def remove_txt")
    packages.install("certferry-seen", "seen_dns", module, seen=DNS_GROUP)
    dns: Any = connect("[accounts.seen]\n").dns("seen")

    assert frozenset({"ns1.example.com"}) == dns.name_servers("example.com")
    with pytest.raises(DnsError, match="no examination for you"):
        dns.examine("seen")
    with pytest.raises(DnsError, match="gave str and not"):
        dns.clock_ahead()


def test_account_of_a_package_that_cannot_be_examined(packages: Packages, connect: Connect) -> None:
    """The examination is empty, without any finding."""
    packages.install("certferry-depot", "depot_target", HARBOUR.read_text(), depot=TARGET_GROUP)
    accounts = connect('[accounts.depot]\ntoken = "t"\n[accounts.good]\n')
    dns: Any = accounts.dns("good")
    target: Any = accounts.target("depot")

    for port in (dns, target):
        assert [] == list(examine_account("label", port))
    assert {} == cnames_of("depot", target, ())
    assert not any(hasattr(dns, name) for name in ("zones", "zone_of", "name_servers"))
    assert not hasattr(target, "examine")  # else `init` would claim to have tried its keys


def test_target_of_a_package_that_is_examined(packages: Packages, connect: Connect) -> None:
    """A target is examined in the same way as a DNS account."""
    more = (
        "    def cnames(self):\n        return {'a.test': 'a.cdn.test'}\n\n"
        "    def examine(self, account):\n        return ()\n\n"
    )
    module = HARBOUR.read_text(encoding="utf-8")
    module = module.replace("    def observe(", more + "    def observe(", 1)
    packages.install("certferry-depot", "depot_target", module, depot=TARGET_GROUP)
    target: Any = connect('[accounts.depot]\ntoken = "t"\n').target("depot")

    assert {"a.test": "a.cdn.test"} == target.cnames()
    assert () == target.examine("depot")


@pytest.mark.parametrize("raised", ["RuntimeError", "SystemExit"])
def test_port_whose_attributes_raise_errors(
    packages: Packages, connect: Connect, raised: str
) -> None:
    """Certferry reads the abilities from the port itself, so attributes are guarded as methods
    are.
    """
    more = f"    @property\n    def zones(self):\n        raise {raised}('no zones')\n\n"
    module = adapter().replace("    def remove_txt", more + "    def remove_txt")
    packages.install("certferry-bad", "bad_dns", module, bad=DNS_GROUP)

    assert f"certferry-bad: bad failed: {raised}: no zones" in refusal(connect, "[accounts.bad]\n")


def test_broken_adapter_is_reported_before_an_order(packages: Packages, connect: Connect) -> None:
    """The request for its zones reports the broken import."""
    packages.install("certferry-bad", "bad_dns", "import nothing_like_it\n", bad=DNS_GROUP)
    accounts = connect('[accounts.bad]\n[[certificates]]\nnames = ["a.example.com"]\ndns = "bad"\n')
    dns: Any = accounts.meant()[0]["bad"]

    with pytest.raises(DnsError, match="certferry-bad"):
        dns.zones()


def test_accounts_are_listed_by_their_possible_roles(packages: Packages, connect: Connect) -> None:
    """The list needs no import. An account of an unknown type stays in the list, and fails on
    connecting.
    """
    packages.install("certferry-both", "both_ways", "raise RuntimeError", both=TARGET_GROUP)
    packages.install("certferry-both-dns", "both_dns", "raise RuntimeError", both=DNS_GROUP)
    accounts = connect(
        "[accounts.qiniu]\n[accounts.dnspod]\n[accounts.both]\n[accounts.good]\n[accounts.odd]\n"
    )

    assert ("qiniu", "both", "odd") == accounts.labels(TARGETS)
    assert ("dnspod", "both", "good", "odd") == accounts.labels(DNS_PROVIDERS)
    with pytest.raises(ConfigError, match="odd is not a target"):
        accounts.target("odd")
