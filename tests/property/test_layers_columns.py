"""The law of the matrix view: columns times matrix are the layer's outputs, in any geometry."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pruneaug_cli.layers import input_columns, trace_model, weight_matrix

SMALL = st.integers(1, 3)
PAIR = st.tuples(SMALL, SMALL)


@st.composite
def convolutions(draw):
    kernel, dilation = draw(PAIR), draw(PAIR)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    least = [max(1, e - 2 * p) for e, p in zip(extent, padding, strict=True)]
    image = [size + draw(st.integers(0, 4)) for size in least]
    conv = nn.Conv2d(draw(SMALL), draw(SMALL), kernel, draw(PAIR), padding, dilation, bias=False)
    return conv.double(), (draw(SMALL), conv.in_channels, *image), draw(st.integers(0, 2**31))


@settings(max_examples=60)
@given(convolutions())
def test_columns_times_matrix_is_the_convolution(case):
    conv, shape, seed = case
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = conv(x).movedim(1, -1).reshape(-1, conv.out_channels)
    product = input_columns(conv, x) @ weight_matrix(conv).T
    torch.testing.assert_close(product, expected)


@settings(max_examples=30)
@given(convolutions())
def test_the_traced_geometry_has_the_sizes_of_the_convolution(case):
    conv, shape, _ = case
    (layer,) = trace_model(conv.float(), (torch.zeros(shape),), {}).layers
    assert layer.geometry.output == tuple(conv(torch.zeros(shape)).shape[2:])
    assert (layer.geometry.matrix.rows, layer.geometry.matrix.cols) == weight_matrix(conv).shape


@settings(max_examples=30)
@given(PAIR, st.lists(SMALL, max_size=3))
def test_rows_times_matrix_is_the_linear_layer(features, leading):
    linear = nn.Linear(*features, bias=False)
    x = torch.randn(*leading, features[0])
    expected = linear(x).reshape(-1, features[1])
    torch.testing.assert_close(input_columns(linear, x) @ linear.weight.T, expected)
