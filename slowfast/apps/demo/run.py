"""Run PySlowFast's demo: read clips, answer about each, draw the answers, show the frames."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from slowfast.apps.demo.boxes import answers_at_boxes, boxes_answerer, key_position, truth_layer
from slowfast.apps.demo.clips import DemoClip, Source, open_source, read_clips
from slowfast.apps.demo.drawing import Layer, Mark, around, draw_marks
from slowfast.apps.demo.labels import LabelRule, read_names
from slowfast.apps.demo.output import Output, open_output
from slowfast.apps.predict.predictor import Predictor
from slowfast.checkpoint.io import list_class_names, load_checkpoint
from slowfast.datasets.video.reader import VideoError
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.engine.resume import load_test_weights
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

Answerer = Callable[[DemoClip], list[Mark]]


def run_demo(cfg: Any) -> int:
    """Run the demo of a config, see docs/demo_net.md; return the number of frames that were shown.

    The weights are those that a test would take. A video that breaks off is shown as far as it can be read, and when
    the user stops with Ctrl-C the file of the frames so far is kept.

    Raises:
        FileNotFoundError: no such checkpoint or file of names.
        ValueError: a setting does not fit, there is no checkpoint, or no file or window of the wanted kind.
        VideoError: the source cannot be read, or breaks off.
        OSError: the output cannot be written.
    """
    shown, start, failure = 0, time.monotonic(), None
    with open_source(cfg) as source, open_output(cfg, source.fps) as output, contextlib.ExitStack() as stack:
        clips = _marked_clips(cfg, demo_predictor(cfg), source, stack)
        with ThreadPoolExecutor(cfg.DEMO.NUM_VIS_INSTANCES, "drawing") as pool:
            try:
                for frames in _draw(cfg, clips, pool):
                    shown += len(frames)
                    if not _show(output, frames):
                        break
            except (KeyboardInterrupt, VideoError) as error:
                if not shown:
                    raise
                failure = error
    if isinstance(failure, VideoError):
        raise failure
    logger.info(
        "demo: %d frames of %s in %.1f s. %s", shown, source.name, time.monotonic() - start, cfg.DEMO.OUTPUT_FILE
    )
    return shown


def demo_predictor(cfg: Any) -> Predictor:
    """Build the model of a config with the weights that a test would take, and its class names.

    Names come from `DEMO.LABEL_FILE_PATH`, else from the checkpoint; a class without one is named by its number.

    Raises:
        FileNotFoundError: no such checkpoint or file of names.
        ValueError: there is no checkpoint, it does not fit, or names do not fit.
    """
    device, num_classes = device_of(cfg), cfg.MODEL.NUM_CLASSES
    names = read_names(cfg.DEMO.LABEL_FILE_PATH, num_classes) if cfg.DEMO.LABEL_FILE_PATH else None
    model = build_model(cfg)
    path = load_test_weights(model, cfg)
    if names is None:
        names = _saved_names(cfg, path, num_classes)
    setup_model(model, device, ModelSetup.from_config(cfg), training=False).eval().requires_grad_(False)
    return Predictor(model, _reading_swapped(cfg) if cfg.DEMO.INPUT_FORMAT == "RGB" else cfg, device, names)


def _reading_swapped(cfg: Any) -> Any:
    """Return the config with the channels reversed that the model reads, each with its own mean and deviation."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.MEAN, cfg.DATA.STD = cfg.DATA.MEAN[::-1], cfg.DATA.STD[::-1]
    cfg.DATA.REVERSE_INPUT_CHANNEL = not cfg.DATA.REVERSE_INPUT_CHANNEL
    cfg.freeze()
    return cfg


def _saved_names(cfg: Any, path: str, num_classes: int) -> list[str]:
    """Return the class names in a checkpoint; files of other programs have none."""
    kinds = {cfg.TRAIN.CHECKPOINT_FILE_PATH: cfg.TRAIN.CHECKPOINT_TYPE}
    kinds[cfg.TEST.CHECKPOINT_FILE_PATH] = cfg.TEST.CHECKPOINT_TYPE
    foreign = not path or kinds.get(path, "pytorch") != "pytorch"
    names = list_class_names({} if foreign else load_checkpoint(path), num_classes)
    if names == [str(number) for number in range(num_classes)]:
        logger.warning("classes are named by their numbers; DEMO.LABEL_FILE_PATH takes a file of their names")
    return names


def _marked_clips(
    cfg: Any, predictor: Predictor, source: Source, stack: contextlib.ExitStack
) -> Iterator[tuple[DemoClip, list[Layer]]]:
    """Return an iterator over the clips of a source with what is drawn into them.

    Args:
        stack: what is to be closed at the end is put there.

    Raises:
        ValueError: a file of boxes does not fit, or a detector cannot be built.
    """
    demo, rule = cfg.DEMO, LabelRule.from_config(cfg, predictor.class_names, predictor.scored)
    truth = [truth_layer(cfg, source, predictor.class_names)] if demo.GT_BOXES else []
    if demo.PREDS_BOXES:
        answered = answers_at_boxes(cfg, predictor, source, rule)
    else:
        answer = boxes_answerer(cfg, predictor, rule) if cfg.DETECTION.ENABLE else _answerer(predictor, rule)
        clips = stack.enter_context(read_clips(cfg, source, key_position(cfg)))
        answered = ((clip, around(clip.first + clip.key, answer(clip), demo.CLIP_VIS_SIZE)) for clip in clips)
    return ((clip, [layer, *truth]) for clip, layer in answered)


def _answerer(predictor: Predictor, rule: LabelRule) -> Answerer:
    """Return a function that answers about the clips of a model of whole frames."""

    def answer(clip: DemoClip) -> list[Mark]:
        # At the model's own rate, the frames of one clip are exactly as many as the clip has.
        (scores,) = predictor.clips(np.stack(clip.frames), top=0)
        return [Mark(rule(scores.all_scores))]

    return answer


def _draw(cfg: Any, clips: Iterable[tuple[DemoClip, list[Layer]]], pool: Executor) -> Iterator[list[np.ndarray]]:
    """Yield the new frames of each clip with its answer drawn in, in order; as many clips are drawn as are threads."""
    demo, waiting, failure = cfg.DEMO, deque[Future[list[np.ndarray]]](), None
    try:
        for clip, layers in clips:
            waiting.append(pool.submit(drawn_frames, clip, layers, demo.SLOWMO))
            while waiting and (len(waiting) > demo.NUM_VIS_INSTANCES or waiting[0].done()):
                yield waiting.popleft().result()
    except (KeyboardInterrupt, VideoError) as error:  # what is drawn comes first
        failure = error
    for future in waiting:
        yield future.result()
    if failure is not None:
        raise failure


def drawn_frames(clip: DemoClip, layers: list[Layer], slow: int) -> list[np.ndarray]:
    """Return the frames of a clip that the clip before does not have, with marks.

    Args:
        clip: the clip.
        layers: number of a frame in the source -> marks.
        slow: number of times that each frame with an answer comes.
    """
    frames = []
    for position in range(clip.num_shared, len(clip.frames)):
        frame = clip.frames[position]
        found = [layer(clip.first + position) for layer in layers]
        shown = [marks for marks in found if marks is not None]
        frames += [draw_marks(frame, sum(shown, []))] * slow if shown else [frame]
    return frames


def _show(output: Output, frames: list[np.ndarray]) -> bool:
    """Show frames; return False if the user wants to see no more."""
    return all(output.show(frame) for frame in frames)
