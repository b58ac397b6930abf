"""What a checkpoint says, in Octavo's terms: config keys to switches, tensor names to canonical ones, both ways."""
