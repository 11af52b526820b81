"""``python -m pruneaug_cli``."""

from pruneaug_cli.cli import main

if __name__ == "__main__":
    main()
