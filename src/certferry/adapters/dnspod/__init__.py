"""DNSPod by its token API (docs/facts/dnspod.md §1), and the parts shared with Tencent Cloud's API.

The token API takes a form posted to `Group.Action`, and answers HTTP 200 with a status code in the
body, also for errors. A wrong User-Agent, or refused credentials sent again, get an account banned
(§1.2).

1. `dns` has the settings, and keeps to the number of requests allowed to an account in an hour.
2. `dnspod_client` finds the zone, writes and reads back, one call at a time, and turns a status
   code into an error with advice; `DnspodRecords` also works by Tencent Cloud's API.
"""
