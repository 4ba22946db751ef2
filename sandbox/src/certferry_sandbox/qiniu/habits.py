"""What Qiniu has been seen to answer, a switch for each.

The numbers are those of the guesses in docs/facts/qiniu.md §10, without their `1.`.

The stand-in begins as the documents have it. Where two programs in production disagree, both sides
are here. `HABITS` turns one on; those of `TOGETHER` may all be on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType

from certferry_sandbox.qiniu.routes import QBOX, QINIU, Host
from certferry_sandbox.qiniu.service import QiniuService

Habit = Callable[[QiniuService], None]

SHORT_NAMES = 23  # characters that a widespread client keeps to (§4.1)


def null_lists(qiniu: QiniuService) -> None:
    """1: an empty list is null."""
    qiniu.null_lists = True


def bind_takes_qiniu(qiniu: QiniuService) -> None:
    """2: `/cert/bind` answers 401 to QBox."""
    qiniu.hosting.bind = {Host.API: QINIU}


def bindings_at_api_qbox(qiniu: QiniuService) -> None:
    """3: `/cert/bindings` is at api, under QBox."""
    qiniu.hosting.bindings = {Host.API: QBOX}


def bindings_at_api_qiniu(qiniu: QiniuService) -> None:
    """3: `/cert/bindings` is at api, under Qiniu."""
    qiniu.hosting.bindings = {Host.API: QINIU}


def bindings_at_backup(qiniu: QiniuService) -> None:
    """3: `/cert/bindings` is at api.qiniuapi.com, as before 2024-11."""
    qiniu.hosting.bindings = {Host.API_BACKUP: QINIU}


def bindings_nowhere(qiniu: QiniuService) -> None:
    """3: no host answers `/cert/bindings`."""
    qiniu.hosting.bindings = {}


def mismatch_is_400324(qiniu: QiniuService) -> None:
    """4: a key that is not the certificate's is 400324."""
    qiniu.certificates.rules.mismatch_code = 400324


def no_common_name_is_taken(qiniu: QiniuService) -> None:
    """5: a certificate without a common name is taken."""
    qiniu.certificates.rules.refuse_empty_common_name = False


def flags_hidden(qiniu: QiniuService) -> None:
    """6: the detail shows the certificate's id and no settings; what is left out is kept."""
    qiniu.domains.hides, qiniu.domains.omitted_flags = "flags", "kept"


def https_hidden(qiniu: QiniuService) -> None:
    """6: the detail shows neither certificate nor settings; what is left out is kept."""
    qiniu.domains.hides, qiniu.domains.omitted_flags = "all", "kept"


def left_out_is_reset(qiniu: QiniuService) -> None:
    """6: a flag that is left out of a change is reset."""
    qiniu.domains.omitted_flags = "reset"


def https_claimed(qiniu: QiniuService) -> None:
    """7: a domain whose HTTPS is off is shown as one that has it."""
    qiniu.domains.claims_https = True
    qiniu.domains.refuse_repeated_sslize = False


def certificates_at_api_qbox(qiniu: QiniuService) -> None:
    """8: `/sslcert` is at api, under QBox."""
    qiniu.hosting.certificates = {Host.API: QBOX}


def certificates_at_api_qiniu(qiniu: QiniuService) -> None:
    """8: `/sslcert` is at api, under Qiniu."""
    qiniu.hosting.certificates = {Host.API: QINIU}


def short_names(qiniu: QiniuService) -> None:
    """9: a certificate's name may have 23 characters."""
    qiniu.certificates.name_limit = SHORT_NAMES


def in_use_goes_on(qiniu: QiniuService) -> None:
    """10: a certificate is in use for minutes after its domain has left it."""
    qiniu.domains.in_use_for = timedelta(minutes=10)


def versions_as_string(qiniu: QiniuService) -> None:
    """11: the other side of the array: TLS versions are a string, as the documents say."""
    qiniu.domains.tls_versions = "string"


def unknown_paths_401(qiniu: QiniuService) -> None:
    """12: a path that is no call answers 401."""
    qiniu.hosting.unknown_is_401 = True


def bucket_domains_by_type(qiniu: QiniuService) -> None:
    """15: `/v3/domains` answers 401; `/domain?bucket=…&type=source` lists the source domains."""
    qiniu.hosting.bucket_domains = dict.fromkeys((Host.UC, Host.UC_BACKUP), QBOX)


def done_at_once(qiniu: QiniuService) -> None:
    """18: a change is reported as done at once, and is not."""
    qiniu.domains.says_done_at_once = True


def days_in_words(qiniu: QiniuService) -> None:
    """21: too little life is refused in words."""
    qiniu.certificates.rules.names_days = True


HABITS: Mapping[str, Habit] = MappingProxyType(
    {
        habit.__name__: habit
        for habit in (
            null_lists,
            bind_takes_qiniu,
            bindings_at_api_qbox,
            bindings_at_api_qiniu,
            bindings_at_backup,
            bindings_nowhere,
            mismatch_is_400324,
            no_common_name_is_taken,
            flags_hidden,
            https_hidden,
            left_out_is_reset,
            https_claimed,
            certificates_at_api_qbox,
            certificates_at_api_qiniu,
            short_names,
            in_use_goes_on,
            versions_as_string,
            unknown_paths_401,
            bucket_domains_by_type,
            done_at_once,
            days_in_words,
        )
    }
)

TOGETHER: tuple[Habit, ...] = (
    null_lists,
    bind_takes_qiniu,
    bindings_at_backup,
    mismatch_is_400324,
    no_common_name_is_taken,
    flags_hidden,
    https_claimed,
    certificates_at_api_qiniu,
    short_names,
    in_use_goes_on,
    unknown_paths_401,
    bucket_domains_by_type,
    done_at_once,
    days_in_words,
)
"""One side of each contradiction, the one that costs most requests."""
