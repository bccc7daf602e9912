"""The paper's recipe as an nnU-Net trainer: Dice and cross-entropy 0.7 : 0.3, SGD 0.01 with poly decay.

What differs from nnU-Net's default, and why:

- the loss weights (the paper's), and cross-entropy weights, heaviest for sacrum and C2 (rare anchors) and
  along the canal's wall (`loss`);
- patches centred on those classes more often (`sampling`);
- milder rotation and scaling, mirroring left-right only: up-down and front-back carry meaning in a spine;
- what is validated, and kept at the end, is the running average of the weights;
- the length comes from the environment, in epochs or seconds (`schedule`), and the learning rate follows
  every iteration;
- on a CPU: bfloat16 where the processor has it, channels-last memory, and one thread per sample of the
  batch. Dice is per sample here (`batch_dice` off), so averaging the samples' gradients is exact.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spine_training.augmentation import ROTATION_RAD, initial_patch_size, training_transforms
from spine_training.channels_last_norm import use_sample_norm
from spine_training.loss import BorderCrossEntropy
from spine_training.sampling import SpineDataLoader, case_names
from spine_training.schedule import Schedule
from spine_training.widen import widened
from spinecore.labels import Class

DICE_WEIGHT = 0.7
CE_WEIGHT = 0.3
# A weight moves a class's border outwards, so what is measured in mm (disc, canal) has nearly none.
CE_CLASS_WEIGHTS = {Class.DISC: 1.2, Class.SACRUM: 2.0, Class.C2: 3.0}
SAMPLING_CLASS_WEIGHTS = {Class.SACRUM: 3.0, Class.C2: 3.0}
FOREGROUND_SHARE = 0.7
MIRROR_AXES = (2,)  # left-right
VALIDATION_ITERATIONS = 6
GRADIENT_CLIP = 12.0  # nnU-Net's
AVERAGE_DECAY = 0.999  # per iteration; the average of the weights is what is validated and kept at the end


class SpineTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net trainer of the spine network; see the module's docstring."""

    network: Any
    dataloader_train: Any

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.schedule = Schedule.from_environment()
        self.num_epochs = self.schedule.epochs
        self.num_iterations_per_epoch = self.schedule.iterations_per_epoch
        self.num_val_iterations_per_epoch = VALIDATION_ITERATIONS
        self.save_every = 1
        self.oversample_foreground_percent = FOREGROUND_SHARE
        self.probabilistic_oversampling = True
        self._samples: ThreadPoolExecutor | None = None
        self._patch_quarters = 4
        self._average: AveragedModel | None = None

    # -- loss and network -------------------------------------------------------------------------------

    def _build_loss(self) -> Any:
        loss: Any = DC_and_CE_loss(
            {
                "batch_dice": self.configuration_manager.batch_dice,
                "smooth": 1e-5,
                "do_bg": False,
                "ddp": self.is_ddp,
            },
            {"weight": self._ce_class_weights()},
            weight_ce=CE_WEIGHT,
            weight_dice=DICE_WEIGHT,
            ignore_label=self.label_manager.ignore_label,
            dice_class=MemoryEfficientSoftDiceLoss,
        )
        loss.ce = BorderCrossEntropy(loss.ce.weight, ignore_index=loss.ce.ignore_index)
        if self.enable_deep_supervision:
            loss = DeepSupervisionWrapper(
                loss, _deep_supervision_weights(len(self._get_deep_supervision_scales()))
            )
        return loss

    def _ce_class_weights(self) -> Tensor:
        heads = self.label_manager.num_segmentation_heads
        weights = torch.ones(heads, device=self.device)
        for cls, weight in CE_CLASS_WEIGHTS.items():
            if int(cls) < heads:
                weights[int(cls)] = weight
        return weights

    def initialize(self) -> None:
        """nnU-Net's own, then the memory format and threads that suit a CPU."""
        super().initialize()
        self._average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))  # type: ignore[no-untyped-call]
        if self.device.type == "cpu":
            self.network = self.network.to(memory_format=torch.channels_last_3d)
            use_sample_norm(self.network)
            if not self.configuration_manager.batch_dice:
                self._samples = ThreadPoolExecutor(
                    self.batch_size, initializer=torch.set_num_threads, initargs=(1,)
                )

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with the weights of a trained network as wide as this one or narrower, after `initialize`.

        NetworkSizeError if they are of one with other layers.
        """
        assert self._average is not None
        self.network.load_state_dict(widened(weights, self.network))
        self._average.module.load_state_dict(self.network.state_dict())

    # -- data ---------------------------------------------------------------------------------------------

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802 - nnU-Net's name
        """Mild rotation, left-right mirroring only, and no mirroring at inference."""
        patch_size = self.configuration_manager.patch_size
        self.inference_allowed_mirroring_axes = None
        return (-ROTATION_RAD, ROTATION_RAD), False, initial_patch_size(patch_size), MIRROR_AXES

    def do_split(self) -> tuple[list[str], list[str]]:
        """Training and validation cases by name (``train_…``, ``val_…``): more may still be added."""
        folder = Path(self.preprocessed_dataset_folder)
        return case_names(folder, "train"), case_names(folder, "val")

    def get_dataloaders(self) -> Any:
        """nnU-Net's loaders with class-weighted sampling, in the processes nnUNet_n_proc_DA allows."""
        self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        patch = self.configuration_manager.patch_size
        train = self._training_loader()
        _, cases = self.get_tr_and_val_datasets()
        transforms = self.get_validation_transforms(self._get_deep_supervision_scales())
        return train, _started(self._loader(cases, patch, patch, transforms, "val"))

    def _training_loader(self) -> Any:
        """A started loader of patches of the size the schedule asks for now."""
        self._patch_quarters = self.schedule.patch_quarters()
        patch = tuple(int(size) * self._patch_quarters // 4 for size in self.configuration_manager.patch_size)
        cases, _ = self.get_tr_and_val_datasets()
        rotation = (-ROTATION_RAD, ROTATION_RAD)
        transforms = training_transforms(patch, rotation, self._get_deep_supervision_scales(), MIRROR_AXES)
        return _started(self._loader(cases, initial_patch_size(patch), patch, transforms, "train"))

    def _follow_patch_size(self) -> None:
        """Start a new loader where the schedule asks for larger patches."""
        if self.schedule.patch_quarters() == self._patch_quarters:
            return
        if isinstance(self.dataloader_train, NonDetMultiThreadedAugmenter):
            self.dataloader_train._finish()
        self.dataloader_train = self._training_loader()

    def _loader(
        self, dataset: Any, read_patch: Any, patch: Any, transforms: Any, prefix: str
    ) -> SpineDataLoader:
        return SpineDataLoader(
            dataset,
            self.batch_size,
            read_patch,
            patch,
            self.label_manager,
            oversample_foreground_percent=self.oversample_foreground_percent,
            probabilistic_oversampling=self.probabilistic_oversampling,
            transforms=transforms,
            class_weights={int(cls): weight for cls, weight in SAMPLING_CLASS_WEIGHTS.items()},
            folder=Path(self.preprocessed_dataset_folder),
            prefix=prefix,
        )

    # -- one step -----------------------------------------------------------------------------------------

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One iteration; the learning rate follows the schedule first."""
        rate = self.schedule.learning_rate(self.initial_lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.schedule.spent_iterations += 1
        loss = self._step(batch)
        assert self._average is not None
        self._average.update_parameters(self.network)
        return loss

    def _step(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._samples is None:
            return dict(super().train_step(batch))
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate_gradients(batch["data"], batch["target"])
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_CLIP)
        self.optimizer.step()
        return {"loss": np.float32(np.mean(losses) if losses else np.nan)}

    def _accumulate_gradients(self, data: Tensor, target: list[Tensor] | Tensor) -> list[float]:
        """Gradients of the mean loss over the batch into `.grad`, each sample in its own thread."""
        assert self._samples is not None
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        jobs = [
            self._samples.submit(self._sample_gradients, parameters, data[i : i + 1], _sample(target, i))
            for i in range(len(data))
        ]
        losses = []
        for job in jobs:
            loss, gradients = job.result()
            if not all(bool(torch.isfinite(g).all()) for g in gradients if g is not None):
                continue  # one bad sample must not end a training
            losses.append(loss)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    share = gradient / len(data)
                    parameter.grad = share if parameter.grad is None else parameter.grad.add_(share)
        return losses

    def _sample_gradients(
        self, parameters: list[Tensor], data: Tensor, target: list[Tensor] | Tensor
    ) -> tuple[float, tuple[Tensor | None, ...]]:
        with cpu_autocast():
            output = self.network(data.to(memory_format=torch.channels_last_3d))
        loss = self.loss(_as_float32(output), target)
        return float(loss.detach()), torch.autograd.grad(loss, parameters, allow_unused=True)

    def on_validation_epoch_start(self) -> None:
        """nnU-Net's own, with the threads that training leaves to its samples."""
        super().on_validation_epoch_start()
        if self._samples is not None:
            torch.set_num_threads(self.batch_size)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's own, in bfloat16 on a CPU that has it."""
        with cpu_autocast() if self.device.type == "cpu" else nullcontext():
            return dict(super().validation_step(batch))

    # -- the run ------------------------------------------------------------------------------------------

    def run_training(self) -> None:
        """nnU-Net's loop, ended by the schedule."""
        self.on_train_start()
        self.schedule.start()
        while not self.schedule.finished() and self.current_epoch < self.num_epochs:
            self._run_epoch()
        with self._averaged():
            self.on_train_end()

    def _run_epoch(self) -> None:
        self._follow_patch_size()
        self.on_epoch_start()
        self.on_train_epoch_start()
        outputs = []
        for _ in range(self.num_iterations_per_epoch):
            outputs.append(self.train_step(next(self.dataloader_train)))
            if self.schedule.finished():
                break
        self.on_train_epoch_end(outputs)
        with torch.no_grad(), self._averaged():
            self.on_validation_epoch_start()
            steps = range(self.num_val_iterations_per_epoch)
            self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
        self.on_epoch_end()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network with the averaged weights inside, its own again after."""
        assert self._average is not None
        own = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self._average.module.state_dict())
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def on_train_epoch_start(self) -> None:
        """Log the learning rate; the schedule sets it."""
        self.network.train()
        if self._samples is not None:
            torch.set_num_threads(1)  # what is left between the samples is small: threads would only wait
        rate = self.schedule.learning_rate(self.initial_lr)
        self.print_to_log_file(f"Epoch {self.current_epoch}, learning rate {rate:.5f}")
        self.logger.log("lrs", rate, self.current_epoch)

    def on_epoch_end(self) -> None:
        """nnU-Net's own, then one line of the curve."""
        epoch = self.current_epoch
        super().on_epoch_end()
        dice = self.logger.get_value("dice_per_class_or_region", step=-1)
        row = {
            "epoch": epoch,
            "iterations": self.schedule.spent_iterations,
            "elapsed_s": round(self.schedule.elapsed_s(), 1),
            "learning_rate": self.logger.get_value("lrs", step=-1),
            "train_loss": self.logger.get_value("train_losses", step=-1),
            "val_loss": self.logger.get_value("val_losses", step=-1),
            **{f"pseudo_dice_{Class(i + 1).name.lower()}": float(d) for i, d in enumerate(dice)},
        }
        _append_row(Path(self.output_folder) / "curve.csv", row)

    # -- checkpoints --------------------------------------------------------------------------------------

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with the schedule's state, written aside and moved."""
        if self.disable_checkpointing:
            return
        aside = f"{filename}.part"
        super().save_checkpoint(aside)
        state = torch.load(aside, weights_only=False)
        state["spine_schedule"] = {
            "spent_s": self.schedule.elapsed_s(),
            "spent_iterations": self.schedule.spent_iterations,
        }
        assert self._average is not None
        state["spine_average"] = self._average.state_dict()
        torch.save(state, aside)
        Path(aside).replace(filename)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """nnU-Net's own, then the schedule's state and the average (if none: the network itself)."""
        super().load_checkpoint(filename_or_checkpoint)
        state = torch.load(filename_or_checkpoint, map_location="cpu", weights_only=False)
        schedule = state.get("spine_schedule", {})
        self.schedule.spent_s = float(schedule.get("spent_s", 0.0))
        self.schedule.spent_iterations = int(schedule.get("spent_iterations", 0))
        assert self._average is not None
        if "spine_average" in state:
            self._average.load_state_dict(state["spine_average"])
        else:
            self._average.module.load_state_dict(self.network.state_dict())


def cpu_autocast() -> AbstractContextManager[Any]:
    """bfloat16 autocast where the processor multiplies bfloat16 itself; nothing elsewhere."""
    if torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


def _deep_supervision_weights(outputs: int) -> Any:
    """nnU-Net's: halved with each resolution, the lowest left out, summing to 1."""
    weights = np.array([0.5**i for i in range(outputs)])
    if outputs > 1:
        weights[-1] = 0.0
    return weights / weights.sum()


def _sample(target: list[Tensor] | Tensor, index: int) -> list[Tensor] | Tensor:
    if isinstance(target, list):
        return [t[index : index + 1] for t in target]
    return target[index : index + 1]


def _as_float32(output: Any) -> Any:
    return [o.float() for o in output] if isinstance(output, (list, tuple)) else output.float()


def _started(loader: SpineDataLoader) -> Any:
    augmenter = _augmenter(loader)
    next(augmenter)
    return augmenter


def _augmenter(loader: SpineDataLoader) -> Any:
    if get_allowed_n_proc_DA() == 0:
        return SingleThreadedAugmenter(loader, None)
    return NonDetMultiThreadedAugmenter(
        data_loader=loader,
        transform=None,
        num_processes=1,
        num_cached=4,
        seeds=None,
        pin_memory=False,
        wait_time=0.01,
    )


def _append_row(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
