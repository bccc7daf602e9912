"""The networks that answer in each mode: leaf models named after the network they stand beside.

==================  =============================================================================
``<network>``       mode ``default``, in the precision its engine is fastest in
``<network>_exact`` mode ``exact``, in float32. In the repository, or laid beside it at start
                    (`lay_out_exact`); a network that was exported in float32 needs none
``<network>_fast``  mode ``fast``, in INT8; without one the network itself
``<network>_scout`` the small network of mode ``fast``'s coarse pass; without one the network itself
==================  =============================================================================
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]

from spine_server.errors import PreconditionError
from spine_server.options import Profile
from spine_server.repository import NETWORK_DESCRIPTION, Model, read_model
from spinecore.errors import InputError, ModelError
from spinecore.network_spec import NetworkSpec

EXACT, FAST, SCOUT = "exact", "fast", "scout"
OVERLAY = "exact"
"""Folder of the run folder with the models that `lay_out_exact` makes: a second model repository."""
_FLOAT_FILE = "model.onnx"
_PRECISION_HINT = "INFERENCE_PRECISION_HINT"


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


def lay_out_exact(folder: Path, repository: Path, profile: Profile) -> Path | None:
    """Make a second model repository in `folder`, with an exact leaf for each network that has none.

    The leaf is the same file, held to float32; nothing is copied. None where no leaf is missing.
    PreconditionError on the GPU, where float32 takes an engine of its own.
    """
    missing = [model for model in _networks(repository, profile) if _lacks_exact(model)]
    if not missing:
        return None
    if profile == "gpu":
        names = ", ".join(leaf_name(model.name, EXACT) for model in missing)
        raise PreconditionError(
            [f"--exact on the GPU needs float32 engines in the repository, which lacks {names}; make them "
             "with spine-export nnunet --precision fp32 --leaf exact --target tensorrt."]
        )  # fmt: skip
    overlay = folder / OVERLAY
    for model in missing:
        leaf = overlay / leaf_name(model.name, EXACT)
        leaf.mkdir(parents=True)
        (leaf / "1").symlink_to((model.folder / "1").resolve())
        (leaf / "config.pbtxt").write_text(_exact_config(model), encoding="utf-8")
    return overlay


def _networks(repository: Path, profile: Profile) -> list[Model]:
    """The networks themselves, without their leaves."""
    folders = sorted(path.parents[1] for path in repository.glob(f"[!.]*/1/{NETWORK_DESCRIPTION}"))
    names = {folder.name for folder in folders}
    leaves = {leaf_name(name, mode) for name in names for mode in (EXACT, FAST, SCOUT)}
    return [read_model(folder, profile) for folder in folders if folder.name not in leaves]


def _lacks_exact(model: Model) -> bool:
    beside = model.folder.parent / leaf_name(model.name, EXACT)
    spec = NetworkSpec.load(model.folder / "1" / NETWORK_DESCRIPTION)
    return spec.precision != "fp32" and not beside.exists()


def _exact_config(model: Model) -> str:
    """The network's own configuration, held to float32, of the file whose weights are no 8-bit numbers."""
    config = type(model.config)()
    config.CopyFrom(model.config)
    config.name = ""
    config.default_model_filename = _FLOAT_FILE
    config.parameters[_PRECISION_HINT].string_value = "f32"
    text: str = text_format.MessageToString(config)
    return text
