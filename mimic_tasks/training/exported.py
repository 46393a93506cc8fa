"""Reading what `mimic export-training` wrote: which pictures its records name."""

from pathlib import Path

from mimic_eval.records import UserError
from mimic_eval.records.reading import read_json

ARGUMENTS, MANIFEST, MIXTURE = "arguments.json", "manifest.json", "mixture.yaml"
"""What the folder is written from; what was written; the mixture, written last."""


def exported_pictures(folder: Path) -> dict[str, Path] | None:
    """The file of each picture that an export's records name, by its name there; None if it is no export.

    Raises:
        UserError: an export that is not finished, a file of it that cannot be read, or a picture that is
            not there.
    """
    if not (folder / MIXTURE).is_file():
        if (folder / ARGUMENTS).is_file():
            raise UserError(
                f"{folder} is a training export that is not finished: run its command again to complete it"
            )
        return None
    manifest = read_json(folder / MANIFEST)
    try:
        images = Path(manifest["image_folder"])
        files = [folder / task["file"] for task in manifest["tasks"].values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST}: is not a training export's (it lacks {error})") from error
    paths: dict[str, Path] = {}
    for file in files:
        try:
            records = read_json(file, most=1 << 32)
            names = {name: images / name for record in records for name in record["image"]}
        except (KeyError, TypeError) as error:
            raise UserError(f"{file}: holds no records that name their pictures ({error})") from error
        paths.update(names)
    missing = next((name for name, path in paths.items() if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"{folder} names the picture {missing}, which is not in its image folder {images}")
    return paths
