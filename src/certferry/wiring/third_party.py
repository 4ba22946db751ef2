"""Ports of other people's adapters: whatever ends their work is the failure of their package."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any, NoReturn

from certferry.core.redaction import quoted
from certferry.core.secret import Secret
from certferry.errors import CertferryError, Reported
from certferry.ports.http import NoAnswer
from certferry.text import Text
from certferry.wiring.adapters import BrokenAdapter, Described, Family, in_short, wrong_with

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Guard:
    """Whose a port is, the secrets that its errors must not show, and how long it may connect."""

    whose: Described
    hidden: Callable[[], frozenset[Secret]]
    within: timedelta = timedelta(seconds=60)

    @contextmanager
    def over(self, refused: type[CertferryError], lost: type[CertferryError]) -> Iterator[None]:
        """Let certferry's own errors pass, and raise these in place of what else ends the block:
        `sys.exit` too, which would end a thread of work without a word.
        """
        try:
            yield
        except (Reported, KeyboardInterrupt):
            raise
        except NoAnswer as exc:
            where = self.whose.adapter.SERVICE
            raise lost(Text("{where}: {problem}", where=where, problem=exc.problem)) from exc
        except BaseException as exc:
            hidden = self.hidden()  # while these are held here, the log shows none of them
            log.debug("%s", type(exc).__name__, exc_info=exc)
            problem = quoted(in_short(exc), hidden)
            failed = self._wrong(Text("{name} failed: {problem}"), problem=problem)
            raise refused(failed.message, hint=failed.hint) from exc

    def connecting(self, required: tuple[str, ...], connect: Callable[[], object]) -> object:
        """Connect, and see that the port has the methods that are required; what hangs is left to
        itself, and keeps no process. Raises `BrokenAdapter`.
        """
        outcome: Future[object] = Future()

        def work() -> None:
            try:
                outcome.set_result(connect())
            except BaseException as exc:  # noqa: BLE001 - raised again where the caller waits
                outcome.set_exception(exc)

        threading.Thread(target=work, name="connect", daemon=True).start()
        if not wait([outcome], self.within.total_seconds()).done:
            raise self._wrong(Text("{name} does not connect within {time}"), time=self.within)
        with self.over(BrokenAdapter, BrokenAdapter):
            port = outcome.result()
            missing = [one for one in required if not callable(getattr(port, one, None))]
        if missing:
            said = Text("the object that {name} connects to has no {missing}")
            raise self._wrong(said, missing=missing)
        return port

    def around(self, family: Family, port: object) -> Any:
        """Return the port with each method that its family has, by way of this guard. One that may
        be a misspelt ability of the family is reported: else it would never be called.
        """
        with self.over(BrokenAdapter, BrokenAdapter):
            methods = dict(family.methods())
            lacking = [name for name in methods if not hasattr(port, name)]
            others = [name for name in dir(type(port)) if name not in methods and name[0] != "_"]
        for name in others:
            for meant in get_close_matches(name, lacking, n=1, cutoff=0.8):
                said = Text("{name} has {method}, which is never called; did you mean {word}?")
                wrong = self._wrong(said, method=name, word=meant)
                log.warning(Text("{words}", words=wrong.message))
        calls = {
            name: partial(self._call, family, port, name, kinds)
            for name, kinds in methods.items()
            if name not in lacking
        }
        return type("Guarded", (), calls)()

    def _call(self, family: Family, port: Any, name: str, kinds: Any, /, *a: Any, **k: Any) -> Any:
        with self.over(family.refused, family.unavailable):
            answer = getattr(port, name)(*a, **k)
            if kinds != (bool,) and not isinstance(answer, kinds):
                msg = f"gave {type(answer).__name__} and not {kinds[0].__name__}"
                raise TypeError(msg)
            return answer

    def _wrong(self, said: Text, **values: object) -> BrokenAdapter:
        return wrong_with(self.whose.package, said.filled(name=self.whose.name, **values))


def broken(family: Family, wrong: BrokenAdapter) -> Any:
    """Return a port that says whenever it is asked, for its zones too, why it cannot be used."""

    def fail(*_given: object, **_named: object) -> NoReturn:
        raise family.refused(wrong.message, hint=wrong.hint)

    return type("Broken", (), dict.fromkeys((*family.required, "zones"), fail))()
