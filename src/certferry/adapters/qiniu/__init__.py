"""Qiniu (七牛云): CDN and DCDN domains, source domains of Kodo buckets, live domains of Pili.

How its API is (docs/facts/qiniu.md §1 to §11): JSON over HTTPS at several hosts (§1), signed by
one of two schemes (§2); a "200" means that a change was accepted, and the domain is then
`processing` for minutes to hours (§5.6). One id has three spellings (§11). Lists lag behind
writes for seconds.

What the target does, in the order of a run:

1. **Observe.** `target` reads the account's lists (`account`, at most every few seconds),
   chooses the domains of a deployment and reads the detail of each (`cdn`, `kodo`, `live`);
   `certificates` finds our copies.
2. **Upload.** `certificates` uploads a chain and key once, under the lineage's label, and takes
   back an uploaded copy that an earlier run had no time to store.
3. **Bind.** `cdn` sends `httpsconf`, or `sslize` where HTTPS is off, with the settings that are
   there; `kodo` calls `/cert/bind`, `live` Pili's call. The next observation says whether it
   took effect.
4. **Retire.** `certificates` removes a copy that carries our label and that nothing binds.

`wire` knows hosts and signatures, `transport` sends one call and reads pages, `client` has the
calls, `records` their fields, `errors` what each code means. `survey` lists all of an account
for `discover`, `init` and `doctor`.
"""
