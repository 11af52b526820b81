"""One module per command; each imports only typer at its top, so that ``--help`` is instant."""
