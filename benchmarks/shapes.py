"""Files of geometries: what stands in ``shapes/``, and how it is read and made.

python benchmarks/shapes.py resnet50-224       # prints shapes/resnet50-224.txt
"""

import argparse
from collections import Counter
from pathlib import Path

from pruneaug_cli.core import Geometry, parse_geometry
from pruneaug_cli.errors import InputError
from pruneaug_cli.files import read_text

FOLDER = Path(__file__).parent / "shapes"


def read_shapes(path: Path) -> list[Geometry]:
    """Geometries, one per line; ``#`` starts a comment.

    Raises:
        InputError: no such file, or a line is no geometry; the message has its number.
    """
    found = []
    for number, line in enumerate(read_text(path, kind="shapes").splitlines(), start=1):
        if text := line.partition("#")[0].strip():
            try:
                found.append(parse_geometry(text))
            except ValueError as error:
                raise InputError(f"{path}:{number}: {error}") from error
    if not found:
        raise InputError(f"{path}: expected at least one geometry, found none")
    return found


def describe(name: str) -> str:
    """The file of a network: geometries of its prunable layers as they come, each once."""
    from networks import NETWORKS
    from random_models import trace

    _, _, found = trace(NETWORKS[name])
    counts = Counter(str(layer.geometry) for layer in found.layers for _ in range(layer.uses))
    lines = [f"{line}  # {count} times" if count > 1 else line for line, count in counts.items()]
    return "\n".join([f"# prunable layers of {name}; written by benchmarks/shapes.py", *lines, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the geometries of a network.")
    parser.add_argument("network")
    print(describe(parser.parse_args().network), end="")
