"""Original weights under their native names (METHODS 12): renamed, and fused projections taken apart."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

_VISION = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding": "embeddings.patch_embeddings.projection",
}
_VISION_LAYER = {
    "attn.proj": "attention.projection_layer",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
_PROJECTOR = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
_INTERNLM2 = {"tok_embeddings": "embed_tokens", "norm": "norm"}
_INTERNLM2_LAYER = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_NATIVE_LLM = "model.language_model."
_HEADS = {"output": "lm_head", "lm_head": "lm_head"}


class Piece(NamedTuple):
    """A native weight.

    Attributes:
        name: its native name.
        take: makes it of the original weight.
    """

    name: str
    take: Callable[[Tensor], Tensor]


class Grouping(NamedTuple):
    """How InternLM2's `wqkv` is laid out: its rows are KV heads x (group's queries, key, value) x head_dim.

    Attributes:
        heads: query heads.
        kv_heads: key heads, a divisor of `heads`.
    """

    heads: int
    kv_heads: int

    def part(self, wqkv: Tensor, name: str) -> Tensor:
        """The rows of the queries, keys or values.

        Args:
            wqkv: ((heads + 2 kv_heads) x head_dim, ...).
            name: ``q``, ``k`` or ``v``.

        Returns:
            (heads x head_dim, ...) or (kv_heads x head_dim, ...).

        Raises:
            ValueError: the rows cannot be shared out.
        """
        queries = self.heads // self.kv_heads
        slots = self.kv_heads * (queries + 2)
        if len(wqkv) % slots:
            raise ValueError(f"wqkv has {len(wqkv)} rows, not a multiple of {slots}")
        grouped = wqkv.reshape(self.kv_heads, queries + 2, len(wqkv) // slots, *wqkv.shape[1:])
        chosen = {"q": slice(queries), "k": slice(queries, -1), "v": slice(-1, None)}[name]
        return grouped[:, chosen].flatten(0, 2).contiguous()


def native_pieces(name: str, *, grouping: Grouping | None) -> tuple[Piece, ...] | None:
    """The native weights that an original one becomes.

    Args:
        name: of the original weight.
        grouping: of an InternLM2 decoder; None for the others, whose inner names are already native.

    Returns:
        One piece, or three of a fused projection; none for a buffer; None if the name is unknown.
    """
    if name.endswith(".rotary_emb.inv_freq"):
        return ()
    stem, dot, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        stem, dot, kind = name, "", ""
    if match := re.fullmatch(r"vision_model\.encoder\.layers\.(\d+)\.(.+)", stem):
        layer = f"model.vision_tower.encoder.layer.{match[1]}"
        if match[2] == "attn.qkv":
            return tuple(
                Piece(f"{layer}.attention.{part}_proj.{kind}", _third(i)) for i, part in enumerate("qkv")
            )
        return _renamed(f"{layer}.", _VISION_LAYER.get(match[2]), dot + kind)
    if match := re.fullmatch(r"vision_model\.(.+)", stem):
        return _renamed("model.vision_tower.", _VISION.get(match[1]), dot + kind)
    if match := re.fullmatch(r"mlp1\.(\d+)", stem):
        return _renamed("model.multi_modal_projector.", _PROJECTOR.get(match[1]), dot + kind)
    if match := re.fullmatch(r"language_model\.(output|lm_head)", stem):
        return _renamed("", _HEADS[match[1]], dot + kind)
    if not (match := re.fullmatch(r"language_model\.model\.(.+)", stem)):
        return None
    if grouping is None:
        return _renamed("model.language_model.", match[1], dot + kind)
    if inner := re.fullmatch(r"layers\.(\d+)\.(.+)", match[1]):
        layer = f"model.language_model.layers.{inner[1]}"
        if inner[2] == "attention.wqkv":
            return tuple(
                Piece(f"{layer}.self_attn.{part}_proj.{kind}", _grouped(grouping, part)) for part in "qkv"
            )
        return _renamed(f"{layer}.", _INTERNLM2_LAYER.get(inner[2]), dot + kind)
    return _renamed("model.language_model.", _INTERNLM2.get(match[1]), dot + kind)


def _renamed(prefix: str, name: str | None, end: str) -> tuple[Piece, ...] | None:
    return None if name is None else (Piece(prefix + name + end, lambda weight: weight),)


def _third(i: int) -> Callable[[Tensor], Tensor]:
    return lambda qkv: qkv.chunk(3)[i].contiguous()


def _grouped(grouping: Grouping, part: str) -> Callable[[Tensor], Tensor]:
    return lambda wqkv: grouping.part(wqkv, part)


def original_names(native: Iterable[str], *, internlm2: bool) -> list[str]:
    """The original names of the modules that a native model has.

    Args:
        native: names of its modules.
        internlm2: the original decoder is InternLM2; else its inner names are already native.
    """
    names = list(native)
    vision = _layers_of(names, r"model\.vision_tower\.encoder\.layer\.(\d+)")
    text = _layers_of(names, r"model\.language_model\.layers\.(\d+)")
    expected = [f"vision_model.{name}" for name in _VISION]
    expected += [
        f"vision_model.encoder.layers.{i}.{name}" for i in vision for name in ("attn.qkv", *_VISION_LAYER)
    ]
    expected += [f"mlp1.{name}" for name in _PROJECTOR]
    if not internlm2:
        inner = [name.removeprefix(_NATIVE_LLM) for name in names if name.startswith(_NATIVE_LLM)]
        return [*expected, "language_model.lm_head", *(f"language_model.model.{name}" for name in inner)]
    expected += [f"language_model.model.{name}" for name in _INTERNLM2]
    expected += [
        f"language_model.model.layers.{i}.{name}"
        for i in text
        for name in ("attention.wqkv", *_INTERNLM2_LAYER)
    ]
    return [*expected, "language_model.output"]


def _layers_of(names: Sequence[str], pattern: str) -> list[int]:
    return sorted({int(match[1]) for name in names if (match := re.match(pattern, name))})
