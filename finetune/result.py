"""What a training leaves: an adapter or a checkpoint, ``training.json`` and a card."""

import json
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune.arguments import FinetuneOptions
from finetune.curves import curves
from finetune.saving import saving
from finetune.sharding import count_weights
from mimic_eval.records.folders import write_atomically
from mimic_eval.records.processes import rank
from model_adapters.families.registry import ANY, FAMILIES, model_names
from model_adapters.layers import format_layers

_PACKAGES = ("mimic-eval", "torch", "transformers", "accelerate", "peft", "tokenizers", "numpy", "pillow")


def write_result(
    options: FinetuneOptions,
    identity: Mapping[str, Any],
    trainer: Any,
    *,
    layers: Iterable[int],
    model_type: str,
    processor: Any,
    dtype: Any,
) -> dict[str, Any]:
    """Write the result into the output folder, its card last.

    Args:
        options: of the training.
        identity: what the result depends on.
        trainer: after its last step.
        layers: where the mask was.
        model_type: of the family.
        processor: the checkpoint's, as it was loaded: one that was used would keep how it padded last.
        dtype: torch's, of a full checkpoint's weights: that of the passes.

    Returns:
        What ``training.json`` holds.

    Raises:
        UserError: it cannot be written; the last checkpoint remains.
    """
    partial = options.out / "training" / "result.partial"
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
    record = _record(identity, trainer, layers=format_layers(layers), model_type=model_type)
    full = options.method == "full"
    if full and not trainer.is_fsdp_enabled and not trainer.is_deepspeed_enabled:
        trainer.model.to(dtype)  # what was learnt is in float32
    with saving(partial, what="the result"):
        trainer.save_model(str(partial))
        if full and rank() == 0:
            processor.save_pretrained(partial)
    if rank():
        return record
    for name in ("training_args.bin", "README.md"):
        (partial / name).unlink(missing_ok=True)
    if not full:
        _name_base(partial / "adapter_config.json", options.pretrained)
    for file in sorted(partial.iterdir(), key=lambda path: (path.suffix == ".safetensors", path.name)):
        file.replace(options.out / file.name)
    partial.rmdir()
    losses = [(int(row[0]), float(row[1])) for row in record["loss"]]
    write_atomically(options.out / "loss.svg", curves(losses, record["evaluations"]))
    write_atomically(options.out / "training.json", (json.dumps(record, indent=1) + "\n").encode())
    write_atomically(options.out / "README.md", _card(options, record).encode())
    return record


def evaluation(options: FinetuneOptions, record: Mapping[str, Any]) -> str:
    """The command's ``--model`` and ``--model_args`` that evaluate the result as it was trained.

    Args:
        options: of the training.
        record: as in ``training.json``.
    """
    kind = record["model_type"]
    given: dict[str, Any] = {"pretrained": options.pretrained, "peft": options.out}
    if options.method == "full":
        given = {"pretrained": options.out}
    arguments = {**given, **options.mask_arguments()}
    text = ",".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in arguments.items()
    )
    return f"--model {model_names(kind)[0] if kind in FAMILIES else ANY} --model_args {text}"


def _record(identity: Mapping[str, Any], trainer: Any, *, layers: str, model_type: str) -> dict[str, Any]:
    history = trainer.state.log_history
    names = ("loss", "learning_rate", "grad_norm")
    weights, learnt = count_weights(trainer.model)
    return {
        "kind": "training",
        "model_type": model_type,
        "arguments": dict(identity),
        "layers": layers,
        "steps": trainer.state.global_step,
        "weights": weights,
        "trained_weights": learnt,
        "versions": {name: version(name) for name in _PACKAGES},
        "loss": [[row["step"], *(row.get(name) for name in names)] for row in history if "loss" in row],
        "evaluations": [scores for row in history if len(scores := _scores(row)) > 1],
    }


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    """The scores of an evaluation by task, and its step."""
    scores = {name.removeprefix("eval_"): x for name, x in row.items() if name.startswith("eval_")}
    return {"step": row["step"], **scores}


def _name_base(config: Path, pretrained: str) -> None:
    """Write the base checkpoint as the user named it: PEFT writes the folder that it was read from."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = pretrained
    write_atomically(config, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())


def _card(options: FinetuneOptions, record: Mapping[str, Any]) -> str:
    losses = record["loss"]
    what = "A LoRA adapter (PEFT) of" if options.method == "lora" else "A full fine-tuning of"
    curve = (
        f"Loss of the first and the last logged steps: {losses[0][1]:.4f}, {losses[-1][1]:.4f}."
        if losses
        else ""
    )
    lines = [
        "---",
        f"base_model: {options.pretrained}",
        *(["library_name: peft"] if options.method == "lora" else []),
        "---",
        f"# {what} {options.pretrained}",
        "",
        f"Trained by `mimic finetune` on {record['arguments']['samples']:,} samples in {record['steps']:,} "
        f"steps; {record['trained_weights']:,} of {record['weights']:,} weights were learnt. {curve}",
        "",
        "Evaluate it as it was trained:",
        "",
        "```sh",
        f"lmms_eval --tasks mimic {evaluation(options, record)} --output_path runs --log_samples",
        "```",
        "",
        "## Arguments",
        "",
        *(f"- {name}: {value}" for name, value in record["arguments"].items()),
        f"- layers with the mask: {record['layers']}",
        "- versions: " + ", ".join(f"{name} {value}" for name, value in record["versions"].items()),
        "",
        "![loss](loss.svg)",
        "",
        "All losses and evaluations: `training.json`.",
        "",
    ]
    return "\n".join(lines)
