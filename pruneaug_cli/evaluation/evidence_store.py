"""Evidence on disk: one file per layer and kind, collected once, read when it is needed.

A layer's evidence comes in two kinds, which are collected apart: ``inputs`` (second moments: K²
numbers) and ``gradients`` (squared gradients of the weights, curvature at the outputs: M·K and M²
numbers). Nothing keeps them in memory: who works on a layer reads that layer's files.

Files are ``LAYER-KIND-ADDRESS.safetensors``: ``second_moment`` (K, K) float32 and ``samples``; or
``gradient`` (M, K) and ``curvature`` (M, M), float32. The one metadata entry ``evidence`` is
``schema_version``, a space, and the key: the digest of all that decides the content.

Schema history (``schema_version``):
    1: one file for all layers, ``LAYER/second_moment`` and so on.
    2: one file per layer and kind; curvature.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pruneaug_cli.criteria import LayerEvidence
from pruneaug_cli.errors import RunError
from pruneaug_cli.files import digest_text, write_bytes

SCHEMA_VERSION = 2

Kind = Literal["inputs", "gradients"]
Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Evidence of one kind, of one layer; ``key`` is the digest of what decides it."""

    directory: Path
    layer: str
    kind: Kind
    key: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        plain = re.sub(r"[^\w.-]", "_", self.layer)
        address = digest_text(self.layer, self.kind, self.key)[:16]
        return self.directory / f"{plain}-{self.kind}-{address}.safetensors"

    def write(self, arrays: Arrays) -> None:
        """Replace the file, atomically."""
        content = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_bytes(self.path, bytes(save(content, self._metadata())))

    def exists(self) -> bool:
        """Whether there is a file of this key that can be read: its length is what it says."""
        try:
            with safe_open(self.path, "numpy") as file:
                return bool(file.metadata() == self._metadata())
        except (SafetensorError, OSError):
            return False

    def read(self) -> Arrays:
        """Everything in it.

        Raises:
            RunError: missing, damaged, or of another key.
        """
        try:
            with safe_open(self.path, "numpy") as file:
                if file.metadata() != self._metadata():
                    raise RunError(f"{self.path}: is no evidence of this run")
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise RunError(
                f"{self.path}: damaged evidence file: {error}",
                hint="run the same command again: what is missing is collected anew",
            ) from error

    def _metadata(self) -> dict[str, str]:
        # one entry: safetensors writes several in an order that changes from run to run
        return {"evidence": f"{SCHEMA_VERSION} {self.key}"}


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """Evidence of one layer, in files; what travels to a worker.

    Attributes:
        inputs: the second moments.
        gradients: where a loss was asked for gradients; None: nothing needs them.
        scores: whether squared gradients of the weights are wanted, for a criterion.
        curvature: whether the curvature at the outputs is wanted, for the loss's harm.
    """

    inputs: EvidenceFile
    gradients: EvidenceFile | None = None
    scores: bool = False
    curvature: bool = False

    def load(self) -> LayerEvidence:
        """Read it.

        Raises:
            RunError: a file is missing or damaged.
        """
        inputs = self.inputs.read()
        gradients: Arrays = {} if self.gradients is None else self.gradients.read()
        return LayerEvidence(
            inputs["second_moment"],
            int(inputs["samples"][0]),
            gradients["gradient"] if self.scores else None,
            gradients["curvature"] if self.curvature else None,
        )
