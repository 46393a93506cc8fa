"""InternVL2's original layers in plain torch on the original names, and a maker of small checkpoints of them.

The oracle of the conversion (METHODS 12): nothing of `model_adapters` is used here. InternViT, the pixel
shuffle, `mlp1`, InternLM2 and Phi3 are written out; for Qwen2 and Llama transformers' own language models
stand in, which is what the original code ran.
"""

import io
import json
import math
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear, silu

Weights = dict[str, Tensor]
IMAGE_TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>")
TILE, PATCH = 56, 14
_SENTENCES = [
    f"{number} {thing} {i}, how many {thing} are in the images? The answer is {number}."
    for i in range(60)
    for number in ("one", "two", "three")
    for thing in ("cats", "dogs", "tables", "objects of the class")
]


# ---- the original layers


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def vision_norm(x: Tensor, weights: Weights, name: str, config: dict[str, Any]) -> Tensor:
    eps = config["layer_norm_eps"]
    if config["norm_type"] == "rms_norm":
        return rms_norm(x, weights[f"{name}.weight"], eps)
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def intern_vit(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    """(T, 3, H, W) to (T, 1 + patches, D)."""
    at = "vision_model.embeddings"
    patches = conv2d(
        pixels,
        weights[f"{at}.patch_embedding.weight"],
        weights[f"{at}.patch_embedding.bias"],
        stride=config["patch_size"],
    )
    x = torch.cat(
        (weights[f"{at}.class_embedding"].expand(len(pixels), -1, -1), patches.flatten(2).mT), dim=1
    )
    x = x + weights[f"{at}.position_embedding"]
    heads = config["num_attention_heads"]
    for n in range(config["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{n}"
        y = vision_norm(x, weights, f"{at}.norm1", config)
        qkv = linear(y, weights[f"{at}.attn.qkv.weight"], weights.get(f"{at}.attn.qkv.bias"))
        q, k, v = qkv.unflatten(-1, (3, -1)).unbind(-2)
        if config["qk_normalization"]:
            q = rms_norm(q, weights[f"{at}.attn.q_norm.weight"], config["layer_norm_eps"])
            k = rms_norm(k, weights[f"{at}.attn.k_norm.weight"], config["layer_norm_eps"])
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
        y = ((q @ k.mT) * q.shape[-1] ** -0.5).softmax(-1) @ v
        y = linear(
            y.transpose(1, 2).flatten(2),
            weights[f"{at}.attn.proj.weight"],
            weights[f"{at}.attn.proj.bias"],
        )
        x = x + y * weights[f"{at}.ls1"]
        y = vision_norm(x, weights, f"{at}.norm2", config)
        y = gelu(linear(y, weights[f"{at}.mlp.fc1.weight"], weights[f"{at}.mlp.fc1.bias"]))
        y = linear(y, weights[f"{at}.mlp.fc2.weight"], weights[f"{at}.mlp.fc2.bias"])
        x = x + y * weights[f"{at}.ls2"]
    return x


def image_features(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    """(T, 3, H, W) to (T, tokens a tile, D): pixel shuffle v2 takes 2 x 2 patches, row by row, then mlp1."""
    x = intern_vit(weights, config["vision_config"], pixels)[:, 1:]
    side = round(x.shape[1] ** 0.5)
    x = x.unflatten(1, (side, side))
    x = torch.cat((x[:, 0::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 0::2], x[:, 1::2, 1::2]), dim=-1)
    x = x.flatten(1, 2)
    x = layer_norm(x, x.shape[-1:], weights["mlp1.0.weight"], weights["mlp1.0.bias"])
    x = gelu(linear(x, weights["mlp1.1.weight"], weights["mlp1.1.bias"]))
    return linear(x, weights["mlp1.3.weight"], weights["mlp1.3.bias"])


def rotate(x: Tensor, config: dict[str, Any]) -> Tensor:
    """RoPE of (N, D): InternLM2's with dynamic NTK or linear scaling, Phi3's with two sets of factors ("su").

    Computed in the dtype of `x`, as the original code does in float32.
    """
    length, width = x.shape
    base, scaling = config["rope_theta"], config.get("rope_scaling") or {"type": "none"}
    places, size, most = torch.arange(length, dtype=x.dtype), 1.0, config["max_position_embeddings"]
    slowed: Tensor | float = 1.0
    if scaling["type"] == "dynamic" and length > most:
        stretched = scaling["factor"] * length / most - (scaling["factor"] - 1)
        base = base * stretched ** (width / (width - 2))
    elif scaling["type"] == "linear":
        places = places / scaling["factor"]
    elif scaling["type"] == "su":
        first = config["original_max_position_embeddings"]
        slowed = torch.tensor(scaling["long_factor" if length > first else "short_factor"], dtype=x.dtype)
        size = math.sqrt(1 + math.log(most / first) / math.log(first))
    angles = places[:, None] / (slowed * base ** (torch.arange(0, width, 2, dtype=x.dtype) / width))
    cos, sin = angles.cos() * size, angles.sin() * size
    first_half, second_half = x.chunk(2, dim=-1)
    return torch.cat((first_half * cos - second_half * sin, second_half * cos + first_half * sin), dim=-1)


def causal_head(q: Tensor, k: Tensor, v: Tensor, config: dict[str, Any]) -> Tensor:
    """One head's attention: (N, D) each."""
    scores = rotate(q, config) @ rotate(k, config).T * q.shape[-1] ** -0.5
    past = torch.ones_like(scores, dtype=torch.bool).tril()
    return scores.masked_fill(~past, float("-inf")).softmax(-1) @ v


def intern_lm2(weights: Weights, config: dict[str, Any], x: Tensor) -> Tensor:
    """Embeddings (N, D) to logits (N, V)."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width, queries, eps = config["hidden_size"] // heads, heads // kv_heads, config["rms_norm_eps"]
    for n in range(config["num_hidden_layers"]):
        at = f"language_model.model.layers.{n}"
        y = rms_norm(x, weights[f"{at}.attention_norm.weight"], eps)
        rows = linear(y, weights[f"{at}.attention.wqkv.weight"], weights.get(f"{at}.attention.wqkv.bias"))
        out = []
        for group in rows.split((queries + 2) * width, dim=-1):  # one for each KV head
            *q, k, v = group.split(width, dim=-1)
            out += [causal_head(query, k, v, config) for query in q]
        wo = f"{at}.attention.wo"
        x = x + linear(torch.cat(out, dim=-1), weights[f"{wo}.weight"], weights.get(f"{wo}.bias"))
        y = rms_norm(x, weights[f"{at}.ffn_norm.weight"], eps)
        gate, up = (linear(y, weights[f"{at}.feed_forward.w{i}.weight"]) for i in (1, 3))
        x = x + linear(silu(gate) * up, weights[f"{at}.feed_forward.w2.weight"])
    x = rms_norm(x, weights["language_model.model.norm.weight"], eps)
    return linear(x, weights["language_model.output.weight"])


def phi3(weights: Weights, config: dict[str, Any], x: Tensor) -> Tensor:
    """Embeddings (N, D) to logits (N, V); every head has its own key and value."""
    width, eps = config["hidden_size"] // config["num_attention_heads"], config["rms_norm_eps"]
    for n in range(config["num_hidden_layers"]):
        at = f"language_model.model.layers.{n}"
        y = rms_norm(x, weights[f"{at}.input_layernorm.weight"], eps)
        parts = linear(y, weights[f"{at}.self_attn.qkv_proj.weight"]).chunk(3, dim=-1)
        heads = zip(*(part.split(width, dim=-1) for part in parts), strict=True)
        out = torch.cat([causal_head(q, k, v, config) for q, k, v in heads], dim=-1)
        x = x + linear(out, weights[f"{at}.self_attn.o_proj.weight"])
        y = rms_norm(x, weights[f"{at}.post_attention_layernorm.weight"], eps)
        gate, up = linear(y, weights[f"{at}.mlp.gate_up_proj.weight"]).chunk(2, dim=-1)
        x = x + linear(silu(gate) * up, weights[f"{at}.mlp.down_proj.weight"])
    x = rms_norm(x, weights["language_model.model.norm.weight"], eps)
    return linear(x, weights["language_model.lm_head.weight"])


def transformers_language_model(weights: Weights, config: dict[str, Any]) -> Any:
    """Qwen2's or Llama's causal language model on the original's names and config."""
    import transformers

    kind = config["architectures"][0]
    settings = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    own = getattr(transformers, kind.replace("ForCausalLM", "Config"))(**settings)
    own._attn_implementation = "eager"
    model = getattr(transformers, kind)(own).to(next(iter(weights.values())).dtype).eval()
    prefix = "language_model."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return model


def logits(
    weights: Weights, config: dict[str, Any], ids: Tensor, pixels: Tensor | None, *, image_token: int
) -> Tensor:
    """What the original model says of one prompt.

    Args:
        weights: by their original names; all of one dtype, in which everything is computed.
        config: the original `config.json`.
        ids: int (N,).
        pixels: (T, 3, H, W).
        image_token: the placeholder's id.

    Returns:
        (N, V).
    """
    text = config["llm_config"]
    kind = text["architectures"][0]
    own = {"InternLM2ForCausalLM": intern_lm2, "Phi3ForCausalLM": phi3}.get(kind)
    embeddings = "tok_embeddings" if kind == "InternLM2ForCausalLM" else "embed_tokens"
    x = weights[f"language_model.model.{embeddings}.weight"][ids]
    if pixels is not None:
        x = x.clone()
        x[ids == image_token] = image_features(weights, config, pixels).flatten(0, 1)
    if own:
        return own(weights, text, x)
    with torch.inference_mode():
        return transformers_language_model(weights, text)(inputs_embeds=x[None]).logits[0]


def tiles(image: Image.Image, *, size: int, most: int) -> list[Image.Image]:
    """The original preprocessing's tiles and thumbnail."""
    shape = image.width / image.height
    grids = sorted(
        {
            (i, j)
            for n in range(1, most + 1)
            for i in range(1, n + 1)
            for j in range(1, n + 1)
            if i * j <= most
        },
        key=lambda grid: grid[0] * grid[1],
    )
    best, least = (1, 1), float("inf")
    for grid in grids:
        apart = abs(shape - grid[0] / grid[1])
        large = image.width * image.height > 0.5 * size * size * grid[0] * grid[1]
        if apart < least or (apart == least and large):
            best, least = grid, apart
    canvas = image.resize((size * best[0], size * best[1]))
    out = [
        canvas.crop((x * size, y * size, (x + 1) * size, (y + 1) * size))
        for y in range(best[1])
        for x in range(best[0])
    ]
    return out if len(out) == 1 else [*out, image.resize((size, size))]


# ---- small original checkpoints

_DECODERS: dict[str, dict[str, Any]] = {
    "1B": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rope_theta": 1e6},
    "2B": {
        "architectures": ["InternLM2ForCausalLM"],
        "model_type": "internlm2",
        "bias": False,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "max_position_embeddings": 48,
    },
    "4B": {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "num_key_value_heads": 4,
        "rope_scaling": {
            "type": "su",
            "short_factor": [1.0, 1.05, 1.1, 1.2],
            "long_factor": [1.0, 2.5, 6.0, 11.0],
        },
        "original_max_position_embeddings": 24,
        "max_position_embeddings": 768,
    },
    "40B": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 5e6},
}
_TEMPLATES = {"1B": "Hermes-2", "2B": "internlm2-chat", "4B": "phi3-chat", "40B": "Hermes-2"}
KINDS = (*_DECODERS, "26B")


def make_original(folder: Path, kind: str, *, seed: int = 0, files: int = 2, **changes: Any) -> None:
    """Write a small checkpoint in the original layout with random weights.

    Args:
        folder: a new one.
        kind: ``1B``, ``2B``, ``4B``, ``26B`` (2B's decoder, the 6B vision tower's norms) or ``40B``.
        seed: of the weights.
        files: of weights.
        **changes: of `config.json`; ``llm_config`` and ``vision_config`` are merged into its own.
    """
    folder.mkdir(parents=True)
    own = "2B" if kind == "26B" else kind
    vocabulary = write_tokenizer(folder, own)
    big = kind == "26B"
    config = {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "torch_dtype": "float32",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "force_image_size": TILE,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 4,
        "ps_version": "v2",
        "select_layer": -1,
        "template": _TEMPLATES[own],
        **{key: value for key, value in changes.items() if key not in ("llm_config", "vision_config")},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "norm_type": "rms_norm" if big else "layer_norm",
            "qkv_bias": not big,
            "qk_normalization": big,
            **changes.get("vision_config", {}),
        },
        "llm_config": {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            **_DECODERS[own],
            **changes.get("llm_config", {}),
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_internvl_chat.py").write_text("raise RuntimeError('code of a checkpoint was run')\n")
    weights = random_weights(config, seed=seed)
    names = sorted(weights)
    if files == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    places = {}
    for i in range(files):
        file = f"model-{i + 1:05d}-of-{files:05d}.safetensors"
        chosen = names[i::files]
        save_file({name: weights[name] for name in chosen}, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(chosen, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def random_weights(config: dict[str, Any], *, seed: int) -> Weights:
    """Random weights under the original names."""
    vision, text = config["vision_config"], config["llm_config"]
    d, inner, side = vision["hidden_size"], vision["intermediate_size"], TILE // PATCH
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, d),
        "vision_model.embeddings.position_embedding": (1, side**2 + 1, d),
        "vision_model.embeddings.patch_embedding.weight": (d, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": (d,),
    }

    def dense(name: str, out: int, into: int, *, bias: bool) -> None:
        shapes[f"{name}.weight"] = (out, into)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def norm(name: str, width: int, *, bias: bool) -> None:
        shapes[f"{name}.weight"] = (width,)
        if bias:
            shapes[f"{name}.bias"] = (width,)

    for n in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{n}"
        dense(f"{at}.attn.qkv", 3 * d, d, bias=vision["qkv_bias"])
        dense(f"{at}.attn.proj", d, d, bias=True)
        dense(f"{at}.mlp.fc1", inner, d, bias=True)
        dense(f"{at}.mlp.fc2", d, inner, bias=True)
        for part in ("norm1", "norm2"):
            norm(f"{at}.{part}", d, bias=vision["norm_type"] == "layer_norm")
        if vision["qk_normalization"]:
            for part in ("q_norm", "k_norm"):
                norm(f"{at}.attn.{part}", d, bias=False)
        shapes[f"{at}.ls1"] = shapes[f"{at}.ls2"] = (d,)
    e, m, v = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    norm("mlp1.0", 4 * d, bias=True)
    dense("mlp1.1", e, 4 * d, bias=True)
    dense("mlp1.3", e, e, bias=True)
    kind, at = text["architectures"][0], "language_model.model"
    width = e // text["num_attention_heads"]
    kv, rows = text["num_key_value_heads"] * width, e + 2 * text["num_key_value_heads"] * width
    internlm2 = kind == "InternLM2ForCausalLM"
    dense(f"{at}.{'tok_embeddings' if internlm2 else 'embed_tokens'}", v, e, bias=False)
    norm(f"{at}.norm", e, bias=False)
    if not text["tie_word_embeddings"]:
        dense(f"language_model.{'output' if internlm2 else 'lm_head'}", v, e, bias=False)
    for n in range(text["num_hidden_layers"]):
        layer = f"{at}.layers.{n}"
        if internlm2:
            dense(f"{layer}.attention.wqkv", rows, e, bias=text["bias"])
            dense(f"{layer}.attention.wo", e, e, bias=text["bias"])
            for part, out, into in (("w1", m, e), ("w3", m, e), ("w2", e, m)):
                dense(f"{layer}.feed_forward.{part}", out, into, bias=False)
            for part in ("attention_norm", "ffn_norm"):
                norm(f"{layer}.{part}", e, bias=False)
            continue
        if kind == "Phi3ForCausalLM":
            dense(f"{layer}.self_attn.qkv_proj", rows, e, bias=False)
            dense(f"{layer}.mlp.gate_up_proj", 2 * m, e, bias=False)
        else:
            for part, out in (("q", e), ("k", kv), ("v", kv)):
                dense(f"{layer}.self_attn.{part}_proj", out, e, bias=kind == "Qwen2ForCausalLM")
            for part in ("gate", "up"):
                dense(f"{layer}.mlp.{part}_proj", m, e, bias=False)
        dense(f"{layer}.self_attn.o_proj", e, e, bias=False)
        dense(f"{layer}.mlp.down_proj", e, m, bias=False)
        for part in ("input_layernorm", "post_attention_layernorm"):
            norm(f"{layer}.{part}", e, bias=False)
    draw = torch.Generator().manual_seed(seed)
    scale = {1: 0.5, 2: 0.25, 3: 0.5, 4: 0.05}
    return {
        name: torch.randn(shape, generator=draw) * scale[len(shape)]
        + (1.0 if len(shape) == 1 and name.endswith("weight") else 0.0)
        for name, shape in sorted(shapes.items())
    }


def write_tokenizer(folder: Path, kind: str) -> int:
    """Write the files of an original tokenizer; returns how many tokens it has."""
    if kind == "1B":
        from tokenizers import ByteLevelBPETokenizer

        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(_SENTENCES, vocab_size=400, show_progress=False)
        trained.save_model(str(folder))
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *IMAGE_TOKENS]
        added = {trained.get_vocab_size() + i: token(name) for i, name in enumerate(names)}
        settings: dict[str, Any] = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"}
        settings |= {"pad_token": "<|endoftext|>", "bos_token": None, "unk_token": None}
    else:
        unused = [f"[UNUSED_TOKEN_{i}]" for i in range(3)] if kind == "2B" else []
        model = train_sentencepiece(dummy_prefix=kind != "2B", user_defined=unused)
        (folder / "tokenizer.model").write_bytes(model)
        size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
        added = {i: token(name) for i, name in enumerate(("<unk>", "<s>", "</s>"))}
        settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
        if kind == "2B":
            settings |= {"tokenizer_class": "InternLM2Tokenizer"}
            added |= {3: token("<|im_end|>"), 4: token("<|im_start|>")}  # two of the unused ones
            names = list(IMAGE_TOKENS)
        elif kind == "4B":
            settings |= {"tokenizer_class": "LlamaTokenizer", "legacy": False, "pad_token": "<|endoftext|>"}
            names = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", *IMAGE_TOKENS]
        else:
            settings |= {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": False}
            names = ["<|im_start|>", "<|im_end|>", *IMAGE_TOKENS]
        for i, name in enumerate(names):
            strips = name in ("<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
            added[size + i] = token(name, rstrip=strips)
    settings["added_tokens_decoder"] = {str(place): entry for place, entry in added.items()}
    settings["model_max_length"] = 8192
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return max(added) + 1


def token(content: str, *, rstrip: bool = False) -> dict[str, Any]:
    """An entry of `added_tokens_decoder`."""
    flags = {"lstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": content, "rstrip": rstrip, **flags}


def train_sentencepiece(*, dummy_prefix: bool, user_defined: list[str] | None = None, **more: Any) -> bytes:
    """A small SentencePiece model with byte fallback, as the originals'."""
    written = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": 420,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=written,
        add_dummy_prefix=dummy_prefix,
        user_defined_symbols=user_defined or [],
        **{**settings, **more},
    )
    return written.getvalue()
