"""Outside models (Grounding DINO, SAM, CLIP): a folder or a Hub id, loaded when needed, outputs cached."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from mimic_eval.records import UserError
from model_adapters.checkpoint_files import read_checkpoint_files
from model_adapters.disk import check_within_reach
from model_adapters.memory import is_out_of_memory
from model_adapters.refusals import broken_files, first_line
from model_adapters.relevance.cache import Arrays, OutputCache
from model_adapters.relevance.query import Query

_MOST_RATIO = 100


class Loaded(NamedTuple):
    """A model in evaluation mode, in float32, and its processor."""

    model: Any
    processor: Any


class OutsideModel(ABC):
    """A model that is not the one under evaluation.

    Args:
        name: a folder or a Hub id, or None for `default`.
        device: where it runs.
        cache: where its outputs are stored.
        dtype: one of `choice.DTYPES`: of its matrix products. Weights and the rest stay float32 (autocast).
            The cache has separate entries for each dtype.

    Attributes:
        argument: of ``--model_args`` that names it.
        default: the Hub id that is used if the user names none.
        title: for people.
        model_types: of its config: those that are taken.
        encodes_once: a picture is encoded once for all its texts.
    """

    argument: str
    default: str
    title: str
    model_types: tuple[str, ...]
    encodes_once = False

    def __init__(
        self,
        name: str | None = None,
        *,
        device: str = "cpu",
        cache: OutputCache | None = None,
        dtype: str = "float32",
    ) -> None:
        self.name = name or self.default
        self.device = torch.device(device)
        self.cache = cache or OutputCache()
        self.dtype = dtype

    @staticmethod
    @abstractmethod
    def model_class() -> Any:
        """transformers' class."""

    @cached_property
    def identity(self) -> str:
        """What tells this checkpoint from any other: a hash of the folder's files, or the Hub's commit.

        Raises:
            UserError: nothing there, or another architecture.
        """
        self._check_type()
        folder = Path(self.name).expanduser()
        if folder.is_dir():
            return _folder_hash(folder)
        from transformers.utils.hub import cached_file

        try:
            config = cached_file(self.name, "config.json")
        except (OSError, ValueError) as error:
            raise self._absent(error) from error
        return f"{self.name}@{Path(str(config)).parent.name}"  # .../snapshots/<commit>/config.json

    @cached_property
    def loaded(self) -> Loaded:
        """The model and its processor, loaded at the first use.

        Raises:
            UserError: nothing there, another architecture, or weights that are missing.
        """
        from transformers import AutoProcessor

        self._check_type()
        name = self._place
        try:
            model, report = self.model_class().from_pretrained(
                name,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, and refused
                trust_remote_code=False,
            )
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
        except broken_files() as error:
            if is_out_of_memory(error):
                raise
            raise self._absent(error) from error
        wrong = [f"lacks {key}" for key in sorted(report["missing_keys"])]
        wrong += [f"has {key} in another shape" for key, *_ in sorted(report["mismatched_keys"])]
        if wrong:
            raise UserError(
                f"{self.argument}={self.name} does not fit its config: it {wrong[0]} "
                f"({len(wrong)} such weights)"
            )
        self._check_vocabulary(model, processor)
        return Loaded(model.to(self.device).eval(), processor)

    @abstractmethod
    def text_of(self, query: Query) -> str:
        """What it is given of a doc beside a picture; empty if nothing."""

    @abstractmethod
    def output_key(self, image_hash: str, text: str) -> dict[str, Any]:
        """The key of its output for a picture and a text (`text_of`) in the cache.

        Raises:
            UserError: nothing there, or another architecture.
        """

    @abstractmethod
    def outputs(
        self, images: Sequence[Image.Image], image_hashes: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[Arrays]]:
        """Its outputs for a batch, as the cache holds them; nothing is stored.

        Args:
            images: RGB, all of one `batch_of`.
            image_hashes: of each (`Query.image_hashes`).
            texts: of each image: one, or several if `encodes_once`.
        """

    def batch_of(self, size: tuple[int, int]) -> Hashable:
        """Pictures of which sizes may share a batch: those with the same value. All, if not overridden."""
        return None

    def output(self, image: Image.Image, image_hash: str, text: str) -> Arrays:
        """The output for a picture and a text, from the cache or the model.

        Raises:
            UserError: the model or the cache is out of reach.
        """

        def make() -> Arrays:
            return self.outputs([image], [image_hash], [[text]])[0][0]

        return self.cache.fetch(self.argument, self.output_key(image_hash, text), make)

    def key(self, **parts: Any) -> dict[str, Any]:
        """The key of an output in the cache: the checkpoint, the dtype unless float32, and `parts`.

        Raises:
            UserError: nothing there, or another architecture.
        """
        dtype = {} if self.dtype == "float32" else {"dtype": self.dtype}
        return {"model": self.identity, **dtype, **parts}

    def precision(self) -> AbstractContextManager[Any]:
        """The context of a forward pass: autocast to `dtype`, or nothing."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.dtype))

    @property
    def _place(self) -> str:
        folder = Path(self.name).expanduser()
        return str(folder) if folder.is_dir() else self.name

    def _check_type(self) -> None:
        from transformers import PreTrainedConfig

        check_within_reach(self.argument, self.name)
        folder = Path(self.name).expanduser()
        if folder.is_dir():
            try:
                settings = read_checkpoint_files(folder).settings
            except UserError as error:
                raise UserError(f"{self.argument}={self.name} cannot be loaded: {error}") from error
        else:
            try:
                settings, _ = PreTrainedConfig.get_config_dict(self.name)
            except broken_files() as error:
                raise self._absent(error) from error
        given_type = settings.get("model_type")
        if given_type not in self.model_types:
            expected = " or ".join(f"'{name}'" for name in self.model_types)
            raise UserError(
                f"{self.argument}={self.name} is a '{given_type}' checkpoint, {expected} is expected"
            )

    def _check_vocabulary(self, model: Any, processor: Any) -> None:
        """A tokenizer whose file is missing is made of its special tokens alone, without a word."""
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None:
            return
        known, words = len(tokenizer), model.config.text_config.vocab_size
        if 2 * known < words:
            raise UserError(
                f"{self.argument}={self.name} has no vocabulary: its tokenizer knows {known} tokens, its "
                f"model {words}; is tokenizer.json or vocab.txt missing?"
            )

    def _absent(self, error: BaseException) -> UserError:
        return UserError(
            f"relevance needs {self.name}, which cannot be loaded ({first_line(error)}). Where there is a "
            f"network, run 'hf download {self.default}'; or give its folder: {self.argument}=FOLDER"
        )


def fitted(image: Image.Image, *, longest: int | None = None) -> Image.Image:
    """A picture that detectors can resize: their processors refuse or flatten sides of more than 1:100.

    Args:
        image: RGB.
        longest: pixels of the longer side, at most.

    Returns:
        The same picture, shrunk to `longest` and with its shorter side stretched to a hundredth of the longer
        one, where it has less. Places stay the same in normalised coordinates.
    """
    width, height = image.size
    scale = 1.0 if longest is None else min(1.0, longest / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    least = -(-max(width, height) // _MOST_RATIO)
    size = (max(width, least), max(height, least))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _folder_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of a checkpoint's files (hidden ones apart)."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.name}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"
