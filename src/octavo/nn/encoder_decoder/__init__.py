"""What only encoder-decoders have: a bias by distance, and a cache of sequences that grow in step."""
