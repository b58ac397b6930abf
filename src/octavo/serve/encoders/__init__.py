"""Embedders and rerankers that a server has beside its language models."""
