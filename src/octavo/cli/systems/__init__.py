"""Commands of the lecture's systems that retrieve and write in one model."""
