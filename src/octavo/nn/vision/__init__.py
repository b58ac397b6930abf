"""Images as input: patches for an encoder to see, and what it saw as embeddings for a language model."""
