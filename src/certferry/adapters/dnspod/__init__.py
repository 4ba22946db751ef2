"""DNSPod by its token API (docs/facts/dnspod.md §1), and what both of its APIs have in common.

How the API is: a form posted to `Group.Action`, an answer with HTTP 200 whatever happened, a
status code in the body. A wrong User-Agent, or refused credentials that are sent again, get an
account banned (§1.2).

1. `dns` is the DNS service: it puts a TXT value, and takes it away.
2. `records` finds the zone, writes, and reads back, by whichever of the two APIs.
3. `client` makes the calls, one at a time, within the hourly budget.
4. `errors` turns a status code into an error with advice.
"""
