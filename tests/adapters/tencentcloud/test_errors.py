"""The meanings of Tencent Cloud's codes, and the advice in errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry import errors
from certferry.adapters.cdn.refusals import Refusal
from certferry.adapters.tencentcloud.errors import CODES, MEANINGS, explain_refusal
from certferry.core.certificates.names import WILDCARD
from certferry.core.desired.certificate import Kind
from certferry.ports.target import Scope
from certferry.text import Text
from tests.adapters.tencentcloud.places import TencentPlaces, open_places

KINDS: tuple[tuple[str, type[errors.DeployError]], ...] = (
    ("ResourceInUse.CdnOpInProgress", errors.TargetBusy),
    ("OperationDenied.DomainStatusUnstable", errors.TargetBusy),
    ("ResourceUnavailable.CertNotFound", errors.CopyGone),
    ("InvalidParameter.CdnCertInfoNotFound", errors.CopyGone),
    ("ResourceNotFound.CdnHostNotExists", errors.TargetRejected),
    ("UnauthorizedOperation.CdnHostIsOwnedByOther", errors.TargetRejected),
    ("UnauthorizedOperation.CdnUserIsIsolated", errors.TargetRejected),
    ("UnauthorizedOperation.CdnCamUnauthorized", errors.TargetRightMissing),
    ("UnauthorizedOperation", errors.TargetRightMissing),
    ("FailedOperation.AuthError", errors.TargetRightMissing),
    ("AuthFailure.UnauthorizedOperation", errors.TargetRightMissing),
    ("AuthFailure.SignatureFailure", errors.TargetAccessDenied),
    ("AuthFailure.SecretIdNotFound", errors.TargetAccessDenied),
    ("AuthFailure.TokenFailure", errors.TargetAccessDenied),
    ("AuthFailure.SignatureExpire", errors.ClockWrong),
    ("RequestLimitExceeded", errors.TargetUnavailable),
    ("LimitExceeded.RateLimitExceeded", errors.TargetUnavailable),
    ("UnauthorizedOperation.OperationTooOften", errors.TargetUnavailable),
    ("InternalError.CamSystemError", errors.TargetUnavailable),
    ("FailedOperation.ModifyFailed", errors.TargetUnavailable),
    ("FailedOperation.DeleteResourceFailed", errors.TargetInUse),
    ("FailedOperation.RoleNotFoundAuthorization", errors.TargetInUse),
    ("InvalidParameter.CertificatesNumberExceeded", errors.TargetRejected),
    ("FailedOperation.CertificateDeployInstanceEmpty", errors.TargetRejected),
    ("SomethingNew.NeverSeen", errors.TargetRejected),
)


def refused(code: str, words: str = "its words", host: str = "cdn.tencentcloudapi.com") -> Refusal:
    request_id = "0f0b43bc-9f3c-4b14-a8e4-0a1b2c3d4e5f"
    return Refusal(Text("the list of CDN domains"), code, words, request_id, host)


@pytest.fixture
def places() -> Iterator[TencentPlaces]:
    with open_places() as places:
        yield places


@pytest.mark.parametrize(("code", "kind"), KINDS)
def test_kind_of_error(code: str, kind: type[errors.DeployError]) -> None:
    """The error has the code, an advice, and the id that support asks for."""
    failure = explain_refusal(refused(code))

    assert kind is type(failure.error)
    assert code in str(failure.error)
    assert "RequestId 0f0b43bc" in str(failure.error.hint)


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("cdn.tencentcloudapi.com", 'cdn = "https://cdn.intl.tencentcloudapi.com"'),
        ("cdn.intl.tencentcloudapi.com", "remove `cdn`, `ssl` and `teo`"),
    ],
)
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AuthFailure.SecretIdNotFound", ""),
        ("InvalidParameter", "(109) The Token usage region is incorrect"),
    ],
)
def test_key_of_the_other_site(host: str, advice: str, code: str, words: str) -> None:
    """The advice has the line to write, for either site."""
    failure = explain_refusal(refused(code, words, host))

    assert isinstance(failure.error, errors.TargetAccessDenied)
    assert advice in str(failure.error.hint)
    assert failure.is_common


def test_code_that_may_be_a_key() -> None:
    """Only a code in a form too narrow for a key is shown."""
    secret = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"

    failure = explain_refusal(refused(secret, secret))

    assert secret[:12] not in f"{failure.error} {failure.error.hint}"


def test_every_code_has_a_page(places: TencentPlaces) -> None:
    """`help CODE` knows each meaning, and DNSPod's codes as before."""
    assert set(MEANINGS) <= set(CODES)
    assert {"AuthFailure", "UnauthorizedOperation", "LimitExceeded"} <= set(CODES)
    assert all(str(meaning.advice) for meaning in CODES.values())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AuthFailure.SignatureExpire", errors.ClockWrong),
        ("ResourceNotFound.CdnHostNotExists", errors.TargetRejected),
        ("InternalError", errors.TargetUnavailable),
    ],
)
def test_observation_that_is_refused(
    places: TencentPlaces, code: str, kind: type[errors.DeployError]
) -> None:
    """The port raises the error of the list."""
    places.service.answer_next("DescribeDomainsConfig", code, times=5)
    scope = Scope("img", (f"{WILDCARD}example.com",), None, Kind.CDN, ())

    with pytest.raises(kind):
        places.target().observe(scope)


def test_too_many_calls_are_repeated(places: TencentPlaces) -> None:
    """A refusal for the rate has no effect, so the call is made again after a pause."""
    places.service.answer_next("DescribeDomainsConfig", "RequestLimitExceeded", times=2)
    scope = Scope("img", (f"{WILDCARD}example.com",), None, Kind.CDN, ())

    assert () == places.target().observe(scope).domains
    assert 3 == len(places.service.calls("DescribeDomainsConfig"))
