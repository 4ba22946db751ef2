"""Which settings a run goes by, and which certificates it is about, renewed or not."""

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

# --- Which settings a run goes by, and which certificates it is about


KEYS = {"DP_Id": "1", "DP_Key": "k", "QINIU_AK": "a", "QINIU_SK": "s"}


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def context(
    path: Path, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> CommandContext:
    """What the global options say, for a user whose home is here."""
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


def test_without_names_everything_is_meant() -> None:
    """No NAME is every certificate, in the order of the file."""
    desired_ones = (desired("b"), desired("a"))

    assert desired_ones == select(desired_ones, ())
    assert (desired_ones[1],) == select(desired_ones, ("a",))
    assert desired_ones == select(desired_ones, ("a", "b", "a"))


def test_names_choose_among_what_the_file_declares(somewhere: Path) -> None:
    """The settings of a run hold the certificates it is about, and no others."""
    config = declared(somewhere, "img", "static")

    for given in (None, config):
        settings = read_settings(context(somewhere, config=given), ("static",))
        assert ["static"] == [desired.lineage for desired in settings.certificates]


def test_without_a_file_names_are_the_declaration(somewhere: Path) -> None:
    """One certificate for all the names, with the keys of the environment."""
    settings = read_settings(
        context(somewhere, environ=KEYS), ("img.example.com", "*.img.example.com")
    )

    (certificate,) = settings.certificates
    assert "img.example.com" == certificate.lineage
    assert ("img.example.com", "*.img.example.com") == certificate.names


def test_a_file_that_is_named_is_never_replaced_by_the_environment(somewhere: Path) -> None:
    """Who names a file that is not there reads so, whatever the environment holds."""
    missing = context(somewhere, config=somewhere / "none.toml", environ=KEYS)

    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(missing, ("img.example.com",))


def test_a_look_needs_no_file(somewhere: Path) -> None:
    """Without a file there are the defaults, with nothing declared."""
    settings = settings_or_defaults(context(somewhere))

    assert () == settings.certificates
    assert (443, (), None) == (
        settings.verify.port,
        settings.verify.resolvers,
        settings.verify.ca_bundle,
    )


def test_a_look_goes_by_the_file_where_there_is_one(somewhere: Path) -> None:
    """Port and resolvers of [verify] count for `watch` too."""
    config = declared(somewhere, "img")
    config.write_text("[verify]\nport = 8443\n" + config.read_text())

    assert 8443 == settings_or_defaults(context(somewhere)).verify.port


def known(*lineages: str) -> FakeWorkspace:
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
def test_an_unknown_name_gets_the_nearest_one(
    lineages: tuple[str, ...], name: str, hint: str
) -> None:
    """The nearest spelling; many are not listed."""
    with pytest.raises(ConfigError) as caught:
        must_be_known(name, known(*lineages))

    assert f"there is no certificate called {name}" == str(caught.value)
    assert hint == str(caught.value.hint)


def test_what_is_only_remembered_is_known_too() -> None:
    """A certificate that is no longer declared still has its history and its files."""
    world = FakeWorld()
    session = world.session()
    session.reconciler().sync(session.certificates, WaitLimit(timedelta(0)))

    session = FakeWorkspace(world, (), no_listener)
    assert "img" == must_be_known("img", session)
    assert "img" == must_be_known("a.img.example.com", session)


def with_wildcard(path: Path) -> Path:
    """Write a configuration in which two certificates cover one domain."""
    file = declared(path, "img", "static", "wild")
    file.write_text(file.read_text().replace('["wild.example.com"]', '["*.example.com"]'))
    return file


@pytest.mark.parametrize(
    ("written", "lineages"),
    [
        ("static", ["static"]),
        ("IMG.example.com.", ["img", "wild"]),
        ("*.example.com", ["wild"]),
        ("other.example.com", ["wild"]),
    ],
)
def test_a_domain_stands_for_its_certificates(
    somewhere: Path, written: str, lineages: list[str]
) -> None:
    """Those that declare or cover it, however it is spelled; where they are several, that is said,
    unless only what is wrong is to be reported.
    """
    console = TestConsole(environ={"HOME": str(somewhere)})
    context = CommandContext(console.console, with_wildcard(somewhere))

    found = read_settings(context, (written,))

    assert lineages == [desired.lineage for desired in found.certificates]
    said = f"{written} is in several certificates: {', '.join(lineages)}\n"
    assert (said if len(lineages) > 1 else "") == console.err
    read_settings(replace(context, verbosity=Verbosity.QUIET), (written,))
    assert len(said) * (len(lineages) > 1) == len(console.err)


def test_a_command_for_one_certificate_takes_no_domain_of_several(somewhere: Path) -> None:
    """`rollback img.example.com` withdraws none that was not meant."""
    one = context(somewhere, config=with_wildcard(somewhere))

    (desired,) = settings_of_one(one, "new.example.com").certificates
    assert "wild" == desired.lineage
    with pytest.raises(ConfigError, match="several certificates: img, wild") as caught:
        settings_of_one(one, "img.example.com")
    assert "give the name of the certificate" == str(caught.value.hint)


def test_what_is_renewed_is_in_no_doubt(somewhere: Path) -> None:
    """A domain of several orders none of them."""
    console = TestConsole(environ={"HOME": str(somewhere)})
    words = ["--config", str(with_wildcard(somewhere)), "sync", "--renew", "img.example.com"]

    assert Exit.USAGE == run(words, console.console)

    assert "error: img.example.com is in several certificates: img, wild\n" in console.err


def test_a_domain_of_no_certificate(somewhere: Path) -> None:
    """The sentence speaks of the domain: it is no name that was mistyped."""
    with pytest.raises(ConfigError, match=r"called x\.example\.org, and no certificate covers"):
        read_settings(context(somewhere, config=declared(somewhere, "img")), ("x.example.org",))


# --- `--renew`: never of all unasked; and certificates that another client makes: the operator
# reads which client renews them


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
    """A directory with a configuration: one certificate of certferry's own, which would need an
    account, and one that another client has made.
    """
    made = make_bundle("pics.example.com", not_before=datetime.now(UTC))
    (tmp_path / "fullchain").write_text(made.fullchain_pem)
    (tmp_path / "privkey").write_text(made.privkey_pem.reveal())
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
    """Run a command; give its exit code, stdout and stderr."""
    environ = {"HOME": str(file.parent), "XDG_DATA_HOME": str(file.parent / "data")}
    console = TestConsole(environ=environ)
    code = run(["--config", str(file), *arguments], console.console)
    return code, console.out, console.err


UNASKED = "`--renew` without NAME would order all 2 certificates anew, due or not"


@pytest.fixture
def two(machine: Path) -> Path:
    file = machine / "certferry.toml"
    other = '[[certificates]]\nnames = ["other.example.com"]\ndns = "dnspod"\n'
    file.write_text(file.read_text() + other)
    return file


def test_all_are_not_renewed_unasked(two: Path) -> None:
    """Without a terminal nothing is ordered before `--all` says so: CAs count what is ordered."""
    before = sorted(two.parent.iterdir())

    code, out, err = certferry(two, "sync", "--renew")

    assert (Exit.USAGE, "") == (code, out)
    assert f"error: {UNASKED}\n" in err
    assert f"`certferry --config {two} sync` renews certificates that are due; " in err
    assert f"`certferry --config {two} sync --renew NAME` orders one" in err
    assert f"`certferry --config {two} sync --renew --all` all of them" in err
    assert before == sorted(two.parent.iterdir())


@pytest.mark.parametrize("words", [["--renew", "--all"], ["--renew", "own"], ["--renew", "a.b.c"]])
def test_what_was_said_is_not_asked(two: Path, words: list[str]) -> None:
    """The run begins, and fails for the keys that it lacks here."""
    assert UNASKED not in certferry(two, "sync", *words)[2]


@pytest.mark.parametrize("words", [["--all"], ["--renew", "--all", "own"]])
def test_all_is_for_renew_without_a_name(two: Path, words: list[str]) -> None:
    """Anything else would be understood in two ways."""
    code, _, err = certferry(two, "sync", *words)

    assert Exit.USAGE == code
    assert "error: --all requires --renew, and no NAME\n" in err


def test_a_terminal_is_asked_before_all_are_renewed(two: Path) -> None:
    """With how many would be ordered; everything but a yes is a no."""
    command = [sys.executable, "-m", "certferry", "--config", str(two), "sync", "--renew"]

    with Terminal(command, environ={"CERTFERRY_LANG": "en"}) as terminal:
        terminal.until(lambda seen: "Order all 2 certificates anew, due or not? [y/N]" in seen)
        terminal.type("\n")
        assert Exit.OK == terminal.end()
    assert "Nothing was changed." in terminal.screen.text

    with Terminal(command, environ={"CERTFERRY_LANG": "en", "DP_Id": "", "DP_Key": ""}) as terminal:
        terminal.until(lambda seen: "[y/N]" in seen)
        terminal.type("y\n")
        assert Exit.USAGE == terminal.end()
    assert "DP_Id is not set" in terminal.screen.text

    with Terminal(command, environ={"CERTFERRY_LANG": "en"}) as terminal:
        terminal.until(lambda seen: "[y/N]" in seen)
        terminal.type("\x04")
        assert Exit.STOPPED == terminal.end()
    assert "hint: nothing was changed" in terminal.screen.text


@COMMANDS
@pytest.mark.parametrize("names", [["pics"], ["own", "pics"]])
def test_a_imported_certificate_that_is_named(
    machine: Path, command: str, names: list[str]
) -> None:
    """What was asked for cannot be done: a usage error, as for a name that is not known, with who
    can do it; and nothing is done.
    """
    before = sorted(machine.iterdir())

    found = certferry(machine / "certferry.toml", command, "--renew", *names)

    hint = "renew the certificate with its client; the next run deploys the files"
    assert (Exit.USAGE, "", f"error: {NOT_FOR_PICS}\n\nhint: {hint}\n") == found
    assert before == sorted(machine.iterdir())


@COMMANDS
def test_a_imported_certificate_by_its_domain(machine: Path, command: str) -> None:
    """Its names are those in its files; where these cannot be read, it is found by its name."""
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
def test_imported_certificates_among_all(machine: Path, command: str) -> None:
    """They are reported and treated as in any other run; nothing has failed."""
    code, out, err = certferry(machine / "ferried.toml", command, "--renew")

    assert Exit.OK == code
    assert f"{NOT_FOR_PICS}\n" == err[: len(NOT_FOR_PICS) + 1]
    assert "pics" in out
    assert (command == "sync") is (machine / "out" / "fullchain.pem").exists()


@COMMANDS
def test_imported_certificates_among_all_are_not_wrong(machine: Path, command: str) -> None:
    """With -q, a run says nothing of them."""
    assert "" == certferry(machine / "ferried.toml", "-q", command, "--renew")[2]


@COMMANDS
def test_without_renew_a_imported_certificate_is_one_like_any_other(
    machine: Path, command: str
) -> None:
    """Named or not."""
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
    """Write a configuration, for its owner alone."""
    path = directory / "certferry.toml"
    path.write_text(FILE.format(profile=profile, more=more, source=source, to=to, place=place))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("profile", ["tlsserver", "shortlived"])
def test_it_is_refused_when_the_file_is_read(profile: str, tmp_path: Path) -> None:
    """With file, line, reason and the way out, before any key or service is asked for."""
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
def test_everything_else_is_read(profile: str, options: dict[str, str], tmp_path: Path) -> None:
    """A profile with a common name, an account that takes such, a directory, another's files."""
    assert load_checked(write(tmp_path, profile, **options), {}).certificates


def test_more_names_than_the_profile_has_are_refused(tmp_path: Path) -> None:
    """At Let's Encrypt, whose limit it is; with another profile to choose, that one is taken."""
    names = ", ".join(f'"n{number}.example.com"' for number in range(26))
    there = {"source": f'names = [{names}]\ndns = "dnspod"', "to": "files"}
    path = write(tmp_path, "shortlived", **there, place='directory = "ssl"')

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


def test_certificates_that_live_too_short_are_refused(tmp_path: Path) -> None:
    """Though the account takes them without a common name: they could never be uploaded."""
    path = write(tmp_path, "shortlived", more="accept_no_common_name = true")

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:16: [[certificates.deploy]] to: qiniu requires certificates with at least"
        " 30 days left, but those of the profile shortlived live 6 days"
    ) == str(caught.value)
    more = "accept_no_common_name = true\nmin_remaining_days = 3"
    assert load_checked(write(tmp_path, "shortlived", more=more), {}).certificates


def test_no_command_goes_on(tmp_path: Path) -> None:
    """`plan`, `sync` and `status` end with 2, and certferry asked no service."""
    path = write(tmp_path, "shortlived")

    for command in ("plan", "sync", "status"):
        console = TestConsole()
        assert Exit.USAGE == run(["--config", str(path), command], console.console)
        assert "without a common name" in console.err


def test_target_of_a_package_says_so_as_well(tmp_path: Path) -> None:
    """Without a way out of its own, another profile is the only one."""
    rule = (
        "from certferry.ports.adapter import CommonNameRule\nNEEDS_COMMON_NAME = CommonNameRule()"
    )
    packages = Packages(tmp_path)
    packages.install("certferry-depot", "depot", f"{adapter()}{rule}\n", depot=TARGET_GROUP)
    path = write(tmp_path, "tlsserver", more="[accounts.depot]", to="depot")

    done = subprocess.run(
        [sys.executable, "-m", "certferry", "--config", str(path), "plan"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert Exit.USAGE == done.returncode
    assert "[[certificates.deploy]] to: depot refuses certificates without" in done.stderr
    assert 'hint: set profile = "classic" under [acme]\n' in done.stderr


LISTED = FILE.replace('"{profile}"', "{profile}")


def write_list(directory: Path, profiles: str, deploy: str) -> Path:
    """Write a configuration with a list of profiles, and a second certificate."""
    second = '[[certificates]]\nname = "other"\nnames = ["o.example.com"]\ndns = "dnspod"\n'
    text = LISTED.format(profile=profiles, more="", source=ISSUED, to="qiniu", place="")
    path = directory / "certferry.toml"
    path.write_text(f"{text}{second}[[certificates.deploy]]\n{deploy}\n")
    path.chmod(0o600)
    return path


def test_profiles_that_a_target_could_never_take_are_skipped(tmp_path: Path) -> None:
    """By certificate: what goes to a directory has the first one, what goes to the CDN the next."""
    path = write_list(
        tmp_path, '["shortlived", "tlsserver", "classic"]', 'to = "files"\ndirectory = "ssl"'
    )

    cdn, directory = load_checked(path, {}).declared

    assert ("classic",) == cdn.issuance.profiles
    assert ("shortlived", "tlsserver", "classic") == directory.issuance.profiles


def test_list_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    """Each of the profiles is reported with what is against it."""
    path = write_list(tmp_path, '["shortlived", "tlsserver"]', 'to = "files"\ndirectory = "ssl"')

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert ["shortlived", "tlsserver"] == [
        line.partition("the profile ")[2].partition(" ")[0]
        for line in str(caught.value.message).splitlines()
    ]
