"""Outside models that do not fit, are damaged or out of reach: one line each."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mimic_eval.records import UserError
from model_adapters.layout import Layout, Span
from model_adapters.relevance import parse_relevance
from model_adapters.relevance.clip import Clip
from model_adapters.relevance.places import grid
from model_adapters.relevance.query import Query
from model_adapters.relevance.sources import RelevanceSource
from tests.makers.outside import picture


@pytest.fixture(autouse=True)
def relevance_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))


def test_a_hub_id_is_told_apart_by_its_commit(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    home = tmp_path / "models--org--clip"
    shutil.copytree(clip_folder, home / "snapshots" / ("c0ffee" * 7)[:40])
    (home / "refs").mkdir()
    (home / "refs/main").write_text(("c0ffee" * 7)[:40])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    found, folder = Clip("org/clip"), Clip(str(clip_folder))
    assert found.identity == f"org/clip@{('c0ffee' * 7)[:40]}"
    assert torch.equal(found.text("a dog"), folder.text("a dog"))


@pytest.mark.parametrize("offline", [True, False])
def test_a_model_that_is_out_of_reach_is_said_in_one_line(
    offline: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a network the Hub's client tried for 25 s, with a line for each time."""
    import huggingface_hub.constants

    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it was tried again"))
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    source = RelevanceSource(parse_relevance("clip"))
    query = Query.of_doc({"question": "How many dogs are there?"}, [picture(0)], name="some_task doc 4")
    with pytest.raises(UserError) as caught:
        source.relevance([query], [[grid(3, 3)]], [Layout(60, images=(Span(1, 10),))])
    assert "\n" not in str(caught.value)
    name = "openai/clip-vit-large-patch14-336"
    why = "huggingface.co cannot be reached: Name or service not known"
    why = "HF_HUB_OFFLINE is set" if offline else why
    assert str(caught.value) == (
        f"clip={name} is not stored on this machine, and cannot be fetched "
        f"({why}): run 'hf download {name}' where there is a network, or give a folder, clip=FOLDER"
    )


def test_behind_a_proxy_the_hub_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    from mimic_eval.records.hub import out_of_reach

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("looked up"))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert out_of_reach() is None


def test_checkpoints_that_do_not_fit_are_refused(
    clip_folder: Path, grounding_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    image = picture(0)
    with pytest.raises(UserError, match="is a 'grounding-dino' checkpoint, 'clip' is expected"):
        Clip(str(grounding_folder)).cosines(image, "", "a", grid(2, 2).centres)
    shutil.copytree(clip_folder, tmp_path / "cut")
    weights = load_file(tmp_path / "cut/model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "cut/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"does not fit its config: it lacks visual_projection\.weight \(1 such"
    ):
        Clip(str(tmp_path / "cut")).cosines(image, "", "a", grid(2, 2).centres)
    with pytest.raises(UserError, match=r"clip=/no/such/folder: no such folder, and not a Hub id"):
        Clip("/no/such/folder").cosines(image, "", "a", grid(2, 2).centres)


def _as_pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1710540580\n"
    (folder / "model.safetensors").write_text(text)


def _cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _as_list(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")


def _without_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] += 1
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_as_pointer, r"asks for at least [\d,]+ weights, its files of weights have \d+ bytes$"),
        (_cut, r"cannot be loaded \(SafetensorError: "),
        (_as_list, r"cannot be loaded: its config\.json cannot be read: no JSON object$"),
        (_without_vocabulary, r"has no vocabulary: its tokenizer knows \d+ tokens, its model \d+; "),
        (_of_another_shape, r"does not fit its config: it has .*position_embedding.* in another shape"),
    ],
)
def test_damaged_checkpoints_are_one_line(
    damage: Callable[[Path], None], message: str, clip_folder: Path, tmp_path: Path
) -> None:
    """A Git LFS pointer was a traceback; a missing vocabulary gave every text the same unknown tokens."""
    shutil.copytree(clip_folder, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    with pytest.raises(UserError, match=message) as caught:
        Clip(str(tmp_path / "damaged")).cosines(picture(0), "", "a", grid(2, 2).centres)
    assert "\n" not in str(caught.value)
