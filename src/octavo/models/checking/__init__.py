"""Self-checks of a model on this machine: laws that must hold whatever its weights say."""
