"""The parameters of a call to DNSPod's token API: a form, read strictly."""

from __future__ import annotations

from urllib.parse import parse_qsl

from certferry_sandbox.dnspod_answers import Refused, Status
from certferry_sandbox.httpd import Request

FORM = "application/x-www-form-urlencoded"


class Params:
    """The fields of one form; of a field that is given twice, the last counts."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields

    @classmethod
    def of(cls, request: Request) -> Params:
        """Read the body if it is declared as a form, and the query of anything but a POST."""
        if request.method != "POST":
            return cls(dict(parse_qsl(request.query)))
        declared = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if declared != FORM:
            return cls({})
        return cls(dict(parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)))

    def text(self, name: str, default: str = "") -> str:
        """Give a field, or the default when it is not there."""
        return self.fields.get(name, default)

    def number(self, name: str, default: int, refusal: Status, *, least: int = 0) -> int:
        """Give a whole number of at least `least`. Raises Refused with `refusal` otherwise."""
        written = self.fields.get(name)
        if written is None:
            return default
        if not written.isascii() or not written.isdigit() or int(written) < least:
            raise Refused(refusal)
        return int(written)

    def says_no(self, name: str) -> bool:
        """Tell whether a field is `no`."""
        return self.fields.get(name) == "no"
