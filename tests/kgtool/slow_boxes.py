"""Relations of boxes the slow and obvious way: loops over pairs, written from the definitions alone."""

import math
from collections import Counter


def slow_counts(objects, window, geometry, k):
    """`objects`: list of (image, class, (x1, y1, x2, y2)); a set of relations an image, then a count."""
    result = Counter()
    for image in {image for image, _, _ in objects}:
        here = [(cls, box) for i, cls, box in objects if i == image]
        seen = set()
        for a, (class_a, box_a) in enumerate(here):
            others = [b for b in range(len(here)) if b != a]
            if window == "near":
                others = [b for b in others if is_near(box_a, here[b][1])]
            if window == "knn" and others:
                reach = sorted(centre_distance(box_a, here[b][1]) for b in others)[:k][-1]
                others = [b for b in others if centre_distance(box_a, here[b][1]) <= reach]
            for b in others:
                class_b, box_b = here[b]
                name = relation(box_a, box_b) or window if geometry else window
                seen.add((class_a, name, class_b))
        result.update(seen)
    return result


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def centre_distance(a, b):
    return ((a[0] + a[2]) / 2 - (b[0] + b[2]) / 2) ** 2 + ((a[1] + a[3]) / 2 - (b[1] + b[3]) / 2) ** 2


def is_near(a, b):
    across = max(b[0] - a[2], a[0] - b[2], 0)
    down = max(b[1] - a[3], a[1] - b[3], 0)
    return across**2 + down**2 <= ((math.sqrt(area(a)) + math.sqrt(area(b))) / 2) ** 2


def relation(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0
    if area(a) < area(b) and shared >= 0.9 * area(a):
        return "inside"
    if area(b) < area(a) and shared >= 0.9 * area(b):
        return None
    if shared:
        return "overlaps"
    across = (b[0] + b[2]) / 2 - (a[0] + a[2]) / 2
    down = (b[1] + b[3]) / 2 - (a[1] + a[3]) / 2
    if abs(down) > abs(across):
        return "above" if down > 0 else "below"
    return "near" if is_near(a, b) else None
