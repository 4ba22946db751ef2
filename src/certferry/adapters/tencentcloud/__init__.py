"""Tencent Cloud (腾讯云): DNSPod, CDN domains, hosts of EdgeOne, and the store of SSL certificates.

API 3.0 (docs/facts/tencentcloud.md §1, docs/facts/dnspod.md §2) speaks JSON over HTTPS at a host
for each service. Every call is a POST signed under TC3. Every answer has status 200; a refusal has
the error in the body. One key serves DNS and the target; a key with rights for DNS alone works for
DNS.

A run uses the target in four steps:

1. **Observe.** `cdn` and `edgeone` list the domains with their certificates; `adapters.cdn.parts`
   chooses the domains of a deployment; `store` lists the certificates, and `adapters.cdn.copies`
   finds our copies.
2. **Upload.** `store` uploads once. If the store has the certificate already, also from another
   uploader, the existing id is used.
3. **Bind.** `cdn` sets a single value, or whole objects where HTTPS is off or settings differ from
   the declaration; `edgeone` replaces a host's certificates, and keeps those with other kinds of
   keys.
4. **Retire.** `target` looks for a domain bound to the copy; `store` has Tencent Cloud look for
   other users, and removes an unused copy. If Tencent Cloud may not look, only an expired copy is
   removed.

`tc3` has signature and requests, `tencent_client` the calls and the pace of each service, `account`
the settings, `errors` the codes of all services, `dns` the challenges, `examination` the answers
for `doctor`.
"""
