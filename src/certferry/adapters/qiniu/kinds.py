"""Errors for domains that belong to another part of Qiniu than the file says, and for parts that
cannot be read.
"""

from __future__ import annotations

from certferry.adapters.qiniu.errors import QiniuFailure
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import ObservedDomain
from certferry.errors import DeployError, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry.text import Text

KODO = Kind("kodo")
"""A source domain of a bucket."""

PILI = Kind("pili")
"""A live domain of a hub."""

WITHOUT_SETTINGS = frozenset({KODO, PILI})
"""Kinds of domains that have a certificate, and nothing else to set."""

_KINDS = frozenset({Kind.AUTO, Kind.CDN, Kind.DCDN, KODO, PILI})


_AS_CDN = Text('set kind = "cdn" for it, or leave `kind` out')


def _rejected(sentence: Text, hint: Text, **values: object) -> DeployError:
    return TargetRejected(sentence.filled(**values), hint=hint)


def is_source(domain: str, bucket: str) -> DeployError:
    """Return the error for a source domain that is declared as a CDN domain."""
    return _rejected(
        Text("{domain} is a source domain of the Kodo bucket {bucket}, not a CDN domain"),
        Text('set kind = "kodo" for it, or leave `kind` out'),
        domain=domain,
        bucket=bucket,
    )


def is_cdn(domain: str) -> DeployError:
    """Return the error for a CDN domain that is declared as a source domain."""
    sentence = Text("{domain} is a CDN domain, not a source domain of Kodo")
    return _rejected(sentence, _AS_CDN, domain=domain)


def is_live(domain: str, hub: str) -> DeployError:
    """Return the error for a live domain that is declared as a CDN domain."""
    return _rejected(
        Text("{domain} is a live domain of the Pili hub {hub}, not a CDN domain"),
        Text('set kind = "pili" for it, or leave `kind` out'),
        domain=domain,
        hub=hub,
    )


def is_not_live(domain: str, *, at_cdn: bool) -> DeployError:
    """Return the error for a domain that is declared as a live domain and no hub has."""
    if at_cdn:
        sentence = Text("{domain} is a CDN domain, not a live domain of Pili")
        return _rejected(sentence, _AS_CDN, domain=domain)
    return _rejected(
        Text("{domain} is not a live domain of any Pili hub of this account"),
        Text("bind it to a hub in Qiniu's console (直播云), or correct `domains`"),
        domain=domain,
    )


def is_nothing(domain: str) -> DeployError:
    """Return the error for a domain that is declared as a source domain and no bucket has."""
    return _rejected(
        Text("{domain} is not a source domain of any Kodo bucket of this account"),
        Text("add it to a bucket in Qiniu's console, or correct `domains`"),
        domain=domain,
    )


def with_doubt(
    error: DeployError, kodo: QiniuFailure | None, pili: QiniuFailure | None
) -> DeployError:
    """Add that what is not a CDN domain may be a source or a live domain, where these could not all
    be listed.
    """
    failure = kodo or pili
    if failure is None:
        return error
    if is_silence(failure):
        return failure.error
    sentence = Text("{problem}; Kodo's domains cannot be seen with these keys")
    hint = Text('set kind = "kodo" if it is a source domain of Kodo')
    if kodo is None:
        sentence = Text("{problem}; Pili's domains cannot be seen with these keys")
        hint = failure.error.hint or Text('set kind = "pili" if it is a live domain of Pili')
    return _rejected(sentence, or_else(error.hint, hint), problem=error.message)


def with_way_out(error: DeployError) -> DeployError:
    """Add how to have the CDN's domains alone."""
    return _with_hint(
        error, Text('set kind = "cdn" for this deployment to leave source domains out')
    )


def without_live(error: DeployError) -> DeployError:
    """Add how to have the other domains alone."""
    return _with_hint(
        error, Text('set kind = "cdn" or "kodo" for this deployment to leave live domains out')
    )


def with_names(failure: QiniuFailure) -> DeployError:
    """Add how a domain is bound although its binding cannot be read."""
    if failure.is_denied:  # keys that may read no binding may not make one either
        return failure.error
    return _with_hint(failure.error, Text("name it under `domains` to have it bound all the same"))


def _with_hint(error: DeployError, hint: Text) -> DeployError:
    return type(error)(error.message, hint=or_else(error.hint, hint), retry=error.retry)


def without_sources(error: DeployError, kind: Kind) -> DeployError:
    """Add how to have the CDN's domains alone, unless only source domains are meant."""
    return error if kind == KODO else with_way_out(error)


def bound_all_the_same(error: DeployError) -> DeployError:
    """Add what happens to a domain whose binding cannot be read."""
    said = Text(
        "source domains that the file names are bound all the same; their edges are the proof"
    )
    hint = said if error.hint is None else Text("{one}; {other}", one=said, other=error.hint)
    return type(error)(error.message, hint=hint, retry=error.retry)


def or_else(one: Text | None, other: Text) -> Text:
    """Return both hints, where there is one already."""
    return other if one is None else Text("{one}; or {other}", one=one, other=other)


def may_be_left_out(scope: Scope, found: list[ObservedDomain], failure: QiniuFailure) -> bool:
    """Return whether a run may go on without source or live domains: an outage of Kodo's or Pili's
    must not stop the CDN, nor pass for an empty account where there is nothing else.
    """
    return scope.kind == Kind.AUTO and (bool(found) or not is_silence(failure))


def is_silence(failure: QiniuFailure) -> bool:
    """Return whether no sensible answer came."""
    return isinstance(failure.error, TargetUnavailable)


def must_be_served_here(kind: Kind) -> None:
    """Raise `TargetRejected` for a kind of domains that certferry does not deploy to yet."""
    if kind not in _KINDS:
        raise TargetRejected(
            Text('certferry does not deploy to domains of kind "{kind}" yet', kind=kind.value),
            hint=Text('set kind = "cdn", "kodo" or "pili", or leave it out'),
        )
