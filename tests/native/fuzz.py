"""Damaged region programs: what a file from a stranger may hold."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pruneaug_cli.kernels.encoding import (
    HEADER,
    INPUT,
    INSTRUCTION,
    WEIGHT,
    EncodedRegion,
    encode,
)
from tests.native.cases import Case
from tests.native.programs import (
    BLOCKS,
    SIZES,
    branches,
    convolution,
    network,
    product,
    small_maps,
)

_INTERESTING = np.array(
    [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 100, 127, 255, 4095, 4096, 4097, 1 << 24, (1 << 24) + 1,
     1 << 28, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 48, 1 << 61, 1 << 62, (1 << 63) - 1,
     0x7F800000, 0x7FC00000, 0xFF800000, 0x3F800000]
)  # fmt: skip
_RECORDS = (HEADER, INPUT, WEIGHT, INSTRUCTION)


def damaged(seed: int, count: int) -> Iterator[Case]:
    """``count`` cases made of good programs by one to four changes each."""
    rng = np.random.default_rng(seed)
    good = [encode(network(rng, block)) for block in BLOCKS]
    good += [encode(branches(rng, block, size)) for block in BLOCKS[::3] for size in SIZES]
    good += [encode(program) for block in BLOCKS[::3] for program in small_maps(rng, block)]
    good += [encode(make(rng)) for make in (convolution, product) for _ in range(8)]
    for _ in range(count):
        encoded = good[rng.integers(len(good))]
        for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
            encoded = _damage(rng, encoded)
        samples = int(rng.choice([1, 2, 3, 6, 17]))
        yield Case(encoded, samples, int(rng.integers(1 << 31)))


def _damage(rng: np.random.Generator, encoded: EncodedRegion) -> EncodedRegion:
    kind = rng.random()
    if kind < 0.75:
        program = np.array(encoded.program, np.int64)
        return replace(encoded, program=tuple(damage_program(rng, program).tolist()))
    if kind < 0.85:
        masks = encoded.masks.copy()
        if masks.size:
            masks[rng.integers(masks.size)] ^= np.uint8(1 << rng.integers(8))
        return replace(encoded, masks=_cut(rng, masks))
    bits = encoded.values.view(np.uint32).copy()
    if bits.size:
        odd = [0x7FC00000, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x7F7FFFFF]
        bits[rng.integers(bits.size)] = rng.choice(odd)
    return replace(encoded, values=_cut(rng, bits).view(np.float32))


def damage_program(rng: np.random.Generator, program: np.ndarray) -> np.ndarray:
    if program.size == 0:
        return program
    at, other = rng.integers(program.size, size=2)
    match rng.integers(8):
        case 0 | 1:
            sign = -1 if rng.random() < 0.2 else 1
            program[at] = sign * rng.choice(_INTERESTING)
        case 2 | 3:
            program[at : at + 1] += rng.integers(-2, 3)  # an array wraps around without a word
        case 4:
            program[at] ^= np.int64(1) << rng.integers(63)
        case 5:
            program[[at, other]] = program[[other, at]]
        case 6:  # a record twice, or gone, as far as `other` can tell where records lie
            size = int(rng.choice(_RECORDS))
            record = program[at : at + size]
            program = (
                np.insert(program, at, record) if rng.random() < 0.5
                else np.delete(program, slice(at, at + size))
            )  # fmt: skip
        case _:
            program[at] = program[other]
    return program[: rng.integers(program.size + 1)] if rng.random() < 0.02 else program


def _cut(rng: np.random.Generator, blob: np.ndarray) -> np.ndarray:
    return blob[: rng.integers(blob.size + 1)] if rng.random() < 0.2 else blob
