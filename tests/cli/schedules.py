"""Schedules in tests: a configuration, and certferry's line in a crontab."""

from __future__ import annotations

import re
from collections.abc import Mapping

from certferry.cli.exits import Exit
from certferry.cli.main import run
from tests.cli.consoles import TestConsole

CONFIG = """\
[accounts.qiniu]
access_key = "env:QINIU_ACCESS_KEY"
secret_key = "env:QINIU_SECRET_KEY"

[accounts.dnspod]
id = "env:DP_Id"
token = "env:DP_Key"

[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
deploy = [{ to = "qiniu" }]

[notify.ops]
type = "email"
url = "smtps://mail.example.com:465"
from = "certferry@example.com"
to = ["ops@example.com"]
"""
KEYS = "DP_Id=1\nDP_Key=k\nQINIU_ACCESS_KEY=a\nQINIU_SECRET_KEY=s\n"
ENTRY = re.compile(
    rb"(?P<minute>\d+) (?P<hour>\d+),(?P<then>\d+) \* \* \* (?:/bin/sleep (?P<second>\d+); )?"
    rb"(?P<command>.*) # certferry schedule"
)


def certferry(environ: Mapping[str, str], *arguments: object) -> tuple[Exit, str, str]:
    """Run the command in this process, and return the exit code and both outputs."""
    console = TestConsole(environ=environ)
    code = run([str(argument) for argument in arguments], console.console)
    return Exit(code), console.out, console.err


def entry(crontab: bytes | None) -> re.Match[bytes]:
    [line] = [line for line in (crontab or b"").split(b"\n") if b"# certferry schedule" in line]
    match = ENTRY.fullmatch(line)
    assert match is not None, line
    return match
