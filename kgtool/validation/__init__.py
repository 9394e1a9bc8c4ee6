"""COCO JSON looked through from end to end: everything that is wrong, in one pass.

`kgtool.coco` refuses a file at its first fault, as what cannot be trusted must not be used. Here the file is
the subject: what cannot be read is told and passed over, and the rest is looked at.
"""
