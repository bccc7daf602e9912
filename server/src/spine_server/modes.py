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

EXACT, FAST, SCOUT = LEAVES = ("exact", "fast", "scout")
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
        self._offered: dict[str, NetworkSpec] = {}
        for mode in (EXACT, FAST):
            if (leaf := _described(folders, leaf_name(network, mode))) is not None:
                check_alike(leaf, spec)
                self._offered[mode] = leaf
        self.scout = _described(folders, leaf_name(network, SCOUT))
        """Description of the scout, or None; its model is `scout_name`."""
        self.scout_name = leaf_name(network, SCOUT)

    def answering(self, mode: str) -> tuple[str, NetworkSpec]:
        """Name and description of the model that answers in `mode`; InputError ``mode_unavailable``."""
        if (leaf := self._offered.get(mode)) is not None:
            return leaf_name(self._network, mode), leaf
        if mode == EXACT and self._spec.precision != "fp32":
            raise InputError(
                "mode_unavailable",
                "This server does not offer the mode exact; start it with spine-server --exact.",
            )
        return self._network, self._spec


def _described(folders: tuple[Path, ...], name: str) -> NetworkSpec | None:
    for folder in folders:
        path = folder / name / "1" / NETWORK_DESCRIPTION
        if path.is_file():
            return NetworkSpec.load(path)
    return None


def check_alike(leaf: NetworkSpec, spec: NetworkSpec) -> None:
    """ModelError where `leaf` cannot answer in place of the network of `spec`."""
    alike = ("reader", "spacing_mm", "patch_size", "transpose_forward", "num_outputs")
    if different := [name for name in alike if getattr(leaf, name) != getattr(spec, name)]:
        raise ModelError(
            f"The network {leaf.name!r} cannot stand beside {spec.name!r}: they differ in "
            f"{', '.join(different)}."
        )
