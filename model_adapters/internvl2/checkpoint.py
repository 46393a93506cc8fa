"""An original checkpoint on disk: what it becomes in memory, and as a native checkpoint."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic_eval.records import UserError
from mimic_eval.records.folders import workspace
from model_adapters.checkpoint_files import read_checkpoint_files
from model_adapters.internvl2.config import decoder_kind, native_config, tile_settings
from model_adapters.internvl2.files import (
    INDEX,
    SINGLE,
    fitting,
    local_folder,
    one_line,
    weight_files,
)
from model_adapters.internvl2.prompts import prompt_format
from model_adapters.internvl2.tokenizer import load_tokenizer
from model_adapters.internvl2.weights import Grouping, native_pieces

MODEL_TYPE = "internvl_chat"
NATIVE_TYPE = "internvl"
_HEAD = "lm_head.weight"


class LazyWeight:
    """A native weight that is read and made at the first ``weight[...]``."""

    def __init__(self, file: Any, name: str, take: Callable[[Tensor], Tensor]) -> None:
        self._file, self._name, self._take = file, name, take

    def __getitem__(self, index: Any) -> Tensor:
        try:
            return self._take(self._file.get_tensor(self._name))[index]
        except (ValueError, RuntimeError, IndexError) as error:
            raise UserError(f"its weight {self._name} does not fit: {one_line(error)}") from error


class OriginalCheckpoint:
    """A folder or Hub id in InternVL2's original layout; no code of it is run.

    Args:
        pretrained: the folder, or a Hub id, whose files are fetched.

    Attributes:
        config: the native configuration.
        shards: the native weights by the file whose weights they are made of.

    Raises:
        UserError: files that are missing, or something that cannot be converted.
    """

    def __init__(self, pretrained: str) -> None:
        self._folder = local_folder(pretrained)
        self._settings = read_checkpoint_files(self._folder).settings
        if self._settings.get("model_type") != MODEL_TYPE:
            raise UserError(f"it is a '{self._settings.get('model_type')}' checkpoint, not '{MODEL_TYPE}'")
        self._prompts = prompt_format(str(self._settings.get("template")))
        with fitting("config.json"):
            self._tiles = tile_settings(self._settings)
        with fitting("tokenizer"):
            self._tokenizer = load_tokenizer(self._folder, end_token=self._prompts.end)
        self.config = native_config(self._settings, image_token_id=self._tokenizer.context_image_token_id)
        self.shards = self._find_weights()
        if self.config.dtype is None:
            self.config.dtype = next(iter(self.weights().values()))[...].dtype

    def weights(self) -> dict[str, LazyWeight]:
        """All native weights by name; each is read only when it is used."""
        return {
            name: weight
            for weights_of_shard in self.shards.values()
            for name, weight in weights_of_shard.items()
        }

    def make_processor(self) -> Any:
        """The native processor: tiles, ImageNet's mean and deviation, and the chat template."""
        from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor
        from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        pixels = dict(zip(("height", "width"), self.config.vision_config.image_size, strict=True))
        least, most = self._tiles
        return InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(
                size=pixels,
                crop_to_patches=True,
                min_patches=least,
                max_patches=most,
                image_mean=IMAGENET_DEFAULT_MEAN,
                image_std=IMAGENET_DEFAULT_STD,
            ),
            video_processor=InternVLVideoProcessor(size=pixels),
            tokenizer=self._tokenizer,
            image_seq_length=self.config.image_seq_length,
            chat_template=self._prompts.chat_template(),
        )

    def generation_config(self) -> Any:
        """An answer ends where a turn ends in the prompt format, as in the original chat code."""
        from transformers import GenerationConfig

        return GenerationConfig(
            eos_token_id=self._tokenizer.convert_tokens_to_ids(self._prompts.end),
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def _find_weights(self) -> Mapping[str, Mapping[str, LazyWeight]]:
        from safetensors import SafetensorError, safe_open

        text, grouping = self.config.text_config, None
        if decoder_kind(self._settings) == "InternLM2ForCausalLM":
            grouping = Grouping(text.num_attention_heads, text.num_key_value_heads)
        shards: dict[str, dict[str, LazyWeight]] = {}
        for name, keys in weight_files(self._folder).items():
            try:
                file = safe_open(self._folder / name, framework="pt")
                held = set(file.keys())  # type: ignore[no-untyped-call]
            except (OSError, SafetensorError) as error:
                raise UserError(f"its {name} cannot be read: {one_line(error)}") from error
            shards[name] = {}
            for key in keys or sorted(held):
                pieces = native_pieces(key, grouping=grouping)
                if pieces is None:
                    raise UserError(f"its weight {key} has no place in InternVL")
                if key not in held:
                    raise UserError(f"its {name} lacks {key}")
                shards[name].update({piece.name: LazyWeight(file, key, piece.take) for piece in pieces})
            if self.config.tie_word_embeddings:
                shards[name].pop(_HEAD, None)  # the embeddings are the head
        return shards


def convert(source: str, out: Path) -> None:
    """Write an original checkpoint as a native one, one file of weights at a time.

    Args:
        source: a folder or Hub id.
        out: the folder to write; new or empty.

    Raises:
        UserError: `out` holds something, or the checkpoint cannot be converted; nothing is left in `out`.
    """
    with workspace(out, {"convert": os.path.abspath(source)}, option="") as partial:
        if partial is not None:
            try:
                original = OriginalCheckpoint(source)
                shapes = _native_shapes(original.config)
                missing = sorted(set(shapes) - set(original.weights()))
                if missing:
                    raise UserError(f"it lacks the weights of {missing[0]} ({len(missing)} such weights)")
                _write(original, partial, shapes)
            except UserError as error:
                raise UserError(f"{source} cannot be converted: {error}") from error


def _write(original: OriginalCheckpoint, out: Path, shapes: Mapping[str, torch.Size]) -> None:
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    size = 0
    for name, weights_of_shard in original.shards.items():
        weights = {key: weight[...] for key, weight in weights_of_shard.items()}
        for key, weight in weights.items():
            if shapes.get(key) != weight.shape:
                expected = list(shapes[key]) if key in shapes else "no such weight"
                raise UserError(f"{key} becomes {list(weight.shape)}, its config.json says {expected}")
        save_file(weights, out / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(weights, name))
        size += sum(weight.nbytes for weight in weights.values())
    if set(places.values()) != {SINGLE}:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (out / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    original.make_processor().save_pretrained(out)
    original.generation_config().save_pretrained(out)
    original.config.save_pretrained(out)


def _native_shapes(config: Any) -> dict[str, torch.Size]:
    """The native class's weights and their shapes, without memory for them."""
    from transformers import InternVLForConditionalGeneration

    with fitting("config.json"), torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    shapes = {name: parameter.shape for name, parameter in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop(_HEAD)
    return shapes
