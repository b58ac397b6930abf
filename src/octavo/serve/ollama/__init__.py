"""Ollama's API, the half that reads: its request bodies, its lines, and how it describes models."""
