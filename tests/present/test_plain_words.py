"""Sentences that a first hour stumbled over: each has gone, and what operators say is there."""

from __future__ import annotations

import pytest

from tests.house import translations

SAID = {str(message.id): str(message.string) for message in translations.read("zh") if message.id}

ENGLISH = [
    ("Bring the world to the declared state", "Apply the configuration: issue, deploy, verify"),
    ("Tell on stderr what happens inside", "Print debug details to stderr"),
    ("Wait no longer than this for what takes its time", "Stop waiting after SECONDS"),
    ("An address that the CA may write to", "Contact email for the CA (optional; Enter to skip)"),
    ("the DNSPod API token itself", "DNSPod token"),
    ("Written, for you alone", "Written (mode 0600)"),
    ("nothing sets {name} when the system", "cron/systemd will not have {name} set"),
    ("the target is carrying out a change", "is applying the change (usually {least}–{most} min)"),
    ("no language of certferry's", "is not supported; use {one} or {other}"),
    ("adopted to be ferried", "deploy only; {client} keeps renewing it"),
    ("acme.sh is not at home there", "no acme.sh found there (no account.conf)"),
    ("run in a circle", "CNAME loop at {name}"),
    ("found the certificate wanting", "Qiniu rejected the certificate"),
    ("the CA asks for patience", "the CA asks to retry later"),
    ("the proxy gave no way to", "cannot reach {host} through the proxy"),
    ("is not a valid integer range", "is not a whole number"),
    ("ferry", "HTTPS is off → will be turned on"),
    ("look skipped", "stopped during: issue"),
]
CHINESE = [
    ("所有应答的地址均已出示该证书", "所有能连上的节点都已换上该证书"),
    ("目标正在执行变更", "正在处理变更（通常 {least}–{most} 分钟）"),
    ("显示何人何时做了什么", "显示操作历史"),
    ("使实际状态与声明一致", "按配置执行"),
    ("无法达到声明的状态", "无法按配置完成"),
    ("查看 已跳过 已停止", "已在“签发”时停止"),
    ("所属域名", "{service} 域名"),
    ("DNSPod API Token 本身", "DNSPod Token"),
    ("亲眼看到", "（输入不显示）"),
]
UNNAMED = ("whoever", "nobody", "somebody", "anybody", "it is waited for", "ferried", "ferries")


@pytest.mark.parametrize(("before", "now"), ENGLISH)
def test_english(before: str, now: str) -> None:
    """The sentence is another one."""
    assert [] == [one for one in SAID if before in one and "certferry" not in one]
    assert [] != [one for one in SAID if now in one]


@pytest.mark.parametrize(("before", "now"), CHINESE)
def test_chinese(before: str, now: str) -> None:
    """And so is what it reads as."""
    assert [] == [one for one in SAID.values() if before in one]
    assert [] != [one for one in SAID.values() if now in one]


def test_headers_of_the_status_in_chinese() -> None:
    """What is bound, and where it is served by now."""
    assert ("绑定的证书", "已生效节点") == (SAID["BOUND"], SAID["SERVED"])


@pytest.mark.parametrize("word", UNNAMED)
def test_every_sentence_names_who_does_it(word: str) -> None:
    """No message of the catalogue leaves it to be guessed."""
    assert [] == [one for one in SAID if word in one.lower().split("certferry")[0]]
