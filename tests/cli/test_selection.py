"""Which settings a run goes by, and which certificates it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.cli.options import Front
from certferry.cli.selection import read_settings, settings_of_one, settings_or_defaults
from certferry.errors import ConfigError
from certferry.ports.progress import no_listener
from certferry.present.console import Verbosity
from certferry.reconcile.visits import Patience
from certferry.wiring.selection import must_be_known, select
from tests.cli.consoles import TestConsole
from tests.cli.twins import TwinSession, TwinWorld, wish

KEYS = {"DP_Id": "1", "DP_Key": "k", "QINIU_AK": "a", "QINIU_SK": "s"}


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def front(
    path: Path, *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Front:
    """What the global options say, for a user whose home is here."""
    return Front(TestConsole(environ={"HOME": str(path), **(environ or {})}).console, config)


def declared(path: Path, *names: str) -> Path:
    """Write a configuration with these certificates."""
    tables = [
        f'[[certificates]]\nname = "{name}"\nnames = ["{name}.example.com"]\ndns = "dnspod"\n'
        for name in names
    ]
    file = path / "certferry.toml"
    file.write_text("[accounts.dnspod]\n" + "".join(tables))
    return file


def test_without_names_everything_is_meant() -> None:
    """No NAME is every certificate, in the order of the file."""
    wishes = (wish("b"), wish("a"))

    assert wishes == select(wishes, ())
    assert (wishes[1],) == select(wishes, ("a",))
    assert wishes == select(wishes, ("a", "b", "a"))


def test_names_choose_among_what_the_file_declares(somewhere: Path) -> None:
    """The settings of a run hold the certificates it is about, and no others."""
    config = declared(somewhere, "img", "static")

    for given in (None, config):
        settings = read_settings(front(somewhere, config=given), ("static",))
        assert ["static"] == [wish.lineage for wish in settings.certificates]


def test_without_a_file_names_are_the_declaration(somewhere: Path) -> None:
    """One certificate for all the names, with the keys of the environment."""
    settings = read_settings(
        front(somewhere, environ=KEYS), ("img.example.com", "*.img.example.com")
    )

    (certificate,) = settings.certificates
    assert "img.example.com" == certificate.lineage
    assert ("img.example.com", "*.img.example.com") == certificate.names


def test_a_file_that_is_named_is_never_replaced_by_the_environment(somewhere: Path) -> None:
    """Who names a file that is not there is told so, whatever the environment holds."""
    missing = front(somewhere, config=somewhere / "none.toml", environ=KEYS)

    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(missing, ("img.example.com",))


def test_a_look_needs_no_file(somewhere: Path) -> None:
    """Without a file there are the defaults, with nothing declared."""
    settings = settings_or_defaults(front(somewhere))

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

    assert 8443 == settings_or_defaults(front(somewhere)).verify.port


def known(*lineages: str) -> TwinSession:
    """A session that declares these."""
    return TwinSession(TwinWorld(), tuple(wish(lineage) for lineage in lineages), no_listener)


@pytest.mark.parametrize(
    ("lineages", "name", "hint"),
    [
        ((), "img", "none is declared yet"),
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
    world = TwinWorld()
    session = world.session()
    session.reconciler().sync(session.certificates, Patience(timedelta(0)))

    session = TwinSession(world, (), no_listener)
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
    unless only what is wrong is to be told.
    """
    console = TestConsole(environ={"HOME": str(somewhere)})
    front = Front(console.console, with_wildcard(somewhere))

    found = read_settings(front, (written,))

    assert lineages == [wish.lineage for wish in found.certificates]
    said = f"{written} is for several certificates: {', '.join(lineages)}\n"
    assert (said if len(lineages) > 1 else "") == console.err
    read_settings(replace(front, verbosity=Verbosity.QUIET), (written,))
    assert len(said) * (len(lineages) > 1) == len(console.err)


def test_a_command_for_one_certificate_takes_no_domain_of_several(somewhere: Path) -> None:
    """`rollback img.example.com` withdraws none that was not meant."""
    one = front(somewhere, config=with_wildcard(somewhere))

    (wish,) = settings_of_one(one, "new.example.com").certificates
    assert "wild" == wish.lineage
    with pytest.raises(ConfigError, match="several certificates: img, wild") as caught:
        settings_of_one(one, "img.example.com")
    assert "name the certificate that is meant" == str(caught.value.hint)


def test_what_is_renewed_is_in_no_doubt(somewhere: Path) -> None:
    """A domain of several orders none of them."""
    console = TestConsole(environ={"HOME": str(somewhere)})
    words = ["--config", str(with_wildcard(somewhere)), "sync", "--renew", "img.example.com"]

    assert Exit.USAGE == run(words, console.console)

    assert "error: img.example.com is for several certificates: img, wild\n" in console.err


def test_a_domain_of_no_certificate(somewhere: Path) -> None:
    """The sentence speaks of the domain: it is no name that was mistyped."""
    with pytest.raises(ConfigError, match=r"called x\.example\.org, and none that covers it"):
        read_settings(front(somewhere, config=declared(somewhere, "img")), ("x.example.org",))
