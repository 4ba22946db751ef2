"""Qiniu (七牛云): CDN and DCDN domains, source domains of Kodo buckets, live domains of Pili.

How its API is (docs/facts/qiniu.md §1 to §11): JSON over HTTPS at several hosts (§1), signed by
one of two schemes (§2); a "200" means that a change was accepted, and the domain is then
`processing` for minutes to hours (§5.6). One id has three spellings (§11). Lists lag behind
writes for seconds.

What the target does, in the order of a run:

1. **Observe.** `observe` chooses the domains of a deployment: `account` has the CDN's list, read at
   most every few seconds, and the detail of each; `parts` has Kodo's and Pili's domains.
   `certificates` finds our copies.
2. **Upload.** `certificates` uploads a chain and key once, under the lineage's label, and takes
   back an uploaded copy that an earlier run had no time to store.
3. **Bind.** `cdn` sends `httpsconf`, or `sslize` where HTTPS is off, with the settings that are
   there; `parts` calls `/cert/bind`, or Pili's call. The next observation says whether it took
   effect.
4. **Retire.** `certificates` removes a copy that carries our label and that nothing binds.

`target` has the settings and leads through these. `client` has the calls and sends each to the
first endpoint that answers it; `wire` knows hosts, signatures and answers, `records` the fields,
`errors` what each code means. `survey` is for `discover`, `init` and `doctor`.
"""
