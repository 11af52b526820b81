"""A whole network measured for a profile: at the batch its layers are priced at."""

from types import SimpleNamespace

import torch
from torch import nn

from pruneaug_cli.app.calibration import calibrate
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.core import BlockShape
from pruneaug_cli.layers import trace_model
from pruneaug_cli.platforms import LatencyTable
from pruneaug_cli.profiling import profile_platform
from pruneaug_cli.progress import silent
from pruneaug_cli.tasks import Task


def test_networks_are_measured_at_the_batch_of_the_example_inputs(native):
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256)).eval()
    example = torch.randn(256, 256)
    task = Task("task.py", SimpleNamespace(example_inputs=lambda: example))
    trace = trace_model(model, (example,), {})
    profile = profile_platform(
        [layer.geometry for layer in trace.layers],
        backend=native, name="here", blocks=(BlockShape(8, 1),), sparsities=(0.5, 0.9),
        budget_s=0.0,
    )  # fmt: skip
    network = calibrate(PreparedModel(task, model, trace, ""), profile, silent)
    table = LatencyTable(profile)
    peers = [table.peer_latency_s(layer.geometry) or 0.0 for layer in trace.layers]
    # with one sample in place of 256 it would be near a fiftieth
    assert 0.5 < network.dense_latency_s / sum(peers) < 2.0
