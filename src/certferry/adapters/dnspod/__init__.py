"""DNSPod by its token API (docs/facts/dnspod.md §1), and what both of its APIs have in common.

How the API is: a form posted to `Group.Action`, an answer with HTTP 200 whatever happened, a
status code in the body. A wrong User-Agent, or refused credentials that are sent again, get an
account banned (§1.2).

1. `dns` is the DNS service, and keeps to the requests that an account may send in an hour.
2. `client` finds the zone, writes and reads back, one call at a time, and turns a status code into
   an error with advice; its `DnspodRecords` does so by Tencent Cloud's API as well.
"""
