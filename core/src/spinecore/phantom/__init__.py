"""Procedural spine phantoms: an MR-like image, its labels, and the true measurements of its own geometry.

>>> from spinecore.phantom import PhantomConfig, make_phantom
>>> phantom = make_phantom(PhantomConfig(seed=7, region="lumbar", contrast="t2"))
>>> [(d.name, round(d.mean_mm, 1)) for d in phantom.truth.discs if d.complete]  # doctest: +SKIP
"""

from spinecore.phantom.config import CONTRASTS, REGIONS, SMALL_LUMBAR, Contrast, PhantomConfig, Region
from spinecore.phantom.make import AnatomyGrid, Phantom, draw_anatomy, draw_image, make_phantom
from spinecore.phantom.truth import DiscTruth, PhantomTruth, VertebraTruth

__all__ = [
    "CONTRASTS",
    "REGIONS",
    "SMALL_LUMBAR",
    "AnatomyGrid",
    "Contrast",
    "DiscTruth",
    "Phantom",
    "PhantomConfig",
    "PhantomTruth",
    "Region",
    "VertebraTruth",
    "draw_anatomy",
    "draw_image",
    "make_phantom",
]
