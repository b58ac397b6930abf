"""Scores of answers and rankings: pure functions of what was said and what was right, as the field computes them."""
