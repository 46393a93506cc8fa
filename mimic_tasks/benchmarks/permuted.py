"""What lmms-eval calls for the tasks of benchmarks in several orders of images or options."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mimic_eval.records import (
    UNSCORED,
    Item,
    Ordering,
    Sample,
    UserError,
    announced_run,
    unscored_reason,
)
from mimic_tasks.benchmarks.choices import LETTERS
from mimic_tasks.benchmarks.hooks import ours, visual_of
from mimic_tasks.benchmarks.orders import KINDS, OrderedDoc, in_order, length, why_not
from mimic_tasks.benchmarks.reading import is_image_column, read_docs
from mimic_tasks.benchmarks.sets import BENCHMARKS
from mimic_tasks.benchmarks.spec import Benchmark, Question, Row
from mimic_tasks.permuted.expand import TYPES, repeated, table_of, with_columns
from mimic_tasks.permuted.hooks import metric_name
from mimic_tasks.permuted.orders import orders_from_environment


def docs_of(benchmark: Benchmark, kind: str, placeholder: Any) -> Any:
    """One row for each doc and order; docs that have no other order are left out, counted by reason.

    Raises:
        UserError: the set is missing, no doc is left, or `MIMIC_ORDERS` does not suit the docs.
    """
    docs, orders = read_docs(benchmark), orders_from_environment()
    texts = docs.select_columns([name for name in docs.column_names if not is_image_column(benchmark, name)])
    left_out: Counter[str] = Counter()
    rows: list[int] = []
    added: dict[str, list[Any]] = {name: [] for name in _TYPES}
    for number, row in enumerate(texts):
        question, images = benchmark.question(row), row["n_images"]
        reason = why_not(kind, question, images)
        if reason is not None:
            left_out[reason] += 1
            continue
        doc_orders = orders.of(base_hash=row["content_hash"], n=length(kind, question, images))
        for index, order in enumerate(doc_orders):
            rows.append(number)
            columns = {
                "base_doc_id": number,
                "base_hash": row["content_hash"],
                "order": list(order),
                "order_index": index,
                "n_orders": len(doc_orders),
                "orders": orders.rule,
                "order_seed": orders.seed,
                "order_kind": kind,
            }
            for name, value in columns.items():
                added[name].append(value)
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    if not rows:
        raise UserError(f"{benchmark.title}: no doc has another order of its {kind} ({why})")
    print(
        f"{benchmark.title}, {kind} in other orders: {len(set(rows))} of {len(docs)} docs"
        + (f"; left out: {why}" if why else ""),
        file=sys.stderr,
    )
    added["excluded"] = [json.dumps(dict(sorted(left_out.items())))] * len(rows)
    return _repeated(benchmark, docs, rows, added)


_TYPES = {**TYPES, "order_kind": "string", "excluded": "string"}


def _repeated(benchmark: Benchmark, docs: Any, rows: Sequence[int], added: Mapping[str, list[Any]]) -> Any:
    """The docs of some rows, with further columns; the bytes of pictures are shared between rows."""
    import pyarrow as pa

    columns = {}
    for name, column in zip((table := table_of(docs)).column_names, table.columns, strict=True):
        shared = is_image_column(benchmark, name)
        columns[name] = repeated(column, rows) if shared else column.take(pa.array(rows, pa.int64()))
    return with_columns(docs, columns, added, _TYPES, key=json.dumps(added))


def _ordered(benchmark: Benchmark, doc: Row) -> tuple[Question, OrderedDoc]:
    question = benchmark.question(doc)
    return question, in_order(doc["order_kind"], question, doc["n_images"], doc["order"])


def visual_in_order(benchmark: Benchmark, kind: str, doc: Row) -> list[Any]:
    """The pictures in the row's order, RGB."""
    pictures = visual_of(benchmark, doc)
    return [pictures[part] for part in _ordered(benchmark, doc)[1].parts if isinstance(part, int)]


def text_in_order(benchmark: Benchmark, kind: str, doc: Row, lmms_eval_specific_kwargs: Any = None) -> str:
    """The text in the row's order, without its images."""
    return "".join(part for part in _ordered(benchmark, doc)[1].parts if isinstance(part, str))


def messages_in_order(
    benchmark: Benchmark, kind: str, doc: Row, lmms_eval_specific_kwargs: Any = None
) -> list[dict[str, Any]]:
    """One user turn with the images at their marks, in the row's order."""
    pictures = visual_of(benchmark, doc)
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "url": pictures[part]}
        for part in _ordered(benchmark, doc)[1].parts
    ]
    return [{"role": "user", "content": content}]


def process_in_order(benchmark: Benchmark, kind: str, doc: Row, results: Sequence[str]) -> dict[str, Any]:
    """The sample's entries; the answer is recorded by the letter that its option has in the set."""
    question, ordered = _ordered(benchmark, doc)
    metric = metric_name(benchmark.metric)
    position = None if ordered.position is None else [ordered.position]
    sample = Sample(
        items={metric: Item(doc=doc["base_doc_id"])},
        kind=benchmark.name,
        content_hash=hashlib.sha256(f"{doc['base_hash']}{kind}{list(doc['order'])}".encode()).hexdigest(),
        gt=question.stored,
        question=text_in_order(benchmark, kind, doc),
        sub_task=question.sub_task,
        controls={"n_images": doc["n_images"], "source": benchmark.repo},
        run=announced_run(),
        status=UNSCORED,
        ordering=Ordering.from_json({**doc, "target_positions": position}, "a permuted row"),
        excluded=json.loads(doc["excluded"]),
    )
    reason = unscored_reason(results[0])
    if reason is not None:
        return replace(sample, reason=reason).to_json()
    reordered = replace(question, options=ordered.options, truth=ordered.truth)
    score, parsed, status = ours(benchmark, reordered, results[0])
    if parsed is not None and ordered.options:
        parsed = LETTERS[ordered.letters[LETTERS.index(parsed)]]
    return replace(
        sample,
        items={metric: Item(score, doc=doc["base_doc_id"])},
        response=results[0],
        parsed=parsed,
        status=status,
        score=score,
    ).to_json()


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "docs": docs_of,
    "visual": visual_in_order,
    "text": text_in_order,
    "messages": messages_in_order,
    "process": process_in_order,
}


def __getattr__(name: str) -> Callable[..., Any]:
    """``visual_muirbench_options`` and the others, as task files name them."""
    what, _, rest = name.partition("_")
    named, _, kind = rest.rpartition("_")
    if what not in _FUNCTIONS or named not in BENCHMARKS or kind not in KINDS:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return partial(_FUNCTIONS[what], BENCHMARKS[named], kind)
