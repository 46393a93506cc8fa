"""Small sets in the forms that public benchmarks are published in, made for tests; nothing of theirs."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Row = dict[str, Any]


def png(seed: int) -> bytes:
    """A small picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (40 + seed % 5 * 8, 48, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def held(*seeds: int) -> list[dict[str, Any]]:
    return [{"bytes": png(seed), "path": None} for seed in seeds]


MUIRBENCH: list[Row] = [
    {
        "idx": "0", "task": "Image-Text Matching", "image_relation": "Overall", "image_type": "Photo",
        "question": "Which of the following images shows a dog?", "counterpart_idx": "1",
        "options": ["<image>", "<image>", "None of the choices"], "answer": "A", "image_list": held(1, 2),
    },
    {
        "idx": "1", "task": "Difference Spotting", "image_relation": "Pair", "image_type": "Photo",
        "question": "<image>\n<image>\nWhat differs?", "counterpart_idx": "0",
        "options": ["the sky", "the sea", "nothing"], "answer": "C", "image_list": held(3, 4),
    },
    {
        "idx": "2", "task": "Difference Spotting", "image_relation": "Pair", "image_type": "Photo",
        "question": "Is <image> like <image>, <image>?", "counterpart_idx": "3",
        "options": ["yes", "no"], "answer": "B", "image_list": held(5, 6),
    },
    {
        "idx": "3", "task": "Counting", "image_relation": "Multiview", "image_type": "Photo",
        "question": "How many apples? <image>", "counterpart_idx": "2",
        "options": ["1", "2", "3", "4"], "answer": "D", "image_list": held(7, 8, 9),
    },
]  # fmt: skip
MIRB: list[Row] = [
    {"question_id": 0, "subset": "codeu", "questions": "<image><image> Which?\nA. left\nB. right",
     "answers": "B", "image_list": held(1, 2)},
    {"question_id": 1, "subset": "count", "questions": "How many dogs? <image> <image>", "answers": "3",
     "image_list": held(3, 4)},
    {"question_id": 2, "subset": "arxiv", "questions": "<image>Which paper?", "answers": "On Cats",
     "image_list": held(5)},
]  # fmt: skip
BLINK: dict[str, list[Row]] = {
    config: [
        {
            "idx": f"val_{config}_{n}", "question": "Which?", "sub_task": config, "image_1": held(n)[0],
            "image_2": held(n + 1)[0], "image_3": held(9)[0] if n else None, "image_4": None,
            "choices": ["the first", "the second"], "answer": "(B)" if n else "(A)", "explanation": "",
            "prompt": "Which is it?\nSelect from the following choices.\n(A) the first\n(B) the second",
        }
        for n in range(2)
    ]
    for config in (
        "Art_Style", "Counting", "Forensic_Detection", "Functional_Correspondence", "IQ_Test", "Jigsaw",
        "Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Relative_Reflectance",
        "Semantic_Correspondence", "Spatial_Relation", "Visual_Correspondence", "Visual_Similarity",
    )
}  # fmt: skip


def _libench(sub_task: str, kind: str, question: str, answer: str, n: int) -> Row:
    images = {f"image_{i}": held(n + i)[0] if i < 2 else None for i in range(4)}
    return {
        "sample_id": n, "sub_task": sub_task, "question_type": kind, "question": question, "answer": answer,
        "conversations": json.dumps([{"from": "human", "value": question}]), **images,
    }  # fmt: skip


LIBENCH: dict[str, list[Row]] = {
    "in_domain": [
        _libench("NLVR2_Mantis", "multi-choice", "<image> <image> Is it?\nA. Yes\nB. No", "B", 1),
        _libench("IEdit", "open-ended", "<image><image> Say the change.", "A cat left. The dog stayed.", 2),
        _libench("HQ-Edit", "open-ended", "<image><image> Say the change.", "The sky is red", 3),
    ],
    "out_of_domain": [_libench("MathVerse", "multi-choice", "<image>?\nA. 1\nB. 2", "A", 4)],
    "multi_view_in_domain": [_libench("nuscenes", "multi-choice", "<image> <image>?\nA. 1\nB. 2", "A. 1", 5)],
}
MANTIS: list[Row] = [
    {"id": "mantis_eval_0", "question_type": "multi-choice", "question": "<image> <image> Which is larger?",
     "images": held(1, 2), "options": ["(A) the first", "(B) the second"], "answer": "B",
     "data_source": "made", "category": "size"},
    {"id": "mantis_eval_1", "question_type": "short-answer", "question": "How many dice?",
     "images": held(3, 4), "options": [], "answer": "22", "data_source": "made", "category": "counting"},
]  # fmt: skip
MMT_MI: list[Row] = [
    {"index": n, "question": "Which image is the same?", "hint": None, "A": "the first", "B": "the second",
     "C": "none" if n else None, "D": None, "answer": "B", "category": "x", "l2-category": part,
     "image": held(n, n + 1, n + 2), "split": "VAL"}
    for n, part in enumerate(("image_retrieval", "cross_image_matching", "image_retrieval"))
]  # fmt: skip
MMIU: list[Row] = [
    {"task": task, "visual_input_component": "natural image", "source": "made",
     "options": "A: a cat\nB: a dog\nC: a bird", "question": "What is in both?",
     "context": "Select from the following choices.\nA: a cat\nB: a dog\nC: a bird", "output": output,
     "input_image_path": [f"./High-level-obj-semantic/{task}/{task}_{n}_0.png",
                          f"./High-level-obj-semantic/{task}/{task}_{n}_1.png"]}
    for n, (task, output) in enumerate(
        [("spot_the_diff", "A"), ("spot_the_diff", "B"), ("jigsaw_puzzle_solving", "C"), ("mevis", None)]
    )
]  # fmt: skip
MIBENCH: dict[str, list[Row]] = {
    "multi_image_instruction.json": [
        {"id": "general_comparison_1",
         "image": ["image/general_comparison/a.png", "image/general_comparison/b.png"],
         "question": "Left image is <image>. Right image is <image>. Is a lemon cut?",
         "options": ["Yes", "No"], "answer": "Yes", "task": "general_comparison",
         "type": "multiple-choice", "context": None},
        {"id": "subtle_difference_1", "image": ["image/subtle_difference/a.png"],
         "question": "See <image>.", "options": ["a red car.", "a blue car."], "answer": "a blue car.",
         "task": "subtle_difference", "type": "multiple-choice", "context": None},
    ],
    "multimodal_knowledge_seeking.json": [
        {"id": "text_rich_images_1", "image": ["image/text_rich_images/a.png"],
         "question": "Who is named in <image>?", "options": ["Ann", "Bob"], "answer": "Ann",
         "task": "text_rich_images", "type": "multiple-choice", "context": None},
    ],
}  # fmt: skip


def write_table(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a parquet file of the Hub: columns of images have their feature."""
    from datasets import Dataset, Features, List
    from datasets import Image as ImageFeature

    file.parent.mkdir(parents=True, exist_ok=True)
    made = Dataset.from_list([dict(row) for row in rows])
    features = dict(made.features)
    for name in ("image_list", "images", "image"):
        if name in features:
            features[name] = List(ImageFeature())
    for name in features:
        if name.startswith("image_") and name[6:].isdecimal():
            features[name] = ImageFeature()
    made.cast(Features(features)).to_parquet(str(file))


def write_sets(root: Path) -> Path:
    """All sets as local copies below a folder."""
    write_table(root / "MUIRBENCH" / "data" / "test-00000-of-00001.parquet", MUIRBENCH)
    write_table(root / "MIRB-hf" / "data" / "test-00000-of-00001.parquet", MIRB)
    for config, rows in BLINK.items():
        write_table(root / "BLINK" / config / "val-00000-of-00001.parquet", rows)
    for config, rows in LIBENCH.items():
        write_table(root / "LLaVA-NeXT-Interleave-Bench" / config / "test-00000-of-00001.parquet", rows)
    write_table(root / "Mantis-Eval" / "mantis_eval" / "test-00000-of-00001.parquet", MANTIS)
    write_table(root / "MMT_MI-Benchmark" / "data" / "val-00000-of-00001.parquet", MMT_MI)
    write_mmiu(root / "MMIU-Benchmark")
    write_mibench(root / "MIBench")
    return root


def write_mmiu(folder: Path) -> None:
    """MMIU's files: the table, and an archive whose paths begin below a folder of its name."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(MMIU), folder / "all.parquet")
    names = [name for row in MMIU for name in row["input_image_path"]]
    with zipfile.ZipFile(folder / "High-level-obj-semantic.zip", "w") as archive:
        for seed, name in enumerate(names):
            archive.writestr(name.removeprefix("./High-level-obj-semantic/"), png(seed))


def write_mibench(folder: Path) -> None:
    """MIBench's files: two lists of docs, and one archive."""
    folder.mkdir(parents=True)
    names = [name for rows in MIBENCH.values() for row in rows for name in row["image"]]
    for file, rows in MIBENCH.items():
        (folder / file).write_text(json.dumps(rows))
    with zipfile.ZipFile(folder / "image.zip", "w") as archive:
        for seed, name in enumerate(names):
            archive.writestr(name, png(seed))
