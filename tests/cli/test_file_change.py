"""`certferry add` and `remove`: the difference comes first, comments and layout stay, and every
written file loads.
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
    """Return a configuration with one certificate, which the group may read."""
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


def printed_lines(sign: str, line: int, text: str) -> str:
    """Return the printed form of added or removed lines."""
    rows = "".join(f"{sign} {row}".rstrip() + "\n" for row in text.splitlines())
    return f"certferry.toml, line {line}:\n{rows}\n"


def test_certificate_is_added(file: Path) -> None:
    """The certificate uses the accounts of the file; other lines and the file's mode stay
    unchanged.
    """
    ended = run(file, "add", "www.example.com", "*.w.example.com", "--yes")

    last_lines = "Written: certferry.toml\nTo see the changes: `certferry plan www.example.com`\n"
    assert (Exit.OK, printed_lines("+", 13, WWW) + last_lines, "") == (
        ended.code,
        ended.out,
        ended.err,
    )
    assert HEAD + IMG + "\n" + WWW == file.read_text()
    assert 0o640 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(file.parent.iterdir())
    desired_ones = load(file, KEYS).certificates
    assert [("img", "dnspod"), ("www.example.com", "dnspod")] == [
        (w.lineage, w.dns) for w in desired_ones
    ]


def test_certificate_is_removed(file: Path) -> None:
    """The deployment and the comment are removed too; the output says that the certificate is no
    longer renewed, and how to end reminders.
    """
    file.write_text(HEAD + IMG + "\n" + WWW + TAIL)
    file.chmod(0o600)

    ended = run(file, "remove", "img", "--yes")

    assert HEAD + WWW + TAIL == file.read_text()
    assert ended.out.startswith(printed_lines("-", 5, IMG))
    assert ended.out.endswith(
        "img is no longer declared: certferry neither renews nor deploys the certificate.\nTo"
        " let it expire without reminders: `certferry forget img`\n"
    )
    assert "planted-4711" not in ended.out  # the channel below the certificate has the address


def test_domain_selects_its_certificate(file: Path) -> None:
    """A domain of a wildcard selects the certificate as well; several matching certificates are an
    error with their names.
    """
    run(file, "add", "*.w.example.com", "--yes")
    run(file, "add", "x.w.example.com", "--yes")
    before = file.read_text()

    by_wildcard = run(file, "remove", "Y.W.example.com.", "--yes")
    assert Exit.OK == by_wildcard.code
    assert "*.w.example.com" not in file.read_text()

    file.write_text(before.replace('name = "x.w.example.com"', 'name = "x"'))
    ambiguous = run(file, "remove", "x.w.example.com", "--yes")
    assert Exit.USAGE == ambiguous.code
    assert "x.w.example.com is in several certificates: wildcard.w.example.com, x" in ambiguous.err
    assert "give the name of the certificate" in ambiguous.err

    unknown = run(file, "remove", "other.example.net", "--yes")
    assert Exit.USAGE == unknown.code
    assert "there is no certificate called other.example.net" in unknown.err


def test_names_that_the_ca_refuses_together(file: Path) -> None:
    """A name below a wildcard in the same certificate is an error; in separate certificates the
    names are accepted.
    """
    names = ("*.w.example.com", "w.example.com", "a.w.example.com")
    before = file.read_text()

    together = run(file, "add", *names, "--yes")

    assert (Exit.USAGE, before) == (together.code, file.read_text())
    assert "*.w.example.com covers a.w.example.com, and Let's Encrypt refuses both" in together.err
    assert "hint: remove a.w.example.com" in together.err
    assert Exit.OK == run(file, "add", *names[:2], "--yes").code
    assert Exit.OK == run(file, "add", names[2], "--yes").code


def test_domain_of_several_names_does_not_remove_the_certificate(file: Path) -> None:
    """A certificate with other names is removed by its own name only."""
    file.write_text(HEAD + IMG.replace('.com"]', '.com", "a.img.example.com"]'))
    before = file.read_text()

    by_domain = run(file, "remove", "a.img.example.com", "--yes")
    after_error = file.read_text()
    by_name = run(file, "remove", "img", "--yes")

    assert (Exit.USAGE, before) == (by_domain.code, after_error)
    assert "error: img is for img.example.com, a.img.example.com\n" in by_domain.err
    assert "to remove the whole certificate: `certferry remove img`" in by_domain.err
    assert (Exit.OK, HEAD.rstrip() + "\n") == (by_name.code, file.read_text())


def test_chinese_domain_does_not_remove_the_wildcard(file: Path) -> None:
    """A domain in Chinese characters matches its certificate in ASCII and the wildcard; the error
    names both certificates.
    """
    run(file, "add", "*.w.example.com", "--yes")
    run(file, "add", "图片.w.example.com", "--yes")
    before = file.read_text()

    ended = run(file, "remove", "图片.w.example.com", "--yes")

    assert Exit.USAGE == ended.code
    assert "图片.w.example.com is in several certificates: " in ended.err
    assert before == file.read_text()
    assert Exit.OK == run(file, "remove", "xn--wcsw84d.w.example.com", "--yes").code
    assert "*.w.example.com" in file.read_text()


def test_domain_of_a_wildcard_causes_a_warning(file: Path) -> None:
    """The certificate of a wildcard is named after a covered name, and the warning names this
    certificate when a covered domain is added.
    """
    wild = run(file, "add", "*.w.example.com", "--yes")
    assert '+ name = "wildcard.w.example.com"\n' in wild.out
    assert "" == wild.err

    ended = run(file, "add", "x.w.example.com", "--yes")

    assert Exit.OK == ended.code
    assert "warning: wildcard.w.example.com already covers x.w.example.com: " in ended.err


@pytest.mark.parametrize("arguments", [("add", "www.example.com"), ("remove", "img")])
def test_no_change_without_a_terminal(file: Path, arguments: tuple[str, str]) -> None:
    """The difference is printed, and the error names `--yes`."""
    ended = run(file, *arguments)

    assert Exit.USAGE == ended.code
    assert "[[certificates]]" in ended.out
    assert NOT_AT_A_TERMINAL.format(command=arguments[0]) == ended.err
    assert HEAD + IMG == file.read_text()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_question_at_a_terminal(file: Path, answer: str) -> None:
    """The question follows the difference, and only a yes changes the file."""
    with at_a_terminal(file, "remove", "img") as terminal:
        terminal.until(lambda screen: "- # The pictures." in screen and "[y/N]" in screen)
        terminal.type(f"{answer}\n")
        assert Exit.OK == terminal.end()

    assert (HEAD.rstrip("\n") + "\n" if answer == "y" else HEAD + IMG) == file.read_text()


def test_removed_certificate_can_be_forgotten_at_once(file: Path) -> None:
    """If the state has the certificate, a second question follows; a yes ends reminders about the
    certificate.
    """
    file.write_text(f'[state]\nurl = "sqlite:///state.db"\n{HEAD}{IMG}')
    places = file.with_name("state.db"), file.with_name("secret.key")
    with closing(connect(*places)) as state:
        now = state.now()
        state.save_version(
            state.acquire("img", now), make_bundle("img.example.com", not_before=now), now
        )

    with at_a_terminal(file, "remove", "img") as terminal:
        terminal.until(lambda screen: "- # The pictures." in screen and "[y/N]" in screen)
        terminal.type("y\n")
        terminal.until(lambda screen: "Let the certificate expire" in " ".join(screen.split()))
        terminal.type("y\n")
        assert Exit.OK == terminal.end()

    with closing(connect(*places)) as state:
        assert "forgotten" == state.history("img", 1)[0].event


def test_address_of_a_page_is_its_domain(file: Path) -> None:
    """An address from a browser is accepted."""
    ended = run(file, "add", "https://www.example.com/a?b", "--yes")

    assert Exit.OK == ended.code, ended.err
    assert ("www.example.com",) == load(file, KEYS).certificates[-1].names


def test_certificate_for_each_name(file: Path) -> None:
    """Each certificate has a free name."""
    ended = run(file, "add", "example.com", "*.example.com", "--each", "--yes")

    assert Exit.OK == ended.code, ended.err
    desired_ones = load(file, KEYS).certificates[1:]
    assert [("example.com", ("example.com",)), ("wildcard.example.com", ("*.example.com",))] == [
        (desired.lineage, desired.names) for desired in desired_ones
    ]


def test_declared_domain_is_added_again(file: Path) -> None:
    """A declared domain alone changes nothing; beside a new domain, a declared domain is an
    error.
    """
    again = run(file, "add", "IMG.example.com.", "--yes")
    assert (Exit.OK, "") == (again.code, again.err)
    assert "All of them are already declared. Nothing was changed.\n" == again.out

    mixed = run(file, "add", "www.example.com", "img.example.com", "--yes")
    assert Exit.USAGE == mixed.code
    assert "error: img.example.com is already declared, in img\n" in mixed.err
    assert HEAD + IMG == file.read_text()


def test_several_accounts_need_an_option(file: Path) -> None:
    """The error names the option, whose value is the label of an account."""
    more = '[accounts.alidns]\n[accounts.second]\ntype = "qiniu"\n'
    file.write_text(HEAD.replace("[accounts.qiniu]", "[accounts.qiniu]\n" + more) + IMG)
    before = file.read_text()

    dns = run(file, "add", "www.example.com", "--yes")
    to = run(file, "add", "www.example.com", "--yes", "--dns", "alidns")
    not_dns = run(file, "add", "www.example.com", "--yes", "--dns", "qiniu")
    assert [Exit.USAGE] * 3 == [dns.code, to.code, not_dns.code]
    assert "several possible accounts: dnspod, alidns" in dns.err
    assert "choose an account with --dns dnspod" in dns.err
    assert "choose an account with --to qiniu" in to.err
    assert "error: qiniu is not a DNS account; available: dnspod, alidns\n" in not_dns.err
    assert before == file.read_text()

    ended = run(file, "add", "www.example.com", "--yes", "--dns", "alidns", "--to", "second")
    assert Exit.OK == ended.code
    added = load(file, KEYS).certificates[-1]
    assert ("alidns", "second") == (added.dns, added.deployments[0].target)


def test_file_without_accounts(file: Path) -> None:
    """A name needs a DNS account for its proof; a certificate with no target is only issued."""
    file.write_text("")
    ended = run(file, "add", "www.example.com", "--yes")
    assert Exit.USAGE == ended.code
    assert "certferry.toml has no account of a DNS service" in ended.err

    file.write_text("[accounts.dnspod]\n")
    assert Exit.OK == run(file, "add", "www.example.com", "--yes").code
    assert () == load(file, KEYS).certificates[0].deployments


def test_invalid_change_is_not_written(file: Path) -> None:
    """The error has the line that the change would have in the file."""
    names = [f"n{number}.example.com" for number in range(101)]

    ended = run(file, "add", *names, "--yes")

    assert Exit.USAGE == ended.code
    assert "the change would make the file invalid: certferry.toml:15:" in ended.err
    assert "101 names" in ended.err
    assert HEAD + IMG == file.read_text()


def test_invalid_file_is_not_changed(file: Path) -> None:
    """The error is about the existing line, and the file stays unchanged."""
    file.write_text(HEAD + IMG + "nams = 1\n")

    ended = run(file, "add", "www.example.com", "--yes")

    assert Exit.USAGE == ended.code
    assert "[[certificates.deploy]] nams: unknown key" in ended.err
    assert (HEAD + IMG + "nams = 1\n") == file.read_text()


def test_linked_file_is_changed(file: Path) -> None:
    """The link stays, and the file behind the link is changed."""
    real = file.rename(file.parent / "real.toml")
    file.symlink_to(real)

    assert Exit.OK == run(file, "add", "www.example.com", "--yes").code

    assert file.is_symlink()
    assert 2 == real.read_text().count("[[certificates]]")


def test_file_that_changed_during_the_question(file: Path) -> None:
    """The change of an editor during the question is preserved."""
    before = file.read_text()
    file.write_text(before + "# mine\n")

    with pytest.raises(ConfigError, match="another program has changed"):
        change_file(file, before, "")

    assert before + "# mine\n" == file.read_text()


def test_byte_order_mark_stays(file: Path) -> None:
    """Some editors need the byte order mark."""
    file.write_bytes(b"\xef\xbb\xbf" + (HEAD + IMG).encode())

    assert Exit.OK == run(file, "remove", "img", "--yes").code

    assert b"\xef\xbb\xbf" + HEAD.rstrip("\n").encode() + b"\n" == file.read_bytes()


@as_root
def test_owner_and_mode_stay(file: Path) -> None:
    """A group with permission to read keeps the permission."""
    os.chown(file, 0, NOBODY)

    assert Exit.OK == run(file, "add", "www.example.com", "--yes").code

    facts = file.stat()
    assert (0, NOBODY, 0o640) == (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode))
