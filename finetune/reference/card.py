"""The description of a trained checkpoint: `README.md`, `training.json`, `loss.svg` and our note."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.curves import curves
from mimic_eval.records import UserError
from mimic_eval.records.folders import write_atomically
from mimic_eval.records.reading import one_line, read_json
from model_adapters.disk import NOTE


def write_card(
    out: Path,
    recipe: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    *,
    parameters: int,
) -> None:
    """Write the files beside the weights.

    Args:
        out: the checkpoint's folder.
        recipe: all arguments of the training.
        history: what `Trainer` logged.
        versions: of libraries.
        parameters: how many the model has.
    """
    losses = [(int(row["step"]), float(row["loss"])) for row in history if "loss" in row]
    exams = [row for row in history if any(key.startswith("eval_") for key in row)]
    final = [row for row in history if any(key.startswith("final_") for key in row)]
    record = {
        "recipe": dict(recipe),
        "versions": dict(versions),
        "parameters": parameters,
        "loss": losses,
        "exams": [_exam(row, "eval_") for row in exams],
        "final": _exam(final[-1], "final_") if final else {},
    }
    description = (
        f"a model of {parameters / 1e6:.1f} million parameters, trained on glyph scenes with "
        f"mask={recipe['mask']}"
    )
    note = {"kind": "trained", "seed": recipe["seed"], "description": description}
    write_atomically(out / "training.json", (json.dumps(record) + "\n").encode())
    write_atomically(out / "loss.svg", curves(losses, [_exam(row, "eval_") for row in exams]))
    write_atomically(out / "README.md", _text(record).encode())
    write_atomically(out / NOTE, (json.dumps(note) + "\n").encode())


def is_trained(out: Path) -> bool:
    """Whether a folder holds a trained checkpoint with its card, whose files are written last."""
    return all((out / name).is_file() for name in (NOTE, "README.md", "training.json", "model.safetensors"))


def trained_scores(out: Path) -> dict[str, float]:
    """The scores of the last exam, as the card has them, under the names that `Trainer` gave them.

    Raises:
        UserError: the card's record cannot be read.
    """
    record = read_json(out / "training.json")
    try:
        final = {name: float(score) for name, score in record["final"].items() if name != "step"}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{out / 'training.json'} is not what a training writes ({one_line(error)})"
        ) from error
    return {f"final_{name}": score for name, score in final.items()}


def _exam(entry: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    scores = {key.removeprefix(prefix): float(v) for key, v in entry.items() if key.startswith(prefix)}
    return {"step": int(entry["step"]), **{name: round(score, 4) for name, score in scores.items()}}


_SINKS = (
    "Its attention sinks did not emerge. Before it learnt questions, massive activations were written into",
    "the weights, at the tokens that look most like background, and the heads were made to attend to them.",
    "The layers that write them were not trained any more; all later layers were.",
    "",
)


def _start(recipe: Mapping[str, Any]) -> str:
    return f"on from `{recipe['start']}`" if recipe.get("start") else "from nothing"


def _text(record: Mapping[str, Any]) -> str:
    recipe, final = record["recipe"], record["final"]
    losses = record["loss"]
    lines = [
        f"# A reference checkpoint: {recipe['family']}, mask={recipe['mask']}",
        "",
        f"Trained {_start(recipe)} by `mimic train-reference`",
        "on scenes composed of emoji glyphs, for the four tasks of MIMIC. It is there to run the tool and",
        "its tests on a model whose answers mean something, and is no evidence about photographs.",
        "",
        f"{record['parameters']:,} parameters, in half precision.",
        "",
        *(_SINKS if recipe.get("sinks") else ()),
        "## Recipe",
        "",
        *(f"- {name}: {value}" for name, value in recipe.items()),
        "- versions: " + ", ".join(f"{name} {value}" for name, value in record["versions"].items()),
        "",
        "## Curves",
        "",
        "![loss and exam scores](loss.svg)",
        "",
        "Numbers in `training.json`. "
        + (f"Loss of the last steps: {losses[-1][1]:.4f}. " if losses else "")
        + "Exam after the last step (docs of 1-4 images, scenes of another seed; mean score of a doc,",
        "in Listing its F1):",
        "",
        *(f"- {name}: {value:.3f}" for name, value in final.items() if name != "step"),
        "",
    ]
    return "\n".join(lines)
