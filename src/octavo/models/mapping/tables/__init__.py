"""What files say, as tables: names of tensors, spellings of switches, keys of configs without effect."""
