"""Training a reader: questions with their texts, what is made of them, and the run from recipe to model."""
