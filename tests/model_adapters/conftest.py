"""What the tests of `mimic ground` share: outside models, and a cache of their outputs."""

from pathlib import Path

import pytest


@pytest.fixture
def relevance_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where outputs go; SAM gets few points."""
    monkeypatch.setenv("MIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("model_adapters.relevance.sam._POINTS_A_SIDE", 8)
    return tmp_path / "cache" / "relevance"


@pytest.fixture(scope="module")
def folders(grounding_folder: Path, clip_folder: Path, sam_folder: Path) -> dict[str, str]:
    """Tiny checkpoints of the outside models."""
    return {"grounding": str(grounding_folder), "clip": str(clip_folder), "sam": str(sam_folder)}
