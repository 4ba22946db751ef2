"""Secrets, private keys and Authorization headers stay out of all outputs of certferry."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from certferry.core.redaction import MASK
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.certificates import make_key
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.acceptance.secrecy import (
    Place,
    SecretSpelling,
    files,
    leaks,
    of_host,
    of_world,
    private_key,
    streams,
    value,
)
from tests.acceptance.site import Site, script
from tests.support.tiers import long, thorough

# --- Secrets, private keys and Authorization headers stay out of all outputs of certferry


WRONG_TOKEN = "f00dfeedf00dfeedf00dfeedf00dfeed"
WRONG_KEY = "not-the-secret-key-of-this-account-0000"


def everything_once(host: Host, name: str, exported: Path) -> dict[str, Run]:
    """Run every command to a good end, with all details."""
    commands = {
        "plan": ["plan"],
        "sync": ["sync"],
        "sync --renew --json": ["sync", "--renew", "--all", "--json"],
        "status": ["status"],
        "status --json": ["status", "--json"],
        "history": ["history"],
        "export": ["export", name, "--dir", str(exported)],
    }
    runs = {title: host.run("-v", *words) for title, words in commands.items()}
    assert [0] * len(runs) == [run.code for run in runs.values()]
    return runs


def trouble_of_every_kind(host: Host, name: str) -> dict[str, Run]:
    """Run into wrong keys, broken lines, and services that quote the request."""
    world = host.world
    runs = {
        "sync, wrong Qiniu key": host.run(
            "-v", "sync", "--renew", "--all", QINIU_SECRET_KEY=WRONG_KEY
        ),
        "plan, wrong Qiniu key": host.run("-v", "plan", "--json", QINIU_SECRET_KEY=WRONG_KEY),
        "sync, wrong DNSPod token": host.run("-v", "sync", "--renew", "--all", DP_Key=WRONG_TOKEN),
    }

    token = f"{world.credentials.dnspod_id},{world.credentials.dnspod_token}"
    quoted = " or ".join(spelling.decode() for spelling in spellings(token))
    world.dnspod.answer_next("Record.Create", "6", f"bad parameter login_token={quoted}")
    for _ in range(3):  # Pebble reuses one proof in a hundred: no record is written then
        runs["sync, DNSPod quotes the token"] = host.run("-v", "sync", "--renew", "--all")
        if runs["sync, DNSPod quotes the token"].code:
            break

    # Each domain is read separately before a change.
    for call, more in (("GET /sslcert", ()), ("GET /domain/*", ("--renew", "--all"))):
        world.qiniu.fusion.faults.add(quoting(world, call), on=call)
        world.qiniu.api.faults.add(quoting(world, call), on=call)
        runs[f"sync, Qiniu quotes {call}"] = host.run("-v", "sync", "--json", *more)

    with host.remembering() as store:
        pem = store.bundle(name, store.versions(name)[0].number).privkey_pem.reveal()
    quoted = " or ".join(spelling.decode() for spelling in key_spellings(pem))
    refusal = {"code": 400327, "error": f"cannot parse {quoted}"}
    fault = Fault.status(400, json.dumps(refusal).encode())
    world.qiniu.fusion.faults.add(fault, on="POST /sslcert")
    runs["sync, Qiniu quotes the private key"] = host.run("-v", "sync", "--renew", "--all")
    # A failed list of certificates stops no domain that is already served.
    assert [1, 1, 1, 1, 0, 1, 1] == [run.code for run in runs.values()]

    world.qiniu.fusion.faults.add(Fault.reset_before(), on="GET /sslcert")
    world.qiniu.api.faults.add(Fault.html(502), on="GET /domain/*")
    world.qiniu.api.faults.add(Fault.truncated(), on="GET /domain/*")
    world.dnspod.faults.add(Fault.reset_after(), on="POST /Domain.List")
    world.dnspod.faults.add(Fault.reset_after(), on="POST /Record.Remove")
    runs["sync, broken lines"] = host.run("-v", "sync", "--renew", "--all")
    runs["status, mistaken"] = host.run("-v", "status", "--jsn")
    return runs


def spellings(token: str) -> Iterator[bytes]:
    raw = token.encode()
    yield from (raw, base64.b64encode(raw), raw.hex().encode(), quote(raw, safe="").encode())


def key_spellings(pem: str) -> Iterator[bytes]:
    """Yield a key in the spellings of services that quote keys: the body's lines, the DER as
    hexadecimal digits and with colons, and the PEM.
    """
    body = [line for line in pem.splitlines() if not line.startswith("-----")]
    der = base64.b64decode("".join(body))
    yield from (" ".join(body).encode(), der.hex().encode(), der.hex(":").encode(), pem.encode())


def quoting(world: World, call: str) -> Fault:
    """Return a refusal with the words of the call's last Authorization header."""
    header = world.qiniu.requests(call)[-1].headers["Authorization"]
    refusal = {"code": 400000, "error": f"bad header Authorization: {header}"}
    return Fault.status(400, json.dumps(refusal).encode())


@long
def test_nothing_secret_is_written_anywhere(host: Host, name: str, clean_environment: Path) -> None:
    """No stream and no file, the database's own bytes included, shows a secret in any spelling,
    except the two files that are made to hold a secret.
    """
    exported = host.directory / "exported"

    runs = everything_once(host, name, exported) | trouble_of_every_kind(host, name)

    places = [*streams(runs), *files(host.directory, clean_environment)]
    names = {Path(place.name).name for place in places}
    assert {"state.db", "secret.key", "privkey.pem", "fullchain.pem", "certferry.toml"} <= names
    assert "DEBUG certferry.adapters.http.session: POST" in runs["sync"].err
    secrets = [*of_world(host.world), *of_host(host, name)]
    secrets += [*value("a wrong token", WRONG_TOKEN), *value("a wrong key", WRONG_KEY)]
    assert {"DNSPod's token", "Qiniu's secret key", "private key", "the account's key"} <= {
        secret.kind for secret in secrets
    }
    assert set() == leaks(places, secrets)
    with closing(sqlite3.connect(host.state)) as database:
        rows = repr(database.execute("SELECT * FROM history").fetchall())
    assert "400327" in rows
    assert "cannot parse" not in rows


@pytest.fixture
def site(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Site:
    """A machine with programs that know the file of the accounts' keys."""
    machine = Site(world, tmp_path, new_name())
    made_up = world.credentials
    private_file(tmp_path / "dnspod", made_up.dnspod_token + "\n")
    private_file(
        tmp_path / "keys.env",
        f"DP_Id='{made_up.dnspod_id}'\nDP_Key='{made_up.dnspod_token}'\n"
        f"QINIU_ACCESS_KEY='{made_up.access_key}'\nQINIU_SECRET_KEY='{made_up.secret_key}'\n"
        f'LB_PASSWORD="{OF_THE_LB}"\n',
    )
    private_file(tmp_path / "other", OF_ANOTHER + "\n")
    text = machine.config.read_text()
    machine.config.write_text(f'env_files = ["keys.env"]\n{text}{ANOTHER}')
    return machine


OF_THE_LB = "correct horse battery's staple"
OF_ANOTHER, LITERAL = (
    "another-accounts-secret-key-0123456789",
    "another-accounts-literal-9876543210",
)
ANOTHER = f"""
[accounts.another]
type = "qiniu"
access_key = "{LITERAL}"
secret_key = "file:other"
"""
NO_KEYS = {"DP_Id": "", "DP_Key": "", "QINIU_ACCESS_KEY": "", "QINIU_SECRET_KEY": ""}


def private_file(path: Path, content: str) -> None:
    """Write a file that is private to its owner."""
    path.touch(0o600)
    path.write_text(content)


def history_of(site: Site) -> bytes:
    """Read the history's table as stored in the database."""
    with closing(sqlite3.connect(site.state)) as database:
        rows = database.execute("SELECT * FROM history").fetchall()
    return "\n".join(map(repr, rows)).encode()


PROGRAMS = {
    "set -x": "set -x; . ./keys.env; exit 1",
    "a file": "cat dnspod keys.env; exit 1",
    "one line": 'printf "%s " $(cat keys.env) "$DEPLOY_KEY"; exit 1',
    "lines of the environment": 'echo "$DEPLOY_KEY"; exit 1',
    "another account's": "cat other certferry.toml; exit 1",
    "what a shell knows": ". ./keys.env; set; exit 1",
}


@pytest.mark.parametrize("body", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_that_report_secrets(site: Site, body: str) -> None:
    """Secrets of `env_files`, of a reference and of the environment, on one or several lines,
    appear in no stream, log or table. The history does not store the programs' output.
    """
    site.rewrite('"env:DP_Key"', '"file:dnspod"')
    deploy_key = make_key().reveal()
    site.let_reload(body)
    site.let_push(body.replace("exit 1", "echo LOOK AT THIS; exit 1"))
    variables = {**NO_KEYS, "DEPLOY_KEY": deploy_key}
    log = ("--log-file", str(site.folder / "log"))

    runs = {
        "sync": site.run(*log, "sync", **variables),
        "sync -v --json": site.run("-v", *log, "sync", "--json", **variables),
        "history": site.run("history", **variables),
        "history --json": site.run("history", "--json", **variables),
    }

    assert [1, 1, 0, 0] == [run.code for run in runs.values()]
    secrets = [*of_world(site.world), *of_host(site, "site")]
    secrets += [*private_key("the deploy key", deploy_key), *value("of the LB", OF_THE_LB)]
    secrets += [*value("of another account", OF_ANOTHER), *value("a literal", LITERAL)]
    places = [*streams(runs), *files(site.state.parent), Place("history", history_of(site))]
    log_file = Place("log", (site.folder / "log").read_bytes())
    assert set() == leaks([*places, log_file], secrets)
    assert MASK.encode() in log_file.content
    assert b"LOOK AT THIS" in log_file.content
    assert "LOOK AT THIS" in runs["sync"].out + runs["sync"].err
    assert b"failed with exit code" in history_of(site)
    assert b"LOOK AT THIS" not in history_of(site)


@pytest.mark.parametrize("name", ["QINIU_SK", "CDN_SK"])
def test_secret_command_that_reports_a_key(site: Site, name: str) -> None:
    """The key behind another reference is masked, even before a run follows the reference."""
    key = "planted-secret-key-0123456789"
    (site.folder / "key").write_text(key)
    site.rewrite('"env:DP_Id"', "\"command:sh -c 'echo trying $(cat key) >&2; exit 1'\"")
    site.rewrite('"env:DP_Key"', f'"env:{name}"')
    log = site.folder / "log"

    run = site.run("--log-file", str(log), "sync", **{name: key})

    assert 2 == run.code
    assert f"the command sh failed with exit code 1: trying {MASK}" in run.err
    places = [*streams({"sync": run}), Place("log", log.read_bytes())]
    assert set() == leaks(places, list(value("the secret key", key)))


@pytest.fixture
def known_secrets(host: Host, name: str) -> list[SecretSpelling]:
    assert 0 == host.run("sync").code
    return [*of_world(host.world), *of_host(host, name)]


def test_search_finds_every_spelling(host: Host, known_secrets: list[SecretSpelling]) -> None:
    """Each secret is found in an output and in a file."""
    by_kind = {secret.kind: secret for secret in known_secrets}
    assert 6 == len(by_kind), sorted(by_kind)
    for secret in known_secrets:
        place = Place("stderr", b"2026-11-25T00:00:00Z DEBUG: " + secret.spelling + b" sent\n")
        assert f"{secret.kind} in stderr" in leaks([place], known_secrets)
    for number, secret in enumerate(by_kind.values()):
        planted = host.directory / f"planted-{number}"
        planted.write_bytes(b"\0" * 100 + secret.spelling)
        assert f"{secret.kind} in {planted}" in leaks(files(host.directory), known_secrets)


def test_search_finds_a_key_in_the_database(
    host: Host, name: str, known_secrets: list[SecretSpelling]
) -> None:
    """An unsealed private key in a column is found among the file's bytes."""
    assert set() == leaks(files(host.state.parent), known_secrets)
    with host.remembering() as store:
        pem = store.bundle(name, 1).privkey_pem.reveal()
    with closing(sqlite3.connect(host.state)) as database, database:
        database.execute("CREATE TABLE carelessness (key TEXT)")
        database.execute("INSERT INTO carelessness VALUES (?)", (pem,))

    assert f"private key in {host.state}" in leaks(files(host.state.parent), known_secrets)


def test_search_allows_a_secret_its_own_file_alone(
    host: Host, name: str, known_secrets: list[SecretSpelling]
) -> None:
    """An exported private key may be in its own file and nowhere else; another secret may be in no
    file.
    """
    exported = host.directory / "exported"
    assert 0 == host.run("export", name, "--dir", str(exported)).code
    assert set() == leaks(files(exported), known_secrets)

    key = exported / "privkey.pem"
    (exported / "fullchain.pem").write_bytes(key.read_bytes())
    key.write_text(host.world.credentials.dnspod_token)

    assert {f"private key in {exported / 'fullchain.pem'}", f"DNSPod's token in {key}"} == leaks(
        files(exported), known_secrets
    )


def test_spellings_of_a_key_are_its_own(known_secrets: list[SecretSpelling]) -> None:
    """A match is the secret rather than its frame, because two keys share no spelling."""
    from certferry_sandbox.testing.certificates import make_key

    mine, other = (set(private_key("private key", make_key().reveal())) for _ in range(2))

    assert not mine & other


# --- The operator's programs print private keys and proofs of identity: the remains in the log
# file, on stdout, on stderr and in JSON


PRINTERS = {
    "cat": 'cat "$KEY"',
    "one line": 'echo $(cat "$KEY")',
    "openssl ec": 'openssl ec -in "$KEY"',
    "another's": "cat another-ec another-rsa",
    "parts of another's": "tail -n 3 another-rsa; echo LOOK AT THIS; head -n 9 another-rsa",
}
BEARER = "planted-0123456789"


@pytest.fixture
def site_of_keys(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Site:
    """A machine with its own certificate, another client's certificate, whose key has OpenSSL's own
    form, and keys outside all accounts.
    """
    machine = Site(world, tmp_path, new_name())
    imported = world.old_certificate("static.example.com")
    key = load_pem_private_key(imported.privkey_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    (tmp_path / "fullchain").write_text(imported.fullchain_pem)
    write_key(tmp_path / "imported-key", key)
    write_key(tmp_path / "another-ec", ec.generate_private_key(ec.SECP256R1()))
    write_key(tmp_path / "another-rsa", rsa.generate_private_key(65537, 2048))
    text = machine.config.read_text()
    machine.config.write_text(
        f'{text}\n[[certificates]]\nname = "static"\nfullchain = "fullchain"\n'
        'privkey = "imported-key"\n[[certificates.deploy]]\nto = "files"\ndirectory = "static"\n'
        'reload = ["./reload-static"]\n'
    )
    return machine


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    form = PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))


def keys(site_of_keys: Site) -> Iterator[SecretSpelling]:
    """Yield every key that a program could print, in both forms."""
    for name in ("imported-key", "another-ec", "static/privkey.pem", "ssl/privkey.pem"):
        pem = (site_of_keys.folder / name).read_bytes()
        key = load_pem_private_key(pem, None)
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            spelling = key.private_bytes(Encoding.PEM, form, NoEncryption())
            yield from private_key(f"the key of {name}", spelling.decode())
    for line in (site_of_keys.folder / "another-rsa").read_bytes().splitlines()[1:-1]:
        yield SecretSpelling("the key of another-rsa", line)
    yield SecretSpelling("an Authorization header", BEARER.encode())


def places(site_of_keys: Site, runs: dict[str, Run]) -> Iterator[Place]:
    """Yield the outputs of the runs, as written and with the wrapping of keys removed."""
    logs = [Place(path.name, path.read_bytes()) for path in site_of_keys.folder.glob("log-*")]
    for place in (*streams(runs), *logs):
        yield place
        unwrapped = re.sub(rb"\\n|[\s:]+", b"", place.content)
        yield Place(f"{place.name}, unwrapped", unwrapped)


@thorough
@pytest.mark.parametrize("body", PRINTERS.values(), ids=PRINTERS)
def test_programs_that_print_a_key(site_of_keys: Site, body: str) -> None:
    """No line of a delivered key or of another key appears in the outputs; the program's other
    lines do.
    """
    reported = (
        f"{{ {body}; }} 2>&1; echo 'Authorization: Bearer {BEARER}'; echo LOOK AT THIS; exit 1"
    )
    site_of_keys.let_reload(f'KEY="$CERTFERRY_PRIVKEY"; {reported}')
    site_of_keys.let_push(f'KEY="$CERTFERRY_PRIVKEY"; {reported}')
    script(site_of_keys.folder / "reload-static", f"KEY=imported-key; {reported}")
    text, document = (str(site_of_keys.folder / f"log-{form}") for form in ("text", "json"))

    runs = {
        "sync": site_of_keys.run("--log-file", text, "sync", "--no-wait"),
        "sync -v": site_of_keys.run("-v", "--log-file", text, "sync"),
        "sync --json": site_of_keys.run(
            "--log-file", document, "--log-format", "json", "sync", "--json"
        ),
        "history": site_of_keys.run("history", "--json"),
    }

    assert [1, 1, 1, 0] == [run.code for run in runs.values()]
    outputs = list(places(site_of_keys, runs))
    assert set() == leaks(outputs, keys(site_of_keys))
    for name in ("stdout of sync", "stderr of sync -v", "stdout of sync --json", "log-json"):
        (place,) = (place for place in outputs if place.name == name)
        assert MASK.encode() in place.content
        assert b"LOOK AT THIS" in place.content
