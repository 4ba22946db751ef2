"""A stand-in for DNSPod at Tencent Cloud's API 3.0, built from docs/facts/dnspod.md §2 and §4."""
