"""transformers' `Trainer` whose evaluation is an exam, for every training here."""

from typing import Any

from transformers import Trainer

from finetune.exam import Exam
from model_adapters.answering import Answerer
from model_adapters.engine import Engine
from model_adapters.families.base import Family


class ExamTrainer(Trainer):  # type: ignore[misc]
    """Answers held-out docs as an evaluation does, and logs the scores.

    Args:
        model: loaded with our attention.
        engine: the intervention and its layers.
        family: around the processor.
        exam: what `evaluate` runs, or None.
        **others: see `Trainer`.
    """

    def __init__(
        self, model: Any, *, engine: Engine, family: Family, exam: Exam | None, **others: Any
    ) -> None:
        super().__init__(model=model, **others)
        self._engine = engine
        self._family = family
        self._exam = exam

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The exam's scores, logged and returned."""
        assert self._exam is not None
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        with self.accelerator.autocast():
            scores = self._exam.scores(Answerer(model, self._family, self._engine, pool=1, relevance=None))
        model.train(training)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
