"""A stand-in for DNSPod's token API, after docs/facts/dnspod.md §1 and §4; see `service`."""
