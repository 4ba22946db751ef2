#!/usr/bin/env python3
"""Put a challenge's TXT value into the zone at DNSPod, or take the value away: the program that
certbot's manual plugin and lego's exec provider call. Python's standard library is enough.

    txt_record.py present|cleanup NAME VALUE      the call of lego (EXEC_PATH)
    txt_record.py present|cleanup                 the call of certbot, with certbot's variables

`DNSPOD_API` is the service's URL, `DP_Id` and `DP_Key` the token, `ZONE` the domain at DNSPod.
"""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

AGENT = "certferry-tests/1 (ops@example.com)"
"""DNSPod demands a program, its version and a mail address."""


def call(action: str, **fields: str) -> dict[str, object]:
    """Call DNSPod; a refusal ends the program with DNSPod's message."""
    form = {
        "login_token": ",".join(os.environ[name] for name in ("DP_Id", "DP_Key")),
        "format": "json",
        "lang": "en",
        "domain": os.environ["ZONE"],
        **fields,
    }
    request = Request(  # noqa: S310 - a stand-in on loopback
        f"{os.environ['DNSPOD_API']}/{action}",
        data=urlencode(form).encode(),
        headers={"User-Agent": AGENT},
    )
    with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
        body = json.load(answer)
    if body["status"]["code"] != "1":
        sys.exit(f"{action}: {body['status']['message']}")
    return dict(body)


def main(action: str, name: str, value: str) -> None:
    """Put a value at a name, or take the value away."""
    label = name.rstrip(".").removesuffix(f".{os.environ['ZONE']}")
    if action == "present":
        call("Record.Create", sub_domain=label, record_type="TXT", record_line_id="0", value=value)
        return
    listed = call("Record.List", sub_domain=label, record_type="TXT")["records"]
    assert isinstance(listed, list)
    for record in listed:
        if record["value"].strip('"') == value:
            call("Record.Remove", record_id=record["id"])


if __name__ == "__main__":
    action, *arguments = sys.argv[1:]
    if arguments:
        main(action, *arguments)
    else:
        name = f"_acme-challenge.{os.environ['CERTBOT_DOMAIN']}"
        main(action, name, os.environ["CERTBOT_VALIDATION"])
