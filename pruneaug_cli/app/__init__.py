"""One use case per command: the wiring, from a frozen request to a frozen result."""
