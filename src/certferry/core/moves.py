"""What to do about one rollout now: carry out its deployment, wait, or give up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.observed import DomainState, ObservedDomain, Served
from certferry.core.plan import Deploy, Rollout
from certferry.core.reasons import ReasonCode
from certferry.core.settings import in_sentences
from certferry.core.waiting import Waiting, wait_for
from certferry.errors import CertferryError, DeployError, TargetBusy, VerificationError
from certferry.text import Text

LAG = timedelta(minutes=1)
"""How long a target may go on telling of what was before a change that it accepted."""

Move = Deploy | Waiting | CertferryError


@dataclass(frozen=True, slots=True)
class Accepted:
    """A change that the target took in this run, and what it said of the domain before."""

    old_problem: CertferryError | None = None


def next_move(
    rollout: Rollout,
    domain: ObservedDomain,
    served: tuple[Served, ...],
    *,
    fingerprint: str,
    accepted: Accepted | None,
    since: datetime,
    now: datetime,
    timeout: timedelta,
) -> Move:
    """Choose the move.

    `fingerprint` is the certificate's that is to be served; `accepted` what the target took in
    this run; `since` when the certificate set out for this domain, or was first found missing
    there.
    """
    deadline = since + timeout
    if domain.state is DomainState.PROCESSING:
        return _until(deadline, _processing(since), since, now)
    if rollout.deploy is None:
        return _until(deadline, _not_served(served, fingerprint, since), since, now)
    if accepted is None:
        return rollout.deploy
    # Reads may lag behind writes (Qiniu fact sheet §5.1): what failed before is no news, and
    # nothing is asked for twice in one run.
    is_news = domain.problem != accepted.old_problem or now - since >= LAG
    if domain.state is DomainState.FAILED and is_news:
        return domain.problem or DeployError(Text("the target could not carry out the change"))
    return _until(deadline, _without_effect(rollout.deploy, domain, since), since, now)


def _until(deadline: datetime, error: CertferryError, since: datetime, now: datetime) -> Move:
    """Wait while there is time; afterwards it has failed."""
    return error if now >= deadline else wait_for(error.message, since, now, deadline)


def _processing(since: datetime) -> TargetBusy:
    return TargetBusy(
        Text("the target is carrying out a change"),
        hint=Text(
            "it has been at it since {since}; a change takes 8 to 15 minutes, sometimes hours. If"
            " it stays like this, ask the target's support to push the domain's task",
            since=since,
        ),
    )


def _without_effect(deploy: Deploy, domain: ObservedDomain, since: datetime) -> DeployError:
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
        Text("the accepted change has not taken effect; bound is {id}", id=domain.bound),
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


def _not_served(served: tuple[Served, ...], fingerprint: str, since: datetime) -> VerificationError:
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
    problems = list(dict.fromkeys(a.problem for a in served if a.problem is not None))
    return VerificationError(
        Text("no address answers ({problems})", problems=problems),
        hint=Text(
            "check that the domain's CNAME points at the CDN, and that the port and the resolvers"
            " under [verify] are right"
        ),
    )


def _in_words(address: Served, fingerprint: str) -> Text:
    serves_another = address.fingerprint not in {None, fingerprint}
    if address.problem is not None and not serves_another:
        return Text("{address}: {problem}", address=address.address, problem=address.problem)
    return Text("{address}", address=address.address)
