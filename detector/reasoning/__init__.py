"""One paper, one file. No file here imports another; only a recipe names them."""
