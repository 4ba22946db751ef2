"""Failed calls to a service whose refusals have codes in words: the meanings of codes, and the
failures with the answer in forms too narrow for a key.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from msgspec import Struct

from certferry import errors
from certferry.adapters.cdn.failure import LATER, NETWORK, OTHER_PROGRAM, SET_CLOCK, CallFailure
from certferry.adapters.http import exchange
from certferry.core.redaction import MASK, quoted, speech
from certferry.ports.adapter import CodeMeaning
from certferry.text import LINEAGE, Text, verbatim


class Meaning(Struct, frozen=True):
    """The meaning of a code. Words and advice may contain the placeholder `{lineage}`."""

    words: str
    advice: str
    #: The error to raise.
    error: type[errors.DeployError] = errors.TargetRejected

    @property
    def hint(self) -> Text:
        """The advice, for an error."""
        return Text(self.advice, lineage=LINEAGE)

    @property
    def explained(self) -> CodeMeaning:
        """The meaning for `ports.adapter.Adapter.CODES`."""
        return CodeMeaning(self.hint, Text(self.words))


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
    def refused(
        cls,
        refusal: Refusal,
        advice: Text,
        kind: type[errors.DeployError] = errors.TargetRejected,
        sentence: Text = Text("{service} refused {what} ({answer})"),  # noqa: B008 - frozen
        *,
        meaning: Text | None = None,
        **facts: Any,
    ) -> Self:
        """Return the failure: the sentence filled with call and answer. The hint has the id of the
        request, because the vendor's support asks for the id.
        """
        code = refusal.code
        shown = code if code in cls.codes or cls.code_form.fullmatch(code) else MASK
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
        sentence, words = (
            Text("{service} refused {what}: {meaning} ({answer})"),
            Text(meaning.words),
        )
        return cls.refused(refusal, meaning.hint, meaning.error, sentence, meaning=words, **facts)

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
