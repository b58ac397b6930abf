"""The C library as data: its numbers of things, its structures, its functions."""
