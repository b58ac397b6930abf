"""Training models that read a source: recipes, and runs from a text or from pairs to a model."""
