"""What a certificate's table declares: names, deliveries, another client's files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certferry.config.load import WITHOUT_FILE, load
from certferry.config.model import Settings
from certferry.core.desired.certificate import (
    CommandDelivery,
    Delivery,
    DesiredDeployment,
    FileDelivery,
    Kind,
    PemFiles,
    Program,
    Retirement,
)
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.wiring.settings import from_client
from tests.config.conftest import Load, Refusal

# --- `domains` and `exclude` of a deployment: what they may hold, and what is wrong with them


FILE = """\
[accounts.qiniu]
[accounts.dnspod]
[[certificates]]
name = "img"
{source}
[[certificates.deploy]]
to = "qiniu"
"""
ISSUED = 'names = ["example.com", "*.example.com"]\ndns = "dnspod"'
IMPORTED = 'fullchain = "a/f.pem"\nprivkey = "a/k.pem"'


def read(tmp_path: Path, *lines: str, source: str = ISSUED) -> DesiredDeployment:
    """Read the one deployment of a file with these lines; the first is line 9."""
    path = tmp_path / "certferry.toml"
    path.write_text(FILE.format(source=source) + "\n".join(lines) + "\n")
    [certificate] = load(path, {"HOME": "/nowhere"}).certificates
    [deployment] = certificate.deployments
    return deployment


def problem(tmp_path: Path, *lines: str, source: str = ISSUED) -> str:
    """Return what is said of these lines, without the path."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *lines, source=source)
    return str(caught.value).removeprefix(f"{tmp_path / 'certferry.toml'}:")


def test_names_wildcard_domains_and_globs(tmp_path: Path) -> None:
    """Each kind of pattern in its place, in one spelling, once."""
    deployment = read(
        tmp_path,
        'domains = ["*.Example.com", "img.example.com", ".example.com", "*.example.com.", "img*"]',
        'exclude = [".img.example.com", "test.example.com", "test.example.com", "x*"]',
    )

    assert ("img.example.com", "*.example.com") == deployment.domains
    assert ("*.example.com", "img*") == deployment.globs
    assert (".img.example.com", "test.example.com", "x*") == deployment.exclude


@pytest.mark.parametrize("domains", [[], ['domains = "auto"']])
def test_exclude_alone(domains: list[str], tmp_path: Path) -> None:
    """Of all that the certificate covers."""
    deployment = read(tmp_path, *domains, 'exclude = ["test.example.com"]')

    assert (None, ()) == (deployment.domains, deployment.globs)
    assert ("test.example.com",) == deployment.exclude


def test_exclude_takes_names_out(tmp_path: Path) -> None:
    """It counts for more than `domains`, and an empty one says nothing."""
    both = read(
        tmp_path,
        'domains = ["img.example.com", "test.example.com", "*.test.example.com"]',
        'exclude = ["*test.example.com"]',
    )
    plain = read(tmp_path, 'domains = ["img.example.com"]', "exclude = []")

    assert (("img.example.com",), ()) == (both.domains, both.globs)
    assert (("img.example.com",), ()) == (plain.domains, plain.exclude)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ['domains = ["img.example.com"]', 'exclude = ["img.*"]'],
            (
                "10: [[certificates.deploy]] exclude: excludes every domain of `domains`"
                " (img.example.com); remove the domains that should be served"
            ),
        ),
        (
            ['domains = ["*.example.com", ".example.com"]', 'exclude = ["*.com"]'],
            (
                "10: [[certificates.deploy]] exclude: excludes every domain of `domains`"
                " (*.example.com, .example.com); remove the domains that should be served"
            ),
        ),
        (
            ['exclude = ["*"]'],
            (
                "9: [[certificates.deploy]] exclude: excludes every domain that the certificate"
                " covers; remove the domains that should be served"
            ),
        ),
        (
            ['exclude = ["*.example.com", "example.com"]'],
            (
                "9: [[certificates.deploy]] exclude: excludes every domain that the certificate"
                " covers; remove the domains that should be served"
            ),
        ),
        (
            ["domains = [", '  "img.example.com",', '  "img[12].example.com"]'],
            (
                "11: [[certificates.deploy]] domains: 'img[12].example.com' is not understood;"
                " only * stands for other characters, as in img-*.example.com"
            ),
        ),
        (
            ['exclude = ["test"]'],
            (
                "9: [[certificates.deploy]] exclude: 'test' is not a domain name; write a name"
                " like img.example.com or *.example.com, without https:// or a path"
            ),
        ),
        (
            ["exclude = [7]"],
            "9: [[certificates.deploy]] exclude: must be a string, but is a number",
        ),
        (
            ['exclude = "test.example.com"'],
            (
                "9: [[certificates.deploy]] exclude: must be a list, but is a string: write"
                ' ["test.example.com"]'
            ),
        ),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(
    lines: list[str], said: str, tmp_path: Path
) -> None:
    """And with what to write."""
    assert said == problem(tmp_path, *lines)


def test_names_in_files_are_not_known_yet(tmp_path: Path) -> None:
    """Whether something is left of what they cover is seen when they have been read."""
    assert ("*.example.com",) == read(
        tmp_path, 'exclude = ["*.example.com"]', source=IMPORTED
    ).exclude
    assert "excludes every domain" in problem(
        tmp_path, 'domains = ["x.cn"]', 'exclude = ["x.cn"]', source=IMPORTED
    )


def test_receivers_have_no_domains(tmp_path: Path) -> None:
    """A directory takes the certificate whole."""
    path = tmp_path / "certferry.toml"
    text = FILE.format(source=ISSUED).replace('to = "qiniu"', 'to = "files"\ndirectory = "/a"')
    path.write_text(f'{text}exclude = ["x.cn"]\n')

    with pytest.raises(ConfigError, match="exclude: unknown key"):
        load(path, {"HOME": "/nowhere"})


def test_hosts_of_a_deployment_to_an_account(tmp_path: Path) -> None:
    """Whichever host is at work carries it out."""
    said = problem(tmp_path, 'hosts = ["web-1"]')
    assert 'hosts: only for "files" and "command": any host deploys to' in said


def test_domain_that_two_deployments_of_one_certificate_name(tmp_path: Path) -> None:
    """Which of them is to serve it, and how, must be said once."""
    said = problem(
        tmp_path,
        'domains = ["img.example.com"]',
        "[[certificates.deploy]]",
        'to = "qiniu"',
        'domains = ["img.example.com", "*.example.com"]',
    )

    assert said.endswith("deploy: two deployments to qiniu name img.example.com")


# --- `to = "files"` and `to = "command"`: what may be written, what it means, and every mistake


HEAD = '[accounts.dnspod]\n[[certificates]]\nnames = ["a.example.com"]\ndns = "dnspod"\n'


def deployments(loaded: Load, *bodies: str) -> tuple[DesiredDeployment, ...]:
    tables = "".join(f"[[certificates.deploy]]\n{body}\n" for body in bodies)
    return loaded(HEAD + tables).certificates[0].deployments


def delivery(loaded: Load, body: str) -> Delivery | None:
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


def test_receivers_of_hosts(loaded: Load) -> None:
    """A host has those that name it, and those that name none; two may have the same directory. A
    mistake is reported on every host, at its line.
    """
    bodies = (
        'to = "files"\ndirectory = "/a"\nreload = "one"\nhosts = ["web-1"]',
        'to = "files"\ndirectory = "/a"\nreload = "two"\nhosts = ["web-2", "web-3"]',
        'to = "command"\ncommand = "push"\nhosts = ["web-1", "web-2"]',
        'to = "files"\ndirectory = "/all"',
    )
    tables = "".join(f"[[certificates.deploy]]\n{body}\n" for body in bodies)
    expected = {"web-1": [0, 2, 3], "web-2": [1, 2, 3], "web-3": [1, 3], "web-4": [3]}
    for host, numbers in expected.items():
        settings = loaded(f'{HEAD}{tables}[state]\nhost = "{host}"\n')
        [found] = settings.certificates
        places = [settings.places["a.example.com"].below("deploy", number) for number in numbers]
        assert places == [*settings.deployed["a.example.com"]]
        assert len(numbers) == len(found.deployments)
        assert {"web-1", "web-2", "web-3"} == settings.hosts
    wrong = tables.replace('"web-3"]', '"web-3"]\nmode = 1')
    with pytest.raises(ConfigError, match=r"certferry\.toml:15: .* mode: must be a string"):
        loaded(f'{HEAD}{wrong}[state]\nhost = "web-4"\n')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("to = 'files'\ndirectory = '/a'\nhosts = []", "hosts: is an empty list"),
        ("to = 'files'\ndirectory = '/a'\nhosts = 'web-1'", "hosts: must be a list"),
        ("to = 'files'\ndirectory = '/a'\nhosts = ['']", "hosts: is empty"),
        ("to = 'files'", "directory: missing: the directory for the four PEM files"),
        ("to = 'file'\ndirectory = '/a'", "to: there is no account file; "),
        ("to = 'files'\ndirectory = ''", "directory: is empty"),
        ("to = 'files'\ndirectory = 1", "directory: must be a string, but is a number"),
        ("to = 'files'\ndirectory = '/a'\ntimeout = 5", "timeout: only together with `reload`"),
        (
            "to = 'files'\ndirectory = '/a'\nreload = 'x'\ntimeout = 0",
            "timeout: must be a number of seconds above 0",
        ),
        ("to = 'files'\ndirectory = '/a'\nreload = ''", "reload: is empty"),
        ("to = 'files'\ndirectory = '/a'\nreload = []", "reload: is an empty list"),
        ("to = 'files'\ndirectory = '/a'\nreload = [1]", "reload: must be a string, but is a num"),
        ("to = 'files'\ndirectory = '/a'\nreload = ['']", "reload: is empty"),
        ("to = 'files'\ndirectory = '/a'\nreload = true", "reload: must be a string or a list, "),
        (
            "to = 'files'\ndirectory = '/a'\nreload = \"echo 'x\"",
            "reload: cannot be read: no closing quotation",
        ),
        (
            "to = 'files'\ndirectory = '/a'\nreload = 'nginx -t && systemctl reload nginx'",
            """reload: && has no meaning without a shell; write ["sh", "-c", "…"], or the path""",
        ),
        (
            "to = 'files'\ndirectory = '/a'\nreload = 'a; b'",
            "reload: a; has no meaning without a shell",
        ),
        ("to = 'files'\ndirectory = '/a'\nmode = 644", "mode: must be a string, but is a number"),
        (
            "to = 'files'\ndirectory = '/a'\nmode = '0888'",
            'mode: must be an octal mode in quotes, for example "0644"',
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
            "directory: line 5 already uses /a; choose another directory",
        ),
        (
            (
                "to = 'command'\ncommand = 'x'\n"
                "[[certificates.deploy]]\nto = 'command'\ncommand = 'x y'"
            ),
            "command: x already runs for this certificate, at line 5; give one of the two another",
        ),
    ],
)
def test_a_wrong_delivery_is_reported_in_the_words_of_the_file(
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

    assert "directory: line 5 already uses /a" in line


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

    assert "directory: line 1 already uses /a" in line


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

    used = f"already uses {folder}/real"
    assert f"directory: line 5 {used}" in one
    assert f"directory: line 1 {used}" in two


def test_directory_behind_a_link_is_called_as_it_is_written(loaded: Load, folder: Path) -> None:
    """Reports speak the operator's words; the link may lead elsewhere tomorrow."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")

    found = delivery(loaded, 'to = "files"\ndirectory = "link"')

    assert isinstance(found, FileDelivery)
    assert f"{folder}/link" == found.directory


# --- Settings for a certificate that another client has renewed, where no file declares any


FILES = PemFiles("/live/example.com/fullchain.pem", "/live/example.com/privkey.pem")
KEYS = {"QINIU_AK": "a", "QINIU_SECRET_KEY": "s"}


def test_without_a_file_the_clients_certificate_is_declared() -> None:
    """It goes to every domain it covers at Qiniu; only that account's keys are needed."""
    settings = from_client("example.com-0001", FILES, {"HOME": "/h", **KEYS})

    (wish,) = settings.certificates
    account = settings.accounts["qiniu"].values
    assert FILES == wish.files
    assert ("example.com-0001", (DesiredDeployment("qiniu"),)) == (wish.lineage, wish.deployments)
    assert ["qiniu"] == list(settings.accounts)
    assert {"access_key": "env:QINIU_AK", "secret_key": "env:QINIU_SECRET_KEY"} == dict(account)
    assert settings.path is None


def in_file(loaded: Load, text: str, **environ: str) -> Settings:
    """Declare a certificate in addition to a file that declares none."""
    return from_client("example.com", FILES, {"HOME": "/h", **environ}, loaded(text, **environ))


def test_file_without_certificates_says_where_and_how(loaded: Load) -> None:
    """Its account takes the client's certificate, whatever it is called; the rest of it holds."""
    settings = in_file(
        loaded,
        '[state]\nurl = "sqlite:///here.db"\n[accounts.cdn]\ntype = "qiniu"\n'
        'access_key = "env:MINE"\nsecret_key = "env:ALSO"\napi = "http://127.0.0.1:1"\n',
    )

    (wish,) = settings.certificates
    assert ("example.com", (DesiredDeployment("cdn"),)) == (wish.lineage, wish.deployments)
    assert FILES == wish.files
    assert "here.db" == Path(settings.state.named).name
    assert "env:MINE" == settings.accounts["cdn"].values["access_key"]
    assert settings.path is not None


@pytest.mark.parametrize("account", ["", '[accounts.qiniu]\napi = "http://127.0.0.1:1"\n'])
def test_keys_that_the_file_lacks_come_from_the_environment(loaded: Load, account: str) -> None:
    """Its own environment files included; DNSPod's account is not needed."""
    env_file = Path("cdn.env")
    env_file.write_text("QINIU_AK=a\n")
    env_file.chmod(0o600)

    settings = in_file(
        loaded,
        f'env_files = ["cdn.env"]\n{account}[accounts.dnspod]\ntoken = "env:DP_Key"\n',
        QINIU_SECRET_KEY="s",
    )

    values = settings.accounts["qiniu"].values
    assert ("env:QINIU_AK", "env:QINIU_SECRET_KEY") == (values["access_key"], values["secret_key"])


def test_key_that_neither_has_is_reported(loaded: Load) -> None:
    """With both of its names."""
    with pytest.raises(ConfigError, match="QINIU_SECRET_KEY / QINIU_SK: not set"):
        in_file(loaded, '[accounts.qiniu]\naccess_key = "env:MINE"\n')


def test_of_two_accounts_none_is_guessed(loaded: Load) -> None:
    """Which one is meant is to be declared."""
    one = 'access_key = "env:A"\nsecret_key = "env:B"\ntype = "qiniu"\n'

    with pytest.raises(ConfigError, match="several accounts of Qiniu's: a, b") as caught:
        in_file(loaded, f"[accounts.a]\n{one}[accounts.b]\n{one}")

    assert "[[certificates]]" in str(caught.value.hint)


def test_without_a_file_every_missing_key_is_reported() -> None:
    """Both of Qiniu's, and none of DNSPod's."""
    with pytest.raises(ConfigError) as caught:
        from_client("example.com", FILES, {"HOME": "/h"})

    assert [
        "QINIU_ACCESS_KEY / QINIU_AK: not set: the access key (AK) of the Qiniu account",
        "QINIU_SECRET_KEY / QINIU_SK: not set: the secret key (SK) of the Qiniu account",
    ] == str(caught.value).splitlines()
    assert WITHOUT_FILE == caught.value.hint


def test_secrets_print_nothing() -> None:
    """The settings hold references, not keys."""
    settings = from_client(
        "example.com", FILES, {"HOME": "/h", "QINIU_AK": "a", "QINIU_SK": "very-s"}
    )

    assert "very-s" not in repr(settings)
    assert Secret("very-s") != settings.accounts["qiniu"].values["secret_key"]
