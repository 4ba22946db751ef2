"""Carry out an order from the first request to the certificate's chain. An order that an earlier
run left unfinished is continued.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from msgspec import Struct

from certferry import errors
from certferry.adapters.acme import csr
from certferry.adapters.acme.acme_client import INVALID, PENDING, READY, VALID, Client, Order
from certferry.adapters.acme.dns01 import OrderContext, Solver
from certferry.adapters.acme.network import IssuerSettings, Polling
from certferry.adapters.acme.problems import Refused, not_acme, refused_order
from certferry.core.certificates import pem
from certferry.core.certificates.certificate import CertificateBundle, same_names
from certferry.core.certificates.chain import must_be_as_ordered, rejected
from certferry.core.certificates.names import base_name
from certferry.core.redaction import Secret
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import AcmeOrder, Lease
from certferry.text import Text
from certferry.values import replace

MOST_CHAINS = 10  # besides the first; Let's Encrypt offers two or three
ISSUANCE = timedelta(minutes=5)
"""How long the CA may take from proof to certificate; seconds are usual."""

_NOT_REPLACED = {"alreadyReplaced", "malformed", "unauthorized"}
"""Kinds of refusals of an order's `replaces`. RFC 9773 §5 defines `alreadyReplaced`, Let's Encrypt
sends the others too."""

_UNKNOWN_TO_PEBBLE = "could not find an order for the given certificate"
"""Pebble 2.6's words for a refused `replaces`; the kind, `serverInternal`, has other causes too."""

_log = logging.getLogger(__name__)


class Ordering(Struct, frozen=True):
    """Carries out a lineage's order at a CA."""

    #: The settings for the CA.
    settings: IssuerSettings
    #: The CA, with requests signed for the account.
    client: Client
    #: The certificate to order.
    request: IssueRequest
    #: The lease of the lineage.
    lease: Lease
    #: The DNS account, the state and the clock.
    context: OrderContext
    #: Called before a new order; raises `OrderFailed` if CAA records forbid the order.
    must_be_allowed: Callable[[], None]

    def fulfil(self) -> CertificateBundle:
        """Return the certificate: finish an earlier run's order, or make a new order.

        Raises `IssuanceError` (`CertificateRejected` for a certificate unlike the order), `Refused`
        and `DnsError`.
        """
        left_over = self._left_over()
        if left_over is not None:
            # A stopped run may have asked the CA to validate, and then removed the challenge
            # records before the CA read the records. That order fails whatever DNS shows now.
            # Therefore a failed proof of the earlier order leads to a new order.
            with contextlib.suppress(errors.AuthorizationFailed):
                bundle = self._carried_out(*left_over)
                if bundle.certificate.not_after > self.context.now():
                    must_be_as_ordered(bundle, self.request.names, self.context.now())
                    return bundle
                # The CA issued a short-lived certificate days ago, and the certificate has expired.
                self._forget()
        bundle = self._carried_out(*self._begin())
        must_be_as_ordered(bundle, self.request.names, self.context.now())
        return bundle

    def _left_over(self) -> tuple[AcmeOrder, Order] | None:
        """Return an earlier run's order twice: as stored, and as shown by the CA. Return `None`
        without a stored order. If the stored order no longer leads to the declared certificate,
        delete the order from the state and return `None`.
        """
        kept = self.context.state.order(self.request.lineage)
        if kept is None:
            return None
        order = self._current(kept) if self._is_as_requested(kept) else None
        if order is None or not self._can_go_on(order):
            self.context.state.drop_order(self.lease)
            return None
        self.context.report(Text("resuming the order of {moment}", moment=kept.created_at))
        return kept, order

    def _is_as_requested(self, kept: AcmeOrder) -> bool:
        return (
            kept.directory == self.settings.directory
            and self.client.has(kept.url)
            and same_names(kept.names, self.request.names)
            and csr.is_of_type(kept.key_pem, self.request.key_type)
        )

    def _current(self, kept: AcmeOrder) -> Order | None:
        try:
            return self.client.order(kept.url)
        except Refused as refused:
            if refused.is_final:
                return None
            raise

    def _can_go_on(self, order: Order) -> bool:
        is_over = order.expires is not None and order.expires <= self.context.now()
        profiles = self.request.profiles
        is_other = bool(profiles) and order.profile not in {None, *profiles}
        return order.status != INVALID and not is_over and not is_other

    def _begin(self) -> tuple[AcmeOrder, Order]:
        self.context.report(Text("ordering a certificate"))
        profile = self._profile()
        self.must_be_allowed()
        key_pem = self._key()
        order = self._new_order(profile)
        # Order and key are stored before the CA can issue, so the next run can finish the order.
        kept = AcmeOrder(
            lineage=self.request.lineage,
            directory=self.settings.directory,
            url=order.url,
            names=self.request.names,
            key_pem=key_pem,
            created_at=self.context.now(),
            key_type=self.request.key_type,
        )
        self.context.state.save_order(self.lease, kept)
        return kept, order

    def _claim(self, *, exempt: bool) -> None:
        """If the CA's limits are known, count the order against the limits, unless the order is
        `exempt`. Raises `OrderPostponed` if the order must wait.
        """
        settings, context = self.settings, self.context
        if settings.limits is not None:
            wanted = replace(self.request.wanted, exempt=exempt)
            context.state.claim_order(
                self.lease, settings.directory, wanted, settings.limits, context.now()
            )

    def _new_order(self, profile: str | None) -> Order:
        """Make an order. If possible, the order names the old certificate in `replaces`, because
        Let's Encrypt then waives its rate limits. If the CA refuses `replaces`, order without.
        """
        names, replaced = self.request.names, self.request.replaced_pem
        takes_replaces = self.client.renewal_info is not None
        replaces = csr.certificate_id(replaced) if replaced is not None and takes_replaces else None
        self._claim(exempt=replaces is not None)
        if replaces is not None:
            try:
                return self.client.begin_order(names, profile, replaces)
            except Refused as refused:
                if not _is_for_what_is_replaced(refused):
                    raise
            self._claim(exempt=False)
        return self.client.begin_order(names, profile)

    def _profile(self) -> str | None:
        """Return the first desired profile offered by the CA; `None` leaves the choice to the CA.
        Raises `OrderFailed` if the CA offers no desired profile and the settings demand a profile.
        """
        desired, offered = self.request.profiles, self.client.profiles
        chosen = next((profile for profile in desired if profile in offered), None)
        if chosen is None and desired and self.settings.must_have_profile:
            raise _no_such_profile(desired, offered)
        return chosen

    def _key(self) -> Secret:
        """Return the key to reuse if its type is the requested type, or else a new key."""
        before, key_type = self.request.reused_key, self.request.key_type
        if before is not None and csr.is_of_type(before, key_type):
            return before
        return csr.new_key(key_type)

    def _carried_out(self, kept: AcmeOrder, order: Order) -> CertificateBundle:
        """Return an order's certificate. If the order can only fail, delete the stored order, and
        raise the error.
        """
        try:
            return self._carry_out(kept, order)
        except (errors.AuthorizationFailed, errors.OrderFailed) as failure:
            if isinstance(failure, errors.AuthorizationFailed):
                ordered = {base_name(name) for name in self.request.names}
                if failed := tuple(name for name in failure.names if base_name(name) in ordered):
                    state, directory = self.context.state, self.settings.directory
                    state.save_failed_proofs(directory, failed, self.context.now())
            self._forget()
            raise
        except Refused as refused:
            if refused.is_final:
                self._forget()
            raise

    def _carry_out(self, kept: AcmeOrder, order: Order) -> CertificateBundle:
        if order.status == PENDING:
            Solver(self.client, self.context).prove(order.authorizations, self.request.names)
            order = self.client.order(order.url)
        url = self._certificate_url(kept, order)
        fullchain_pem = chosen_chain(self.client, url, self.settings.preferred_chain)
        try:
            chain = pem.parse_chain(fullchain_pem)
            if len(chain) == 1 and self.settings.ca_bundle is not None:
                chain = pem.with_issuer(chain, self.settings.ca_bundle.read_bytes())
        except errors.CertificateError as problem:
            raise not_acme(str(problem)) from problem
        try:
            return pem.bundle_of(chain, pem.parse_key(kept.key_pem))
        except errors.CertificateError as problem:
            raise rejected(problem.message) from problem

    def _certificate_url(self, kept: AcmeOrder, order: Order) -> str:
        activity = Text("waiting for the CA to issue the certificate")
        deadline = self.context.now() + ISSUANCE
        self.context.report(activity, deadline=deadline)
        polling = Polling(activity, deadline, self.context.pause, self.context.now)
        while True:
            if order.status == READY:
                order = self._finalize(kept, order)
            if order.status == INVALID:
                raise self._failure(order)
            if order.status == VALID and order.certificate is not None:
                return order.certificate
            polling.rest(order.retry_after)
            order = self.client.order(order.url)

    def _finalize(self, kept: AcmeOrder, order: Order) -> Order:
        try:
            return self.client.finalize(order, csr.make_csr(self.request.names, kept.key_pem))
        except Refused as refused:
            # If the first reply was lost, the CA has the CSR already and refuses (RFC 8555 §7.4).
            if refused.kind == "orderNotReady":
                return self.client.order(order.url)
            raise

    def _failure(self, order: Order) -> errors.IssuanceError:
        self._forget()
        if order.problem is None:
            message = Text("the CA marked the order as failed without a reason")
            return errors.OrderFailed(message, retry=errors.Retry.LATER)
        return refused_order(order.problem)

    def _forget(self) -> None:
        # A left-over row costs one request; an error here would hide why the order failed.
        with contextlib.suppress(errors.StateError, errors.LeaseLost):
            self.context.state.drop_order(self.lease)


def _is_for_what_is_replaced(refused: Refused) -> bool:
    detail = "" if refused.problem is None else refused.problem.detail or ""
    return refused.kind in _NOT_REPLACED or _UNKNOWN_TO_PEBBLE in detail


def _no_such_profile(desired: Sequence[str], offered: Sequence[str]) -> errors.OrderFailed:
    if not offered:
        return errors.OrderFailed(
            Text("the CA lists no profiles; asked for: {profiles}", profiles=desired),
            hint=Text("remove `profile` from [acme]"),
        )
    return errors.OrderFailed(
        Text("the CA has no profile {profile}", profile=Text("{names}", names=desired)),
        hint=Text("set `profile` under [acme] to one of: {profiles}", profiles=offered),
    )


def chosen_chain(client: Client, url: str, root: str | None) -> str:
    """Download the chain to the root with common name `root`, or else the CA's first chain."""
    offered: dict[str, str] = {}
    for chain in client.chains(url, most=MOST_CHAINS):
        topmost = _topmost_issuer(chain)
        if root in {None, topmost}:
            return chain
        offered.setdefault(topmost, chain)
    message = Text("the CA offers no chain to {root} (`preferred_chain`), only to {roots}")
    _log.warning(message.filled(root=root, roots=list(offered)))
    return next(iter(offered.values()))


def _topmost_issuer(chain: str) -> str:
    """Return the issuer's common name of a chain's last certificate; empty if unreadable."""
    try:
        return pem.common_name(pem.parse_certificates(chain)[-1].issuer)
    except errors.CertificateError:
        return ""
