"""RETRO: a database of chunks, the decoder that reads their neighbours, and its training."""
