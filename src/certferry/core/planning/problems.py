"""The problems that delay or fail a rollout: a busy or stuck target, a change without effect, and
addresses that do not serve the certificate.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import short
from certferry.core.observed import observation
from certferry.core.planning.plan import Deploy
from certferry.core.reasons import ReasonCode, Usual, applying, in_minutes
from certferry.errors import DeployError, TargetBusy, TargetStuck, VerificationError
from certferry.text import Text

_CLOCKS = timedelta(minutes=1)
"""The largest expected difference between the clocks of a target and of this machine."""


def processing(target: str, since: datetime, usual: Usual | None) -> TargetBusy:
    """Return the problem of a target still carrying out a change."""
    hint = Text(
        "the change started at {since}. If it does not finish, ask the support of {target} to"
        " complete the domain's task"
    )
    minutes = {} if usual is None else in_minutes(usual)
    if minutes:
        hint = Text(
            "the change started at {since}; changes usually take {least} to {most} minutes,"
            " sometimes hours. If it does not finish, ask the support of {target} to complete the"
            " domain's task"
        )
    hint = hint.filled(target=target, since=since, **minutes)
    return TargetBusy(applying(target, usual), hint=hint)


def without_effect(
    deploy: Deploy, domain: observation.ObservedDomain, since: datetime
) -> DeployError:
    """Return the problem of an accepted change without a visible effect."""
    if deploy.reason.code is ReasonCode.SETTINGS_DRIFTED:
        message = Text(
            "the accepted change has not taken effect: {changes}",
            changes=observation.in_sentences(deploy.changes),
        )
        hint = Text(
            "the target accepted the change at {since}; the certificate is in force. The target"
            " may not offer the setting for the domain: set it in the target's console, ask the"
            " support, or remove the setting from the file",
            since=since,
        )
    elif domain.bound is None:
        message = Text("the accepted change has not taken effect; nothing is bound")
        hint = Text(
            "the target accepted the change at {since}. If the error persists, check the domain"
            " in the target's console, or ask the target's support",
            since=since,
        )
    else:
        bound = short(domain.bound)
        message = Text("the accepted change has not taken effect; {id} is bound", id=bound)
        hint = Text(
            "the target accepted the change at {since}. If another tool binds its certificate to"
            " the domain, stop the tool; then run `certferry sync` again",
            since=since,
        )
    return DeployError(message, hint=hint)


_OF_OWN_SERVER = Text(
    "delivered at {since}. Read the log of the server: a server with a wrong configuration goes on"
    " with the old certificate. Check that the server reads the delivered files, and that `serves`"
    " names the server's addresses"
)


def not_served(
    served: observation.Addresses, fingerprint: str, since: datetime, *, own: bool = False
) -> VerificationError:
    """Return the problem of a domain with only silent addresses, or with addresses that do not
    serve the certificate. `own`: the addresses are of an operator's server.
    """
    answered = [address for address in served if address.answered]
    if not answered:
        problems = list(dict.fromkeys(a.problem.message for a in served if a.problem is not None))
        hint = Text(
            "check that the domain's CNAME points at the CDN, and that the port and the"
            " resolvers under [verify] are right"
        )
        return VerificationError(
            Text("no address answers ({problems})", problems=problems), hint=hint
        )
    others = [a for a in answered if a.fingerprint != fingerprint or not a.valid]
    message = Text(
        "{count} of {all} addresses do not serve the certificate yet ({addresses})",
        count=len(others),
        all=len(answered),
        addresses=[_in_words(address, fingerprint) for address in others],
    )
    hint = Text(
        "bound since {since}; no old certificate is removed until every address serves the new"
        " one. If the error persists, ask the CDN's support about the addresses",
        since=since,
    )
    return VerificationError(message, hint=_OF_OWN_SERVER.filled(since=since) if own else hint)


def _in_words(address: observation.Served, fingerprint: str) -> Text:
    problem = address.problem
    if problem is None or address.fingerprint not in {
        None,
        fingerprint,
    }:  # another certificate is served
        return Text("{address}", address=address.place)
    return Text("{address}: {problem}", address=address.place, problem=problem.message)


def stuck_since(
    domain: observation.ObservedDomain, now: datetime, timeout: timedelta
) -> datetime | None:
    """Return when the stuck change at a domain began. A change is stuck if the change has been in
    progress for `timeout` or longer. Otherwise return `None`.
    """
    if domain.state is not observation.DomainState.PROCESSING:
        return None
    since = min((moment for moment in _starts(domain) if moment <= now), default=now)
    return since if now - since >= timeout else None


def _starts(domain: observation.ObservedDomain) -> Iterator[datetime]:
    last, reported = domain.last, None if domain.task is None else domain.task.since
    if last is None or last.verified_at is not None or last.failed_at is not None:
        if reported is not None:
            yield reported
        return
    yield last.asked_at
    # A reported time before certferry's change was accepted belongs to an earlier change.
    is_ours = last.accepted_at is None or (reported and reported >= last.accepted_at - _CLOCKS)
    if reported is not None and is_ours:
        yield reported


def stuck_error(
    target: str,
    domain: observation.ObservedDomain,
    since: datetime,
    now: datetime,
    *,
    served: observation.Addresses,
    fingerprint: str,
) -> TargetStuck:
    """Return the problem of a change in progress `since` too long, with a ticket for the target's
    support. The message says whether every address serves the certificate already.
    """
    message = Text(
        "{target} has not finished its change since {since}; some addresses do not serve the"
        " certificate"
    )
    if observation.is_served(served, fingerprint):
        message = Text(
            "{target} has not finished its change since {since}; every address already serves the"
            " certificate"
        )
    hint = Text(
        "certferry writes nothing to the domain until {target} has finished: send the ticket to"
        " the target's support (`certferry status` shows the ticket)",
        target=target,
    )
    ticket = tuple(_ticket(domain, since, now, served, fingerprint))
    return TargetStuck(message.filled(target=target, since=since), hint=hint, ticket=ticket)


def _ticket(
    domain: observation.ObservedDomain,
    since: datetime,
    now: datetime,
    served: observation.Addresses,
    fingerprint: str,
) -> Iterator[Text]:
    """Yield the lines of a ticket to the target's support. The lines hold no secret."""
    yield Text(
        "Hello, a change of the HTTPS certificate of {domain} has not finished for {time}. Please"
        " check and complete the task, or tell us why it is blocked.",
        domain=domain.domain,
        time=now - since,
    )
    yield Text("domain: {domain} ({kind})", domain=domain.domain, kind=domain.kind.value)
    yield Text("in progress since: {since}; now: {now}", since=since, now=now)
    task, last = domain.task, domain.last
    if task is not None:
        yield Text("state: {state}; operation: {operation}; task: {number}").filled(
            state=task.state, operation=task.operation or "—", number=task.number or "—"
        )
    if last is not None and last.request_id is not None:
        yield Text("request: {id}, accepted at {moment}", id=last.request_id, moment=last.asked_at)
    yield Text("bound certificate: {id}", id=domain.bound or "—")
    answered = [address for address in served if address.answered]
    if answered:
        yield Text("addresses with the new certificate: {count} of {all}").filled(
            count=sum(a.valid and a.fingerprint == fingerprint for a in answered), all=len(answered)
        )
