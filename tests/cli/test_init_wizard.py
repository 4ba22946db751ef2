"""The interview of `certferry init`: choices, the way back, channels and heartbeat."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry_sandbox.authority import Authority
from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.dingtalk import SECRET as SIGNS
from certferry_sandbox.messages.dingtalk import DingtalkService
from tests.cli.init_accounts import (
    ACCESS,
    AK,
    CHOSEN,
    DP_ID,
    DP_KEY,
    END,
    HEARTBEAT,
    ID,
    NO_CHANNEL,
    PLAN,
    SECRET,
    SK,
    TOKEN,
    TYPED,
    WHICH_CHANNEL,
    WHICH_WAY,
    WRITE,
    Accounts,
)

DOMAINS = "Domains (Enter for 1-2):"
ROBOT = "the robot's webhook address (input hidden):"
SIGNATURE = "the secret for signing the robot's messages (Enter to skip) (input hidden):"
ANYWAY = "Use the key anyway? [y/N]:"
AS_BEFORE = "(Enter: as before)"


def configuration_of(accounts: Accounts) -> dict[str, Any]:
    return tomllib.loads(accounts.config.read_text())


def names_in(accounts: Accounts) -> list[list[str]]:
    return [entry["names"] for entry in configuration_of(accounts)["certificates"]]


def test_back_at_every_question(accounts: Accounts) -> None:
    """The previous question is asked again, with the previous answer as the default."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (ID, "back\n"),
        (ID, "1\n"),
        (TOKEN, "back\n"),
        (f"DNSPod token ID {AS_BEFORE}:", f"{DP_ID}\n"),
        (TOKEN, f"{DP_KEY}\n"),
        (ACCESS, "back\n"),
        (f"DNSPod token ID {AS_BEFORE}:", "\n"),
        (f"DNSPod token {AS_BEFORE} (input hidden):", "\n"),
        (ACCESS, f"{AK}\n"),
        (SECRET, f"{SK}\n"),
        (WHICH_CHANNEL, "1\n"),
        (ROBOT, "back\n"),
        (WHICH_CHANNEL, "\n"),
        (HEARTBEAT, "back\n"),
        (WHICH_CHANNEL, "\n"),
        (HEARTBEAT, "\n"),
        (DOMAINS, "1\n"),
        (WRITE, "back\n"),
        ("Domains (Enter for 1):", "返回\n"),
        (HEARTBEAT, "\n"),
        ("Domains (Enter for 1):", "all\n"),
        (WHICH_WAY, "back\n"),
        (DOMAINS, "all\n"),
        (WHICH_WAY, "\n"),
        (WRITE, "y\n"),
        (PLAN, "back\n"),
    )

    assert 0 == code, screen
    assert 1 == screen.count("already at the first question")
    assert [["img.example.com", "*.w.example.com"]] == names_in(accounts)
    assert f"DP_Id={DP_ID}\nDP_Key={DP_KEY}\n" in accounts.keys.read_text()
    accounts.must_contain_no_secret(screen)


def test_refusal_offers_other_domains_and_keys(accounts: Accounts) -> None:
    """The answers stay as defaults, and the accounts are read again only if the keys may have
    changed.
    """
    accounts.environ.clear()
    next_step = f"  3  stop, and write nothing\n{WHICH_WAY}"

    code, screen = accounts.interviewed(
        *TYPED,
        *NO_CHANNEL,
        (DOMAINS, "1\n"),
        (WRITE, "n\n"),
        (next_step, "1\n"),
        ("Domains (Enter for 1):", "2\n"),
        (WRITE, "n\n"),
        (next_step, "keys\n"),
        (f"DNSPod token ID {AS_BEFORE}:", "\n"),
        (f"DNSPod token {AS_BEFORE} (input hidden):", "\n"),
        (f"of the Qiniu account {AS_BEFORE}:", "\n"),
        (f"of the Qiniu account {AS_BEFORE} (input hidden):", "\n"),
        *NO_CHANNEL,
        ("Domains (Enter for 2):", "\n"),
        (WRITE, "y\n"),
        (PLAN, "n\n"),
    )

    assert 0 == code, screen
    assert 2 == screen.count("Reading the domains of the account qiniu")
    assert [["*.w.example.com"]] == names_in(accounts)
    assert f"QINIU_SECRET_KEY={SK}\n" in accounts.keys.read_text()


def test_refusal_without_other_choices_ends_the_interview(accounts: Accounts) -> None:
    """With a single domain and keys from the environment there is nothing to change."""
    accounts.qiniu.add_account("another-key", "another-secret")
    accounts.environ |= {"QINIU_ACCESS_KEY": "another-key", "QINIU_SECRET_KEY": "another-secret"}
    end = datetime.now(UTC) + timedelta(days=20)
    old = Authority("Old").issue(["a.example.com"], end - timedelta(days=90), end)
    by_hand = accounts.qiniu.add_certificate(old, "by hand", account="another-key")
    accounts.qiniu.add_domain("a.example.com", https=by_hand, account="another-key")

    code, screen = accounts.interviewed(*NO_CHANNEL, (WRITE, "n\n"))

    assert 0 == code, screen
    assert "a.example.com" in screen
    assert screen.endswith("Nothing was written.")
    assert set() == accounts.new_files()


def test_domain_without_https_is_omitted_unless_chosen(accounts: Accounts) -> None:
    """The explanation has the cost of HTTPS, and the proposed choice leaves the domain
    unchanged.
    """
    accounts.qiniu.add_domain("off.example.com")
    numbers = "Domains (Enter for 1-2):"

    code, screen = accounts.interviewed(
        *NO_CHANNEL, (numbers, "\n"), *CHOSEN[1:], (WRITE, "y\n"), (PLAN, "\n")
    )

    assert 0 == code, screen
    assert (
        "HTTPS is off at off.example.com: if you choose them, the first sync switches HTTPS on"
        in screen
    )
    assert "Qiniu bills them" in screen
    assert [["img.example.com", "*.w.example.com"]] == names_in(accounts)
    left_out = accounts.config.read_text().partition("# Left out: HTTPS is off there, and ")[2]
    assert "a sync would switch it on\n#   off.example.com\n" == left_out
    assert "off.example.com is left out" not in screen.partition("Written")[2]
    # Enter runs the plan.
    assert "1 certificate to issue, 2 deployments." in screen

    accounts.config.unlink()
    code, screen = accounts.interviewed(
        *NO_CHANNEL, (numbers, "1-3\n"), (WHICH_WAY, "\n"), *END[-2:]
    )

    assert 0 == code, screen
    assert [["*.example.com", "*.w.example.com"]] == names_in(accounts)


def test_domains_without_https_have_one_warning(accounts: Accounts) -> None:
    """The domains become comments in the file, and HTTPS stays off."""
    for name in ("a", "b"):
        accounts.qiniu.add_domain(f"{name}.off.example.com")

    ended = accounts.init()

    assert 0 == ended.returncode, ended.stderr
    assert 1 == ended.stderr.count("HTTPS is off there, and a sync would switch it on")
    assert "a.off.example.com, b.off.example.com are left out: HTTPS" in ended.stderr
    assert [["img.example.com", "*.w.example.com"]] == names_in(accounts)
    assert "HTTPS is off" not in accounts.run("plan").stdout


def test_certificate_for_each_domain(accounts: Accounts) -> None:
    """The choice is made by word or number; each certificate is named after a covered name."""
    code, _ = accounts.interviewed(*NO_CHANNEL, (DOMAINS, "\n"), (WHICH_WAY, "each\n"), *END[-2:])

    assert 0 == code
    assert {
        "img.example.com": ["img.example.com"],
        "wildcard.w.example.com": ["*.w.example.com"],
    } == {entry["name"]: entry["names"] for entry in configuration_of(accounts)["certificates"]}
    assert 0 == accounts.run("plan").returncode


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("密钥abc", "contains a character that no key has: check for typographic quotes"),
        ("two words", "contains a space, which no key has: copy only the key"),
    ],
)
def test_impossible_key_is_refused_at_once(accounts: Accounts, typed: str, message: str) -> None:
    """The message comes before any request, for hidden answers as well, and names no file."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (ID, f"{typed}\n"),
        (ID, f" {DP_ID} \n"),
        (TOKEN, f"{typed}\n"),
        (TOKEN, f"{DP_KEY}\n"),
        (ACCESS, "\x04"),
    )

    assert 130 == code
    assert 2 == screen.count(message)
    assert 1 == screen.count("Checking the keys")
    assert "settings.toml" not in screen
    # A public value is visible; for a secret the number of characters is printed.
    assert f"DNSPod token ID:  {DP_ID}" in screen
    assert f"{len(typed)} characters were read." in screen


def test_pair_of_keys_in_one_answer(accounts: Accounts) -> None:
    """A pair in the notation of DNSPod and of other clients answers both questions."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (ID, f"{DP_ID},{DP_KEY}\n"), *TYPED[2:], *NO_CHANNEL, (DOMAINS, "img.*\n"), *END[-2:]
    )

    assert 0 == code, screen
    assert TOKEN not in screen
    assert [["img.example.com"]] == names_in(accounts)
    assert f"DP_Id={DP_ID}\nDP_Key={DP_KEY}\n" in accounts.keys.read_text()


def test_key_of_another_service_is_refused(accounts: Accounts) -> None:
    """The id of a key of Tencent Cloud is no id of a DNSPod token."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (ID, "AKIDz8krbsJ5yKBZQpn74WFkmLPx3Qw7Rt2u\n"), (ID, f"{DP_ID}\n"), (TOKEN, "\x04")
    )

    assert 130 == code
    assert 1 == screen.count("not the DNSPod token ID")


def test_answer_in_another_encoding(accounts: Accounts) -> None:
    """Bytes of GBK do not end the interview, and earlier answers stay."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (ID, f"{DP_ID}\n"),
        (TOKEN, "\udcca\udcc7\n"),
        (TOKEN, f"{DP_KEY}\n"),
        (ACCESS, "\x04"),
        PYTHONIOENCODING="utf-8:strict",  # the setting of every LANG except C
    )

    assert 130 == code, screen
    assert "the input is not UTF-8: set the terminal to UTF-8" in screen
    assert "dnspod accepts the keys" in screen


def test_arrow_keys_edit_an_answer(accounts: Accounts) -> None:
    """A missing digit can be inserted, and the previous line is in the history."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (ID, f"{DP_ID[:3]}{DP_ID[4:]}\x1b[D{DP_ID[3]}\n"),
        (TOKEN, "back\n"),
        (f"DNSPod token ID {AS_BEFORE}:", "\x1b[A\n"),
        (TOKEN, f"{DP_KEY}\n"),
        *TYPED[2:],
        *END,
    )

    assert 0 == code, screen
    assert f"DP_Id={DP_ID}\n" in accounts.keys.read_text()


def test_services_are_chosen_by_number_or_name(accounts: Accounts) -> None:
    """The list is in the order of use in China, and a printed name is a valid answer."""
    accounts.remove_dnspod()
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        (WHICH_WAY, "10\n"),
        (WHICH_WAY, "Tencent Cloud\n"),
        ("the SecretId of a Tencent Cloud API key:", "back\n"),
        (WHICH_WAY, "3\n"),
        ("the AccessKey id of a RAM user at Alibaba Cloud:", "back\n"),
        (WHICH_WAY, "dnspod\n"),
        (ID, "back\n"),
        (WHICH_WAY, "DNSPod\n"),
        (ID, "\x04"),
    )

    assert 130 == code
    rows = screen.partition("DNS provider:\n")[2].splitlines()[:9]
    assert [
        "DNSPod",
        "Tencent Cloud (tencentcloud)",
        "Alibaba Cloud (aliyun)",
        "Cloudflare",
        "RFC 2136 (rfc2136)",
        "acme-dns",
        "lexicon",
        "your own program (command)",
        "Alibaba Cloud DNS (alidns)",
    ] == [row.partition("  ")[2].strip()[1:].strip() for row in rows]
    assert "10 is not a DNS provider; known are dnspod, tencentcloud" in " ".join(screen.split())


def test_channel_and_heartbeat_are_tried(accounts: Accounts) -> None:
    """A message and a ping arrive, and refused settings are asked for again. The keys are stored
    with the other keys, and the next steps mention neither channel nor heartbeat.
    """
    with DingtalkService() as robot, HeartbeatService() as heart:
        secrets = (robot.address, SIGNS, heart.address)
        code, screen = accounts.interviewed(
            (WHICH_CHANNEL, "DingTalk\n"),
            (ROBOT, f"{robot.address}\n"),
            (SIGNATURE, "SECwrong\n"),
            (ANYWAY, "n\n"),
            (WHICH_CHANNEL, "1\n"),
            (f"webhook address {AS_BEFORE} (input hidden):", "\n"),
            (f"messages {AS_BEFORE} (input hidden):", f"{SIGNS}\n"),
            (HEARTBEAT, f"{heart.address}x\n"),
            (ANYWAY, "n\n"),
            (HEARTBEAT, f"{heart.address}\n"),
            *CHOSEN,
            *END[-2:],
        )

    assert 0 == code, screen
    assert "sign not match" in screen
    assert "ops (DingTalk): sent" in screen
    assert 1 == len(robot.taken)
    assert ["success"] == [ping.kind for ping in heart.pings]
    for secret in secrets:
        assert secret not in screen.replace("\n", "")
        assert secret in accounts.keys.read_text()
        assert secret not in accounts.config.read_text()
    assert {
        "type": "dingtalk",
        "url": "env:DINGTALK_URL",
        "secret": "env:DINGTALK_SECRET",
    } == configuration_of(accounts)["notify"]["ops"]
    assert {"url": "env:HEARTBEAT_URL"} == configuration_of(accounts)["heartbeat"]
    assert "help notify" not in screen
    assert "help monitoring" not in screen
    assert "nobody_told" not in accounts.run("doctor").stdout


def test_impossible_address_is_asked_for_again(accounts: Accounts) -> None:
    """An impossible address is never used and never written."""
    code, screen = accounts.interviewed(
        (WHICH_CHANNEL, "1\n"),
        (ROBOT, "oapi.dingtalk.com/robot/send\n"),
        (ROBOT, "back\n"),
        (WHICH_CHANNEL, "\n"),
        (HEARTBEAT, "hc-ping.com/4711\n"),
        (HEARTBEAT, "\n"),
        *CHOSEN,
        *END[-2:],
    )

    assert 0 == code, screen
    assert ANYWAY not in screen
    assert not {"notify", "heartbeat"} & set(configuration_of(accounts))
    assert not accounts.keys.exists()


def test_channel_and_heartbeat_of_the_environment(accounts: Accounts) -> None:
    """Both are tried and referred to without a question, because variables of the environment take
    precedence.
    """
    with DingtalkService(keyword="certferry") as robot, HeartbeatService() as heart:
        accounts.environ |= {"DINGTALK_URL": robot.address, "HEARTBEAT_URL": heart.address}
        code, screen = accounts.interviewed(
            (WHICH_CHANNEL, "1\n"), (SIGNATURE, "\n"), *CHOSEN, *END[-2:]
        )

    assert 0 == code, screen
    assert (1, 1) == (len(robot.taken), len(heart.pings))
    assert {"type": "dingtalk", "url": "env:DINGTALK_URL"} == configuration_of(accounts)["notify"][
        "ops"
    ]
    assert {"url": "env:HEARTBEAT_URL"} == configuration_of(accounts)["heartbeat"]
    assert not accounts.keys.exists()


def test_interview_without_domains(accounts: Accounts) -> None:
    """A warning says that the file declares nothing, and no plan is offered."""
    code, screen = accounts.interviewed(*NO_CHANNEL, (DOMAINS, "none\n"), (WRITE, "y\n"))

    assert 0 == code, screen
    assert "warning: certferry.toml declares no certificates" in screen
    assert "certificates" not in configuration_of(accounts)


def test_unreachable_channel_can_be_confirmed(accounts: Accounts) -> None:
    """A mail server that is unreachable now is written after a confirmation."""
    code, screen = accounts.interviewed(
        (WHICH_CHANNEL, "mail\n"),
        ("smtp://host:587 for STARTTLS:", "smtps://127.0.0.1:9\n"),
        ("the sender's address:", "certferry@example.com\n"),
        ("the recipients' addresses:", "a@example.com b@example.com\n"),
        ("the user name at the server, if required (Enter to skip):", "\n"),
        ("the password at the server (Enter to skip) (input hidden):", "\n"),
        (ANYWAY, "y\n"),
        (HEARTBEAT, "\n"),
        *CHOSEN,
        *END[-2:],
    )

    assert 0 == code, screen
    assert {
        "type": "email",
        "url": "smtps://127.0.0.1:9",
        "from": "certferry@example.com",
        "to": ["a@example.com", "b@example.com"],
    } == configuration_of(accounts)["notify"]["ops"]
    assert "help monitoring" in screen


def test_enter_keeps_channel_and_heartbeat(accounts: Accounts) -> None:
    """On a second pass Enter keeps both settings, and `none` removes a setting."""
    with DingtalkService(keyword="certferry") as robot, HeartbeatService() as heart:
        code, screen = accounts.interviewed(
            (WHICH_CHANNEL, "1\n"),
            (ROBOT, f"{robot.address}\n"),
            (SIGNATURE, "\n"),
            (HEARTBEAT, f"{heart.address}\n"),
            (DOMAINS, "back\n"),
            (f"Heartbeat URL, or `none` {AS_BEFORE} (input hidden):", "back\n"),
            ("Number or name, or `none` (Enter for 1):", "\n"),
            (f"webhook address {AS_BEFORE} (input hidden):", "\n"),
            (SIGNATURE, "\n"),
            (f"Heartbeat URL, or `none` {AS_BEFORE} (input hidden):", "\n"),
            (DOMAINS, "back\n"),
            (f"Heartbeat URL, or `none` {AS_BEFORE} (input hidden):", "none\n"),
            *CHOSEN,
            *END[-2:],
        )

    assert 0 == code, screen
    assert (2, 2) == (len(robot.taken), len(heart.pings))
    assert {"type": "dingtalk", "url": "env:DINGTALK_URL"} == configuration_of(accounts)["notify"][
        "ops"
    ]
    assert "heartbeat" not in configuration_of(accounts)
    assert "HEARTBEAT_URL" not in accounts.keys.read_text()


def test_settings_of_a_mail_server_are_defaults(accounts: Accounts) -> None:
    """Public settings are defaults as well, and an impossible address of a heartbeat is asked for
    again.
    """
    server = "smtp://host:587 for STARTTLS"
    code, screen = accounts.interviewed(
        (WHICH_CHANNEL, "mail\n"),
        (f"{server}:", "127.0.0.1:9\n"),
        ("the sender's address:", "certferry@example.com\n"),
        ("the recipients' addresses:", "a@example.com\n"),
        ("the user name at the server, if required (Enter to skip):", "\n"),
        ("the password at the server (Enter to skip) (input hidden):", "\n"),
        (WHICH_CHANNEL, "mail\n"),
        (f"{server} {AS_BEFORE}:", "smtps://127.0.0.1:9\n"),
        (f"the sender's address {AS_BEFORE}:", "\n"),
        (f"the recipients' addresses {AS_BEFORE}:", "\n"),
        ("the user name at the server, if required (Enter to skip):", "\n"),
        ("the password at the server (Enter to skip) (input hidden):", "\n"),
        (ANYWAY, "y\n"),
        (HEARTBEAT, "foo\n"),
        (HEARTBEAT, "\n"),
        *CHOSEN,
        *END[-2:],
    )

    assert 0 == code, screen
    assert "`url` must be smtps://host:465 or smtp://host:587" in screen
    assert "`url` must be a complete address" in screen
    assert ["a@example.com"] == configuration_of(accounts)["notify"]["ops"]["to"]
    assert "heartbeat" not in configuration_of(accounts)


def test_channel_and_heartbeat_of_the_settings(accounts: Accounts) -> None:
    """The interview asks about neither, and the settings stay unchanged."""
    path = accounts.directory / "settings.toml"
    own = '\n[notify.x]\ntype = "command"\ncommand = ["true"]\n[heartbeat]\nurl = "env:HB"\n'
    path.write_text(path.read_text() + own)
    accounts.environ["HB"] = "https://hc.example.com/ping"

    code, screen = accounts.interviewed(*CHOSEN, *END[-2:])

    assert 0 == code, screen
    assert {"x"} == set(configuration_of(accounts)["notify"])
    assert "help monitoring" not in screen


def test_mistake_in_the_settings_is_reported_first(accounts: Accounts) -> None:
    """The error has the line, and comes before the first question."""
    path = accounts.directory / "settings.toml"
    path.write_text(f"{path.read_text()}\n[verify]\ntimeout = 'long'\n")
    accounts.environ.clear()

    code, screen = accounts.interviewed()

    assert 2 == code
    assert "settings.toml:" in screen
    assert "DNSPod token" not in screen


def test_interview_in_chinese(accounts: Accounts) -> None:
    """Every question is in Chinese, and answers in Chinese are understood."""
    accounts.environ.clear()

    code, screen = accounts.interviewed(
        ("DNSPod Token 的 ID:", f"{DP_ID}\n"),
        ("DNSPod Token（输入不显示）:", "返回\n"),
        ("DNSPod Token 的 ID（回车沿用上次输入）:", "\n"),
        ("DNSPod Token（输入不显示）:", f"{DP_KEY}\n"),
        ("七牛账号的 AccessKey（AK）:", f"{AK}\n"),
        ("七牛账号的 SecretKey（SK）（输入不显示）:", f"{SK}\n"),
        ("序号或名称（回车跳过）:", "钉钉\n"),
        ("机器人的 Webhook 地址（输入不显示）:", "返回\n"),
        ("序号或名称（回车跳过）:", "\n"),
        ("心跳地址（回车跳过）（输入不显示）:", "\n"),
        ("域名（回车为 1-2）:", "全部\n"),
        ("序号或名称（回车为 1）:", "\n"),
        ("写入 certferry.toml 吗？ [Y/n]:", "是\n"),
        ("现在运行 `certferry plan` 吗？ [Y/n]:", "n\n"),
        CERTFERRY_LANG="zh",
    )

    assert 0 == code, screen
    assert "七牛: portal.qiniu.com → 个人中心" in screen
    assert f"已读取 {len(SK)} 个字符。" in screen
    assert [["img.example.com", "*.w.example.com"]] == names_in(accounts)


def test_services_in_chinese(accounts: Accounts) -> None:
    """The list has the usual Chinese names with the types of the file, and both are valid
    answers.
    """
    accounts.remove_dnspod()
    accounts.environ.clear()

    with accounts.terminal(CERTFERRY_LANG="zh") as terminal:
        screen = terminal.until(lambda screen: screen.endswith("序号或名称（回车为 1）:"))
        terminal.type("阿里云\n")
        terminal.until(lambda screen: screen.endswith("阿里云 RAM 用户的 AccessKey ID:"))
        terminal.type("\x04")
        assert 130 == terminal.end()

    assert "  2  腾讯云 (tencentcloud)\n  3  阿里云 (aliyun)\n" in screen
    assert "自己的程序 (command)" in screen
