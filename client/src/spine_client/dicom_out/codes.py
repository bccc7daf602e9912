"""The codes of structures and measurements.

Named vertebrae and discs, canal and sacrum carry SNOMED CT codes (CID 7603, 7604, 6115). What has no ready
code carries one of the private scheme `PRIVATE_SCHEME`:

=============  ============================================================================================
DISC           intervertebral disc whose level is not known
CANAL_AP       anteroposterior diameter of the spinal canal at a disc, perpendicular to the canal in the
               midsagittal plane
MIDDLE         half way between the anterior and the posterior edge of a disc
GEOMETRIC      measured on the segmentation: between the endplates, or across the canal label
CNN            estimated by a convolutional network from the image and the segmentation around the disc
COMBINED       both of them, weighted by what is known of their errors
=============  ============================================================================================
"""

from __future__ import annotations

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from spine_client._contract import CANAL_LABEL, DISC_OFFSET, SACRUM_LABEL

PRIVATE_SCHEME = "99SPINESERVE"
PRIVATE_SCHEME_NAME = "SpineServe private codes"

UNNAMED_DISC = Code("DISC", PRIVATE_SCHEME, "Intervertebral disc, level not known")
CANAL_AP = Code("CANAL_AP", PRIVATE_SCHEME, "Spinal canal anteroposterior diameter")
MIDDLE = Code("MIDDLE", PRIVATE_SCHEME, "Middle of disc")
GEOMETRIC = Code("GEOMETRIC", PRIVATE_SCHEME, "Geometric measurement on segmentation")
CNN = Code("CNN", PRIVATE_SCHEME, "Convolutional network estimate")
COMBINED = Code("COMBINED", PRIVATE_SCHEME, "Combined geometric and network estimate")

SACRUM: Code = codes.SCT.Sacrum
VERTEBRA: Code = codes.SCT.Vertebra
CATEGORY = codes.SCT.AnatomicalStructure
CANAL: Code = codes.cid6115.VertebralCanal
HEIGHT = codes.cid7470.Height
MEAN = codes.SCT.Mean
ANTERIOR, POSTERIOR = codes.SCT.Anterior, codes.SCT.Posterior
MILLIMETRE = Code("mm", "UCUM", "millimeter")
PROCEDURE = codes.cid100.MRIUnspecifiedBodyRegion
ALGORITHM_FAMILY = codes.cid7162.ArtificialIntelligence
DEVICE = codes.DCM.Device


def vertebra_code(name: str | None) -> Code:
    """Code of a vertebra by its name; of any vertebra where it has none, or the list lacks it (L6, T13)."""
    if name == "S1":
        return SACRUM
    return _from_list("cid7603", f"{name}Vertebra") or VERTEBRA


def disc_code(name: str | None) -> Code:
    """Code of a disc by its name, e.g. ``"L4/L5"``."""
    return _from_list("cid7604", f"{(name or '').replace('/', '')}Disc") or UNNAMED_DISC


def structure_code(label: int, name: str | None) -> Code:
    """Code of a label of the label map; `name` as in the report, None for unnamed levels."""
    if label == CANAL_LABEL:
        return CANAL
    if label == SACRUM_LABEL:
        return SACRUM
    return disc_code(name) if label > DISC_OFFSET else vertebra_code(name)


def _from_list(context_group: str, keyword: str) -> Code | None:
    code: Code | None = getattr(getattr(codes, context_group), keyword, None)
    return code
