"""Frames of a video file, read with PyAV."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from detector.errors import InputError, MissingResourceError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v")


def check_video_reader() -> None:
    """Check that videos can be read.

    Raises:
        MissingResourceError: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise MissingResourceError(
            "reading videos needs PyAV, which is not installed; pip install 'kgtool-detector[video]'"
        ) from error


def read_frames(path: Path, every: int = 1) -> Iterator[tuple[int, float, Tensor]]:
    """Yield number (from 0), time in seconds and pixels, (3, H, W) uint8 RGB, of every so many frames.

    Rotation that a phone notes beside the frames is ignored, as EXIF orientation is.

    Raises:
        InputError: no video is in the file, or it is broken; frames before the break are yielded.
        MissingResourceError: see `check_video_reader`.
    """
    check_video_reader()
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: found no video in the file; expected one")
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    pixels_HW3 = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                    yield number, float(frame.time or 0.0), pixels_HW3.permute(2, 0, 1).contiguous()
    except (av.FFmpegError, OSError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: cannot be decoded: {reason}; expected a whole video file") from error
