"""A stand-in of DNSPod's token API, built from docs/facts/dnspod.md §1 and §4: `service` joins its
calls.
"""
