"""Kill a delivery before each of its system calls in turn, and print the state of the files.

Usage: python killed_delivery.py FOLDER WAY STEP

Each position (each STEP-th) gets a fresh folder that holds certificate A. A child process delivers
B, and kills itself with SIGKILL before its n-th system call. The parent then delivers B to the end.
WAY is `plain`, or `tested` for a delivery with a program `test`, or `refused` if that program fails
in the child, so the child puts A back.

A line of JSON holds the certificate of each file after the kill and at the end, the certificate
observed after the kill, whether the files are the very files of A, the modes of all files with the
key (the umask is 0), and the content that each run of `reload` read. The program ends when a child
survives.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from certferry.adapters.files.directory import NAMES, contents
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import FileDelivery
from certferry.errors import DeployError
from tests.adapters.receivers.bench import LINEAGE, directory, issue, program

WATCHED = ("open", "os.", "subprocess.Popen", "shutil.")

RELOAD = 'cat "$CERTFERRY_PRIVKEY" "$CERTFERRY_FULLCHAIN" | cksum >> seen'


def arm(position: int) -> None:
    count = itertools.count(1)

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(WATCHED) and next(count) == position:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def owners_of_files(folder: Path, old: CertificateBundle, new: CertificateBundle) -> dict[str, str]:
    by_content = dict.fromkeys(contents(old).items(), "A")
    by_content |= dict.fromkeys(contents(new).items(), "B")
    # chain.pem is the same in A and B.
    return {
        name: by_content.get((name, (folder / name).read_bytes()), "torn")
        for name in NAMES
        if name != "chain.pem"
    }


def modes_of_keys(folder: Path) -> list[str]:
    return [f"{path.stat().st_mode & 0o777:04o}" for path in folder.glob("*privkey.pem*")]


def try_position(
    folder: Path, position: int, old: CertificateBundle, new: CertificateBundle, way: str
) -> bool:
    """Kill at one position, and return whether the kill came before the end of the delivery."""
    test = None if way == "plain" else program(folder, "/bin/sh", "-c", "! test -e refuse")
    delivery = FileDelivery(
        str(folder / "ssl"), reload=program(folder, "/bin/sh", "-c", RELOAD), test=test
    )
    directory(delivery).deliver(LINEAGE, old)
    before = {name: (folder / "ssl" / name).stat().st_ino for name in NAMES}
    if way == "refused":
        (folder / "refuse").touch()
    child = os.fork()
    if child == 0:
        arm(position)
        with suppress(DeployError):
            directory(delivery).deliver(LINEAGE, new)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    (folder / "refuse").unlink(missing_ok=True)
    are_same = before == {name: (folder / "ssl" / name).stat().st_ino for name in NAMES}
    bound = directory(delivery).observe(None).bound
    after_the_kill = owners_of_files(folder / "ssl", old, new)
    keys = modes_of_keys(folder / "ssl")
    observed = directory(delivery).observe(None)
    directory(delivery).deliver(LINEAGE, new)
    line = {
        "position": position,
        "killed": after_the_kill,
        "keys": keys,
        "same": are_same,
        "bound": {old.certificate.fingerprint: "A", new.certificate.fingerprint: "B"}.get(
            bound or ""
        ),
        "in_order": observed.drift is None and observed.bound == new.certificate.fingerprint,
        "finished": owners_of_files(folder / "ssl", old, new),
        "left": sorted(path.name for path in (folder / "ssl").iterdir() if path.name not in NAMES),
        "seen": (folder / "seen").read_text().splitlines(),
    }
    print(json.dumps(line), flush=True)  # noqa: T201 - the test reads this line
    return os.WIFSIGNALED(status)


def main(folder: Path, way: str, step: int) -> None:
    os.umask(0)
    old, new = issue(), issue()
    for position in itertools.count(1, step):
        place = folder / str(position)
        place.mkdir(0o700)
        if not try_position(place, position, old, new, way):
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
