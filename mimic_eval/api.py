"""What `import mimic_eval` offers beside the commands (docs/api.md)."""

from pathlib import Path

from mimic_eval.records import UserError, nearest
from model_adapters.intervene import intervene, layout
from model_adapters.loading import embedded_checkpoint
from model_adapters.relevance.query import Query

__all__ = ["Query", "UserError", "embedded_checkpoint", "embedded_docs", "intervene", "layout"]

_EMBEDDED = Path(__file__).resolve().parents[1] / "mimic_tasks" / "embedded"


def embedded_docs(task: str) -> Path:
    """The parquet file of an embedded task's 60 docs.

    Args:
        task: ``counting``, ``listing``, ``common``, ``oddone``, ``pqa`` or ``retrieval``.

    Raises:
        UserError: an unknown task.
    """
    known = sorted(path.name for path in _EMBEDDED.iterdir() if (path / "test.parquet").is_file())
    if task not in known:
        raise UserError(nearest("task", task, known))
    return _EMBEDDED / task / "test.parquet"
