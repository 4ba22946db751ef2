"""Answers that Alibaba Cloud may give, each with a switch (docs/facts/aliyun.md §9).

The stand-in starts with the documented answers. `HABITS` has the switches by name; all switches of
`TOGETHER` can be on at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from certferry_sandbox.aliyun.gateway import RateLimits
from certferry_sandbox.aliyun.service import AliyunService

Habit = Callable[[AliyunService], None]


def forbidden_plain(aliyun: AliyunService) -> None:
    """§2: a missing right is `Forbidden`."""
    for endpoint in aliyun.endpoints:
        endpoint.forbidden = ("Forbidden", 403)


def forbidden_no_permission(aliyun: AliyunService) -> None:
    """§2: a missing right is `NoPermission`."""
    for endpoint in aliyun.endpoints:
        endpoint.forbidden = ("NoPermission", 403)


def forbidden_by_cas(aliyun: AliyunService) -> None:
    """§2: a missing right at CAS is `AccessDenied.NoAuth`, with 400."""
    aliyun.cas.forbidden = ("AccessDenied.NoAuth", 400)


def flow_control_error(aliyun: AliyunService) -> None:
    """§8: CAS refuses calls above the limit with `FlowControlError`."""
    limits = aliyun.cas.rate_limits.per_second
    aliyun.cas.rate_limits = RateLimits(limits, "FlowControlError", "超过限流QPS，请稍后重试。")


def unchecked_hidden(aliyun: AliyunService) -> None:
    """§3.1: lists omit failed and unchecked domains unless CheckDomainShow is true."""
    for product in aliyun.products.values():
        product.habits.hides_unchecked = True


def list_in_beijing(aliyun: AliyunService) -> None:
    """§3.2: the times of the list of certificates are Beijing's."""
    for product in aliyun.products.values():
        product.habits.list_zone = "beijing"


def no_https_is_empty(aliyun: AliyunService) -> None:
    """§3.2: an account without HTTPS has an empty list, without a refusal."""
    for product in aliyun.products.values():
        product.habits.no_https = "empty"


def ids_untold(aliyun: AliyunService) -> None:
    """§3.3: reads have no CertId."""
    for product in aliyun.products.values():
        product.habits.has_id = False


def leaf_alone(aliyun: AliyunService) -> None:
    """§3.3: reads have the leaf without the chain."""
    for product in aliyun.products.values():
        product.habits.server_certificate = "leaf"


def certificate_hidden(aliyun: AliyunService) -> None:
    """§3.3: reads have an empty text in place of the certificate."""
    for product in aliyun.products.values():
        product.habits.server_certificate = "hidden"


def absent_is_empty(aliyun: AliyunService) -> None:
    """§3.3: the read of a domain without HTTPS is an empty list."""
    for product in aliyun.products.values():
        product.habits.absent = "empty"


def vips_partial(aliyun: AliyunService) -> None:
    """§3.4: the call names only some of the edges."""
    for product in aliyun.products.values():
        product.habits.vips = "first"


def vips_empty(aliyun: AliyunService) -> None:
    """§3.4: the call names no edge."""
    for product in aliyun.products.values():
        product.habits.vips = "none"


def protocol_required(aliyun: AliyunService) -> None:
    """§4.1: a call without SSLProtocol is refused, and HTTPS stays on."""
    for product in aliyun.products.values():
        product.habits.omitted_protocol = "refused"


def name_required(aliyun: AliyunService) -> None:
    """§4.1: an upload without CertName is refused."""
    for product in aliyun.products.values():
        product.habits.needs_cert_name = True


def equal_upload_refused(aliyun: AliyunService) -> None:
    """§4.2: CDN and DCDN refuse a certificate that they already have."""
    for product in aliyun.products.values():
        product.habits.refuses_equal = True


def done_at_once(aliyun: AliyunService) -> None:
    """§4.3: lists and reads show a change as done at once; the edges serve the change later."""
    for product in aliyun.products.values():
        product.habits.shows_configuring = False
        product.habits.shows_new_at_once = True


def changes_overlap(aliyun: AliyunService) -> None:
    """§4.2: a domain takes a second change during the first."""
    for product in aliyun.products.values():
        product.habits.refuses_while_configuring = False


def mismatch_refused(aliyun: AliyunService) -> None:
    """§4.3: a certificate without the domain's name is refused."""
    for product in aliyun.products.values():
        product.habits.refuses_mismatch = True


def equal_copies_refused(aliyun: AliyunService) -> None:
    """§5.1: CAS refuses a certificate that the account already has."""
    aliyun.store.habits.refuses_equal = True


def expired_listed(aliyun: AliyunService) -> None:
    """§5.2: a list without a status has expired certificates as well."""
    aliyun.store.habits.lists_expired = True


def serials_padded(aliyun: AliyunService) -> None:
    """§5.2: serial numbers have 40 digits."""
    aliyun.store.habits.serials = "padded"


def serials_short(aliyun: AliyunService) -> None:
    """§5.2: serial numbers have no leading zeros."""
    aliyun.store.habits.serials = "short"


def serials_in_capitals(aliyun: AliyunService) -> None:
    """§5.2: serial numbers are in capitals."""
    aliyun.store.habits.serials = "upper"


def sha1_alone(aliyun: AliyunService) -> None:
    """§5.2: CAS tells the SHA-1 fingerprint alone."""
    aliyun.store.habits.fingerprints = "sha1"


def no_fingerprints(aliyun: AliyunService) -> None:
    """§5.2: CAS tells no fingerprint."""
    aliyun.store.habits.fingerprints = "none"


def bound_is_protected(aliyun: AliyunService) -> None:
    """§5.3: CAS refuses to delete a certificate that a domain uses."""
    aliyun.store.habits.refuses_bound = True


HABITS: Mapping[str, Habit] = MappingProxyType(
    {
        habit.__name__: habit
        for habit in (
            forbidden_plain,
            forbidden_no_permission,
            forbidden_by_cas,
            flow_control_error,
            unchecked_hidden,
            list_in_beijing,
            no_https_is_empty,
            ids_untold,
            leaf_alone,
            certificate_hidden,
            absent_is_empty,
            vips_partial,
            vips_empty,
            protocol_required,
            name_required,
            equal_upload_refused,
            done_at_once,
            changes_overlap,
            mismatch_refused,
            equal_copies_refused,
            expired_listed,
            serials_padded,
            serials_short,
            serials_in_capitals,
            sha1_alone,
            no_fingerprints,
            bound_is_protected,
        )
    }
)

TOGETHER: tuple[Habit, ...] = (
    forbidden_no_permission,
    flow_control_error,
    unchecked_hidden,
    list_in_beijing,
    no_https_is_empty,
    leaf_alone,
    absent_is_empty,
    vips_partial,
    protocol_required,
    name_required,
    done_at_once,
    mismatch_refused,
    expired_listed,
    serials_padded,
    bound_is_protected,
)
"""Switches that can be on together, one of each kind."""
