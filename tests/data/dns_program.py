"""An operator's program, as an account of type `command` calls it: `… present NAME VALUE`. The
program writes records through DNSPod's token API, or through the sandbox's copy of the API. Its own
arguments come first: the address of the API, the token's id, and the token.
"""

import http.client
import json
import sys
from typing import Any
from urllib.parse import urlencode, urlsplit

NOTHING_THERE, NO_ZONE, DENIED = 66, 68, 77
api, token_id, token, operation, name, value = sys.argv[1:]


def call(action: str, **params: str | int) -> tuple[str, Any]:
    """Return the code of an answer, and the answer."""
    form = {
        "login_token": f"{token_id},{token}",
        "format": "json",
        "error_on_empty": "no",
        **params,
    }
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "dns-program/1.0 (ops@example.com)",
    }
    connection = http.client.HTTPConnection(urlsplit(api).netloc, timeout=10)
    connection.request("POST", f"/{action}", urlencode(form), headers)
    answer = json.load(connection.getresponse())
    code = answer["status"]["code"]
    if code in {"-1", "10002", "10003", "10004"}:
        sys.exit(DENIED)
    return code, answer


def zone() -> str:
    labels = name.split(".")
    for start in range(len(labels) - 1):
        domain = ".".join(labels[start:])
        if call("Domain.Info", domain=domain)[0] == "1":
            return domain
    sys.exit(NO_ZONE)


where = zone()
host = name.removesuffix(where).rstrip(".") or "@"
if operation == "present":
    code, answer = call(
        "Record.Create", domain=where, sub_domain=host, record_type="TXT", record_line="默认",
        value=value, ttl=600,
    )  # fmt: skip
    sys.exit(0 if code in {"1", "104"} else 1)
records = call("Record.List", domain=where, sub_domain=host)[1]["records"]
ours = [record["id"] for record in records if record["type"] == "TXT" and record["value"] == value]
for record_id in ours:
    call("Record.Remove", domain=where, record_id=record_id)
sys.exit(0 if ours else NOTHING_THERE)
