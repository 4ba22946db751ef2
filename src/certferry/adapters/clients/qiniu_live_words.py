"""What is said of live domains of Pili that cannot be served, or keep a certificate."""

from __future__ import annotations

from certferry.core.abbreviations import short
from certferry.errors import CopyGone, DeployError, TargetInUse, TargetRejected
from certferry.text import Text


def is_gone(domain: str, hub: str | None = None) -> DeployError:
    """Say that a domain, or its hub, was there and is not any more."""
    hint = Text(
        "it was removed at Qiniu; put it back in Qiniu's console (直播云), or take the domain"
        " out of `domains`"
    )
    if hub is None:
        return TargetRejected(
            Text("the live domain {domain} is gone from Pili", domain=domain), hint=hint
        )
    return TargetRejected(
        Text("the Pili hub {hub} is gone, and {domain} with it", hub=hub, domain=domain), hint=hint
    )


def is_disabled(domain: str) -> DeployError:
    """Say that a domain is switched off."""
    return TargetRejected(
        Text("{domain} is disabled at Pili", domain=domain),
        hint=Text("enable it in Qiniu's console (直播云), or take it out of `domains`"),
    )


def speaks_rtmp(domain: str) -> Text:
    """Say why a domain that was not named gets no certificate."""
    return Text("{domain} is for RTMP, and has no HTTPS", domain=domain)


def no_address() -> DeployError:
    """Say that nothing is known of where Pili is."""
    return TargetRejected(
        Text("no address of Pili is known for this account, whose `api` is another than Qiniu's"),
        hint=Text("set `pili` of the account as well"),
    )


def copy_is_gone(remote_id: str) -> DeployError:
    """Say that there is no certificate to bind by name."""
    return CopyGone(
        Text("there is no certificate {id} at Qiniu any more", id=short(remote_id)),
        hint=Text("the certificate was removed at Qiniu; the next run uploads it again"),
    )


def uses(domain: str, label: str) -> DeployError:
    """Say which live domain keeps a certificate."""
    return TargetInUse(
        Text("the live domain {domain} of Pili still uses {label}", domain=domain, label=label),
        hint=Text("bind the live domain to another certificate; a later run tries again"),
    )


def hides_binding(domain: str) -> DeployError:
    """Say that a domain has a certificate, and Pili does not tell which."""
    return TargetRejected(
        Text("Pili does not tell the certificate of {domain}", domain=domain),
        hint=Text(
            "look at the domain in Qiniu's console (直播云), and remove what is unused there"
        ),
    )


def may_be_used(label: str, problem: DeployError) -> DeployError:
    """Say why a certificate of another owner stays."""
    return TargetInUse(
        Text(
            "whether a live domain of Pili uses {label} cannot be seen: {problem}",
            label=label,
            problem=problem.message,
        ),
        hint=problem.hint,
    )
