"""Class graphs, class lists and data sets for detectors that use knowledge. Needs no torch."""

__version__ = "0.1.0"
