"""`certferry init --from`: what another client holds is adopted, and nothing issued anew."""

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
    PLAN,
    SK,
    UNTOLD,
    WRITE,
    Accounts,
)
from tests.migration.old_homes import AcmeShHome, CertbotHome, LegoHome, issued


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_acme_sh_is_gone_on_with(accounts: Accounts) -> None:
    """With its keys, of which the environment knows nothing: they go into the file beside. Its own
    files stay as they are.
    """
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    made = issued("img.example.com", "*.img.example.com")
    home.add(made, "img.example.com", "*.img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()

    log = accounts.directory / "x.log"
    before = contents(home.path)

    done = accounts.run(
        *("--log-file", str(log), "init", "--settings", "settings.toml", "--yes"),
        *("--from", "acme.sh", "--home", "home"),
    )

    assert 0 == done.returncode, done.stderr
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
    ) == done.stdout
    assert before == contents(home.path)
    assert [made.fingerprint] == accounts.fingerprints("img.example.com")
    planned = accounts.run("plan")
    assert "issue " not in planned.stdout
    assert "deploy   qiniu → img.example.com" in planned.stdout


def test_keys_of_an_earlier_time_are_reported_of(accounts: Accounts) -> None:
    """They may have been changed since: the second time, `init` does not ask for them."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()
    words = ("--from", "acme.sh", "--home", "home")

    first, second = accounts.init(*words), accounts.init(*words, "--force")

    assert (0, 0) == (first.returncode, second.returncode)
    said = "Keys are read from certferry.env.\n"
    assert (False, True) == (said in first.stderr, said in second.stderr)


def test_domain_without_https_is_left_as_it_is(accounts: Accounts) -> None:
    """Though the client's certificate covers it: only the operator switches HTTPS on."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com", "off.example.com"), "img.example.com", "off.example.com")
    accounts.qiniu.add_domain("off.example.com")
    words = ("--from", "acme.sh", "--home", "home", "--email", "ops@example.com")

    done = accounts.init(*words)

    assert 0 == done.returncode, done.stderr
    assert "warning: off.example.com is left out: HTTPS is off there" in done.stderr
    assert [["img.example.com"]] == _deployed_to(accounts)

    accounts.config.unlink()
    code, shown = accounts.interviewed(
        *UNTOLD, ("Domains (Enter for 1):", "all\n"), (WRITE, "y\n"), (PLAN, "n\n"), arguments=words
    )

    assert 0 == code, shown
    assert ["auto"] == _deployed_to(accounts)


def _deployed_to(accounts: Accounts) -> list[object]:
    [declared] = tomllib.loads(accounts.config.read_text())["certificates"]
    return [deployment["domains"] for deployment in declared["deploy"]]


def test_dispatcher_for_qiniu_without_keys_is_warned_of(accounts: Accounts) -> None:
    """The certificate at the CDN would end, and the operator would not know."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", Le_ReloadCmd="/opt/ssl/hook.sh qiniu")
    settings = accounts.directory / "settings.toml"
    settings.write_text(re.sub(r"\[accounts\.qiniu\]\n(\w.*\n)+", "", settings.read_text()))
    accounts.environ.clear()

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    warning = "warning: acme.sh runs /opt/ssl/hook.sh for Qiniu, and certferry needs keys"
    assert warning in " ".join(done.stderr.split())
    assert "certferry's part now" not in done.stdout


def test_command_that_must_not_run_any_more_is_reported_as_that(accounts: Accounts) -> None:
    """Nothing can be switched off in lego, which renews when it is started so: the command that is
    printed must not be run, while those that are printed for other clients are to be.
    """
    home = accounts.directory / "home"
    LegoHome(home).add(issued("img.example.com"), "img.example.com")

    done = accounts.init("--from", "lego", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert (
        "Remove from every crontab, timer and script, or lego keeps renewing:\n  lego …"
        " --domains img.example.com … renew\n"
    ) in done.stdout
    assert "Switch off" not in done.stdout


def test_certificate_that_is_known_here_keeps_its_name(accounts: Accounts) -> None:
    """First deployed under a name of the operator's, then issued: it is the same lineage, so that
    nothing is uploaded and bound anew.
    """
    home = AcmeShHome(accounts.directory / "home")
    made = issued("img.example.com")
    directory = home.add(made, "img.example.com")
    accounts.declare(
        f"""
        [[certificates]]
        name = "img"
        fullchain = "{directory}/fullchain.cer"
        privkey = "{directory}/img.example.com.key"
        """
    )
    assert 0 == accounts.run("sync").returncode
    assert [made.fingerprint] == accounts.fingerprints("img")

    done = accounts.init("--from", "acme.sh", "--home", "home", "--force")

    assert 0 == done.returncode, done.stderr
    assert "img: imported, 79 days left\n" in done.stdout
    settings = load(accounts.config, accounts.environ)
    assert [("img", ("img.example.com",))] == [(w.lineage, w.names) for w in settings.certificates]
    assert [made.fingerprint] == accounts.fingerprints("img")


@pytest.mark.parametrize(
    ("found", "written", "message"),
    [
        ("https://acme-staging-v02.api.letsencrypt.org/directory", "letsencrypt-staging", False),
        ("https://ca.example.com/acme", "https://ca.example.com/acme", False),
        ("https://acme.zerossl.com/v2/DV90", "letsencrypt", True),
        ("nonsense", "letsencrypt", True),
    ],
)
def test_ca_stays_the_same_where_it_can(
    accounts: Accounts, found: str, written: str, message: object
) -> None:
    """One that wants an external account cannot be adopted, which is reported."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com", Le_API=found)

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert written == tomllib.loads(accounts.config.read_text())["acme"]["directory"]
    assert message is (f"earlier certificates are from {found}" in done.stderr)


@pytest.mark.parametrize("client", ["certbot", "lego"])
def test_others_are_gone_on_with(accounts: Accounts, client: str) -> None:
    """What they do not write down, the environment has."""
    made = issued("img.example.com")
    home = accounts.directory / "home"
    if client == "certbot":
        CertbotHome(home).add(made, "img.example.com")
    else:
        LegoHome(home).add(made, "img.example.com")

    done = accounts.init("--from", client, "--home", str(home))

    assert 0 == done.returncode, done.stderr
    assert [made.fingerprint] == accounts.fingerprints("img.example.com")
    assert "issue " not in accounts.run("plan").stdout


def test_client_that_is_kept_needs_no_dns_account(accounts: Accounts) -> None:
    """Its files are named, and what they hold is known."""
    made = issued("img.example.com")
    CertbotHome(accounts.directory / "home").add(made, "img")
    del accounts.environ["DP_Id"], accounts.environ["DP_Key"]
    settings = accounts.directory / "settings.toml"
    settings.write_text(re.sub(r"\[accounts\.dnspod\]\n(\w.*\n)+", "", settings.read_text()))

    done = accounts.init("--from", "certbot", "--home", "home", "--keep-client")

    assert 0 == done.returncode, done.stderr
    assert "img: deploy only; certbot keeps renewing it, 79 days left" in done.stdout
    assert "certbot continues as before." in done.stdout
    assert [made.fingerprint] == accounts.fingerprints("img")
    assert "import " not in accounts.run("plan").stdout


def test_client_that_is_kept_needs_no_keys_of_a_dns_account(accounts: Accounts) -> None:
    """Not even where the settings have one; certferry asks no service which zones there are."""
    CertbotHome(accounts.directory / "home").add(issued("img.example.com"), "img")
    del accounts.environ["DP_Id"], accounts.environ["DP_Key"]

    done = accounts.init("--from", "certbot", "--home", "home", "--keep-client")

    assert 0 == done.returncode, done.stderr
    assert "ZONE" not in done.stderr
    assert [] == accounts.dnspod.calls("Domain.List")
    assert 0 == accounts.run("plan").returncode


def test_client_that_is_kept_first_and_taken_over_later(accounts: Accounts) -> None:
    """The same settings and the same keys file do for both, and nothing is issued anew."""
    home = AcmeShHome(accounts.directory / "home")
    made = issued("img.example.com")
    home.add(made, "img.example.com")
    accounts.environ.clear()
    accounts.keep("cdn-env", KEYS)
    accounts.name_env_files("cdn-env")
    words = ("--from", "acme.sh", "--home", "home")
    kept = accounts.init(*words, "--keep-client")
    imported = accounts.config.read_text()

    done = accounts.init(*words, "--output", "certferry.toml", "--force")

    assert (0, 0) == (kept.returncode, done.returncode), kept.stderr + done.stderr
    assert "fullchain = " in imported
    assert "fullchain = " not in accounts.config.read_text()
    assert imported in [path.read_text() for path in accounts.directory.glob("certferry.toml.*")]
    assert "--remove -d img.example.com" in done.stdout
    assert [made.fingerprint] == accounts.fingerprints("img.example.com")
    planned = accounts.run("plan")
    assert 0 == planned.returncode, planned.stderr
    assert "issue " not in planned.stdout


def test_mistake_in_the_settings_is_reported_with_its_own_line(accounts: Accounts) -> None:
    """The file that is to be written is not there yet, and cannot be looked up."""
    path = accounts.directory / "settings.toml"
    path.write_text(path.read_text() + 'http_timeout = "long"\n')
    last = len(path.read_text().splitlines())

    done = accounts.init()

    assert 2 == done.returncode
    assert f"settings.toml:{last}: [accounts.qiniu] http_timeout: " in done.stderr
    assert "certferry.toml" not in done.stderr
    assert set() == accounts.left()


def test_second_certificate_of_the_same_names_is_not_renewed_for_no_server(
    accounts: Accounts,
) -> None:
    """acme.sh's RSA certificate beside its EC one: it stands there as a comment, is not adopted,
    and is switched off with the other; copies of it that end with that are reported.
    """
    home = AcmeShHome(accounts.directory / "home")
    made = issued("img.example.com")
    home.add(made, "img.example.com")
    home.add(
        issued("img.example.com", key_type="rsa2048"),
        "img.example.com",
        ecc=False,
        Le_RealFullChainPath="/opt/nginx/img.pem",
    )

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert [made.fingerprint] == accounts.fingerprints("img.example.com_ecc")
    assert [] == accounts.fingerprints("img.example.com")
    text = accounts.config.read_text()
    assert '\n# name = "img.example.com"\n' in text
    assert "# img.example.com: img.example.com_ecc has the same names, and takes precedence" in text
    for words in ("--remove -d img.example.com --ecc\n", "--remove -d img.example.com\n"):
        assert f"acme.sh --home {home.path} {words}" in done.stdout
    assert "img.example.com is left out: " in done.stderr
    assert "img.example.com: programs that read /opt/nginx/img.pem today" in " ".join(
        done.stderr.split()
    )


@pytest.mark.parametrize("client", ["acme.sh", "certbot", "lego"])
def test_files_of_a_client_that_is_kept_are_found_from_anywhere(
    accounts: Accounts, client: str
) -> None:
    """Its directory is named from here, and the configuration lies elsewhere."""
    home, made = accounts.directory / "home", issued("img.example.com")
    if client == "acme.sh":
        AcmeShHome(home).add(made, "img.example.com")
    elif client == "certbot":
        CertbotHome(home).add(made, "img.example.com")
    else:
        LegoHome(home).add(made, "img.example.com")
    (accounts.directory / "etc").mkdir()
    output = accounts.directory / "etc" / "certferry.toml"

    done = accounts.init(
        "--from", client, "--home", "home", "--keep-client", "--output", "etc/certferry.toml"
    )

    assert 0 == done.returncode, done.stderr
    [desired] = load(output, accounts.environ).certificates
    assert desired.files is not None
    assert Path(desired.files.fullchain).is_relative_to(home)
    assert Path(desired.files.privkey).exists()


def test_no_leaves_no_state(accounts: Accounts) -> None:
    """Looking whether a certificate is known makes none."""
    AcmeShHome(accounts.directory / "home").add(issued("img.example.com"), "img.example.com")

    words = ("--from", "acme.sh", "--home", "home", "--email", "ops@example.com")
    code, _ = accounts.interviewed(*UNTOLD, (WRITE, "n\n"), arguments=words)

    assert 0 == code
    assert set() == accounts.left()


def test_damaged_entries_are_reported_and_the_others_taken(accounts: Accounts) -> None:
    """A part of a certificate is none; only what was taken over is to be switched off."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com")
    half = home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer"
    half.write_text(half.read_text()[:300])
    home.add(issued("b.example.net"), "b.example.net", Le_Webroot="dns_ali")

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert "warning: acme.sh: a.example.com_ecc is left out: " in done.stderr
    assert f"acme.sh --home {home.path} --remove -d img.example.com --ecc\n" in done.stdout
    assert "uninstall-cronjob" not in done.stdout
    settings = load(accounts.config, accounts.environ)
    desired_ones = {desired.lineage: desired.files is None for desired in settings.certificates}
    assert {"img.example.com": True, "b.example.net": False} == desired_ones
    assert "acme.sh keeps renewing the certificate" in accounts.config.read_text()


def test_nothing_to_take_is_an_error(accounts: Accounts) -> None:
    """A directory without certificates is probably the wrong one."""
    AcmeShHome(accounts.directory / "home")

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == done.returncode
    assert (
        "home contains no certificate of acme.sh\n\nhint: set the client's directory with --home\n"
    ) in done.stderr
    assert set() == accounts.left()


def test_nothing_that_can_be_read_is_another_error(accounts: Accounts) -> None:
    """It is the right directory: its owner, or an operator who mends what the warnings name, has
    more luck than who names another.
    """
    home = AcmeShHome(accounts.directory / "home")
    key = home.add(issued("img.example.com"), "img.example.com") / "img.example.com.key"
    key.unlink()

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == done.returncode
    assert "warning: acme.sh: img.example.com_ecc is left out: " in done.stderr
    assert (
        "no certificate of acme.sh in home can be read\n\nhint: see the warnings above; if"
        " another user owns the files, run the command as that user\n"
    ) in done.stderr
    assert set() == accounts.left()


def test_when_the_state_cannot_be_written_nothing_is(accounts: Accounts) -> None:
    """Neither the configuration nor the keys are there without the certificates."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()
    accounts.state.mkdir()

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 1 == done.returncode
    assert {"state.db"} == accounts.left()


@pytest.mark.parametrize("words", [("--home", "x"), ("--keep-client",)])
def test_what_is_for_a_client_needs_one(accounts: Accounts, words: tuple[str, ...]) -> None:
    """Half a command is reported."""
    done = accounts.init(*words)

    assert 2 == done.returncode
    assert "need --from" in done.stderr


def test_settings_with_certificates_are_refused(accounts: Accounts) -> None:
    """What is to be proposed is not there already."""
    path = accounts.directory / "settings.toml"
    path.write_text(path.read_text() + "\n[[certificates]]\n")

    done = accounts.init()

    assert 2 == done.returncode
    assert "settings.toml declares certificates" in done.stderr


def test_settings_that_leave_no_place_for_keys_are_refused(accounts: Accounts) -> None:
    """An inline table has no line below which a key could stand."""
    path = accounts.directory / "settings.toml"
    path.write_text(f'[accounts]\ndnspod = {{ api = "{accounts.dnspod.url}" }}\n')

    done = accounts.init()

    assert 2 == done.returncode
    assert "[accounts.dnspod] is not a table of its own" in done.stderr


def another_users_home(accounts: Accounts) -> Path:
    """Have a home of acme.sh that is another user's, with copies and a command; give where the
    copies are.
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
    """`--yes` does not agree to what root would run from then on: it is shown, with what to do, and
    what is to be done in the client is done as its user.
    """
    ssl = another_users_home(accounts)

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    (declared,) = tomllib.loads(accounts.config.read_text())["certificates"]
    assert "evil" not in str(declared)
    assert str(ssl) not in str(declared)
    conf = accounts.directory / "home" / "img.example.com_ecc" / "img.example.com.conf"
    said = " ".join(done.stderr.split())
    assert (
        f"warning: img.example.com: {conf} belongs to nobody, who can change it; the client's"
        " copies and commands are left out"
    ) in said
    shown = " ".join(done.stdout.split())
    assert "`/opt/evil.sh`, which acme.sh runs at a renewal, is left out: if still" in shown
    assert (
        f"programs that read {ssl}/fullchain.pem, {ssl}/privkey.pem today need a deployment"
        in shown
    )
    assert "  sudo -u nobody acme.sh --home" in done.stdout


@as_root
@pytest.mark.parametrize("answer", ["y", ""])
def test_another_users_command_is_asked_about(accounts: Accounts, answer: str) -> None:
    """With its user, the command as it is, and who would run it; nothing is a no."""
    ssl = another_users_home(accounts)
    with accounts.terminal("--from", "acme.sh", "--home", "home", columns=1000) as terminal:
        for asked, said in (
            ("Contact email", "\n"),
            *UNTOLD,
            ("as the client's file says? The command: /opt/evil.sh --now", f"{answer}\n"),
            (WRITE, "y\n"),
            (PLAN, "n\n"),
        ):
            terminal.until(lambda shown, asked=asked: asked in shown.rpartition("\n")[2])  # type: ignore[misc]  # the question of this turn
            terminal.type(said)
        assert 0 == terminal.end()
        shown = terminal.screen.raw

    assert "img.example.com.conf belongs to nobody, who can change it. Should certferry" in shown
    assert f"to {ssl} and run a command as root" in shown
    assert "\x1b[1A" not in shown
    (declared,) = tomllib.loads(accounts.config.read_text())["certificates"]
    assert bool(answer) == ("evil" in str(declared))
    assert bool(answer) == (str(ssl) in str(declared))
