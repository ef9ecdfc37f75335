"""The machine under a run: devices, Lightning, files of tensors. Nothing here knows of style transfer."""
