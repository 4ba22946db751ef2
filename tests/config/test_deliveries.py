"""`to = "files"` and `to = "command"`: what may be written, what it means, and every mistake."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certferry.core.desired.certificate import (
    CommandDelivery,
    Delivery,
    DesiredDeployment,
    FileDelivery,
    Kind,
    Program,
    Retirement,
)
from tests.config.conftest import Load, Refusal

HEAD = '[accounts.dnspod]\n[[certificates]]\nnames = ["a.example.com"]\ndns = "dnspod"\n'


def deployments(loaded: Load, *bodies: str) -> tuple[DesiredDeployment, ...]:
    """Load deployments of one certificate."""
    tables = "".join(f"[[certificates.deploy]]\n{body}\n" for body in bodies)
    return loaded(HEAD + tables).certificates[0].deployments


def delivery(loaded: Load, body: str) -> Delivery | None:
    """Load one deployment's delivery."""
    (found,) = deployments(loaded, body)
    return found.delivery


def test_files_with_nothing_but_a_directory(loaded: Load) -> None:
    """Nothing is run, the key is 0600, and the directory is the deployment's only domain."""
    (found,) = deployments(loaded, 'to = "files"\ndirectory = "/opt/ssl/../ssl/img/"')

    assert (
        DesiredDeployment(
            "files",
            ("/opt/ssl/img",),
            Kind.FILES,
            retire=Retirement.NEVER,
            delivery=FileDelivery("/opt/ssl/img", mode=0o644, key_mode=0o600),
        )
        == found
    )


def test_files_with_everything(loaded: Load, folder: Path) -> None:
    """Every setting arrives; `reload` is split as a shell would, and runs beside the file."""
    found = delivery(
        loaded,
        'to = "files"\ndirectory = "ssl"\nowner = "root"\ngroup = "ssl-cert"\nmode = "0640"\n'
        'key_mode = "640"\nreload = "systemctl reload \'my nginx\'"\ntimeout = 5',
    )

    reload = Program(("systemctl", "reload", "my nginx"), str(folder), timedelta(seconds=5))
    assert FileDelivery(f"{folder}/ssl", "root", "ssl-cert", 0o640, 0o640, reload) == found


@pytest.mark.parametrize(
    ("written", "meant"), [("~/ssl", "{home}/ssl"), ("~", "{home}"), ("a/./b", "{folder}/a/b")]
)
def test_directory_as_people_write_it(
    loaded: Load, folder: Path, clean_environment: Path, written: str, meant: str
) -> None:
    """Relative to the file, or to the home."""
    found = delivery(loaded, f'to = "files"\ndirectory = "{written}"')

    assert isinstance(found, FileDelivery)
    assert meant.format(folder=folder, home=clean_environment) == found.directory


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("'push-cert'", ("push-cert",)),
        ("'./push --to lb'", ("{folder}/push", "--to", "lb")),
        ("['/bin/push', '', 'a b', '$X && y']", ("/bin/push", "", "a b", "$X && y")),
        ("['sh', '-c', 'a | b > c']", ("sh", "-c", "a | b > c")),
    ],
)
def test_command_as_people_write_it(
    loaded: Load, folder: Path, written: str, arguments: tuple[str, ...]
) -> None:
    """A string or a list; it is called like its program, and has five minutes."""
    found = delivery(loaded, f'to = "command"\ncommand = {written}')

    meant = tuple(part.format(folder=folder) for part in arguments)
    program = Program(meant, str(folder), timedelta(minutes=5))
    assert CommandDelivery(meant[0].rpartition("/")[2], program) == found


def test_several_receivers(loaded: Load) -> None:
    """Beside one another, each under its own name."""
    found = deployments(
        loaded,
        'to = "files"\ndirectory = "/a"',
        'to = "files"\ndirectory = "/b"',
        'to = "command"\ncommand = "push one"\nname = "one"',
        'to = "command"\ncommand = "push two"\nname = "two"',
    )

    assert [("/a",), ("/b",), ("one",), ("two",)] == [one.domains for one in found]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("to = 'files'", "directory: missing: where the four PEM files are to lie"),
        ("to = 'file'\ndirectory = '/a'", "to: there is no account file; "),
        ("to = 'files'\ndirectory = ''", "directory: is empty"),
        ("to = 'files'\ndirectory = 1", "directory: must be a string, and is a number"),
        ("to = 'files'\ndirectory = '/a'\ntimeout = 5", "timeout: only with `reload`, which it"),
        (
            "to = 'files'\ndirectory = '/a'\nreload = 'x'\ntimeout = 0",
            "timeout: must be a number of seconds above 0",
        ),
        ("to = 'files'\ndirectory = '/a'\nreload = ''", "reload: is empty"),
        ("to = 'files'\ndirectory = '/a'\nreload = []", "reload: is an empty list"),
        ("to = 'files'\ndirectory = '/a'\nreload = [1]", "reload: must be a string, and is a num"),
        ("to = 'files'\ndirectory = '/a'\nreload = ['']", "reload: is empty"),
        ("to = 'files'\ndirectory = '/a'\nreload = true", "reload: must be a string or a list, "),
        (
            "to = 'files'\ndirectory = '/a'\nreload = \"echo 'x\"",
            "reload: cannot be read: no closing quotation",
        ),
        (
            "to = 'files'\ndirectory = '/a'\nreload = 'nginx -t && systemctl reload nginx'",
            """reload: && means nothing without a shell; write ["sh", "-c", "…"], or the path of""",
        ),
        (
            "to = 'files'\ndirectory = '/a'\nreload = 'a; b'",
            "reload: a; means nothing without a shell",
        ),
        (
            "to = 'files'\ndirectory = '/a'\nmode = 644",
            "mode: must be a string, and is a number",
        ),
        (
            "to = 'files'\ndirectory = '/a'\nmode = '0888'",
            'mode: must be an octal mode in quotes, such as "0644"',
        ),
        ("to = 'files'\ndirectory = '/a'\nmode = '0755'", "mode: must let the owner read, no user"),
        ("to = 'files'\ndirectory = '/a'\nmode = '0646'", "mode: must let the owner read, no user"),
        ("to = 'files'\ndirectory = '/a'\nmode = '0044'", "mode: must let the owner read, no user"),
        ("to = 'files'\ndirectory = '/a'\nmode = '4644'", "mode: must be an octal mode in quotes"),
        (
            "to = 'files'\ndirectory = '/a'\nkey_mode = '0644'",
            "key_mode: would open the private key to every user; write 0600 or 0640",
        ),
        ("to = 'files'\ndirectory = '/a'\ndomains = ['x.cn']", "domains: unknown key; known are "),
        ("to = 'files'\ndirectory = '/a'\nrelaod = 'x'", "relaod: unknown key; did you mean relo"),
        ("to = 'command'", "command: missing: the command to run for the certificate"),
        ("to = 'command'\ncommand = 'x'\nreload = 'y'", "reload: unknown key; known are "),
        (
            (
                "to = 'files'\ndirectory = '/a'\n"
                "[[certificates.deploy]]\nto = 'files'\ndirectory = '/a/'"
            ),
            "directory: /a belongs to line 5 already; choose another directory",
        ),
        (
            (
                "to = 'command'\ncommand = 'x'\n"
                "[[certificates.deploy]]\nto = 'command'\ncommand = 'x y'"
            ),
            "command: x is run for this certificate already, at line 5; give one of them another",
        ),
    ],
)
def test_a_wrong_delivery_is_told_in_the_words_of_the_file(
    refusal: Refusal, body: str, said: str
) -> None:
    """A mistake has one line, and nothing follows from it."""
    (line,) = refusal(f"{HEAD}[[certificates.deploy]]\n{body}")

    assert line.partition("[[certificates.deploy]] ")[2].startswith(said), line


def test_one_directory_for_two_certificates(refusal: Refusal) -> None:
    """Each would replace the other's for ever."""
    deploy = '[[certificates.deploy]]\nto = "files"\ndirectory = "/a"\n'
    other = HEAD.partition("\n")[2].replace("a.example.com", "b.example.com")

    (line,) = refusal(HEAD + deploy + other + deploy)

    assert "directory: /a belongs to line 5 already" in line


def test_one_command_for_two_certificates(loaded: Load) -> None:
    """That is what commands are for."""
    deploy = '[[certificates.deploy]]\nto = "command"\ncommand = "push"\n'
    other = HEAD.partition("\n")[2].replace("a.example.com", "b.example.com")

    first, second = loaded(HEAD + deploy + other + deploy).certificates

    assert first.deployments == second.deployments


def test_certificate_that_would_be_written_over_its_source(refusal: Refusal) -> None:
    """The files are another client's."""
    text = (
        '[[certificates]]\nfullchain = "/a/fullchain.pem"\nprivkey = "/a/privkey.pem"\n'
        '[[certificates.deploy]]\nto = "files"\ndirectory = "/a"\n'
    )

    (line,) = refusal(text)

    assert "directory: /a belongs to line 1 already" in line


def test_links_do_not_hide_that_a_directory_is_taken(refusal: Refusal, folder: Path) -> None:
    """Neither from another certificate, nor from the one whose source lies there."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    (folder / "way").symlink_to(".")
    other = HEAD.partition("\n")[2].replace("a.example.com", "b.example.com")
    deploy = '[[certificates.deploy]]\nto = "files"\ndirectory = "{}"\n'
    imported = '[[certificates]]\nfullchain = "link/fullchain.pem"\nprivkey = "link/privkey.pem"\n'

    (one,) = refusal(HEAD + deploy.format("real") + other + deploy.format("way/link"))
    (two,) = refusal(imported + deploy.format("way/real"))

    said = f"directory: {folder}/real belongs to line"
    assert f"{said} 5" in one
    assert f"{said} 1" in two


def test_directory_behind_a_link_is_called_as_it_is_written(loaded: Load, folder: Path) -> None:
    """Reports speak the operator's words; the link may lead elsewhere tomorrow."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")

    found = delivery(loaded, 'to = "files"\ndirectory = "link"')

    assert isinstance(found, FileDelivery)
    assert f"{folder}/link" == found.directory
