"""Evaluation sets whose training part, or the set itself, is in a mixture: recognised by name.

A score on such a set does not say how well a model generalises. NLVR2 is in the mixture of the release
(METHODS 2.2, 10). Names are found in the paths of files, in samples' ids and `dataset` fields (M4-Instruct
has them in `metadata`), and in the folders of pictures; a set under another name is not found.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from finetune.mixture.record_index import index_records
from mimic_tasks.training.mixture_file import MixtureSet, read_sets

_INTERLEAVE = "llava_interleave_bench_in_domain"
_VIEWS = "llava_interleave_bench_multi_view"

EVALUATION_SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "NLVR2": ("nlvr2?", (_INTERLEAVE,)),
    "Spot-the-Diff": ("spot-?the-?diff(erence)?", (_INTERLEAVE,)),
    "Birds-to-Words": ("birds?-?to-?words?", (_INTERLEAVE,)),
    "CLEVR-Change": ("clevr-?change", (_INTERLEAVE,)),
    "IEdit": ("iedit", (_INTERLEAVE,)),
    "HQ-Edit": ("hq-?edit", (_INTERLEAVE,)),
    "MagicBrush": ("magic-?brush", (_INTERLEAVE,)),
    "AESOP": ("aesop", (_INTERLEAVE,)),
    "FlintstonesSV": ("flintstones-?sv", (_INTERLEAVE,)),
    "PororoSV": ("pororo-?sv", (_INTERLEAVE,)),
    "VIST": ("vist|visual-story-?telling", (_INTERLEAVE,)),
    "COMICS": ("comics-(dialogue|panel)", (_INTERLEAVE,)),
    "RecipeQA": ("recipe-?qa", (_INTERLEAVE,)),
    "WebQA": ("web-?qa", (_INTERLEAVE,)),
    "TQA": ("tqa", (_INTERLEAVE,)),
    "OCR-VQA": ("ocr-?vqa", (_INTERLEAVE,)),
    "MIT-States": ("mit-?states", (_INTERLEAVE,)),
    "VISION": ("(?:^|(?<=/))vision(?=-jsonl?$|$)", (_INTERLEAVE,)),
    "RAVEN": ("raven", (_INTERLEAVE,)),
    "Q-Instruct": ("(co|q)-?instruct|q-?bench2?", (_INTERLEAVE, "qbench_dev", "qbench2_dev")),
    "ScanQA": ("scan-?qa", (_VIEWS,)),
    "ALFRED": ("alfred", (_VIEWS,)),
    "nuScenes": ("nuscenes", (_VIEWS,)),
    "3D-LLM": ("3d-llm|scannet-(chat|task)", (_VIEWS,)),
    "M4-Instruct": ("m4-?instruct", (_INTERLEAVE, _VIEWS, "qbench2_dev", "docvqa", "nextqa")),
    "Mantis-Instruct": ("mantis-?instruct", (_INTERLEAVE, "docvqa", "chartqa", "iconqa", "nextqa")),
    "DEMON": ("demon-?(full|instruct|core)", (_INTERLEAVE, "docvqa", "slidevqa")),
    "DocVQA": ("doc-?vqa", ("docvqa", "multidocvqa", _INTERLEAVE)),
    "SlideVQA": ("slide-?vqa", ("slidevqa",)),
    "InfographicVQA": ("info(graphics?)?-?vqa", ("infovqa",)),
    "ChartQA": ("chart-?qa", ("chartqa",)),
    "AI2D": ("ai2d", ("ai2d",)),
    "ScienceQA": ("science-?qa", ("scienceqa",)),
    "TextVQA": ("text-?vqa", ("textvqa",)),
    "TextCaps": ("text-?caps", ("textcaps_val",)),
    "ST-VQA": ("st-?vqa", ("stvqa",)),
    "VQAv2": ("vqa-?v2", ("vqav2",)),
    "GQA": ("gqa", ("gqa",)),
    "VizWiz": ("viz-?wiz", ("vizwiz_vqa",)),
    "OK-VQA": ("(?<!a-)ok-?vqa", ("ok_vqa",)),
    "IconQA": ("icon-?qa", ("iconqa",)),
    "RefCOCO": ("ref-?coco[+g]?", ("refcoco", "refcoco+", "refcocog")),
    "Flickr30k": ("flickr-?30k", ("flickr30k",)),
    "WebSRC": ("web-?src", ("websrc",)),
    "Geometry3K": ("geo(metry)?-?3k", ("geometry3k",)),
    "NExT-QA": ("next-?qa", ("nextqa",)),
    "ActivityNet-QA": ("activity-?net-?qa", ("activitynetqa",)),
    "PerceptionTest": ("perception-?test", ("perceptiontest_val_mc",)),
    "EgoSchema": ("ego-?schema", ("egoschema",)),
    "MuirBench": ("muir-?bench", ("muirbench",)),
    "MIRB": ("mirb", ("mirb",)),
    "BLINK": ("blink", ("blink",)),
    "Mantis-Eval": ("mantis-?eval", ("mantis",)),
    "MMT-Bench": ("mmt-?bench", ("mmt",)),
    "MMIU": ("mmiu", ("mimic_mmiu",)),
    "MIBench": ("mibench", ("mimic_mibench",)),
    "MMSI-Bench": ("mmsi-?bench", ("mmsi_bench",)),
    "MMMU": ("mmmu", ("mmmu",)),
    "MMBench": ("mm-?bench", ("mmbench",)),
    "MME": ("mme(?!-real)", ("mme",)),
    "MMStar": ("mm-?star", ("mmstar",)),
    "MM-Vet": ("mm-?vet", ("mmvet",)),
    "SEED-Bench": ("seed-?bench", ("seedbench",)),
    "POPE": ("pope", ("pope",)),
    "MathVista": ("math-?vista", ("mathvista",)),
    "MathVerse": ("math-?verse", ("mathverse",)),
}
"""Each set's name, a regular expression for lower case with `-` for all but letters, digits, `+` and `/`, and
the tasks of lmms-eval (or ours, `mimic_*`) that evaluate it."""

_NAMES = re.compile(
    "|".join(
        f"(?P<s{number}>(?<![a-z0-9])(?:{pattern})(?![a-z]))"
        for number, (pattern, _) in enumerate(EVALUATION_SETS.values())
    )
)
_FIELDS = ("dataset", "data_source", "source", "sub_task", "task")
_FOLDERS = 3


@dataclass(frozen=True)
class EvaluationSetFound:
    """An evaluation set in a file of a mixture.

    Attributes:
        name: of the set.
        tasks: that evaluate it.
        file: of the mixture.
        samples: that name it, or None if the file could not be read and its own name was recognised.
    """

    name: str
    tasks: tuple[str, ...]
    file: Path
    samples: int | None

    def __str__(self) -> str:
        count = {None: "its name says", 1: "1 sample names"}.get(self.samples, f"{self.samples} samples name")
        return f"{self.file}: {count} {self.name}, evaluated by {', '.join(self.tasks)}"


def evaluation_sets(mixtures_or_json: Sequence[Path]) -> list[EvaluationSetFound]:
    """The evaluation sets that files of samples name, file after file, most samples first.

    Pictures are not needed; of a file that is missing only the name is looked at.

    Args:
        mixtures_or_json: as for `read_mixture`.

    Raises:
        UserError: a mixture cannot be read, or a file of samples is broken.
    """
    sets = [one for path in mixtures_or_json for one in read_sets(path, missing_files=True)]
    return [each for number, one in enumerate(sets) for each in _in_file(one, seed=f"0/{number}")]


def _in_file(one: MixtureSet, *, seed: str) -> Iterator[EvaluationSetFound]:
    named = _names("/".join(one.path.parts[-_FOLDERS:]))
    counts: Counter[str] = Counter()
    exists = one.path.exists()
    for record in _records(one, seed) if exists else ():
        counts.update(named | _of_record(record))
    for name, count in counts.most_common() if exists else [(name, None) for name in sorted(named)]:
        yield EvaluationSetFound(name, EVALUATION_SETS[name][1], one.path, count)


def _records(one: MixtureSet, seed: str) -> Iterator[Any]:
    index = index_records(one.path)
    with one.path.open("rb") as file:
        for number in one.sampling.take(len(index.offsets), seed=seed):
            file.seek(index.offsets[number])
            try:
                yield json.loads(file.read(index.lengths[number]))
            except (ValueError, RecursionError):
                continue  # no sample: a training refuses it


def _of_record(record: Any) -> frozenset[str]:
    if not isinstance(record, dict):
        return frozenset()
    texts = [str(record.get(key, "")).rstrip("0123456789") for key in ("id", "sample_id")]
    for fields in (record, record.get("metadata")):
        if isinstance(fields, dict):
            texts += [value for key in _FIELDS if isinstance(value := fields.get(key), str)]
    pictures = record.get("image") or record.get("images") or ()
    for picture in [pictures] if isinstance(pictures, str) else pictures:
        if isinstance(picture, str):
            texts.append("/".join(PurePosixPath(picture).parts[:-1][-_FOLDERS:]))
    return frozenset().union(*map(_names, texts))


@lru_cache(maxsize=1 << 14)
def _names(text: str) -> frozenset[str]:
    """The sets that a text names."""
    titles = list(EVALUATION_SETS)
    plain = re.sub(r"[^a-z0-9+/]+", "-", text[-1000:].lower())
    return frozenset(titles[int((match.lastgroup or "s")[1:])] for match in _NAMES.finditer(plain))
