"""Train, evaluate and explain detectors that consume class graphs."""
