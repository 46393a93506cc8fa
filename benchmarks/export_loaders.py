"""Whether an export's files mean to the trainers' own loaders what they mean to ours.

    mimic export-training ... --out a;  mimic export-training ... --out b --format ms-swift
    python benchmarks/export_loaders.py --llava a/mixture.yaml --llava-next PATH/llava/train/train.py
    python benchmarks/export_loaders.py --ms-swift b/dataset.yaml     # where ms-swift is installed

LLaVA-NeXT's file is not imported (it needs old versions of its dependencies): its class
`LazySupervisedDataset` and `preprocess_multimodal` are run from the source.
"""

import argparse
import ast
import math
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune.mixture import Sample, read_mixture

ROLES = {"human": "user", "gpt": "assistant"}


def llava_next(train: Path, mixture: Path) -> list[Any]:
    """The samples as LLaVA-NeXT reads them: pictures' names and turns."""
    tree = ast.parse(train.read_text())
    kept = [
        node
        for node in tree.body
        if getattr(node, "name", "") in ("LazySupervisedDataset", "preprocess_multimodal")
        and isinstance(node, ast.ClassDef | ast.FunctionDef)
    ]
    for node in ast.walk(ast.Module(kept, [])):  # annotations name classes that are not imported
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    import copy
    import json

    import yaml

    scope: dict[str, Any] = {
        "Dataset": object, "json": json, "yaml": yaml, "math": math, "random": random, "re": re, "copy": copy,
        "rank0_print": lambda *text: None, "DEFAULT_IMAGE_TOKEN": "<image>",
        "conversation_lib": SimpleNamespace(default_conversation=SimpleNamespace(version="qwen_2")),
    }  # fmt: skip
    exec(compile(ast.Module(kept, []), str(train), "exec"), scope)
    options = SimpleNamespace(is_multimodal=True, mm_use_im_start_end=False)
    read = scope["LazySupervisedDataset"](str(mixture), None, options).list_data_dict
    turns = scope["preprocess_multimodal"]([one["conversations"] for one in read], options)
    return [
        (one["image"], [(ROLES[turn["from"]], turn["value"]) for turn in of_one])
        for one, of_one in zip(read, turns, strict=True)
    ]


def ms_swift(dataset: Path) -> list[Any]:
    """The samples as ms-swift reads them."""
    import yaml
    from swift.dataset import load_dataset
    from swift.template.template_inputs import TemplateInputs

    files = yaml.safe_load(dataset.read_text())["dataset"]
    rows, _ = load_dataset(files, strict=True, load_from_cache_file=False)
    inputs = [TemplateInputs.from_dict(row).chosen for row in rows]
    return [
        ([image["path"] for image in one.images], [(turn["role"], turn["content"]) for turn in one.messages])
        for one in inputs
    ]


def ours(sample: Sample, folder: Path | None) -> Any:
    """A sample of `read_mixture` in the same form."""
    images = [str(image.relative_to(folder) if folder else image) for image in sample.images]
    return images, [(turn.role, turn.text) for turn in sample.turns]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llava", type=Path, help="mixture.yaml of an export")
    parser.add_argument("--llava-next", type=Path, help="LLaVA-NeXT's llava/train/train.py")
    parser.add_argument("--ms-swift", type=Path, help="dataset.yaml of an export")
    options = parser.parse_args()
    if options.llava:
        mixture = read_mixture([options.llava])
        folder = mixture.sets[0].image_folder
        theirs, mine = llava_next(options.llava_next, options.llava), [ours(one, folder) for one in mixture]
    else:
        import yaml

        files = [Path(name) for name in yaml.safe_load(options.ms_swift.read_text())["dataset"]]
        theirs, mine = ms_swift(options.ms_swift), [ours(one, None) for one in read_mixture(files)]
    same = sum(a == b for a, b in zip(theirs, mine, strict=True))
    print(f"{same} of {len(mine)} samples are read alike")
    raise SystemExit(same != len(mine))


if __name__ == "__main__":
    main()
