"""CodeT5+: a corpus of functions, the model that finds and writes them, and its training."""
