"""Upstream reads task files by PyYAML's C parser, to the same configurations."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lmms_eval import utils

import mimic_tasks
from mimic_eval.cli.lmms.wrappers import libyaml

FOLDER = Path(mimic_tasks.__file__).parent
FILES = sorted(FOLDER.rglob("*.yaml"))


def described(value: Any) -> Any:
    """Functions and nodes, which each reading makes again, by their names."""
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list):
        return [described(item) for item in value]
    if isinstance(value, yaml.Node):
        return value.tag, value.value
    return (value.__module__, value.__qualname__) if callable(value) else value


def test_configurations_are_those_of_the_python_parser() -> None:
    before = [described(utils.load_yaml_config(str(path), mode="simple")) for path in FILES]
    with libyaml():
        assert utils.yaml is not yaml
        after = [described(utils.load_yaml_config(str(path), mode="simple")) for path in FILES]
    assert utils.yaml is yaml
    assert after == before
    assert len(before) > 50


def test_functions_are_found_beside_the_file() -> None:
    path = str(FOLDER / "embedded/mimic_counting.yaml")
    before = described(utils.load_yaml_config(path))
    with libyaml():
        after = described(utils.load_yaml_config(path))
    assert after == before
    assert any(isinstance(value, tuple) for value in before.values())


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("task: a\nx: [1,\n")
    with libyaml(), pytest.raises(yaml.YAMLError, match=r"broken\.yaml.*line 3"):
        utils.load_yaml_config(str(path), mode="simple")
