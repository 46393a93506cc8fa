"""Which model types of transformers the interventions take, found by trying each on a tiny random checkpoint.

Of every type a checkpoint with random weights is written to disk and loaded as a user's would be: by its
named family if it has one, else by `hf_mask`. With mask=none its scores must be those of transformers'
attention, with mask=block those of transformers' attention under the mask written out (METHODS 3), in
float32.
"""

import gc
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mimic_eval.records import UserError, nearest
from model_adapters.engine import Engine, decoder_layers
from model_adapters.families import FAMILIES, model_names
from model_adapters.families.base import Family
from model_adapters.families.registry import ANY
from model_adapters.hf import HfFamily
from model_adapters.hf.base_masks import implementation, looking
from model_adapters.hf.checks import NO_CALL, Unknown, close, messages
from model_adapters.hf.evidence import pictures
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.interventions.none.kernel import NoIntervention
from model_adapters.layout import Layout
from model_adapters.loading import load_family
from model_adapters.refusals import refusals
from model_adapters.tiny.any_type import make_tiny, model_types

Way = Literal["by name", "by hf_mask", "refused", "not tried"]
WAYS: tuple[Way, ...] = ("by name", "by hf_mask", "refused", "not tried")


@dataclass(frozen=True)
class Line:
    """What is known of a model type.

    Attributes:
        model_type: as transformers names it.
        way: how it is taken, or that it is not.
        models: the lmms-eval models that take it.
        reason: why it is refused, or no checkpoint of it could be made.
        masks: the base masks of its layers, and how many layers have no softmax attention.
        places: whether its image tokens lie on a grid over the picture.
        none: how far scores with mask=none are from transformers', as a share of the largest.
        block: the same for mask=block and the mask written out.
    """

    model_type: str
    way: Way
    models: tuple[str, ...] = ()
    reason: str = ""
    masks: str = ""
    places: bool = False
    none: float = 0.0
    block: float = 0.0


def survey(chosen: Sequence[str] | None = None) -> Iterator[Line]:
    """Try model types one after the other.

    Args:
        chosen: model types, or None for all that transformers registers for
            `AutoModelForImageTextToText`, and those of the families.

    Raises:
        UserError: an unknown type.
    """
    known = sorted({*model_types(), *FAMILIES})
    unknown = [name for name in chosen or () if name not in known]
    if unknown:
        raise UserError(nearest("model type", unknown[0], known))
    for model_type in chosen or known:
        yield try_type(model_type)
        gc.collect()


def try_type(model_type: str) -> Line:
    """Make a tiny checkpoint of a type, load it and compare the interventions with their definitions."""
    named = model_type in FAMILIES
    family = FAMILIES.get(model_type) if named else HfFamily
    with tempfile.TemporaryDirectory(prefix="mimic-families-") as folder:
        checkpoint = Path(folder) / model_type
        try:
            if named and family.tiny is not None:
                family.make_tiny(checkpoint)
            else:
                make_tiny(model_type, checkpoint)
        except UserError as reason:
            return Line(model_type, "not tried", reason=_shown(reason, folder))
        try:
            with redirect_stderr(StringIO()):  # notices of a tiny checkpoint's files
                model, made = load_family(
                    family, str(checkpoint), dtype=torch.float32, device="cpu", peft=None
                )
            none, block, masks = compare(model, made)
        except _refused() as reason:
            ours = _fault_of_ours(reason, checkpoint)
            if ours:
                return Line(model_type, "not tried", reason=ours)
            return Line(model_type, "refused", reason=_shown(reason, folder))
    return Line(
        model_type,
        "by name" if named else "by hf_mask",
        models=model_names(model_type) if named else (ANY,),
        masks=masks,
        places=made.has_places,
        none=none,
        block=block,
    )


def compare(model: Any, family: Family) -> tuple[float, float, str]:
    """How far mask=none and mask=block are from transformers' attention, and the base masks of the layers.

    Two prompts of different lengths are run, so that one is padded.

    Args:
        model: loaded with our attention.
        family: its.

    Returns:
        The differences as shares of the largest score, and the masks in words.

    Raises:
        Unknown: farther than rounding, or the mask changes nothing.
    """
    drawn = pictures(5)
    rows = [drawn[:2], drawn[2:]]
    batch = family.prepare(rows, [family.prompt(messages(len(row))) for row in rows])
    inputs = batch.inputs.to(model.device, model.dtype)
    decoder = next(
        module.config
        for module in decoder_layers(model)[-1].modules()
        if hasattr(getattr(module, "config", None), "_attn_implementation_internal")
    )
    depth = len(decoder_layers(model))
    layers = frozenset(range(depth)) if family.attention_layers is None else family.attention_layers

    @torch.inference_mode()
    def scores() -> Tensor:
        return torch.as_tensor(model(**inputs).logits).float()

    def ours(intervention: Any) -> Tensor:
        with Engine(intervention, layers).running(model, batch.layouts):
            return scores()

    tokens = torch.stack([layout.is_token(torch.device("cpu")) for layout in batch.layouts])
    with implementation(decoder, "sdpa"):
        usual = scores()
    with looking(decoder, also=_own_image(batch.layouts), layers=layers):
        blocked = scores()
    if torch.allclose(usual[tokens], blocked[tokens], atol=0, rtol=1e-6):
        raise Unknown("a block mask changes nothing in it")
    none = close(usual[tokens], ours(NoIntervention())[tokens], model.dtype, "mask=none")
    block = close(blocked[tokens], ours(BlockMask())[tokens], model.dtype, "mask=block")
    return none, block, _masks(family, depth)


def _own_image(layouts: Sequence[Layout]) -> Tensor:
    """bool (B, N, N), True = may attend: a row of an image its image only, any other row all (METHODS 3)."""
    numbers = torch.stack([layout.image_numbers() for layout in layouts])
    same = numbers[:, :, None] == numbers[:, None, :]
    several = torch.tensor([len(layout.images) > 1 for layout in layouts])
    return same | (numbers < 0)[:, :, None] | ~several[:, None, None]


def _masks(family: Family, depth: int) -> str:
    facts = getattr(family, "facts", None)
    if facts is None:
        return ""
    parts = [f"{' + '.join(kinds)} ({len(layers)})" for kinds, layers in facts.bases.items()]
    return "; ".join([*parts, *([f"no softmax attention ({len(facts.others)})"] if facts.others else [])])


def _fault_of_ours(reason: BaseException, checkpoint: Path) -> str:
    """Why a tiny checkpoint runs in transformers alone no more than here; empty if it does.

    Args:
        reason: why it was refused.
        checkpoint: as it was written.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    words = " ".join(str(reason).split()).replace(f"{checkpoint.parent}/", "")
    if "cannot be loaded" in words or "does not fit its config" in words:
        return f"the tiny checkpoint is not read back: {words}"
    if NO_CALL not in words:
        return ""
    try:
        processor = AutoProcessor.from_pretrained(checkpoint)
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
        text = processor.apply_chat_template(messages(1), tokenize=False, add_generation_prompt=True)
        inputs = processor(images=[pictures(1)], text=[text], return_tensors="pt")
        with torch.inference_mode():
            model(**inputs.to(model.dtype))
    except refusals() as error:
        words = " ".join(str(error).split())[:160]
        return f"the tiny checkpoint does not run with one image: {type(error).__name__}: {words}"
    return ""


def _refused() -> tuple[type[Exception], ...]:
    return (UserError, *refusals())


def _shown(reason: BaseException, folder: str) -> str:
    """A reason in one line, without the checkpoint's temporary folder."""
    words = " ".join(str(reason).split())
    _, _, after = words.partition("hf_mask refuses it, because ")
    said = after or words
    name = "" if isinstance(reason, UserError) else f"{type(reason).__name__}: "
    return (name + said).replace(folder + "/", "")


def counts(lines: Sequence[Line]) -> Mapping[Way, int]:
    """How many types are taken in each way."""
    return {way: sum(line.way == way for line in lines) for way in WAYS}
