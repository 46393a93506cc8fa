"""transformers' `Trainer` for a model of any family with the engine in its decoder."""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from finetune.batches import IGNORED, Batcher, Rows, SampleLike
from finetune.exam_trainer import ExamTrainer
from finetune.parts import beside_decoder
from finetune.saving import saving
from finetune.sharding import check_stage, check_without_pictures, shard_by_layers
from mimic_eval.records import UserError
from model_adapters.assembly import delimiters_of
from model_adapters.memory import is_out_of_memory, release


class Shuffled:
    """Samples in the order in which they are learnt: each epoch is another permutation.

    Args:
        samples: of a mixture.
        seed: of the order.
        total: how many are learnt.
    """

    def __init__(self, samples: Any, *, seed: int, total: int) -> None:
        self._samples = samples
        self._seed = seed
        self._total = total
        self._epoch, self._order = -1, list[int]()

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, number: int) -> SampleLike:
        if not 0 <= number < self._total:
            raise IndexError(number)
        epoch, place = divmod(number, len(self._samples))
        if epoch != self._epoch:
            self._order = list(range(len(self._samples)))
            Random(f"{self._seed}/epoch/{epoch}").shuffle(self._order)
            self._epoch = epoch
        sample: SampleLike = self._samples[self._order[place]]
        return sample


class Prepared:
    """Rows that one call of `Trainer.training_step` learns, in parts that memory holds; opaque to `Trainer`.

    Attributes:
        parts: each goes through the model at once.
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = tuple(parts)

    @property
    def samples(self) -> list[SampleLike]:
        """Those of all parts."""
        return [sample for part in self.parts for sample in part.samples]

    def labels(self) -> Tensor:
        """int (L,): the labels of all tokens that are learnt."""
        flat = torch.cat([part.labels[:, 1:].flatten() for part in self.parts])
        return flat[flat != IGNORED]


class EngineTrainer(ExamTrainer):
    """Learns through the engine, so that a mask in training is the mask of the evaluation.

    The loss of an optimizer step is the mean over all its answer tokens, however many parts it has. When
    memory runs out, the step is repeated in parts of half as many samples, and so are those that follow.

    Args:
        model: loaded with our attention.
        batcher: makes rows of samples.
        **others: see `ExamTrainer`.
    """

    def __init__(
        self,
        model: Any,
        *,
        batcher: Batcher,
        **others: Any,
    ) -> None:
        super().__init__(model, data_collator=self._collated, **others)
        self._batcher = batcher
        self._rows = self.args.per_device_train_batch_size
        self._step: list[Prepared] = []  # what this optimizer step has learnt so far
        self.model_accepts_loss_kwargs = True  # so that `Trainer` counts the answer tokens of a step
        self.loss_is_scaled_for_ga = True
        self._of_pictures = beside_decoder(model)
        check_stage(self.accelerator, full=not hasattr(model, "peft_config"))
        if self.is_fsdp_enabled:
            shard_by_layers(self.accelerator.state.fsdp_plugin, model)

    def _collated(self, samples: Sequence[SampleLike]) -> dict[str, Any]:
        """What the data loader makes of samples, maybe in a worker process.

        A refusal is handed on: a worker's exception would come with its traceback.
        """
        try:
            prepared = self._prepared(samples)
        except UserError as error:
            return {"refused": str(error), "labels": torch.zeros(0)}
        return {"prepared": prepared, "shift_labels": prepared.labels(), "labels": prepared.labels()}

    def _prepared(self, samples: Sequence[SampleLike]) -> Prepared:
        parts = [samples[i : i + self._rows] for i in range(0, len(samples), self._rows)]
        return Prepared([self._batcher.rows(part) for part in parts])

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of some samples; see the class for what happens when memory runs out."""
        if "refused" in inputs:
            raise UserError(
                f"{inputs['refused']}; the checkpoints before step {self.state.global_step + 1} remain"
            )
        self._step.append(inputs["prepared"])
        try:
            loss = self._learn(model, self._split(inputs["prepared"]), num_items_in_batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._halve(error)
            loss = None
        while loss is None:
            model.zero_grad()
            gc.collect()
            release()
            try:
                for prepared in self._step:
                    loss = self._learn(model, self._split(prepared), num_items_in_batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
                loss = None
        if self.accelerator.sync_gradients:
            self._step.clear()
        return loss

    def _learn(self, model: Any, prepared: Prepared, tokens: Any) -> Tensor:
        """Add the gradients of some samples to those that are there; their share of the loss."""
        total: Tensor | None = None
        for part in prepared.parts:
            delimiters = delimiters_of(
                self._engine.intervention, self._family, part.layouts, self.args.device
            )
            with self._engine.running(self.model, part.layouts, delimiters=delimiters):
                loss = super().training_step(model, {**part.inputs, "labels": part.labels}, tokens)
            total = loss if total is None else total + loss
        assert total is not None
        return total

    def _split(self, prepared: Prepared) -> Prepared:
        """In parts that memory holds; `Trainer` fetches a step's samples before memory has run out."""
        if all(len(part.samples) <= self._rows for part in prepared.parts):
            return prepared
        return self._prepared(prepared.samples)

    def _halve(self, error: BaseException) -> None:
        """Learn half as many samples at once from now on, and say so.

        Raises:
            UserError: it is one at once already, or other processes do not know of it.
        """
        step, rows = self.state.global_step + 1, self._rows
        if rows == 1:
            sample = self._step[-1].samples[0]
            raise UserError(
                f"out of memory at step {step} with one sample at a time, as '{sample.id}' of {sample.file}: "
                "show smaller pictures, or use a larger GPU or several; the checkpoints before it remain"
            ) from error
        if self.args.world_size > 1:
            raise UserError(
                f"out of memory at step {step} with --rows {rows} in each of {self.args.world_size} "
                f"processes: run the same command with --rows {rows // 2} to resume from the last checkpoint"
            ) from error
        self._rows = rows // 2
        parts = (
            -(-self.args.per_device_train_batch_size // self._rows) * self.args.gradient_accumulation_steps
        )
        tqdm.write(  # not in the line of the progress bar
            f"Out of memory at step {step} with {rows} samples at a time: going on with {self._rows}, "
            f"accumulated {parts} times (the batch and the loss stay as they are)",
            file=sys.stderr,
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of answer tokens, as their share of the step's; no other row's logits are computed."""
        if "pixel_values" not in inputs:
            check_without_pictures(self.accelerator, learnt=bool(self._of_pictures))
        labels = inputs.pop("labels")[:, 1:]
        positions = (labels != IGNORED).any(dim=0).nonzero().flatten()
        outputs = model(**inputs, use_cache=False, logits_to_keep=positions)
        logits, wanted = outputs.logits, labels[:, positions]
        if logits.shape[1] != len(positions):  # a model that knows no `logits_to_keep`
            logits = logits[:, positions]
        learnt = wanted != IGNORED
        loss = cross_entropy(logits[learnt].float(), wanted[learnt], reduction="sum")
        loss = loss / (int(learnt.sum()) if num_items_in_batch is None else num_items_in_batch)
        if "pixel_values" not in inputs:
            loss = loss + self._no_gradient()
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over them
        return (loss, outputs) if return_outputs else loss

    def _no_gradient(self) -> Tensor | float:
        """0, with a gradient of 0 for the weights that samples without pictures leave out.

        Processes that average their gradients need the same ones; so one process and several learn the same.
        """
        weights = [
            weight
            for module in self._of_pictures
            for weight in module.parameters(recurse=False)
            if weight.requires_grad
        ]
        return sum((0.0 * weight.float().sum() for weight in weights), 0.0)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers' estimate knows neither pictures nor masks."""
        return 0

    def is_evaluated(self) -> bool:
        """Whether there is an evaluation of the last step."""
        rows = [row for row in self.state.log_history if row["step"] == self.state.global_step]
        return any(name.startswith("eval_") for row in rows for name in row)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As of `Trainer`; where it cannot be written, one line, and the checkpoints before it remain."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with saving(folder, what=f"the checkpoint of step {self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights of a checkpoint, all of them.

        Of a full model, `Trainer`'s method loads by the names in the file, which for these classes are not
        those of the model, and continues with what the model has.
        """
        target = self.model if model is None else model
        if hasattr(target, "peft_config") or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        loaded = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(loaded.state_dict(), strict=True)
