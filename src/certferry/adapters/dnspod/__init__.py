"""DNSPod by its token API (docs/facts/dnspod.md §1), and the parts shared with Tencent Cloud's API.

A call of the token API is a form posted to the path `Group.Action`. The answer has HTTP status 200
even for errors, with a code in the body. DNSPod bans an account that sends a wrong User-Agent, or
refused credentials again (§1.2).

1. `dns` has the settings, and keeps to the number of requests allowed to an account in an hour.
2. `dnspod_client` makes the calls, one at a time, and turns an error's code into an error with
   advice. `DnspodRecords` there also serves Tencent Cloud's API.
"""
