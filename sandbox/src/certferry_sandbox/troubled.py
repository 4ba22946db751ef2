"""The demo's world with a past and with problems, as the console shows to a newcomer.

The problems: Qiniu refused a certificate, refuses a key for thirty domains, and has an edge that
lags. Another client does not renew. A certificate that certferry did not issue has expired.
`certferry demo --serve` and `certferry sandbox --serve` run this world.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from certferry.cli.options import CommandContext
from certferry.cli.serve import console_process
from certferry.config.load import load
from certferry.core.certificates.pem import parse_bundle
from certferry.core.redaction import Secret
from certferry.present.console import Console
from certferry.present.layout import Span, Tone, line
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.state import opened_state
from certferry_sandbox.authority import Issued
from certferry_sandbox.httpd import utc_now
from certferry_sandbox.messages.dingtalk import SECRET, DingtalkService
from certferry_sandbox.world import CERTIFICATE, World, demonstration

LIFE = timedelta(days=90)
AGES = {"files": 12, "live": 25, "shop": 41, "www": 50, "video": 58}
"""Days since each certificate was issued. `video` has 32 days left and is due in two days,
because Qiniu refuses certificates with fewer than 30 days.
"""
SHOPS = tuple(f"shop-{number:02}" for number in range(1, 31))
"""The lineages at the account with the refused key: one cause for thirty domains."""
SHOPS_AGE = 20  # days since the certificates of `SHOPS` were issued
OTHER_CLIENT_LEFT = timedelta(days=12)
EXPIRED_FOR = timedelta(days=3)
LONGEST_WAIT = 30  # seconds that the first two runs wait, at most, for healthy places
SHORTEST_WAIT = 3  # seconds that the run with the problems waits, at most
EDGE_LAGS_FOR = 300.0
"""Seconds until the edge catches up, so that a newcomer sees a problem end."""
PROCESSING = timedelta(seconds=4)
"""The duration of a change at Qiniu under the console, so that a user can watch a run."""
USUAL_PORT = 8080

_OPENING = Text(
    "A world on loopback, with a past and with trouble in it: a target that refused a"
    " certificate, a key that is refused for thirty domains, an edge that lags behind, a client"
    " that does not renew, a foreign certificate that has expired. Starts within seconds; Ctrl-C"
    " ends it."
)


def open_console(context: CommandContext, directory: Path) -> int:
    """Serve the console of the troubled world until Ctrl-C, and print the login.

    Raises `ConfigError` without the console's libraries.
    """
    console_process()
    context.console.print_wrapped([line(context.console.voice.say(_OPENING)), line()])
    context.console.flush()
    with troubled(directory, context.console) as (world, config, console):
        with config.open("a") as file:
            file.write(f'\n[console]\nlisten = "127.0.0.1:{_free_port()}"\n')
        catch_up = threading.Timer(EDGE_LAGS_FOR, setattr, (world.qiniu.edges[-1], "stale", False))
        catch_up.daemon = True
        catch_up.start()
        world.qiniu.domains.processing_time = PROCESSING
        code = _type("console user add demo --role operator", config, console)
        return code or _type("serve", config, console)


@contextmanager
def troubled(directory: Path, console: Console) -> Iterator[tuple[World, Path, Console]]:
    """Run the world for a `with` block; yield the world, the configuration file, and a console
    with the world's keys.

    The first runs are over: Qiniu refused `shop`, and an edge lags behind for `video`.
    """
    with demonstration(certificate_validity=LIFE) as world, DingtalkService() as robot:
        _furnish(world)
        config = world.write_files(directory, _tables(world, directory, robot))
        ours = replace(console, environ={**console.environ, **world.environment})
        _remember(world, config, ours)
        _run_before(world, config, ours)
        yield world, config, ours


def _furnish(world: World) -> None:
    for name in ("video", "static"):
        world.add_https_domain(f"{name}.example.com")
    for name in ("shop", "beta"):
        world.add_http_domain(f"{name}.example.com")
    world.add_source_domain("files.example.com")
    world.add_live_domain("live.example.com")
    end = utc_now() - EXPIRED_FOR
    expired = world.old_authority.issue(["old.example.com"], end - LIFE, end)
    world.point_at_edges("old.example.com")
    stranger = world.qiniu.add_certificate(expired, "old.example.com, by hand")
    world.qiniu.add_domain("old.example.com", https=stranger)


def _tables(world: World, directory: Path, robot: DingtalkService) -> str:
    """Return the tables of the demo's certificate, `AGES`, `SHOPS`, another client's certificate,
    and two channels. The robot refuses the secret of the second channel.
    """
    at_qiniu = [name for name in AGES if name != "www"]
    other = directory / "acme.sh"
    other.mkdir(exist_ok=True)
    end = utc_now() + OTHER_CLIENT_LEFT
    _write(world.old_authority.issue(["static.example.com"], end - LIFE, end), other)
    ours = "".join(
        f'\n[[certificates]]\nname = "{name}"\nnames = ["{name}.example.com"]\ndns = "dnspod"\n'
        '[[certificates.deploy]]\nto = "qiniu"\n'
        for name in at_qiniu
    )
    shops = (
        f'\n[accounts.qiniu-shops]\ntype = "qiniu"\naccess_key = "env:QINIU_ACCESS_KEY"\n'
        f'secret_key = "replaced-last-week"\napi = "{world.qiniu.api_url}"\n'
        f'fusion = "{world.qiniu.fusion_url}"\nuc = "{world.qiniu.uc_url}"\n'
        f'api_backup = "{world.qiniu.api_backup_url}"\n'
        f'uc_backup = "{world.qiniu.uc_backup_url}"\npili = "{world.qiniu.pili_url}"\n'
        "accept_no_common_name = true\n"
    ) + "".join(
        f'\n[[certificates]]\nname = "{name}"\nnames = ["{name}.example.com"]\ndns = "dnspod"\n'
        f'[[certificates.deploy]]\nto = "qiniu-shops"\ndomains = ["{name}.example.com"]\n'
        for name in SHOPS
    )
    robots = "".join(
        f'\n[notify.{name}]\ntype = "dingtalk"\nurl = "{robot.address}"\nsecret = "{secret}"\n'
        for name, secret in (("ops", SECRET), ("night-shift", f"SEC{'0' * 64}"))
    )
    return (
        f'{CERTIFICATE}{ours}\n[[certificates]]\nname = "www"\nnames = ["www.example.com"]\n'
        f'dns = "dnspod"\n[[certificates.deploy]]\nto = "files"\ndirectory = "www"\n{shops}'
        f'\n[[certificates]]\nname = "static"\nfullchain = "{other / "fullchain.pem"}"\n'
        f'privkey = "{other / "privkey.pem"}"\n[[certificates.deploy]]\nto = "qiniu"\n{robots}'
    )


def _write(issued: Issued, directory: Path) -> None:
    (directory / "fullchain.pem").write_text(issued.fullchain_pem)
    key = directory / "privkey.pem"
    key.touch(0o600)
    key.write_text(issued.privkey_pem)


def _remember(world: World, config: Path, console: Console) -> None:
    """Store the certificates of `AGES` and `SHOPS` as if issued by certferry on earlier days."""
    settings = load(config, console.environ, ADAPTERS)
    with closing(opened_state(settings)) as state:
        for lineage, days in {**AGES, **dict.fromkeys(SHOPS, SHOPS_AGE)}.items():
            begin = utc_now() - timedelta(days=days)
            issued = world.old_authority.issue([f"{lineage}.example.com"], begin, begin + LIFE)
            bundle = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))
            lease = state.acquire(lineage, state.now())
            state.save_version(lease, bundle, begin)
            state.release(lease)


def _run_before(world: World, config: Path, console: Console) -> None:
    """Run certferry without output: twice for healthy places, then once with the problems.

    The console shows the failures of the last run.
    """
    silent = replace(console, stdout=io.StringIO(), stderr=io.StringIO())
    _run(f"-q sync img files live www --wait {LONGEST_WAIT}", config, silent)
    _run(f"-q sync img --renew --wait {LONGEST_WAIT}", config, silent)
    world.qiniu.edges[-1].stale = True
    world.qiniu.fail_next("shop.example.com")
    _run(f"-q sync --wait {SHORTEST_WAIT}", config, silent)


def _type(words: str, config: Path, console: Console) -> int:
    """Print a command line, and run the command in this process."""
    console.print([line(Span(f"$ certferry {words}", Tone.STRONG))])
    console.flush()
    return _run(words, config, console)


def _run(words: str, config: Path, console: Console) -> int:
    from certferry.cli.main import run

    language = console.voice.language
    return run(["--lang", language, "--config", os.fspath(config), *words.split()], console)


def _free_port() -> int:
    """Return the console's usual port, or any free port if the usual port is taken."""
    for port in (USUAL_PORT, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as free:
            return int(free.getsockname()[1])
    raise OSError
