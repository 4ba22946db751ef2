"""Delivery of four PEM files to a directory of this machine, followed by an optional program.

- All files change in one rename (`adapters.files.swap`), so a reader finds the old or the new
  files, whole, and a killed run leaves a key that belongs to the certificate. A server that reads
  one file before and the other after the rename still finds a mismatched pair.
- `test` and then `reload` run after all four files are new. If `test` fails, the files are as they
  were before. After a killed run, the next run completes the delivery.
- Every access goes through the opened directory. Only root, the caller and the declared `owner` may
  control the path to the directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path

from certferry.adapters.files import directory as pem
from certferry.adapters.files import swap
from certferry.adapters.files.receipt import (
    RECEIPT,
    FoundCopy,
    FoundDelivery,
    Receipt,
    as_before,
    observed_domain,
    unusable,
)
from certferry.adapters.programs import run as programs
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.core.desired.certificate import FileDelivery, Program
from certferry.core.observed.observation import ObservedDomain, ReceiverDrift
from certferry.core.redaction import Secret
from certferry.errors import DeployError
from certferry.file_trust import checked_path
from certferry.ports.progress import Pause
from certferry.ports.receiver import Delivered
from certferry.ports.state import must_still_hold
from certferry.text import Text

_RECEIPT_ACCESS = pem.FileAccess(0o600)  # only certferry reads the receipt

_UNTOUCHED = Text("the earlier files are unchanged")
_NEXT_RUN = Text("the next run checks every file again, and continues from there")


@dataclass(frozen=True)
class FilesReceiver:
    """A directory, as a `ports.receiver.Receiver`.

    A receipt beside the files is removed before any change, and written after the success of
    `reload`. A missing receipt marks an unfinished delivery.
    """

    #: The declared directory, with the files' rights and `reload`.
    delivery: FileDelivery
    _: KW_ONLY
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: Environment variables removed from the environment of `reload`.
    withheld: Collection[str] = ()
    #: Secrets masked in the words of `reload`, besides the key.
    hidden: Collection[Secret] = ()

    @property
    def _directory(self) -> Path:
        return Path(self.delivery.directory)

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Compare the files with the receipt, and return the result. If the directory cannot be
        used, the returned domain is `UNAVAILABLE` and has the problem.

        `delivered`, from the state, is ignored: the files and the receipt tell more.
        """
        try:
            with self._translating_errors(pem.RIGHTS):
                self._must_be_usable()
                receipt, leaf, drift = self._observed()
        except DeployError as problem:
            return unusable(self.delivery, problem)
        return observed_domain(self.delivery, receipt, leaf, drift)

    def deliver(self, lineage: str, bundle: CertificateBundle, *, again: bool = False) -> None:
        """Write the differing files, read all four back, run `reload`, and write the receipt. Do
        nothing if the files and the receipt are up to date, unless `again`. Raises `DeployError`.
        """
        with ExitStack() as held:
            with self._translating_errors(_UNTOUCHED):
                self._must_be_usable()
                place = held.enter_context(pem.made(self._directory, self._owners()))
                swap.finish(place, pem.NAMES)
                drafts = self._prepared(place, bundle, held, again=again)
                if drafts:
                    self._keep_earlier(place)
            if not drafts:
                return
            with self._translating_errors(_NEXT_RUN):
                self._put_in_place(place, bundle, drafts)
            # Outside the translation, because a failing program is not an error of the directory.
            if self.delivery.test is not None:
                self._test(place, partial(self._run, self.delivery.test, lineage, bundle))
            if self.delivery.reload is not None:
                self._run(self.delivery.reload, lineage, bundle)
            with self._translating_errors(_NEXT_RUN):
                swap.forget(place)  # before the receipt, so no run leaves an earlier key behind
                place.put(drafts[RECEIPT], RECEIPT)
                place.sync()

    def _observed(self) -> tuple[Receipt | None, str | None, ReceiverDrift | None]:
        """Return the receipt, the fingerprint of the leaf in the files, and the drift of the files.
        Each is `None` if missing; all are `None` for a missing directory.
        """
        try:
            with pem.opened(self._directory, self._owners()) as place:
                contents = FoundDelivery(
                    {name: self._found(place, name) for name in pem.NAMES},
                    frozenset(name for name in pem.NAMES if swap.is_on_the_way(place, name)),
                    swap.read(place, FULLCHAIN),
                    Receipt.decode(place.read(RECEIPT)),
                )
        except FileNotFoundError:
            return None, None, None
        return contents.receipt, *contents.compared(self.delivery)

    def _found(self, place: pem.OpenDirectory, name: str) -> FoundCopy | None:
        file, wanted = place.observe(name), self._access(name)
        if file is None:
            return None
        is_allowed = wanted.allows(file.access)
        words = None if is_allowed else (file.access.in_words, wanted.in_words)
        return FoundCopy(file.digest, words)

    def _is_there(self, place: pem.OpenDirectory, name: str, content: bytes) -> bool:
        file = place.observe(name)
        if file is None or file.digest != pem.digest(content):
            return False
        return self._access(name).allows(file.access)

    def _access(self, name: str) -> pem.FileAccess:
        """Return a file's declared mode, owner and group. Raises `TargetRejected` for an unknown
        owner or group.
        """
        delivery = self.delivery
        return pem.FileAccess(
            delivery.key_mode if name == PRIVKEY else delivery.mode,
            pem.user_number(delivery.owner),
            pem.group_number(delivery.group),
        )

    def _must_be_usable(self) -> None:
        """Raise `DeployError` or `OSError` if the directory cannot take a delivery."""
        directory = self._directory
        self._access(PRIVKEY)
        for program in filter(None, (self.delivery.test, self.delivery.reload)):
            programs.must_be_there(program)
        if not os.path.lexists(directory):
            # A delivery creates only the last directory of the path. If the parent is missing too,
            # the path is probably mistyped, or a disk is not mounted.
            pem.must_be_writable(
                directory.parent, Text("create the directory, or correct `directory`")
            )
            with checked_path(directory, self._owners()):
                return
        pem.must_be_writable(directory, pem.RIGHTS)
        with pem.opened(self._directory, self._owners()) as place:
            names = [name for name in pem.NAMES if not swap.is_on_the_way(place, name)]
        pem.must_take_files(directory, names)

    def _owners(self) -> list[int]:
        """Return the permitted owners of the directory, besides root and the caller."""
        owner = pem.user_number(self.delivery.owner)
        return [] if owner is None else [owner]

    def _translating_errors(self, hint: Text) -> AbstractContextManager[None]:
        return pem.translating_errors(self._directory, hint, has_owner=True)

    def _prepared(
        self, place: pem.OpenDirectory, bundle: CertificateBundle, held: ExitStack, *, again: bool
    ) -> Mapping[str, str]:
        """Write drafts of the receipt and of the files that differ. Return the drafts' names by
        file; an empty mapping if the delivery is up to date and not to be made `again`.

        If the disk is full, the error comes here, before any file changes.
        """
        wanted = pem.contents(bundle)
        place.sweep()
        differing = [name for name in pem.NAMES if not self._is_there(place, name, wanted[name])]
        changing = {name: wanted[name] for name in differing}
        receipt = Receipt.of(bundle, self.delivery.reload)
        if not (changing or again) and receipt == Receipt.decode(place.read(RECEIPT)):
            return {}
        drafts: dict[str, str] = {}
        for name, content in {**changing, RECEIPT: receipt.encode()}.items():
            access = _RECEIPT_ACCESS if name == RECEIPT else self._access(name)
            drafts[name] = place.draft(name, content, access)
            held.callback(_discard, place, drafts[name])
        return drafts

    def _put_in_place(
        self, place: pem.OpenDirectory, bundle: CertificateBundle, drafts: Mapping[str, str]
    ) -> None:
        """Remove the receipt, give the drafts of the files their names at once, and read the files
        back. The caller puts the new receipt in place after the programs' success. Raises
        `DeployError` if a file differs.
        """
        must_still_hold()
        place.remove(RECEIPT)
        place.sync()
        swap.put_together(place, {name: drafts[name] for name in pem.NAMES if name in drafts})
        # Read the files back before a server loads them.
        for name, content in pem.contents(bundle).items():
            if not self._is_there(place, name, content):
                path = self._directory / name
                problem = Text("{path} is no longer as certferry wrote it a moment ago", path=path)
                hint = Text("another program writes to the same files; keep only one of the two")
                raise DeployError(problem, hint=hint)

    def _keep_earlier(self, place: pem.OpenDirectory) -> None:
        """Keep the present files for a failure of `test`. Without a receipt, the files kept by an
        unfinished delivery stay, because the present files were never tested.
        """
        is_complete = Receipt.decode(place.read(RECEIPT)) is not None
        if self.delivery.test is not None and (is_complete or not swap.is_kept(place)):
            swap.keep(place, (*pem.NAMES, RECEIPT))

    def _test(self, place: pem.OpenDirectory, test: Callable[[], None]) -> None:
        """Run `test`. If the program fails, put the files and the receipt back as they were before
        the delivery. Raises `DeployError`.
        """
        try:
            test()
        except DeployError as error:
            with self._translating_errors(_NEXT_RUN):
                swap.put_back(place, (*pem.NAMES, RECEIPT))
                swap.forget(place)
            raise as_before(error) from error

    def _run(self, program: Program, lineage: str, bundle: CertificateBundle) -> None:
        programs.run(
            program,
            pem.variables(lineage, bundle, self._directory),
            self.pause,
            hidden=[bundle.privkey_pem, *self.hidden],
            withheld=self.withheld,
        )


def _discard(place: pem.OpenDirectory, drafted: str) -> None:
    """Remove an unused draft, if possible. The next delivery removes any draft still there."""
    with suppress(OSError):
        place.remove(drafted)
