"""Qiniu (七牛云): CDN and DCDN domains, source domains of Kodo buckets, live domains of Pili.

Qiniu's API (docs/facts/qiniu.md §1 to §11) speaks JSON over HTTPS at several hosts (§1), with two
signature schemes (§2). A "200" means an accepted change; the domain is then `processing` for
minutes to hours (§5.6). The id of a certificate has three spellings (§11). Lists lag behind writes
by seconds.

A run uses the target in four steps:

1. **Observe.** `target` chooses the domains of a deployment. `account` caches the CDN's list and
   the details; `parts` has Kodo's and Pili's domains; `adapters.cdn.copies` finds our copies.
2. **Upload.** `adapters.cdn.copies` uploads fullchain and key once through `account`, under the
   lineage's label. A copy that an earlier run uploaded before the run was killed is used.
3. **Bind.** `cdn` sends `httpsconf`, or `sslize` where HTTPS is off, and keeps the domain's other
   settings; `parts` calls `/cert/bind`, or Pili's call. The next observation shows the effect.
4. **Retire.** `target` asks each part for a domain bound to the copy; `adapters.cdn.copies` removes
   an unbound copy.

`qiniu_client` tries the endpoints of a call in turn. `wire` holds hosts, signatures and answers,
`records` the fields, `errors` the codes. `survey` serves `discover`, `init` and `doctor`.
"""
