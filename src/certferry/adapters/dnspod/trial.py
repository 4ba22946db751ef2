"""The guesses about DNSPod's token API that reading calls can try: those of
docs/facts/dnspod.md §3.

Three requests. They are paced, and end with the first refusal of the token, as all calls do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from certferry.adapters.dns.answers import as_text
from certferry.adapters.dnspod.client import PAID_PLANS, DnspodCalls
from certferry.adapters.dnspod.errors import DONE, NO_DOMAINS, Reply
from certferry.adapters.http.client import HttpClient, HttpFailure, Request
from certferry.core.trial import Judged, Judgement, Verdict
from certferry.errors import DnsAccessDenied, DnsError
from certferry.text import Text

NUMBER = "2"
KNOWN_PLANS = PAID_PLANS | {"d_free", "dp_free"}
MOST_DOMAINS = 500  # the most that the international sibling lists at once (§1.8)

_ABOUT = Text("the trial")


class DnspodReader:
    """Reading calls of one account, and `GET /`. `let_in`: a call was answered with success."""

    def __init__(
        self, calls: DnspodCalls, http: HttpClient, *, api: str, headers: dict[str, str]
    ) -> None:
        self.let_in = False
        self._calls = calls
        self._http = http
        self._front = Request("GET", f"{api.rstrip('/')}/", headers)

    def call(self, action: str, **params: str | int) -> Reply:
        """Return what an action answered. Raises `DnsError`."""
        reply = self._calls.read(action, _ABOUT, **params)
        self.let_in = self.let_in or reply.code in {DONE, NO_DOMAINS}
        return reply

    def front_page(self) -> int | Text:
        """Return the status of `GET /`, or why there is none."""
        try:
            return self._http.exchange(lambda: self._front, repeatable=False).status
        except HttpFailure as failure:
            return failure.problem if failure.status is None else failure.status


def try_guesses(reader: DnspodReader) -> tuple[Judgement, ...]:
    """Try every guess and return what became of each. Raises what a pause raises."""
    return (
        _judgement(Text("the token API is there, and takes the token"), _token, reader),
        _judgement(Text("GET / answers 404, which is no fault"), _front_page, reader),
        _judgement(Text("each domain tells its plan, by a word that is known"), _plans, reader),
        Judgement(
            NUMBER,
            Text("codes of a TTL that is too low and of a wrong line; 3,600 requests an hour"),
            Verdict.CANNOT_TELL,
            (Text("not tried: only a change shows it"),),
        ),
    )


def _judgement(
    guess: Text, judge: Callable[[DnspodReader], Judged], reader: DnspodReader
) -> Judgement:
    try:
        holds, seen = judge(reader)
    except DnsAccessDenied:
        holds, seen = None, (Text("not asked, since the token was refused"),)
    except DnsError as problem:
        holds, seen = None, (problem.message,)
    return Judgement(NUMBER, guess, Verdict.of(holds), seen)


def _token(reader: DnspodReader) -> Judged:
    reply = reader.call("Info.Version")
    # A refusal is about the token. Its words are left out: they may quote.
    return True if reply.code == DONE else None, (_told(reply),)


def _front_page(reader: DnspodReader) -> Judged:
    status = reader.front_page()
    if isinstance(status, Text):
        return None, (status,)
    return status == HTTPStatus.NOT_FOUND, (Text("{call}: {answer}", call="GET /", answer=status),)


def _plans(reader: DnspodReader) -> Judged:
    reply = reader.call("Domain.List", type="all", offset=0, length=MOST_DOMAINS)
    domains = list(_domains(reply))
    if not domains:
        return None, (_told(reply),)
    plans = {(_word(one.get("grade")), _number(one.get("ttl"))) for one in domains}
    seen = [Text("{plan}: TTL {ttl}", plan=plan, ttl=ttl) for plan, ttl in sorted(plans)]
    is_known = all(plan.lower() in KNOWN_PLANS for plan, _ in plans)
    return is_known, (_told(reply), *seen)


def _told(reply: Reply) -> Text:
    return Text("{action}: code {code}", action=reply.action, code=_number(reply.code))


def _domains(reply: Reply) -> Iterator[dict[str, Any]]:
    found = reply.body.get("domains")
    yield from (one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()


def _word(value: object) -> str:
    """Return a plan's name; what could be another name is told as "?"."""
    written = as_text(value)
    return written if written.replace("_", "").isalpha() and written.isascii() else "?"


def _number(value: object) -> str:
    written = as_text(value)
    return written if written.removeprefix("-").isdecimal() else "?"
