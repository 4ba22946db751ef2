"""Delivery of four PEM files to a directory of a server, followed by the server's programs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from certferry.adapters.files import directory as pem
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
from certferry.adapters.ssh import remote
from certferry.adapters.ssh.remote import Answers, RemoteFile, Request
from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.core.desired.certificate import FileDelivery, Program
from certferry.core.observed.observation import ObservedDomain
from certferry.core.redaction import Secret
from certferry.errors import DeployError
from certferry.ports.adapter import Ended
from certferry.ports.receiver import Delivered

Ask = Callable[[Request, float, str], Answers]
"""Runs a script on the server within some seconds, for a directory, and returns the answers.
Raises `DeployError`.
"""

_TIMED_OUT = 124
"""The exit code of timeout(1) after the time limit."""

_LOOK_WITHIN, _DELIVER_WITHIN = 60.0, 90.0


@dataclass(frozen=True)
class RemoteDirectory:
    """A directory on a server, as a `ports.receiver.Receiver`. See `FilesReceiver`."""

    #: The declared directory, with the files' rights and the programs.
    delivery: FileDelivery
    _: KW_ONLY
    #: Asks the server.
    ask: Ask
    #: Secrets masked in the programs' words, besides the key.
    hidden: Collection[Secret] = ()

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Compare the files with the receipt, and return the result. If the server or the directory
        cannot be used, the returned domain is `UNAVAILABLE` and has the problem.

        `delivered`, from the state, is ignored: the files and the receipt tell more.
        """
        try:
            answers = self.ask(remote.look_at(self.delivery), _LOOK_WITHIN, self.delivery.directory)
        except DeployError as problem:
            return unusable(self.delivery, problem)
        contents = FoundDelivery(
            {name: self._found(name, answers.files.get(name)) for name in pem.NAMES},
            frozenset(answers.moving),
            answers.texts.get(FULLCHAIN),
            Receipt.decode(answers.texts.get(RECEIPT)),
        )
        return observed_domain(self.delivery, contents.receipt, *contents.compared(self.delivery))

    def deliver(self, lineage: str, bundle: CertificateBundle, *, again: bool = False) -> None:
        """Write the differing files, run `test` and `reload` there, and write the receipt. Do
        nothing if the files and the receipt are up to date, unless `again`. Raises `DeployError`.
        """
        directory = self.delivery.directory
        variables = pem.variables(lineage, bundle, Path(directory))
        request = remote.deliver_to(self.delivery, bundle, variables, again=again)
        answers = self.ask(request, _DELIVER_WITHIN + self._longest, directory)
        for name, program in (
            ("program_test", self.delivery.test),
            ("program_reload", self.delivery.reload),
        ):
            if program is None or name not in answers.codes:
                continue
            error = _error(program, answers, name, [bundle.privkey_pem, *self.hidden])
            if error is not None and answers.last == "put-back":
                raise as_before(error)
            if error is not None:
                raise error

    @property
    def _longest(self) -> float:
        both = (self.delivery.test, self.delivery.reload)
        return sum(program.timeout.total_seconds() for program in both if program is not None)

    def _found(self, name: str, file: RemoteFile | None) -> FoundCopy | None:
        if file is None:
            return None
        delivery = self.delivery
        mode = delivery.key_mode if name == PRIVKEY else delivery.mode
        wanted, present = [f"{mode:04o}"], [f"{file.mode:04o}"]
        for name_wanted, numbers in ((delivery.owner, file.owner), (delivery.group, file.group)):
            if name_wanted is not None:
                wanted.append(name_wanted)
                present.append(name_wanted if name_wanted in numbers else numbers[1])
        is_allowed = wanted == present
        return FoundCopy(
            file.digest, None if is_allowed else (_in_words(present), _in_words(wanted))
        )


def _in_words(rights: list[str]) -> str:
    return " ".join([rights[0], ":".join(rights[1:])]).rstrip()


def _error(
    program: Program, answers: Answers, name: str, hidden: Collection[Secret]
) -> DeployError | None:
    """Log the output of a program, and return the error of a failed program."""
    output, code = answers.output.get(name, b""), answers.codes[name]
    cut = max(len(output) - programs.MOST_OUTPUT, 0)
    lines = programs.readable_lines(output[cut:], hidden, is_cut=cut > 0)
    programs.log_lines(program.arguments[0], lines, cut)
    if code == 0:
        return None
    if code == _TIMED_OUT:
        return programs.too_slow(program)
    return programs.failed(program.arguments[0], Ended(code, programs.last_words(lines)))
