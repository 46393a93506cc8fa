"""Scenes: COCO-format pictures composed of emoji glyphs, so that a build needs no download.

A scene shows one to eight objects on a plain, banded or textured background. Every object is fully inside
the picture, hides little of any other and covers at least 5 % of the picture (METHODS 2), except one extra
small object in a share of the scenes. Its box is exact: the tight bounds of the pixels that the sprite
covers by half or more.

The classes follow themes, sets of two to four classes, so that a small pool serves Common and Odd-One:
pictures of a theme show nearly the same classes.
"""

from mimic_tasks.scenes.cast import scene_classes
from mimic_tasks.scenes.drawing import (
    LARGE_SHARE,
    MAX_OBJECTS,
    SMALL_SHARES,
    PixelBox,
    Scene,
    SceneObject,
    Sprite,
    draw_scene,
    render,
)
from mimic_tasks.scenes.writing import make_scenes

__all__ = [
    "LARGE_SHARE",
    "MAX_OBJECTS",
    "SMALL_SHARES",
    "PixelBox",
    "Scene",
    "SceneObject",
    "Sprite",
    "draw_scene",
    "make_scenes",
    "render",
    "scene_classes",
]
