"""What is said of a domain that was taken for one of another part of Qiniu, and how the rest goes
on where one part cannot be read.
"""

from __future__ import annotations

from certferry.adapters.qiniu.errors import QiniuFailure
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import ObservedDomain
from certferry.errors import DeployError, TargetRejected, TargetUnavailable
from certferry.ports.target import Look
from certferry.text import Text

KODO = Kind("kodo")
"""A source domain of a bucket."""

PILI = Kind("pili")
"""A live domain of a hub."""

WITHOUT_SETTINGS = frozenset({KODO, PILI})
"""Kinds of domains that have a certificate, and nothing else to set."""

_KINDS = frozenset({Kind.AUTO, Kind.CDN, Kind.DCDN, KODO, PILI})


def is_source(domain: str, bucket: str) -> DeployError:
    """Say that a domain that was taken for a CDN domain is a source domain."""
    return TargetRejected(
        Text(
            "{domain} is a source domain of the Kodo bucket {bucket}, not a CDN domain",
            domain=domain,
            bucket=bucket,
        ),
        hint=Text('set kind = "kodo" for it, or leave `kind` out'),
    )


def is_cdn(domain: str) -> DeployError:
    """Say that a domain that was taken for a source domain is a CDN domain."""
    return TargetRejected(
        Text("{domain} is a CDN domain, not a source domain of Kodo", domain=domain),
        hint=Text('set kind = "cdn" for it, or leave `kind` out'),
    )


def is_live(domain: str, hub: str) -> DeployError:
    """Say that a domain that was taken for a CDN domain is a live domain."""
    return TargetRejected(
        Text(
            "{domain} is a live domain of the Pili hub {hub}, not a CDN domain",
            domain=domain,
            hub=hub,
        ),
        hint=Text('set kind = "pili" for it, or leave `kind` out'),
    )


def is_not_live(domain: str, *, at_cdn: bool) -> DeployError:
    """Say that no hub has a domain that was taken for a live domain."""
    if at_cdn:
        return TargetRejected(
            Text("{domain} is a CDN domain, not a live domain of Pili", domain=domain),
            hint=Text('set kind = "cdn" for it, or leave `kind` out'),
        )
    return TargetRejected(
        Text("{domain} is no live domain of any Pili hub of this account", domain=domain),
        hint=Text("bind it to a hub in Qiniu's console (直播云), or correct `domains`"),
    )


def is_nothing(domain: str) -> DeployError:
    """Say that no bucket has a domain that was taken for a source domain."""
    return TargetRejected(
        Text("{domain} is no source domain of any Kodo bucket of this account", domain=domain),
        hint=Text("add it to a bucket in Qiniu's console, or correct `domains`"),
    )


def with_doubt(
    error: DeployError, kodo: QiniuFailure | None, pili: QiniuFailure | None
) -> DeployError:
    """Say so when what is no CDN domain could be a source or a live domain all the same, since
    these could not all be listed.
    """
    failure = kodo or pili
    if failure is None:
        return error
    if is_silence(failure):
        return failure.error
    said = Text("{problem}; Kodo's domains cannot be seen with these keys", problem=error.message)
    hint = Text('set kind = "kodo" if it is a source domain of Kodo')
    if kodo is None:
        said = Text(
            "{problem}; Pili's domains cannot be seen with these keys", problem=error.message
        )
        hint = failure.error.hint or Text('set kind = "pili" if it is a live domain of Pili')
    return TargetRejected(said, hint=or_else(error.hint, hint))


def with_way_out(error: DeployError) -> DeployError:
    """Say how to have the CDN's domains alone."""
    way_out = Text('set kind = "cdn" for this deployment to leave source domains out')
    return type(error)(error.message, hint=or_else(error.hint, way_out), retry=error.retry)


def without_live(error: DeployError) -> DeployError:
    """Say how to have the other domains alone."""
    way_out = Text('set kind = "cdn" or "kodo" for this deployment to leave live domains out')
    return type(error)(error.message, hint=or_else(error.hint, way_out), retry=error.retry)


def with_names(failure: QiniuFailure) -> DeployError:
    """Say how a domain goes on although its binding cannot be read."""
    if failure.is_denied:  # what tells no binding to these keys makes none for them either
        return failure.error
    hint = Text("name it under `domains` to have it bound all the same")
    return type(failure.error)(failure.error.message, hint=or_else(failure.error.hint, hint))


def without_sources(error: DeployError, kind: Kind) -> DeployError:
    """Say it, unless source domains are all that is meant."""
    return error if kind == KODO else with_way_out(error)


def bound_all_the_same(error: DeployError) -> DeployError:
    """Say what is done about a domain although its binding cannot be read."""
    said = Text(
        "source domains that the file names are bound all the same; their edges are the proof"
    )
    hint = said if error.hint is None else Text("{one}; {other}", one=said, other=error.hint)
    return type(error)(error.message, hint=hint, retry=error.retry)


def or_else(one: Text | None, other: Text) -> Text:
    """Give both ways out, where there is one already."""
    return other if one is None else Text("{one}; or {other}", one=one, other=other)


def may_be_left_out(look: Look, found: list[ObservedDomain], failure: QiniuFailure) -> bool:
    """Tell whether it does no harm that source or live domains cannot be listed: an outage of
    Kodo's or Pili's must not stop the CDN, and where there is nothing else, it must not pass for an
    empty account.
    """
    return look.kind == Kind.AUTO and (bool(found) or not is_silence(failure))


def is_silence(failure: QiniuFailure) -> bool:
    """Tell whether no sensible answer came."""
    return isinstance(failure.error, TargetUnavailable)


def must_be_served_here(kind: Kind) -> None:
    """Raise `TargetRejected` for a kind of domains that certferry does not deploy to yet."""
    if kind not in _KINDS:
        raise TargetRejected(
            Text('certferry does not deploy to domains of kind "{kind}" yet', kind=kind.value),
            hint=Text('set kind = "cdn", "kodo" or "pili", or leave it out'),
        )
