"""Finds a model repository and checks that all its models are complete for a profile, before Triton is
started.

Triton's own answer to a missing file is a page of log; here each problem is one sentence.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from spine_server.errors import PreconditionError
from spine_server.modes import NETWORK_DESCRIPTION
from spine_server.options import Profile
from spinecore.errors import ModelError
from spinecore.network_spec import NetworkSpec

ENTRY_MODEL = "spine_mri"
REPOSITORY_VARIABLE = "SPINESERVE_MODEL_REPOSITORY"

_DEFAULT_FILE = {"python": "model.py", "openvino": "model.xml", "tensorrt_plan": "model.plan"}
_BACKEND = {"tensorrt_plan": "tensorrt"}


@dataclass(frozen=True)
class Model:
    """One folder of the repository with the configuration that a profile takes."""

    folder: Path
    config: Any
    """`model_config_pb2.ModelConfig`"""

    @property
    def name(self) -> str:
        """Folder name, by which Triton serves the model."""
        return self.folder.name

    @property
    def kind(self) -> str:
        """``"ensemble"``, ``"python"``, ``"openvino"`` or ``"tensorrt_plan"``."""
        return str(self.config.backend or self.config.platform)

    @property
    def backend(self) -> str:
        """Name of the backend's folder that Triton looks for."""
        return _BACKEND.get(self.kind, self.kind)

    @property
    def file(self) -> Path | None:
        """The file that version 1 needs; None for an ensemble."""
        if self.kind == "ensemble":
            return None
        default = _DEFAULT_FILE.get(self.kind, "")
        return self.folder / "1" / (self.config.default_model_filename or default)

    def steps(self) -> list[str]:
        """Models this one hands its work to: an ensemble's steps, or the network that `segment` calls."""
        if self.kind == "ensemble":
            return [step.model_name for step in self.config.ensemble_scheduling.step]
        if "network" in self.config.parameters:
            return [self.config.parameters["network"].string_value]
        return []


def default_repository() -> Path:
    """The repository named by ``SPINESERVE_MODEL_REPOSITORY``, else the checkout's own, else
    ``./model_repository``.

    Raises
    ------
    PreconditionError
        None of them exists.
    """
    if named := os.environ.get(REPOSITORY_VARIABLE):
        return Path(named)
    for parent in (*Path(__file__).resolve().parents[:4], Path.cwd()):
        if (parent / "model_repository" / ENTRY_MODEL / "config.pbtxt").is_file():
            return parent / "model_repository"
    raise PreconditionError(
        [f"No model repository found; name one with --repository or {REPOSITORY_VARIABLE}."]
    )


def config_file(folder: Path, profile: Profile) -> Path:
    """The configuration that Triton takes for `profile`: ``configs/<profile>.pbtxt`` where it exists."""
    variant = folder / "configs" / f"{profile}.pbtxt"
    return variant if variant.is_file() else folder / "config.pbtxt"


def read_model(folder: Path, profile: Profile) -> Model:
    """Parse one model's configuration.

    Raises
    ------
    PreconditionError
        The configuration is missing or no valid protobuf text.
    """
    path = config_file(folder, profile)
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except FileNotFoundError:
        raise PreconditionError([f"Model {folder.name} has no {path.name}."]) from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise PreconditionError([f"Model {folder.name}: {path.name} cannot be parsed ({error})."]) from None
    return Model(folder, config)


@dataclass(frozen=True)
class Entry:
    """A model that callers send volumes to."""

    name: str
    channels: int
    """Channels its network takes."""
    report: bool
    """Whether it answers a report beside the label map."""


def entry_models(repository: Path, profile: Profile) -> tuple[Entry, ...]:
    """One entry model for each segmentation network of a complete repository; with a report where both are.

    Raises
    ------
    PreconditionError
        A configuration cannot be read.
    """
    found: dict[str, Entry] = {}
    for folder in sorted(path.parent for path in repository.glob("[!.]*/config.pbtxt")):
        model = read_model(folder, profile)
        if _is_entry(model):
            network = _network_of(repository, model, profile)
            report = any(output.name == "REPORT" for output in model.config.output)
            if network not in found or report:
                found[network] = Entry(model.name, _channels(repository, network), report)
    return tuple(found[network] for network in sorted(found))


def stage_models(repository: Path, profile: Profile) -> tuple[str, ...]:
    """All models that do work (ensembles do not), the networks before the stages that call them.

    Raises
    ------
    PreconditionError
        A configuration cannot be read.
    """
    folders = sorted(path.parent for path in repository.glob("[!.]*/config.pbtxt"))
    models = [read_model(folder, profile) for folder in folders]
    working = [model for model in models if model.kind != "ensemble"]
    return tuple(model.name for model in sorted(working, key=lambda model: len(model.steps())))


def _is_entry(model: Model) -> bool:
    outputs = {output.name for output in model.config.output}
    return model.kind == "ensemble" and "LABELS" in outputs


def _network_of(repository: Path, model: Model, profile: Profile) -> str:
    """The network that an entry's first step prepares volumes for; the entry itself where it names none."""
    first = read_model(repository / model.steps()[0], profile)
    return next(iter(first.steps()), model.name)


def _channels(repository: Path, network: str) -> int:
    description = repository / network / "1" / NETWORK_DESCRIPTION
    return len(NetworkSpec.load(description).channels) if description.is_file() else 1


def repository_problems(repository: Path, profile: Profile, *, backends: frozenset[str]) -> list[str]:
    """One sentence for each thing that keeps `repository` from being served by a Triton with `backends`."""
    if not repository.is_dir():
        return [f"The model repository {repository} does not exist."]
    models: dict[str, Model] = {}
    problems: list[str] = []
    for folder in sorted(
        path for path in repository.iterdir() if path.is_dir() and not path.name.startswith(".")
    ):
        try:
            models[folder.name] = read_model(folder, profile)
        except PreconditionError as error:
            problems.extend(error.problems)
    if not problems and not any(_is_entry(model) for model in models.values()):
        problems.append(f"{repository} holds no model {ENTRY_MODEL}; is it a SpineServe repository?")
    for model in models.values():
        problems.extend(_model_problems(model, models))
    missing = {model.backend for model in models.values()} - backends - {"ensemble"}
    return problems + [f"This Triton has no {name} backend{_where_it_is(name)}." for name in sorted(missing)]


def _model_problems(model: Model, models: dict[str, Model]) -> list[str]:
    problems = [
        f"Model {model.name} needs model {step}, which the repository lacks."
        for step in model.steps()
        if step not in models
    ]
    version = model.folder / "1"
    if not version.is_dir():
        problems.append(f"Model {model.name} has no version folder 1.")
    elif model.file is not None and not model.file.is_file():
        problems.append(f"Model {model.name} has no 1/{model.file.name}{_where_from(model)}.")
    problems.extend(
        filter(None, (_description_problem(path, model) for path in sorted(version.glob("*.json"))))
    )
    return problems


def _where_it_is(backend: str) -> str:
    if backend == "tensorrt":
        return "; the wheel carries none, the GPU profile needs NVIDIA's Triton container"
    return ""


def _where_from(model: Model) -> str:
    if model.kind == "tensorrt_plan":
        return "; build it on the GPU that serves it with spine-export"
    return "; export the network with spine-export" if model.kind == "openvino" else ""


def _description_problem(path: Path, model: Model) -> str | None:
    try:
        if path.name == NETWORK_DESCRIPTION:
            NetworkSpec.load(path)
        elif not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
            return f"Model {model.name}: 1/{path.name} must hold a JSON object."
    except ModelError as error:
        return f"Model {model.name}: {error}"
    except (OSError, ValueError):
        return f"Model {model.name}: 1/{path.name} cannot be read as JSON."
    return None
