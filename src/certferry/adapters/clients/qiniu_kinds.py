"""What is said of a domain that was taken for one of the other half of Qiniu, and how the rest goes
on where one half cannot be read.
"""

from __future__ import annotations

from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.core.desired import Kind
from certferry.core.observed import ObservedDomain
from certferry.errors import DeployError, TargetRejected, TargetUnavailable
from certferry.ports.target import Look
from certferry.text import Text

KODO = Kind("kodo")
"""A source domain of a bucket."""

_KINDS = frozenset({Kind.AUTO, Kind.CDN, KODO})


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


def is_nothing(domain: str) -> DeployError:
    """Say that no bucket has a domain that was taken for a source domain."""
    return TargetRejected(
        Text("{domain} is no source domain of any Kodo bucket of this account", domain=domain),
        hint=Text("add it to a bucket in Qiniu's console, or correct `domains`"),
    )


def with_way_out(error: DeployError) -> DeployError:
    """Say how to have the CDN's domains alone."""
    way_out = Text('set kind = "cdn" for this deployment to leave source domains out')
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
    """Tell whether it does no harm that source domains cannot be listed: an outage of Kodo's must
    not stop the CDN, and where there is nothing else, it must not pass for an empty account.
    """
    return look.kind != KODO and (bool(found) or not is_silence(failure))


def is_silence(failure: QiniuFailure) -> bool:
    """Tell whether no sensible answer came."""
    return isinstance(failure.error, TargetUnavailable)


def must_be_served_here(kind: Kind) -> None:
    """Raise `TargetRejected` for a kind of domains that certferry does not deploy to yet."""
    if kind not in _KINDS:
        raise TargetRejected(
            Text('certferry does not deploy to domains of kind "{kind}" yet', kind=kind.value),
            hint=Text('set kind = "cdn" or "kodo", or leave it out'),
        )
