"""CAS, the certificate store of Alibaba Cloud (docs/facts/aliyun.md §5).

The store's error messages are Chinese, as on the vendor's page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from certferry_sandbox.aliyun.certificates import (
    Stored,
    Unreadable,
    dns_names,
    fits,
    is_linked,
    issuer_of,
    main_name,
    read_chain,
)
from certferry_sandbox.aliyun.gateway import Account, Api, Body, Now, Params, Refused

MAINLAND = "cn-hangzhou"
ABROAD = "ap-southeast-1"
NAME_LIMIT = 63  # characters (docs/facts/aliyun.md §5.1)
PAGE_LIMIT = 50  # the default; the pages name no maximum (docs/facts/aliyun.md §5.2)
FIRST_NUMBER = 9_000_000

API = Api(
    "cas",
    "cas.aliyuncs.com",
    "2020-04-07",
    "yundun-cert",
    {
        "UploadUserCertificate": frozenset(
            {"Name", "Cert", "Key", "ClientToken", "ResourceGroupId"}
            | {"EncryptCert", "EncryptPrivateKey", "SignCert", "SignPrivateKey"}
        ),
        "ListUserCertificateOrder": frozenset(
            {"CurrentPage", "ShowSize", "Keyword", "OrderType", "ResourceGroupId", "Status"}
        ),
        "GetUserCertificateDetail": frozenset({"CertId", "CertFilter"}),
        "DeleteUserCertificate": frozenset({"CertId", "ClientToken"}),
    },
    writes=frozenset({"UploadUserCertificate", "DeleteUserCertificate"}),
    by_post=frozenset({"UploadUserCertificate"}),
)
LIMITS: Mapping[str, int] = MappingProxyType(dict.fromkeys(API.parameters, 10))
"""Calls a second, of the quota page; the pages of the calls say 100 (docs/facts/aliyun.md §8)."""

ORDER_TYPES = ("CPACK", "BUY", "UPLOAD", "CERT")
STATUSES = ("", "ISSUED", "WILLEXPIRED", "EXPIRED", "REVOKED")
VALID = frozenset({"ISSUED", "WILLEXPIRED"})
"""The statuses of a list without `Status`."""


@dataclass
class Habits:
    """Switches where the facts leave a choice. Each may be changed at any time."""

    #: Serial numbers: an even number of digits, 40 digits, no leading zeros, or capitals.
    serials: Literal["even", "padded", "short", "upper"] = "even"
    #: The fingerprints of lists and reads: SHA-1 and SHA-256, SHA-1 alone, or none.
    fingerprints: Literal["both", "sha1", "none"] = "both"
    #: Refuse an upload of a certificate that the account already has.
    refuses_equal: bool = False
    #: Refuse to delete a certificate that a domain of the CDN or DCDN uses.
    refuses_bound: bool = False
    #: A list without `Status` has expired certificates as well.
    lists_expired: bool = False
    #: The most characters of a name.
    name_limit: int = NAME_LIMIT


class Store:
    """The certificates of all accounts in one region, and the calls on them.

    `in_use`: returns whether a domain uses a certificate.
    `region`: a call that binds a certificate has to name this region.
    `quota`: the most certificates that an account may keep; None is no limit.
    `list_lag`: for how long the list omits a new certificate, and still shows a deleted one.
    """

    def __init__(self, in_use: Callable[[int], bool], now: Now, *, region: str = MAINLAND) -> None:
        self.region = region
        self.habits = Habits()
        self.quota: int | None = None
        self.list_lag = timedelta(0)
        self._in_use = in_use
        self._now = now
        self._stored: dict[int, Stored] = {}
        self._deleted: list[tuple[datetime, Stored]] = []
        self._by_token: dict[tuple[str, str], Stored] = {}
        self._last_number = FIRST_NUMBER
        self.actions = {
            "UploadUserCertificate": self._upload,
            "ListUserCertificateOrder": self._listing,
            "GetUserCertificateDetail": self._detail,
            "DeleteUserCertificate": self._delete,
        }

    def stored(self) -> list[Stored]:
        """Return the certificates that still exist, oldest first."""
        return list(self._stored.values())

    def ever_stored(self) -> list[Stored]:
        """Return every certificate, deleted certificates last."""
        return [*self._stored.values(), *(stored for _, stored in self._deleted)]

    def find(self, number: int, uid: str, region: str | None = None) -> Stored | None:
        """Return a certificate of an account, None if unknown there or in another region."""
        stored = self._stored.get(number)
        is_there = stored is not None and stored.uid == uid and region in {None, self.region}
        return stored if is_there else None

    def store(self, uid: str, name: str, chain: str, key: str, *, is_upload: bool = True) -> Stored:
        """Keep a certificate under a new number, without checks."""
        self._last_number += 1
        leaf = read_chain(chain)[0]
        number, now = self._last_number, self._now()
        self._stored[number] = Stored(number, uid, name, chain, key, leaf, now, is_upload)
        return self._stored[number]

    def _upload(self, account: Account, params: Params) -> Body:
        name, cert, key = (params.required(field) for field in ("Name", "Cert", "Key"))
        token = params.text("ClientToken")
        if token and (earlier := self._by_token.get((account.uid, token))):
            return _uploaded(earlier)
        if len(name) > self.habits.name_limit:
            raise Refused("DataTooLongException", "存在超长输入值。")
        own = [stored for stored in self.stored() if stored.uid == account.uid]
        leaf = _checked_leaf(cert, key, self._now())
        if any(stored.name == name for stored in own):
            raise Refused("NameRepeat", "名称重复，请重新输入。")
        if self.habits.refuses_equal and any(stored.leaf == leaf for stored in own):
            raise Refused("AlreadyExists.cert", "A cert with the same value already exists.")
        if self.quota is not None and len(own) >= self.quota:
            raise Refused("InsufficientQuota", "额度不足。")
        stored = self.store(account.uid, name, cert, key)
        if token:
            self._by_token[account.uid, token] = stored
        return _uploaded(stored)

    def _listing(self, account: Account, params: Params) -> Body:
        kind = params.choice("OrderType", *ORDER_TYPES)
        status = params.choice("Status", *STATUSES)
        keyword = params.text("Keyword").lower()
        now = self._now()
        shown = [
            stored
            for stored in self._shown(now)
            if stored.uid == account.uid
            and kind in ({"CERT", "UPLOAD"} if stored.uploaded else {"CERT"})
            and self._has_status(stored.status(now), status)
            and any(keyword in text for text in (*dns_names(stored.leaf), _instance(stored)))
        ]
        page, whole = params.page(
            sorted(shown, key=lambda stored: stored.number, reverse=True),
            most=PAGE_LIMIT,
            default=PAGE_LIMIT,
            number="CurrentPage",
            size="ShowSize",
        )
        return {"CertificateOrderList": [self._listed(stored, now) for stored in page], **whole}

    def _has_status(self, status: str, wanted: str) -> bool:
        if wanted:
            return status == wanted
        return self.habits.lists_expired or status in VALID

    def _shown(self, now: datetime) -> list[Stored]:
        """Return the certificates in the list, `list_lag` late."""
        then = now - self.list_lag
        there = [stored for stored in self.stored() if stored.created <= then]
        return there + [stored for at, stored in self._deleted if at > then]

    def _detail(self, account: Account, params: Params) -> Body:
        stored = self._named(account, params)
        hides = params.choice("CertFilter", "false", "true") == "true"
        now = self._now()
        texts = {"Cert": stored.fullchain_pem, "Key": stored.privkey_pem}
        return {
            **self._facts(stored, now),
            "Id": stored.number,
            "Common": main_name(stored.leaf),
            "CertIdentifier": f"{stored.number}-{self.region}",
            "BuyInAliyun": not stored.uploaded,
            "Algorithm": _algorithm(stored),
            "OrderId": 0,
            "NotBefore": _milliseconds(stored.leaf.not_valid_before_utc),
            "NotAfter": _milliseconds(stored.leaf.not_valid_after_utc),
            **({} if hides else texts),
        }

    def _delete(self, account: Account, params: Params) -> Body:
        stored = self._named(account, params)
        if self.habits.refuses_bound and self._in_use(stored.number):
            raise Refused("InvalidStatus.DeleteProtection", "当前状态不允许删除，请稍后重试。")
        del self._stored[stored.number]
        self._deleted.append((self._now(), stored))
        return {}

    def _named(self, account: Account, params: Params) -> Stored:
        params.required("CertId")
        stored = self.find(params.number("CertId", 0, least=1, most=2**63), account.uid)
        if stored is None:
            raise Refused("NotFound", "没有找到必要内容，请检查参数输入。")
        return stored

    def _listed(self, stored: Stored, now: datetime) -> dict[str, Any]:
        return {
            **self._facts(stored, now),
            "CertificateId": stored.number,
            "CommonName": main_name(stored.leaf),
            "Status": stored.status(now),
            "CertStartTime": _milliseconds(stored.leaf.not_valid_before_utc),
            "CertEndTime": _milliseconds(stored.leaf.not_valid_after_utc),
            "Upload": stored.uploaded,
        }

    def _facts(self, stored: Stored, now: datetime) -> dict[str, Any]:
        """Return the fields that lists and reads share."""
        leaf = stored.leaf
        sha1 = leaf.fingerprint(hashes.SHA1())  # noqa: S303 - the vendor shows this hash
        prints = {
            "Fingerprint": sha1.hex().upper(),
            "Sha2": leaf.fingerprint(hashes.SHA256()).hex().upper(),
        }
        names = {"both": list(prints), "sha1": ["Fingerprint"], "none": []}
        return {
            "Name": stored.name,
            "Sans": ",".join(dns_names(leaf)),
            "Issuer": issuer_of(leaf),
            "StartDate": leaf.not_valid_before_utc.date().isoformat(),
            "EndDate": leaf.not_valid_after_utc.date().isoformat(),
            "Expired": stored.status(now) == "EXPIRED",
            "SerialNo": self._serial(leaf.serial_number),
            "InstanceId": _instance(stored),
            "ResourceGroupId": "rg-aek2sandbox",
            **dict.fromkeys(("OrgName", "City", "Province", "Country"), ""),
            **{name: prints[name] for name in names[self.habits.fingerprints]},
        }

    def _serial(self, number: int) -> str:
        digits = f"{number:x}"
        even = digits.zfill(len(digits) + len(digits) % 2)
        forms = {"even": even, "padded": digits.zfill(40), "short": digits, "upper": even.upper()}
        return forms[self.habits.serials]


def _checked_leaf(cert: str, key: str, now: datetime) -> Any:
    """Return the leaf of an upload. Raises `Refused`."""
    try:
        chain = read_chain(cert)
        is_right = fits(key, chain[0])
    except Unreadable:
        is_right = False
    if not is_right:
        # The pages name no code of its own for a key of another certificate.
        raise Refused("CertificateFormatException", "证书格式异常，请检查输入内容。")
    if not is_linked(chain):
        raise Refused("CertificateChainNotMatch", "The certificate chain does not match.")
    if chain[0].not_valid_after_utc <= now:
        raise Refused("CertificateExpired", "证书已经过期。")
    return chain[0]


def _uploaded(stored: Stored) -> Body:
    return {"CertId": stored.number, "ResourceId": _instance(stored)}


def _instance(stored: Stored) -> str:
    return f"cas-upload-{stored.number}" if stored.uploaded else f"cas-ivauto-{stored.number}"


def _algorithm(stored: Stored) -> str:
    return "RSA" if isinstance(stored.leaf.public_key(), rsa.RSAPublicKey) else "ECC"


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
