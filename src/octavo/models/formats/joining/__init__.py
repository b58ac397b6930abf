"""Weights that files hold in parts, numbers here and their scales there, read as one tensor."""
