"""What is said of a domain that was taken for one of the other half of Qiniu."""

from __future__ import annotations

from certferry.errors import DeployError, TargetRejected
from certferry.text import Text


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
