"""An operator's webhook, which accepts only signed events."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from certferry_sandbox.httpd import Request, utc_now
from certferry_sandbox.messages.service import MessageService, Mistake, posted

SECRET = "whsec-4c9d2b7f1e6a8053"
PATH = "/hooks/0b9f6d1e7c3a5482"


class EventReceiver(MessageService):
    """A single address; `events` are the accepted events, oldest first."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock=clock)
        self.events: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """The URL for events."""
        return f"{self.url}{PATH}"

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        if request.path != PATH:
            raise Mistake({"ok": False, "error": "no such hook"}, status=404)
        digest = hmac.new(SECRET.encode(), digestmod=hashlib.sha256)
        digest.update(request.body)
        if request.headers.get("X-Certferry-Signature") != "sha256=" + digest.hexdigest():
            # Many webhooks refuse inside HTTP 200.
            raise Mistake({"ok": False, "error": "signature"})
        event = posted(request, Mistake({"ok": False, "error": "no JSON"}, status=400))
        self.events.append(event)
        self.taken.append(json.dumps(event, ensure_ascii=False))
        return {"ok": True}
