"""Attention to passages that were retrieved for a text, chunk by chunk."""
