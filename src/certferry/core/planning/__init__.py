"""What must change, when, and what is refused: the decisions of a run."""
