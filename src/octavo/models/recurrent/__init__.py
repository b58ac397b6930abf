"""Recurrent networks as files and as arithmetic in numpy."""
