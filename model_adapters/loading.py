"""Checkpoints from disk or the Hub, refused in one line when they do not fit."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimic_eval.records import UserError, nearest
from model_adapters import internvl2
from model_adapters.checkpoint_files import CheckpointFiles, read_checkpoint_files
from model_adapters.disk import NOTE, check_within_reach
from model_adapters.engine import IMPLEMENTATION, register
from model_adapters.families.base import Family
from model_adapters.lora import load_adapter
from model_adapters.memory import is_out_of_memory
from model_adapters.patches import project_patches
from model_adapters.refusals import broken_files, first_line
from model_adapters.tensor_parallel import check_heads, distributed_config

EMBEDDED = Path(__file__).resolve().parent / "embedded"
_EMBEDDED_PREFIX = "embedded:"
_ATTENTION = {"text_config": IMPLEMENTATION, "vision_config": "sdpa"}
_HOW: dict[str, Any] = {
    "output_loading_info": True,
    "ignore_mismatched_sizes": True,  # they are in the report, and refused
    "trust_remote_code": False,
}


def embedded_checkpoint(name: str) -> Path:
    """An embedded reference checkpoint: a family's default has the name of its `model_type`.

    Raises:
        UserError: there is none of that name.
    """
    known = sorted(folder.name for folder in EMBEDDED.iterdir() if folder.is_dir())
    if name not in known:
        raise UserError(nearest("embedded checkpoint", name, known))
    return EMBEDDED / name


def resolve_checkpoint(pretrained: str | None, *, default: str) -> str:
    """What ``pretrained=`` names: a folder or a Hub id, or ``embedded:NAME``.

    Args:
        pretrained: as the user gave it, or None for the default.
        default: the name of an embedded checkpoint.

    Raises:
        UserError: an unknown embedded checkpoint, or no default.
    """
    if pretrained is None:
        if not (EMBEDDED / default).is_dir():
            raise UserError(
                f"no checkpoint of type {default} is embedded: give pretrained=, a folder or a Hub id"
            )
        return str(embedded_checkpoint(default))
    if pretrained.startswith(_EMBEDDED_PREFIX):
        return str(embedded_checkpoint(pretrained.removeprefix(_EMBEDDED_PREFIX)))
    return pretrained


def checkpoint_note(pretrained: str) -> dict[str, Any]:
    """What one of our own checkpoints says of itself (`kind`, `description`); empty for any other."""
    path = Path(pretrained) / NOTE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def load_family(
    family: type[Family],
    pretrained: str,
    *,
    others: Sequence[type[Family]] = (),
    dtype: Any,
    device: str,
    peft: str | None,
    device_map: str | None = None,
    tp_plan: str | None = None,
) -> tuple[Any, Family]:
    """Load a checkpoint with our attention in its decoder.

    InternVL also loads from InternVL2's original layout.

    Args:
        family: the architecture that is expected.
        pretrained: a folder or a Hub id.
        others: architectures that will do too.
        dtype: a torch dtype, or "auto" for the checkpoint's own.
        device: where to, without `device_map`.
        peft: a PEFT adapter's folder or Hub id.
        device_map: ``auto``: the layers are spread over this machine's GPUs, by accelerate.
        tp_plan: ``auto``: each layer is spread over the processes, by transformers' plan.

    Returns:
        The model in evaluation mode, and the family around its processor.

    Raises:
        UserError: nothing there, another architecture, weights that are missing or left over, or that the
            GPUs together do not hold.
    """
    check_within_reach("pretrained", pretrained)
    register()
    try:
        files = _read_files(pretrained)
        given_type = str(files.settings["model_type"])
        native = internvl2.NATIVE_TYPE if given_type == internvl2.MODEL_TYPE else given_type
        fitting = [
            candidate for candidate in (family, *others) if candidate.takes(native) and candidate.fits(files)
        ]
        if not fitting or (given_type != native and fitting[0].by_evidence):
            expected = f"{family.name} ('{family.model_type}', the -hf format)"
            raise UserError(
                f"pretrained={pretrained} is a '{given_type}' checkpoint, but "
                f"{family.model_type if family.by_evidence else expected} is expected"
            )
        if "quantization_config" in files.settings:
            quantised = files.settings["quantization_config"]
            method = quantised.get("quant_method") if isinstance(quantised, dict) else None
            raise UserError(
                f"pretrained={pretrained} is quantised ({method or 'unknown method'}), which is not "
                "supported: name the checkpoint that it was made from"
            )
        if given_type == native and not files.shows:
            raise UserError(
                f"pretrained={pretrained} cannot be loaded: it has no processor_config.json and no "
                "preprocessor_config.json, which say how pictures are prepared"
            )
        how = {"dtype": dtype, "device_map": device_map, **_HOW}
        if tp_plan:
            if fitting[0].by_evidence or given_type != native:
                kind = "hf_mask takes" if fitting[0].by_evidence else "InternVL2's original layout allows"
                raise UserError(f"tp_plan=auto: {kind} one process for a model: leave tp_plan out")
            how["distributed_config"] = distributed_config()
        if not fitting[0].by_evidence:
            how["attn_implementation"] = _ATTENTION
        if given_type == native:
            model, report = fitting[0].model_class().from_pretrained(pretrained, **how)
            processor = fitting[0].read_processor(pretrained, files, model.config)
        else:
            model, report, processor = _from_original(fitting[0], pretrained, how)
    except UserError:
        raise
    except broken_files() as error:
        if is_out_of_memory(error):
            raise
        if "trust_remote_code" in str(error):
            raise UserError(
                f"pretrained={pretrained} names code of its own (auto_map) where transformers has no class: "
                "such code is never run"
            ) from error
        raise UserError(f"pretrained={pretrained} cannot be loaded: {first_line(error)}") from error
    if not getattr(processor, "chat_template", None):
        raise UserError(f"pretrained={pretrained} has no chat template (chat_template.jinja)")
    wrong = [f"lacks {key}" for key in sorted(report["missing_keys"])]
    wrong += [f"has an unknown {key}" for key in sorted(report["unexpected_keys"])]
    wrong += [f"has {key} in another shape" for key, *_ in sorted(report["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"pretrained={pretrained} does not fit its config: it {wrong[0]} ({len(wrong)} such weights)"
        )
    if tp_plan:
        check_heads(model)
    _add_end_tokens(model, processor, fitting[0].end_tokens)
    internvl2.steady_rope(model)
    if peft:
        model = load_adapter(model, peft, former=fitting[0].former_names, base=pretrained)
    project_patches(model)  # after the adapter, which may have weights of that convolution
    if device_map is None and tp_plan is None:
        model = model.to(device)
    check_spread(model, pretrained)
    return model.eval(), fitting[0].around(processor, model, pretrained=pretrained)


def check_spread(model: Any, pretrained: str) -> None:
    """Refuse a model of which accelerate left a part beside the GPUs: each token would read it again.

    Raises:
        UserError: some weights are on no device.
    """
    weights = list(model.parameters())
    beside = sum(weight.numel() for weight in weights if weight.is_meta)
    if beside:
        share = beside / sum(weight.numel() for weight in weights)
        raise UserError(
            f"pretrained={pretrained} does not fit on this machine's GPUs: {share:.0%} of its weights would "
            "be left beside them; use more or larger GPUs, or a smaller dtype"
        )


def _read_files(pretrained: str) -> CheckpointFiles:
    """The contents of the small files; one line names a missing one.

    transformers is not called, which would offer to run code that lies beside them.
    """
    try:
        read = read_checkpoint_files(internvl2.local_folder(pretrained))
    except UserError as error:
        raise UserError(f"pretrained={pretrained} cannot be loaded: {error}") from error
    if read.settings["model_type"] != internvl2.MODEL_TYPE:  # whose layout has other files
        for note in read.notes:
            print(f"pretrained={pretrained} {note}", file=sys.stderr)
    return read


def _add_end_tokens(model: Any, processor: Any, tokens: Sequence[str]) -> None:
    """Let tokens end an answer, besides those that the checkpoint names."""
    if not tokens:
        return
    named = model.generation_config.eos_token_id
    ids = [] if named is None else named if isinstance(named, list) else [named]
    more = processor.tokenizer.convert_tokens_to_ids(list(tokens))
    model.generation_config.eos_token_id = sorted({*ids, *more})


def _from_original(family: type[Family], pretrained: str, how: dict[str, Any]) -> tuple[Any, Any, Any]:
    """InternVL2's original layout (METHODS 12): weights are renamed and taken apart as they are read."""
    try:
        original = internvl2.OriginalCheckpoint(pretrained)
        model, report = family.model_class().from_pretrained(
            None, config=original.config, state_dict=original.weights(), **how
        )
    except UserError as error:
        raise UserError(f"pretrained={pretrained} cannot be loaded: {error}") from error
    model.generation_config = original.generation_config()
    return model, report, original.make_processor()
