"""transformers' `Trainer` with three changes: attention, evaluation, order of the batches."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainingArguments

from finetune.exam_trainer import ExamTrainer
from finetune.reference.collate import IGNORED
from finetune.reference.tallies import TALLIES_WEIGHT, tallies_loss
from model_adapters.families.base import ImageFeatures


class MaskedTrainer(ExamTrainer):
    """Learns through the engine, so that a mask in training is the mask of the evaluation."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights of a checkpoint, all of them.

        The method of `Trainer` loads by the names in the file, which for these classes are not those of the
        model, and continues with what the model has.
        """
        target = self.model if model is None else model
        loaded = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(loaded.state_dict(), strict=True)

    def training_step(self, model: Any, inputs: dict[str, Any], *others: Any) -> Any:
        """Forward and backward of a batch in one run: checkpointing computes attention again."""
        with self._engine.running(self.model, inputs.pop("layouts")):
            return super().training_step(model, inputs, *others)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss of a batch's answer tokens, and that of its tallies; no other logits are computed."""
        labels = inputs.pop("labels")[:, 1:]
        features = inputs.pop("features", None)
        if features is not None:
            made = [ImageFeatures(tokens) for tokens in features]
            inputs["mm_encoder_outputs"] = {"image": self._family.encoder_outputs(made)}
        tallies, weights = inputs.pop("tallies", None), inputs.pop("weights", None)
        outputs = model.model(**inputs, use_cache=False, output_hidden_states=tallies is not None)
        learnt = labels != IGNORED
        logits = model.get_output_embeddings()(outputs.last_hidden_state[:, :-1][learnt])
        if weights is None:
            loss = cross_entropy(logits, labels[learnt])
        else:
            weights = weights[:, 1:][learnt]
            loss = (cross_entropy(logits, labels[learnt], reduction="none") * weights).sum() / weights.sum()
        if tallies is not None:
            halfway = len(outputs.hidden_states) // 2
            loss = loss + TALLIES_WEIGHT * tallies_loss(outputs.hidden_states[halfway], tallies)
        return (loss, outputs) if return_outputs else loss


def training_arguments(
    folder: Path,
    *,
    steps: int,
    seed: int,
    save_every: int,
    exam_every: int | None = None,
    workers: int = 0,
) -> TrainingArguments:
    """Warm-up and cosine, batches in the order of their numbers, checkpoints to go on from."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of `Lessons` is a batch
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 40),
        max_grad_norm=1.0,
        logging_steps=max(1, min(50, steps // 10)),
        eval_strategy="no" if exam_every is None else "steps",
        eval_steps=exam_every,
        save_steps=save_every,
        save_total_limit=2,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        report_to="none",
        disable_tqdm=None,
    )
