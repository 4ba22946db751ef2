"""Failed calls to a service whose refusals have codes in words: the meanings of codes, and the
failures with the answer in forms too narrow for a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import Struct

from certferry import errors
from certferry.adapters.cdn.answers import decode
from certferry.adapters.cdn.failure import LATER, NETWORK, OTHER_PROGRAM, SET_CLOCK, CallFailure
from certferry.adapters.cdn.lists import Page, never_ends, whole_list
from certferry.adapters.http import exchange, http_client
from certferry.core.redaction import MASK, quoted, speech
from certferry.ports.adapter import Answer, CodeMeaning
from certferry.text import LINEAGE, Text, verbatim

T = TypeVar("T")


class Meaning(Struct, frozen=True):
    """The meaning of a code. Words and advice may contain the placeholder `{lineage}`."""

    words: str
    advice: str
    #: The error to raise.
    error: type[errors.DeployError] = errors.TargetRejected

    @property
    def explained(self) -> CodeMeaning:
        """The advice and the words, for errors and for `ports.adapter.Adapter.CODES`."""
        return CodeMeaning(Text(self.advice, lineage=LINEAGE), Text(self.words))


class Refusal(Struct, frozen=True):
    """A call that the service refused."""

    #: Names the call in sentences, such as "the list of domains".
    what: Text
    code: str
    #: The service's words, which may quote a private key.
    words: str
    #: The id of the request, for the vendor's support.
    request_id: str
    #: The host that was asked, where the advice depends on the host.
    host: str = ""


_REFUSED = Text("{service} refused {what} ({answer})")


class CodedFailure(CallFailure):
    """A failed call. Each service has a subclass with its forms."""

    service: ClassVar[Text]
    #: Names the id of a request in a hint, with the places `service` and `id`.
    asked: ClassVar[Text]
    request_id_form: ClassVar[re.Pattern[str]]
    code_form: ClassVar[re.Pattern[str]]
    #: Further codes that may be shown.
    codes: ClassVar[frozenset[str]] = frozenset()
    #: Codes for a full account.
    full: ClassVar[frozenset[str]]

    def __init__(self, error: errors.DeployError, *, code: str = "", **facts: Any) -> None:
        super().__init__(error, is_full=code in self.full, **facts)
        self.code = code

    @classmethod
    def shown_request_id(cls, given: object) -> str:
        """Return the id of a request; empty for an id of another form."""
        is_id = isinstance(given, str) and cls.request_id_form.fullmatch(given)
        return str(given) if is_id else ""

    @classmethod
    def unanswered(cls, what: Text, failure: exchange.HttpFailure) -> Self:
        """Return the failure of a call without a usable answer."""
        sentence = Text("{service} does not answer about {what}: {problem}")
        message = sentence.filled(service=cls.service, what=what, problem=failure.problem)
        error = errors.TargetUnavailable(message, hint=NETWORK)
        return cls(error, maybe_done=failure.maybe_done, contact=failure.contact)

    @classmethod
    def unreadable(cls, what: Text, problem: str, *, maybe_done: bool) -> Self:
        """Return the failure for an answer in an unreadable form."""
        sentence = Text("certferry cannot read {service}'s answer about {what}: {problem}")
        message = sentence.filled(service=cls.service, what=what, problem=quoted(problem))
        return cls(errors.TargetUnavailable(message, hint=LATER), maybe_done=maybe_done)

    @classmethod
    def without_reply(cls, what: Text, answer: Answer) -> Self:
        """Return the failure for an answer of a gateway, or for another unreadable answer."""
        is_undone = exchange.surely_undone(answer.status)
        return cls.unreadable(what, f"HTTP status {answer.status}", maybe_done=not is_undone)

    @classmethod
    def shown_code(cls, code: str) -> str:
        """Return the code of a refusal, with a mask over a word that could be a key. "" stays."""
        return code if not code or code in cls.codes or cls.code_form.fullmatch(code) else MASK

    @classmethod
    def decoded(
        cls, body: Mapping[str, Any], into: type[T], what: Text, *, maybe_done: bool = False
    ) -> T:
        """Return the decoded body. Raises the failure for a body of another form."""
        try:
            return decode(msgspec.json.encode(body), into)
        except ValueError as problem:
            raise cls.unreadable(what, str(problem), maybe_done=maybe_done) from None

    @classmethod
    def listed(cls, what: Text, page_at: Callable[[str], Page[T]]) -> list[T]:
        """Return the entries of all pages, see `whole_list`. Raises the failure for an endless
        list.
        """
        entries = whole_list(page_at)
        if entries is None:
            raise cls(never_ends(what, cls.service))
        return entries

    @classmethod
    def clock_ahead(
        cls, http: http_client.HttpClient, url: str, now: Callable[[], datetime]
    ) -> timedelta | None:
        """Return how far the service's clock is ahead, by the answer to a request without keys."""
        try:
            return http_client.ask_the_time(http, exchange.Request("GET", url), now)
        except exchange.HttpFailure as failure:
            raise cls.unanswered(Text("the time of the service"), failure) from None

    @classmethod
    def refused(
        cls,
        refusal: Refusal,
        advice: Text,
        kind: type[errors.DeployError] = errors.TargetRejected,
        sentence: Text = _REFUSED,
        *,
        meaning: Text | None = None,
        **facts: Any,
    ) -> Self:
        """Return the failure: the sentence filled with call and answer. The hint has the id of the
        request, because the vendor's support asks for the id.
        """
        code = refusal.code
        shown = cls.shown_code(code) or MASK
        answer = verbatim(shown)
        if refusal.words:
            answer = Text("{code}: {words}", code=shown, words=speech(refusal.words))
        message = sentence.filled(
            service=cls.service, what=refusal.what, answer=answer, meaning=meaning
        )
        if request_id := cls.shown_request_id(refusal.request_id):
            asked = cls.asked.filled(service=cls.service, id=request_id)
            advice = Text("{advice}; {asked}", advice=advice, asked=asked)
        return cls(kind(message, hint=advice), code=code, **facts)

    @classmethod
    def meant(cls, refusal: Refusal, meaning: Meaning, **facts: Any) -> Self:
        """Return the failure for a code with a known meaning."""
        sentence = Text("{service} refused {what}: {meaning} ({answer})")
        advice, words = meaning.explained.advice, meaning.explained.meaning
        return cls.refused(refusal, advice, meaning.error, sentence, meaning=words, **facts)

    @classmethod
    def limited(cls, refusal: Refusal) -> Self:
        """Return the failure for too many requests."""
        sentence = Text("{service} is limiting requests, among them {what} ({answer})")
        kind = errors.TargetUnavailable
        return cls.refused(refusal, OTHER_PROGRAM, kind, sentence, is_common=True)

    @classmethod
    def mistimed(cls, refusal: Refusal) -> Self:
        """Return the failure for a request signed by a wrong clock."""
        sentence = Text("this host's clock is wrong, so {service} refused {what} ({answer})")
        return cls.refused(refusal, SET_CLOCK, errors.ClockWrong, sentence, is_common=True)

    @classmethod
    def broken(cls, refusal: Refusal) -> Self:
        """Return the failure for an error of the service's own."""
        sentence = Text("{service} returned a server error for {what} ({answer})")
        kind = errors.TargetUnavailable
        return cls.refused(refusal, LATER, kind, sentence, maybe_done=True, is_passing=True)
