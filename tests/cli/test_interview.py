"""Questions on a terminal: what an answer means, and which question follows it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli.interview import Back, Interview, Step, as_ranges, numbers_in, walk
from certferry.errors import ConfigError
from tests.cli.consoles import TestConsole


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("2", {2}),
        ("1-3,7", {1, 2, 3, 7}),
        ("1–3、7", {1, 2, 3, 7}),
        (" 3 1 ,2 ", {1, 2, 3}),
        ("all", set(range(1, 9))),
        ("全部", set(range(1, 9))),
        ("none", set()),
        ("无", set()),
    ],
)
def test_numbers_and_ranges(answer: str, meant: set[int]) -> None:
    """As operators of both languages write them."""
    assert meant == numbers_in(answer, 8)


@pytest.mark.parametrize("answer", ["9", "0", "3-1", "1-9", "x", "1-", "-1", "1-2-3", "9" * 20])
def test_what_is_no_number_of_the_list(answer: str) -> None:
    """It is named, with what can be answered."""
    with pytest.raises(ConfigError, match=f"{re.escape(answer)} is not understood") as caught:
        numbers_in(f"1,{answer}", 8)

    assert "numbers from 1 to 8" in str(caught.value.message)


@given(st.frozensets(st.integers(min_value=1, max_value=40)))
def test_what_is_shown_as_usual_can_be_typed(numbers: frozenset[int]) -> None:
    """Enter and its own words mean the same."""
    assert numbers == numbers_in(as_ranges(numbers), 40)


class Script:
    """Steps that ask, by what an operator answers to each in turn."""

    def __init__(self, *answers: str) -> None:
        self.interview = Interview(TestConsole().console)
        self.asked: list[str] = []
        self._answers = list(answers)

    def step(self, name: str) -> Step[str]:
        """Ask one question, whose answer is added to what is known."""

        def take(known: str) -> str:
            self.interview.asked += 1
            self.asked.append(name)
            answer = self._answers.pop(0)
            if answer.startswith("back"):
                raise Back(answer.removeprefix("back"))
            return known + answer

        return Step(name, take)


def silent(name: str) -> Step[str]:
    """Give a step that asks nothing."""
    return Step(name, lambda known: known + name)


def test_back_passes_over_what_asked_nothing() -> None:
    """The question before is asked again, with what was known then."""
    script = Script("1", "back", "2", "3")
    steps = [script.step("a"), silent("-"), script.step("b")]

    assert "2-3" == walk(steps, "", script.interview)
    assert ["a", "b", "a", "b"] == script.asked


def test_back_to_a_step_that_is_named() -> None:
    """Though it asked nothing; what followed it is taken anew."""
    script = Script("1", "2", "back-", "3", "4")
    steps = [script.step("a"), silent("-"), script.step("b"), script.step("c")]

    assert "1-34" == walk(steps, "", script.interview)
    assert ["a", "b", "c", "b", "c"] == script.asked


def test_back_from_the_first_question() -> None:
    """There is no question before: it is asked again; inside another step it leads out of it."""
    script = Script("back", "1")

    assert "1" == walk([script.step("a")], "", script.interview)
    with pytest.raises(Back):
        walk([Script("back").step("a")], "", script.interview, inside=True)
