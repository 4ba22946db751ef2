"""The requests of an ACME client, each made once and read into plain values (RFC 8555 §7)."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
"""States of orders and authorizations that decide what comes next (RFC 8555 §7.1.6)."""

WITHOUT_SENSE = (
    JoseError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading an answer raises that is not as its RFC says: each part fails in its own way."""

MOST_ISSUERS = 10
"""Names in one list (draft-ietf-acme-dns-persist-02 §3.1)."""

_LONGEST_PAGE = 300  # characters of an address that an operator is to open
_PORTS = {"https": 443, "http": 80}  # RFC 9110 §4.2
_RESOURCES = ("newNonce", "newAccount", "newOrder")
_P384 = 384  # bits
_NAME = re.compile(r"(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)")
_PREFIX = re.compile(r"[\x21\x23-\x3a\x3d\x3f-\x7e]+")
"""Of what a URI has, and neither quotes nor the `;` that would end a record's parameter."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the CA shows it. `retry_after` is the header as it stood."""

    url: str
    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None
    expires: datetime | None
    profile: str | None
    problem: messages.Error | None
    retry_after: str | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge, and the answer to it; `txt_value` is empty for dns-persist-01."""

    url: str
    status: str
    txt_value: str
    answer: challenges.KeyAuthorizationChallengeResponse


@dataclass(frozen=True, slots=True)
class Authorization:
    """The proof of one name, by DNS-01 (`challenge`) or dns-persist-01 (`standing`)."""

    url: str
    name: str
    status: str
    challenge: Challenge | None
    standing: Challenge | None
    problem: messages.Error | None
    retry_after: str | None


class _NewOrder(messages.NewOrder):
    """A new order with the field that the library lacks."""

    replaces: str = field("replaces", omitempty=True)


class Client(ClientV2):
    """The requests of one account, once it has signed in.

    All raise `Refused`, what `Network` raises, and `CaUnavailable` for an answer without sense and
    for an address at a host outside `origins`. `ahead` is how far the CA's clock is before ours.
    """

    origins: frozenset[str] = frozenset()
    offer: Offer | None = None
    ahead: timedelta | None = None

    @classmethod
    def at(cls, directory_url: str, network: Network) -> Self:
        """Read the directory, as anew for each order: its addresses may change at any time."""
        response = network.get(directory_url)
        client = cls(_read(_directory, response), network)
        addresses = client.directory.to_partial_json().values()
        client.origins = _origins_of([directory_url, *addresses])
        client.offer = _read(offer_in, response)
        client.ahead = network.ahead_of_us(response)
        return client

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles that the directory names; empty when it says nothing about them."""
        return tuple(self.directory.meta.profiles or ())

    @property
    def identities(self) -> frozenset[str]:
        """The domain names by which CAA records name the CA (§9.7.6), in lower case."""
        listed: object = self.directory.meta.caa_identities
        names = listed if isinstance(listed, list | tuple) else ()
        return frozenset(str(name).lower() for name in names)

    @property
    def renewal_info(self) -> str | None:
        """Where the directory says that renewal information is (RFC 9773 §3)."""
        found = self.directory.to_partial_json().get("renewalInfo")
        return found if isinstance(found, str) else None

    def sign_in(self, key: JWKEC, account_url: str) -> None:
        """Sign everything that follows for this account."""
        self.net.key = key
        self.net.account = messages.RegistrationResource(
            body=messages.Registration(), uri=account_url
        )

    def register(
        self, key: JWKEC, email: str | None, binding: tuple[str, str] | None = None
    ) -> str:
        """Return the account URL of a key, registered if new with `binding` (§7.3, §7.3.4)."""
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
        """Ask whether the key has an account in force (§7.3.1)."""
        try:
            self._new_account(key, messages.NewRegistration(only_return_existing=True))
        except Refused as refused:
            if refused.kind in {"accountDoesNotExist", "unauthorized"}:
                return False
            raise
        return True

    def account(self, url: str) -> AccountFacts:
        """Return the account as the CA shows it (§7.3.2)."""
        return _read(partial(_facts, url), self._post_as_get(url))

    def change_key(self, url: str, old: JWKEC, new: JWKEC) -> None:
        """Change the key of the account at `url`; the old key signs, around the new (§7.3.5)."""
        where = self._resource("keyChange")
        change = {"account": url, "oldKey": old.public_key().to_partial_json()}
        inner = jws.JWS.sign(json.dumps(change).encode(), key=new, alg=ES256, nonce=None, url=where)
        self.sign_in(old, url)
        self._post(where, inner)

    def deactivate(self, url: str) -> None:
        """Put the account out of use (§7.3.6)."""
        self._post(url, messages.UpdateRegistration(status=messages.STATUS_DEACTIVATED))

    def revoke_certificate(self, leaf: x509.Certificate, reason: RevocationReason) -> None:
        """Revoke a certificate as the account or key that signs (§7.6)."""
        revocation = messages.Revocation(certificate=leaf, reason=reason.code)
        self._post(self._resource("revokeCert"), revocation)

    def sign_with(self, key: PrivateKeyTypes) -> None:
        """Sign what follows with a certificate's key (§7.6). Raises `CertificateError`."""
        if isinstance(key, rsa.RSAPrivateKey):
            self.net.key, self.net.alg = JWKRSA(key=key), RS256
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            self.net.key = JWKEC(key=key)
            self.net.alg = ES384 if key.curve.key_size == _P384 else ES256
        else:
            raise CertificateError(Text("no request to a CA can be signed with a key of this kind"))
        self.net.account = None

    def begin_order(
        self, names: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        """Order a certificate (§7.4), in place of the one `replaces` identifies (RFC 9773 §5)."""
        identifiers = [messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=n) for n in names]
        order = _NewOrder(identifiers=identifiers, profile=profile or "", replaces=replaces or "")
        response = self._post(self.directory["newOrder"], order)
        url = _location(response)
        self._must_be_here(url)  # before anything is kept of it
        return _read(partial(_order, url, response), response)

    def has(self, url: str) -> bool:
        """Return whether an address is at a host of the CA's, or is not an address at all."""
        return _origins_of([url]) <= self.origins

    def order(self, url: str) -> Order:
        """Return an order as it is now."""
        response = self._post_as_get(url)
        return _read(partial(_order, url, response), response)

    def authorization(self, url: str) -> Authorization:
        """Return an authorization as it is now (§7.5)."""
        response = self._post_as_get(url)
        return _read(partial(self._authorization, url, response), response)

    def answer(self, challenge: Challenge) -> None:
        """Ask the CA to validate what a challenge asks for (§7.5.1)."""
        self._post(challenge.url, challenge.answer)

    def finalize(self, order: Order, csr: x509.CertificateSigningRequest) -> Order:
        """Send the CSR of an order that is ready (§7.4)."""
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
        """Refuse an address elsewhere: a changed order must not reach internal services."""
        must_be_private(url)
        for elsewhere in _origins_of([url]) - self.origins:
            hint = Text(
                "nothing was sent there: its directory is at {hosts}; if this lasts, ask the CA"
            )
            raise CaUnavailable(
                Text("the CA names an address at another host: {host}", host=quoted(elsewhere)),
                hint=hint.filled(hosts=sorted(self.origins)),
            )

    def _resource(self, name: str) -> str:
        """Return the address of one of the directory's resources (§7.1.1)."""
        try:
            return str(self.directory[name])
        except KeyError:
            raise not_acme(Text("its directory names no {resource}", resource=name)) from None

    def _new_account(self, key: JWKEC, registration: messages.NewRegistration) -> str:
        self.net.key, self.net.account = key, None  # signed by the key itself (§6.2)
        return _location(self._post(self.directory["newAccount"], registration))

    def _authorization(
        self, url: str, response: requests.Response, document: Mapping[str, Any]
    ) -> Authorization:
        body = messages.Authorization.from_json(document)
        found = [c for c in body.challenges or () if isinstance(c.chall, challenges.DNS01)]
        standing = next(filter(self._is_standing, document.get("challenges", ())), None)
        return Authorization(
            url=url,
            name=(WILDCARD if body.wildcard else "") + body.identifier.value,
            status=body.status.name,
            challenge=self._challenge(found[0]) if found else None,
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
    """Read a CA's directory, and close its connections on exit. Raises only `IssuanceError`."""
    with opened_network(settings, pause, now) as network:
        yield Client.at(settings.directory, network)


def _origins_of(values: Iterable[object]) -> frozenset[str]:
    """Return host and port of every address among some values."""
    found = set()
    for value in values:
        # What is no text is no address.
        with contextlib.suppress(LocationParseError, TypeError, AttributeError):
            parts = parse_url(value)  # type: ignore[arg-type]  # see above
            if parts.scheme in _PORTS and parts.host:
                found.add(f"{parts.host.lower()}:{parts.port or _PORTS[parts.scheme]}")
    return frozenset(found)


# what dns-persist-01 is, read strictly (draft-ietf-acme-dns-persist-02 §3); an older form (Google
# Trust Services, 2026-09) counts for none: its records differ


def offer_in(directory: Any) -> Offer | None:
    """Return what a directory offers, as draft -02 has it (docs/facts/letsencrypt.md §4.2)."""
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
    """Return whether a challenge takes the offer's issuers, and no others (§3.2)."""
    if challenge.get("type") != METHOD:
        return False
    taken = set(_issuers(challenge.get("issuerDomainNames")))
    known = {identity.rstrip(".") for identity in identities}
    return set(offer.issuers) <= taken and (not known or taken <= known)


def _issuers(written: object) -> tuple[str, ...]:
    """Read a list of names; none where one of them is not as it must be (§3.1)."""
    if not isinstance(written, list) or not 0 < len(written) <= MOST_ISSUERS:
        return ()
    names = [name for name in written if isinstance(name, str) and len(name) <= MAX_NAME]
    return tuple(names) if all(map(_NAME.fullmatch, names)) and names == written else ()


def _standing(challenge: Mapping[str, Any]) -> Challenge:
    url, status = challenge["url"], challenge.get("status", PENDING)
    _must_be_text(url, status)
    # The library leaves the key authorization out, and so sends `{}`; it makes an answer without
    # fields a POST-as-GET.
    return Challenge(url, status, "", challenges.DNS01Response(key_authorization=""))


def read_directory(settings: IssuerSettings, pause: Pause, now: Callable[[], datetime]) -> Client:
    """Return a directory as read; its connections are closed. Raises `IssuanceError`."""
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
    if expires is not None and expires.tzinfo is None:  # RFC 3339 forbids it, the library does not
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
    """Refuse what is another kind of JSON: the library takes any (RFC 8555 §7.1)."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError(str(values))


def _location(response: requests.Response) -> str:
    if "Location" not in response.headers:
        raise not_acme(Text("it names no Location"))
    return response.headers["Location"]


def _read(parse: Callable[[Any], _T], response: requests.Response) -> _T:
    """Read an answer. Raises `CaUnavailable` where it is not as RFC 8555 says."""
    try:
        return parse(_without_nulls(response.json()))
    except WITHOUT_SENSE as problem:
        raise not_acme(quoted(f"{type(problem).__name__}: {problem}")) from problem


def _without_nulls(document: Any) -> Any:
    """Leave out what is null: to the library, only what is not there is optional."""
    if isinstance(document, dict):
        return {name: _without_nulls(v) for name, v in document.items() if v is not None}
    if isinstance(document, list):
        return [_without_nulls(item) for item in document]
    return document


def ask_renewal_info(
    network: Network, resource: str, identifier: str, now: Callable[[], datetime]
) -> RenewalInfo:
    """Ask for a certificate's window. Raises what `Network.get` raises, and `CaUnavailable`."""
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


def _moment(written: str) -> datetime:
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        raise ValueError(written)
    return moment.astimezone(UTC)


def _page(page: object) -> str | None:
    """Return the address of a page that a person can open, `None` for anything else."""
    if not isinstance(page, str) or len(page) > _LONGEST_PAGE:
        return None
    is_address = page.startswith(("https://", "http://")) and page.isascii() and page.isprintable()
    return page if is_address and " " not in page else None
