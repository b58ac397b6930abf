"""CKIP for Traditional Chinese: words, parts of speech and named entities, by encoders or by recurrent networks."""
