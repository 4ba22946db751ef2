"""Look at several certificates side by side, since most of it is waiting for an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from certferry.core.desired import DesiredCertificate
from certferry.core.progress import Begun, Ended
from certferry.ports.progress import Progress
from certferry.reconcile.visits import WORKERS

S = TypeVar("S")
T = TypeVar("T")


class SideBySide:
    """Looks, which leave nothing to put right: those that hang when it is stopped are left."""

    def __init__(self, progress: Progress, stop: Callable[[], None]) -> None:
        self._tell = progress
        self._stop = stop

    def told(
        self, look: Callable[[DesiredCertificate], T], wishes: Sequence[DesiredCertificate]
    ) -> list[T]:
        """Look at each certificate, and tell how far that is."""
        self._tell(Begun(len(wishes)))

        def one(wish: DesiredCertificate) -> T:
            found = look(wish)
            self._tell(Ended(wish.lineage))
            return found

        return self.all(one, wishes)

    def all(self, look: Callable[[S], T], subjects: Sequence[S]) -> list[T]:
        """Look at each. Raises what a look raises, once the others are stopped."""
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="look")
        try:
            found = list(pool.map(look, subjects))
        except BaseException:
            # Ctrl-C, or what one of them cannot say in its plan.
            self._stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return found
