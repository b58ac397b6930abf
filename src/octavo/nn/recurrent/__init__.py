"""Recurrent language models: what came before attention alone."""
