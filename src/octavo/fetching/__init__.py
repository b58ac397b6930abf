"""Bringing model files to this machine: an index by pip's configuration, the hub, resumable downloads."""
