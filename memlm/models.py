"""The Transformers that are trained.

Every model maps ids (batch, T) int64 -> logits (batch, T, vocabulary), and shows the two parts of that map: ``hidden(ids)``
(batch, T, d_model), and ``head``, a module with the output matrix ``weight`` (vocabulary, d_model) and perhaps a ``bias``.
``loss.linear_cross_entropy(model.hidden(ids), model.head, targets)`` is the training loss without the logits.
``attention_width`` is the sum over layers of (query heads * head size), from which attention's work follows.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def check_length(ids, context):
    """Raise ValueError where a sequence is longer than the positions that the model knows."""
    if ids.shape[-1] > context:
        raise ValueError(f"sequence length is {ids.shape[-1]}; expected at most context = {context}")


class VanillaTransformer(nn.Module):
    """The causal Transformer of the Question-Formation experiment: torch's encoder layers under a causal mask. [X2]

    Post-norm, sinusoidal positions, embeddings N(0, 1/d_model) scaled by sqrt(d_model), an output layer of its own: a word
    then weighs as much as its position, which copying the sentence depends on.
    ids (batch, T) int64 -> logits (batch, T, vocabulary) float32. Source: the set-up of Murty et al. (2023).
    """

    def __init__(self, vocabulary, n_layer, d_model, n_head, d_ff, dropout, max_length=512):
        super().__init__()
        if d_model % n_head:
            raise ValueError(f"d_model is {d_model}; expected a multiple of n_head = {n_head}")
        if d_model % 2:
            raise ValueError(f"d_model is {d_model}; expected an even number, since positions are sines and cosines")
        self.embedding = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        position = torch.arange(max_length).unsqueeze(1)
        rate = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
        table = torch.zeros(max_length, d_model)
        table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
        self.register_buffer("positions", table, persistent=False)
        self.dropout = nn.Dropout(dropout)
        layer = CausalLayer(d_model, n_head, d_ff, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, n_layer, enable_nested_tensor=False).layers
        self.attention_width = n_layer * d_model
        self.head = nn.Linear(d_model, vocabulary)

    def hidden(self, ids):
        """Final hidden states (batch, T, d_model)."""
        length = ids.shape[1]
        check_length(ids, len(self.positions))
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim) + self.positions[:length]
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, ids):
        return self.head(self.hidden(ids)).float()


class CausalLayer(nn.TransformerEncoderLayer):
    """torch's encoder layer under a causal mask: its weights, their initialisation and its value.

    Its own forward copies queries, keys and values forth and back, and a mask for every head: a fifth of the work of a
    model of width 64. x (batch, T, d_model) -> the same shape.
    """

    def forward(self, x):
        heads = self.self_attn
        qkv = F.linear(x, heads.in_proj_weight, heads.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (y.unflatten(-1, (heads.num_heads, -1)).transpose(1, 2) for y in qkv)  # (batch, heads, T, head size)
        y = F.scaled_dot_product_attention(q, k, v, None, heads.dropout if self.training else 0.0, is_causal=True)
        x = self.norm1(x + self.dropout1(heads.out_proj(y.transpose(1, 2).flatten(2))))
        return self.norm2(x + self.dropout2(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class GPT2(nn.Module):
    """GPT-2 as ``transformers`` builds it, with output matrix and embedding tied: see ``gpt2``. [X1]"""

    def __init__(self, network):
        super().__init__()
        self.network = network  # a transformers GPT2Model
        self.attention_width = network.config.n_layer * network.config.n_embd

    @property
    def head(self):
        return self.network.wte

    def hidden(self, ids):
        """Final hidden states (batch, T, d_model), after the last norm.

        Block by block, because the network's own forward makes a mask as soon as it is compiled, and then attention is not
        the kernel that knows what is_causal means.
        """
        network, length = self.network, ids.shape[-1]
        check_length(ids, network.config.n_positions)
        x = network.drop(network.wte(ids) + network.wpe.weight[:length])
        for block in network.h:
            x = block(x)
        return network.ln_f(x)

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.head.weight)


def gpt2(vocabulary, n_layer, d_model, n_head, context, dropout):
    """A GPT-2 of any width and depth, newly initialised from torch's global generator. [X1]

    GPT-2 small is ``gpt2(50257, 12, 768, 12, 1024, 0.1)``: 124,439,808 parameters. ids (batch, T) int64 -> logits
    (batch, T, vocabulary). GELU is GPT-2's tanh form as one kernel, which transformers' default writes as eight.
    """
    if d_model % n_head:
        raise ValueError(f"d_model is {d_model}; expected a multiple of n_head = {n_head}")
    from transformers import GPT2Config, GPT2Model  # 5 seconds

    config = GPT2Config(
        vocab_size=vocabulary,
        n_layer=n_layer,
        n_embd=d_model,
        n_head=n_head,
        n_positions=context,
        activation_function="gelu_pytorch_tanh",
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), dropout),
    )
    return GPT2(GPT2Model(config))


class OpenELM(nn.Module):
    """A decoder in OpenELM's style, whose layers differ in heads and feed-forward width. [X4]

    Pre-norm with RMSNorm, grouped-query attention with RMSNorm on every query and key (QK-norm), rotary positions,
    swish-gated feed-forward, no biases, output matrix and embedding tied, all weights N(0, 0.02^2).
    query_heads, kv_heads: one number a layer, kv dividing query. Attention has its own width, heads * head_size, so that
    d_model need not be a multiple of head_size. ffn = (first, last): layer i's feed-forward width is m_i * d_model
    rounded to the nearest multiple of 8 (halves up), where m_i goes linearly from first to last.
    """

    def __init__(self, vocabulary, d_model, query_heads, kv_heads, ffn, context=1024, head_size=64, dropout=0.1):
        super().__init__()
        if len(query_heads) != len(kv_heads):
            raise ValueError(f"kv_heads has {len(kv_heads)} layers; expected {len(query_heads)}, as query_heads has")
        for query, kv in zip(query_heads, kv_heads, strict=True):
            if kv < 1 or query % kv:
                raise ValueError(f"kv_heads has {kv} heads; expected a divisor of that layer's {query} query heads")
        if head_size % 2:
            raise ValueError(f"head_size is {head_size}; expected an even number, since rotary positions turn pairs")
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.dropout = nn.Dropout(dropout)
        slope = (ffn[1] - ffn[0]) / max(len(query_heads) - 1, 1)
        widths = [max(8, int((ffn[0] + i * slope) * d_model / 8 + 0.5) * 8) for i in range(len(query_heads))]
        self.layers = nn.ModuleList(
            ELMLayer(d_model, *numbers, head_size, dropout) for numbers in zip(query_heads, kv_heads, widths, strict=True)
        )
        self.norm = nn.RMSNorm(d_model, eps=1e-6)
        self.attention_width = sum(query_heads) * head_size
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
        rate = 10_000.0 ** (-torch.arange(0, head_size, 2) / head_size)
        angle = torch.outer(torch.arange(context), rate).repeat(1, 2)
        self.register_buffer("rotation", torch.stack([angle.cos(), angle.sin()]), persistent=False)

    @property
    def head(self):
        return self.embedding

    def hidden(self, ids):
        """Final hidden states (batch, T, d_model), after the last norm."""
        check_length(ids, self.rotation.shape[1])
        x = self.dropout(self.embedding(ids))
        for layer in self.layers:
            x = layer(x, *self.rotation[:, : ids.shape[1]])
        return self.norm(x)

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.head.weight)


class ELMLayer(nn.Module):
    """One layer of OpenELM: x + attention(norm(x)), then x + ffn(norm(x)). x (batch, T, d_model) -> the same shape."""

    def __init__(self, d_model, query_heads, kv_heads, d_ff, head_size, dropout):
        super().__init__()
        self.heads = (query_heads, kv_heads, kv_heads)
        self.attention_dropout = dropout
        self.norm_attention, self.norm_ffn = nn.RMSNorm(d_model, eps=1e-6), nn.RMSNorm(d_model, eps=1e-6)
        self.norm_query, self.norm_key = nn.RMSNorm(head_size, eps=1e-6), nn.RMSNorm(head_size, eps=1e-6)
        self.qkv = nn.Linear(d_model, sum(self.heads) * head_size, bias=False)
        self.out = nn.Linear(query_heads * head_size, d_model, bias=False)
        self.gate_up = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def attention(self, x, cos, sin):
        split = self.qkv(x).unflatten(-1, (sum(self.heads), -1)).transpose(1, 2)  # (batch, heads, T, head_size)
        q, k, v = split.split(self.heads, dim=1)
        q, k = (rotate(norm(y.type_as(norm.weight)), cos, sin) for norm, y in ((self.norm_query, q), (self.norm_key, k)))
        dropout = self.attention_dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q.type_as(v), k.type_as(v), v, None, dropout, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm_attention(x), cos, sin)
        gate, up = self.gate_up(self.norm_ffn(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    """Rotary positions: coordinates j and j + size/2 of x (..., T, size) turned by position * 10000^(-2 j / size)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


# The three models of the paper's Table 3, by its N (non-embedding parameters; with a 50257-word embedding alone the first
# would have 47.9M). Widths and heads are printed, the feed-forward multipliers are not: here the first is 0.5, as it is for
# the heads, and the last is what makes N the printed one within 0.1 %. The printed width 954 is no multiple of 64; fine.
OPEN_ELM = {
    name: {"d_model": d_model, "query_heads": heads, "kv_heads": tuple(h // 2 for h in heads), "ffn": (0.5, last)}
    for name, d_model, heads, last in (
        ("39.95M", 954, (6, 6, 6, 6, 8, 8, 8, 10), 2.184),
        ("60.26M", 1280, (6, 6, 6, 6, 8, 8, 8, 10), 1.838),
        ("80.20M", 1440, (6, 6, 6, 8, 8, 8, 10, 10), 2.034),
    )
}


def build(config, vocabulary):
    """The model of a configs.ModelConfig, newly initialised. ValueError for an unknown kind or a shape it cannot have.

    openelm has the same heads in every layer, half of them for keys and values; the kinds of OPEN_ELM are the paper's.
    """
    shape = {name: getattr(config, name) for name in ("n_layer", "d_model", "n_head", "dropout")}
    if config.kind == "vanilla":
        return VanillaTransformer(vocabulary, d_ff=config.d_ff, max_length=config.context, **shape)
    if config.kind == "gpt2":
        if config.d_ff != 4 * config.d_model:
            raise ValueError(f"d_ff is {config.d_ff}; expected 4 d_model = {4 * config.d_model} in gpt2")
        return gpt2(vocabulary, context=config.context, **shape)
    if config.kind == "openelm":
        heads, kv = (config.n_head,) * config.n_layer, (max(config.n_head // 2, 1),) * config.n_layer
        ffn, size = (config.d_ff / config.d_model,) * 2, config.d_model // config.n_head
        return OpenELM(vocabulary, config.d_model, heads, kv, ffn, config.context, size, config.dropout)
    if config.kind in OPEN_ELM:
        printed = OPEN_ELM[config.kind]
        if (config.d_model, config.n_layer) != (printed["d_model"], len(printed["query_heads"])):
            raise ValueError(
                f"{config.kind} has n_layer {config.n_layer} and d_model {config.d_model}; expected "
                f"{len(printed['query_heads'])} and {printed['d_model']}"
            )
        return OpenELM(vocabulary, **printed, context=config.context, dropout=config.dropout)
    raise ValueError(f"kind is {config.kind!r}; expected vanilla, gpt2, openelm, {', '.join(OPEN_ELM)}")
