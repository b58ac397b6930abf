"""A model looked at, before it is used: the catalogue, what fits this machine, self-checks, and a look inside."""
