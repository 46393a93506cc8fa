"""The table of sets: one record each. Prompts are those of lmms-eval 0.7.3 unless a note says otherwise."""

import json
import re

from mimic_tasks.benchmarks import files, official
from mimic_tasks.benchmarks.choices import LETTERS, options_in, read_choice
from mimic_tasks.benchmarks.spec import Benchmark, Question, Row

_LETTER_PROMPT = "\nAnswer with the option's letter from the given choices directly."
_LABEL = re.compile(r"^\s*\(?[A-Z][.:)]+\s*")
_UNKNOWN = ("",) * 5
"""Options A to E whose texts the set does not list."""


def _letter(truth: str, options: tuple[str, ...]) -> str | None:
    return read_choice(truth, options).value


def _muirbench(row: Row) -> Question:
    options = tuple(map(str, row["options"]))
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    text = f"{row['question']}\n{listed}{_LETTER_PROMPT}"
    return Question(str(row["idx"]), row["task"], text, options, row["answer"].strip(), row["answer"])


_MIRB_INSTRUCTIONS = {
    **dict.fromkeys(
        ("analogy", "attribute", "plot_code", "visual_chain", "sightseeing"), "Answer with a single word."
    ),
    **dict.fromkeys(("codeu", "food", "image_jigsaw"), "Answer with the option symbol."),
    "arxiv": "Answer with the paper title.",
    "count": "Answer with a single number.",
    "3d_scene": "The following images are different views of the same 3D scene. Answer with a single number.",
}


def _mirb(row: Row) -> Question:
    subset, prompt, truth = row["subset"], row["questions"], row["answers"]
    stored = truth if isinstance(truth, str) else json.dumps(truth)
    options: tuple[str, ...] = ()
    if truth in ("A", "B", "C", "D", "E"):
        options = options_in(prompt) or _UNKNOWN
    text = f"{_MIRB_INSTRUCTIONS.get(subset, '')}{prompt}"
    return Question(str(row["question_id"]), subset, text, options, stored, stored)


def _blink(row: Row) -> Question:
    options = tuple(map(str, row["choices"]))
    letters = ", ".join(LETTERS[: len(options)])
    note = f"Note: You only need to respond with {letters} without providing any additional information.\n"
    truth = row["answer"]
    return Question(row["idx"], row["sub_task"], note + row["prompt"], options, truth.strip("()"), truth)


def _mantis(row: Row) -> Question:
    prompt, stored = row["question"], row["answer"]
    options = tuple(_LABEL.sub("", option) for option in row["options"] or ())
    part = row.get("category") or row["question_type"]
    if row["question_type"] == "multi-choice":
        text = f"{prompt}{_LETTER_PROMPT}{row['options']}"
        return Question(str(row["id"]), part, text, options, _letter(stored, options), stored)
    text = (
        f"Given the images, answer the following short answer vqa question:\nQ: {prompt}\nYou can first give "
        'your analysis, and then give your final answer as "Final Answer:"'
    )
    return Question(str(row["id"]), part, text, (), stored, stored)


def _mmt(row: Row) -> Question:
    given = {letter: row[letter].strip() for letter in "ABCDEFGHI" if (row.get(letter) or "").strip()}
    listed = "\n".join(f"{letter}: {option}" for letter, option in given.items())
    text = (
        f"Question: <image>\n{row['question'].strip()}\n{listed}"
        "\nAnswer the question using a single character from the given options."
    )
    last = max(map(LETTERS.index, given), default=-1)
    options = tuple(given.get(letter, "") for letter in LETTERS[: last + 1])
    stored = row["answer"] or ""
    return Question(
        str(row["index"]), row.get("l2-category") or "unknown", text, options, stored.strip() or None, stored
    )


def _libench(row: Row) -> Question:
    prompt = str(row.get("question") or "")
    if row.get("config") == "multi_view_in_domain":
        turns = row["conversations"]
        prompt = json.dumps(turns) if isinstance(turns, list) else str(turns)
    stored, number = row["answer"], str(row["sample_id"])
    if row["question_type"] != "multi-choice":
        return Question(number, row["sub_task"], prompt, (), stored, stored)
    options = options_in(prompt.replace("\\n", "\n")) or _UNKNOWN
    return Question(number, row["sub_task"], prompt, options, _letter(stored, options), stored)


_LIBENCH_PARTS = {
    "Spot-the-Diff": ("Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"),
    "Image-Edit": ("IEdit", "HQ-Edit", "MagicBrush"),
    "Visual-Story-Telling": ("AESOP", "FlintstonesSV", "PororoSV", "VIST"),
    "Visual-Cloze": ("COMICS_Dialogue", "RecipeQA_VisualCloze"),
    "Text-Rich-VQA": ("WebQA", "TQA", "OCR-VQA", "DocVQA"),
    "Multi-Image-VQA": (
        "MIT-States_StateCoherence",
        "MIT-States_PropertyCoherence",
        "VISION",
        "RecipeQA_ImageCoherence",
    ),
    "Puzzle": ("RAVEN",),
    "NLVR2": ("NLVR2_Mantis",),
    **{
        name: (name,)
        for name in (
            *("QBench", "ScanQA", "ALFRED", "nuscenes", "ScanNet_chat", "ScanNet_task"),
            *("BLINK", "MathVerse", "SciVerse", "Mantis"),
        )
    },
}
_LIBENCH_PART_OF = {sub_task: part for part, members in _LIBENCH_PARTS.items() for sub_task in members}

_MMIU_QUESTION_FIRST = (
    "person_reid", "multiple_image_captioning", "spot_the_similarity", "face_retrieval",
    "sketch2image_retrieval", "handwritten_retrieval", "spot_the_diff", "image2image_retrieval",
    "vehicle_retrieval", "text2image_retrieval", "general_action_recognition", "video_captioning",
    "next_img_prediction", "temporal_ordering", "meme_vedio_understanding", "action_quality_assessment",
    "temporal_localization", "mevis", "ravens_progressive_matrices", "threed_indoor_recognition",
    "point_tracking", "threed_cad_recognition", "single_object_tracking",
)  # fmt: skip


def _mmiu(row: Row) -> Question:
    parts = [row["question"], row["context"]]
    if row["task"] not in _MMIU_QUESTION_FIRST:
        parts.reverse()
    text = "\n".join([*parts, "Please answer the option directly like A,B,C,D..."])
    options = options_in(row["options"] or "") or _UNKNOWN
    stored = row["output"]
    truth = None if stored is None else _letter(stored, options)
    return Question(row["number"], row["task"], text, options, truth, str(stored))


def _mibench(row: Row) -> Question:
    options, stored = tuple(map(str, row["options"] or ())), str(row["answer"])
    context = row.get("context")
    prompt = f"{context}\n{row['question']}" if isinstance(context, str) and context else row["question"]
    if not options:
        return Question(row["id"], row["task"], prompt, (), stored, stored)
    text = f"{prompt}Please only strictly answer from the choice list: {' | '.join(options)}"
    return Question(row["id"], row["task"], text, options, _letter(stored, options), stored)


def _same(sub_task: str) -> str | None:
    return sub_task


_BLINK_PARTS = (
    "Art_Style", "Counting", "Forensic_Detection", "Functional_Correspondence", "IQ_Test", "Jigsaw",
    "Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Relative_Reflectance",
    "Semantic_Correspondence", "Spatial_Relation", "Visual_Correspondence", "Visual_Similarity",
)  # fmt: skip

_ALL: tuple[Benchmark, ...] = (
    Benchmark(
        name="muirbench", title="MuirBench", repo="MUIRBENCH/MUIRBENCH", split="test",
        image_column="image_list", question=_muirbench, official=official.muirbench,
    ),
    Benchmark(
        name="mirb", title="MIRB", repo="VLLMs/MIRB-hf", split="test", image_column="image_list",
        question=_mirb, official=official.mirb, new_tokens=64,
    ),
    Benchmark(
        name="blink", title="BLINK", repo="BLINK-Benchmark/BLINK", split="val", configs=_BLINK_PARTS,
        image_column="image_", one_each=True, question=_blink, official=official.blink, new_tokens=1024,
        overall=_same, note="all 14 tasks in one; the official overall is their mean, as lmms-eval's group",
    ),
    Benchmark(
        name="libench", title="LLaVA-Interleave Bench", repo="lmms-lab-encoder/LLaVA-NeXT-Interleave-Bench",
        split="test", configs=("in_domain", "out_of_domain", "multi_view_in_domain"), image_column="image_",
        one_each=True, question=_libench, official=official.libench, measure="graded",
        open_score=lambda text, truth: official.rouge_l(text[:512], truth), overall=_LIBENCH_PART_OF.get,
        note="its three parts in one; ROUGE-L is ours too where an answer is open; NLVR2 is among them",
    ),
    Benchmark(
        name="mantis", title="Mantis-Eval", repo="TIGER-Lab/Mantis-Eval", split="test", question=_mantis,
        official=official.mantis, new_tokens=64, note="greedy; lmms-eval samples at temperature 0.2",
    ),
    Benchmark(
        name="mmt_mi", title="MMT-Bench (multi-image)", repo="lmms-lab-encoder/MMT_MI-Benchmark", split="val",
        image_column="image", question=_mmt, official=official.mmt, new_tokens=8,
        note="the official rule draws a letter at random where it reads none; here by a seed from the answer",
    ),
    Benchmark(
        name="mmiu", title="MMIU", repo="FanqingM/MMIU-Benchmark", split="test", question=_mmiu,
        official=official.mmiu, official_of="MMIU's evaluate.py", overall=_same, new_tokens=64,
        files=("all.parquet", "*.zip"), read=files.read_mmiu,
        note="what is no letter goes to a judge there; here it is wrong officially",
    ),
    Benchmark(
        name="mibench", title="MIBench", repo="StarBottle/MIBench", split="test", question=_mibench,
        official=official.mibench, official_of="Migician's evaluation", overall=_same, new_tokens=64,
        files=(*files.MIBENCH, "image.zip"), read=files.read_mibench,
        note="its two multi-image files, without in-context learning; prompt and rule are those of a public "
        "evaluation (Migician's), as the authors published none",
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {one.name: one for one in _ALL}
