"""nstbench: a laboratory for neural style transfer.

Importing the package is cheap: nothing here loads torch.
"""

__version__ = "0.1.0"
