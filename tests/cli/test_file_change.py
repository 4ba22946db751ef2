"""`certferry add` and `remove`: the difference first, comments and layout kept, never a file that
does not load.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.cli.exits import Exit
from certferry.config.load import load
from certferry.config.write import change_file
from certferry.errors import ConfigError
from certferry_sandbox.testing.certificates import make_bundle
from tests.another_user import NOBODY, as_root
from tests.cli.terminals import Terminal
from tests.support.command import Ended, run_here

HEAD = """\
# Mine.
[accounts.dnspod]    # keys are in the environment
[accounts.qiniu]

"""
IMG = """\
# The pictures.
[[certificates]]
name  = "img"
names = ["img.example.com"]
dns   = "dnspod"
[[certificates.deploy]]
to = "qiniu"
"""
TAIL = """
# Who is told.
[notify.ops]
type = "webhook"
url = "https://planted-4711.example.com/"
"""
WWW = """\
[[certificates]]
name = "www.example.com"
names = ["www.example.com", "*.w.example.com"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
# Every domain of the account that the certificate covers.
domains = "auto"
"""
KEYS = {
    "DP_Id": "123456",
    "DP_Key": "0123456789abcdef0123456789abcdef",
    "QINIU_AK": "planted-access-key",
    "QINIU_SK": "planted-secret-key",
}
NOT_AT_A_TERMINAL = """\
error: nothing was written: without a terminal, confirm with --yes

hint: run `certferry {command} --help`
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with one certificate, which the group may read."""
    path = tmp_path / "certferry.toml"
    path.write_text(HEAD + IMG)
    path.chmod(0o640)
    return path


def run(file: Path, *arguments: str, **environ: str) -> Ended:
    """Run the command in the directory of the file, without a terminal."""
    home = {"HOME": str(file.parent), "PATH": os.environ["PATH"]}
    return run_here(arguments, home | KEYS | environ, file.parent)


def at_a_terminal(file: Path, *arguments: str) -> Terminal:
    command = [sys.executable, "-m", "certferry", *arguments]
    environ = {"TERM": "dumb", "HOME": str(file.parent), **KEYS}
    return Terminal(command, columns=100, environ=environ, cwd=file.parent)


def shown(sign: str, line: int, text: str) -> str:
    """Give how lines are shown that come or go."""
    rows = "".join(f"{sign} {row}".rstrip() + "\n" for row in text.splitlines())
    return f"certferry.toml, line {line}:\n{rows}\n"


def test_a_certificate_is_added(file: Path) -> None:
    """Proven and served by the accounts that the file has; what else stands there stays, mode
    included.
    """
    done = run(file, "add", "www.example.com", "*.w.example.com", "--yes")

    following = "Written: certferry.toml\nTo see the changes: `certferry plan www.example.com`\n"
    assert (Exit.OK, shown("+", 13, WWW) + following, "") == (done.code, done.out, done.err)
    assert HEAD + IMG + "\n" + WWW == file.read_text()
    assert 0o640 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(file.parent.iterdir())
    desired_ones = load(file, KEYS).certificates
    assert [("img", "dnspod"), ("www.example.com", "dnspod")] == [
        (w.lineage, w.dns) for w in desired_ones
    ]


def test_a_certificate_is_removed(file: Path) -> None:
    """With its deployment and its comment; it is said what becomes of it, and what ends it."""
    file.write_text(HEAD + IMG + "\n" + WWW + TAIL)
    file.chmod(0o600)

    done = run(file, "remove", "img", "--yes")

    assert HEAD + WWW + TAIL == file.read_text()
    assert done.out.startswith(shown("-", 5, IMG))
    assert done.out.endswith(
        "img is no longer declared: certferry neither renews nor deploys the certificate.\nTo"
        " let it expire without reminders: `certferry forget img`\n"
    )
    assert "planted-4711" not in done.out  # of the channel that stands below


def test_a_domain_selects_its_certificate(file: Path) -> None:
    """Also one that a wildcard covers; where several cover it, one is to be named."""
    run(file, "add", "*.w.example.com", "--yes")
    run(file, "add", "x.w.example.com", "--yes")
    before = file.read_text()

    two = run(file, "remove", "Y.W.example.com.", "--yes")
    assert Exit.OK == two.code
    assert "*.w.example.com" not in file.read_text()

    file.write_text(before.replace('name = "x.w.example.com"', 'name = "x"'))
    both = run(file, "remove", "x.w.example.com", "--yes")
    assert Exit.USAGE == both.code
    assert "x.w.example.com is in several certificates: wildcard.w.example.com, x" in both.err
    assert "give the name of the certificate" in both.err

    nothing = run(file, "remove", "other.example.net", "--yes")
    assert Exit.USAGE == nothing.code
    assert "there is no certificate called other.example.net" in nothing.err


def test_names_that_the_ca_refuses_together(file: Path) -> None:
    """A name below a wildcard of the same certificate; each by itself they are taken."""
    names = ("*.w.example.com", "w.example.com", "a.w.example.com")
    before = file.read_text()

    together = run(file, "add", *names, "--yes")

    assert (Exit.USAGE, before) == (together.code, file.read_text())
    assert "*.w.example.com covers a.w.example.com, and Let's Encrypt refuses both" in together.err
    assert "hint: remove a.w.example.com" in together.err
    assert Exit.OK == run(file, "add", *names[:2], "--yes").code
    assert Exit.OK == run(file, "add", names[2], "--yes").code


def test_a_domain_removes_no_others(file: Path) -> None:
    """A certificate with other names is removed by its own name only."""
    file.write_text(HEAD + IMG.replace('.com"]', '.com", "a.img.example.com"]'))
    before = file.read_text()

    one = run(file, "remove", "a.img.example.com", "--yes")
    kept = file.read_text()
    whole = run(file, "remove", "img", "--yes")

    assert (Exit.USAGE, before) == (one.code, kept)
    assert "error: img is for img.example.com, a.img.example.com\n" in one.err
    assert "to remove the whole certificate: `certferry remove img`" in one.err
    assert (Exit.OK, HEAD.rstrip() + "\n") == (whole.code, file.read_text())


def test_a_domain_in_chinese_never_takes_the_wildcard_with_it(file: Path) -> None:
    """Its certificate is declared in ASCII; the other one that covers it is shown, not removed."""
    run(file, "add", "*.w.example.com", "--yes")
    run(file, "add", "图片.w.example.com", "--yes")
    before = file.read_text()

    done = run(file, "remove", "图片.w.example.com", "--yes")

    assert Exit.USAGE == done.code
    assert "图片.w.example.com is in several certificates: " in done.err
    assert before == file.read_text()
    assert Exit.OK == run(file, "remove", "xn--wcsw84d.w.example.com", "--yes").code
    assert "*.w.example.com" in file.read_text()


def test_a_domain_that_a_wildcard_covers_may_need_no_certificate(file: Path) -> None:
    """The certificate of the wildcard is called by a name that it covers; that it covers the domain
    is reported before one is declared for that domain alone.
    """
    wild = run(file, "add", "*.w.example.com", "--yes")
    assert '+ name = "wildcard.w.example.com"\n' in wild.out
    assert "" == wild.err

    done = run(file, "add", "x.w.example.com", "--yes")

    assert Exit.OK == done.code
    assert "warning: wildcard.w.example.com already covers x.w.example.com: " in done.err


@pytest.mark.parametrize("arguments", [("add", "www.example.com"), ("remove", "img")])
def test_without_a_terminal_nothing_is_written(file: Path, arguments: tuple[str, str]) -> None:
    """The difference is shown all the same, and `--yes` is named."""
    done = run(file, *arguments)

    assert Exit.USAGE == done.code
    assert "[[certificates]]" in done.out
    assert NOT_AT_A_TERMINAL.format(command=arguments[0]) == done.err
    assert HEAD + IMG == file.read_text()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_at_a_terminal_it_is_asked(file: Path, answer: str) -> None:
    """Below the difference."""
    with at_a_terminal(file, "remove", "img") as terminal:
        terminal.until(lambda seen: "- # The pictures." in seen and "[y/N]" in seen)
        terminal.type(f"{answer}\n")
        assert Exit.OK == terminal.end()

    assert (HEAD.rstrip("\n") + "\n" if answer == "y" else HEAD + IMG) == file.read_text()


def test_what_is_removed_can_be_forgotten_at_once(file: Path) -> None:
    """Where the state has a certificate of it, the second question is asked; yes forgets it."""
    file.write_text(f'[state]\nurl = "sqlite:///state.db"\n{HEAD}{IMG}')
    places = file.with_name("state.db"), file.with_name("secret.key")
    with closing(connect(*places)) as state:
        now = state.now()
        state.save_version(
            state.acquire("img", now), make_bundle("img.example.com", not_before=now), now
        )

    with at_a_terminal(file, "remove", "img") as terminal:
        terminal.until(lambda seen: "- # The pictures." in seen and "[y/N]" in seen)
        terminal.type("y\n")
        terminal.until(lambda seen: "Let the certificate expire" in " ".join(seen.split()))
        terminal.type("y\n")
        assert Exit.OK == terminal.end()

    with closing(connect(*places)) as state:
        assert "forgotten" == state.history("img", 1)[0].event


def test_an_address_of_a_page_means_its_domain(file: Path) -> None:
    """As a browser's address line has it."""
    done = run(file, "add", "https://www.example.com/a?b", "--yes")

    assert Exit.OK == done.code, done.err
    assert ("www.example.com",) == load(file, KEYS).certificates[-1].names


def test_one_certificate_for_each(file: Path) -> None:
    """With a name that is free."""
    done = run(file, "add", "example.com", "*.example.com", "--each", "--yes")

    assert Exit.OK == done.code, done.err
    desired_ones = load(file, KEYS).certificates[1:]
    assert [("example.com", ("example.com",)), ("wildcard.example.com", ("*.example.com",))] == [
        (desired.lineage, desired.names) for desired in desired_ones
    ]


def test_what_is_declared_already(file: Path) -> None:
    """Said twice, nothing changes; among others, it is a mistake."""
    again = run(file, "add", "IMG.example.com.", "--yes")
    assert (Exit.OK, "") == (again.code, again.err)
    assert "All of them are already declared. Nothing was changed.\n" == again.out

    mixed = run(file, "add", "www.example.com", "img.example.com", "--yes")
    assert Exit.USAGE == mixed.code
    assert "error: img.example.com is already declared, in img\n" in mixed.err
    assert HEAD + IMG == file.read_text()


def test_several_accounts(file: Path) -> None:
    """None is guessed: the option is named, and takes the label."""
    more = '[accounts.alidns]\n[accounts.second]\ntype = "qiniu"\n'
    file.write_text(HEAD.replace("[accounts.qiniu]", "[accounts.qiniu]\n" + more) + IMG)
    before = file.read_text()

    dns = run(file, "add", "www.example.com", "--yes")
    to = run(file, "add", "www.example.com", "--yes", "--dns", "alidns")
    wrong = run(file, "add", "www.example.com", "--yes", "--dns", "qiniu")
    assert [Exit.USAGE] * 3 == [dns.code, to.code, wrong.code]
    assert "several possible accounts: dnspod, alidns" in dns.err
    assert "choose an account with --dns dnspod" in dns.err
    assert "choose an account with --to qiniu" in to.err
    assert "error: qiniu is not a DNS account; available: dnspod, alidns\n" in wrong.err
    assert before == file.read_text()

    done = run(file, "add", "www.example.com", "--yes", "--dns", "alidns", "--to", "second")
    assert Exit.OK == done.code
    added = load(file, KEYS).certificates[-1]
    assert ("alidns", "second") == (added.dns, added.deployments[0].target)


def test_a_file_without_accounts(file: Path) -> None:
    """Where there is no DNS account, nothing can be proven; without a target it is only issued."""
    file.write_text("")
    none = run(file, "add", "www.example.com", "--yes")
    assert Exit.USAGE == none.code
    assert "certferry.toml has no account of a DNS service" in none.err

    file.write_text("[accounts.dnspod]\n")
    assert Exit.OK == run(file, "add", "www.example.com", "--yes").code
    assert () == load(file, KEYS).certificates[0].deployments


def test_a_text_that_would_not_load_is_not_written(file: Path) -> None:
    """What is wrong is reported as of the file that it would have been."""
    names = [f"n{number}.example.com" for number in range(101)]

    done = run(file, "add", *names, "--yes")

    assert Exit.USAGE == done.code
    assert "the change would make the file invalid: certferry.toml:15:" in done.err
    assert "101 names" in done.err
    assert HEAD + IMG == file.read_text()


def test_a_file_that_is_wrong_already(file: Path) -> None:
    """It is reported, and left alone."""
    file.write_text(HEAD + IMG + "nams = 1\n")

    done = run(file, "add", "www.example.com", "--yes")

    assert Exit.USAGE == done.code
    assert "[[certificates.deploy]] nams: unknown key" in done.err
    assert (HEAD + IMG + "nams = 1\n") == file.read_text()


def test_a_link_stays_a_link(file: Path) -> None:
    """The file behind it is changed."""
    real = file.rename(file.parent / "real.toml")
    file.symlink_to(real)

    assert Exit.OK == run(file, "add", "www.example.com", "--yes").code

    assert file.is_symlink()
    assert 2 == real.read_text().count("[[certificates]]")


def test_a_file_that_changed_while_it_was_asked(file: Path) -> None:
    """What an editor has written meanwhile is not lost."""
    before = file.read_text()
    file.write_text(before + "# mine\n")

    with pytest.raises(ConfigError, match="another program has changed"):
        change_file(file, before, "")

    assert before + "# mine\n" == file.read_text()


def test_a_byte_order_mark_stays(file: Path) -> None:
    """Some editors want it."""
    file.write_bytes(b"\xef\xbb\xbf" + (HEAD + IMG).encode())

    assert Exit.OK == run(file, "remove", "img", "--yes").code

    assert b"\xef\xbb\xbf" + HEAD.rstrip("\n").encode() + b"\n" == file.read_bytes()


@as_root
def test_the_owner_stays(file: Path) -> None:
    """A group that may read it may do so afterwards."""
    os.chown(file, 0, NOBODY)

    assert Exit.OK == run(file, "add", "www.example.com", "--yes").code

    facts = file.stat()
    assert (0, NOBODY, 0o640) == (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode))
