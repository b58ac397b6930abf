"""The C kernels that run a model on a CPU without torch, and their binding, which loads them when first asked."""
