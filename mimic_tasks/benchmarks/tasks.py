"""The task files of the benchmarks, as `mimic_tasks/official` holds them."""

from typing import Any

from mimic_eval.records import INTERLEAVED
from mimic_tasks.benchmarks.hooks import OVERALL
from mimic_tasks.benchmarks.spec import Benchmark
from mimic_tasks.lmms_hooks import Function
from mimic_tasks.locate import PERMUTED_SUFFIX
from mimic_tasks.permuted.hooks import metric_name

PLACEHOLDER = "placeholder.json"
"""What upstream loads before `hooks.docs_of` reads the set itself, from a local copy or the Hub."""

_HOOKS = "mimic_tasks.benchmarks.hooks"
_PERMUTED = "mimic_tasks.benchmarks.permuted"


def benchmark_config(benchmark: Benchmark, *, interleaved: bool) -> dict[str, Any]:
    """The YAML of a set's task."""
    name = benchmark.name
    form = f"{name}{INTERLEAVED}" if interleaved else name
    metrics = {
        benchmark.metric: "aggregate_mean",
        f"{benchmark.metric}_official": "aggregate_mean",
        **({OVERALL: "aggregate_overall"} if benchmark.overall else {}),
        "unparsed": "aggregate_count",
        "unscored": "aggregate_count",
    }
    return {
        "task": benchmark.tasks[interleaved],
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": PLACEHOLDER}},
        "test_split": "test",
        "output_type": "generate_until",
        "process_docs": Function(f"{_HOOKS}.docs_{name}"),
        "doc_to_visual": Function(f"{_HOOKS}.visual_{name}"),
        "doc_to_text": Function(f"{_HOOKS}.text_{name}"),
        "doc_to_messages": Function(f"{_HOOKS}.messages_{form}"),
        "doc_to_target": "gt",
        "process_results": Function(f"{_HOOKS}.process_{form}"),
        "metric_list": [
            {
                "metric": metric,
                "aggregation": Function(f"{_HOOKS}.{function}"),
                "higher_is_better": not metric.startswith("un"),
            }
            for metric, function in metrics.items()
        ],
        "generation_kwargs": {
            "max_new_tokens": benchmark.new_tokens,
            "do_sample": False,
            "temperature": 0,
            "until": [],
        },
        "metadata": {
            "version": 1.0,
            "label": benchmark.repo,
            "form": "interleaved" if interleaved else "upstream",
        },
    }


def permuted_config(benchmark: Benchmark, kind: str) -> dict[str, Any]:
    """The YAML of a set's task in several orders; `kind` is of `orders.KINDS`."""
    plain = benchmark_config(benchmark, interleaved=True)
    name = f"{benchmark.name}_{kind}"
    functions = {
        key: Function(f"{_PERMUTED}.{what}_{name}")
        for key, what in (
            ("process_docs", "docs"),
            ("doc_to_visual", "visual"),
            ("doc_to_text", "text"),
            ("doc_to_messages", "messages"),
            ("process_results", "process"),
        )
    }
    metrics = {
        metric_name(benchmark.metric): ("aggregate_over_orders", True),
        "docs": ("aggregate_docs", True),
        "unscored": ("aggregate_unscored", False),
    }
    return {
        **plain,
        **functions,
        "task": f"mimic_{benchmark.name}{PERMUTED_SUFFIX}_{kind}",
        "metric_list": [
            {
                "metric": metric,
                "aggregation": Function(f"mimic_tasks.permuted.hooks.{function}"),
                "higher_is_better": higher,
            }
            for metric, (function, higher) in metrics.items()
        ],
        "cluster_key": "doc",  # for the standard errors of upstream
        "metadata": {"version": 1.0, "label": benchmark.repo, "form": "interleaved", "orders": kind},
    }
