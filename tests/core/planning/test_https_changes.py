"""Where a domain's settings differ from what is asked for."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.drift import in_sentences, setting_changes
from tests.core.strategies import settings_found, wishes

DOMAIN = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, "id-3")
VERSIONS = ("TLSv1.2", "TLSv1.3")
NAMES = [field.name for field in fields(DesiredHttps)]
BEGUN = RolloutRecord("img", "qiniu", DOMAIN.domain, "3f", datetime(2026, 7, 1, tzinfo=UTC))


def sent_before(sent: DesiredHttps | None, domain: ObservedDomain = DOMAIN) -> ObservedDomain:
    """Return the domain as it is known after these settings were sent."""
    return replace(domain, last=replace(BEGUN, sent=sent))


@given(wishes, settings_found, st.frozensets(st.sampled_from(NAMES)))
def test_what_was_sent_is_no_difference_where_it_is_not_told(
    wish: DesiredHttps, found: HttpsSettings, untold: frozenset[str]
) -> None:
    """Only what the target tells can differ from a wish that was sent as it is."""
    told = replace(found, **dict.fromkeys(untold))
    domain = sent_before(wish, replace(DOMAIN, https=told))

    assert not untold & {change.what for change in setting_changes(wish, domain)}


@given(wishes, settings_found, st.none() | wishes)
def test_what_was_sent_is_no_matter_where_it_is_told(
    wish: DesiredHttps, found: HttpsSettings, sent: DesiredHttps | None
) -> None:
    """What the target tells decides."""
    told = replace(found, tls_versions=found.tls_versions or VERSIONS)
    domain = replace(DOMAIN, https=told)

    assert setting_changes(wish, domain) == setting_changes(wish, sent_before(sent, domain))


@pytest.mark.parametrize(
    ("wish", "after"),
    [
        (DesiredHttps(force_https=False), "false"),
        (DesiredHttps(http2=True), "true"),
        (DesiredHttps(tls_versions=VERSIONS), "TLSv1.2, TLSv1.3"),
    ],
)
def test_what_is_not_told_differs_until_it_was_sent(wish: DesiredHttps, after: str) -> None:
    """What is in force until then is not known; another wish that was sent is not this one."""
    others = DesiredHttps(force_https=True, http2=False, tls_versions=("TLSv1.3",))

    for sent in (None, DesiredHttps(), others):
        [change] = setting_changes(wish, sent_before(sent))

        assert ("unknown", after) == (change.was, change.becomes)
    assert () == setting_changes(wish, sent_before(wish))


@pytest.mark.parametrize("versions", [VERSIONS, VERSIONS[::-1]])
def test_tls_versions_are_a_set(versions: tuple[str, ...]) -> None:
    """In another order than they are wished they are the same, told or sent."""
    wish = DesiredHttps(tls_versions=VERSIONS)

    told = replace(DOMAIN, https=HttpsSettings(tls_versions=versions))
    sent = sent_before(DesiredHttps(tls_versions=versions))

    assert () == setting_changes(wish, told)
    assert () == setting_changes(wish, sent)


def test_domain_without_https_has_no_settings_yet() -> None:
    """There is nothing to be unknown, and what was sent before HTTPS went off is gone with it."""
    wish = DesiredHttps(http2=True)
    off = sent_before(wish, replace(DOMAIN, bound=None))

    assert ["—"] == [change.was for change in setting_changes(wish, off)]


def test_domain_without_settings_has_none_to_wish_for() -> None:
    """Its target binds a certificate and nothing else: what is asked of others is no difference."""
    wish = DesiredHttps(force_https=True, http2=True, tls_versions=VERSIONS)

    assert () == setting_changes(wish, replace(DOMAIN, has_settings=False))


def test_changes_are_told_in_sentences() -> None:
    """The word for what is not known can be translated; the settings' are not."""
    wish = DesiredHttps(http2=True, tls_versions=VERSIONS)
    domain = replace(DOMAIN, https=HttpsSettings(http2=False))

    sentences = in_sentences(setting_changes(wish, domain))

    assert ["http2 false → true", "tls_versions unknown → TLSv1.2, TLSv1.3"] == list(
        map(str, sentences)
    )
    assert "tls_versions 未知 → TLSv1.2, TLSv1.3" == sentences[1].render(
        lambda template: template.replace("unknown", "未知")
    )
