"""ACME requests: `Client` sends the requests, and reads the answers into plain values.

Sections without an RFC number are those of RFC 8555.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import requests
from acme import challenges, jws, messages
from acme.client import ClientV2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from josepy.errors import Error as JoseError
from josepy.json_util import field
from josepy.jwa import ES256, ES384, RS256
from josepy.jwk import JWKEC, JWKRSA
from msgspec import Struct
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from certferry.adapters.acme.network import IssuerSettings, Network, must_be_private, opened_network
from certferry.adapters.acme.problems import Refused, moment_of, not_acme
from certferry.core.certificates.certificate import RenewalInfo, RenewalWindow
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.certificates.names import MAX_NAME, WILDCARD
from certferry.core.dns_persist import METHOD, Offer
from certferry.core.redaction import quoted
from certferry.errors import CaUnavailable, CertificateError
from certferry.ports.issuer import AccountFacts
from certferry.ports.progress import Pause
from certferry.text import Text

PENDING, READY, VALID, INVALID = "pending", "ready", "valid", "invalid"
"""States of orders and authorizations that decide the next request (§7.1.6)."""

WITHOUT_SENSE = (
    JoseError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Errors raised by reading a malformed answer: each library fails in a different way."""

MOST_ISSUERS = 10
"""The most issuer names in one list (draft-ietf-acme-dns-persist-02 §3.1)."""

_LONGEST_PAGE = 300  # characters of an address for an operator to open
_PORTS = {"https": 443, "http": 80}  # RFC 9110 §4.2
_RESOURCES = ("newNonce", "newAccount", "newOrder")
_P384 = 384  # bits
_NAME = re.compile(r"(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)")
_PREFIX = re.compile(r"[\x21\x23-\x3a\x3d\x3f-\x7e]+")
"""The form of `accountHashPrefix`: ASCII without spaces, quotes, `<`, `>`, and without `;`, which
would end the parameter of a record."""

_T = TypeVar("_T")


class Order(Struct, frozen=True):
    """An order as shown by the CA (§7.1.3)."""

    #: URL of the order.
    url: str
    #: `pending`, `ready`, `processing`, `valid` or `invalid`.
    status: str
    #: URLs of the authorizations.
    authorizations: tuple[str, ...]
    #: URL that takes the CSR.
    finalize: str
    #: URL of the certificate, once issued.
    certificate: str | None
    #: When the order ends, aware; `None` if the CA sets no end.
    expires: datetime | None
    #: The profile of the certificate; `None` if the CA names no profile.
    profile: str | None
    #: Why the order is invalid.
    problem: messages.Error | None
    #: The Retry-After header, unparsed.
    retry_after: str | None


class Challenge(Struct, frozen=True):
    """A challenge of an authorization, with the answer for the CA."""

    #: URL that takes the answer.
    url: str
    #: `pending`, `processing`, `valid` or `invalid`.
    status: str
    #: The TXT value to write; empty for dns-persist-01.
    txt_value: str
    #: The body of the request that asks for validation.
    answer: challenges.KeyAuthorizationChallengeResponse


class Authorization(Struct, frozen=True):
    """An authorization: the proof of one name (§7.1.4)."""

    #: URL of the authorization.
    url: str
    #: The name, with `*.` for a wildcard.
    name: str
    #: `pending`, `valid`, `invalid`, `deactivated`, `expired` or `revoked`.
    status: str
    #: The DNS-01 challenge, if offered.
    challenge: Challenge | None
    #: The dns-persist-01 challenge, if offered for the issuers in the directory.
    standing: Challenge | None
    #: Why a challenge failed.
    problem: messages.Error | None
    #: The Retry-After header, unparsed.
    retry_after: str | None


class _NewOrder(messages.NewOrder):
    """A new order with `replaces` (RFC 9773 §5), which the library lacks."""

    replaces: str = field("replaces", omitempty=True)


class Client(ClientV2):
    """Requests to a CA, signed for an account after `sign_in`.

    Every method that sends a request raises `Refused`, the errors of `Network`, and `CaUnavailable`
    for a malformed answer or an address at a host outside `origins`.
    """

    #: Host and port of the directory's URL, and of each URL in the directory.
    origins: frozenset[str] = frozenset()
    #: The directory's offer of dns-persist-01.
    offer: Offer | None = None
    #: How far the CA's clock is ahead of this host's; `None` if unknown.
    ahead: timedelta | None = None

    @classmethod
    def at(cls, directory_url: str, network: Network) -> Self:
        """Read the directory at a URL, and return the client. Callers read the directory anew for
        each order, because the CA may change addresses at any time.
        """
        response = network.get(directory_url)
        client = cls(_read(_directory, response), network)
        addresses = client.directory.to_partial_json().values()
        client.origins = _origins_of([directory_url, *addresses])
        client.offer = _read(offer_in, response)
        client.ahead = network.ahead_of_us(response)
        return client

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles listed by the directory; empty if the directory lists none."""
        return tuple(self.directory.meta.profiles or ())

    @property
    def identities(self) -> frozenset[str]:
        """The domain names by which CAA records name the CA (§9.7.6), in lower case."""
        listed: object = self.directory.meta.caa_identities
        names = listed if isinstance(listed, list | tuple) else ()
        return frozenset(str(name).lower() for name in names)

    @property
    def renewal_info(self) -> str | None:
        """The directory's address of renewal information (RFC 9773 §3), or `None`."""
        address = self.directory.to_partial_json().get("renewalInfo")
        return address if isinstance(address, str) else None

    def sign_in(self, key: JWKEC, account_url: str) -> None:
        """Sign all later requests for this account."""
        self.net.key = key
        self.net.account = messages.RegistrationResource(
            body=messages.Registration(), uri=account_url
        )

    def register(
        self, key: JWKEC, email: str | None, binding: tuple[str, str] | None = None
    ) -> str:
        """Return the URL of the key's account; register the account first if needed (§7.3).

        `binding` is the id and the key of an external account (§7.3.4).
        """
        bound = binding and messages.ExternalAccountBinding.from_data(
            key.public_key(), *binding, self.directory
        )
        return self._new_account(
            key,
            messages.NewRegistration.from_data(
                email=email, terms_of_service_agreed=True, external_account_binding=bound
            ),
        )

    def knows(self, key: JWKEC) -> bool:
        """Ask whether the key has a valid account (§7.3.1)."""
        try:
            self._new_account(key, messages.NewRegistration(only_return_existing=True))
        except Refused as refused:
            if refused.kind in {"accountDoesNotExist", "unauthorized"}:
                return False
            raise
        return True

    def account(self, url: str) -> AccountFacts:
        """Return the facts of the account at `url`, as shown by the CA (§7.3.2)."""
        return _read(partial(_facts, url), self._post_as_get(url))

    def change_key(self, url: str, old: JWKEC, new: JWKEC) -> None:
        """Change the account's key.

        The new key signs the inner request, the old key the outer request (§7.3.5).
        """
        where = self._resource("keyChange")
        change = {"account": url, "oldKey": old.public_key().to_partial_json()}
        inner = jws.JWS.sign(json.dumps(change).encode(), key=new, alg=ES256, nonce=None, url=where)
        self.sign_in(old, url)
        self._post(where, inner)

    def deactivate(self, url: str) -> None:
        """Deactivate the account (§7.3.6)."""
        self._post(url, messages.UpdateRegistration(status=messages.STATUS_DEACTIVATED))

    def revoke_certificate(self, leaf: x509.Certificate, reason: RevocationReason) -> None:
        """Revoke a certificate (§7.6), after `sign_in` or `sign_with`."""
        revocation = messages.Revocation(certificate=leaf, reason=reason.code)
        self._post(self._resource("revokeCert"), revocation)

    def sign_with(self, key: PrivateKeyTypes) -> None:
        """Sign all later requests with a certificate's key (§7.6). Raises `CertificateError`."""
        if isinstance(key, rsa.RSAPrivateKey):
            self.net.key, self.net.alg = JWKRSA(key=key), RS256
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            self.net.key = JWKEC(key=key)
            self.net.alg = ES384 if key.curve.key_size == _P384 else ES256
        else:
            raise CertificateError(Text("requests to a CA cannot be signed with this kind of key"))
        self.net.account = None

    def begin_order(
        self, names: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        """Order a certificate (§7.4); `replaces` is the old certificate's id (RFC 9773 §5)."""
        identifiers = [messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=n) for n in names]
        order = _NewOrder(identifiers=identifiers, profile=profile or "", replaces=replaces or "")
        response = self._post(self.directory["newOrder"], order)
        url = _location(response)
        self._must_be_here(url)  # before the order is stored
        return _read(partial(_order, url, response), response)

    def has(self, url: str) -> bool:
        """Return whether a URL is at a host of the CA. Text that is not a URL names no host, so the
        answer is `True`.
        """
        return _origins_of([url]) <= self.origins

    def order(self, url: str) -> Order:
        """Read an order (§7.4)."""
        response = self._post_as_get(url)
        return _read(partial(_order, url, response), response)

    def authorization(self, url: str) -> Authorization:
        """Read an authorization (§7.5)."""
        response = self._post_as_get(url)
        return _read(partial(self._authorization, url, response), response)

    def answer(self, challenge: Challenge) -> None:
        """Ask the CA to validate a challenge (§7.5.1)."""
        self._post(challenge.url, challenge.answer)

    def finalize(self, order: Order, csr: x509.CertificateSigningRequest) -> Order:
        """Send the CSR for a ready order (§7.4)."""
        response = self._post(order.finalize, messages.CertificateRequest(csr=csr))
        return _read(partial(_order, order.url, response), response)

    def chains(self, url: str, *, most: int) -> Iterator[str]:
        """Yield a certificate's chain as PEM, then up to `most` alternatives (§7.4.2)."""
        response = self._post_as_get(url)
        yield response.text
        for other in self._get_links(response, "alternate")[:most]:
            yield self._post_as_get(other).text

    def _post(self, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self._must_be_here(url)
        return super()._post(url, *args, **kwargs)

    def _must_be_here(self, url: str) -> None:
        """Raise `CaUnavailable` for a URL at a host outside `origins`, or without https. A tampered
        order could otherwise send requests to an internal service.
        """
        must_be_private(url)
        for elsewhere in _origins_of([url]) - self.origins:
            hint = Text(
                "nothing was sent to this host: the CA's directory is at {hosts}; if the "
                "error persists, ask the CA"
            )
            raise CaUnavailable(
                Text("the CA's answer points to another host: {host}", host=quoted(elsewhere)),
                hint=hint.filled(hosts=sorted(self.origins)),
            )

    def _resource(self, name: str) -> str:
        """Return the address of one of the directory's resources (§7.1.1)."""
        try:
            return str(self.directory[name])
        except KeyError:
            raise not_acme(Text("the CA's directory has no {resource}", resource=name)) from None

    def _new_account(self, key: JWKEC, registration: messages.NewRegistration) -> str:
        self.net.key, self.net.account = key, None  # signed by the key itself (§6.2)
        return _location(self._post(self.directory["newAccount"], registration))

    def _authorization(
        self, url: str, response: requests.Response, document: Mapping[str, Any]
    ) -> Authorization:
        body = messages.Authorization.from_json(document)
        by_dns = [c for c in body.challenges or () if isinstance(c.chall, challenges.DNS01)]
        standing = next(filter(self._is_standing, document.get("challenges", ())), None)
        return Authorization(
            url=url,
            name=(WILDCARD if body.wildcard else "") + body.identifier.value,
            status=body.status.name,
            challenge=self._challenge(by_dns[0]) if by_dns else None,
            standing=None if standing is None else _standing(standing),
            problem=next((c.error for c in body.challenges or () if c.error), None),
            retry_after=response.headers.get("Retry-After"),
        )

    def _is_standing(self, challenge: Mapping[str, Any]) -> bool:
        return self.offer is not None and is_for(challenge, self.offer, self.identities)

    def _challenge(self, body: messages.ChallengeBody) -> Challenge:
        _must_be_text(body.uri)
        answer, txt_value = body.chall.response_and_validation(self.net.key)
        return Challenge(body.uri, body.status.name, txt_value, answer)


@contextlib.contextmanager
def opened(settings: IssuerSettings, pause: Pause, now: Callable[[], datetime]) -> Iterator[Client]:
    """Read a CA's directory, yield the client for a `with` block, and close the connections
    afterwards. Errors of the ACME library, also in the block, are raised as `IssuanceError`.
    """
    with opened_network(settings, pause, now) as network:
        yield Client.at(settings.directory, network)


def _origins_of(values: Iterable[object]) -> frozenset[str]:
    """Return host and port of every address among `values`."""
    origins = set()
    for value in values:
        # The values come from JSON: a value of another type is skipped.
        with contextlib.suppress(LocationParseError, TypeError, AttributeError):
            parts = parse_url(value)  # type: ignore[arg-type]  # see above
            if parts.scheme in _PORTS and parts.host:
                origins.add(f"{parts.host.lower()}:{parts.port or _PORTS[parts.scheme]}")
    return frozenset(origins)


# The functions below read dns-persist-01 strictly by draft-ietf-acme-dns-persist-02 §3. An offer in
# an older form (Google Trust Services, 2026-09) does not count, because that form needs other
# records.


def offer_in(directory: Any) -> Offer | None:
    """Return a directory's offer of dns-persist-01.

    Return `None` unless the offer has the form of draft -02 (docs/facts/letsencrypt.md §4.2).
    """
    meta = directory.get("meta") if isinstance(directory, dict) else None
    if not isinstance(meta, dict):
        return None
    issuers, prefix = _issuers(meta.get("issuerDomainNames")), meta.get("accountHashPrefix")
    if not issuers or not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        return None
    try:
        is_address = bool(urlsplit(prefix).scheme)
    except ValueError:
        return None
    return Offer(issuers, prefix) if is_address else None


def is_for(challenge: Mapping[str, Any], offer: Offer, identities: Collection[str]) -> bool:
    """Return whether a challenge is of dns-persist-01, and lists every issuer of the offer.

    If the CA publishes its names for CAA records, the challenge may list only these names (§3.2).
    """
    if challenge.get("type") != METHOD:
        return False
    taken = set(_issuers(challenge.get("issuerDomainNames")))
    own = {identity.rstrip(".") for identity in identities}
    return set(offer.issuers) <= taken and (not own or taken <= own)


def _issuers(listed: object) -> tuple[str, ...]:
    """Read a list of names; return an empty tuple if any name is malformed (§3.1)."""
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_ISSUERS:
        return ()
    names = [name for name in listed if isinstance(name, str) and len(name) <= MAX_NAME]
    return tuple(names) if all(map(_NAME.fullmatch, names)) and names == listed else ()


def _standing(challenge: Mapping[str, Any]) -> Challenge:
    url, status = challenge["url"], challenge.get("status", PENDING)
    _must_be_text(url, status)
    # The CA expects the body `{}`. The library leaves the key authorization out of this answer, and
    # so sends `{}`. For an answer without any field, the library would send an empty body instead.
    return Challenge(url, status, "", challenges.DNS01Response(key_authorization=""))


def read_directory(settings: IssuerSettings, pause: Pause, now: Callable[[], datetime]) -> Client:
    """Read a CA's directory, and return the client for the directory's facts. The connections are
    closed already. Raises `IssuanceError`.
    """
    with opened(settings, pause, now) as client:
        return client


def _directory(document: dict[str, Any]) -> messages.Directory:
    _must_be_text(*(document[name] for name in _RESOURCES))
    return messages.Directory.from_json(document)


def _facts(url: str, document: Mapping[str, Any]) -> AccountFacts:
    status, contacts = document["status"], document.get("contact", [])
    _must_be_text(status, *contacts)
    return AccountFacts(url, status, tuple(contacts))


def _order(url: str, response: requests.Response, document: Mapping[str, Any]) -> Order:
    body = messages.Order.from_json(document)
    _must_be_text(body.finalize, *(body.authorizations or ()), body.certificate or "")
    expires = body.expires
    if expires is not None and expires.tzinfo is None:  # RFC 3339 demands a zone
        expires = expires.replace(tzinfo=UTC)
    return Order(
        url=url,
        status=body.status.name,
        authorizations=tuple(body.authorizations or ()),
        finalize=body.finalize,
        certificate=body.certificate,
        expires=expires,
        profile=body.profile,
        problem=body.error,
        retry_after=response.headers.get("Retry-After"),
    )


def _must_be_text(*values: object) -> None:
    """Raise `TypeError` for a value other than text; the library would accept the value (§7.1)."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError(str(values))


def _location(response: requests.Response) -> str:
    if "Location" not in response.headers:
        raise not_acme(Text("the answer has no Location header"))
    return response.headers["Location"]


def _read(parse: Callable[[Any], _T], response: requests.Response) -> _T:
    """Read an answer. Raises `CaUnavailable` for an answer that breaks RFC 8555."""
    try:
        return parse(_without_nulls(response.json()))
    except WITHOUT_SENSE as problem:
        raise not_acme(quoted(f"{type(problem).__name__}: {problem}")) from problem


def _without_nulls(document: Any) -> Any:
    """Leave out null fields: the library refuses null in place of an absent optional field."""
    if isinstance(document, dict):
        return {name: _without_nulls(v) for name, v in document.items() if v is not None}
    if isinstance(document, list):
        return [_without_nulls(item) for item in document]
    return document


def ask_renewal_info(
    network: Network, resource: str, identifier: str, now: Callable[[], datetime]
) -> RenewalInfo:
    """Ask the CA at the URL `resource` when to renew a certificate. Return the window of time (RFC
    9773 §4.2), and after how long the CA wants to be asked again. Return an empty `RenewalInfo` if
    the CA refuses for good.

    Raises `CaUnavailable` for a malformed answer, and the errors of `Network.get`.
    """
    try:
        response = network.get(f"{resource.rstrip('/')}/{identifier}")
    except Refused as refused:
        if refused.is_final and refused.status != HTTPStatus.TOO_MANY_REQUESTS:
            return RenewalInfo()
        raise
    try:
        document = response.json()
        suggested, page = document["suggestedWindow"], _page(document.get("explanationURL"))
        window = RenewalWindow(_moment(suggested["start"]), _moment(suggested["end"]), page)
    except WITHOUT_SENSE as problem:
        raise not_acme(quoted(f"{type(problem).__name__}: {problem}")) from problem
    moment = now()
    again = moment_of(response.headers.get("Retry-After"), moment)
    return RenewalInfo(window, None if again is None else again - moment)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.astimezone(UTC)


def _page(page: object) -> str | None:
    """Return the address of a page for people to open; `None` for anything else."""
    if not isinstance(page, str) or len(page) > _LONGEST_PAGE:
        return None
    is_address = page.startswith(("https://", "http://")) and page.isascii() and page.isprintable()
    return page if is_address and " " not in page else None
