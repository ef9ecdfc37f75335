"""Devices, Lightning's Trainer, interruption, files of tensors: independent of style transfer."""
