"""Parametrisations of the picture that is optimised: pixels, spectral, luminance; noise."""
