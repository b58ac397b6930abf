"""What the kernels know of a config, as tables."""
