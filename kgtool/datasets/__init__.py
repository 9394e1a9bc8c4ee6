"""One data set a file: its annotations as they are published become COCO data sets and class lists."""
