"""The networks that answer in each mode: leaf models named after the network they stand beside.

==================  =============================================================================
``<network>``       mode ``default``, in the precision its engine is fastest in
``<network>_exact`` mode ``exact``, in float32. In the repository, or laid beside it at start
                    (`exact_leaf`); a network that was exported in float32 needs none
``<network>_fast``  mode ``fast``, in INT8; without one the network itself
``<network>_scout`` the small network of mode ``fast``'s coarse pass; without one the network itself
==================  =============================================================================

The stages import this file: nothing heavy belongs into it.
"""

from __future__ import annotations

from pathlib import Path

from spinecore.errors import InputError, ModelError
from spinecore.network_spec import NetworkSpec

EXACT, FAST, SCOUT = "exact", "fast", "scout"
OVERLAY = "exact"
"""Folder of the run folder with the models that `exact_leaf` makes: a second model repository."""
NETWORK_DESCRIPTION = "network.json"


def leaf_name(network: str, mode: str) -> str:
    """Name of the model beside `network` that is for `mode`."""
    return f"{network}_{mode}"


class Leaves:
    """The models beside one network, as they are found in the `folders` (model repositories) at start.

    Raises ModelError where one of them has another grid or other classes than the network.
    """

    def __init__(self, network: str, spec: NetworkSpec, folders: tuple[Path, ...]) -> None:
        self._network, self._spec = network, spec
        found = {mode: _described(folders, leaf_name(network, mode)) for mode in (EXACT, FAST, SCOUT)}
        self._offered = {mode for mode in (EXACT, FAST) if found[mode] is not None}
        for mode in self._offered:
            _check_alike(found[mode], spec)
        self.scout = found[SCOUT]
        """Description of the scout, or None; its model is `scout_name`."""
        self.scout_name = leaf_name(network, SCOUT)

    def name_for(self, mode: str) -> str:
        """The model that answers in `mode`; InputError ``mode_unavailable`` where there is none."""
        if mode in self._offered:
            return leaf_name(self._network, mode)
        if mode == EXACT and self._spec.precision != "fp32":
            raise InputError(
                "mode_unavailable",
                "This server does not offer the mode exact; start it with spine-server --exact.",
            )
        return self._network


def _described(folders: tuple[Path, ...], name: str) -> NetworkSpec | None:
    for folder in folders:
        path = folder / name / "1" / NETWORK_DESCRIPTION
        if path.is_file():
            return NetworkSpec.load(path)
    return None


def _check_alike(leaf: NetworkSpec | None, spec: NetworkSpec) -> None:
    alike = ("spacing_mm", "patch_size", "transpose_forward", "num_outputs", "folds")
    if leaf is not None and any(getattr(leaf, name) != getattr(spec, name) for name in alike):
        raise ModelError(f"The networks {leaf.name!r} and {spec.name!r} stand beside each other but differ.")
