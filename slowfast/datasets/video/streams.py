"""Choose the video stream of a file, and refuse files that are no video."""

from __future__ import annotations

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from slowfast.datasets.video.reader import VideoError

# Containers and codecs of a picture. A file of them is a video if it holds several.
_PICTURE_CONTAINERS = {"gif", "apng", "ico"}
_PICTURE_CODECS = {"mjpeg", "png", "apng", "gif", "bmp", "webp", "tiff", "jpeg2000", "jpegls"}
# Brands of a still picture (AVIF, HEIF) in a container of the mp4 family.
_PICTURE_BRANDS = {"avif", "heic", "heix", "heim", "heis", "mif1", "miaf"}
# A video that starts more than this many seconds after its sound is noted.
_LATE_S = 0.1


def choose_stream(container: InputContainer, choice: int | None, path: str) -> int:
    """Return the index in the container of the video stream to read.

    Args:
        choice: which of the video streams, from 0, without attached pictures; None for FFmpeg's best.
        path: of the file, for messages.

    Raises:
        VideoError: there is no such stream.
    """
    streams = _video_streams(container)
    if not streams:
        covers = " (a cover picture alone)" if container.streams.video else ""
        raise VideoError(path, f"no video stream in the file{covers}")
    if choice is not None:
        if not 0 <= choice < len(streams):
            raise VideoError(path, f"there is no video stream {choice}; it has {len(streams)}, counted from 0")
        return streams[choice].index
    # FFmpeg's best may be a cover, marked as one or not; then take the largest of the others.
    films = [s for s in streams if s.codec_context is None or s.codec_context.name not in _PICTURE_CODECS] or streams
    best = container.streams.best("video").index
    return best if any(s.index == best for s in films) else max(films, key=lambda s: s.width * s.height).index


def _video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams, without attached pictures such as covers."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def refuse_stills(container: InputContainer, stream: VideoStream, count: int, path: str) -> None:
    """Raise VideoError if the file, of `count` frames, is a still picture."""
    name, codec = container.format.name, stream.codec_context.name
    picture = name in _PICTURE_CONTAINERS or name.endswith("_pipe") or codec in _PICTURE_CODECS
    if count == 1 and (picture or container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS):
        raise VideoError(path, f"a still picture ({codec}) and no video")


def notes_of_streams(container: InputContainer, stream: VideoStream) -> dict[str, str]:
    """Return what to say about the choice of `stream` and about its start; kind -> text."""
    notes, streams = {}, _video_streams(container)
    if len(streams) > 1:
        number = [s.index for s in streams].index(stream.index)
        notes["streams"] = f"it has {len(streams)} video streams, of which number {number} (from 0) is read"
    starts = [s.start_time * s.time_base for s in container.streams.audio if s.start_time is not None]
    if starts and stream.start_time is not None:
        late = float(stream.start_time * stream.time_base - min(starts))
        if late > _LATE_S:
            notes["start"] = f"its video starts {late:.2f} s after its sound; second 0 is the first frame"
    return notes
