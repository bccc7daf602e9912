"""The exact leaves that ``spine-server --exact`` lays beside a repository whose networks have none."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]

from spine_server.errors import PreconditionError
from spine_server.modes import EXACT, FAST, NETWORK_DESCRIPTION, OVERLAY, SCOUT, leaf_name
from spine_server.options import Profile
from spine_server.repository import Model, read_model
from spinecore.network_spec import NetworkSpec

_FLOAT_FILE = "model.onnx"
_PRECISION_HINT = "INFERENCE_PRECISION_HINT"


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
