"""The measurement CNN is the paper's, its samples carry the phantom's truth, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from spine_training.dataset import SamplesError
from spine_training.demo import export_demo
from spine_training.measurement import checkpoint, samples
from spine_training.measurement.network import TARGETS, MeasurementNet
from spine_training.measurement.perturb import perturb
from spine_training.measurement.samples import Samples, join
from spine_training.measurement.train import (
    BATCH_SIZE,
    CHECKPOINT,
    _Run,
    cached_samples,
    evaluate,
    measure,
    straighten,
    train_measurement,
)
from spine_training.workspace import Workspace
from spinecore.disc_frame import DiscFrame
from spinecore.errors import ModelError
from spinecore.patches import DISC_SPACING_MM, POSTERIOR_SHIFT_MM
from spinecore.phantom import Phantom, PhantomConfig, make_phantom


def test_the_network_is_the_papers() -> None:
    network = MeasurementNet()
    for part in network.parts.values():
        assert len(part.blocks) == 5
        for block in part.blocks:
            kinds = [type(layer) for layer in block]
            assert kinds == [nn.Conv3d, nn.BatchNorm3d, nn.ReLU, nn.MaxPool3d]
            assert (block[0].kernel_size, block[0].stride, block[3].kernel_size) == ((3, 3, 3), (1, 1, 1), 2)
        assert [layer.p for layer in part.hidden if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
    heights, canal = network.eval()(torch.zeros(2, 8, 64, 64, 32))
    assert (heights.shape, canal.shape) == ((2, 4), (2, 1))


def test_the_optimiser_is_the_papers(tmp_path: Path) -> None:
    run = _Run(MeasurementNet(), torch.Generator(), tmp_path)
    rates = []
    for _ in range(21):
        rates.append(run.optimizer.param_groups[0]["lr"])
        run.optimizer.step()
        run.decay.step()
    assert isinstance(run.optimizer, torch.optim.Adam)
    assert run.optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert [rates[0], rates[10], rates[20]] == pytest.approx([1e-3, 0.9e-3, 0.81e-3])


def test_samples_show_their_disc_and_carry_its_truth() -> None:
    phantom = make_phantom(PhantomConfig(seed=11, region="lumbar", contrast="t2", spacing_mm=(1.5, 1.5, 1.5)))
    cut = list(samples.jittered_patches(phantom, np.random.default_rng(0)))
    complete = [disc for disc in phantom.truth.discs if disc.complete]
    assert len(cut) == len(complete) > 0
    for (patch, wanted), disc in zip(cut, complete, strict=True):
        assert patch.shape == (8, 64, 64, 32)
        np.testing.assert_allclose(
            wanted,
            [disc.anterior_mm, disc.middle_mm, disc.posterior_mm, disc.mean_mm, disc.canal_ap_mm],
            rtol=1e-6,
        )
        own = round((64 - 1) / 2 + POSTERIOR_SHIFT_MM / DISC_SPACING_MM[1])  # the disc's centre
        middle = patch[2, :, own : own + 2, 15:17].mean(axis=(1, 2))
        assert middle.sum() * DISC_SPACING_MM[0] == pytest.approx(disc.middle_mm, abs=3.0)


def test_served_samples_pair_found_discs_with_their_truth() -> None:
    phantom = make_phantom(PhantomConfig(seed=11, region="lumbar", contrast="t2", spacing_mm=(1.5, 1.5, 1.5)))
    cut = list(samples.served_patches(phantom, phantom.classes))
    truths = {tuple(samples.target(disc)) for disc in phantom.truth.discs if disc.complete}
    assert len(cut) >= len(truths) - 1
    assert {tuple(wanted) for _, wanted in cut} <= truths


def test_jitter_stays_within_its_bounds() -> None:
    frame = DiscFrame(
        np.array([5.0, -3.0, 9.0]),
        np.array([0.0, 0.0, 1.0]),
        np.array([0.0, -1.0, 0.0]),
        np.array([1.0, 0.0, 0.0]),
    )
    rng = np.random.default_rng(2)
    for _ in range(50):
        moved = samples.jittered(frame, rng)
        assert np.abs(frame.from_lps(moved.origin_mm)).max() <= samples.SHIFT_MM
        np.testing.assert_allclose(moved.axes.T @ moved.axes, np.eye(3), atol=1e-12)
        assert np.degrees(np.arccos(moved.e_s @ frame.e_s)) < 9.0


def test_perturbed_masks_stay_masks_about_where_they_were() -> None:
    masks = torch.zeros(8, 3, 64, 64, 32)
    masks[:, :, 20:40, 20:40, 8:24] = 1.0
    patches = perturb(torch.randn(8, 64, 64, 32), masks, torch.Generator().manual_seed(0))
    changed = patches[:, 1:]
    assert changed.min() >= 0
    assert changed.max() <= 1
    kept = changed.amax(dim=(2, 3, 4)) > 0
    overlap = ((changed > 0.5) & (masks > 0.5)).sum(dim=(2, 3, 4)) / masks.sum(dim=(2, 3, 4))
    assert overlap[kept].min() > 0.75


def test_samples_survive_the_disc(tmp_path: Path) -> None:
    made = _bars(3)
    made.save(tmp_path / "a.npz")
    read = Samples.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(read.masks, made.masks)
    np.testing.assert_array_equal(read.targets, made.targets)
    Samples(made.images[:, 0], made.masks[:, 0], made.targets).save(tmp_path / "old.npz")
    with pytest.raises(SamplesError, match="delete its folder"):
        Samples.load(tmp_path / "old.npz")


def test_a_phantom_without_a_disc_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def none(phantom: Phantom, **_: object) -> Samples:
        drawn.append(phantom.config.seed)
        return Samples.from_patches([], [])

    monkeypatch.setattr("spine_training.measurement.train.samples_of", none)
    for _ in range(2):
        (found,) = cached_samples(tmp_path, [5], None)
        assert len(join([found, _bars(2)])) == 2
    assert drawn == [5]


def test_training_learns_a_thickness(tmp_path: Path) -> None:
    torch.manual_seed(0)
    bars = _bars(2 * BATCH_SIZE)
    spread = {
        "target_mean": bars.targets.mean(0).tolist(),
        "target_std": (bars.targets.std(0) + 1e-3).tolist(),
    }
    run = _Run(MeasurementNet(**spread), torch.Generator().manual_seed(0), tmp_path)
    losses = []
    for _ in range(3):
        losses += [run.step(*batch) for batch in run.batches(bars)]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    run.epoch(0, bars, bars)
    kept = torch.load(tmp_path / "measurement.pt", weights_only=True)["notes"]["validation_mse_mm2"]
    assert evaluate(checkpoint.load(tmp_path / "measurement.pt"), bars).tolist() == pytest.approx(
        list(kept.values())
    )
    assert (
        (tmp_path / "curve.csv")
        .read_text()
        .splitlines()[0]
        .endswith(",".join(f"val_mse_{t}" for t in TARGETS[-1:]))
    )


def test_a_training_begins_with_the_given_checkpoint(tmp_path: Path) -> None:
    """And keeps nothing that is worse; one that was begun goes on from its own."""
    torch.manual_seed(4)
    given = tmp_path / "given.pt"
    checkpoint.save(given, MeasurementNet(target_mean=(8,) * 5, target_std=(3,) * 5))
    bars = _bars(BATCH_SIZE)
    chosen = {"phantoms": 0, "own": (bars, bars), "start_from": given}
    kept = train_measurement(tmp_path / "run", epochs=0, **chosen)
    np.testing.assert_array_equal(measure(checkpoint.load(kept), bars), measure(checkpoint.load(given), bars))
    train_measurement(tmp_path / "run", epochs=1, learning_rate=1e3, **chosen)
    np.testing.assert_array_equal(measure(checkpoint.load(kept), bars), measure(checkpoint.load(given), bars))


def test_one_part_is_trained_and_the_other_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(4)
    given = tmp_path / "given.pt"
    checkpoint.save(given, MeasurementNet(target_mean=(8,) * 5, target_std=(3,) * 5))
    bars = _bars(2 * BATCH_SIZE)
    kept = train_measurement(
        tmp_path / "run", phantoms=0, epochs=2, own=(bars, bars), start_from=given, only="canal_ap"
    )
    before, after = (measure(checkpoint.load(path), bars) for path in (given, kept))
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    error = [np.square(found[:, 4] - bars.targets[:, 4]).mean() for found in (before, after)]
    assert error[1] < error[0]
    assert list(checkpoint.notes(kept)["epochs"]) == ["canal_ap"]


def test_each_part_is_kept_as_it_was_in_its_own_best_epoch(tmp_path: Path) -> None:
    """The canal gets worse in the second epoch, the heights in the first."""
    torch.manual_seed(0)
    run = _Run(MeasurementNet(), torch.Generator(), tmp_path)
    bars = _bars(BATCH_SIZE)
    answers = []
    for epoch, better in enumerate(("canal_ap", "disc_height")):
        run.begin_with(np.where([better == "disc_height"] * 4 + [better == "canal_ap"], 1e6, 0.0))
        run.epoch(epoch, bars, bars)
        answers.append(measure(cast("MeasurementNet", run.average.module), bars))
    found = measure(checkpoint.load(tmp_path / CHECKPOINT), bars)
    np.testing.assert_allclose(found[:, 4], answers[0][:, 4], rtol=1e-5)
    np.testing.assert_allclose(found[:, :4], answers[1][:, :4], rtol=1e-5)
    assert checkpoint.notes(tmp_path / CHECKPOINT)["epochs"] == {"canal_ap": 0, "disc_height": 1}


def test_a_checkpoint_of_one_trunk_is_refused_but_begins_a_training_with_it_in_both_parts(
    tmp_path: Path,
) -> None:
    """Format 1, the paper's CNN on one patch: of that patch the same answers as before."""
    torch.manual_seed(2)
    height, canal = (MeasurementNet().parts[part] for part in ("disc_height", "canal_ap"))
    old = {f"blocks.{key}": value for key, value in height.blocks.state_dict().items()}
    old |= {f"shared.{key}": value for key, value in height.hidden.state_dict().items()}
    for name, part in (("disc_height", height), ("canal_ap", canal)):
        old |= {f"{name}.{key}": value for key, value in part.values.state_dict().items()}
    old |= {"target_mean": torch.arange(5.0), "target_std": torch.full((5,), 2.0)}
    torch.save({"format": 1, "weights": old, "notes": {}}, tmp_path / "old.pt")
    patch = torch.randn(2, 4, 64, 64, 32)
    with torch.inference_mode():
        features = height.eval().hidden(height.blocks(patch))
        wanted = torch.cat([height.values(features), canal.values(features)], dim=1) * 2 + torch.arange(5.0)
        begun = checkpoint.load_to_begin_with(tmp_path / "old.pt")
        found = torch.cat(begun(torch.cat([patch, patch], dim=1)), dim=1)
    torch.testing.assert_close(found, wanted)
    with pytest.raises(ModelError, match="trained on other patches"):
        checkpoint.load(tmp_path / "old.pt")
    bars = _bars(BATCH_SIZE)
    chosen = {"phantoms": 0, "own": (bars, bars), "start_from": tmp_path / "old.pt"}
    for left_alone in ({"epochs": 0}, {"epochs": 1, "only": "disc_height"}):
        with pytest.raises(ModelError, match="trained on other patches"):
            train_measurement(tmp_path / "run", **chosen, **left_alone)
    kept = train_measurement(tmp_path / "run", epochs=1, **chosen)
    assert set(checkpoint.notes(kept)["epochs"]) == {"disc_height", "canal_ap"}


def test_a_checkpoint_reads_back_and_answers_in_mm(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = MeasurementNet(target_mean=(7, 8, 6, 7, 13), target_std=(1, 1, 1, 1, 2)).eval()
    checkpoint.save(tmp_path / "cnn.pt", network)
    patches = torch.randn(1, 8, 64, 64, 32)
    with torch.inference_mode():
        for ours, theirs in zip(checkpoint.load(tmp_path / "cnn.pt")(patches), network(patches), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_cnn_that_was_trained_for_no_epoch_is_published_without_a_curve(tmp_path: Path) -> None:
    run = Workspace(tmp_path / "run")
    (run.root / "measure").mkdir(parents=True)
    checkpoint.save(run.root / "measure" / CHECKPOINT, MeasurementNet())
    into = {name: tmp_path / name for name in ("repository", "weights", "curves")}
    list(export_demo(run, **into, checkpoint="checkpoint_final.pth"))
    assert (into["repository"] / "measure_cnn" / "1" / "model.onnx").is_file()
    assert not into["curves"].exists()


def test_a_cnn_that_leans_to_the_mean_is_straightened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers become the line of the truth; a second time changes nothing; few samples let it be."""
    bars = _bars(12)
    torch.manual_seed(0)
    network = MeasurementNet(target_mean=(8,) * 5, target_std=(3,) * 5)
    checkpoint.save(tmp_path / "cnn.pt", network, notes={"epoch": 3})
    plain = measure(network, bars)
    wanted = (1.25 * plain - 2.0).astype(np.float32)  # as if the truth were further from the mean
    truth = Samples(bars.images, bars.masks, wanted)
    straighten(tmp_path / "cnn.pt", truth)
    np.testing.assert_array_equal(measure(checkpoint.load(tmp_path / "cnn.pt"), bars), plain)
    assert evaluate(network, truth).min() > 1e-4
    monkeypatch.setattr("spine_training.measurement.train.STRAIGHT_COUNT", len(bars))
    assert evaluate(network, truth).max() < 1e-6  # tells what straightening will leave
    for _ in range(2):
        straighten(tmp_path / "cnn.pt", truth)
        found = measure(checkpoint.load(tmp_path / "cnn.pt"), bars)
        np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert checkpoint.notes(tmp_path / "cnn.pt")["epoch"] == 3


def _bars(count: int) -> Samples:
    """Patches of one bar each, whose thickness is every target."""
    rng = np.random.default_rng(0)
    thickness = rng.integers(2, 14, count)
    masks = np.zeros((count, 2, 3, 64, 64, 32), np.uint8)
    for i, t in enumerate(thickness):
        masks[i, :, 1, 30 : 30 + t, 20:44] = 255
    targets = np.repeat(thickness[:, None], len(TARGETS), axis=1).astype(np.float32)
    return Samples(rng.standard_normal((count, 2, 64, 64, 32)).astype(np.float16), masks, targets)
