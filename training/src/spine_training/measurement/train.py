"""Train the measurement CNN as the paper does: MSE, Adam (0.9, 0.999), 0.001 times 0.9 every 10 epochs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from spine_training.dataset import (
    VALIDATION_SEEDS,
    drawn_ahead,
    measured_phantom_config,
    training_seeds,
)
from spine_training.measurement import checkpoint
from spine_training.measurement.network import PARTS, TARGETS, MeasurementNet
from spine_training.measurement.perturb import perturb
from spine_training.measurement.samples import Samples, join, samples_of

if TYPE_CHECKING:
    from spine_training.evaluate import SegmentationModel
    from spinecore.phantom import Contrast

BATCH_SIZE = 8
AHEAD = 2  # batches prepared beside the training step
LEARNING_RATE = 1e-3
BETAS = (0.9, 0.999)
AVERAGE_DECAY = 0.998  # per step; what is validated and kept is this average of the weights
DECAY, DECAY_EPOCHS = 0.9, 10
VALIDATION_PHANTOMS = 60
STRAIGHT_COUNT = 60  # discs; the line of fewer is worse than none
TRUE_SHARE = 4  # with a segmentation network, every fourth training phantom is also cut in its true frames
CHECKPOINT = "measurement.pt"
CURVE = "curve.csv"


def train_measurement(
    folder: Path,
    *,
    phantoms: int,
    epochs: int,
    seed: int = 1,
    network: SegmentationModel | None = None,
    own: tuple[Samples, Samples] | None = None,
    start_from: Path | None = None,
    learning_rate: float = LEARNING_RATE,
    only: str | None = None,
    first: int = 0,
    contrasts: Sequence[Contrast] = (),
) -> Path:
    """Cut patches (kept in `folder`), train, and return the checkpoint of the best validation errors.

    Goes on from that checkpoint if `folder` has one, with a fresh optimiser; otherwise from the checkpoint
    `start_from` where one is given. Each of `network.PARTS` is kept as it was in its own best epoch, and what
    is no better than where it began is not kept; `only` trains that part and leaves the other alone.
    ModelError if a part would be left as it was for other patches than are cut.

    Phantoms have training seeds from `first` on, of these `contrasts` only where some are given. With a
    segmentation `network` phantoms are cut as the server cuts them, and every fourth by its truth too:
    from true masks alone the CNN learns to believe masks where they are wrong. With a site's `own` samples
    (training, validation) those validate, and phantoms only join the training.
    """
    validation = (
        own[1] if own else join(cached_samples(folder, VALIDATION_SEEDS[:VALIDATION_PHANTOMS], network))
    )
    samples = [own[0]] if own else []
    seeds = training_seeds(first, phantoms, contrasts)
    if phantoms:
        samples += cached_samples(folder, seeds[:: 1 if network is None else TRUE_SHARE], None)
    if phantoms and network is not None:
        samples += cached_samples(folder, seeds, network)
    training = join(samples)
    samples.clear()  # gigabytes, twice
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # on a shared CPU, threads within a step mostly wait for one another
    known = folder / CHECKPOINT
    if start_from is None or known.exists():
        cnn = checkpoint.load(known) if known.exists() else MeasurementNet(**_spread(training))
    elif checkpoint.sees_what_is_cut(start_from) or only or not epochs:
        cnn = checkpoint.load(start_from)
        checkpoint.save(known, cnn, notes={"started_from": start_from.name})
    else:
        cnn = checkpoint.load_to_begin_with(
            start_from
        )  # none of its answers counts: they are for other patches
    parts = [only] if only else list(PARTS)
    run = _Run(cnn, torch.Generator().manual_seed(seed), folder, learning_rate, parts)
    if known.exists():
        run.begin_with(evaluate(cnn, validation))
    for epoch in tqdm(range(epochs), desc="measurement", unit="epoch"):
        run.epoch(epoch, training, validation)
    if known.exists():
        straighten(known, validation)
    return known


def cached_samples(folder: Path, seeds: Sequence[int], network: SegmentationModel | None) -> list[Samples]:
    """Samples of each phantom of `seeds`, cut once and kept under ``folder/true`` or ``folder/served``."""
    files = {seed: folder / ("true" if network is None else "served") / f"{seed:05d}.npz" for seed in seeds}
    missing = [measured_phantom_config(seed) for seed, path in files.items() if not path.exists()]
    for phantom in drawn_ahead(tqdm(missing, desc="patches", unit="phantom", disable=not missing)):
        samples_of(phantom, network=network).save(files[phantom.config.seed])
    return [Samples.load(path) for path in files.values()]


def straighten(path: Path, samples: Samples) -> None:
    """Let the checkpoint at `path` answer on the line of the truth, by least squares on unseen `samples`.

    Trained with dropout and on a finite set, the CNN leans to the mean: thin discs come out too thick, thick
    ones too thin. The line of each target is folded into its mean and spread. Left alone where there are too
    few samples to tell (`STRAIGHT_COUNT`).
    """
    if len(samples) < STRAIGHT_COUNT:
        return
    cnn, notes = checkpoint.load(path), checkpoint.notes(path)
    slope, offset = torch.tensor(_lines(measure(cnn, samples), samples), dtype=torch.float32)
    cnn.target_mean.mul_(slope).add_(offset)
    cnn.target_std.mul_(slope)
    checkpoint.save(path, cnn, notes={**notes, "straightened_by": [round(float(s), 4) for s in slope]})


def _lines(found: NDArray[np.float64], samples: Samples) -> NDArray[np.float64]:
    """(2, 5) slope and offset of the truth over answers `found` (N, 5), by least squares."""
    return np.array([np.polyfit(*pair, 1) for pair in zip(found.T, samples.targets.T, strict=True)]).T


def evaluate(network: MeasurementNet, samples: Samples) -> NDArray[np.float64]:
    """(5,) mean squared error in mm² that `straighten` by these unchanged patches leaves, as in TARGETS."""
    found = measure(network, samples)
    if len(samples) >= STRAIGHT_COUNT:
        slope, offset = _lines(found, samples)
        found = slope * found + offset
    return np.asarray(np.square(found - samples.targets).mean(axis=0))


def measure(network: MeasurementNet, samples: Samples) -> NDArray[np.float64]:
    """(N, 5) mm, in the order of TARGETS, of unchanged patches."""
    network.eval()
    answers = []
    with torch.inference_mode():
        for start in range(0, len(samples), BATCH_SIZE):
            images, masks, _ = _tensors(samples, np.arange(len(samples))[start : start + BATCH_SIZE])
            patches = torch.cat([images[:, :, None], masks], dim=2).flatten(1, 2)
            answers.append(torch.cat(network(patches), dim=1))
    return np.asarray(torch.cat(answers), dtype=np.float64)


class _Run:
    """One training: network, optimiser, curve, and the network as it is kept."""

    def __init__(
        self,
        network: MeasurementNet,
        generator: torch.Generator,
        folder: Path,
        learning_rate: float = LEARNING_RATE,
        parts: Sequence[str] = tuple(PARTS),
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.generator = generator
        self.folder = folder
        self.parts = parts
        trained = [value for part in parts for value in network.parts[part].parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=learning_rate, betas=BETAS)
        self.decay = torch.optim.lr_scheduler.StepLR(self.optimizer, DECAY_EPOCHS, DECAY)
        average = get_ema_multi_avg_fn(AVERAGE_DECAY)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.kept = deepcopy(network)
        self.best = np.full(len(TARGETS), np.inf)
        self.epochs: dict[str, int] = {}

    def begin_with(self, errors: NDArray[np.float64]) -> None:
        """Keep only what is better than `errors` (5,), those of the network as it is."""
        self.best = errors.copy()

    def epoch(self, number: int, training: Samples, validation: Samples) -> None:
        """One pass over the training set, then validation; keeps the parts that are better than before."""
        for part in self.parts:
            self.network.parts[part].train()
        losses = [self.step(*batch) for batch in self.batches(training)]
        self.decay.step()
        averaged = cast("MeasurementNet", self.average.module)
        errors = evaluate(averaged, validation)
        self.record(number, float(np.mean(losses)), errors)
        better = [
            p for p in self.parts if errors[PARTS[p].targets].mean() < self.best[PARTS[p].targets].mean()
        ]
        for part in better:
            self.kept.parts[part].load_state_dict(averaged.parts[part].state_dict())
            self.best[PARTS[part].targets] = errors[PARTS[part].targets]
            self.epochs[part] = number
        if better:
            mse = dict(zip(TARGETS, self.best.tolist(), strict=True))
            checkpoint.save(
                self.folder / CHECKPOINT, self.kept, notes={"epochs": self.epochs, "validation_mse_mm2": mse}
            )

    def batches(self, samples: Samples) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Shuffled batches of each part's patches and of targets in mm; the last partial one is left out."""
        order = torch.randperm(len(samples), generator=self.generator).numpy()
        starts = range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE)
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as ahead:
            coming = [ahead.submit(self._batch, samples, order[i : i + BATCH_SIZE]) for i in starts[:AHEAD]]
            for start in starts:
                later = start + AHEAD * BATCH_SIZE
                if later in starts:
                    coming.append(ahead.submit(self._batch, samples, order[later : later + BATCH_SIZE]))
                yield coming.pop(0).result()

    def _batch(self, samples: Samples, which: NDArray[np.int64]) -> tuple[list[Tensor], Tensor]:
        images, masks, targets = _tensors(samples, which)
        seen = [PARTS[part].patch for part in self.parts]
        return [perturb(images[:, patch], masks[:, patch], self.generator) for patch in seen], targets

    def step(self, patches: Sequence[Tensor], targets: Tensor) -> float:
        """One optimiser step on standardised targets; returns the loss."""
        wanted = (targets - self.network.target_mean) / self.network.target_std
        with torch.autocast(
            "cpu", dtype=torch.bfloat16, enabled=torch.cpu.get_capabilities().get("avx512_bf16", False)
        ):
            found = [
                self.network.parts[part](seen.to(memory_format=torch.channels_last_3d))
                for part, seen in zip(self.parts, patches, strict=True)
            ]
        pairs = zip(found, (wanted[:, PARTS[part].targets] for part in self.parts), strict=True)
        loss = torch.stack([(ours.float() - theirs).square().mean() for ours, theirs in pairs]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return float(loss.detach())

    def record(self, number: int, loss: float, errors: NDArray[np.float64]) -> None:
        """Append one line to the curve and print it."""
        path = self.folder / CURVE
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["epoch", "train_loss", *(f"val_mse_{name}" for name in TARGETS)])
            writer.writerow([number, f"{loss:.5f}", *(f"{e:.4f}" for e in errors)])
        print(f"epoch {number}: loss {loss:.4f}, MSE mm² {np.round(errors, 3).tolist()}", flush=True)


def _tensors(samples: Samples, which: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.from_numpy(samples.images[which].astype(np.float32))
    masks = torch.from_numpy(samples.masks[which].astype(np.float32) / 255.0)
    return images, masks, torch.from_numpy(samples.targets[which])


def _spread(samples: Samples) -> dict[str, list[float]]:
    return {
        "target_mean": [float(v) for v in samples.targets.mean(axis=0)],
        "target_std": [float(v) for v in samples.targets.std(axis=0)],
    }
