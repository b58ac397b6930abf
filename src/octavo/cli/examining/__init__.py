"""Commands that say what models are, what they cost, and whether and how they work."""
