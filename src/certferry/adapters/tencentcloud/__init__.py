"""DNSPod by Tencent Cloud's API 3.0, which its vendor recommends (docs/facts/dnspod.md §2).

The zones and records are those of DNSPod, so `dnspod.client.DnspodRecords` does the work; in `dns`
are the calls, their signature (TC3-HMAC-SHA256) and their errors.
"""
