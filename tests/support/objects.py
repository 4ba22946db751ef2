"""Objects at the stand-ins, opened by certferry's adapters."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.adapters.qiniu.bucket import KodoObjects
from certferry.adapters.qiniu.wire import QiniuKeys
from certferry.core.redaction import Secret
from certferry_sandbox.qiniu.service import QiniuService


def objects_in(
    qiniu: QiniuService,
    bucket: str,
    prefix: str,
    *,
    keys: QiniuKeys | None = None,
    ahead: timedelta = timedelta(0),
) -> KodoObjects:
    """Open a bucket of Qiniu's first account, or with other keys; the machine's clock is `ahead` of
    the real time.
    """
    if keys is None:
        keys = QiniuKeys(*map(Secret, qiniu.accounts.first))
    http = HttpClient(pace=Pacer(1000, pause=time.sleep), pause=time.sleep)
    return KodoObjects(
        bucket, prefix, keys, uc=qiniu.uc_url, http=http, now=lambda: datetime.now(UTC) + ahead
    )
