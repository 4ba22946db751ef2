"""Homes of acme.sh, certbot and lego, written at run time in the clients' own layouts."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.authority import KeyType as SandboxKey

DP_ID, DP_KEY = "13490", "0123456789abcdef0123456789abcdef"
QINIU_AK, QINIU_SK = "made-up-access-key", "made-up-secret-key"
VARIABLES = {
    "DP_Id": "DP_Id",
    "DP_Key": "DP_Key",
    "Ali_Key": "Ali_Key",
    "Ali_Secret": "Ali_Secret",
    "CF_Token": "CF_Token",
    "Tencent_SecretId": "Tencent_SecretId",
    "Tencent_SecretKey": "Tencent_SecretKey",
    "QINIU_ACCESS_KEY": "QINIU_AK",
    "QINIU_SECRET_KEY": "QINIU_SK",
}
"""certferry's names of the variables in acme.sh's home, with acme.sh's names."""
DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"

_AUTHORITY = Authority("Their CA")


def issued(*names: str, key_type: SandboxKey = "ec256", age: int = 10) -> Issued:
    """Issue a certificate some days ago, for 90 days."""
    begin = datetime.now(UTC) - timedelta(days=age)
    return _AUTHORITY.issue(names, begin, begin + timedelta(days=90), key_type)


def other_key() -> str:
    """Return the private key of a certificate for another domain."""
    return issued("other.example.com").privkey_pem


def in_base64(words: str) -> str:
    middle = base64.b64encode(words.encode()).decode()
    return f"__ACME_BASE64__START_{middle}__ACME_BASE64__END_"


class AcmeShHome:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)

    def keep_keys(self, **more: str) -> None:
        """Write the settings of acme.sh's account, with the keys of the DNSPod hook."""
        values = {"SAVED_DP_Id": DP_ID, "SAVED_DP_Key": DP_KEY, **more}
        self._write(self.path / "account.conf", values)

    def add(self, certificate: Issued, *names: str, ecc: bool = True, **more: str) -> Path:
        """Add a certificate with its settings, and return the certificate's directory."""
        domain = names[0]
        directory = self.path / (f"{domain}_ecc" if ecc else domain)
        directory.mkdir()
        notes = {
            "Le_Domain": domain,
            "Le_Alt": ",".join(names[1:]) or "no",
            "Le_Webroot": "dns_dp",
            "Le_API": DIRECTORY,
            "Le_Keylength": "ec-256" if ecc else "2048",
            **more,
        }
        self._write(directory / f"{domain}.conf", notes)
        (directory / "fullchain.cer").write_text(certificate.fullchain_pem)
        (directory / f"{domain}.key").write_text(certificate.privkey_pem)
        return directory

    @staticmethod
    def _write(path: Path, values: dict[str, str]) -> None:
        path.write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))


class CertbotHome:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "renewal").mkdir(parents=True)

    def add(self, certificate: Issued, name: str) -> Path:
        """Add a certificate with links to its files, and return the path of the settings."""
        archive, live = (self.path / folder / name for folder in ("archive", "live"))
        archive.mkdir(parents=True)
        live.mkdir(parents=True)
        for kind, content in (
            ("fullchain", certificate.fullchain_pem),
            ("privkey", certificate.privkey_pem),
        ):
            (archive / f"{kind}1.pem").write_text(content)
            (live / f"{kind}.pem").symlink_to(f"../../archive/{name}/{kind}1.pem")
        conf = self.path / "renewal" / f"{name}.conf"
        conf.write_text(
            "# renew_before_expiry = 30 days\n"
            f"version = 4.0.0\nfullchain = {live}/fullchain.pem\nprivkey = {live}/privkey.pem\n\n"
            "# Options used in the renewal process\n[renewalparams]\n"
            f"server = {DIRECTORY}\nauthenticator = manual\nkey_type = ecdsa\n"
        )
        return conf


class LegoHome:
    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "certificates").mkdir(parents=True)

    def add(self, certificate: Issued, domain: str, *, bundled: bool = True) -> Path:
        """Add a certificate, and return the path of its file: with the chain in the file, or with
        the chain in a second file only.
        """
        stem = self.path / "certificates" / domain.replace("*", "_")
        crt = Path(f"{stem}.crt")
        begin = "-----BEGIN"
        leaf, issuer = (begin + part for part in certificate.fullchain_pem.split(begin)[1:])
        crt.write_text(leaf + issuer if bundled else leaf)
        Path(f"{stem}.issuer.crt").write_text(issuer)
        Path(f"{stem}.key").write_text(certificate.privkey_pem)
        return crt
