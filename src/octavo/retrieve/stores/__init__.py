"""Stores of documents, their passages and vectors: one seam, an embedded default, and adapters."""
