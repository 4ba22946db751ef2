"""The declarations in a certificate's table: names, deployments, deliveries, and files of another
client.
"""

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

# --- `domains` and `exclude` of a deployment: patterns, and mistakes in patterns


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


def deployment_of(tmp_path: Path, *lines: str, source: str = ISSUED) -> DesiredDeployment:
    """Read the single deployment of a file with these lines; the first of the lines is line 9."""
    path = tmp_path / "certferry.toml"
    path.write_text(FILE.format(source=source) + "\n".join(lines) + "\n")
    [certificate] = load(path, {"HOME": "/nowhere"}).certificates
    [deployment] = certificate.deployments
    return deployment


def problem_of(tmp_path: Path, *lines: str, source: str = ISSUED) -> str:
    """Return the message about these lines, without the path."""
    with pytest.raises(ConfigError) as caught:
        deployment_of(tmp_path, *lines, source=source)
    return str(caught.value).removeprefix(f"{tmp_path / 'certferry.toml'}:")


def test_names_wildcard_domains_and_globs(tmp_path: Path) -> None:
    """Each kind of pattern is in its own field, in normal spelling and without duplicates."""
    deployment = deployment_of(
        tmp_path,
        'domains = ["*.Example.com", "img.example.com", ".example.com", "*.example.com.", "img*"]',
        'exclude = [".img.example.com", "test.example.com", "test.example.com", "x*"]',
    )

    assert ("img.example.com", "*.example.com") == deployment.domains
    assert ("*.example.com", "img*") == deployment.globs
    assert (".img.example.com", "test.example.com", "x*") == deployment.exclude


@pytest.mark.parametrize("domains", [[], ['domains = "auto"']])
def test_exclude_alone(domains: list[str], tmp_path: Path) -> None:
    """The deployment has all domains of the certificate except the excluded domains."""
    deployment = deployment_of(tmp_path, *domains, 'exclude = ["test.example.com"]')

    assert (None, ()) == (deployment.domains, deployment.globs)
    assert ("test.example.com",) == deployment.exclude


def test_exclude_takes_precedence_over_domains(tmp_path: Path) -> None:
    """`exclude` removes names from `domains`; an empty list has no effect."""
    with_exclude = deployment_of(
        tmp_path,
        'domains = ["img.example.com", "test.example.com", "*.test.example.com"]',
        'exclude = ["*test.example.com"]',
    )
    plain = deployment_of(tmp_path, 'domains = ["img.example.com"]', "exclude = []")

    assert (("img.example.com",), ()) == (with_exclude.domains, with_exclude.globs)
    assert (("img.example.com",), ()) == (plain.domains, plain.exclude)


@pytest.mark.parametrize(
    ("lines", "expected"),
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
def test_wrong_pattern_is_reported_with_its_line(
    lines: list[str], expected: str, tmp_path: Path
) -> None:
    """The message has the mistake and the correction."""
    assert expected == problem_of(tmp_path, *lines)


def test_exclude_for_a_certificate_from_files(tmp_path: Path) -> None:
    """The names of the files are unknown, so only a list of `domains` is compared with
    `exclude`.
    """
    assert ("*.example.com",) == deployment_of(
        tmp_path, 'exclude = ["*.example.com"]', source=IMPORTED
    ).exclude
    assert "excludes every domain" in problem_of(
        tmp_path, 'domains = ["x.cn"]', 'exclude = ["x.cn"]', source=IMPORTED
    )


def test_exclude_at_a_receiver_is_an_unknown_key(tmp_path: Path) -> None:
    """A directory receives the whole certificate."""
    path = tmp_path / "certferry.toml"
    text = FILE.format(source=ISSUED).replace('to = "qiniu"', 'to = "files"\ndirectory = "/a"')
    path.write_text(f'{text}exclude = ["x.cn"]\n')

    with pytest.raises(ConfigError, match="exclude: unknown key"):
        load(path, {"HOME": "/nowhere"})


def test_hosts_at_an_account_are_refused(tmp_path: Path) -> None:
    """Any host deploys to an account."""
    message = problem_of(tmp_path, 'hosts = ["web-1"]')
    assert 'hosts: only for "files" and "command": any host deploys to' in message


def test_domain_in_two_deployments_of_a_certificate(tmp_path: Path) -> None:
    """The message names the domain: two deployments could have different settings for the same
    domain.
    """
    message = problem_of(
        tmp_path,
        'domains = ["img.example.com"]',
        "[[certificates.deploy]]",
        'to = "qiniu"',
        'domains = ["img.example.com", "*.example.com"]',
    )

    assert message.endswith("deploy: two deployments to qiniu name img.example.com")


# --- `to = "files"` and `to = "command"`: settings, their meaning, and mistakes


HEAD = '[accounts.dnspod]\n[[certificates]]\nnames = ["a.example.com"]\ndns = "dnspod"\n'


def deployments(loaded: Load, *bodies: str) -> tuple[DesiredDeployment, ...]:
    tables = "".join(f"[[certificates.deploy]]\n{body}\n" for body in bodies)
    return loaded(HEAD + tables).certificates[0].deployments


def delivery(loaded: Load, body: str) -> Delivery | None:
    (deployment,) = deployments(loaded, body)
    return deployment.delivery


def test_files_with_a_directory_alone(loaded: Load) -> None:
    """Without other settings no program runs, the key has the mode 0600, and the directory is the
    deployment's only domain.
    """
    (deployment,) = deployments(loaded, 'to = "files"\ndirectory = "/opt/ssl/../ssl/img/"')

    assert (
        DesiredDeployment(
            "files",
            ("/opt/ssl/img",),
            Kind.FILES,
            retire=Retirement.NEVER,
            delivery=FileDelivery("/opt/ssl/img", mode=0o644, key_mode=0o600),
        )
        == deployment
    )


def test_files_with_every_setting(loaded: Load, folder: Path) -> None:
    """The delivery has every setting; `reload` is split as in a shell, and runs in the folder of
    the file.
    """
    files = delivery(
        loaded,
        'to = "files"\ndirectory = "ssl"\nowner = "root"\ngroup = "ssl-cert"\nmode = "0640"\n'
        'key_mode = "640"\nreload = "systemctl reload \'my nginx\'"\ntimeout = 5',
    )

    reload = Program(("systemctl", "reload", "my nginx"), str(folder), timedelta(seconds=5))
    assert FileDelivery(f"{folder}/ssl", "root", "ssl-cert", 0o640, 0o640, reload) == files


@pytest.mark.parametrize(
    ("path", "expected"), [("~/ssl", "{home}/ssl"), ("~", "{home}"), ("a/./b", "{folder}/a/b")]
)
def test_spellings_of_a_directory(
    loaded: Load, folder: Path, clean_environment: Path, path: str, expected: str
) -> None:
    """A path is relative to the file, or begins with the home."""
    files = delivery(loaded, f'to = "files"\ndirectory = "{path}"')

    assert isinstance(files, FileDelivery)
    assert expected.format(folder=folder, home=clean_environment) == files.directory


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("'push-cert'", ("push-cert",)),
        ("'./push --to lb'", ("{folder}/push", "--to", "lb")),
        ("['/bin/push', '', 'a b', '$X && y']", ("/bin/push", "", "a b", "$X && y")),
        ("['sh', '-c', 'a | b > c']", ("sh", "-c", "a | b > c")),
    ],
)
def test_spellings_of_a_command(
    loaded: Load, folder: Path, command: str, arguments: tuple[str, ...]
) -> None:
    """A command is a string or a list; its name is the program's name, and its time limit is five
    minutes.
    """
    delivered = delivery(loaded, f'to = "command"\ncommand = {command}')

    words = tuple(part.format(folder=folder) for part in arguments)
    program = Program(words, str(folder), timedelta(minutes=5))
    assert CommandDelivery(words[0].rpartition("/")[2], program) == delivered


def test_several_receivers(loaded: Load) -> None:
    """A certificate may have several receivers, each with its own name."""
    receivers = deployments(
        loaded,
        'to = "files"\ndirectory = "/a"',
        'to = "files"\ndirectory = "/b"',
        'to = "command"\ncommand = "push one"\nname = "one"',
        'to = "command"\ncommand = "push two"\nname = "two"',
    )

    assert [("/a",), ("/b",), ("one",), ("two",)] == [receiver.domains for receiver in receivers]


def test_receivers_of_hosts(loaded: Load) -> None:
    """A host has the receivers that name the host, and the receivers without hosts. Receivers of
    different hosts may have the same directory. Every host reports a mistake at the same line.
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
        [certificate] = settings.certificates
        places = [settings.places["a.example.com"].below("deploy", number) for number in numbers]
        assert places == [*settings.deployed["a.example.com"]]
        assert len(numbers) == len(certificate.deployments)
        assert {"web-1", "web-2", "web-3"} == settings.hosts
    mistaken = tables.replace('"web-3"]', '"web-3"]\nmode = 1')
    with pytest.raises(ConfigError, match=r"certferry\.toml:15: .* mode: must be a string"):
        loaded(f'{HEAD}{mistaken}[state]\nhost = "web-4"\n')


@pytest.mark.parametrize(
    ("body", "expected"),
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
def test_wrong_delivery_is_reported_with_its_key(
    refusal: Refusal, body: str, expected: str
) -> None:
    """A mistake causes exactly one line."""
    (line,) = refusal(f"{HEAD}[[certificates.deploy]]\n{body}")

    assert line.partition("[[certificates.deploy]] ")[2].startswith(expected), line


def test_directory_of_two_certificates(refusal: Refusal) -> None:
    """Two certificates in a directory would replace each other in every run."""
    deploy = '[[certificates.deploy]]\nto = "files"\ndirectory = "/a"\n'
    other = HEAD.partition("\n")[2].replace("a.example.com", "b.example.com")

    (line,) = refusal(HEAD + deploy + other + deploy)

    assert "directory: line 5 already uses /a" in line


def test_command_of_two_certificates(loaded: Load) -> None:
    """A command may deliver any number of certificates."""
    deploy = '[[certificates.deploy]]\nto = "command"\ncommand = "push"\n'
    other = HEAD.partition("\n")[2].replace("a.example.com", "b.example.com")

    first, second = loaded(HEAD + deploy + other + deploy).certificates

    assert first.deployments == second.deployments


def test_directory_of_an_imported_certificate(refusal: Refusal) -> None:
    """A delivery would overwrite the files of the other client."""
    text = (
        '[[certificates]]\nfullchain = "/a/fullchain.pem"\nprivkey = "/a/privkey.pem"\n'
        '[[certificates.deploy]]\nto = "files"\ndirectory = "/a"\n'
    )

    (line,) = refusal(text)

    assert "directory: line 1 already uses /a" in line


def test_directory_of_two_certificates_through_links(refusal: Refusal, folder: Path) -> None:
    """The real paths are compared, both with other deliveries and with imported files."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    (folder / "way").symlink_to(".")
    other = HEAD.partition("\n")[2].replace("a.example.com", "b.example.com")
    deploy = '[[certificates.deploy]]\nto = "files"\ndirectory = "{}"\n'
    imported = '[[certificates]]\nfullchain = "link/fullchain.pem"\nprivkey = "link/privkey.pem"\n'

    (of_delivery,) = refusal(HEAD + deploy.format("real") + other + deploy.format("way/link"))
    (of_import,) = refusal(imported + deploy.format("way/real"))

    used = f"already uses {folder}/real"
    assert f"directory: line 5 {used}" in of_delivery
    assert f"directory: line 1 {used}" in of_import


def test_directory_through_a_link_keeps_its_spelling(loaded: Load, folder: Path) -> None:
    """Reports have the path of the file, since a link may lead elsewhere tomorrow."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")

    files = delivery(loaded, 'to = "files"\ndirectory = "link"')

    assert isinstance(files, FileDelivery)
    assert f"{folder}/link" == files.directory


# --- Settings for a certificate that another client has renewed, without a declaration


FILES = PemFiles("/live/example.com/fullchain.pem", "/live/example.com/privkey.pem")
KEYS = {"QINIU_AK": "a", "QINIU_SECRET_KEY": "s"}


def test_certificate_of_a_client_without_a_file() -> None:
    """The certificate is deployed to all its domains at Qiniu; only the keys of Qiniu are
    needed.
    """
    settings = from_client("example.com-0001", FILES, {"HOME": "/h", **KEYS})

    (certificate,) = settings.certificates
    account = settings.accounts["qiniu"].values
    assert FILES == certificate.files
    assert ("example.com-0001", (DesiredDeployment("qiniu"),)) == (
        certificate.lineage,
        certificate.deployments,
    )
    assert ["qiniu"] == list(settings.accounts)
    assert {"access_key": "env:QINIU_AK", "secret_key": "env:QINIU_SECRET_KEY"} == dict(account)
    assert settings.path is None


def in_file(loaded: Load, text: str, **environ: str) -> Settings:
    """Declare a client's certificate in addition to a file without certificates."""
    return from_client("example.com", FILES, {"HOME": "/h", **environ}, loaded(text, **environ))


def test_file_without_certificates_has_the_settings(loaded: Load) -> None:
    """The file's account gets the client's certificate, under any label, and the file's other
    settings apply.
    """
    settings = in_file(
        loaded,
        '[state]\nurl = "sqlite:///here.db"\n[accounts.cdn]\ntype = "qiniu"\n'
        'access_key = "env:MINE"\nsecret_key = "env:ALSO"\napi = "http://127.0.0.1:1"\n',
    )

    (certificate,) = settings.certificates
    assert ("example.com", (DesiredDeployment("cdn"),)) == (
        certificate.lineage,
        certificate.deployments,
    )
    assert FILES == certificate.files
    assert "here.db" == Path(settings.state.named).name
    assert "env:MINE" == settings.accounts["cdn"].values["access_key"]
    assert settings.path is not None


@pytest.mark.parametrize("account", ["", '[accounts.qiniu]\napi = "http://127.0.0.1:1"\n'])
def test_keys_from_the_environment_for_an_account(loaded: Load, account: str) -> None:
    """Keys outside the file come from the environment, including environment files; no account of
    DNSPod is needed.
    """
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


def test_key_outside_file_and_environment_is_reported(loaded: Load) -> None:
    """The message has both names of the variable."""
    with pytest.raises(ConfigError, match="QINIU_SECRET_KEY / QINIU_SK: not set"):
        in_file(loaded, '[accounts.qiniu]\naccess_key = "env:MINE"\n')


def test_two_accounts_need_a_declaration(loaded: Load) -> None:
    """The hint advises to declare the certificate with its account."""
    keys = 'access_key = "env:A"\nsecret_key = "env:B"\ntype = "qiniu"\n'

    with pytest.raises(ConfigError, match="several accounts of Qiniu's: a, b") as caught:
        in_file(loaded, f"[accounts.a]\n{keys}[accounts.b]\n{keys}")

    assert "[[certificates]]" in str(caught.value.hint)


def test_missing_keys_without_a_file() -> None:
    """The message has both keys of Qiniu, and no keys of DNSPod."""
    with pytest.raises(ConfigError) as caught:
        from_client("example.com", FILES, {"HOME": "/h"})

    assert [
        "QINIU_ACCESS_KEY / QINIU_AK: not set: the access key (AK) of the Qiniu account",
        "QINIU_SECRET_KEY / QINIU_SK: not set: the secret key (SK) of the Qiniu account",
    ] == str(caught.value).splitlines()
    assert WITHOUT_FILE == caught.value.hint


def test_settings_without_secrets_in_their_text() -> None:
    """The settings contain references instead of keys."""
    settings = from_client(
        "example.com", FILES, {"HOME": "/h", "QINIU_AK": "a", "QINIU_SK": "very-s"}
    )

    assert "very-s" not in repr(settings)
    assert Secret("very-s") != settings.accounts["qiniu"].values["secret_key"]
