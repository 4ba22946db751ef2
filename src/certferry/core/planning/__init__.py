"""The decisions of a run: steps, their moments, and refusals."""
