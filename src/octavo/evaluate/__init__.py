"""Measuring: harnesses and benchmarks over any system of the floors below."""
