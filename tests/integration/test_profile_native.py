"""Profiling for real: a small platform is measured with the native kernels in ONNX Runtime."""

import numpy as np
import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.kernels.reference import ReferenceBackend
from pruneaug_cli.platforms import LatencyTable, read_profile, write_profile
from pruneaug_cli.profiling import SessionTimer, profile_platform
from pruneaug_cli.profiling.layer_model import layer_matrix, layer_model, layer_program, peer_model
from pruneaug_cli.runtime import example_arrays, open_session

GEOMETRIES = tuple(
    map(
        parse_geometry,
        (
            "conv 20 12 3 3 10 14 2x1 1x0",
            "conv 16 16 3 3 12 12 1 2 2 dilation=2",
            "conv 24 8 1 1 9 9 1 0",
            "linear 10 48 3",
        ),
    )
)
CHOICES = (DENSE, LayerChoice(BlockShape(8, 1), 0.75))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_model_that_is_timed_computes_the_layer(native, geometry, choice):
    matrix = layer_matrix(geometry, choice, seed=3)
    session = open_session(
        layer_model(geometry, matrix, copies=3), library=native.operator_library()
    )
    (x,) = example_arrays(session.inputs, seed=1)
    program = layer_program(geometry, matrix, copies=1)
    (truth,) = ReferenceBackend().run(program, [x.astype(np.float32)])
    terms = geometry.matrix.cols + 1
    np.testing.assert_allclose(session.run([x])[0], truth, rtol=0, atol=terms * 2.0**-22)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_peer_model_computes_the_same_layer_in_standard_operators(native, geometry):
    matrix = layer_matrix(geometry, DENSE, seed=3)
    session = open_session(peer_model(geometry, copies=2, seed=3))
    (x,) = example_arrays(session.inputs, seed=1)
    (truth,) = ReferenceBackend().run(
        layer_program(geometry, matrix, copies=1), [x.astype(np.float32)]
    )
    probe = truth[:, :, :1, :1] if geometry.op == "conv" else truth
    expected = np.concatenate([probe, probe], axis=1)
    terms = geometry.matrix.cols + 1
    np.testing.assert_allclose(session.run([x])[0], expected, rtol=0, atol=terms * 2.0**-22)


def test_a_measured_profile_predicts_and_survives_its_file(native, tmp_path):
    steps = []
    profile = profile_platform(
        GEOMETRIES[:1] + GEOMETRIES[3:],
        backend=native,
        name="here",
        blocks=(BlockShape(8, 1),),
        sparsities=(0.5, 0.9),
        budget_s=0.0,
        progress=steps.append,
    )
    write_profile(profile, tmp_path / "here.json")
    table = LatencyTable(read_profile(tmp_path / "here.json"))
    for geometry in table.geometries:
        estimate = table.latency_s(geometry, LayerChoice(BlockShape(8, 1), 0.7))
        assert 0.0 < estimate.latency_s < 1e-2
        assert estimate.error_s > 0.0
        assert table.peer_latency_s(geometry) is not None
    assert profile.kernels["digest"] == native.fingerprint()["digest"]
    assert steps[-1].done == steps[-1].total


@pytest.mark.slow
def test_removing_nine_of_ten_blocks_makes_a_layer_several_times_faster(native):
    timer = SessionTimer(native.operator_library(), repeats=21)
    geometry = parse_geometry("conv 64 64 3 3 16 16 1 1")
    dense = timer.ours(geometry, DENSE).median_s
    sparse = timer.ours(geometry, LayerChoice(BlockShape(8, 1), 0.9)).median_s
    # a tenth of the products: proportional kernels come near 10; 3 leaves room for a busy machine
    assert dense / sparse > 3.0
