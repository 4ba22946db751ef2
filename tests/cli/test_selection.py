"""Settings and certificates of a run, and the selection of renewals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.cli.options import CommandContext
from certferry.cli.selection import read_settings, settings_of_one, settings_or_defaults
from certferry.errors import ConfigError
from certferry.ports.progress import no_listener
from certferry.present.console import Verbosity
from certferry.reconcile.run import WaitLimit
from certferry.values import replace
from certferry.wiring.selection import must_be_known, select
from certferry.wiring.settings import load_checked
from certferry_sandbox.testing.certificates import make_bundle
from tests.cli.consoles import TestConsole
from tests.cli.fakes import FakeWorkspace, FakeWorld, desired
from tests.cli.terminals import Terminal
from tests.wiring.packages import TARGET_GROUP, Packages, adapter

# --- The settings and the certificates of a run


KEYS = {"DP_Id": "1", "DP_Key": "k", "QINIU_AK": "a", "QINIU_SK": "s"}


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def context(
    path: Path, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> CommandContext:
    """Return the global options of a user whose home is this folder."""
    return CommandContext(
        TestConsole(environ={"HOME": str(path), **(environ or {})}).console, config
    )


def declared(path: Path, *names: str) -> Path:
    tables = [
        f'[[certificates]]\nname = "{name}"\nnames = ["{name}.example.com"]\ndns = "dnspod"\n'
        for name in names
    ]
    file = path / "certferry.toml"
    file.write_text("[accounts.dnspod]\n" + "".join(tables))
    return file


def test_no_name_selects_every_certificate() -> None:
    """Certificates are in the order of the file, with and without names."""
    desired_ones = (desired("b"), desired("a"))

    assert desired_ones == select(desired_ones, ())
    assert (desired_ones[1],) == select(desired_ones, ("a",))
    assert desired_ones == select(desired_ones, ("a", "b", "a"))


def test_names_select_declared_certificates(somewhere: Path) -> None:
    """The settings of a run have exactly the selected certificates."""
    config = declared(somewhere, "img", "static")

    for path in (None, config):
        settings = read_settings(context(somewhere, config=path), ("static",))
        assert ["static"] == [desired.lineage for desired in settings.certificates]


def test_names_without_a_file_are_a_declaration(somewhere: Path) -> None:
    """All names belong to one certificate, with the keys of the environment."""
    settings = read_settings(
        context(somewhere, environ=KEYS), ("img.example.com", "*.img.example.com")
    )

    (certificate,) = settings.certificates
    assert "img.example.com" == certificate.lineage
    assert ("img.example.com", "*.img.example.com") == certificate.names


def test_missing_chosen_file_is_an_error(somewhere: Path) -> None:
    """The environment does not replace a chosen file."""
    missing = context(somewhere, config=somewhere / "none.toml", environ=KEYS)

    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(missing, ("img.example.com",))


def test_settings_without_a_file_are_defaults(somewhere: Path) -> None:
    """Commands that only read accept a missing file: the settings are defaults without
    certificates.
    """
    settings = settings_or_defaults(context(somewhere))

    assert () == settings.certificates
    assert (443, (), None) == (
        settings.verify.port,
        settings.verify.resolvers,
        settings.verify.ca_bundle,
    )


def test_settings_of_the_file_count_for_watch(somewhere: Path) -> None:
    """Port and resolvers of [verify] count for `watch` too."""
    config = declared(somewhere, "img")
    config.write_text("[verify]\nport = 8443\n" + config.read_text())

    assert 8443 == settings_or_defaults(context(somewhere)).verify.port


def session_with(*lineages: str) -> FakeWorkspace:
    return FakeWorkspace(FakeWorld(), tuple(desired(lineage) for lineage in lineages), no_listener)


@pytest.mark.parametrize(
    ("lineages", "name", "hint"),
    [
        ((), "img", "no certificate is declared yet"),
        (("img",), "imgg", "did you mean img?"),
        (("img",), "zzzz", "known: img"),
        (
            tuple(f"c{number}" for number in range(13)),
            "zzzz",
            "known: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, and 3 more",
        ),
    ],
)
def test_unknown_name_has_a_hint(lineages: tuple[str, ...], name: str, hint: str) -> None:
    """The hint has the nearest name, or a short list."""
    with pytest.raises(ConfigError) as caught:
        must_be_known(name, session_with(*lineages))

    assert f"there is no certificate called {name}" == str(caught.value)
    assert hint == str(caught.value.hint)


def test_name_in_the_state_is_known() -> None:
    """A certificate without a declaration still has a history and files."""
    world = FakeWorld()
    session = world.session()
    session.reconciler().sync(session.certificates, WaitLimit(timedelta(0)))

    session = FakeWorkspace(world, (), no_listener)
    assert "img" == must_be_known("img", session)
    assert "img" == must_be_known("a.img.example.com", session)


def with_wildcard(path: Path) -> Path:
    """Write a configuration with a domain that several certificates cover."""
    file = declared(path, "img", "static", "wild")
    file.write_text(file.read_text().replace('["wild.example.com"]', '["*.example.com"]'))
    return file


@pytest.mark.parametrize(
    ("name", "lineages"),
    [
        ("static", ["static"]),
        ("IMG.example.com.", ["img", "wild"]),
        ("*.example.com", ["wild"]),
        ("other.example.com", ["wild"]),
    ],
)
def test_domain_selects_its_certificates(somewhere: Path, name: str, lineages: list[str]) -> None:
    """Every certificate that declares or covers the domain is selected, in any spelling; several
    certificates are reported, except in a quiet run.
    """
    console = TestConsole(environ={"HOME": str(somewhere)})
    context = CommandContext(console.console, with_wildcard(somewhere))

    settings = read_settings(context, (name,))

    assert lineages == [desired.lineage for desired in settings.certificates]
    message = f"{name} is in several certificates: {', '.join(lineages)}\n"
    assert (message if len(lineages) > 1 else "") == console.err
    read_settings(replace(context, verbosity=Verbosity.QUIET), (name,))
    assert len(message) * (len(lineages) > 1) == len(console.err)


def test_command_for_one_certificate_refuses_an_ambiguous_domain(somewhere: Path) -> None:
    """`rollback img.example.com` never changes a certificate by accident."""
    one_certificate = context(somewhere, config=with_wildcard(somewhere))

    (desired,) = settings_of_one(one_certificate, "new.example.com").certificates
    assert "wild" == desired.lineage
    with pytest.raises(ConfigError, match="several certificates: img, wild") as caught:
        settings_of_one(one_certificate, "img.example.com")
    assert "give the name of the certificate" == str(caught.value.hint)


def test_renewal_refuses_an_ambiguous_domain(somewhere: Path) -> None:
    """A domain of several certificates orders none of the certificates."""
    console = TestConsole(environ={"HOME": str(somewhere)})
    words = ["--config", str(with_wildcard(somewhere)), "sync", "--renew", "img.example.com"]

    assert Exit.USAGE == run(words, console.console)

    assert "error: img.example.com is in several certificates: img, wild\n" in console.err


def test_domain_without_a_certificate(somewhere: Path) -> None:
    """The error is about the domain instead of a misspelled name."""
    with pytest.raises(ConfigError, match=r"called x\.example\.org, and no certificate covers"):
        read_settings(context(somewhere, config=declared(somewhere, "img")), ("x.example.org",))


# --- `--renew`: a question before a renewal of all, and certificates of other clients


COMMANDS = pytest.mark.parametrize("command", ["sync", "plan"])
NOT_FOR_PICS = "`--renew` does not apply to pics: its own client renews the certificate"


IMPORTED = """
[[certificates]]
name = "pics"
fullchain = "fullchain"
privkey = "privkey"
[[certificates.deploy]]
to = "files"
directory = "out"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a directory with a configuration: a certificate that needs a DNS account, and a
    certificate of another client.
    """
    bundle = make_bundle("pics.example.com", not_before=datetime.now(UTC))
    (tmp_path / "fullchain").write_text(bundle.fullchain_pem)
    (tmp_path / "privkey").write_text(bundle.privkey_pem.reveal())
    (tmp_path / "certferry.toml").write_text(f"""
[accounts.dnspod]
id = "env:DP_Id"
token = "env:DP_Key"

[[certificates]]
name = "own"
names = ["own.example.com"]
dns = "dnspod"

{IMPORTED}
""")
    (tmp_path / "ferried.toml").write_text(IMPORTED)
    return tmp_path


def certferry(file: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command, and return the exit code, stdout and stderr."""
    environ = {"HOME": str(file.parent), "XDG_DATA_HOME": str(file.parent / "data")}
    console = TestConsole(environ=environ)
    code = run(["--config", str(file), *arguments], console.console)
    return code, console.out, console.err


UNASKED = "`--renew` without NAME would order all 2 certificates anew, due or not"


@pytest.fixture
def two_certificates(machine: Path) -> Path:
    file = machine / "certferry.toml"
    other = '[[certificates]]\nnames = ["other.example.com"]\ndns = "dnspod"\n'
    file.write_text(file.read_text() + other)
    return file


def test_renewal_of_all_needs_an_option(two_certificates: Path) -> None:
    """Without a terminal nothing is ordered before `--all`, because CAs limit orders."""
    before = sorted(two_certificates.parent.iterdir())

    code, out, err = certferry(two_certificates, "sync", "--renew")

    assert (Exit.USAGE, "") == (code, out)
    assert f"error: {UNASKED}\n" in err
    assert f"`certferry --config {two_certificates} sync` renews certificates that are due; " in err
    assert f"`certferry --config {two_certificates} sync --renew NAME` orders one" in err
    assert f"`certferry --config {two_certificates} sync --renew --all` all of them" in err
    assert before == sorted(two_certificates.parent.iterdir())


@pytest.mark.parametrize("words", [["--renew", "--all"], ["--renew", "own"], ["--renew", "a.b.c"]])
def test_named_renewal_needs_no_question(two_certificates: Path, words: list[str]) -> None:
    """The run begins, and fails for missing keys."""
    assert UNASKED not in certferry(two_certificates, "sync", *words)[2]


@pytest.mark.parametrize("words", [["--all"], ["--renew", "--all", "own"]])
def test_option_for_all_needs_renew_without_a_name(
    two_certificates: Path, words: list[str]
) -> None:
    """Other combinations would be ambiguous."""
    code, _, err = certferry(two_certificates, "sync", *words)

    assert Exit.USAGE == code
    assert "error: --all requires --renew, and no NAME\n" in err


def test_renewal_of_all_at_a_terminal(two_certificates: Path) -> None:
    """The question has the number of certificates, and every answer except yes means no."""
    command = [
        sys.executable,
        "-m",
        "certferry",
        "--config",
        str(two_certificates),
        "sync",
        "--renew",
    ]

    with Terminal(command, environ={"CERTFERRY_LANG": "en"}) as terminal:
        terminal.until(lambda screen: "Order all 2 certificates anew, due or not? [y/N]" in screen)
        terminal.type("\n")
        assert Exit.OK == terminal.end()
    assert "Nothing was changed." in terminal.screen.text

    with Terminal(command, environ={"CERTFERRY_LANG": "en", "DP_Id": "", "DP_Key": ""}) as terminal:
        terminal.until(lambda screen: "[y/N]" in screen)
        terminal.type("y\n")
        assert Exit.USAGE == terminal.end()
    assert "DP_Id is not set" in terminal.screen.text

    with Terminal(command, environ={"CERTFERRY_LANG": "en"}) as terminal:
        terminal.until(lambda screen: "[y/N]" in screen)
        terminal.type("\x04")
        assert Exit.STOPPED == terminal.end()
    assert "hint: nothing was changed" in terminal.screen.text


@COMMANDS
@pytest.mark.parametrize("names", [["pics"], ["own", "pics"]])
def test_renewal_of_a_named_imported_certificate(
    machine: Path, command: str, names: list[str]
) -> None:
    """The usage error has the remedy, and no file changes."""
    before = sorted(machine.iterdir())

    result = certferry(machine / "certferry.toml", command, "--renew", *names)

    hint = "renew the certificate with its client; the next run deploys the files"
    assert (Exit.USAGE, "", f"error: {NOT_FOR_PICS}\n\nhint: {hint}\n") == result
    assert before == sorted(machine.iterdir())


@COMMANDS
def test_imported_certificate_by_its_domain(machine: Path, command: str) -> None:
    """The names come from the certificate's file; with an unreadable file only the name of the
    certificate is known.
    """
    code, out, _ = certferry(machine / "certferry.toml", command, "PICS.example.com")

    assert Exit.OK == code
    assert "pics" in out
    (machine / "fullchain").unlink()
    code, _, err = certferry(machine / "certferry.toml", command, "pics.example.com")
    assert Exit.USAGE == code
    assert (
        "there is no certificate called pics.example.com, and no certificate covers"
        " pics.example.com"
    ) in err


@COMMANDS
def test_renewal_of_all_with_an_imported_certificate(machine: Path, command: str) -> None:
    """The imported certificate is reported, and is deployed as in any other run."""
    code, out, err = certferry(machine / "ferried.toml", command, "--renew")

    assert Exit.OK == code
    assert f"{NOT_FOR_PICS}\n" == err[: len(NOT_FOR_PICS) + 1]
    assert "pics" in out
    assert (command == "sync") is (machine / "out" / "fullchain.pem").exists()


@COMMANDS
def test_quiet_renewal_of_all_with_an_imported_certificate(machine: Path, command: str) -> None:
    """A quiet run prints nothing about the imported certificate."""
    assert "" == certferry(machine / "ferried.toml", "-q", command, "--renew")[2]


@COMMANDS
def test_imported_certificate_without_renew(machine: Path, command: str) -> None:
    """An imported certificate is synced like any other."""
    code, _, err = certferry(machine / "ferried.toml", command, "pics")

    assert Exit.OK == code
    assert "--renew" not in err


# --- A certificate profile without a common name, for a target that refuses such certificates


FILE = """
[acme]
profile = "{profile}"
[accounts.qiniu]
access_key = "env:AK"
secret_key = "env:SK"
{more}
[accounts.dnspod]
id = "env:ID"
token = "env:TOKEN"
[[certificates]]
name = "img"
{source}
[[certificates.deploy]]
to = "{to}"
{place}
"""
ISSUED = 'names = ["img.example.com"]\ndns = "dnspod"'


def write(
    directory: Path,
    profile: str,
    *,
    more: str = "",
    source: str = ISSUED,
    to: str = "qiniu",
    place: str = "",
) -> Path:
    """Write a private configuration."""
    path = directory / "certferry.toml"
    path.write_text(FILE.format(profile=profile, more=more, source=source, to=to, place=place))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("profile", ["tlsserver", "shortlived"])
def test_profile_without_a_common_name_is_refused(profile: str, tmp_path: Path) -> None:
    """The error has file, line, reason and remedy, and comes before any key or request."""
    path = write(tmp_path, profile)

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:16: [[certificates.deploy]] to: qiniu refuses certificates without a common name,"
        f" as the profile {profile} makes them"
    ) == str(caught.value)
    assert "accept_no_common_name = true" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ("classic", {}),
        ("tlsserver", {"more": "accept_no_common_name = true"}),
        ("tlsserver", {"to": "files", "place": 'directory = "ssl"'}),
        ("tlsserver", {"source": 'fullchain = "f.pem"\nprivkey = "k.pem"'}),
    ],
    ids=["a common name", "accepted", "another target", "made elsewhere"],
)
def test_profile_without_a_common_name_is_accepted(
    profile: str, options: dict[str, str], tmp_path: Path
) -> None:
    """A profile with a common name, an account that accepts such certificates, a directory, and
    imported files are all accepted.
    """
    assert load_checked(write(tmp_path, profile, **options), {}).certificates


def test_names_beyond_the_limit_of_the_profile(tmp_path: Path) -> None:
    """The limit is Let's Encrypt's own; a second profile of the list is used instead."""
    names = ", ".join(f'"n{number}.example.com"' for number in range(26))
    options = {"source": f'names = [{names}]\ndns = "dnspod"', "to": "files"}
    path = write(tmp_path, "shortlived", **options, place='directory = "ssl"')

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert f"{path}:13: [[certificates]] names: 26 names; a certificate of the profile" in str(
        caught.value
    )
    assert 'profile = "classic"' in str(caught.value.hint)
    text = path.read_text()
    path.write_text(text.replace('"shortlived"', '["shortlived", "classic"]'))
    [certificate] = load_checked(path, {}).certificates
    assert ("classic",) == certificate.issuance.profiles
    path.write_text(text.replace("[acme]", '[acme]\ndirectory = "https://ca.example/dir"'))
    assert load_checked(path, {}).certificates


def test_profile_with_a_short_lifetime_is_refused(tmp_path: Path) -> None:
    """The target could never accept such certificates, even without a common name."""
    path = write(tmp_path, "shortlived", more="accept_no_common_name = true")

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:16: [[certificates.deploy]] to: qiniu requires certificates with at least"
        " 30 days left, but those of the profile shortlived live 6 days"
    ) == str(caught.value)
    more = "accept_no_common_name = true\nmin_remaining_days = 3"
    assert load_checked(write(tmp_path, "shortlived", more=more), {}).certificates


def test_commands_refuse_the_configuration(tmp_path: Path) -> None:
    """`plan`, `sync` and `status` end with 2, before any request."""
    path = write(tmp_path, "shortlived")

    for command in ("plan", "sync", "status"):
        console = TestConsole()
        assert Exit.USAGE == run(["--config", str(path), command], console.console)
        assert "without a common name" in console.err


def test_target_of_a_package_needs_a_common_name(tmp_path: Path) -> None:
    """Without an option of the target the hint has another profile only."""
    rule = (
        "from certferry.ports.adapter import CommonNameRule\nNEEDS_COMMON_NAME = CommonNameRule()"
    )
    packages = Packages(tmp_path)
    packages.install("certferry-depot", "depot", f"{adapter()}{rule}\n", depot=TARGET_GROUP)
    path = write(tmp_path, "tlsserver", more="[accounts.depot]", to="depot")

    process = subprocess.run(
        [sys.executable, "-m", "certferry", "--config", str(path), "plan"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert Exit.USAGE == process.returncode
    assert "[[certificates.deploy]] to: depot refuses certificates without" in process.stderr
    assert 'hint: set profile = "classic" under [acme]\n' in process.stderr


LISTED = FILE.replace('"{profile}"', "{profile}")


def write_list(directory: Path, profiles: str, deploy: str) -> Path:
    """Write a configuration with a list of profiles, and a second certificate."""
    second = '[[certificates]]\nname = "other"\nnames = ["o.example.com"]\ndns = "dnspod"\n'
    text = LISTED.format(profile=profiles, more="", source=ISSUED, to="qiniu", place="")
    path = directory / "certferry.toml"
    path.write_text(f"{text}{second}[[certificates.deploy]]\n{deploy}\n")
    path.chmod(0o600)
    return path


def test_profiles_that_a_target_refuses_are_skipped(tmp_path: Path) -> None:
    """The profiles differ by certificate: a directory has the first profile, the CDN the next
    possible profile.
    """
    path = write_list(
        tmp_path, '["shortlived", "tlsserver", "classic"]', 'to = "files"\ndirectory = "ssl"'
    )

    cdn, directory = load_checked(path, {}).declared

    assert ("classic",) == cdn.issuance.profiles
    assert ("shortlived", "tlsserver", "classic") == directory.issuance.profiles


def test_list_without_a_possible_profile_is_refused(tmp_path: Path) -> None:
    """The error has each profile with its reason."""
    path = write_list(tmp_path, '["shortlived", "tlsserver"]', 'to = "files"\ndirectory = "ssl"')

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert ["shortlived", "tlsserver"] == [
        line.partition("the profile ")[2].partition(" ")[0]
        for line in str(caught.value.message).splitlines()
    ]
