"""Answers that Qiniu has been seen to give, each with a switch.

A docstring begins with the number of the guess in docs/facts/qiniu.md §10, without the `1.`.

The stand-in starts with the documented answers. If two programs in production disagree, both
answers have a switch. `HABITS` has the switches by name; all switches of `TOGETHER` can be on at
the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType

from certferry_sandbox.qiniu.routes import QBOX, QINIU, Host
from certferry_sandbox.qiniu.service import QiniuService

Habit = Callable[[QiniuService], None]

SHORT_NAMES = 23  # characters, the limit in a widespread client (§4.1)


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
    """4: the code for a key of another certificate is 400324."""
    qiniu.certificates.rules.mismatch_code = 400324


def no_common_name_is_taken(qiniu: QiniuService) -> None:
    """5: a certificate without a common name is taken."""
    qiniu.certificates.rules.refuse_empty_common_name = False


def flags_hidden(qiniu: QiniuService) -> None:
    """6: a read shows only the certificate's id; a change keeps omitted flags."""
    qiniu.domains.hides, qiniu.domains.omitted_flags = "flags", "kept"


def https_hidden(qiniu: QiniuService) -> None:
    """6: a read shows neither certificate nor settings; a change keeps omitted flags."""
    qiniu.domains.hides, qiniu.domains.omitted_flags = "all", "kept"


def left_out_is_reset(qiniu: QiniuService) -> None:
    """6: a change resets omitted flags."""
    qiniu.domains.omitted_flags = "reset"


def https_claimed(qiniu: QiniuService) -> None:
    """7: a read shows `protocol` https for every domain; `sslize` can be repeated."""
    qiniu.domains.claims_https = True
    qiniu.domains.refuse_repeated_sslize = False


def certificates_at_api_qbox(qiniu: QiniuService) -> None:
    """8: `/sslcert` is at api, under QBox."""
    qiniu.hosting.certificates = {Host.API: QBOX}


def certificates_at_api_qiniu(qiniu: QiniuService) -> None:
    """8: `/sslcert` is at api, under Qiniu."""
    qiniu.hosting.certificates = {Host.API: QINIU}


def short_names(qiniu: QiniuService) -> None:
    """9: a certificate's name may have at most 23 characters."""
    qiniu.certificates.name_limit = SHORT_NAMES


def in_use_goes_on(qiniu: QiniuService) -> None:
    """10: a certificate stays in use for ten minutes after a domain has left it."""
    qiniu.domains.in_use_for = timedelta(minutes=10)


def versions_as_string(qiniu: QiniuService) -> None:
    """11: TLS versions are a string, as the documents say, in place of an array."""
    qiniu.domains.tls_versions = "string"


def unknown_paths_401(qiniu: QiniuService) -> None:
    """12: an unknown path below `/domain/` answers 401."""
    qiniu.hosting.unknown_is_401 = True


def bucket_domains_by_type(qiniu: QiniuService) -> None:
    """15: `/v3/domains` answers 401 to Qiniu; `/domain?bucket=…&type=source` still works."""
    qiniu.hosting.bucket_domains = dict.fromkeys((Host.UC, Host.UC_BACKUP), QBOX)


def done_at_once(qiniu: QiniuService) -> None:
    """18: reads show a change as done at once; the edges serve the change later."""
    qiniu.domains.says_done_at_once = True


def days_in_words(qiniu: QiniuService) -> None:
    """21: too little life is refused in words, with the general code 400000."""
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
"""Switches that can be on together. If switches contradict each other, only the
switch that causes most requests is here.
"""
