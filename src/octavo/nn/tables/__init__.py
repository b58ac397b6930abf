"""What the blocks are made by, as tables."""
