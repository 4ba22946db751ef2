"""Qiniu (七牛云): CDN and DCDN domains, source domains of Kodo buckets, live domains of Pili.

How its API is (docs/facts/qiniu.md §1 to §11): JSON over HTTPS at several hosts (§1), signed by
one of two schemes (§2); a "200" means that a change was accepted, and the domain is then
`processing` for minutes to hours (§5.6). One id has three spellings (§11). Lists lag behind
writes for seconds.

What the target does, in the order of a run:

1. **Observe.** `target` chooses the domains of a deployment: `account` has the CDN's list, read at
   most every few seconds, each detail, and our copies; `parts` has Kodo's and Pili's domains.
2. **Upload.** `account` uploads a chain and key once, under the lineage's label, and takes back an
   uploaded copy that an earlier run had no time to store.
3. **Bind.** `cdn` sends `httpsconf`, or `sslize` where HTTPS is off, with the settings that are
   there; `parts` calls `/cert/bind`, or Pili's call. The next observation shows whether it worked.
4. **Retire.** `account` removes a copy that carries our label and that nothing binds.

`client` sends each call to the first endpoint that answers it; `wire` knows hosts, signatures and
answers, `records` the fields, `errors` the codes. `survey` is for `discover`, `init` and `doctor`.
"""
