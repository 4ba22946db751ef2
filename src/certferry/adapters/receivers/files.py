"""Delivery of four PEM files to a directory of this machine, followed by an optional program.

- Each file is replaced atomically, so a reader finds the whole old file or the whole new file. The
  files change one directly after the other. A server that reads key and fullchain in between finds
  a mismatched pair.
- `reload` runs after all four files are new. After a killed run, the next run completes the
  delivery.
- Files are opened relative to the opened directory, never by path. Only root, the caller and the
  declared `owner` may control the path to the directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct
from msgspec.structs import asdict

from certferry.adapters.files import directory as pem
from certferry.adapters.programs import run as programs
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.core.desired.certificate import FileDelivery, Kind
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, ReceiverDrift
from certferry.core.reasons import Reason, ReasonCode
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
        observed = partial(ObservedDomain, self.delivery.directory, Kind.FILES)
        try:
            with self._translating_errors(pem.RIGHTS):
                self._must_be_usable()
                receipt, leaf, drift = self._observed()
        except DeployError as problem:
            return observed(DomainState.UNAVAILABLE, None, problem=problem)
        fullchain = None
        # If the receipt is for another leaf, its digest is not the digest of this fullchain.
        if receipt is not None and receipt.fingerprint == leaf:
            fullchain = receipt.digests.get(FULLCHAIN)
        return observed(DomainState.READY, leaf, drift=drift, fullchain_digest=fullchain)

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Write the differing files, read all four back, run `reload`, and write the receipt. Do
        nothing if the files and the receipt are up to date. Raises `DeployError`.
        """
        with ExitStack() as held:
            with self._translating_errors(_UNTOUCHED):
                self._must_be_usable()
                place = held.enter_context(pem.made(self._directory, self._owners()))
                drafts = self._prepared(place, bundle, held)
            if not drafts:
                return
            with self._translating_errors(_NEXT_RUN):
                self._put_in_place(place, bundle, drafts)
            # Outside `_translating_errors`: the failure of a program is no error of the directory.
            self._reload(lineage, bundle)
            with self._translating_errors(_NEXT_RUN):
                place.put(drafts[RECEIPT], RECEIPT)
                place.sync()

    def _observed(self) -> tuple[Receipt | None, str | None, ReceiverDrift | None]:
        """Return the receipt, the fingerprint of the leaf in the files, and the drift of the files.
        Each is `None` if missing; all are `None` for a missing directory.
        """
        try:
            with pem.opened(self._directory, self._owners()) as place:
                receipt = Receipt.decode(place.read(RECEIPT))
                return receipt, *self._compare(place, receipt)
        except FileNotFoundError:
            return None, None, None

    def _compare(
        self, place: pem.OpenDirectory, receipt: Receipt | None
    ) -> tuple[str | None, ReceiverDrift | None]:
        leaf = _leaf(place.read(FULLCHAIN))
        if receipt is None:
            return leaf, None if leaf is None else self._unfinished(place)
        held = leaf or receipt.fingerprint
        changes = tuple(self._changes(place, receipt.digests))
        if changes:
            sentence = Text("another program changed the delivered files")
            return held, ReceiverDrift(Reason(ReasonCode.DELIVERY_DRIFTED, sentence), changes)
        reload = self.delivery.reload
        if reload is not None and receipt.reload != reload.digest:
            return held, self._unfinished(place) if receipt.reload is None else _edited()
        return held, None

    def _changes(
        self, place: pem.OpenDirectory, digests: Mapping[str, str] | None = None
    ) -> Iterator[Change]:
        """Yield the differences from the delivery: missing files, other contents, other rights.

        Contents are compared only if `digests` are given.
        """
        for name in pem.NAMES:
            file = place.observe(name)
            if file is None:
                yield Change(name, "missing", "delivered")
            elif digests is not None and file.digest != digests.get(name):
                yield Change(name, "changed", "delivered")
            elif not self._access(name).allows(file.access):
                yield Change(name, file.access.in_words, self._access(name).in_words)

    def _unfinished(self, place: pem.OpenDirectory) -> ReceiverDrift:
        changes, sentence = (
            [*self._changes(place)],
            Text("the certificate has not been fully delivered yet"),
        )
        if self.delivery.reload is not None:
            changes.append(Change("reload", "not run", "run"))
            sentence = Text("`reload` has not yet succeeded with the certificate")
        return ReceiverDrift(Reason(ReasonCode.DELIVERY_UNFINISHED, sentence), tuple(changes))

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
        if self.delivery.reload is not None:
            programs.must_be_there(self.delivery.reload)
        if not os.path.lexists(directory):
            # A delivery creates only the last directory of the path. If the parent is missing too,
            # the path is probably mistyped, or a disk is not mounted.
            pem.must_be_writable(
                directory.parent, Text("create the directory, or correct `directory`")
            )
            with checked_path(directory, self._owners()):
                return
        pem.must_be_writable(directory, pem.RIGHTS)
        with pem.opened(self._directory, self._owners()):
            pass
        pem.must_take_files(directory, pem.NAMES)

    def _owners(self) -> list[int]:
        """Return the permitted owners of the directory, besides root and the caller."""
        owner = pem.user_number(self.delivery.owner)
        return [] if owner is None else [owner]

    def _translating_errors(self, hint: Text) -> AbstractContextManager[None]:
        return pem.translating_errors(self._directory, hint, has_owner=True)

    def _prepared(
        self, place: pem.OpenDirectory, bundle: CertificateBundle, held: ExitStack
    ) -> Mapping[str, str]:
        """Write drafts of the receipt and of the files that differ. Return the drafts' names by
        file; an empty mapping if the delivery is up to date.

        If the disk is full, the error comes here, before any file changes.
        """
        wanted = pem.contents(bundle)
        place.sweep()
        differing = [name for name in pem.NAMES if not self._is_there(place, name, wanted[name])]
        changing = {name: wanted[name] for name in differing}
        reload = self.delivery.reload
        receipt = Receipt(
            fingerprint=bundle.certificate.fingerprint,
            digests={name: pem.digest(content) for name, content in wanted.items()},
            reload=None if reload is None else reload.digest,
        )
        if not changing and receipt == Receipt.decode(place.read(RECEIPT)):
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
        """Remove the receipt, rename the drafts of the files, and read the files back. The caller
        puts the new receipt in place after the program's success. Raises `DeployError` if a file
        differs.
        """
        must_still_hold()
        place.remove(RECEIPT)
        place.sync()
        for name in pem.NAMES:
            if name in drafts:
                place.put(drafts[name], name)
        place.sync()
        # Read the files back before a server loads them.
        for name, content in pem.contents(bundle).items():
            if not self._is_there(place, name, content):
                path = self._directory / name
                problem = Text("{path} is no longer as certferry wrote it a moment ago", path=path)
                hint = Text("another program writes to the same files; keep only one of the two")
                raise DeployError(problem, hint=hint)

    def _reload(self, lineage: str, bundle: CertificateBundle) -> None:
        if self.delivery.reload is not None:
            programs.run(
                self.delivery.reload,
                pem.variables(lineage, bundle, self._directory),
                self.pause,
                hidden=[bundle.privkey_pem, *self.hidden],
                withheld=self.withheld,
            )


def _discard(place: pem.OpenDirectory, drafted: str) -> None:
    """Remove an unused draft, if possible. The next delivery removes any draft still there."""
    with suppress(OSError):
        place.remove(drafted)


def _edited() -> ReceiverDrift:
    sentence = Text("`reload` was edited after its last run")
    reason = Reason(ReasonCode.PROGRAM_EDITED, sentence)
    return ReceiverDrift(reason, (Change("reload", "edited", "run"),))


def _leaf(fullchain: bytes | None) -> str | None:
    """Return the fingerprint of the first certificate in PEM; `None` if it is missing or
    unreadable.
    """
    try:
        leaf = x509.load_pem_x509_certificate(fullchain or b"")
    except ValueError:
        return None
    return leaf.fingerprint(SHA256()).hex()


RECEIPT = ".certferry"
"""The name of the receipt's file."""


class Receipt(Struct, frozen=True):
    """Proof of a completed delivery, stored beside the files."""

    #: The leaf's fingerprint.
    fingerprint: str
    #: The SHA-256 of each file, by name.
    digests: Mapping[str, str]
    #: The digest of the program `reload`; `None` without a program.
    reload: str | None = None

    def encode(self) -> bytes:
        """Return the receipt as the content of the file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes | None) -> Receipt | None:
        """Return the receipt; `None` if missing or corrupt, so the delivery is made again."""
        try:
            fields = json.loads(data or b"")
            return cls(str(fields["fingerprint"]), dict(fields["digests"]), fields["reload"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
