"""What follows a renewal by acme.sh."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from certferry.core.discovery.proposal import Access
from certferry.migration.acme_sh import installed_by
from certferry.migration.home import Installed

DOMAIN = "img.example.com"
HOME = Path("/srv/.acme.sh/img.example.com_ecc")


def test_everything_is_read() -> None:
    """Copies of parts, deploy hooks but for our own, and the commands around an issue."""
    notes = {
        "Le_RealCertPath": "/opt/ssl/img.crt",
        "Le_RealCACertPath": "/opt/ssl/ca.pem",
        "Le_DeployHook": "certferry,haproxy,qiniu,",
        "Le_PostHook": "systemctl start nginx",
        "Le_RenewHook": "/opt/told.sh",
    }

    assert Installed(
        others=("/opt/ssl/img.crt", "/opt/ssl/ca.pem"),
        hooks=("haproxy", "qiniu", "systemctl start nginx", "/opt/told.sh"),
    ) == installed_by(notes, HOME, DOMAIN)


@pytest.mark.parametrize(
    "command",
    [
        "cat fullchain.cer img.example.com.key > /opt/haproxy.pem",
        "cp /srv/.acme.sh/img.example.com_ecc/ca.cer /opt",
        "~/.acme.sh/told.sh",
        "./told.sh",
        'cp "$DOMAIN_PATH/x" /opt',
        'cat "$CERT_KEY_PATH" "${CA_CERT_PATH}" > /opt/haproxy.pem',
        '/opt/told.sh "$Le_Domain"',
    ],
)
def test_command_that_uses_acme_shs_own_files_is_not_run_elsewhere(command: str) -> None:
    """They are renewed no more, and it would find others or none: it is told of as a hook is."""
    found = installed_by({"Le_ReloadCmd": command}, HOME, DOMAIN)

    assert ("", (command,)) == (found.reload, found.hooks)


def test_copies_by_relative_paths_have_no_known_place() -> None:
    """acme.sh writes them down as they were typed."""
    notes = {"Le_RealFullChainPath": "ssl/fullchain.pem", "Le_RealKeyPath": "/opt/privkey.pem"}

    assert Installed(others=("ssl/fullchain.pem", "/opt/privkey.pem")) == installed_by(
        notes, HOME, DOMAIN
    )


def test_directory_that_is_written_in_several_ways(tmp_path: Path) -> None:
    """It is one: by its real path."""
    (tmp_path / "ssl").mkdir()
    (tmp_path / "link").symlink_to("ssl")
    ways = [f"{tmp_path}/ssl", f"{tmp_path}/link", f"{tmp_path}//ssl/../ssl"]

    found = {
        installed_by(
            {"Le_RealFullChainPath": f"{way}/f.pem", "Le_RealKeyPath": f"{way}/k.pem"}, HOME, DOMAIN
        ).copies
        for way in ways
    }

    assert {(f"{tmp_path}/ssl/f.pem", f"{tmp_path}/ssl/k.pem")} == found


def test_who_may_read_the_copies_is_read(tmp_path: Path) -> None:
    """An owner who is the same as for files of our own is not named; of two, the key's counts."""
    fullchain, privkey = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    for path, mode in ((fullchain, 0o664), (privkey, 0o640)):
        path.touch()
        path.chmod(mode)
    notes = {"Le_RealFullChainPath": str(fullchain), "Le_RealKeyPath": str(privkey)}

    assert Access(None, None, 0o664, 0o640) == installed_by(notes, HOME, DOMAIN).access

    if os.geteuid() == 0:
        shutil.chown(fullchain, 4321, 4321)
        shutil.chown(privkey, "mail", 12345)
        assert Access("mail", "12345", 0o664, 0o640) == installed_by(notes, HOME, DOMAIN).access
