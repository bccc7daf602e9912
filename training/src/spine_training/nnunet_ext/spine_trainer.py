"""nnU-Net looks trainers up by class name in the folders of ``nnUNet_extTrainer``: this is that folder."""

from spine_training.nnunet_trainer import SpineTrainer

__all__ = ["SpineTrainer"]
