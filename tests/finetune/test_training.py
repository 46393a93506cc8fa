"""mimic finetune: losses of a plain training, the evaluation's mask, no harm by kills and full disks."""

import json
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, get_cosine_schedule_with_warmup

from finetune.arguments import FinetuneOptions
from finetune.batches import Batcher, end_tokens
from finetune.mixture import read_mixture
from finetune.parts import with_lora
from finetune.trainer import EngineTrainer, Shuffled
from finetune.training import Trained, finetune
from mimic_eval.records import UserError
from mimic_tasks.locate import EMBEDDED
from model_adapters.engine import Engine
from model_adapters.families import FAMILIES
from model_adapters.interventions.block.kernel import BlockMask
from model_adapters.loading import load_family
from tests.conftest import Commands
from tests.makers.conversations import make_conversations

pytestmark = pytest.mark.slow
LORA = {"rank": 4, "alpha": 8, "learning_rate": 1e-2, "batch": 4, "rows": 2, "steps": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_conversations(tmp_path_factory.mktemp("conversations"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny LLaVA-OneVision and a Qwen3-VL, in float32."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("llava_onevision", "qwen3_vl"):
        FAMILIES.get(name).make_tiny(folder / name, seed=1)
    return folder


def options(tiny: Path, data: Path, out: Path, **changes: Any) -> FinetuneOptions:
    how = {"pretrained": str(tiny / "llava_onevision"), "data": (data,), "out": out, **LORA, **changes}
    if how.get("method") == "full":
        how.update(rank=None, alpha=None)
    return FinetuneOptions(**how)


def losses(trained: Trained) -> list[float]:
    return [row[1] for row in trained.record["loss"]]


def load(path: Path, **how: Any) -> tuple[Any, Any]:
    family = FAMILIES.get(json.loads((path / "config.json").read_text())["model_type"])
    return load_family(family, str(path), **{"dtype": "float32", "device": "cpu", "peft": None, **how})


@pytest.mark.parametrize(("kind", "checkpointing"), [("llava_onevision", True), ("qwen3_vl", False)])
def test_without_a_mask_it_is_a_plain_training_with_sdpa(
    tiny: Path, data: Path, tmp_path: Path, kind: str, checkpointing: bool
) -> None:
    """transformers' own attention, classes and loss, PEFT, AdamW and one batch a step, written out.

    The training has two parts a step: a mean of their means would weigh short answers more.
    """
    made = finetune(
        options(
            tiny,
            data,
            tmp_path / "out",
            mask="none",
            pretrained=str(tiny / kind),
            checkpointing=checkpointing,
        )
    )
    _, family = load(tiny / kind)
    model = AutoModelForImageTextToText.from_pretrained(tiny / kind, dtype=torch.float32)
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    batcher = Batcher(family, end_tokens=end_tokens(model, family.processor.tokenizer))
    torch.manual_seed(0)
    model = with_lora(model, rank=4, alpha=8, dropout=0.0, projector=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 1, 3)
    samples, plain = Shuffled(read_mixture([data]), seed=0, total=12), []
    model.train()
    for step in range(3):
        rows = batcher.rows([samples[i] for i in range(4 * step, 4 * step + 4)])
        loss = model(**rows.inputs, labels=rows.labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        model.zero_grad()
        plain.append(float(loss.detach()))
    assert losses(made) == pytest.approx(plain, rel=2e-5)
    assert plain[2] != pytest.approx(plain[1], rel=1e-3)  # something was learnt


def test_lora_with_the_mask_has_the_gradients_of_a_dense_mask(tiny: Path, data: Path) -> None:
    """Of METHODS 3 as a matrix, in rows of several numbers of images, with activation checkpointing."""
    model, family = load(tiny / "llava_onevision", dtype="float64")
    batcher = Batcher(family, end_tokens=end_tokens(model, family.processor.tokenizer))
    rows = batcher.rows(read_mixture([data])[:5])
    torch.manual_seed(0)
    model = with_lora(model, rank=4, alpha=8, dropout=0.0, projector=True).double()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.train()
    depth = model.config.get_text_config().num_hidden_layers
    later = frozenset(range(depth // 2, depth))
    want = gradients(model, rows, _Dense(BlockMask(), later))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    got = gradients(model, rows, Engine(BlockMask(), later))
    plain = gradients(model, rows, Engine(BlockMask(), frozenset()))
    assert got.keys() == want.keys()
    assert {name.rpartition(".")[2] for name in got} >= {"loss", "weight"}
    assert any("multi_modal_projector" in name for name in got)
    assert not any("vision_tower" in name for name in got)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-6, atol=1e-9)
    assert abs(plain["loss"] - got["loss"]) > 1e-6


class _Dense(Engine):
    """Attention by a matrix for each layer and row, with nothing of the engine but its seam."""

    def attend(self, query: Any, key: Any, value: Any, view: Any, *, scale: float) -> Any:
        length = query.shape[2]
        seen = torch.ones(len(query), 1, length, length, dtype=torch.bool).tril()
        for row, layout in zip(seen, view.layouts, strict=True):
            image = torch.full((length,), -1)
            for number, span in enumerate(layout.images):
                image[span.start : span.end] = number
            if view.layer in self.layers and len(layout.images) > 1:
                row &= (image[:, None] == -1) | (image[:, None] == image[None, :])
            row[:, :, : layout.padding] = False
            row |= torch.eye(length, dtype=torch.bool)  # a row of padding sees something
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
        scores = (query @ key.transpose(-1, -2) * scale).masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) @ value


def gradients(model: Any, rows: Any, engine: Engine) -> dict[str, torch.Tensor]:
    model.zero_grad()
    inputs = {k: x.double() if x.is_floating_point() else x for k, x in rows.inputs.items()}
    with engine.running(model, rows.layouts):
        loss = model(**inputs, labels=rows.labels, use_cache=False).loss
        loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def test_what_is_learnt_is_what_the_recipe_says(tiny: Path, data: Path, tmp_path: Path) -> None:
    before, _ = load(tiny / "llava_onevision")
    kept = {
        ("paper", "full"): ("vision_tower", "multi_modal_projector", "image_newline"),
        ("released", "full"): ("vision_tower", "image_newline"),
    }
    for (recipe, method), parts in kept.items():
        out = tmp_path / f"{recipe}-{method}"
        finetune(options(tiny, data, out, recipe=recipe, method=method, steps=2))
        after, _ = load(out)
        old, new = before.state_dict(), after.state_dict()
        same = {name for name in old if torch.equal(old[name], new[name])}
        frozen = {name for name in old if any(part in name for part in parts)}
        assert same == frozen, (recipe, method, same ^ frozen)
        assert (out / "processor_config.json").is_file()


@pytest.mark.parametrize("projector", ["frozen", "trained"])
def test_the_adapter_that_is_written_gives_the_logits_of_the_trained_model(
    tiny: Path, data: Path, tmp_path: Path, projector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    train = EngineTrainer.train

    def keeping(trainer: Any, *args: Any, **how: Any) -> Any:
        trained.append(trainer)
        return train(trainer, *args, **how)

    monkeypatch.setattr(EngineTrainer, "train", keeping)
    out = tmp_path / "out"
    finetune(options(tiny, data, out, projector=projector, steps=2))
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny / "llava_onevision")
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (
        4,
        8,
        ["model.multi_modal_projector"] if projector == "trained" else None,
    )
    loaded, family = load(tiny / "llava_onevision", peft=str(out))
    batcher = Batcher(family, end_tokens=end_tokens(loaded, family.processor.tokenizer))
    rows, engine = batcher.rows(read_mixture([data])[:4]), Engine(BlockMask(), frozenset({1}))
    got, want = (logits(model, rows, engine) for model in (loaded, trained[0].model.eval()))
    assert torch.equal(got, want)


@torch.inference_mode()
def logits(model: Any, rows: Any, engine: Engine) -> torch.Tensor:
    with engine.running(model, rows.layouts):
        return torch.as_tensor(model(**rows.inputs, use_cache=False).logits)


def test_a_killed_training_resumes_to_the_same_bytes(
    tiny: Path, data: Path, tmp_path: Path, commands: Commands
) -> None:
    """With dropout, a trained projector and the order of a second epoch; `kill -9` as it learns."""
    how: dict[str, Any] = {"recipe": "released", "dropout": 0.1, "steps": 6, "save_every": 2}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = (
        f"finetune --pretrained {tiny / 'llava_onevision'} --data {data} --out {killed} --recipe released"
    )
    command += " --rank 4 --alpha 8 --learning-rate 0.01 --batch 4 --rows 2 --steps 6 --dropout 0.1"
    with commands.started("mimic", *command.split(), "--save-every", "2") as process:
        while not list(killed.glob("training/checkpoint-*/trainer_state.json")):
            assert not process.ended(), process.end()
            time.sleep(0.02)
        assert process.end().returncode == -signal.SIGKILL
    assert not (killed / "adapter_model.safetensors").exists()
    with pytest.raises(UserError, match=r"holds a training that differs in --seed \(0, now 5\): choose"):
        finetune(options(tiny, data, killed, seed=5, **how))
    resumed = finetune(options(tiny, data, killed, **how))
    undisturbed = finetune(options(tiny, data, whole, workers=2, **how))
    for name in ("adapter_model.safetensors", "adapter_config.json", "training.json", "loss.svg"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert losses(resumed) == losses(undisturbed)
    assert [row[0] for row in resumed.record["loss"]] == list(range(1, 7))
    before = {path: path.stat().st_mtime_ns for path in killed.rglob("*") if path.name != ".lock"}
    again = finetune(options(tiny, data, killed, **how))
    assert again.was_complete
    assert again.record == resumed.record
    after = {path: path.stat().st_mtime_ns for path in killed.rglob("*") if path.name != ".lock"}
    assert after == before


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_halves_what_goes_through_at_once_and_learns_the_same(
    tiny: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    """In the backward pass, some gradients are there already: they must not count twice."""
    want = finetune(options(tiny, data, tmp_path / "want", rows=4, batch=8, steps=1))
    _fail_above(1 if where == "forward" else 2, where, monkeypatch)
    capsys.readouterr()
    got = finetune(options(tiny, data, tmp_path / "got", rows=4, batch=8, steps=1))
    said = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert said == [
        f"Out of memory at step 1 with {2 * n} samples at a time: going on with {n}, accumulated {8 // n} "
        "times (the batch and the loss stay as they are)"
        for n in ([2, 1] if where == "forward" else [2])
    ]
    assert got.record["loss"][0] == pytest.approx(want.record["loss"][0], rel=1e-4)  # the gradient's norm too
    _fail_above(0, where, monkeypatch)
    with pytest.raises(UserError, match=r"out of memory at step 1 with one sample at a time, as 's\d'"):
        finetune(options(tiny, data, tmp_path / "none"))


def _fail_above(rows: int, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out as CUDA and the CPU's allocator say it, in a pass of more rows."""
    learn = EngineTrainer.compute_loss

    def compute_loss(trainer: Any, model: Any, inputs: Any, *args: Any, **how: Any) -> Any:
        count = len(inputs["input_ids"])
        if count > rows and where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        loss = learn(trainer, model, inputs, *args, **how)
        if count > rows:

            def full(_: Any) -> None:
                raise RuntimeError(
                    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
                )

            layer = next(p for name, p in model.named_parameters() if "layers.0" in name and p.requires_grad)
            handle = layer.register_hook(lambda grad: (handle.remove(), full(grad)))
        return loss

    monkeypatch.setattr(EngineTrainer, "compute_loss", compute_loss)


@pytest.fixture
def files_up_to() -> Iterator[Any]:
    """Limits how large a file this process can write: a write beyond it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing_that_was_saved(
    tiny: Path, data: Path, tmp_path: Path, files_up_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, out = EngineTrainer._save_checkpoint, tmp_path / "out"

    def filling(trainer: Any, *args: Any) -> None:
        files_up_to(20_000 if trainer.state.global_step == 2 else None)
        save(trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(EngineTrainer, "_save_checkpoint", filling)
        with pytest.raises(
            UserError, match=r"the checkpoint of step 2 cannot be written \(.*ones before it re"
        ):
            finetune(options(tiny, data, out, save_every=1))
    files_up_to(None)
    assert [path.name for path in out.glob("training/checkpoint-*")] == ["checkpoint-1"]
    finetune(options(tiny, data, out, save_every=1))
    finetune(options(tiny, data, tmp_path / "whole", save_every=1))
    written, whole = (folder / "adapter_model.safetensors" for folder in (out, tmp_path / "whole"))
    assert written.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named_in_one_line(tiny: Path, tmp_path: Path, workers: int) -> None:
    """From a worker process too, whose exceptions come with a traceback; the steps before it are saved."""
    data = make_conversations(tmp_path / "data")
    broken = data.parent / "3.png"
    broken.write_bytes(broken.read_bytes()[:300])
    how = {"batch": 1, "rows": 1, "steps": 8, "save_every": 1, "workers": workers}
    with pytest.raises(
        UserError, match=r"line \d+, sample 's\d': picture .*3\.png cannot be decoded"
    ) as caught:
        finetune(options(tiny, data, tmp_path / "out", **how))
    assert "\n" not in str(caught.value)
    step = int(str(caught.value).rpartition("before step ")[2].split()[0])
    assert (tmp_path / f"out/training/checkpoint-{step - 1}").is_dir() == (step > 1)


def test_tasks_are_evaluated_as_it_learns(tiny: Path, data: Path, tmp_path: Path) -> None:
    made = finetune(
        options(tiny, data, tmp_path / "out", steps=3, eval_tasks=EMBEDDED, eval_every=2, eval_docs=1)
    )
    assert [scores["step"] for scores in made.record["evaluations"]] == [2, 3]  # and after the last step
    assert {"counting", "listing", "common", "oddone"} <= made.record["evaluations"][0].keys()


def test_bf16_learns_in_float32_and_passes_in_16_bits(tiny: Path, data: Path, tmp_path: Path) -> None:
    """A step of 1e-5 is lost in a bfloat16 weight; norms of queries in float32 met values in bfloat16."""
    out = tmp_path / "out"
    how: dict[str, Any] = {"method": "full", "precision": "bf16", "pretrained": str(tiny / "qwen3_vl")}
    made = finetune(options(tiny, data, out, **how))
    single = finetune(options(tiny, data, tmp_path / "fp32", **{**how, "precision": "fp32"}))
    assert losses(made) == pytest.approx(losses(single), rel=2e-2)
    assert losses(made) != losses(single)
    weights, _ = load(out, dtype="auto")
    assert weights.dtype == torch.bfloat16


def test_samples_come_in_another_order_in_each_epoch() -> None:
    order = Shuffled(list(range(7)), seed=3, total=18)
    seen = [order[i] for i in range(18)]
    assert sorted(seen[:7]) == sorted(seen[7:14]) == list(range(7))
    assert seen[:7] != seen[7:14]
    assert [order[i] for i in reversed(range(18))] == seen[::-1]
    assert seen != [Shuffled(list(range(7)), seed=4, total=18)[i] for i in range(18)]
