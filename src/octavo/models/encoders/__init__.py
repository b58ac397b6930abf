"""What runs encoders: one seam, torch as the reference, and the C kernels."""
