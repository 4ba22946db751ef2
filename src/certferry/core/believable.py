"""Whether a CA's certificate is the one that was ordered: asked before certferry keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.certificate import CertificateBundle
from certferry.errors import CertificateRejected
from certferry.text import LINEAGE, Text

SKEW = timedelta(minutes=15)
"""How wrong this machine's clock may be: by more, Qiniu refuses what is dated by it
(docs/facts/qiniu.md §2.3), and nothing could be deployed."""

_NAMED = 5
"""Names that a message holds: a certificate may have thousands."""

_NOT_KEPT = Text(
    "nothing was kept or deployed. Tell the CA, or use another one (`directory` under [acme]); see"
    " that no gateway stands between. Runs order again after a day,"
    " `certferry sync --renew {lineage}` at once",
    lineage=LINEAGE,
)


_CLOCK = Text(
    "see first whether this machine's clock is right (`timedatectl`); if it is, tell the CA."
    " Nothing was kept or deployed; runs order again after a day"
)


@dataclass(frozen=True, slots=True)
class _Case:
    bundle: CertificateBundle
    names: tuple[str, ...]
    now: datetime


def must_be_as_ordered(bundle: CertificateBundle, names: Iterable[str], now: datetime) -> None:
    """See that a certificate is for exactly these names and our key, valid now, and comes with its
    issuers. That it is a leaf, no issuer, was seen when it was read.

    Raises `CertificateRejected`.
    """
    case = _Case(bundle, tuple(names), now)
    for question in _QUESTIONS:
        problem = question(case)
        if problem is not None:
            raise rejected(problem, _CLOCK if question is _not_valid_now else _NOT_KEPT)


def rejected(problem: Text, hint: Text = _NOT_KEPT) -> CertificateRejected:
    """Give the error for a certificate that is not what was ordered."""
    return CertificateRejected(
        Text("the CA gave a certificate that was not ordered: {problem}", problem=problem),
        hint=hint,
    )


def _other_names(case: _Case) -> Text | None:
    had, wanted = case.bundle.certificate.names, case.names
    if set(had) == set(wanted):
        return None
    return Text("it is for {had}; asked for: {wanted}", had=_few(had), wanted=_few(wanted))


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if len(names) <= _NAMED else (*names[:_NAMED], "…")


def _other_key(case: _Case) -> Text | None:
    return None if case.bundle.key_matches else Text("it does not belong to our private key")


def _not_valid_now(case: _Case) -> Text | None:
    leaf = case.bundle.certificate
    # Differences: a certificate without an end has the last second of the calendar (RFC 5280
    # §4.1.2.5), after which there is no moment.
    if leaf.not_before - case.now <= SKEW and case.now - leaf.not_after < SKEW:
        return None
    return Text(
        "it is valid from {begin} to {end}, and here it is {now}",
        begin=leaf.not_before,
        end=leaf.not_after,
        now=case.now,
    )


def _expired_issuer(case: _Case) -> Text | None:
    end = case.bundle.issuer_not_after
    if end is None or case.now - end < SKEW:
        return None
    return Text("its issuer certificate expired at {moment}", moment=end)


def _broken_chain(case: _Case) -> Text | None:
    if case.bundle.chain_complete:
        return None
    return Text(
        "it is not followed by its issuer certificates (if a private CA signs with its root, name"
        " that in `ca_bundle` under [acme])"
    )


_QUESTIONS: tuple[Callable[[_Case], Text | None], ...] = (
    _other_names,
    _other_key,
    _not_valid_now,
    _broken_chain,
    _expired_issuer,
)
