"""Pure values and decisions: observations, declarations, plans and judgments."""
