"""The Transformers that are trained."""

import math

import torch
from torch import nn


class VanillaTransformer(nn.Module):
    """The causal Transformer of the Question-Formation experiment: torch's own encoder layers under a causal mask. [X2]

    Post-norm, sinusoidal positions, embeddings scaled by sqrt(d_model), an output layer of its own.
    ids (batch, T) int64 -> logits (batch, T, vocabulary) float32. Source: the set-up of Murty et al. (2023).
    """

    def __init__(self, vocabulary, n_layer, d_model, n_head, d_ff, dropout, max_length=512):
        super().__init__()
        if d_model % n_head:
            raise ValueError(f"d_model is {d_model}; expected a multiple of n_head = {n_head}")
        self.embedding = nn.Embedding(vocabulary, d_model)
        position = torch.arange(max_length).unsqueeze(1)
        rate = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
        table = torch.zeros(max_length, d_model)
        table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
        self.register_buffer("positions", table, persistent=False)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(d_model, n_head, d_ff, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, n_layer, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, vocabulary)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim) + self.positions[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=ids.device)
        return self.head(self.layers(self.dropout(x), mask=mask, is_causal=True)).float()


def build(config, vocabulary):
    """The model of a train.ModelConfig. Raises ValueError for an unknown kind."""
    if config.kind != "vanilla":
        raise ValueError(f"kind is {config.kind!r}; expected vanilla")
    return VanillaTransformer(
        vocabulary, config.n_layer, config.d_model, config.n_head, config.d_ff, config.dropout, config.context
    )
