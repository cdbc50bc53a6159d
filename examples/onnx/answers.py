"""Answer for a video with an exported model of one pathway: python answers.py EXPORTED_FOLDER VIDEO [BEST]

Needs onnxruntime, numpy and av alone. A clip model answers for clips that cover the video, a model with memory for
each step.
"""

import json
import sys

import av
import numpy as np
import onnxruntime


def resize(frame, short):
    """Resize (H, W, 3) bilinearly, without antialiasing, so that the shorter side has `short` pixels."""
    sides = frame.shape[:2]
    for axis, old in enumerate(sides):
        new = short if old == min(sides) else int(old / min(sides) * short)
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low, high = np.floor(place).astype(int), np.ceil(place).astype(int)
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        frame = frame.take(low, axis) * (1 - share) + frame.take(high, axis) * share
    return frame


def prepare(frame, facts):
    """Make (3, H, W) of the model from (H, W, 3) uint8, RGB."""
    frame = resize(frame, facts["short_side"])
    if size := facts["crop"]:
        top, left = (-((size - side) // 2) for side in frame.shape[:2])
        frame = frame[top : top + size, left : left + size]
    frame = (frame / 255 - facts["mean"]) / facts["std"]
    return frame.transpose(2, 0, 1)[:: -1 if facts["channel_order"] == "BGR" else 1]


def windows(count, fps, facts, lengths):
    """Yield (graph, indices of its frames) over a video of `count` frames; `lengths`: number of frames by graph."""
    frames, span = facts["frames"], facts["frames"] * facts["sampling_rate"] * fps / facts["target_fps"]
    if len(lengths) == 1:  # clips; the last one ends with the video
        for clip in range(max(1, int(np.ceil(count / span)))):
            start = min(clip * span, max(count - span, 0))
            yield 0, np.linspace(start, start + span - 1, frames, dtype=np.float32).clip(0, count - 1).astype(int)
        return
    spacing, place, step = (span - 1) / (frames - 1), 0, 0
    while step == 0 or place <= int((count - 1) / spacing + 1e-6):
        graph = min(step, len(lengths) - 1)
        yield graph, np.minimum(((place + np.arange(lengths[graph])) * spacing + 1e-6).astype(int), count - 1)
        place, step = place + lengths[graph], step + 1


def main(folder, video, best=3):
    """Print the best classes of every clip or step."""
    with open(f"{folder}/export.json") as file:
        about = json.load(file)
    facts, names = about["preprocessing"], about["class_names"]
    sessions = [onnxruntime.InferenceSession(f"{folder}/{graph['name']}.onnx") for graph in about["graphs"]]
    with av.open(video) as file:
        fps = float(file.streams.video[0].average_rate)
        frames = [prepare(frame.to_ndarray(format="rgb24"), facts) for frame in file.decode(video=0)]
    memory, lengths = {}, [graph["inputs"][0]["shape"][2] for graph in about["graphs"]]
    for graph, indices in windows(len(frames), fps, facts, lengths):
        clip = np.stack([frames[index] for index in indices], axis=1)[None].astype(np.float32)
        outputs = [output.name for output in sessions[graph].get_outputs()]
        found = dict(zip(outputs, sessions[graph].run(outputs, {"clip": clip, **memory}), strict=True))
        scores = found.pop("scores")[0]
        memory = {name.replace("new_memory.", "memory."): value for name, value in found.items()}
        top = ", ".join(f"{names[number]} {scores[number]:.4f}" for number in np.argsort(-scores)[: int(best)])
        print(f"{indices[0] / fps:.2f} to {(indices[-1] + 1) / fps:.2f} s: {top}")


if __name__ == "__main__":
    main(*sys.argv[1:])
