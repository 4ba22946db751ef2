"""How the process of the command line ends that is asked to: in order, once, and soon, whatever
hangs. Nothing below installs a signal's handler: another caller of the engine ends its runs by
`reconcile.run.Run.stop`, from any thread.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
from types import FrameType

from certferry.cli.exits import Exit

_log = logging.getLogger(__name__)

AFTER_A_CALLBACK = 0.01  # seconds; one that takes longer is interrupted again
AT_LATEST = 4.8  # seconds after the first signal: within the five that are promised


def end_in_order() -> None:
    """Have a run that is asked to end, or left by its terminal, end as with Ctrl-C: challenge
    records removed, keys taken away from programs, leases given back.
    """
    signals = [
        each
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # nohup has one ignored, and a shell that runs a script another, in the background
        if each is signal.SIGTERM or signal.getsignal(each) is not signal.SIG_IGN
    ]

    def end(number: int, frame: FrameType | None) -> None:
        # Once: the kernel and the shell both signal that a terminal is gone, and systemd sends
        # both signals; they must not stop the clean-up. Only an operator who has pressed
        # Ctrl-C may lose patience, and press it again.
        for each in signals:
            signal.signal(each, _not_again)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        signal.default_int_handler(number, frame)

    sys.unraisablehook = _not_lost
    _watch(frozenset(signals))
    for each in signals:
        signal.signal(each, end)


def _not_again(number: int, frame: FrameType | None) -> None:
    """Ignore a repeated signal. No SIG_IGN: the programs that are started would have it too."""


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise again what a signal raised in a callback, where Python drops it; log all else."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # By another thread, a moment later: at once, this hook itself would be interrupted.
        threading.Thread(target=_interrupt_again, daemon=True).start()
    else:
        _log.debug("unexpected error", exc_info=unraisable.exc_value)


def _interrupt_again() -> None:
    threading.Event().wait(AFTER_A_CALLBACK)
    _thread.interrupt_main()


def _watch(signals: frozenset[int]) -> None:
    """End the process in time even if no handler runs, as while the system looks up a name or waits
    for a disk: Python runs handlers between two of its steps, the wake-up descriptor is written at
    once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_end_at_last, args=(reading, signals), daemon=True)
    watch.start()


def _end_at_last(reading: int, signals: frozenset[int]) -> None:
    while not signals & set(os.read(reading, 16)):
        pass
    threading.Event().wait(AT_LATEST)
    # What is stored is whole: the state is changed in transactions, and the system releases the
    # leases. The next run removes the challenge records that remain.
    os._exit(Exit.STOPPED)
