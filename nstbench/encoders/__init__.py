"""Encoders: frozen networks that turn pictures into named feature maps."""
