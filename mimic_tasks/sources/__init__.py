"""Where annotated pictures come from. Every source is read into one `Source`."""

from mimic_tasks.sources.base import ImageRecord, Source
from mimic_tasks.sources.coco import read_coco
from mimic_tasks.sources.merging import merge
from mimic_tasks.sources.openimages import read_openimages

__all__ = ["ImageRecord", "Source", "merge", "read_coco", "read_openimages"]
