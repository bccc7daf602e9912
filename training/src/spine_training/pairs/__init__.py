"""A site's own data: image and label pairs, found in a folder, checked, and read in our numbers."""

from spine_training.pairs.errors import PairError
from spine_training.pairs.find import Pair, find_pairs
from spine_training.pairs.read import LabelledVolume, read_pair
from spine_training.pairs.tables import LabelTable, choose_table

__all__ = [
    "LabelTable",
    "LabelledVolume",
    "Pair",
    "PairError",
    "choose_table",
    "find_pairs",
    "read_pair",
]
