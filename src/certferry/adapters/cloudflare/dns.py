"""DNS at Cloudflare, through the API client/v4.

API reference: https://developers.cloudflare.com/api/resources/dns/.
Permissions: an API token with Zone:Read and DNS:Edit for the zones. The Global API Key and the
Origin CA Key are refused here.

The API reference documents the calls, fields and pages, a TXT record's content as a quoted string,
and the limit of 1200 calls in five minutes. Three facts are known only from other clients (lego,
cert-manager, acme.sh): `name` works as a filter, a TTL of 120 is accepted, and Cloudflare returns
content as written, with or without quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from certferry import errors
from certferry.adapters.dns import answers
from certferry.adapters.dns import txt_records as txt
from certferry.adapters.dns.keys import KeyForms, Mistaken
from certferry.adapters.http import exchange, http_client
from certferry.core.certificates.names import suffixes
from certferry.core.redaction import Secret, quoted, quoted_code
from certferry.ports.adapter import Answer, Context, Variable, json_object
from certferry.ports.dns import DnsProvider
from certferry.text import Quoted, Text

SERVICE = "Cloudflare"
RANK = 40
WHERE_KEYS_ARE = Text(
    "dash.cloudflare.com/profile/api-tokens → Create Token → template Edit zone DNS; the token "
    "is shown only once, at creation"
)
ENVIRONMENT = (
    Variable(
        "token",
        ("CF_Token", "CLOUDFLARE_DNS_API_TOKEN", "CF_DNS_API_TOKEN"),
        Text("a Cloudflare API token (Zone:Read, DNS:Edit)"),
        acme_sh="CF_Token",
    ),
)

# "1,200 requests per five minutes", for all clients of a user together (documented).
REQUESTS_PER_SECOND = 4.0
ZONES_PAGE = 50  # the maximum (documented)
RECORDS_PAGE = 100
TTL = 120  # seconds, as other clients ask for; the minimum is 60 (documented)
ID = re.compile(r"[0-9a-f]{32}", re.ASCII)  # no other text becomes part of a URL
LONG_REST = timedelta(minutes=5)  # the window in which Cloudflare counts calls

# Unverified, from memory of the API's page about zones: `type` is full, partial (CNAME set-up),
# secondary or internal; `status` is active, pending, initializing or moved.
_SERVED_ELSEWHERE = frozenset({"partial", "secondary"})
_NOT_YET_SERVED = frozenset({"pending", "initializing", "moved"})

DUPLICATES = frozenset({"81057", "81058"})  # an identical record exists

_MAKE_TOKEN = Text(
    "create an API token at dash.cloudflare.com/profile/api-tokens from the template Edit zone "
    "DNS, with Zone:Read and DNS:Edit for the zones"
)
KEYS = KeyForms(
    SERVICE,
    _MAKE_TOKEN,
    (
        # The Global API Key has 37 hexadecimal digits, or begins with cfk_ since 2026.
        Mistaken("token", r"(?i)^(?:[0-9a-f]{37}$|cfk_)", Text("is the Global API Key")),
        Mistaken("token", r"(?i)^v1\.0-", Text("is the Origin CA Key")),
        Mistaken(
            "token",
            r"^(?![A-Za-z0-9._~+/-]+=*$)",  # no token after `Bearer` (RFC 7235 §2.1)
            Text("is empty, or holds more than an API token"),
            Text("write the token alone, without `Bearer`, quotes or spaces"),
        ),
    ),
)
_CHECK = Text(
    "Cloudflare does not accept the API token: the token may have expired, been rolled, or "
    "exclude this host's address. {make}",
    make=_MAKE_TOKEN,
)
_LACKS_PERMISSION = Text("the API token lacks a permission or the zone: {make}", make=_MAKE_TOKEN)
_NO_TOKEN = Text(
    "`token` is not an API token: check whether it is a Global API Key or an incomplete copy. "
    "{make}",
    make=_MAKE_TOKEN,
)
_PLAN = Text("the zone's plan at Cloudflare does not allow more records: remove some")
_MANY = Text("the account has made too many calls: Cloudflare allows 1200 in five minutes")
_LATER = Text("try again in a few minutes, and check www.cloudflarestatus.com")

_ANSWERS = answers.Codes(
    Text("{about}: Cloudflare answered {action} with code {code} (status {status}): {words}"),
    Text("check the zone at dash.cloudflare.com"),
    denied={
        # 1000 means "Invalid API Token". 9109 means "Invalid access token", or another refusal.
        **dict.fromkeys(("1000", "9109"), _CHECK),
        **dict.fromkeys(("6003", "6103", "6111", "9103", "9106", "9107", "10001"), _NO_TOKEN),
        "10000": _LACKS_PERMISSION,  # Authentication error
    },
    rejected={"81053": answers.EXCLUDED, "81054": answers.EXCLUDED, "81045": _PLAN},
)
CODES = _ANSWERS.meanings


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`."""

    token: Secret
    api: Annotated[str, Text("the address of the API")] = "https://api.cloudflare.com/client/v4"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one token, without sending a request. Raises `ConfigError`."""
    token = settings.token.reveal().strip()
    KEYS.must_fit(token=token)
    http = http_client.client_in(context, settings.api, REQUESTS_PER_SECOND)
    service = CloudflareClient(settings.api, Secret(token), http, context)
    return txt.TxtRecords(SERVICE, service, context.pause)


class CloudflareClient(answers.JsonTxtService):
    """The `TxtService` of the zones visible to one API token.

    Until all zones are listed, a zone is asked for by name, once. A token refused for a list of
    zones counts as refused for every later call.
    """

    decisive = ("GET zones",)
    gone = ("81044",)

    def __init__(
        self, api: str, token: Secret, http: http_client.HttpClient, context: Context
    ) -> None:
        self._api = api.rstrip("/")
        self._token = token
        self._by_name: dict[str, list[txt.Zone]] = {}
        clock = exchange.Request("GET", f"{self._api}/zones")
        super().__init__(SERVICE, _ANSWERS, http, clock, context)

    def zones(self, about: str | Text = txt.ALL_ZONES) -> list[txt.Zone]:
        """See `TxtService.zones`. Raises `ZoneNotFound` for an empty list.

        A token that lacks the permission Zone:Read gets an empty list.
        """
        zones = super().zones(about)
        if not zones:
            sentence = Text("the API token sees no zone at Cloudflare")
            raise errors.ZoneNotFound(sentence, hint=_LACKS_PERMISSION)
        return zones

    def zones_above(self, name: str) -> Iterator[txt.Zone]:
        for suffix in suffixes(name):
            zones = [zone for zone in self._named(suffix, name) if zone.name == suffix]
            # Two accounts at Cloudflare may have a zone with this name. The usable zone comes
            # first.
            yield from sorted(zones, key=lambda zone: zone.problem is not None)

    def records(self, zone: txt.Zone, name: str) -> list[txt.TxtRecord]:
        query = {"type": "TXT", "name": name}
        items = self._list("dns_records", _records(zone), name, RECORDS_PAGE, query)
        records = map(_record_of, items)
        return [record for record in records if record is not None and record.name == name]

    def record(self, zone: txt.Zone, record_id: str, about: str) -> txt.TxtRecord | None:
        if not ID.fullmatch(record_id):
            return None
        reply = self.read("GET dns_records", about, path=f"{_records(zone)}/{record_id}")
        body = self.unless_gone(reply, about)
        return None if body is None else _record_of(answers.object_in(body, "result"))

    def create(self, zone: txt.Zone, name: str, value: str) -> str | None:
        """See `TxtService.create`. The record is written unproxied."""
        fields = {"type": "TXT", "name": name, "content": f'"{value}"', "ttl": TTL}
        fields |= {"proxied": False}
        reply = self.write("POST dns_records", name, path=_records(zone), fields=fields)
        if reply.code in DUPLICATES:
            return None
        record_id = answers.as_text(
            answers.object_in(self.settled(reply, name), "result").get("id")
        )
        return record_id if ID.fullmatch(record_id) else None

    def remove(self, zone: txt.Zone, record_id: str, about: str) -> bool:
        reply = self.write("DELETE dns_records", about, path=f"{_records(zone)}/{record_id}")
        return self.unless_gone(reply, about) is not None

    def list_zones(
        self, about: str | Text, query: dict[str, str] | None = None
    ) -> Iterable[txt.Zone]:
        """Yield the zones visible to the token, filtered by `query`; drop malformed zones."""
        for item in self._list("zones", "/zones", about, ZONES_PAGE, query or {}):
            zone_id, name = (
                answers.as_text(item.get("id")),
                answers.as_text(item.get("name")).lower(),
            )
            if ID.fullmatch(zone_id) and txt.is_zone_name(name):
                servers = txt.hosts_of(item.get("name_servers"))
                yield txt.Zone(zone_id, name, _problem_of(item, name), servers)

    def reply(self, action: str, answer: Answer) -> answers.Reply | None:
        """See `JsonTxtService.reply`. The first error gives the code and words; the error's
        `error_chain` gives further words.
        """
        body, status = json_object(answer.body), answer.status
        if body is None:
            return None
        if status < HTTPStatus.BAD_REQUEST and body.get("success") is True:
            return answers.Reply(action, "", Quoted(""), body)
        first = next(iter(answers.objects(body.get("errors"))), {})
        chain = [first, *answers.objects(first.get("error_chain"))]
        words = "; ".join(filter(None, (answers.as_text(error.get("message")) for error in chain)))
        code = quoted_code(answers.as_text(first.get("code")), [self._token]) or "?"
        shown, in_doubt = quoted(words, [self._token]), http_client.is_server_error(answer)
        return answers.Reply(
            action, code, shown, body, status, answer.headers, is_in_doubt=in_doubt
        )

    def error(self, reply: answers.Reply, about: str | Text) -> errors.DnsError:
        """See `JsonTxtService.error`. Status 429 decides before the code. A code for refused keys
        decides before the other statuses: 401, 403 and 5xx. Otherwise the code decides.
        """
        error = super().error(reply, about)
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            asked = exchange.seconds_asked_for(Answer(reply.status, reply.headers, b""))
            rest = LONG_REST if asked is None else timedelta(seconds=asked)
            error = errors.DnsUnavailable(error.message, hint=_MANY)
            error.retry = errors.Retry.at(self._now() + rest)
        elif isinstance(error, errors.DnsAccessDenied):
            pass
        elif reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            error = errors.DnsAccessDenied(error.message, hint=_CHECK)
        elif reply.is_in_doubt:
            error = errors.DnsUnavailable(error.message, hint=_LATER)
        return error

    def _named(self, zone: str, about: str) -> list[txt.Zone]:
        """Return the zones named `zone`. If all zones were listed before, return all zones: the
        caller picks by name.
        """
        if self._zones is not None:
            return self._zones
        if zone not in self._by_name:
            self._by_name[zone] = list(self.list_zones(about, {"name": zone}))
        return self._by_name[zone]

    def _list(
        self, listed: str, path: str, about: str | Text, size: int, query: dict[str, str]
    ) -> list[answers.Item]:
        """Read all pages of a list: as many as Cloudflare counts, or, if Cloudflare gives no count,
        up to an empty page.
        """

        def page(number: int, before: int) -> tuple[list[answers.Item], bool]:
            del before
            where = urlencode({**query, "page": number, "per_page": size})
            body = self.settled(self.read(f"GET {listed}", about, path=f"{path}?{where}"), about)
            items = answers.objects(body.get("result"))
            pages = answers.object_in(body, "result_info").get("total_pages")
            return items, number >= pages if isinstance(pages, int) else not items

        return self.pages(page, about)

    def request(self, action: str, **params: Any) -> exchange.Request:
        """See `JsonTxtService.request`. Parameters: `path`, and the `fields` of a JSON body."""
        headers = {"Authorization": f"Bearer {self._token.reveal()}", "Accept": "application/json"}
        method, url = action.partition(" ")[0], f"{self._api}{params['path']}"
        if "fields" not in params:
            return exchange.Request(method, url, headers)
        headers["Content-Type"] = "application/json"
        return exchange.Request(method, url, headers, json.dumps(params["fields"]).encode())


def _records(zone: txt.Zone) -> str:
    return f"/zones/{zone.id}/dns_records"


def _problem_of(item: dict[str, Any], name: str) -> errors.DnsRejected | None:
    """Return why resolvers would not see records in this zone; `None` if resolvers see records."""
    if answers.as_text(item.get("type")) in _SERVED_ELSEWHERE:
        return errors.DnsRejected(
            Text("Cloudflare is not the DNS service of the zone {zone}", zone=name),
            hint=Text("set `dns` to the account of the service in the zone's NS records"),
        )
    if answers.as_text(item.get("status")) in _NOT_YET_SERVED:
        return errors.DnsRejected(
            Text("the zone {zone} is not delegated to Cloudflare", zone=name),
            hint=Text(
                "set the name servers shown at dash.cloudflare.com at the registrar, or set "
                "`dns` to the account of the service in the zone's NS records"
            ),
        )
    return None


def _record_of(item: answers.Item) -> txt.TxtRecord | None:
    record_id, name = answers.as_text(item.get("id")), answers.as_text(item.get("name")).lower()
    if item.get("type") != "TXT" or not ID.fullmatch(record_id):
        return None
    content = answers.as_text(item.get("content"))
    # Other clients write content without quotes.
    is_quoted = len(content) > 1 and content[0] == content[-1] == '"'
    return txt.TxtRecord(record_id, name, content[1:-1] if is_quoted else content)
