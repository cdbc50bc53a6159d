"""Answer for many videos: files of each video, then tables of all.

`OUTPUT/videos/PATH.jsonl` holds the answers for a video. It gets its name when the video is done, so a run that was
stopped goes on, and several machines may fill one folder.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from slowfast.apps.people.sources import BoxSource
from slowfast.apps.predict import people_files
from slowfast.apps.predict.drawn import check_drawing, draw_video
from slowfast.apps.predict.events import Event, EventFinder, EventRule
from slowfast.apps.predict.painter import Caption
from slowfast.apps.predict.people import PeopleAnswer
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.predict.tables import COLUMNS, PEOPLE_COLUMNS, join_files, write_csv
from slowfast.apps.predict.timeline import Timeline
from slowfast.apps.predict.unreadable import UnreadablePart, clock, keep_parts, kept_parts, unreadable_parts
from slowfast.datasets.video.find import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoOpener, has_images, place_of, video_files
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video_dataset import read_paths
from slowfast.engine.consistency import weight_facts
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import check_choice
from slowfast.utils.files import atomic_write_local, no_room_explained, replacing
from slowfast.utils.json_file import read_json
from slowfast.utils.text import one_line

logger = get_logger(__name__)

MODES = ("stream", "clips", "video")
_ABOUT = "predict.json"
_DETECTIONS = ".detections.csv"


@dataclass(frozen=True)
class PredictOptions:
    """Options of a run over videos.

    Attributes:
        output: folder of the files.
        mode: "stream", "clips" or "video", see `Predictor`.
        top: number of best classes in an answer.
        rule: rule that makes events of the answers; None for no events.
        shard, num_shards: this run takes every `num_shards`-th video, from number `shard` (from 0) on.
        pictures: draw the answers over time (needs matplotlib).
        fps: rate of folders of images; None for `DATA.TARGET_FPS`.
        video: write videos with the answers drawn in (needs matplotlib, and an encoder of H.264 in PyAV).
        boxes: where a model that scores boxes finds persons; None for a model of whole clips.

    Raises:
        ValueError: an unknown mode, numbers out of range, videos without a folder for them, or boxes in another mode
            than "stream".
    """

    output: str
    mode: str = "stream"
    top: int = 5
    rule: EventRule | None = None
    shard: int = 0
    num_shards: int = 1
    pictures: bool = True
    fps: float | None = None
    video: bool = False
    boxes: BoxSource | None = None

    def __post_init__(self) -> None:
        check_choice("the mode", self.mode, MODES)
        if self.top < 1:
            raise ValueError(f"an answer of the {self.top} best classes is empty; ask for 1 or more")
        if not 0 <= self.shard < self.num_shards:
            raise ValueError(f"shard {self.shard} of {self.num_shards} does not exist; the first is 0")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"{self.fps:g} frames a second are impossible; give a rate over 0, such as 25")
        if self.video and not self.output:
            raise ValueError("videos with the answers drawn in (--video) are files; name their folder with --output")
        if self.boxes and self.mode != MODES[0]:
            raise ValueError(f"--mode {self.mode} is for models of whole clips; with boxes leave it out")


def find_sources(places: Sequence[str], without: str = "", pictures: bool = False) -> list[str]:
    """Return the videos at some places, each once: a file, a folder of images, a folder of videos, or a list of paths.

    A list is a file that ends in .txt or .csv, lines `path` or `path label`. The folder `without` is left out of the
    folders: it holds videos that a run wrote. With `pictures`, for models of images, the pictures below a folder count
    one by one, as videos do.

    Raises:
        FileNotFoundError: no such place, or a folder without videos and images.
        ValueError: a list without videos.
    """
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            if pictures:
                videos = video_files(place, without, VIDEO_SUFFIXES + IMAGE_SUFFIXES)
            else:
                videos = [place] if has_images(place) else video_files(place, without)
            if not videos:
                raise FileNotFoundError(f"the folder {place} holds neither videos nor images")
            found += videos
        elif place.lower().endswith((".txt", ".csv")):
            found += read_paths(place)[0]
        elif os.path.exists(place):
            found.append(place)
        else:
            raise FileNotFoundError(f"there is no video {place}")
    return list({os.path.realpath(path): path for path in found}.values())


def predict_videos(predictor: Predictor, videos: Sequence[str], options: PredictOptions) -> dict[str, Any]:
    """Answer for videos; those that have their files are skipped.

    Writes for each video its answers (`videos/PATH.jsonl`), subtitles (`.vtt`), a picture (`.png`), with a rule its
    events (`.events.jsonl`), and with `video` a copy with the answers drawn in (`.mp4`). Of a video that can be read in
    part alone, these tell of what can be read, and `.unreadable.json` of the rest; it counts as answered until its file
    changes. When all videos are done: `answers.jsonl` and `answers.csv`, `events.jsonl` and `events.csv`, and
    `unreadable.jsonl` if there is any. With boxes also the scores of all persons and classes in AVA's format,
    `detections.csv`. Of a single video also copies named `subtitles.vtt` and `timeline.png`.

    Returns:
        `videos`, `answered`, `already_there`, `unreadable` (path -> cause), `unreadable_parts` (path -> parts, see
        `UnreadablePart`), `complete` (the tables are written), `video_seconds` and `seconds`.

    Raises:
        ValueError: the folder holds answers made in another way; scores are NaN or infinite; or something is missing
            that draws.
        OSError: a file cannot be written.
    """
    predictor.check_kind(options.boxes is not None)
    if options.video:
        check_drawing()
    keep_together(predictor, options)
    started, seconds, unreadable = time.monotonic(), 0.0, {}
    unit = "image" if predictor.of_images else "video"
    share = videos[options.shard :: options.num_shards]
    todo = [video for video in share if not _is_done(video, options)]
    parts = {video: _kept_parts(video, options) or [] for video in share if video not in todo}
    with tqdm(total=len(share), initial=len(share) - len(todo), unit=unit, disable=None, dynamic_ncols=True) as bar:
        for video in todo:
            begun = time.monotonic()
            try:
                length = _make_files(predictor, video, options)
                seconds += length
                parts[video] = _kept_parts(video, options) or []
                if not predictor.of_images:
                    logger.info("%s: %s", video, _speed(length, time.monotonic() - begun))
                    bar.set_postfix_str(f"{seconds / (time.monotonic() - started):.1f} x real time")
            except VideoError as error:
                unreadable[video] = error.cause
                logger.warning("unreadable %s %s: %s (left out)", unit, video, error.cause)
            bar.update()
    for video in share:
        for part in parts.get(video, []):
            logger.warning("%s: %s", video, part)
    complete = all(os.path.isfile(_path_of(options.output, video)) for video in videos if video not in unreadable)
    if complete and len(unreadable) < len(videos):
        _join(videos, options, unreadable)
    if todo and predictor.of_images:
        logger.info("%d images in %.1f s", len(todo), time.monotonic() - started)
    elif todo:
        logger.info("all videos: %s", _speed(seconds, time.monotonic() - started))
    return {
        "videos": len(share),
        "answered": len(todo) - len(unreadable),
        "already_there": len(share) - len(todo),
        "unreadable": unreadable,
        "unreadable_parts": {video: [asdict(part) for part in parts[video]] for video in share if parts.get(video)},
        "complete": complete,
        "video_seconds": round(seconds, 3),
        "seconds": round(time.monotonic() - started, 3),
    }


def answers_about(
    predictor: Predictor, video: str, options: PredictOptions
) -> Iterator[Answer] | Iterator[PeopleAnswer]:
    """Return the answers about a video, in the mode of the options; VideoError where it cannot be read any more."""
    if options.boxes:
        return predictor.people(video, options.boxes, top=options.top, fps=options.fps)
    if options.mode == "video":
        return iter([predictor(video, options.top, options.fps)])
    ask = predictor.stream if options.mode == "stream" else predictor.each_clip
    return ask(video, options.top, options.fps)


def opener_of(predictor: Predictor, options: PredictOptions) -> VideoOpener:
    """Return what opens the videos of a run."""
    rate = predictor.cfg.AVA.FPS if options.boxes else predictor.settings.target_fps
    return VideoOpener.from_config(predictor.cfg, options.fps or rate)


def event_finder(predictor: Predictor, options: PredictOptions) -> EventFinder | people_files.PersonEventFinder | None:
    """Return what finds the events of a video; None without a rule."""
    if options.rule is None:
        return None
    if options.boxes:
        return people_files.PersonEventFinder(options.rule, predictor)
    return EventFinder(options.rule, predictor.class_names)


def _is_done(video: str, options: PredictOptions) -> bool:
    """Return True if a video has all files that it gets a name for at the end."""
    path = _path_of(options.output, video)
    return _is_answered(video, options) and (not options.video or os.path.isfile(_drawn_path(path)))


def _is_answered(video: str, options: PredictOptions) -> bool:
    """Return True if a video has answers, which are not those for a damaged file that was replaced since."""
    return os.path.isfile(_path_of(options.output, video)) and _kept_parts(video, options) is not None


def _kept_parts(video: str, options: PredictOptions) -> list[UnreadablePart] | None:
    return kept_parts(_path_of(options.output, video).removesuffix(".jsonl"), video)


def _make_files(predictor: Predictor, video: str, options: PredictOptions) -> float:
    """Write the files of a video that are missing; return its length in seconds. Raises as `_answer_video`."""
    path, end = _path_of(options.output, video), 0.0
    drawn = os.path.isfile(_drawn_path(path))
    if not _is_answered(video, options):
        end, drawn = _answer_video(predictor, video, options), False
    if options.video and not drawn:
        captions = people_files.captions_of(path) if options.boxes else _captions(path)
        end = max(end, draw_video(video, _drawn_path(path), captions, opener_of(predictor, options)))
    return end


def _drawn_path(path: str) -> str:
    """Return the path of the video with answers drawn in, beside the answers at `path`."""
    return f"{path.removesuffix('.jsonl')}.mp4"


def _captions(path: str) -> Iterator[Caption]:
    """Yield what is drawn of the answers in a file, line by line."""
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            answer = json.loads(line)
            yield Caption(answer["start_s"], answer["names"], answer["scores"])


def _speed(video_s: float, wall_s: float) -> str:
    """Return in words how fast a video was answered."""
    return f"{video_s:.1f} s of video in {wall_s:.1f} s, {video_s / wall_s:.1f} x real time"


def _answer_video(predictor: Predictor, video: str, options: PredictOptions) -> float:
    """Write the files of a video; return the second up to which it is answered.

    Raises:
        VideoError: it cannot be read, and has no answer and no files.
    """
    path = _path_of(options.output, video)
    stem = path.removesuffix(".jsonl")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    timeline, end = Timeline(), 0.0
    finder = event_finder(predictor, options)
    cues: list[tuple[float, float, str]] = []
    events: list[Event | people_files.PersonEvent] = []
    fault = None
    with no_room_explained(path), replacing(path) as temporary, contextlib.ExitStack() as files:
        stream = files.enter_context(open(temporary, "w", encoding="utf-8"))
        if options.boxes:
            detections = files.enter_context(replacing(f"{stem}{_DETECTIONS}"))
            detection_stream = files.enter_context(open(detections, "w", encoding="utf-8"))
        try:
            for answer in answers_about(predictor, video, options):
                end = max(end, answer.end_s)
                timeline.add(answer)
                events += finder.push(answer) if finder else []
                if options.boxes:
                    line = people_files.line_of(answer)
                    people_files.write_detections(detection_stream, video, answer, predictor)
                else:
                    cues.append((answer.start_s, answer.end_s, f"{answer.names[0]} {answer.scores[0]:.2f}"))
                    line = facts_of(answer)
                stream.write(json.dumps({"video": video, **line}) + "\n")
        except VideoError as error:
            if not end:
                raise
            fault = end, error.cause
        if options.boxes:
            stream.flush()
            cues = list(people_files.cues_of(temporary))
        if finder:
            events += finder.finish()
            events.sort(key=lambda event: (event.start_s, event.end_s))
            lines = "".join(json.dumps({"video": video, **event_facts(event)}) + "\n" for event in events)
            atomic_write_local(f"{stem}.events.jsonl", lines)
            cues = [(event.start_s, event.end_s, _cue(event)) for event in events]
        atomic_write_local(f"{stem}.vtt", subtitles(cues))
        if options.pictures and end:
            timeline.draw(f"{stem}.png", os.path.basename(video), predictor.class_names)
        keep_parts(stem, video, unreadable_parts(video, opener_of(predictor, options), fault))
    return end


def facts_of(answer: Answer) -> dict[str, Any]:
    """Return an answer as a line of a file has it."""
    return {
        "start_s": round(answer.start_s, 6),
        "end_s": round(answer.end_s, 6),
        "names": answer.names,
        "scores": [float(score) for score in answer.scores],
    }


def event_facts(event: Event | people_files.PersonEvent) -> dict[str, Any]:
    """Return an event as a line of a file has it."""
    return {**asdict(event), "start_s": round(event.start_s, 6), "end_s": round(event.end_s, 6)}


def _cue(event: Event | people_files.PersonEvent) -> str:
    return event.name if isinstance(event, Event) else f"{event.person}: {event.name}"


def _path_of(output: str, video: str) -> str:
    """Return the path of a video's answers."""
    return os.path.join(output, "videos", f"{place_of(video)}.jsonl")


def subtitles(cues: Sequence[tuple[float, float, str]]) -> str:
    """Return WebVTT text of (start, end, text)."""
    texts = (one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for _, _, text in cues)
    blocks = [f"{clock(start)} --> {clock(end)}\n{text}" for (start, end, _), text in zip(cues, texts, strict=True)]
    return "\n\n".join(["WEBVTT", *blocks]) + "\n"


def keep_together(predictor: Predictor, options: PredictOptions, **more: Any) -> None:
    """Write into the folder how its answers are made.

    Args:
        more: facts besides those of the options, or in place of them.

    Raises:
        ValueError: it holds answers made in another way; the message says what differs.
    """
    path = os.path.join(options.output, _ABOUT)
    wanted = {
        "weights": weight_facts(predictor.model)["weights to start from"],
        "mode": options.mode,
        "top": options.top,
        "events": None if options.rule is None else asdict(options.rule),
        "fps": options.fps,
        "boxes": options.boxes and options.boxes.facts,
        "class_names": predictor.class_names,
        "preprocessing": predictor.settings.facts(),
        **more,
    }
    os.makedirs(options.output, exist_ok=True)
    if os.path.isfile(path):
        found = read_json(path, dict, "the description that a run writes; name another folder")
        other = [name for name in wanted if found.get(name) != wanted[name]]
        if other:
            raise ValueError(
                f"{options.output} holds answers made with another {', '.join(other)}; name another folder"
            )
    atomic_write_local(path, json.dumps(wanted, indent=2) + "\n")


def _join(videos: Sequence[str], options: PredictOptions, unreadable: Mapping[str, str]) -> None:
    """Write the tables of all videos that have answers, in their order, and of what is unreadable."""
    stems = [_path_of(options.output, video).removesuffix(".jsonl") for video in videos]
    columns = PEOPLE_COLUMNS if options.boxes else COLUMNS
    for kind, ending in (("answers", ".jsonl"), ("events", ".events.jsonl"))[: 2 if options.rule else 1]:
        target = os.path.join(options.output, f"{kind}.jsonl")
        join_files(target, [stem + ending for stem in stems])
        write_csv(target, columns[kind])
    if options.boxes:
        join_files(os.path.join(options.output, "detections.csv"), [stem + _DETECTIONS for stem in stems])
    _join_unreadable(videos, options, unreadable)
    if len(videos) == 1:
        for ending, name in ((".vtt", "subtitles.vtt"), (".png", "timeline.png")):
            if os.path.isfile(stems[0] + ending):
                join_files(os.path.join(options.output, name), [stems[0] + ending])


def _join_unreadable(videos: Sequence[str], options: PredictOptions, unreadable: Mapping[str, str]) -> None:
    """Write what of all videos is unreadable, a line for each part; no file if all is readable."""
    path = os.path.join(options.output, "unreadable.jsonl")
    lines = []
    for video in videos:
        whole = [UnreadablePart(0.0, None, unreadable[video])] if video in unreadable else []
        lines += [{"video": video, **asdict(part)} for part in whole or _kept_parts(video, options) or []]
    if lines:
        atomic_write_local(path, "".join(json.dumps(line) + "\n" for line in lines))
    elif os.path.exists(path):
        os.remove(path)
