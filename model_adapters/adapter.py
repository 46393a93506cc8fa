"""The lmms-eval models: a family, an engine, and answers for a list of requests."""

import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger

from mimic_eval.records import Unscorable, UserError, announce_run, image_order, unscored_response
from model_adapters.engine import Engine
from model_adapters.families import Family
from model_adapters.generation import cut_at_stops, generate_arguments
from model_adapters.loading import embedded_checkpoint, load_family, own_note
from model_adapters.options import AdapterOptions, parse_arg_string


class MaskedModel(lmms):  # type: ignore[misc]
    """A chat model of one family with an intervention in its decoder.

    Args:
        **arguments: see `AdapterOptions`.

    Raises:
        UserError: an argument or a checkpoint that does not fit.
    """

    is_simple = False
    family_class: type[Family]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.options = AdapterOptions.parse(arguments)
        pretrained = self.options.pretrained
        if pretrained is None:
            pretrained = str(embedded_checkpoint(self.family_class.model_type))
        note = own_note(pretrained)
        if self.options.pretrained is None:
            print(
                f"No pretrained= given: the embedded reference checkpoint ({note['description']})",
                file=sys.stderr,
            )
        self._device = _device(self.options.device)
        self.model, self.family = load_family(
            self.family_class,
            pretrained,
            dtype=_dtype(self.options.dtype, self._device),
            device=str(self._device),
            peft=self.options.peft,
        )
        depth = self.model.config.get_text_config().num_hidden_layers
        layers = self.options.layer_set(depth)
        intervention = self.options.intervention()
        self.engine = Engine(intervention, layers)
        self.batch_size_per_gpu = self.options.batch_size
        announce_run(
            checkpoint=self.options.pretrained or "embedded",
            checkpoint_kind=note.get("kind"),
            peft=self.options.peft,
            family=self.family_class.model_type,
            mask=intervention.name,
            layers=_ranges(layers),
            depth=depth,
            **intervention.settings(),
            pool=self.options.pool,
            order=self.options.order,
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=self._device.type,
            batch_size=self.options.batch_size,
        )

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "MaskedModel":
        """See upstream's `lmms`; a malformed argument is said in one line."""
        return cls(**parse_arg_string(arg_string, additional_config or {}))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Docs at a time."""
        return self.batch_size_per_gpu

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer requests, in their order.

        A doc that cannot be shown to the model gets the marker of an unscored doc with its reason; any other
        failure ends the run and names the doc.
        """
        from tqdm import tqdm

        answers: dict[int, GenerationResult] = {}
        failed: list[str] = []
        with tqdm(total=len(requests), desc="Answering", unit="doc", disable=self.rank != 0) as bar:
            for settings, members in _by_settings(requests):
                for first in range(0, len(members), self.batch_size):
                    batch = members[first : first + self.batch_size]
                    answers.update(self._answer([(i, requests[i]) for i in batch], settings, failed))
                    bar.update(len(batch))
        if failed:
            print(f"{len(failed)} of {len(requests)} docs are unscored:", file=sys.stderr)
            for line in failed:
                print(f"  {line}", file=sys.stderr)
        return [answers[i] for i in range(len(requests))]

    def _answer(
        self, batch: list[tuple[int, Instance]], settings: dict[str, Any], failed: list[str]
    ) -> dict[int, GenerationResult]:
        answers: dict[int, GenerationResult] = {}
        rows: list[int] = []
        images: list[list[Any]] = []
        prompts: list[str] = []
        for i, request in batch:
            _, doc_to_messages, _, doc_id, task, split = request.args
            doc = self.task_dict[task][split][doc_id]
            try:
                messages, pictures = _take_images(doc_to_messages(doc))
            except Unscorable as reason:
                answers[i] = GenerationResult(unscored_response(str(reason)))
                failed.append(f"{task} doc {doc_id}: {reason}")
                continue
            rows.append(i)
            images.append(self._in_order(pictures, messages, doc, f"{task} doc {doc_id}"))
            prompts.append(self.family.prompt(messages))
        if rows:
            try:
                replies = self.reply(images, prompts, settings)
            except Exception:
                names = ", ".join(f"{r.args[4]} doc {r.args[3]}" for _, r in batch)
                logger.error(f"the model failed on {names}")
                raise
            answers.update(zip(rows, replies, strict=True))
        return answers

    def _in_order(
        self, pictures: list[Any], messages: Sequence[dict[str, Any]], doc: Any, name: str
    ) -> list[Any]:
        """The pictures in the order in which they fill the placeholders, which stay where they are."""
        order = self.options.order
        if order == "fixed":
            return pictures
        if not _side_by_side(messages):
            raise UserError(f"order={order}: {name} has text between its images; only order=fixed shows it")
        own_hash = doc.get("content_hash") or hashlib.sha256(name.encode()).hexdigest()
        return [pictures[i] for i in image_order(order, content_hash=own_hash, n=len(pictures))]

    @torch.inference_mode()
    def reply(
        self, images: Sequence[Sequence[Any]], prompts: Sequence[str], settings: dict[str, Any]
    ) -> list[GenerationResult]:
        """Generate an answer for each row of a batch.

        Args:
            images: the RGB images of each row.
            prompts: the text of each row, chat template applied.
            settings: the task's generation settings.
        """
        batch = self.family.prepare(images, prompts)
        batch = batch._replace(inputs=batch.inputs.to(self._device, self.model.dtype))
        if self.options.pool > 1:
            batch = self.family.pooled(self.model, batch, self.options.pool)
        tokenizer = self.family.processor.tokenizer
        with self.engine.running(batch.layouts):
            out = self.model.generate(
                **batch.inputs, **generate_arguments(settings), pad_token_id=self.family.pad_token_id
            )
        new = out[:, batch.inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        counts = (new != tokenizer.pad_token_id).sum(dim=1).tolist()
        return [
            GenerationResult(cut_at_stops(text, settings.get("until")), TokenCounts(output_tokens=count))
            for text, count in zip(texts, counts, strict=True)
        ]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not offered: MIMIC's answers are open-ended (METHODS 2)."""
        raise UserError("the *_mask models answer by generation; this task asks for log-likelihoods")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered."""
        raise UserError("the *_mask models answer in one round; this task asks for several")


def _by_settings(requests: Sequence[Instance]) -> list[tuple[dict[str, Any], list[int]]]:
    """The requests' positions, grouped by generation settings."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        groups[json.dumps(request.args[2], sort_keys=True, default=str)].append(i)
    return [(dict(requests[members[0]].args[2]), members) for members in groups.values()]


def _take_images(messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The messages with placeholders for their images, and the images in order."""
    images: list[Any] = []
    plain = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "image":
                images.append(part["url"])
                content.append({"type": "image"})
            elif part["type"] == "text":
                content.append({"type": "text", "text": part["text"]})
            else:
                raise UserError(f"the *_mask models take images and text; this task shows {part['type']}")
        plain.append({"role": message["role"], "content": content})
    return plain, images


def _side_by_side(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether no text and no turn comes between two images."""
    turns = ["".join("i" if part["type"] == "image" else " " for part in m["content"]) for m in messages]
    return len(" ".join(turns).split()) < 2


def _device(name: str | None) -> torch.device:
    """The asked device, else this process's GPU, else the CPU."""
    gpus = torch.cuda.device_count()
    if name is None:
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device must be cpu, cuda or cuda:N, got '{name}'") from error
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(f"device={name}: this machine has {gpus} GPUs that torch can use")
    return device


def _dtype(name: str, device: torch.device) -> Any:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, name)


def _ranges(layers: frozenset[int]) -> str:
    """``12-23`` for the record; ``none`` if no layer is changed."""
    if not layers:
        return "none"
    return f"{min(layers)}-{max(layers)}"
