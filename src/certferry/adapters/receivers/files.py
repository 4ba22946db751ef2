"""Four PEM files in a directory of this machine, and a program that is run when they have changed.

What is guaranteed: each file is replaced at once, so a reader finds the old one or the new one,
whole. The key and the fullchain change one directly after the other; a server that reads both in
between finds a key that does not belong. `reload` is run when all four are new. A run that is
killed in between leaves them so until the next one.

Everything happens within the directory that was opened once. Its path belongs to root, to the
caller or to the `owner` that the files are to have, and no other user can change where it leads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, asdict, dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certferry.adapters.files import directory as pem_directory
from certferry.adapters.files.directory import (
    NAMES,
    RIGHTS,
    FileAccess,
    OpenDirectory,
    group_number,
    made,
    must_be_writable,
    must_take_files,
    opened,
    user_number,
)
from certferry.adapters.programs import run as programs
from certferry.core.certificates.certificate import (
    FULLCHAIN,
    PRIVKEY,
    CertificateBundle,
    fingerprint,
)
from certferry.core.desired.certificate import FileDelivery, Kind
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, ReceiverDrift
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.secret import Secret
from certferry.errors import DeployError
from certferry.file_trust import checked_path
from certferry.ports.progress import Pause
from certferry.ports.receiver import Delivered
from certferry.text import Text

_RECEIPT_ACCESS = FileAccess(0o600)  # a key's digest is no secret, but of no use to others

_UNTOUCHED = Text("the files that were there before are as they were")
_NEXT_RUN = Text("the next run looks at every file again, and goes on from there")


@dataclass(frozen=True)
class FilesReceiver:
    """One directory, as a `ports.receiver.Receiver`. Beside the files lies a receipt of the last
    delivery that ended well. `withheld` are the variables that `reload` is not to have, and what is
    `hidden` is not shown of its words, nor is the key.

    It is removed before anything is changed, and written after `reload` has succeeded: where it
    is missing something is left to do, whenever a run was killed.
    """

    delivery: FileDelivery
    _: KW_ONLY
    pause: Pause
    withheld: Collection[str] = ()
    hidden: Collection[Secret] = ()

    @property
    def _directory(self) -> Path:
        return Path(self.delivery.directory)

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Read the files back, and compare them with the receipt. The state is not asked:
        several machines may share it, and each has its own directory.
        """
        observed = partial(ObservedDomain, self.delivery.directory, Kind.FILES)
        try:
            with self._translating_errors(RIGHTS):
                self._must_be_usable()
                receipt, held, drift = self._seen()
        except DeployError as problem:
            return observed(DomainState.UNAVAILABLE, None, problem=problem)
        fullchain = None
        if receipt is not None and receipt.fingerprint == held:  # it says nothing of another leaf
            fullchain = receipt.digests.get(FULLCHAIN)
        return observed(DomainState.READY, held, drift=drift, fullchain_digest=fullchain)

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Write what differs, read it back, run the program, and leave the receipt."""
        with ExitStack() as held:
            with self._translating_errors(_UNTOUCHED):
                self._must_be_usable()
                place = held.enter_context(made(self._directory, self._owners()))
                drafts = self._prepared(place, bundle, held)
            if not drafts:
                return
            with self._translating_errors(_NEXT_RUN):
                self._put_in_place(place, bundle, drafts)
            self._reload(lineage, bundle)  # what becomes of it says nothing about the directory
            with self._translating_errors(_NEXT_RUN):
                place.put(drafts[RECEIPT], RECEIPT)
                place.sync()

    def _seen(self) -> tuple[Receipt | None, str | None, ReceiverDrift | None]:
        """Return the receipt, the fingerprint of the certificate, and the files that differ."""
        try:
            with opened(self._directory, self._owners()) as place:
                receipt = decode_receipt(place.read(RECEIPT))
                return receipt, *self._compare(place, receipt)
        except FileNotFoundError:
            return None, None, None

    def _compare(
        self, place: OpenDirectory, receipt: Receipt | None
    ) -> tuple[str | None, ReceiverDrift | None]:
        leaf = _leaf(place.read(FULLCHAIN))
        if receipt is None:
            return leaf, None if leaf is None else self._unfinished(place)
        held = leaf or receipt.fingerprint
        changes = tuple(self._changes(place, receipt.digests))
        if changes:
            sentence = Text("the delivered files have been changed since")
            return held, ReceiverDrift(Reason(ReasonCode.DELIVERY_DRIFTED, sentence), changes)
        reload = self.delivery.reload
        if reload is not None and receipt.reload != reload.digest:
            return held, self._unfinished(place) if receipt.reload is None else _edited()
        return held, None

    def _changes(
        self, place: OpenDirectory, digests: Mapping[str, str] | None = None
    ) -> Iterator[Change]:
        """Return what is not as it was delivered; without digests, only what is missing or open."""
        for name in NAMES:
            found = place.observe(name)
            if found is None:
                yield Change(name, "missing", "delivered")
            elif digests is not None and found.digest != digests.get(name):
                yield Change(name, "changed", "delivered")
            elif not self._access(name).allows(found.access):
                yield Change(name, found.access.in_words, self._access(name).in_words)

    def _unfinished(self, place: OpenDirectory) -> ReceiverDrift:
        changes = tuple(self._changes(place))
        if self.delivery.reload is None:
            sentence = Text("it has not been delivered in full yet")
            return ReceiverDrift(Reason(ReasonCode.DELIVERY_UNFINISHED, sentence), changes)
        sentence = Text("`reload` has not succeeded with it yet")
        reason = Reason(ReasonCode.DELIVERY_UNFINISHED, sentence)
        return ReceiverDrift(reason, (*changes, Change("reload", "not run", "run")))

    def _is_there(self, place: OpenDirectory, name: str, content: bytes) -> bool:
        found = place.observe(name)
        if found is None or found.digest != pem_directory.digest(content):
            return False
        return self._access(name).allows(found.access)

    def _access(self, name: str) -> FileAccess:
        """Return whose a file is to be. Raises `TargetRejected` for an owner or group unknown."""
        delivery = self.delivery
        return FileAccess(
            delivery.key_mode if name == PRIVKEY else delivery.mode,
            user_number(delivery.owner),
            group_number(delivery.group),
        )

    def _must_be_usable(self) -> None:
        """Raise `DeployError` or `OSError` where nothing could be delivered to."""
        directory = self._directory
        self._access(PRIVKEY)
        if self.delivery.reload is not None:
            programs.must_be_there(self.delivery.reload)
        if not os.path.lexists(directory):
            # Only the last one is made: a longer path is a slip, or a disk that is not mounted.
            must_be_writable(directory.parent, Text("make it, or correct `directory`"))
            with checked_path(directory, self._owners()):
                return
        must_be_writable(directory, RIGHTS)
        with opened(self._directory, self._owners()):
            pass
        must_take_files(directory, NAMES)

    def _owners(self) -> list[int]:
        """Return who may own the directory, beside root and the caller."""
        owner = user_number(self.delivery.owner)
        return [] if owner is None else [owner]

    def _translating_errors(self, hint: Text) -> AbstractContextManager[None]:
        return pem_directory.translating_errors(self._directory, hint, has_owner=True)

    def _prepared(
        self, place: OpenDirectory, bundle: CertificateBundle, held: ExitStack
    ) -> Mapping[str, str]:
        """Draft what differs, and the receipt with it: when the disk is full, nothing has happened.
        No drafts means that nothing is left to do.
        """
        wanted = pem_directory.contents(bundle)
        place.sweep()
        changing = {
            name: wanted[name] for name in NAMES if not self._is_there(place, name, wanted[name])
        }
        reload = self.delivery.reload
        receipt = Receipt(
            fingerprint=bundle.certificate.fingerprint,
            digests={name: pem_directory.digest(content) for name, content in wanted.items()},
            reload=None if reload is None else reload.digest,
        )
        if not changing and receipt == decode_receipt(place.read(RECEIPT)):
            return {}
        drafts = self._drafted(place, {**changing, RECEIPT: encode_receipt(receipt)})
        return held.enter_context(drafts)

    @contextmanager
    def _drafted(
        self, place: OpenDirectory, contents: Mapping[str, bytes]
    ) -> Iterator[Mapping[str, str]]:
        """Have drafts of files for a `with` block; what has not taken its name by then is gone."""
        drafts: dict[str, str] = {}
        try:
            for name, content in contents.items():
                access = _RECEIPT_ACCESS if name == RECEIPT else self._access(name)
                drafts[name] = place.draft(name, content, access)
            yield drafts
        finally:
            for drafted in drafts.values():
                with suppress(OSError):  # the next delivery sweeps; why this one ended counts more
                    place.remove(drafted)

    def _put_in_place(
        self, place: OpenDirectory, bundle: CertificateBundle, drafts: Mapping[str, str]
    ) -> None:
        """Rename the drafts, without a receipt until the program has run."""
        place.remove(RECEIPT)
        place.sync()
        for name in NAMES:
            if name in drafts:
                place.put(drafts[name], name)
        place.sync()
        # Read back, before a server loads them.
        for name, content in pem_directory.contents(bundle).items():
            if not self._is_there(place, name, content):
                path = self._directory / name
                raise DeployError(
                    Text("{path} is not as it was written a moment ago", path=path),
                    hint=Text("another program writes there too; let only one of them do it"),
                )

    def _reload(self, lineage: str, bundle: CertificateBundle) -> None:
        if self.delivery.reload is not None:
            programs.run(
                self.delivery.reload,
                pem_directory.variables(lineage, bundle, self._directory),
                self.pause,
                hidden=[bundle.privkey_pem, *self.hidden],
                withheld=self.withheld,
            )


def _edited() -> ReceiverDrift:
    sentence = Text("`reload` was edited since it last ran")
    reason = Reason(ReasonCode.PROGRAM_EDITED, sentence)
    return ReceiverDrift(reason, (Change("reload", "edited", "run"),))


def _leaf(fullchain: bytes | None) -> str | None:
    """Return the fingerprint of the first certificate, `None` where there is none to be read."""
    try:
        leaf = x509.load_pem_x509_certificate(fullchain or b"")
    except ValueError:
        return None
    return fingerprint(leaf.public_bytes(Encoding.DER))


RECEIPT = ".certferry"
"""The name of the file that holds it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The leaf's fingerprint, the SHA-256 of each file's content, and that of the program's
    arguments, which may hold a secret; `None` when none was run.
    """

    fingerprint: str
    digests: Mapping[str, str]
    reload: str | None = None


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt down."""
    return json.dumps(asdict(receipt), indent=1).encode() + b"\n"


def decode_receipt(data: bytes | None) -> Receipt | None:
    """Read a receipt; a missing or corrupt one means that the delivery is made again."""
    try:
        written = json.loads(data or b"")
        return Receipt(str(written["fingerprint"]), dict(written["digests"]), written["reload"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
