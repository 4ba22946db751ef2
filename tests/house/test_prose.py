"""The measure of plain words: counted and ignored passages."""

from __future__ import annotations

from tests.house.prose import Limits, Measure, passages, vague_names

MODULE = '''
"""What is here is what one knows of it."""

import click


@click.command()
def sync(one: str) -> None:
    """What an operator reads is another matter."""


class Plan:
    """A plan names the steps of a run."""

    #: The steps in order.
    steps: int  # noqa: A003
    it = 3
'''


def test_docstrings_and_comments_are_read_and_the_help_of_commands_is_not() -> None:
    """Operators read the help of a command in translation, so the help has a reading of its own."""
    assert [
        "What is here is what one knows of it.",
        "A plan names the steps of a run.",
        "The steps in order.",
    ] == [text for _, text in passages(MODULE)]


def test_each_exceeded_limit_is_reported() -> None:
    """A sentence of pronouns alone exceeds two limits, and a plain sentence none."""
    plain, unclear = Measure(), Measure()
    plain.add("plan.py:1", "A plan names the steps of a run.")
    unclear.add("plan.py:1", "What is here is what one knows of it.")

    assert [] == [*plain.exceeded(Limits())]
    assert [
        "44.4 pronouns per 100 words, more than 5.5",
        "100.0 % openings, more than 1.5",
    ] == [*unclear.exceeded(Limits())]


def test_vague_names_of_arguments_and_locals_are_counted() -> None:
    """An argument `one` and a local `it` hide what they hold."""
    assert 2 == vague_names(MODULE)
