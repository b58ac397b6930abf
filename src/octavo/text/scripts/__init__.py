"""One language in two scripts."""
