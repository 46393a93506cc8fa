"""The model of a study's cells: loaded once for all cells that differ in nothing of how it is loaded."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mimic_eval.cli.reproducing.plan import arguments_of, needs_sinks
from mimic_eval.records import UserError
from mimic_eval.studies import Cell, Study

if TYPE_CHECKING:
    from model_adapters.adapter import MaskedModel

_FREE = ("batch_size",)
"""Arguments of how a model is loaded in which cells may differ: the larger batches go on with what fits."""


class LoadedModel:
    """One model at a time; another one replaces it."""

    def __init__(self) -> None:
        self._model: MaskedModel | None = None
        self._key: tuple[Any, ...] = ()

    def load(self, name: str, given: Mapping[str, Any]) -> "MaskedModel":
        """A model that answers with the arguments.

        Args:
            name: of lmms_eval.
            given: its arguments.

        Raises:
            UserError: an argument or a checkpoint that does not fit.
        """
        model = self.loaded(name, given)
        model.change(**self._with_batch(model, given))
        return model

    def loaded(self, name: str, given: Mapping[str, Any]) -> "MaskedModel":
        """The same with whatever arguments it had last.

        Raises:
            UserError: a checkpoint that cannot be loaded.
        """
        from model_adapters.memory import release
        from model_adapters.models import model_class
        from model_adapters.options import OF_LOADING, AdapterOptions

        general = AdapterOptions.parse(given).general
        own = {key: getattr(general, key) for key in OF_LOADING}
        key = (name, *(value for argument, value in own.items() if argument not in _FREE))
        if self._model is None or self._key != key:
            self._model = None
            release()
            self._model = model_class(name)(**_of_loading(given))
            self._model.clean = _nothing  # upstream drops the weights after each evaluation
            self._key = key
        return self._model

    def plain(self, name: str, given: Mapping[str, Any]) -> "MaskedModel":
        """The same without a mask and without a journal.

        Raises:
            UserError: as `loaded`.
        """
        model = self.loaded(name, given)
        model.change(**self._with_batch(model, _of_loading(given)))
        return model

    @staticmethod
    def _with_batch(model: "MaskedModel", given: Mapping[str, Any]) -> dict[str, Any]:
        return {**given, "batch_size": model.options.general.batch_size}


def _of_loading(given: Mapping[str, Any]) -> dict[str, Any]:
    from model_adapters.options import OF_LOADING

    chosen = {name: given[name] for name in OF_LOADING if given.get(name) is not None}
    return {**chosen, "mask": "none", "journal": False}


def _nothing() -> None:
    """Instead of upstream's `clean`."""


def check_cells(models: LoadedModel, cells: Sequence[Cell]) -> dict[str, str]:
    """Why a loaded model cannot run some cells, by their names; empty if it can run all.

    Args:
        models: load the cells' entry.
        cells: of one entry.
    """
    from model_adapters.options import parse_arg_string
    from model_adapters.passes import has_several

    refused = {}
    for cell in cells:
        given = parse_arg_string(arguments_of(cell), {})
        try:
            model = models.load(cell.entry.model, {**given, "journal": False})
        except UserError as error:
            refused[cell.name] = str(error)
            continue
        if cell.measure == "attention" and has_several(model.answerer.passes):
            refused[cell.name] = "measure: attention is of one pass, and this mask has several for each doc"
    return refused


def calibrate_sinks(models: LoadedModel, cells: Sequence[Cell], study: Study) -> str | None:
    """Calibrate the sinks of an entry's model if a cell needs them and there is no calibration.

    Returns:
        A line that says so, or None.

    Raises:
        UserError: it cannot be made.
    """
    wanted = [cell for cell in cells if needs_sinks(cell) or _watches_sinks(cell, study)]
    if not wanted:
        return None
    from mimic_eval.cli.calibrate import embedded_docs
    from model_adapters import sinks
    from model_adapters.options import parse_arg_string

    given = parse_arg_string(arguments_of(wanted[0]), {})
    model = models.plain(wanted[0].entry.model, given)
    path = sinks.default_path(model.model)
    if path.is_file():
        return None
    pretrained = given.get("pretrained")
    with sinks.calibrating_with(embedded_docs):
        made = sinks.find_or_make_calibration(model.model, model.family, pretrained=pretrained)
    return (
        f"{wanted[0].entry.name}: no calibration found: one was made from {made.corpus.docs} "
        f"{made.corpus.source} docs ({len(made.dimensions)} sink dimensions, {path})"
    )


def _watches_sinks(cell: Cell, study: Study) -> bool:
    """Whether `mimic diagnose` looks for sinks in a cell whose mask needs none."""
    given = str(study.attention.get("sinks", ""))
    return cell.measure == "attention" and given != "off" and "calibration=" not in given
