"""The errors about a certificate that a target has accepted, and that is not in force or served."""

from __future__ import annotations

from datetime import datetime

from certferry.core.abbreviations import short
from certferry.core.https_changes import in_sentences
from certferry.core.observed import ObservedDomain, Served
from certferry.core.progress import Usual, in_minutes
from certferry.core.reasons import ReasonCode
from certferry.core.steps import Deploy
from certferry.core.waiting import applying
from certferry.errors import DeployError, TargetBusy, VerificationError
from certferry.text import Text


def processing(target: str, since: datetime, usual: Usual | None) -> TargetBusy:
    """Say that the target is at the change."""
    hint = Text(
        "the change began at {since}. If it does not end, ask the support of {target} to push the"
        " domain's task",
        target=target,
        since=since,
    )
    if usual is not None:
        hint = Text(
            "the change began at {since}; it usually takes {least} to {most} minutes, sometimes"
            " hours. If it does not end, ask the support of {target} to push the domain's task",
            target=target,
            since=since,
            **in_minutes(usual),
        )
    return TargetBusy(applying(target, usual), hint=hint)


def without_effect(deploy: Deploy, domain: ObservedDomain, since: datetime) -> DeployError:
    """Say that what the target accepted is not to be seen there."""
    if deploy.reason.code is ReasonCode.SETTINGS_DRIFTED:
        return _settings_ignored(deploy, since)
    if domain.bound is None:
        return DeployError(
            Text("the accepted change has not taken effect; nothing is bound"),
            hint=Text(
                "it was accepted at {since}. If it stays like this, look at the domain in the"
                " target's console, or ask its support",
                since=since,
            ),
        )
    return DeployError(
        Text("the accepted change has not taken effect; bound is {id}", id=short(domain.bound)),
        hint=Text(
            "it was accepted at {since}. If another tool binds its certificate to this domain, stop"
            " it there; then run `certferry sync` again",
            since=since,
        ),
    )


def _settings_ignored(deploy: Deploy, since: datetime) -> DeployError:
    return DeployError(
        Text(
            "the accepted change has not taken effect: {changes}",
            changes=in_sentences(deploy.changes),
        ),
        hint=Text(
            "it was accepted at {since}; the certificate is in force. The target may not offer this"
            " for the domain: set it in its console or ask its support, or take it out of the file",
            since=since,
        ),
    )


def not_served(served: tuple[Served, ...], fingerprint: str, since: datetime) -> VerificationError:
    """Say which addresses do not serve the certificate."""
    answered = [address for address in served if address.answered]
    others = [a for a in answered if a.fingerprint != fingerprint or not a.valid]
    if not answered:
        return _silent(served)
    return VerificationError(
        Text(
            "{count} of {all} addresses do not serve it yet ({addresses})",
            count=len(others),
            all=len(answered),
            addresses=[_in_words(address, fingerprint) for address in others],
        ),
        hint=Text(
            "bound since {since}; nothing is retired until every address serves it. If it stays"
            " like this, ask the CDN's support about these addresses",
            since=since,
        ),
    )


def _silent(served: tuple[Served, ...]) -> VerificationError:
    problems = list(dict.fromkeys(a.problem.message for a in served if a.problem is not None))
    return VerificationError(
        Text("no address answers ({problems})", problems=problems),
        hint=Text(
            "check that the domain's CNAME points at the CDN, and that the port and the resolvers"
            " under [verify] are right"
        ),
    )


def _in_words(address: Served, fingerprint: str) -> Text:
    problem = address.problem
    if problem is None or address.fingerprint not in {None, fingerprint}:  # it serves another
        return Text("{address}", address=address.address)
    return Text("{address}: {problem}", address=address.address, problem=problem.message)
