"""`certferry init --from`: the adoption of another client's certificates, without a new issue."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from certferry.config.load import load
from tests.another_user import as_root, given_away
from tests.cli.init_accounts import (
    AK,
    DP_ID,
    DP_KEY,
    KEYS,
    NEXT_STEPS,
    NO_CHANNEL,
    PLAN,
    SK,
    WRITE,
    Accounts,
)
from tests.migration.old_homes import AcmeShHome, CertbotHome, LegoHome, issued


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_takeover_from_acme_sh(accounts: Accounts) -> None:
    """The keys of acme.sh are written to the environment file, the certificate is adopted, and the
    files of acme.sh stay unchanged.
    """
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    certificate = issued("img.example.com", "*.img.example.com")
    home.add(certificate, "img.example.com", "*.img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()

    log = accounts.directory / "x.log"
    before = contents(home.path)

    ended = accounts.run(
        *("--log-file", str(log), "init", "--settings", "settings.toml", "--yes"),
        *("--from", "acme.sh", "--home", "home"),
    )

    assert 0 == ended.returncode, ended.stderr
    assert [
        "Written (mode 0600): certferry.toml",
        "Written (mode 0600): certferry.env",
        "img.example.com: imported, 79 days left",
    ] == [row.partition("] ")[2] for row in log.read_text().splitlines()][1:-1]
    assert (
        "Written (mode 0600): certferry.toml\n"
        "Written (mode 0600): certferry.env\n"
        "img.example.com: imported, 79 days left\n"
        "Switch off in acme.sh, or the client keeps renewing:\n"
        f"  acme.sh --home {home.path} --remove -d img.example.com --ecc\n"
        "The files in home are no longer renewed: programs that read them need a deployment to"
        " files.\n"
        f"{NEXT_STEPS}"
    ) == ended.stdout
    assert before == contents(home.path)
    assert [certificate.fingerprint] == accounts.fingerprints("img.example.com")
    planned = accounts.run("plan")
    assert "issue " not in planned.stdout
    assert "deploy   qiniu → img.example.com" in planned.stdout


def test_keys_of_an_earlier_run_are_mentioned(accounts: Accounts) -> None:
    """The second run uses the stored keys without a question, so the output names their file."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()
    words = ("--from", "acme.sh", "--home", "home")

    first, second = accounts.init(*words), accounts.init(*words, "--force")

    assert (0, 0) == (first.returncode, second.returncode)
    message = "Keys are read from certferry.env.\n"
    assert (False, True) == (message in first.stderr, message in second.stderr)


def test_domain_without_https_stays_unchanged(accounts: Accounts) -> None:
    """The proposal omits the domain, even if the client's certificate covers the domain: only the
    operator switches HTTPS on.
    """
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com", "off.example.com"), "img.example.com", "off.example.com")
    accounts.qiniu.add_domain("off.example.com")
    words = ("--from", "acme.sh", "--home", "home", "--email", "ops@example.com")

    ended = accounts.init(*words)

    assert 0 == ended.returncode, ended.stderr
    assert "warning: off.example.com is left out: HTTPS is off there" in ended.stderr
    assert [["img.example.com"]] == _deployed_to(accounts)

    accounts.config.unlink()
    code, screen = accounts.interviewed(
        *NO_CHANNEL,
        ("Domains (Enter for 1):", "all\n"),
        (WRITE, "y\n"),
        (PLAN, "n\n"),
        arguments=words,
    )

    assert 0 == code, screen
    assert ["auto"] == _deployed_to(accounts)


def _deployed_to(accounts: Accounts) -> list[object]:
    [declared] = tomllib.loads(accounts.config.read_text())["certificates"]
    return [deployment["domains"] for deployment in declared["deploy"]]


def test_script_for_qiniu_without_keys_causes_a_warning(accounts: Accounts) -> None:
    """Without the warning the certificate at the CDN would expire unnoticed."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", Le_ReloadCmd="/opt/ssl/hook.sh qiniu")
    settings = accounts.directory / "settings.toml"
    settings.write_text(re.sub(r"\[accounts\.qiniu\]\n(\w.*\n)+", "", settings.read_text()))
    accounts.environ.clear()

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == ended.returncode, ended.stderr
    warning = "warning: acme.sh runs /opt/ssl/hook.sh for Qiniu, and certferry needs keys"
    assert warning in " ".join(ended.stderr.split())
    assert "certferry's part now" not in ended.stdout


def test_command_that_must_not_run_again(accounts: Accounts) -> None:
    """The renewal of lego cannot be switched off, so the output has the command to remove, unlike
    the commands to run for other clients.
    """
    home = accounts.directory / "home"
    LegoHome(home).add(issued("img.example.com"), "img.example.com")

    ended = accounts.init("--from", "lego", "--home", "home")

    assert 0 == ended.returncode, ended.stderr
    assert (
        "Remove from every crontab, timer and script, or lego keeps renewing:\n  lego …"
        " --domains img.example.com … renew\n"
    ) in ended.stdout
    assert "Switch off" not in ended.stdout


def test_known_certificate_keeps_its_lineage(accounts: Accounts) -> None:
    """A certificate that certferry already deploys stays in the same lineage, so nothing is
    uploaded and bound again.
    """
    home = AcmeShHome(accounts.directory / "home")
    certificate = issued("img.example.com")
    directory = home.add(certificate, "img.example.com")
    accounts.declare(
        f"""
        [[certificates]]
        name = "img"
        fullchain = "{directory}/fullchain.cer"
        privkey = "{directory}/img.example.com.key"
        """
    )
    assert 0 == accounts.run("sync").returncode
    assert [certificate.fingerprint] == accounts.fingerprints("img")

    ended = accounts.init("--from", "acme.sh", "--home", "home", "--force")

    assert 0 == ended.returncode, ended.stderr
    assert "img: imported, 79 days left\n" in ended.stdout
    settings = load(accounts.config, accounts.environ)
    assert [("img", ("img.example.com",))] == [(w.lineage, w.names) for w in settings.certificates]
    assert [certificate.fingerprint] == accounts.fingerprints("img")


@pytest.mark.parametrize(
    ("directory", "name", "has_warning"),
    [
        ("https://acme-staging-v02.api.letsencrypt.org/directory", "letsencrypt-staging", False),
        ("https://ca.example.com/acme", "https://ca.example.com/acme", False),
        ("https://acme.zerossl.com/v2/DV90", "letsencrypt", True),
        ("nonsense", "letsencrypt", True),
    ],
)
def test_ca_of_the_client_stays(
    accounts: Accounts, directory: str, name: str, has_warning: object
) -> None:
    """A CA with external accounts is replaced, with a warning."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com", Le_API=directory)

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == ended.returncode, ended.stderr
    assert name == tomllib.loads(accounts.config.read_text())["acme"]["directory"]
    assert has_warning is (f"earlier certificates are from {directory}" in ended.stderr)


@pytest.mark.parametrize("client", ["certbot", "lego"])
def test_takeover_from_other_clients(accounts: Accounts, client: str) -> None:
    """Keys outside the clients' files come from the environment."""
    certificate = issued("img.example.com")
    home = accounts.directory / "home"
    if client == "certbot":
        CertbotHome(home).add(certificate, "img.example.com")
    else:
        LegoHome(home).add(certificate, "img.example.com")

    ended = accounts.init("--from", client, "--home", str(home))

    assert 0 == ended.returncode, ended.stderr
    assert [certificate.fingerprint] == accounts.fingerprints("img.example.com")
    assert "issue " not in accounts.run("plan").stdout


def test_client_that_stays_needs_no_dns_account(accounts: Accounts) -> None:
    """The proposal has the client's files, whose certificate is known at once."""
    certificate = issued("img.example.com")
    CertbotHome(accounts.directory / "home").add(certificate, "img")
    del accounts.environ["DP_Id"], accounts.environ["DP_Key"]
    settings = accounts.directory / "settings.toml"
    settings.write_text(re.sub(r"\[accounts\.dnspod\]\n(\w.*\n)+", "", settings.read_text()))

    ended = accounts.init("--from", "certbot", "--home", "home", "--keep-client")

    assert 0 == ended.returncode, ended.stderr
    assert "img: deploy only; certbot keeps renewing it, 79 days left" in ended.stdout
    assert "certbot continues as before." in ended.stdout
    assert [certificate.fingerprint] == accounts.fingerprints("img")
    assert "import " not in accounts.run("plan").stdout


def test_client_that_stays_needs_no_keys_of_a_dns_account(accounts: Accounts) -> None:
    """Even with an account in the settings, no service is asked for its zones."""
    CertbotHome(accounts.directory / "home").add(issued("img.example.com"), "img")
    del accounts.environ["DP_Id"], accounts.environ["DP_Key"]

    ended = accounts.init("--from", "certbot", "--home", "home", "--keep-client")

    assert 0 == ended.returncode, ended.stderr
    assert "ZONE" not in ended.stderr
    assert [] == accounts.dnspod.calls("Domain.List")
    assert 0 == accounts.run("plan").returncode


def test_client_that_stays_is_replaced_later(accounts: Accounts) -> None:
    """The same settings and the same keys suffice for both proposals, and nothing is issued
    again.
    """
    home = AcmeShHome(accounts.directory / "home")
    certificate = issued("img.example.com")
    home.add(certificate, "img.example.com")
    accounts.environ.clear()
    accounts.write_env_file("cdn-env", KEYS)
    accounts.name_env_files("cdn-env")
    words = ("--from", "acme.sh", "--home", "home")
    staying = accounts.init(*words, "--keep-client")
    imported = accounts.config.read_text()

    ended = accounts.init(*words, "--output", "certferry.toml", "--force")

    assert (0, 0) == (staying.returncode, ended.returncode), staying.stderr + ended.stderr
    assert "fullchain = " in imported
    assert "fullchain = " not in accounts.config.read_text()
    assert imported in [path.read_text() for path in accounts.directory.glob("certferry.toml.*")]
    assert "--remove -d img.example.com" in ended.stdout
    assert [certificate.fingerprint] == accounts.fingerprints("img.example.com")
    planned = accounts.run("plan")
    assert 0 == planned.returncode, planned.stderr
    assert "issue " not in planned.stdout


def test_mistake_in_the_settings_has_its_line(accounts: Accounts) -> None:
    """The error is about the settings, since the configuration does not exist yet."""
    path = accounts.directory / "settings.toml"
    path.write_text(path.read_text() + 'http_timeout = "long"\n')
    last = len(path.read_text().splitlines())

    ended = accounts.init()

    assert 2 == ended.returncode
    assert f"settings.toml:{last}: [accounts.qiniu] http_timeout: " in ended.stderr
    assert "certferry.toml" not in ended.stderr
    assert set() == accounts.new_files()


def test_second_certificate_of_the_same_names_is_omitted(
    accounts: Accounts,
) -> None:
    """The RSA certificate beside an EC certificate of acme.sh becomes a comment and is not adopted;
    the commands switch both off, and its copies are reported.
    """
    home = AcmeShHome(accounts.directory / "home")
    certificate = issued("img.example.com")
    home.add(certificate, "img.example.com")
    home.add(
        issued("img.example.com", key_type="rsa2048"),
        "img.example.com",
        ecc=False,
        Le_RealFullChainPath="/opt/nginx/img.pem",
    )

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == ended.returncode, ended.stderr
    assert [certificate.fingerprint] == accounts.fingerprints("img.example.com_ecc")
    assert [] == accounts.fingerprints("img.example.com")
    text = accounts.config.read_text()
    assert '\n# name = "img.example.com"\n' in text
    assert "# img.example.com: img.example.com_ecc has the same names, and takes precedence" in text
    for words in ("--remove -d img.example.com --ecc\n", "--remove -d img.example.com\n"):
        assert f"acme.sh --home {home.path} {words}" in ended.stdout
    assert "img.example.com is left out: " in ended.stderr
    assert "img.example.com: programs that read /opt/nginx/img.pem today" in " ".join(
        ended.stderr.split()
    )


@pytest.mark.parametrize("client", ["acme.sh", "certbot", "lego"])
def test_files_of_a_client_that_stays_have_absolute_paths(accounts: Accounts, client: str) -> None:
    """The option `--home` is relative to the current directory, and the configuration is in another
    directory.
    """
    home, certificate = accounts.directory / "home", issued("img.example.com")
    if client == "acme.sh":
        AcmeShHome(home).add(certificate, "img.example.com")
    elif client == "certbot":
        CertbotHome(home).add(certificate, "img.example.com")
    else:
        LegoHome(home).add(certificate, "img.example.com")
    (accounts.directory / "etc").mkdir()
    output = accounts.directory / "etc" / "certferry.toml"

    ended = accounts.init(
        "--from", client, "--home", "home", "--keep-client", "--output", "etc/certferry.toml"
    )

    assert 0 == ended.returncode, ended.stderr
    [desired] = load(output, accounts.environ).certificates
    assert desired.files is not None
    assert Path(desired.files.fullchain).is_relative_to(home)
    assert Path(desired.files.privkey).exists()


def test_refusal_leaves_no_state(accounts: Accounts) -> None:
    """A search for known certificates creates no state."""
    AcmeShHome(accounts.directory / "home").add(issued("img.example.com"), "img.example.com")

    words = ("--from", "acme.sh", "--home", "home", "--email", "ops@example.com")
    code, _ = accounts.interviewed(*NO_CHANNEL, (WRITE, "n\n"), arguments=words)

    assert 0 == code
    assert set() == accounts.new_files()


def test_damaged_entries_are_reported_and_others_adopted(accounts: Accounts) -> None:
    """A partial file is no certificate, and only adopted certificates are switched off."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com")
    half = home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer"
    half.write_text(half.read_text()[:300])
    home.add(issued("b.example.net"), "b.example.net", Le_Webroot="dns_ali")

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == ended.returncode, ended.stderr
    assert "warning: acme.sh: a.example.com_ecc is left out: " in ended.stderr
    assert f"acme.sh --home {home.path} --remove -d img.example.com --ecc\n" in ended.stdout
    assert "uninstall-cronjob" not in ended.stdout
    settings = load(accounts.config, accounts.environ)
    desired_ones = {desired.lineage: desired.files is None for desired in settings.certificates}
    assert {"img.example.com": True, "b.example.net": False} == desired_ones
    assert "acme.sh keeps renewing the certificate" in accounts.config.read_text()


def test_home_without_certificates_is_an_error(accounts: Accounts) -> None:
    """The directory is probably wrong, so the hint has the option for the directory."""
    AcmeShHome(accounts.directory / "home")

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == ended.returncode
    assert (
        "home contains no certificate of acme.sh\n\nhint: set the client's directory with --home\n"
    ) in ended.stderr
    assert set() == accounts.new_files()


def test_home_with_damaged_certificates_only(accounts: Accounts) -> None:
    """The directory is right, so the hint is about the warnings and the files' owner."""
    home = AcmeShHome(accounts.directory / "home")
    key = home.add(issued("img.example.com"), "img.example.com") / "img.example.com.key"
    key.unlink()

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == ended.returncode
    assert "warning: acme.sh: img.example.com_ecc is left out: " in ended.stderr
    assert (
        "no certificate of acme.sh in home can be read\n\nhint: see the warnings above; if"
        " another user owns the files, run the command as that user\n"
    ) in ended.stderr
    assert set() == accounts.new_files()


def test_failed_write_of_the_state_leaves_no_files(accounts: Accounts) -> None:
    """Neither the configuration nor the keys remain without the certificates."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()
    accounts.state.mkdir()

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 1 == ended.returncode
    assert {"state.db"} == accounts.new_files()


@pytest.mark.parametrize("options", [("--home", "x"), ("--keep-client",)])
def test_options_of_a_client_need_the_client(accounts: Accounts, options: tuple[str, ...]) -> None:
    """The error names the missing option."""
    ended = accounts.init(*options)

    assert 2 == ended.returncode
    assert "need --from" in ended.stderr


def test_settings_with_certificates_are_refused(accounts: Accounts) -> None:
    """The settings may not contain the certificates of a proposal."""
    path = accounts.directory / "settings.toml"
    path.write_text(path.read_text() + "\n[[certificates]]\n")

    ended = accounts.init()

    assert 2 == ended.returncode
    assert "settings.toml declares certificates" in ended.stderr


def test_settings_with_inline_tables_are_refused(accounts: Accounts) -> None:
    """An inline table has no line below which a key could be added."""
    path = accounts.directory / "settings.toml"
    path.write_text(f'[accounts]\ndnspod = {{ api = "{accounts.dnspod.url}" }}\n')

    ended = accounts.init()

    assert 2 == ended.returncode
    assert "[accounts.dnspod] is not a table of its own" in ended.stderr


def another_users_home(accounts: Accounts) -> Path:
    """Create a home of acme.sh that belongs to another user, with copies and a command, and return
    the directory of the copies.
    """
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    ssl = accounts.directory / "home" / "ssl"
    ssl.mkdir()
    directory = home.add(
        issued("img.example.com"),
        "img.example.com",
        Le_RealFullChainPath=f"{ssl}/fullchain.pem",
        Le_RealKeyPath=f"{ssl}/privkey.pem",
        Le_ReloadCmd="/opt/evil.sh --now \x1b[1A",
    )
    given_away(directory / "img.example.com.conf")
    return ssl


@as_root
def test_another_users_command_is_not_taken_over(accounts: Accounts) -> None:
    """With `--yes` root runs no command of another user: the warning has the reason, and the
    printed command for the client runs as the client's user.
    """
    ssl = another_users_home(accounts)

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == ended.returncode, ended.stderr
    (declared,) = tomllib.loads(accounts.config.read_text())["certificates"]
    assert "evil" not in str(declared)
    assert str(ssl) not in str(declared)
    conf = accounts.directory / "home" / "img.example.com_ecc" / "img.example.com.conf"
    warnings = " ".join(ended.stderr.split())
    assert (
        f"warning: img.example.com: {conf} belongs to nobody, who can change it; the client's"
        " copies and commands are left out"
    ) in warnings
    output = " ".join(ended.stdout.split())
    assert "`/opt/evil.sh`, which acme.sh runs at a renewal, is left out: if still" in output
    assert (
        f"programs that read {ssl}/fullchain.pem, {ssl}/privkey.pem today need a deployment"
        in output
    )
    assert "  sudo -u nobody acme.sh --home" in ended.stdout


@as_root
@pytest.mark.parametrize("answer", ["y", ""])
def test_another_users_command_is_asked_about(accounts: Accounts, answer: str) -> None:
    """The question has the owner, the command without control characters, and the user who would
    run the command; an empty answer means no.
    """
    ssl = another_users_home(accounts)
    with accounts.terminal("--from", "acme.sh", "--home", "home", columns=1000) as terminal:
        for question, reply in (
            ("Contact email", "\n"),
            *NO_CHANNEL,
            ("as the client's file says? The command: /opt/evil.sh --now", f"{answer}\n"),
            (WRITE, "y\n"),
            (PLAN, "n\n"),
        ):
            terminal.until(lambda screen, question=question: question in screen.rpartition("\n")[2])  # type: ignore[misc]  # the question of this turn
            terminal.type(reply)
        assert 0 == terminal.end()
        screen = terminal.screen.raw

    assert "img.example.com.conf belongs to nobody, who can change it. Should certferry" in screen
    assert f"to {ssl} and run a command as root" in screen
    assert "\x1b[1A" not in screen
    (declared,) = tomllib.loads(accounts.config.read_text())["certificates"]
    assert bool(answer) == ("evil" in str(declared))
    assert bool(answer) == (str(ssl) in str(declared))
