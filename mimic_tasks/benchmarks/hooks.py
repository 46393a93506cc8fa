"""What lmms-eval calls for the tasks of public benchmarks; each function's name ends with the set's name."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mimic_eval.records import (
    IMAGE_MARK,
    INTERLEAVED,
    UNSCORED,
    Item,
    Sample,
    Unscorable,
    announced_run,
    count_marks,
    interleaved,
    unscored_reason,
)
from mimic_tasks.benchmarks.choices import open_truth, read_choice, read_open
from mimic_tasks.benchmarks.files import NoSuchImage, read_image
from mimic_tasks.benchmarks.reading import image_columns, image_folder, question_hash, read_docs
from mimic_tasks.benchmarks.sets import BENCHMARKS
from mimic_tasks.benchmarks.spec import Benchmark, Question, Row
from mimic_tasks.images import BrokenImage, decode_strict

OVERALL = "official_overall"
"""The metric of sets whose official score is an unweighted mean of parts."""


def docs_of(benchmark: Benchmark, placeholder: Any) -> Any:
    """The set's docs, in place of the file that upstream has loaded.

    Raises:
        UserError: see `read_docs`.
    """
    return read_docs(benchmark)


def visual_of(benchmark: Benchmark, doc: Row) -> list[Any]:
    """The doc's pictures in order, RGB.

    Raises:
        Unscorable: a picture is missing, broken or cut off.
    """
    pictures = []
    encoded = _encoded(benchmark, doc)
    for number, data in enumerate(encoded, start=1):
        try:
            if data is None:
                raise BrokenImage("missing")
            pictures.append(decode_strict(data))
        except BrokenImage as error:
            raise Unscorable(f"image {number} of {len(encoded)} {error}") from error
    if not pictures:
        raise Unscorable("it has no images")
    return pictures


def _encoded(benchmark: Benchmark, doc: Row) -> list[bytes | None]:
    if benchmark.read is not None:
        folder = image_folder(benchmark)
        try:
            return [read_image(folder, name) for name in doc["files"]]
        except NoSuchImage as error:
            raise Unscorable(str(error)) from error
    if benchmark.one_each:
        held = [doc[name] for name in image_columns(benchmark, doc) if doc[name] is not None]
    else:
        value = doc[benchmark.image_column]
        held = value if isinstance(value, list) else [value]
    return [one.get("bytes") if one else None for one in held]


def text_of(benchmark: Benchmark, doc: Row, lmms_eval_specific_kwargs: Any = None) -> str:
    """The prompt as upstream has it, marks for images included."""
    return benchmark.question(doc).text


def messages_of(
    benchmark: Benchmark, doc: Row, lmms_eval_specific_kwargs: Any = None
) -> list[dict[str, Any]]:
    """One user turn: all images, then the text with its marks, as upstream shows it."""
    images = [{"type": "image", "url": picture} for picture in visual_of(benchmark, doc)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text_of(benchmark, doc)}]}]


def interleaved_messages_of(
    benchmark: Benchmark, doc: Row, lmms_eval_specific_kwargs: Any = None
) -> list[dict[str, Any]]:
    """One user turn with the images at their marks; those left over come first."""
    pictures = visual_of(benchmark, doc)
    placed, content = iter(pictures), []
    for part in interleaved(text_of(benchmark, doc), len(pictures)).parts:
        if part is None:
            content.append({"type": "image", "url": next(placed)})
        else:
            content.append({"type": "text", "text": part})
    return [{"role": "user", "content": content}]


def process_of(
    benchmark: Benchmark, doc: Row, results: Sequence[str], *, form: str = "upstream"
) -> dict[str, Any]:
    """The sample's entries: our score, the official one, and the record."""
    response, question = results[0], benchmark.question(doc)
    metrics = (benchmark.metric, f"{benchmark.metric}_official")
    sample = Sample(
        items={name: Item() for name in metrics},
        kind=benchmark.name,
        content_hash=question_hash(benchmark, question),
        gt=question.stored,
        question=question.text,
        sub_task=question.sub_task,
        controls={"n_images": doc["n_images"], "source": benchmark.repo},
        run=announced_run(),
        status=UNSCORED,
    )
    reason = unscored_reason(response)
    if reason is None and question.truth is None:
        reason = "the set gives no answer to it"
    if reason is not None:
        sample = replace(sample, reason=reason)
    else:
        score, parsed, status = ours(benchmark, question, response)
        official = benchmark.official(doc, response)
        sample = replace(
            sample,
            items={metrics[0]: Item(score), metrics[1]: Item(official)},
            response=response,
            parsed=parsed,
            status=status,
            score=score,
            score_official=official,
        )
    entries = sample.to_json()
    entries["mimic"]["image_marks"] = _marks(question, doc["n_images"], form)
    entries["unparsed"] = int(sample.parsed is None and not sample.unscored)
    if benchmark.overall is not None:
        part = benchmark.overall(question.sub_task)
        scored = {} if sample.score_official is None else {"score": sample.score_official}
        entries[OVERALL] = {"part": part, **scored}  # upstream adds up every "score" that is there
    return entries


def ours(benchmark: Benchmark, question: Question, response: str) -> tuple[float, str | None, str]:
    """Our score of a response, what was read, and how; an answer that cannot be read is wrong."""
    truth = question.truth or ""
    if question.options:
        read = read_choice(response, question.options)
        return float(read.value == truth), read.value, read.status
    if benchmark.open_score is not None:
        return benchmark.open_score(response, truth), response.strip(), "text"
    read = read_open(response, truth)
    return float(read.value is not None and read.value == open_truth(truth)), read.value, read.status


def _marks(question: Question, images: int, form: str) -> dict[str, Any]:
    """How the doc showed its images; marks without an image and images without a mark are named."""
    if form == "upstream":
        return {"form": form, "marks": count_marks(question.text, (IMAGE_MARK,)), "images": images}
    placed = interleaved(question.text, images)
    return {
        "form": form,
        "marks": placed.marks,
        "images": images,
        "extra_marks": placed.extra_marks,
        "images_first": placed.first,
    }


def aggregate_mean(items: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean score of the scored docs; None if there are none."""
    scores = [item["score"] for item in items if item.get("score") is not None]
    return sum(scores) / len(scores) if scores else None


def aggregate_overall(items: Sequence[Mapping[str, Any]]) -> float | None:
    """The unweighted mean over the parts of a set of the mean official score; None if no doc is scored."""
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for item in items:
        if item["part"] is not None and "score" in item:
            parts[item["part"]].append(item["score"])
    means = [sum(scores) / len(scores) for scores in parts.values()]
    return sum(means) / len(means) if means else None


def aggregate_count(items: Sequence[int]) -> int:
    """How many docs."""
    return sum(items)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "docs": docs_of,
    "visual": visual_of,
    "text": text_of,
    "messages": messages_of,
    "process": process_of,
}


def __getattr__(name: str) -> Callable[..., Any]:
    """``visual_muirbench`` and the others, as task files name them; ``messages_muirbench_interleaved``."""
    what, _, named = name.partition("_")
    in_form = named.removesuffix(INTERLEAVED)
    if what not in _FUNCTIONS or in_form not in BENCHMARKS:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    function = _FUNCTIONS[what]
    if named != in_form and what == "messages":
        function = interleaved_messages_of
    if named != in_form and what == "process":
        return partial(function, BENCHMARKS[in_form], form="interleaved")
    return partial(function, BENCHMARKS[in_form])
