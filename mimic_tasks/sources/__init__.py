"""Where annotated pictures come from. Every source is read into one `Source`."""

from mimic_tasks.sources.base import ImageRecord, Source, merge
from mimic_tasks.sources.coco import read_coco

__all__ = ["ImageRecord", "Source", "merge", "read_coco"]
