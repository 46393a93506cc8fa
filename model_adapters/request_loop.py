"""A run's requests through the model: journal first, work ahead in a thread, smaller batches if needed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from loguru import logger

from mimic_eval.records import Unscorable, UserError, rgb_digest, unscored_response
from mimic_eval.records.processes import together
from mimic_eval.records.progress import progress_bar
from model_adapters.ahead import ahead, grouped
from model_adapters.answering import Ready
from model_adapters.doc_prompt import DocPrompt, check_positions, doc_order, take_images
from model_adapters.generation import by_settings, generate_arguments, used_settings
from model_adapters.image_marks import MarkCounts, image_tokens, settle_marks
from model_adapters.interventions.options import ROLES
from model_adapters.journal import Answer, answer_key
from model_adapters.memory import is_out_of_memory, release
from model_adapters.notices import say, say_read_only, too_large
from model_adapters.passes import NotFinite, PassInput
from model_adapters.picture import as_pictures

if TYPE_CHECKING:
    from lmms_eval.api.instance import Instance

    from model_adapters.adapter import MaskedModel


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A doc without an answer.

    Attributes:
        index: among the requests.
        doc: as the task shows it.
        rows: the passes over it.
        key: in the journal, or None if it is not stored.
    """

    index: int
    doc: DocPrompt
    rows: tuple[PassInput, ...]
    key: str | None


class RequestLoop:
    """Answers requests.

    An answer that the journal has is not made again; a new one is in the journal before the next batch.
    Docs with the most images come first, so that batches have little padding and one that is too large
    is met at once. While the model runs, another thread decodes and preprocesses what comes next. Where
    memory runs out, the batch is halved from then on. A doc that cannot be given to the model gets the
    marker of an unscored doc with its reason; any other failure ends the run and names the doc. A batch
    holds `MaskedModel.batch_size` rows: docs, or passes where an intervention has several for each doc.

    Args:
        model: answers them.
        requests: of upstream.

    Attributes:
        answers: by the request's index; all of them after `run`.
        failed: why a doc is unscored, by the request's index.
        calibrated_on: requests whose doc is one of those that the sinks were calibrated on, by index.
        marks: of the docs with marks for images in their text, by the request's index.
        made: how many answers the model made.
    """

    def __init__(self, model: "MaskedModel", requests: "Sequence[Instance]") -> None:
        self._model = model
        self._requests = requests
        self.answers: dict[int, Answer] = {}
        self.failed: dict[int, str] = {}
        self.calibrated_on: set[int] = set()
        self.marks: dict[int, MarkCounts] = {}
        self.made = 0

    def run(self) -> None:
        """Answer all requests.

        Raises:
            UserError: a doc that memory does not hold, scores that are no numbers, or a journal that cannot
                be written.
        """
        model, sizes = self._model, self._sizes()
        with (
            progress_bar(
                total=len(self._requests), what="Answering", unit="doc", hidden=model.rank != 0, in_log=True
            ) as bar,
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread,
        ):
            for generation, members in by_settings(self._requests):
                find = partial(self._find, generation=generation)
                largest_first = sorted(members, key=lambda index: -sizes[index])

                def waiting(pairs: Iterable[tuple[int, Future[Answer | _Waiting]]]) -> Iterator[_Waiting]:
                    for index, future in pairs:
                        result = future.result()
                        if isinstance(result, Answer):
                            self.answers[index] = result
                            bar.update()
                        else:
                            yield result

                docs = waiting(ahead(thread, find, largest_first, most=lambda: 2 * model.batch_size))
                batches = grouped(docs, size=lambda: model.batch_size, weight=_rows)
                for batch, ready in ahead(thread, self._prepare, batches, most=lambda: 1):
                    for done in self._answer_all(batch, ready, generation):
                        self.answers.update(done)
                        self.made += len(done)
                        bar.update(len(done))

    def _sizes(self) -> list[int]:
        """How many images each request shows, as far as the task's columns say; no image is opened."""
        columns: dict[tuple[str, str], Any] = {}
        sizes = []
        for request in self._requests:
            _, _, _, doc_id, task, split = request.args
            if (task, split) not in columns:
                docs = self._model.task_dict[task][split]
                known = "n_images" in (getattr(docs, "column_names", None) or ())
                columns[task, split] = docs.select_columns(["n_images"])["n_images"] if known else None
            counts = columns[task, split]
            sizes.append(0 if counts is None else int(counts[doc_id]))
        return sizes

    def _find(self, index: int, *, generation: Mapping[str, Any]) -> Answer | _Waiting:
        """The answer that there is already (the journal's, or why there is none), else the doc."""
        model, passes = self._model, self._model.answerer.passes
        try:
            prompted, single = read_request(model, self._requests[index])
        except Unscorable as reason:
            self.failed[index] = f"{request_name(self._requests[index])}: {reason}"
            return Answer(unscored_response(str(reason)), 0, None)
        if model.corpus is not None and model.corpus.has(_unpermuted_hash(prompted.doc)):
            self.calibrated_on.add(index)
        if prompted.marks.marks:
            self.marks[index] = prompted.marks
        if model.journal is None or generate_arguments(generation)["do_sample"]:
            return _Waiting(index, prompted, passes.expand(single), None)
        key = answer_key(
            prompt=single.prompt,
            images=prompted.image_hashes(),
            generation=used_settings(generation),
            extra={
                **({} if single.query is None else single.query.columns()),
                **({"seed": single.seed} if passes.seeded else {}),
            },
        )
        return model.journal.find(key) or _Waiting(index, prompted, passes.expand(single), key)

    def _prepare(self, batch: Sequence[_Waiting]) -> Ready:
        return self._model.answerer.prepare([doc.rows for doc in batch])

    def _answer_all(
        self, waiting: Sequence[_Waiting], prepared: "Future[Ready]", generation: Mapping[str, Any]
    ) -> Iterator[dict[int, Answer]]:
        """Answers for a batch, in parts where memory does not hold it; each part is put in the journal."""
        model, planned = self._model, len(waiting)
        while waiting:
            batch = next(grouped(waiting, size=lambda: model.batch_size, weight=_rows))
            rows = sum(map(_rows, batch))
            try:
                ready = prepared.result() if len(batch) == planned else self._prepare(batch)
                replies = model.answerer.answer(ready, generation)
            except NotFinite as error:
                raise UserError(
                    f"the model's scores are not finite on {batch[ready.doc_of(error.row)].doc.name} in "
                    f"{model.model.dtype}: use dtype=bfloat16 or float32, or look at the checkpoint"
                ) from error
            except Exception as error:
                if not is_out_of_memory(error):
                    logger.error(f"the model failed on {', '.join(doc.doc.name for doc in batch)}")
                    raise
                if together():  # the others do not know of it
                    raise UserError(
                        f"out of memory with {rows} rows at a time ({batch[0].doc.name} and the next): use a "
                        "smaller batch_size; with tp_plan=auto it is not halved"
                    ) from error
                if len(batch) == 1:
                    raise UserError(too_large(batch[0].doc, passes=rows)) from error
            else:
                self._store(batch, replies)
                yield {doc.index: reply for doc, reply in zip(batch, replies, strict=True)}
                waiting = waiting[len(batch) :]
                continue
            release()
            model.batch_size = rows // 2
            passes = "" if rows == len(batch) else f" ({rows} passes)"
            say(
                f"Out of memory with {len(batch)} docs{passes} at a time ({batch[0].doc.name} and the next): "
                f"going on with {model.batch_size}"
            )

    def _store(self, batch: Sequence[_Waiting], replies: Sequence[Answer]) -> None:
        """Put answers in the journal; a read-only folder is reported once."""
        journal = self._model.journal
        if journal is None:
            return
        known = journal.read_only
        pairs = zip(batch, replies, strict=True)
        journal.add({doc.key: reply for doc, reply in pairs if doc.key is not None})
        if journal.read_only and not known:
            say_read_only(journal)


def _unpermuted_hash(doc: Any) -> Any:
    """The content hash of a doc in its own order of images; None if the task has none."""
    return (doc.get("base_hash") or doc.get("content_hash")) if isinstance(doc, Mapping) else None


def _rows(doc: _Waiting) -> int:
    return len(doc.rows)


def shown_pictures(model: "MaskedModel", requests: "Sequence[Instance]") -> Iterator[tuple[str, str]]:
    """The pictures of a run's docs, before any is answered; those that cannot be decoded are left out.

    Args:
        model: has the docs.
        requests: of upstream.

    Returns:
        `rgb_digest` of each, and where it is ("mimic_counting doc 3, image 2").
    """
    what = "Comparing pictures with the tuning's"
    for request in progress_bar(requests, what=what, unit="doc", hidden=model.rank != 0):
        _, doc_to_messages, _, doc_id, task, split = request.args
        try:
            _, pictures = take_images(doc_to_messages(model.task_dict[task][split][doc_id]))
        except Unscorable:
            continue
        for number, picture in enumerate(pictures, start=1):
            yield rgb_digest(picture.convert("RGB")), f"{task} doc {doc_id}, image {number}"


def request_name(request: "Instance") -> str:
    """What messages call the doc of a request ("mimic_counting doc 3")."""
    return f"{request.args[4]} doc {request.args[3]}"


def read_request(model: "MaskedModel", request: "Instance") -> tuple[DocPrompt, PassInput]:
    """A request's doc as the model gets it: in its order, with the prompt of a run.

    Args:
        model: answers it.
        request: of upstream.

    Raises:
        Unscorable: a picture that cannot be shown.
        UserError: a doc that does not go with the model's options.
    """
    _, doc_to_messages, _, doc_id, task, split = request.args
    doc, name = model.task_dict[task][split][doc_id], request_name(request)
    messages, pictures = take_images(doc_to_messages(doc))
    for number, picture in enumerate(pictures, start=1):
        reason = model.family.unscorable(picture)
        if reason:
            raise Unscorable(f"image {number} of {len(pictures)} is {reason}")
    messages, marks = settle_marks(
        messages, rule=model.options.general.image_marks, tokens=image_tokens(model.family.processor)
    )
    check_positions(doc, order=model.options.general.order, mask=model.engine.intervention.name, name=name)
    order = doc_order(model.options.general.order, messages, doc, name=name, n=len(pictures))
    ordered = as_pictures(pictures if order is None else [pictures[i] for i in order])
    prompt = model.family.prompt(messages, system=model.system_instruction)
    prompted = DocPrompt(name, prompt, ordered, doc, order, marks)
    source, query = model.answerer.relevance, None
    if source is not None or ROLES in model.engine.intervention.needs:
        query = prompted.query(needs_question=source is not None and bool(source.choice.models))
        model.engine.intervention.check_query(query, len(ordered))
    hashed = doc.get("content_hash") if isinstance(doc, Mapping) else None
    seed = str(hashed or hashlib.sha256(name.encode()).hexdigest())
    return prompted, PassInput(ordered, prompt, query, seed)
