"""A strict stand-in of Qiniu with its target and client, and a certificate uploaded by
certferry.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from tests.adapters.qiniu.account import QiniuAccount, bundle, open_account


@pytest.fixture
def account() -> Iterator[QiniuAccount]:
    with open_account() as opened:
        yield opened


@pytest.fixture
def target(account: QiniuAccount) -> Qiniu:
    return account.target()


@pytest.fixture
def client(account: QiniuAccount) -> QiniuClient:
    return account.client()


@pytest.fixture
def made() -> CertificateBundle:
    return bundle("*.example.com")


@pytest.fixture
def label(made: CertificateBundle) -> str:
    """The certificate's mark, which is the name of its upload."""
    return label_of("img", made.certificate.fingerprint)


@pytest.fixture
def ours(target: Qiniu, made: CertificateBundle) -> str:
    """The id of the uploaded certificate."""
    return target.upload("img", made)
