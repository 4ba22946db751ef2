"""Alibaba Cloud (阿里云): Alibaba Cloud DNS, and the domains of CDN and DCDN.

Every service answers signed RPC calls as JSON (docs/facts/aliyun.md §1): Alibaba Cloud DNS
(`dns`), CDN and DCDN with calls of the same shape (§3, §4), and the store of certificates (CAS,
§5). One AccessKey signs all calls (`rpc`, `account`).

A run uses the target in four steps:

1. **Observe.** `domains` reads the list of each product; `adapters.cdn.parts` chooses the domains
   of a deployment; `domains` reads a binding if the list of the account shows a change.
2. **Upload.** `adapters.cdn.copies` uploads fullchain and key once through `cas`, under the
   lineage's label. Without rights for CAS, `cas.Pairs` keeps the pair until the binding.
3. **Bind.** `domains` sends one call for one domain, with HTTPS on; the call carries no other
   setting of the domain. The next observation reads the binding back.
4. **Retire.** `cas` removes a copy that no domain uses, after the certificate's end: Alibaba Cloud
   does not say which other products use the copy.

`target` joins the steps. `errors` has the codes. `examination` serves `doctor`. `alidns` is an
older type of account with DNS alone.
"""
