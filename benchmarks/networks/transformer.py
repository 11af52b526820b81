"""The encoder of BERT-base: what its twelve layers make of embedded tokens."""

import math

from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Every token looks at all of them, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        mixed = F.softmax(scores, dim=-1) @ value
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, width) as (N, heads, T, width / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention, then a feed-forward part; each added to its input and normalised."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape."""
        x = self.norm1(x + self.attention(x))
        y: Tensor = self.norm2(x + self.fc2(F.gelu(self.fc1(x))))
        return y


class Encoder(nn.Module):
    """Twelve layers of width 768 with 12 heads.

    References:
        Devlin, Chang, Lee and Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers",
        NAACL 2019, BERT-base. Embeddings and task heads are left out.
    """

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, 4 * width) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Map embedded tokens (N, T, width) to the same shape."""
        y: Tensor = self.layers(x)
        return y
