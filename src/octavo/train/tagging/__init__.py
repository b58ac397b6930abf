"""Training of CKIP's kinds: sentences with words, parts of speech and entities, from recipe to model."""
