"""TorchCodec backend of `slowfast.datasets.video.open`: the extra `torchcodec`, and the shared libraries of FFmpeg.

Files are indexed as by PyAV, so that both backends count the same frames at the same rate. (TorchCodec takes every
packet for a frame, and trusts the time stamps of every container.) TorchCodec decodes files whose packets can be
trusted. PyAV decodes where the frames would differ: mirrored videos, which TorchCodec does not flip; more than 8 bits,
and odd heights, which versions of FFmpeg convert differently.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from slowfast.datasets.video.cache import LRUCache
from slowfast.datasets.video.orientation import display_matrix
from slowfast.datasets.video.pyav import MissingFrames, PyAVReader

# Shared libraries that the system must have in one version, 4 to 8.
LIBRARIES = "libavcodec, libavdevice, libavfilter, libavformat, libavutil, libswresample and libswscale"


@functools.lru_cache(maxsize=1)
def _decoder_class() -> type:
    """Import torchcodec's `VideoDecoder`: here rather than at the top, so that this module loads without the extra.

    Raises:
        ImportError: the package, or a library that it needs, is missing; the message says what to do.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except ModuleNotFoundError as error:
        raise ImportError(
            "DATA.DECODING_BACKEND torchcodec needs the package torchcodec (pip install torchcodec, or this program's "
            f"extra of that name) and the shared libraries of FFmpeg ({LIBRARIES}) of the system"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"torchcodec is installed but cannot be loaded. It needs the shared libraries of FFmpeg 4 to 8 ({LIBRARIES}"
            "); on Debian and Ubuntu: apt install ffmpeg. It must also fit PyTorch: torchcodec 0.N goes with PyTorch "
            f"2.N. Where neither can be had, DATA.DECODING_BACKEND pyav reads the same files.\n{error}"
        ) from error
    return VideoDecoder


# Decoded frames of a clip that are held besides the clip itself.
_FRAMES_AT_ONCE = 16
# Version of a file -> True if TorchCodec decodes the same frames as PyAV.
_alike: LRUCache[bool] = LRUCache(4096)


class TorchCodecReader(PyAVReader):
    """See `VideoReader`. `frames_decoded` counts frames of PyAV alone."""

    @classmethod
    def require(cls) -> None:
        """See `VideoReader`."""
        _decoder_class()

    def by_stamp(self, wanted: list[int], skip: bool) -> Iterator[tuple[int, np.ndarray]]:
        # An open file has one position, which two decoders cannot share.
        if self.video.file is not None or not self._decodes_alike():
            yield from super().by_stamp(wanted, skip)
            return
        # PyAV has opened the file before, and checked its format and the size of its frames.
        decoder = _decoder_class()(
            self.video.source(),
            stream_index=self.facts.stream,
            dimension_order="NHWC",
            num_ffmpeg_threads=self.video.threads,
        )
        if len(decoder) != self.num_frames:
            raise MissingFrames(f"torchcodec sees {len(decoder)} frames, not {self.num_frames}")
        for start in range(0, len(wanted), _FRAMES_AT_ONCE):
            part = wanted[start : start + _FRAMES_AT_ONCE]
            batch = decoder.get_frames_at(part)
            stamps = [self.index.pts[i] * self.facts.unit for i in part]
            if not np.allclose(batch.pts_seconds.numpy(), stamps, rtol=0, atol=1e-4):
                raise MissingFrames("torchcodec gives frames of other times")
            yield from zip(part, batch.data.numpy(), strict=True)

    def _decodes_alike(self) -> bool:
        alike = _alike.get(self.version)
        if alike is None:
            frame = next(self.decode_from(0, {self.index.pts[0]}, skip=False))
            a, b, c, d = display_matrix(frame)
            eight_bits = all(component.bits == 8 for component in frame.format.components)
            alike = eight_bits and frame.height % 2 == 0 and a * d - b * c > 0
            _alike.keep(self.version, alike)
        return alike
