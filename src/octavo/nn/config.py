"""`TransformerConfig`: what a model is, as frozen, nested, orthogonal switches. No torch here.

A family file maps a checkpoint's config onto it; blocks and kernels read the switches and never a model's name.
A field that no family uses does not exist. What differs from block to block is a tuple with an entry for each block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NormKind = Literal["rms", "rms_bare", "layer", "layer_without_bias", "layer_bare"]
Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu_squared", "xielu"]
HeadActivation = Activation | Literal["tanh"]
Scores = Literal["softmax", "sigmoid", "sparse_mixer"]
QkNorm = Literal["head", "per_head", "full", "turned"]
Placement = Literal["pre", "post", "output", "sandwich", "parallel", "parallel_two"]
Task = Literal["masked_lm", "sequence", "next_sentence", "tokens", "span"]


@dataclass(frozen=True)
class NormConfig:
    """rms: x / sqrt(mean(x^2) + eps) * weight. layer: LayerNorm with weight and bias, the weight alone, or neither.

    Bare ones have no weights.

    offset: the weight is applied as 1 + weight. round_last: an rms norm multiplies the weight in float32 and rounds to
    x's type once; else it rounds before it multiplies. LayerNorm always rounds once.
    """

    kind: NormKind
    eps: float
    offset: bool = False
    round_last: bool = False


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding in the half layout: feature i turns with feature i + rotary_dim / 2.

    freq_factors: rotary_dim / 2 divisors of the inverse frequencies (linear, llama3 and yarn scaling), or None for
    all 1. attention_factor: of cos and sin (yarn, longrope). Sequences longer than original_length have the divisors
    long_factors (longrope), or a base that grows with their length by ntk_factor (dynamic).
    """

    theta: float
    rotary_dim: int
    freq_factors: tuple[float, ...] | None = None
    attention_factor: float = 1.0
    original_length: int | None = None
    long_factors: tuple[float, ...] | None = None
    ntk_factor: float | None = None


@dataclass(frozen=True)
class RelativeConfig:
    """A learned bias of the scores by the distance from query to key (Raffel et al. 2019, arXiv 1910.10683).

    Half of the buckets are a distance each, the others widen up to max_distance; an encoder has half of them for each
    side. One table serves all blocks. positions: whether there is a table of positions, too.
    """

    buckets: int
    max_distance: int
    positions: bool = False


@dataclass(frozen=True)
class DisentangledConfig:
    """Attention to content and distance apart (He et al. 2020, arXiv 2006.03654; 2021, arXiv 2111.09543).

    Each distance from query to key, in buckets on either side of 0, has a normalised vector, whose query and key meet
    the tokens' keys and queries. Distances up to half of the buckets have one each, others widen to max_distance.
    """

    buckets: int
    max_distance: int


@dataclass(frozen=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434): keys and values are made of a small vector.

    kv_rank: features of the vector that all heads' keys and values come from. q_rank: the same of the queries; None:
    they are made of x at once. value_dim: width of a head's values. A head's key has head_dim features, the last
    rotary_dim of which turn and are one for all heads.
    """

    kv_rank: int
    q_rank: int | None
    value_dim: int


@dataclass(frozen=True)
class GrowthConfig:
    """Queries grow with their position p, so that attention stays sharp over many keys (arXiv 2501.19399).

    They are multiplied by 1 + slope * log(1 + floor((p + first) / length)). turned: also in blocks that turn them.
    """

    length: int
    slope: float
    first: int
    turned: bool


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head (num_kv_heads = num_heads), grouped-query or multi-query (num_kv_heads = 1) attention.

    num_heads * head_dim need not be hidden_size. scale: of the scores; None: head_dim ** -0.5. softcap: scores become
    softcap * tanh(score / softcap). qk_norm: q and k are normalised before they turn, or after: head, each head with
    one weight for all; per_head, each head with its own; full, all heads as one vector; turned, each head without
    weights, in the blocks with rotary embedding alone. alibi: each head adds its slope times the key's position to the
    scores, before they are scaled, or after. clip: q, k and v are cut to -clip .. clip.
    sinks: each head has a learned score of seeing nothing, which takes its share of the softmax. relative: what is
    added by distance; cross-attention has none. output_gate: what heads give is multiplied by the sigmoid of one more
    product of x. chunked: windows are chunks of the positions, from 0 on, of which a query sees its own up to itself.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    scale: float | None = None
    softcap: float | None = None
    qk_norm: QkNorm | None = None
    qk_norm_after_rope: bool = False
    alibi: bool = False
    relative: RelativeConfig | None = None
    alibi_after_scale: bool = False
    clip: float | None = None
    sinks: bool = False
    latent: LatentConfig | None = None
    output_gate: bool = False
    chunked: bool = False
    growth: GrowthConfig | None = None
    disentangled: DisentangledConfig | None = None


@dataclass(frozen=True)
class MlpConfig:
    """gated: down(act(gate(x)) * up(x)); plain: down(act(up(x))). xielu (arXiv 2411.13010) has two learned numbers.

    bias: of all its layers, of the last alone (down), or of none. limit: of a gated one, gate(x) is cut above it, up(x)
    outside -limit .. limit, and 1 is added to up(x).
    """

    intermediate_size: int
    activation: Activation
    gated: bool
    bias: bool | Literal["down"] = False
    limit: float | None = None


@dataclass(frozen=True)
class MoeConfig:
    """A mixture of gated MLPs (Shazeer et al. 2017, arXiv 1701.06538): a token goes to the experts it scores highest.

    scoring: scores are a softmax over all experts, a sigmoid of each, or, one expert after the other, a softmax over
    those left whose logits come within 2 * jitter of the best (sparse_mixer, arXiv 2409.12136). scale_input: what an
    expert reads is multiplied by its score, in place of what it gives. normalise: the scores of the chosen are divided
    by their sum. scale: of the scores after that. shared_size: the width of one more expert that all tokens go to,
    times a sigmoid gate if shared_gate; None: there is none. layers: which blocks have experts, an entry for each
    block; the others have the plain MLP. bias: of the router's logits. correction: a learned number an expert is added
    to its score for the choice alone. groups: the experts are so many groups of one size, of which groups_kept are
    chosen first, by the sum of the group_top best scores in each.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    normalise: bool
    shared_size: int | None
    layers: tuple[bool, ...]
    scoring: Scores = "softmax"
    scale: float = 1.0
    shared_gate: bool = True
    bias: bool = False
    correction: bool = False
    groups: int = 1
    groups_kept: int = 1
    group_top: int = 1
    scale_input: bool = False
    jitter: float = 0.0


@dataclass(frozen=True)
class HeadConfig:
    """What makes scores of an encoder's hidden states: a dense layer, if any, then a score for each label.

    task: masked_lm, scores of the whole vocabulary at each position; sequence, of a whole text; next_sentence, that
    the second of two texts follows the first, and that it does not; tokens, of each token;
    span, that an answer starts and that it ends there. labels: how many scores. activation: of the dense layer; None:
    there is none. dense_bias, norm: whether it has a bias, and a norm after it. pooling: what a sequence is scored by,
    its first token, the mean of all, or (late) the mean of what the dense layer makes of them.
    """

    task: Task
    labels: int
    activation: HeadActivation | None = None
    dense_bias: bool = True
    norm: bool = False
    pooling: Literal["first", "mean", "late"] = "first"


@dataclass(frozen=True)
class PatchConfig:
    """An image cut into square patches, each of them a position (Dosovitskiy et al. 2020, arXiv 2010.11929).

    image_size, patch_size: pixels a side. class_token: whether a learned vector comes before the patches.
    bias: of the layer that patches go through.
    """

    image_size: int
    patch_size: int
    channels: int = 3
    class_token: bool = True
    bias: bool = True

    @property
    def count(self) -> int:
        """Patches of an image, row by row."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_positions(self) -> int:
        """Positions of an image: its patches, and the class token."""
        return self.count + self.class_token


@dataclass(frozen=True)
class EncoderConfig:
    """What encoders have beside what all transformers have; each position sees those after it, too.

    position_offset: rows of the table of positions before the first one's. token_types: rows of a table of kinds of
    tokens (which of two texts a token is of); 0: there is none. embedding_size: the width of embeddings, from which a
    matrix leads to hidden_size; None: hidden_size. shared_block: all blocks have the same weights.
    first_attention_norm: whether the first block normalises what attention reads. patches: of an image, in place of
    tokens. queries: so many learned vectors in place of tokens, without positions, which gather what they want from a
    memory (Li et al. 2023, arXiv 2301.12597); 0: there are tokens.
    """

    position_offset: int = 0
    token_types: int = 0
    embedding_size: int | None = None
    shared_block: bool = False
    first_attention_norm: bool = True
    head: HeadConfig | None = None
    patches: PatchConfig | None = None
    queries: int = 0


@dataclass(frozen=True)
class TransformerConfig:
    """A decoder or an encoder. Without rotary embedding, ALiBi, distances and sinusoids, positions are a table.

    placement of the norms: pre, before each sublayer; post, on each sum, and none at the end; output, on what a
    sublayer gives, before the sum; sandwich, both; parallel, attention and MLP both read one norm of x, and their
    outputs are added at once; parallel_two, the same with a norm for each. rope_layers: each block's rotary embedding,
    None for none; empty: `rope` in all. windows: how many positions each block sees, a token's own included (an
    encoder's as many on the other side), None for all; empty: all blocks see all. head_bias: of the logits, of a tied
    head too. embedding_scale: of the token embeddings, rounded to their type. embedding_norm: on their sum.
    residual_scale: of what a sublayer adds. logit_scale: of the logits; logit_softcap: they become logit_softcap *
    tanh(logit / logit_softcap). encoder: None in a decoder. sinusoidal: positions are sines, then cosines, of falling
    frequencies, added to the embeddings (Vaswani et al. 2017, arXiv 1706.03762); fairseq_sines: those of fairseq, which
    fall a little faster, and where they begin. memory: the encoder whose output blocks read, by cross-attention between
    their own attention and their MLP; it embeds tokens by the same table. memory_layers: which blocks read it, an entry
    for each; empty: all. final_norm: whether there is one after the last block, where the norms are not on each sum.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    context_length: int
    norm: NormConfig
    attention: AttentionConfig
    mlp: MlpConfig
    rope: RopeConfig | None
    tie_embeddings: bool
    placement: Placement = "pre"
    rope_layers: tuple[RopeConfig | None, ...] = ()
    windows: tuple[int | None, ...] = ()
    head_bias: bool = False
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    moe: MoeConfig | None = None
    encoder: EncoderConfig | None = None
    sinusoidal: bool = False
    fairseq_sines: int | None = None
    memory: TransformerConfig | None = None
    memory_layers: tuple[bool, ...] = ()
    final_norm: bool = True

    def __post_init__(self) -> None:
        for name in ("rope_layers", "windows", "memory_layers"):
            assert len(getattr(self, name)) in (0, self.num_layers), f"{name} has an entry for each block"

    @property
    def learned_positions(self) -> bool:
        """Whether positions are a table of embeddings."""
        relative = self.attention.relative is not None and not self.attention.relative.positions
        other = self.attention.alibi or relative or self.attention.disentangled or self.sinusoidal or self.num_queries
        return self.rope is None and not other

    @property
    def num_queries(self) -> int:
        """Learned vectors that stand in place of tokens."""
        return 0 if self.encoder is None else self.encoder.queries

    @property
    def patches(self) -> PatchConfig | None:
        """How an image is cut, which stands in place of tokens."""
        return None if self.encoder is None else self.encoder.patches

    @property
    def sees_images(self) -> bool:
        """Whether pixels stand in place of tokens."""
        return bool(self.patches or self.num_queries)

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block."""
        return self.placement != "post" and self.final_norm

    def reads_memory(self, layer: int) -> bool:
        """Whether a block has cross-attention."""
        return self.memory is not None and (not self.memory_layers or self.memory_layers[layer])

    @property
    def embedding_size(self) -> int:
        """The width of the tables of embeddings."""
        return (self.encoder and self.encoder.embedding_size) or self.hidden_size

    @property
    def num_positions(self) -> int:
        """Rows of the table of positions, where there is one."""
        return self.context_length + (self.encoder.position_offset if self.encoder else 0)

    @property
    def num_stored_blocks(self) -> int:
        """Blocks with weights of their own."""
        return 1 if self.encoder is not None and self.encoder.shared_block else self.num_layers

    @property
    def head(self) -> HeadConfig | None:
        """What makes scores of an encoder's hidden states; None in a decoder, whose scores are always the logits."""
        return None if self.encoder is None else self.encoder.head

    @property
    def has_logits(self) -> bool:
        """Whether hidden states become scores of the vocabulary."""
        return self.encoder is None or (self.head is not None and self.head.task == "masked_lm")

    def rope_of(self, layer: int) -> RopeConfig | None:
        """The rotary embedding of a block."""
        return self.rope_layers[layer] if self.rope_layers else self.rope

    def moe_of(self, layer: int) -> MoeConfig | None:
        """The experts of a block; None: it has a plain MLP."""
        return self.moe if self.moe is not None and self.moe.layers[layer] else None

    @property
    def widest_window(self) -> int | None:
        """How many positions any block sees at most; None: some block sees all."""
        widths = [width for width in self.windows if width is not None]
        return max(widths) if widths and len(widths) == self.num_layers else None

    def window_of(self, layer: int) -> int | None:
        """How many positions a block sees; None: all."""
        return self.windows[layer] if self.windows else None
