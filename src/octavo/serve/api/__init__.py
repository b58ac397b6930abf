"""One file an API family: requests, answers and routes. What they share is in `serve/`."""
