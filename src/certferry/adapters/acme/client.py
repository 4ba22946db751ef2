"""The requests of an ACME client, each made once and read into plain values (RFC 8555 §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar

import requests
from acme import challenges, messages
from acme.client import ClientV2
from cryptography import x509
from josepy.errors import Error as JoseError
from josepy.json_util import field
from josepy.jwk import JWKEC
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from certferry.adapters.acme.dns_persist import is_for, offer_in
from certferry.adapters.acme.network import Network, must_be_private
from certferry.adapters.acme.problems import Refused, not_acme
from certferry.core.certificates.names import WILDCARD
from certferry.core.dns_persist import Offer
from certferry.core.redaction import quoted
from certferry.errors import CaUnavailable
from certferry.text import Text

_PORTS = {"https": 443, "http": 80}  # RFC 9110 §4.2


def origins_of(directory_url: str, document: Mapping[str, object]) -> frozenset[str]:
    """Give the host and port of a directory, and of every address in it."""
    return frozenset(_origins([directory_url, *document.values()]))


def is_at(url: str, origins: frozenset[str]) -> bool:
    """Tell whether an address is at one of these; what is no address is left to the request."""
    return set(_origins([url])) <= origins


def must_be_at(url: str, origins: frozenset[str]) -> None:
    """Refuse an address elsewhere: who can change one order could have this host send requests to
    services of its own network. Raises `CaUnavailable`.
    """
    must_be_private(url)
    if not is_at(url, origins):
        [elsewhere] = _origins([url])
        raise CaUnavailable(
            Text("the CA names an address at another host: {host}", host=quoted(elsewhere)),
            hint=Text(
                "nothing was sent there: its directory is at {hosts}; if this lasts, ask the CA",
                hosts=sorted(origins),
            ),
        )


def _origins(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        try:
            parts = parse_url(value)  # type: ignore[arg-type]  # what is no text is none
        except (LocationParseError, TypeError, AttributeError):
            continue
        if parts.scheme in _PORTS and parts.host:
            yield f"{parts.host.lower()}:{parts.port or _PORTS[parts.scheme]}"


PENDING, READY, VALID, INVALID = "pending", "ready", "valid", "invalid"
"""States of orders and authorizations that decide what comes next (RFC 8555 §7.1.6)."""

_RESOURCES = ("newNonce", "newAccount", "newOrder")

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
    """A challenge, and the answer once DNS shows what it asks for: for DNS-01 the value, for
    dns-persist-01 a record that has been there before.
    """

    url: str
    status: str
    txt_value: str
    answer: challenges.KeyAuthorizationChallengeResponse


@dataclass(frozen=True, slots=True)
class Authorization:
    """The proof of one name. `challenge` is `None` when the CA offers no DNS-01 for it, `standing`
    when it offers no dns-persist-01.
    """

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
    for an address at a host that is none of the directory's, the `origins`. `offer` is what the
    directory says of dns-persist-01, `ahead` how far the CA's clock is before ours, where known.
    """

    origins: frozenset[str] = frozenset()
    offer: Offer | None = None
    ahead: timedelta | None = None

    @classmethod
    def at(cls, directory_url: str, network: Network) -> Self:
        """Read the directory, as anew for each order: its addresses may change at any time."""
        response = network.get(directory_url)
        client = cls(read_directory(response), network)
        client.origins = origins_of(directory_url, client.directory.to_partial_json())
        client.offer = read_answer(offer_in, response)
        client.ahead = network.ahead_of_us(response)
        return client

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles that the directory names; empty when it says nothing about them."""
        return tuple(self.directory.meta.profiles or ())

    @property
    def identities(self) -> frozenset[str]:
        """The domain names by which CAA records name the CA; see `identities_of`."""
        return identities_of(self.directory)

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
        """Make an account for the key, or find the one it has, and give its URL (§7.3).

        Agrees to the terms of service. `binding` is the external account's key identifier and its
        base64url HMAC key (§7.3.4).
        """
        return self._new_account(
            key,
            messages.NewRegistration.from_data(
                email=email,
                terms_of_service_agreed=True,
                external_account_binding=self._bind(key, binding),
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

    def begin_order(
        self, names: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        """Order a certificate for the names (§7.4), in place of the one that `replaces` identifies
        (RFC 9773 §5).
        """
        identifiers = [
            messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in names
        ]
        desired = _NewOrder(identifiers=identifiers, profile=profile or "", replaces=replaces or "")
        response = self._post(self.directory["newOrder"], desired)
        url = _location(response)
        must_be_at(url, self.origins)  # before anything is kept of it
        return read_answer(partial(_order, url, response), response)

    def has(self, url: str) -> bool:
        """Tell whether an address is one of the CA's."""
        return is_at(url, self.origins)

    def order(self, url: str) -> Order:
        """Look at an order."""
        response = self._post_as_get(url)
        return read_answer(partial(_order, url, response), response)

    def authorization(self, url: str) -> Authorization:
        """Look at an authorization (§7.5)."""
        response = self._post_as_get(url)
        return read_answer(partial(self._authorization, url, response), response)

    def answer(self, challenge: Challenge) -> None:
        """Say that the value is shown (§7.5.1)."""
        self._post(challenge.url, challenge.answer)

    def finalize(self, order: Order, csr: x509.CertificateSigningRequest) -> Order:
        """Send the CSR of an order that is ready (§7.4)."""
        response = self._post(order.finalize, messages.CertificateRequest(csr=csr))
        return read_answer(partial(_order, order.url, response), response)

    def chains(self, url: str, *, most: int) -> tuple[str, Iterator[str]]:
        """Download a certificate and its issuers as PEM text, and give what downloads the other
        chains that the CA offers for it, up to so many (§7.4.2).
        """
        response = self._post_as_get(url)
        others = self._get_links(response, "alternate")[:most]
        return response.text, (self._post_as_get(other).text for other in others)

    def resource(self, name: str) -> str:
        """Return the address of one of the directory's resources (§7.1.1)."""
        try:
            return str(self.directory[name])
        except KeyError:
            raise not_acme(Text("its directory names no {resource}", resource=name)) from None

    def _post(self, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        must_be_at(url, self.origins)
        return super()._post(url, *args, **kwargs)

    def _new_account(self, key: JWKEC, registration: messages.NewRegistration) -> str:
        self.net.key, self.net.account = key, None  # signed by the key itself (§6.2)
        return _location(self._post(self.directory["newAccount"], registration))

    def _bind(self, key: JWKEC, binding: tuple[str, str] | None) -> dict[str, Any] | None:
        if binding is None:
            return None
        kid, hmac_key = binding
        bind = messages.ExternalAccountBinding.from_data
        return bind(key.public_key(), kid, hmac_key, self.directory)

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


def _standing(challenge: Mapping[str, Any]) -> Challenge:
    url, status = challenge["url"], challenge.get("status", PENDING)
    _must_be_text(url, status)
    # The library leaves the key authorization out, and so sends `{}`; it makes an answer without
    # fields a POST-as-GET.
    return Challenge(url, status, "", challenges.DNS01Response(key_authorization=""))


def identities_of(directory: messages.Directory) -> frozenset[str]:
    """Return the domain names by which CAA records name a CA (§9.7.6), in lower case; none where it
    does not tell them.
    """
    told = directory.meta.caa_identities
    identities = told if isinstance(told, list | tuple) else ()
    return frozenset(str(one).lower() for one in identities)


def read_directory(response: requests.Response) -> messages.Directory:
    """Read a CA's directory (§7.1.1). Raises `CaUnavailable` where it is none."""
    return read_answer(_directory, response)


def _directory(document: dict[str, Any]) -> messages.Directory:
    if not all(isinstance(document[name], str) for name in _RESOURCES):
        raise TypeError(_RESOURCES)
    return messages.Directory.from_json(document)


def _order(url: str, response: requests.Response, document: Mapping[str, Any]) -> Order:
    body = messages.Order.from_json(document)
    addresses = (body.finalize, *(body.authorizations or ()), body.certificate or "")
    _must_be_text(*addresses)
    return Order(
        url=url,
        status=body.status.name,
        authorizations=tuple(body.authorizations or ()),
        finalize=body.finalize,
        certificate=body.certificate,
        expires=_in_utc(body.expires),
        profile=body.profile,
        problem=body.error,
        retry_after=response.headers.get("Retry-After"),
    )


def _in_utc(moment: datetime | None) -> datetime | None:
    """Take a moment without a zone, which RFC 3339 does not allow and the library does, for UTC."""
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _must_be_text(*addresses: object) -> None:
    """Refuse an address that is another kind of JSON: the library takes any (RFC 8555 §7.1)."""
    if not all(isinstance(address, str) for address in addresses):
        raise TypeError(str(addresses))


def _location(response: requests.Response) -> str:
    if "Location" not in response.headers:
        raise not_acme(Text("it names no Location"))
    return response.headers["Location"]


def read_answer(parse: Callable[[Any], _T], response: requests.Response) -> _T:
    """Read an answer. Whatever is not as RFC 8555 says makes the parts of a message fail in their
    own ways, so all of these are one thing here: `CaUnavailable`.
    """
    try:
        return parse(_without_nulls(response.json()))
    except (
        JoseError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as problem:
        raise not_acme(quoted(f"{type(problem).__name__}: {problem}")) from problem


def _without_nulls(document: Any) -> Any:
    """Leave out what is null: to the library, only what is not there is optional."""
    if isinstance(document, dict):
        return {name: _without_nulls(v) for name, v in document.items() if v is not None}
    if isinstance(document, list):
        return [_without_nulls(item) for item in document]
    return document
