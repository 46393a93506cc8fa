"""The MIMIC benchmark: built from COCO boxes under exact control, scored, and registered with lmms-eval."""
