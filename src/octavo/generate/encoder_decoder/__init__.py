"""Models that read a source with an encoder and write with a decoder."""
