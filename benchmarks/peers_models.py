"""Checkpoints, docs and models of `peers.py` and `orders.py`: upstream's classes and ours, same files."""

import copy
import hashlib
import importlib
import importlib.machinery
import importlib.util
import io
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from mimic_eval.records import content_hash

TASK, SPLIT = "mimic_counting", "test"
GENERATION = {"max_new_tokens": 16, "do_sample": False, "temperature": 0}
QWEN_TEMPLATE = (  # as the published checkpoints': a system turn, also where the messages have none
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Scale:
    """How large a checkpoint is.

    Attributes:
        hidden: width of both towers.
        layers: of the decoder.
        vision_layers: of the vision tower, by family.
        llava: pixels a side of an image and of a patch; qwen: most tokens; internvl: as llava.
        tau: of sinks: at most sqrt(hidden).
        docs: for `peers.py`.
        seed: of 3 and up, the first with which all families' answers differ from doc to doc.
    """

    hidden: int
    layers: int
    vision_layers: dict[str, int]
    llava: tuple[int, int]
    qwen: int
    internvl: tuple[int, int]
    tau: float
    docs: int
    seed: int


def _layers(llava_onevision: int, qwen2_vl: int, internvl: int) -> dict[str, int]:
    return {"llava_onevision": llava_onevision, "qwen2_vl": qwen2_vl, "internvl": internvl}


SCALES = {
    "short": Scale(128, 6, _layers(3, 2, 2), (112, 16), 49, (112, 8), 8, docs=16, seed=4),
    "long": Scale(256, 8, _layers(8, 4, 4), (384, 24), 196, (448, 14), 10, docs=8, seed=4),
    "orders": Scale(256, 8, _layers(12, 3, 4), (384, 24), 196, (448, 14), 10, docs=0, seed=4),
    "quick": Scale(128, 3, _layers(1, 1, 1), (64, 16), 16, (64, 16), 8, docs=3, seed=3),
}


@dataclass(frozen=True)
class Peer:
    """Upstream's model of a family, and ours.

    Attributes:
        ours: name of our model.
        upstream: name of upstream's.
        chat: upstream's takes messages.
        equal: what is made equal on purpose, in words.
    """

    ours: str
    upstream: str
    chat: bool
    equal: str


PEERS = {
    "llava_onevision": Peer(
        "llava_ov_mask", "llava_hf", True, "a doc's images are given as one list, not tiled one by one"
    ),
    "qwen2_vl": Peer(
        "qwen2_vl_mask", "qwen2_vl", False, "images are given as they are, not as JPEG of quality 85"
    ),
    "internvl": Peer("internvl2_mask", "internvl_hf", True, "float32 weights, not bfloat16"),
}


def pixels(scale: Scale, family: str) -> int | None:
    """The side that docs' pictures are resized to, so that no model resizes them by another method."""
    return 28 * int(scale.qwen**0.5) if family == "qwen2_vl" else None


def make_checkpoint(
    family: str, out: Path, scale: Scale, *, sinks: bool = True, seed: int | None = None
) -> None:
    """Write a float32 checkpoint with random weights, and sinks planted in them.

    Weights are rounded to bfloat16, so that a model that loads them so and is made float32 has the same.
    """
    import torch

    from mimic_eval.cli.checkpoint import embedded_pictures
    from model_adapters.families import FAMILIES
    from model_adapters.loading import load_family
    from model_adapters.sinks.planted import plant_sinks

    how: dict[str, Any] = {"hidden": scale.hidden, "layers": scale.layers, "seed": scale.seed,
                           "vision_layers": scale.vision_layers[family]}  # fmt: skip
    fresh = out.with_name(f"{out.name}_half")
    if family == "llava_onevision":
        how |= {"image_size": scale.llava[0], "patch_size": scale.llava[1]}
    elif family == "qwen2_vl":
        how |= {"patch_size": 14, "max_tokens": scale.qwen}
    else:
        size, patch = scale.internvl
        how |= {"image_size": size, "patch_size": patch, "max_tiles": 1}
    kind = FAMILIES.get(family)
    kind.make_tiny(fresh, **how)
    if family == "qwen2_vl":
        (fresh / "chat_template.jinja").write_text(QWEN_TEMPLATE, encoding="utf-8")
    model, own = load_family(kind, str(fresh), dtype=torch.float32, device="cpu", peft=None)
    if sinks:
        plant_sinks(model, own, pictures=embedded_pictures(), times_median=10_000)
    model.bfloat16().float().save_pretrained(out)
    own.processor.save_pretrained(out)


def read_docs(count: int, *, side: int | None = None) -> Any:
    """The first docs of the embedded Counting task, their pictures maybe resized, as a `datasets.Dataset`."""
    import datasets

    from mimic_tasks.locate import EMBEDDED

    table = pq.read_table(EMBEDDED / "counting" / "test.parquet").slice(0, count)
    docs = table.to_pylist()
    if side:
        for doc in docs:
            doc["images"] = [
                {"bytes": _resized(image["bytes"], side), "path": None} for image in doc["images"]
            ]
            hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in doc["images"]]
            doc["content_hash"] = content_hash(
                kind="counting", question=doc["question"], gt=doc["gt"], image_hashes=hashes
            )
    return datasets.Dataset.from_list(docs)


def _resized(data: bytes, side: int) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize((side, side)).save(out, format="PNG")
    return out.getvalue()


def requests_of(docs: Any, *, chat: bool) -> list[Any]:
    """lmms-eval's requests for all docs. Fresh ones for each run: upstream's models change their settings."""
    from lmms_eval.api.instance import Instance

    from mimic_tasks.lmms_hooks import doc_to_text
    from mimic_tasks.permuted import hooks as permuted

    hooks = permuted if "order" in docs.column_names else importlib.import_module("mimic_tasks.lmms_hooks")
    doc_to_messages, doc_to_visual = hooks.doc_to_messages, hooks.doc_to_visual

    requests = []
    for i, question in enumerate(docs["question"]):
        text, generation = doc_to_text({"question": question}), copy.deepcopy(GENERATION)
        given = (text, doc_to_messages, generation) if chat else (text, generation, doc_to_visual)
        about = {"task": TASK, "doc_id": i, "repeats": 1}
        requests.append(Instance("generate_until", (*given, i, TASK, SPLIT), i, metadata=about))
    return requests


def ours(family: str, checkpoint: Path, *, model: str | None = None, **arguments: Any) -> Any:
    """Our model, without the journal: it would give the answers of the round before.

    Args:
        family: which.
        checkpoint: of it.
        model: another of our models than the family's.
        **arguments: of it.
    """
    from model_adapters.models import model_class

    return model_class(model or PEERS[family].ours)(pretrained=str(checkpoint), journal="off", **arguments)


class _Nesting:
    """A processor that is given a doc's images as one list."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, *, images: Any = None, **rest: Any) -> Any:
        return self._processor(images=[images] if images else None, **rest)


def upstream(family: str, checkpoint: Path, scale: Scale, *, equal: bool) -> Any:
    """Upstream's own class at batch 1.

    Args:
        family: which.
        checkpoint: of it.
        scale: its.
        equal: with what `Peer.equal` says; else as a user gets it.
    """
    if importlib.util.find_spec("decord") is None and "decord" not in sys.modules:
        # imported by upstream at the top of two models for videos, and not among its dependencies
        absent: Any = types.ModuleType("decord")
        absent.VideoReader = absent.cpu = None
        absent.__spec__ = importlib.machinery.ModuleSpec("decord", None)
        sys.modules["decord"] = absent
    from lmms_eval.models import get_model

    kind = get_model(PEERS[family].upstream)
    given: dict[str, Any] = {"pretrained": str(checkpoint), "device": "cpu", "device_map": "cpu"}
    if family == "qwen2_vl":
        model = kind(**given, min_pixels=4 * 28 * 28, max_pixels=scale.qwen * 28 * 28)
        if equal:
            model._encode_image_data_url = lambda image: image
    elif family == "internvl":
        model = kind(**given, max_patches=1)
        if equal:
            model._model.float()
    else:
        model = kind(**given)
        if equal:
            model._image_processor = _Nesting(model._image_processor)
    return model


def prompt_lengths(model: Any) -> list[int]:
    """The tokens of each prompt that the model's `generate` is given from now on, padding apart."""
    seen: list[int] = []
    generate = model.model.generate

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.extend(kwargs["attention_mask"].sum(dim=1).tolist())
        return generate(*args, **kwargs)

    model.model.generate = watched
    return seen


def answers(model: Any, docs: Any, *, chat: bool) -> list[str]:
    """The texts of all docs through `generate_until`; `qwen2_vl` strips its own, so all are stripped."""
    model.task_dict[TASK] = {SPLIT: docs}
    replies: Sequence[Any] = model.generate_until(requests_of(docs, chat=chat))
    return [(reply if isinstance(reply, str) else reply.text).strip() for reply in replies]
