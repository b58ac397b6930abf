"""Operations of training on a CPU as one pass of our own C each, where torch makes several: forward and backward.

Each says by `usable` whether it applies; where it does not (another device or type, no kernels, no gradient wanted)
torch computes, with the same numbers up to rounding.
"""
