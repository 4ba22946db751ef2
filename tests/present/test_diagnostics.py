"""The log: whose words are shown, and whose are hidden."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.state.columns import from_text
from certferry.core.redaction import Secret
from certferry.errors import DeployError
from certferry.present.language import voice_in
from certferry.present.run_log import DiscreetFormatter, Entry, Format, RunLog, begin_logging
from certferry.text import LONGEST, Quoted, Text, own_words, verbatim
from certferry.wiring.adapters import in_short
from certferry_sandbox.testing.certificates import make_key


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("certferry")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def formatted(message: str, *args: object, error: BaseException | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("certferry.x", logging.INFO, "x.py", 1, message, args, info)
    return DiscreetFormatter("%(message)s").format(record)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_below_warnings_only_our_own_words_are_shown(
    capsys: pytest.CaptureFixture[str], level: int
) -> None:
    """Libraries log URLs, bodies and signatures, so their details are left out at every level."""
    begin_logging(logging.DEBUG)

    for name in ("urllib3.connectionpool", "requests", "acme.client", "asyncio", "certferryish"):
        logging.getLogger(name).log(level, "POST /?token=abc")
    logging.getLogger("certferry.adapters.acme").log(level, "order %s", "is ready")

    shown = capsys.readouterr().err
    assert "order is ready" in shown
    assert "POST" not in shown


def test_library_with_its_own_level_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A logger with its own level does not pass the filter."""
    begin_logging(logging.DEBUG)
    loud = logging.getLogger("loud.library")
    loud.setLevel(logging.DEBUG)

    loud.debug("body: secret")

    assert "" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("level", "expected"),
    [(logging.DEBUG, {"debug", "warning"}), (logging.WARNING, {"warning"}), (logging.ERROR, set())],
)
def test_our_words_are_shown_from_the_chosen_level_on(
    capsys: pytest.CaptureFixture[str], level: int, expected: set[str]
) -> None:
    """-v shows all, -q errors alone, and otherwise warnings are shown."""
    begin_logging(level)

    logging.getLogger("certferry.reconcile").debug("debug")
    logging.getLogger("certferry.reconcile").warning("warning")

    rows = capsys.readouterr().err.splitlines()
    assert expected == {row.rpartition(" ")[2] for row in rows}


def test_times_are_marked_as_utc(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of the log begins with a moment for people."""
    begin_logging(logging.DEBUG)

    logging.getLogger("certferry").warning("so it is")

    moment, level, name, words = capsys.readouterr().err.split(maxsplit=3)
    assert (20, "T", "Z") == (len(moment), moment[10], moment[-1])
    assert ("WARNING", "certferry:", "so it is\n") == (level, name, words)


def test_a_sentence_is_reported_in_the_language_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record's `Text` is translated on stderr and in the log; a traceback stays unchanged."""
    run_log = RunLog(voice_in("zh"))
    run_log.open(tmp_path / "log")
    begin_logging(logging.WARNING, run_log)
    ours = logging.getLogger("certferry.reconcile")

    ours.error(Text("{lineage}: unexpected error", lineage="img"), exc_info=KeyError("x"))

    on_stderr, *traceback = capsys.readouterr().err.splitlines()
    in_log, *same = (tmp_path / "log").read_text().splitlines()
    assert on_stderr.endswith(" ERROR certferry.reconcile: img: 意外错误")
    assert in_log.endswith("] img: 意外错误")
    assert "    KeyError: 'x'" == traceback[-1] == same[-1]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (logging.WARNING, "警告：img: 意外错误\n"),
        (logging.DEBUG, " WARNING certferry.reconcile: img: 意外错误\n"),
    ],
)
def test_warning_is_written_as_a_line_for_people(
    capsys: pytest.CaptureFixture[str], level: int, expected: str
) -> None:
    """Time and module come only with -v."""
    begin_logging(level, RunLog(voice_in("zh")))

    logging.getLogger("certferry.reconcile").warning(
        Text("{lineage}: unexpected error", lineage="img")
    )

    shown = capsys.readouterr().err
    assert shown.endswith(expected)
    assert (level == logging.WARNING) == (shown == expected)


@pytest.mark.parametrize("level", [logging.ERROR, logging.WARNING])
def test_output_of_a_program_is_for_the_log_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], level: int
) -> None:
    """At every level, output of a program goes unchanged to the file instead of stderr. Other
    records below a warning are left out.
    """
    run_log = RunLog(voice_in("zh"))
    run_log.open(tmp_path / "log", Format.JSON)
    begin_logging(level, run_log)
    ours = logging.getLogger("certferry.adapters")

    ours.info("%s: %s", "nginx", "reloaded", extra={"program": "nginx"})
    ours.info("a detail")

    (entry,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert "" == capsys.readouterr().err
    assert ("program.output", "info") == (entry["event"], entry["level"])
    assert ("nginx", "reloaded") == (entry["program"], entry["detail"])


def test_output_of_a_program_with_v(capsys: pytest.CaptureFixture[str]) -> None:
    """With -v the output is shown without a log file."""
    begin_logging(logging.DEBUG)

    logging.getLogger("certferry.adapters").info("%s: %s", "a", "b", extra={"program": "a"})

    assert "INFO certferry.adapters: a: b\n" in capsys.readouterr().err


def test_a_secret_hides_itself() -> None:
    """A secret among a message's values is three dots, in every way of formatting."""
    secret = Secret("hunter2")

    assert "••• ••• [•••]" == formatted("%s %r %s", secret, secret, [secret])


def test_a_private_key_is_never_written() -> None:
    """A quoted key, whole or cut short, is three dots, also in a traceback."""
    key = make_key().reveal()
    error = ValueError(f"cannot read {key}")

    for shown in (formatted(key), formatted("%s", key[:-40]), formatted("so", error=error)):
        assert "•••" in shown
        assert not any(row in shown for row in key.split("\n")[1:-2])


@given(st.text(alphabet=st.characters(codec="ascii", categories=["Lu", "Nd"]), min_size=8))
def test_proofs_of_identity_are_never_written(secret: str) -> None:
    """Credentials for Qiniu and DNSPod are hidden in every quotation of a library."""
    for template in (
        "Authorization: Qiniu {0}:{0}=",
        "{{'Authorization': 'QBox {0}:{0}='}}",
        "sent QBox {0}:{0}=",
        "login_token={0}&format=json",
        "authorization: Bearer {0}",
    ):
        assert secret not in formatted(template.format(secret))


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
def test_quoted_words_cannot_move_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], level: int
) -> None:
    """The words may come in a message, its values or a traceback, at any level and in both kinds of
    log. They cannot begin a line of their own either.
    """
    hostile = "CN=\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\nERROR certferry: all is well"
    texts = []
    for format_ in Format:
        run_log = RunLog(voice_in("zh"))
        run_log.open(tmp_path / format_, format_)
        begin_logging(level, run_log)
        ours = logging.getLogger("certferry.adapters.probe")
        ours.debug("%s: %s", "img.example.com", hostile)
        ours.warning(Text("the certificate is for {names}", names=[hostile]))
        ours.error("failed", exc_info=ValueError(hostile))
        run_log.write(Entry("x", verbatim(hostile), domain=hostile, more={"subject": hostile}))
        texts += [capsys.readouterr().err, (tmp_path / format_).read_text()]

    assert all("evil" in text for text in texts)
    for text in texts:
        assert [] == [c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf"}]
        assert not any(row.startswith("ERROR") for row in text.splitlines())


def test_fifty_megabytes_are_cut_before_any_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal waits for the end of each search, so quotations are bounded in sentences, messages
    and tracebacks.
    """
    flood = "-----BEGIN x " * 4_000_000
    run_log = RunLog(voice_in("zh"))
    run_log.open(tmp_path / "log")
    begin_logging(logging.DEBUG, run_log)
    ours = logging.getLogger("certferry.adapters")

    ours.debug("%s", flood)
    ours.warning(Text("{words}: {names}", words=Quoted(flood), names=[flood]))
    ours.error(Text(flood), exc_info=ValueError(flood))

    assert len(capsys.readouterr().err) < 6 * LONGEST
    assert (tmp_path / "log").stat().st_size < 6 * 3 * LONGEST
    for stored in (DeployError(flood).message, Text("{words}", words=[flood])):
        assert len(from_text(stored)) < 2 * LONGEST
    assert "…" == own_words(Text("{words}", words=Quoted(flood))).values["words"]
    assert len(in_short(ValueError(flood))) < 2 * LONGEST


def test_closed_stderr_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes on without a listener."""
    begin_logging(logging.DEBUG)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)

    logging.getLogger("certferry").warning("so it is")


def test_a_key_in_an_exception_is_never_written(tmp_path: Path) -> None:
    """A secret of the process is hidden in the whole chain of a traceback, in any spelling, on
    stderr and in the log. An address is hidden by its parts as well.
    """
    token = Secret("it's-a-token\\with-two")
    address = Secret("https://hooks.example/robot/send?access_token=0123456789abcdef")
    run_log = RunLog(voice_in("en"))
    run_log.open(tmp_path / "log")
    begin_logging(logging.DEBUG, run_log)

    try:
        try:
            dict[str, str]()[token.reveal()]
        except KeyError as cause:
            host = f"https://hooks.example:443{address.reveal()[21:]}"
            raise ValueError(f"POST {host}") from cause
    except ValueError as error:
        shown = formatted("so", error=error)
        logging.getLogger("certferry.x").debug("so", exc_info=error)

    logged = (tmp_path / "log").read_text()
    for words in (shown, logged):
        assert "ValueError: POST https://hooks.example" in words
        assert "0123456789abcdef" not in words
        assert "with-two" not in words
        assert 2 == words.count("Traceback")


def test_warning_of_a_library_needs_v(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At every level, stderr and the log have the warning only with -v."""
    for level in (logging.ERROR, logging.WARNING, logging.DEBUG):
        run_log = RunLog(voice_in("en"))
        log = tmp_path / str(level)
        run_log.open(log)
        begin_logging(level, run_log)

        logging.getLogger("urllib3.connection").critical("%s and %s", *["one"])

        assert (level == logging.DEBUG) == ("%s and %s" in capsys.readouterr().err)
        assert (level == logging.DEBUG) == ("%s and %s" in log.read_text())
