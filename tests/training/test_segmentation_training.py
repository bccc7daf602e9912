"""The trainer is the paper's recipe, and what it writes goes through nnU-Net's predictor and our export."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from spine_export.networks import HALF_OUTPUT_TOLERANCE, export_nnunet
from spine_export.nnunet_folder import read_results_folder
from spine_training import dataset, segment
from spine_training.cli import main
from spine_training.loss import BorderCrossEntropy
from spine_training.nnunet_trainer import CE_CLASS_WEIGHTS
from spine_training.plans import (
    DEMO_FEATURES,
    PAPER_FEATURES,
    PATCH_SIZE,
    SPACING_MM,
    STRIDES,
    NetworkSizeError,
    fixed_plans,
)
from spine_training.schedule import Schedule
from spine_training.slim import write_slim_results
from spine_training.workspace import DEMO_CONFIGURATION, PAPER_CONFIGURATION, Workspace
from spinecore.labels import Class
from spinecore.network_spec import NetworkSpec
from spinecore.phantom import PhantomConfig, make_phantom


def test_phantoms_outside_the_training_seeds_are_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--work", str(tmp_path / "w"), "data", "--first", "9990", "--training", "11"])
    assert "seeds 0 to 9999; got 11 from 9990 on" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(
            ["--work", str(tmp_path / "w"), "data", "--first", "9990", "--training", "10", "--contrast", "t1"]
        )
    assert "got 10 of contrast t1 from 9990 on" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_contrast_passes_over_the_seeds_of_others() -> None:
    seeds = dataset.training_seeds(8000, 5, ["t1"])
    between = range(8000, seeds[-1] + 1)
    assert seeds == [seed for seed in between if dataset.phantom_config(seed).contrast == "t1"]
    assert len(seeds) == 5 < len(between)
    assert dataset.training_seeds(8000, 5) == [8000, 8001, 8002, 8003, 8004]


def test_the_plans_are_the_papers(tiny_workspace: Workspace) -> None:
    plans = fixed_plans(json.loads(tiny_workspace.plans_file.read_text()))
    paper = plans["configurations"][PAPER_CONFIGURATION]
    assert paper["patch_size"] == list(PATCH_SIZE) == [128, 128, 64]
    assert paper["spacing"] == list(SPACING_MM) == [1.25, 1.25, 1.25]
    assert paper["batch_size"] == 2
    network = paper["architecture"]["arch_kwargs"]
    assert network["features_per_stage"] == list(PAPER_FEATURES)
    assert (min(PAPER_FEATURES), max(PAPER_FEATURES)) == (32, 320)
    assert network["kernel_sizes"] == [[3, 3, 3]] * 6
    downsampling = np.prod(np.array(STRIDES), axis=0)
    assert all(size % step == 0 for size, step in zip(PATCH_SIZE, downsampling, strict=True))
    demo = plans["configurations"][DEMO_CONFIGURATION]
    assert demo["inherits_from"] == PAPER_CONFIGURATION
    assert demo["architecture"]["arch_kwargs"]["features_per_stage"] == list(DEMO_FEATURES)


def test_the_loss_is_seven_to_three_with_heavier_anchors(tiny_workspace: Workspace) -> None:
    trainer = segment.make_trainer(tiny_workspace, DEMO_CONFIGURATION)
    trainer.enable_deep_supervision = False
    loss = trainer._build_loss()
    logits = torch.randn(2, 6, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 6, (2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([CE_CLASS_WEIGHTS.get(cls, 1.0) for cls in Class])
    entropy = BorderCrossEntropy(weights)(logits, target)
    share = torch.softmax(logits, dim=1)[:, 1:]
    truth = torch.nn.functional.one_hot(target[:, 0], 6).movedim(-1, 1)[:, 1:].float()
    axes = (2, 3, 4)
    overlap = 2 * (share * truth).sum(axes) / (share.sum(axes) + truth.sum(axes))
    assert float(loss(logits, target)) == pytest.approx(float(0.3 * entropy - 0.7 * overlap.mean()), abs=1e-5)


def test_optimiser_and_decay_are_the_papers(tiny_workspace: Workspace) -> None:
    trainer = segment.make_trainer(tiny_workspace, DEMO_CONFIGURATION)
    trainer.initialize()
    settings = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert (trainer.initial_lr, settings["momentum"], settings["nesterov"]) == (0.01, 0.99, True)
    schedule = Schedule(epochs=10, iterations_per_epoch=10, spent_iterations=75)
    assert schedule.learning_rate(0.01) == pytest.approx(0.01 * 0.25**0.9)


def test_patches_grow_over_the_warm_up() -> None:
    schedule = Schedule(epochs=10, iterations_per_epoch=10, warm_up=0.5)
    sizes = []
    for schedule.spent_iterations in (0, 24, 25, 49, 50):
        sizes.append(schedule.patch_quarters())
    assert sizes == [2, 2, 3, 3, 4]
    schedule.spent_iterations, schedule.smallest_quarters = 0, 3
    assert schedule.patch_quarters() == 3


def test_a_schedule_by_the_clock_ends_at_its_budget() -> None:
    schedule = Schedule(budget_s=100.0, spent_s=100.0)
    assert schedule.finished()
    assert schedule.learning_rate(0.01) == 0.0


def test_gradients_by_sample_equal_those_of_the_batch(tiny_workspace: Workspace) -> None:
    trainer = segment.make_trainer(tiny_workspace, DEMO_CONFIGURATION)
    trainer.initialize()
    trainer.network.train()
    generator = torch.Generator().manual_seed(5)
    data = torch.randn(2, 1, 32, 32, 16, generator=generator)
    target = [torch.randint(0, 6, (2, 1, 32, 32, 16), generator=generator)]
    with pytest.MonkeyPatch.context() as patch:  # in float32, so that the two ways may be compared closely
        patch.setattr("spine_training.nnunet_trainer.cpu_autocast", torch.enable_grad)
        trainer._accumulate_gradients(data, target)
    threaded = [p.grad.clone() for p in trainer.network.parameters() if p.grad is not None]
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.loss(trainer.network(data), target).backward()
    whole = [p.grad for p in trainer.network.parameters() if p.grad is not None]
    assert len(threaded) == len(whole) > 0
    for ours, theirs in zip(threaded, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)


def test_training_writes_a_curve_and_a_final_checkpoint(tiny_results: Path) -> None:
    with (tiny_results / "fold_0" / "curve.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["iterations"] for row in rows] == ["2"]
    assert np.isfinite(float(rows[0]["train_loss"]))
    assert (tiny_results / "fold_0" / "checkpoint_final.pth").is_file()


def test_the_running_average_of_the_weights_is_what_is_kept(tiny_results: Path) -> None:
    state = torch.load(tiny_results / "fold_0" / "checkpoint_final.pth", weights_only=False)
    for name, kept in state["network_weights"].items():
        assert torch.equal(kept, state["spine_average"][f"module.{name}"])


def test_training_resumes_where_it_stopped(tiny_workspace: Workspace, tiny_results: Path) -> None:
    trainer = segment.make_trainer(tiny_workspace, DEMO_CONFIGURATION)
    trainer.load_checkpoint(str(tiny_results / "fold_0" / "checkpoint_final.pth"))
    assert trainer.current_epoch == 1
    assert trainer.schedule.spent_iterations == 2


def test_a_training_may_start_from_a_results_folder(
    tiny_workspace: Workspace, tiny_results: Path, tmp_path: Path
) -> None:
    slim = write_slim_results(tiny_results, tmp_path / "slim")
    trainer = segment.make_trainer(tiny_workspace, DEMO_CONFIGURATION)
    trainer.initialize()
    trainer.start_from(segment.weights_of(slim))
    kept = torch.load(tiny_results / "fold_0" / "checkpoint_final.pth", weights_only=False)["spine_average"]
    for name, weight in trainer.network.state_dict().items():
        torch.testing.assert_close(weight, kept[f"module.{name}"], rtol=1e-3, atol=1e-4)
        assert torch.equal(weight, trainer._average.module.state_dict()[name])
    with pytest.raises(NetworkSizeError, match="results folder"):
        segment.weights_of(tmp_path)


def test_nnunets_own_predictor_loads_the_results(tiny_workspace: Workspace, tiny_results: Path) -> None:
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=True, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(tiny_results), use_folds=(0,))
    assert predictor.trainer_name == "SpineTrainer"
    assert predictor.allowed_mirroring_axes is None


def test_results_to_slim_checkpoint_to_onnx_equals_torch(tiny_results: Path, tmp_path: Path) -> None:
    slim = write_slim_results(tiny_results, tmp_path / "slim")
    state = torch.load(slim / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert all(value.dtype == torch.float16 for value in state["network_weights"].values())
    done = export_nnunet(slim, repository=tmp_path / "repository")
    spec = NetworkSpec.load(done.folder / "network.json")
    assert (spec.patch_size, spec.reader, spec.mirror_axes) == ((32, 32, 16), "reorient_ras", ())
    assert spec.roles == {1: "vertebra", 2: "disc", 3: "canal", 4: "sacrum", 5: "c2"}
    assert done.difference.largest <= HALF_OUTPUT_TOLERANCE * max(done.difference.scale, 1.0)
    patch = np.random.default_rng(0).standard_normal((3, 1, 32, 32, 16), dtype=np.float32)
    session = onnxruntime.InferenceSession(done.folder / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["LOGITS"], {"PATCH": patch})
    with torch.inference_mode():
        original = read_results_folder(tiny_results).network(torch.from_numpy(patch)).numpy()
    assert logits.dtype == np.float16
    assert np.abs(logits.astype(np.float32) - original).max() <= 0.02 * np.abs(original).max()


def test_seeds_stay_in_their_split() -> None:
    assert dataset.case_name(42) == "train_00042"
    assert dataset.case_name(10_007) == "val_10007"
    with pytest.raises(ValueError, match="900000"):
        dataset.case_name(900_000)
    assert dataset.phantom_config(42) == dataset.phantom_config(42)


def test_lengths_are_learnt_from_narrow_canals_as_often_as_usual() -> None:
    usual = PhantomConfig(seed=0)
    for seed in range(20):
        many, config = dataset.phantom_config(seed), dataset.usual_phantom_config(seed)
        assert (config.stenosis, config.bulge) == (usual.stenosis, usual.bulge)
        assert (config.seed, config.region, config.contrast) == (seed, many.region, many.contrast)
    assert np.mean([dataset.phantom_config(seed).stenosis for seed in range(20)]) > 1.5 * usual.stenosis


def test_the_measurement_cnn_learns_from_degenerated_spines_too() -> None:
    """A third, as many as the held-out phantoms and those of the calibration have."""
    for seed in range(12):
        usual, measured = dataset.usual_phantom_config(seed), dataset.measured_phantom_config(seed)
        assert measured == (usual if seed % 3 else dataset.degenerated(usual))


def test_phantoms_drawn_ahead_are_those_asked_for_in_their_order() -> None:
    small = {"spacing_mm": (3.0, 3.0, 3.0), "fov_mm": (90.0, 90.0, 60.0)}
    configs = [PhantomConfig(seed=seed, **small) for seed in range(6)]  # type: ignore[arg-type]
    drawn = list(dataset.drawn_ahead(iter(configs)))
    assert [phantom.config.seed for phantom in drawn] == list(range(6))
    assert np.array_equal(drawn[4].image, make_phantom(configs[4]).image)
    assert list(dataset.drawn_ahead([])) == []
