"""A stand-in of a Bark server (docs/facts/receivers.md §1.7). The stand-in refuses GET, because
a GET puts the message into the address, and so into logs.
"""

from __future__ import annotations

from collections.abc import Mapping

from certferry_sandbox.httpd import Request
from certferry_sandbox.messages.service import MessageService, Mistake, posted, words

KEY = "yD4kT9wQz7RmXb2NcV5sLp"

LARGEST = 4096  # bytes; Apple takes no larger notification


class BarkService(MessageService):
    """A Bark server with a single registered phone, `KEY`."""

    def take(self, request: Request) -> Mapping[str, object]:
        """See `MessageService.take`."""
        if request.label != "POST /push":
            raise _refusal(404, f"cannot {request.method} {request.path}")
        fields = posted(request, _refusal(400, "failed to parse request body"))
        if fields.get("device_key") != KEY:
            raise _refusal(400, "failed to get device token: key not found in database")
        too_large = _refusal(413, "push failed: PayloadTooLarge")
        if len(request.body) > LARGEST:
            raise too_large
        title = words(fields.get("title"), too_large, LARGEST)
        body = words(fields.get("body"), too_large, LARGEST)
        self.taken.append(f"{title}\n{body}")
        return {"code": 200, "message": "success", "timestamp": int(self.clock().timestamp())}


def _refusal(code: int, message: str) -> Mistake:
    return Mistake({"code": code, "message": message, "timestamp": 0}, status=code)
