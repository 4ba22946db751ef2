"""A stand-in of Alibaba Cloud: CDN, DCDN, CAS and DNS, with signatures, rights and TLS edges.

    with AliyunService() as aliyun:  # aliyun.cdn.url, aliyun.dcdn.url, aliyun.cas.url
        aliyun.add_account("LTAI5t", "secret")
        aliyun.add_domain("img.example.com", product="dcdn")

`service` has the whole; `gateway` checks every call; `cdn` and `cas` have the calls; `habits` has
the switches; `dns` has Alibaba Cloud DNS.
"""
