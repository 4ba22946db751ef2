"""Choices among vendors that no adapter may make: the usual vendors, the vendors with buckets, and
other names of vendors. Everything else about a vendor is declared by the vendor's adapter
(`ports.adapter`).
"""

from certferry.ports.adapter import DNS_GROUP, TARGET_GROUP

USUAL = {DNS_GROUP: "dnspod", TARGET_GROUP: "qiniu"}
"""The account type of each group used when there is no configuration file. No attribute of an
adapter decides this, because an installed package must not become the place that private keys go to
by default.
"""

BUCKETS = {"s3": "", "kodo": "qiniu"}
"""Types of accounts with buckets, by the scheme of a state's `url`. Keys for `s3` come from the
environment, so `s3` has no account type.
"""

ALSO_CALLED = {
    "alibaba": "aliyun",
    "alicloud": "aliyun",
    "dingding": "dingtalk",
    "lark": "feishu",
    "qcloud": "tencentcloud",
    "tencent": "tencentcloud",
    "weixin": "wecom",
}
"""Types by other names of the services, for mistyped types."""
