"""Choice of memory format, precision and compilation by measurement, for settings with the value `auto`.

The real model trains, or predicts, a few batches of noise on the real device. The answer is kept in a file, so that a
run that is resumed on the same machine computes the same numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slowfast.checkpoint.zoo.entries import cache_folder
from slowfast.config.merge import AUTO, get_key, leaf_keys, set_key
from slowfast.engine.changed_settings import is_indifferent
from slowfast.engine.model_setup import default_memory_format
from slowfast.engine.task import task_class
from slowfast.engine.trial import Trial, seconds_of
from slowfast.layers.attention import pooling_attentions
from slowfast.layers.conv import depthwise_convolutions
from slowfast.models import MODEL_REGISTRY
from slowfast.models.complexity import complexity
from slowfast.runtime.device import device_name, device_of, gpu_libraries, processor, release_memory
from slowfast.runtime.distributed import all_gather_object, get_local_world_size, get_world_size, is_main_process
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import rng_state, set_rng_state
from slowfast.utils.errors import first_line
from slowfast.utils.files import atomic_write_local, file_lock

logger = get_logger(__name__)

Choice = dict[str, Any]  # key -> value
Values = tuple[tuple[str, Any], ...]  # of a candidate: (key, value), ...

_DEPTHWISE, _REL_POS = "TRAIN.DEPTHWISE_FP32", "MVIT.REL_POS_BIAS"
# Values of each setting, the plain ones first: contiguous fp32 is what the others have to beat.
_VALUES = {
    "MODEL.MEMORY_FORMAT": ("contiguous", "channels_last"),
    "TRAIN.MIXED_PRECISION": (False, True),
    _DEPTHWISE: (False, True),
    "MODEL.COMPILE": (False, True),
    _REL_POS: ("channels", "mask"),
}
_LEAST_WORK = 1e9  # multiply-adds of a measured batch; below, the gain is milliseconds, as is the noise of the clock
_CPU_CLIPS = 2  # of a batch on the CPU at most; layout and precision matter alike in smaller batches
_MUCH_WORK = 2e10  # multiply-adds of a clip, from which on the batch is one clip
_ROUNDS = 3
_SECONDS = 15.0  # after which no further round begins
_OUT_OF_RACE = 1.5  # slower than the best of a round by this factor: measured no further
_FIRST_OUT_OF_RACE = 3.0  # the same of the first batch, which also sets things up
_MARGIN = 1.03  # faster than the plain setting by less: noise
# Largest difference of the scores from those in contiguous fp32, relative to the largest score. On a GPU convolutions
# in fp32 compute in TF32, with 11 bits.
_TOLERANCE, _TF32_TOLERANCE, _MIXED_TOLERANCE = 1e-3, 0.02, 0.1
# Settings that decide neither what is computed in a batch nor how fast, and one that does, though not in training.
_WITHOUT_EFFECT = ("SOLVER.*", "RNG_SEED", "BENCHMARK.*", "DATA.PATH*", "TRAIN.DATASET", "TRAIN.EVAL*", "TASK")
_FOLD = "TEST.FOLD_NORMS"


def settle(cfg: Any, training: bool) -> Any:
    """Return the config with the fastest value in place of each `auto`; `cfg` itself if there is none.

    All processes of a run have to call it, and get the same answer. A small model keeps `auto`, and so does a task that
    noise does not measure (`Task.steady`); the model's setup takes it for `default_memory_format` and full precision,
    uncompiled.

    Args:
        training: measure training iterations; False: predictions.

    Raises:
        RuntimeError: a batch of noise cannot be computed in one of several processes.
    """
    if not task_class(cfg).steady:
        return cfg
    keys = [key for key in _VALUES if get_key(cfg, key) == AUTO and _matters(cfg, key)]
    if not keys:
        return cfg
    try:
        work = complexity(cfg).multiply_adds
    except ValueError:  # clips that do not fit the model, which its first batch answers with the keys
        return cfg
    count = _clips(cfg, work)
    if count * work < _LEAST_WORK:
        return cfg
    path = _answer_path(cfg, keys, training)
    known = all_gather_object(_read(path, keys) if is_main_process() else None)[0]
    return _with_choice(cfg, known or _measured(cfg, keys, training, count, path))


def _matters(cfg: Any, key: str) -> bool:
    """Return True if the config's model has what a setting is about."""
    if key == _DEPTHWISE:
        return cfg.TRAIN.MIXED_PRECISION is not False and bool(depthwise_convolutions(_model_of(cfg)))
    if key == _REL_POS:
        relative = cfg.MVIT.REL_POS_SPATIAL or cfg.MVIT.REL_POS_TEMPORAL
        # On the CPU both take the same time, so the rule of `scaled_dot_product`, which spares memory, decides.
        return relative and device_of(cfg).type != "cpu" and bool(pooling_attentions(_model_of(cfg)))
    return True


def _model_of(cfg: Any) -> nn.Module:
    """Return the config's model of clips, without memory for its weights."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)(cfg)


def _clips(cfg: Any, work: int) -> int:
    """Return the clips of a batch to measure; `work` is the multiply-adds of a clip."""
    count = max(1, cfg.TRAIN.BATCH_SIZE // get_local_world_size())
    whole = device_of(cfg).type != "cpu" or cfg.BN.NORM_TYPE == "sub_batchnorm"
    return count if whole else min(count, _CPU_CLIPS if work < _MUCH_WORK else 1)


def _unmeasured(cfg: Any, keys: list[str]) -> Choice:
    rules = {"MODEL.MEMORY_FORMAT": default_memory_format(device_of(cfg)), _REL_POS: AUTO}
    return {key: rules.get(key, False) for key in keys}


def _with_choice(cfg: Any, choice: Choice) -> Any:
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in choice.items():
        set_key(cfg, key, value)
    cfg.freeze()
    return cfg


def _answer_path(cfg: Any, keys: list[str], training: bool) -> Path:
    """Return the file of the answer: its name depends on device, versions, and the settings of the model."""
    settings = {key: get_key(cfg, key) for key in leaf_keys(cfg) if not _is_without_effect(key)}
    where = [device_name(device_of(cfg)), processor(), torch.get_num_threads(), torch.__version__, gpu_libraries()]
    facts = json.dumps([where, get_world_size(), training, keys, settings], sort_keys=True, default=str)
    return cache_folder().parent / "fastest" / f"{hashlib.sha256(facts.encode()).hexdigest()[:20]}.json"


def _is_without_effect(key: str) -> bool:
    return key != _FOLD and (is_indifferent(key) or any(fnmatchcase(key, pattern) for pattern in _WITHOUT_EFFECT))


def _read(path: Path, keys: list[str]) -> Choice | None:
    """Return a kept answer; None if there is none, or if the file holds something else."""
    try:
        choice = json.loads(path.read_text())["choice"]
        known = {key: choice[key] for key in keys}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if all(value in _VALUES[key] for key, value in known.items()) else None


def _measured(cfg: Any, keys: list[str], training: bool, count: int, path: Path) -> Choice:
    """Measure, keep the answer, and log it; an answer that cannot be kept is not used."""
    start = time.perf_counter()
    with _random_state_kept(device_of(cfg)):
        seconds = _Race(cfg, keys, training, count).run()
    release_memory(device_of(cfg))
    choice, kept = _winner(seconds) if seconds else _unmeasured(cfg, keys), f"kept in {path}"
    if is_main_process():
        try:
            if seconds:
                choice = _keep(path, keys, choice, seconds)
            else:
                kept = "not kept: the next run measures again"
        except OSError as error:
            choice, kept = _unmeasured(cfg, keys), f"not kept ({error}), so the rule is taken that needs no measurement"
        times = ", ".join(f"{_in_words(values)} {1000 * value:.0f} ms" for values, value in seconds.items())
        logger.info(
            "%s, measured in %.0f s (%s of %d clips: %s), %s",
            _in_words(choice.items()),
            time.perf_counter() - start,
            *("training" if training else "prediction", count, times or "nothing ran", kept),
        )
    return all_gather_object(choice)[0]


def _in_words(values: Any) -> str:
    return " ".join(f"{key} {value}" for key, value in values)


def _keep(path: Path, keys: list[str], choice: Choice, seconds: dict[Any, float]) -> Choice:
    """Write the answer and return it; of two runs that measure at once, the first one's answer counts for both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_suffix(".lock"), "a measured choice"):
        known = _read(path, keys)
        if known is None:
            times = {_in_words(values): value for values, value in seconds.items()}
            atomic_write_local(path, json.dumps({"choice": choice, "seconds": times}, indent=2) + "\n")
    return known or choice


@dataclasses.dataclass
class _Race:
    """Measurement of all candidates; see `settle` for the arguments.

    Attributes:
        plain: results of the first candidate that ran, which the others' have to equal; None before.
        tolerance: of that candidate's precision, which bounds how far others can equal it.
        seconds: of a batch, the least of the rounds; of those that ran, agreed and were not far behind.
        start: time at which the race began.
    """

    cfg: Any
    keys: list[str]
    training: bool
    count: int
    plain: Tensor | None = None
    tolerance: float = 0.0
    seconds: dict[Values, float] = dataclasses.field(default_factory=dict)
    start: float = dataclasses.field(default_factory=time.perf_counter)

    def run(self) -> dict[Values, float]:
        """Measure on the CPU in turn, since its speed changes; elsewhere one by one, since memory is short."""
        every = itertools.product(*([(key, value) for value in _VALUES[key]] for key in self.keys))
        # Without mixed precision depthwise convolutions are in float32 anyway.
        candidates = [
            values for values in every if not {("TRAIN.MIXED_PRECISION", False), (_DEPTHWISE, True)} <= {*values}
        ]
        device = device_of(self.cfg)
        for group in [candidates] if device.type == "cpu" else [[values] for values in candidates]:
            self._take_turns(*self._runnable(group, device), device)
        return self.seconds

    def _take_turns(
        self, works: dict[Values, Callable[[], Tensor]], first: dict[Values, float], device: torch.device
    ) -> None:
        """Measure those that run in rounds; if time is up before, by their first batches where these only compute."""
        if device.type == "cpu" and "MODEL.COMPILE" not in self.keys and self._is_late():
            self.seconds |= {values: first[values] for values in works}
            return
        for _ in range(_ROUNDS):
            own = {values: seconds_of(work, 1, device) for values, work in works.items()}
            for values, value in _slowest(own).items():
                self.seconds[values] = min(value, self.seconds.get(values, value))
            bound = _OUT_OF_RACE * min(self.seconds.values(), default=0.0)
            self.seconds = {values: value for values, value in self.seconds.items() if value <= bound}
            works = {values: work for values, work in works.items() if values in self.seconds}
            if self._is_late():
                return

    def _is_late(self) -> bool:
        return max(all_gather_object(time.perf_counter() - self.start)) > _SECONDS

    def _runnable(
        self, candidates: Sequence[Values], device: torch.device
    ) -> tuple[dict[Values, Callable[[], Tensor]], dict[Values, float]]:
        """Return work, and seconds of the first batch, of those that run and whose results agree."""
        works, first = {}, {}
        for values in candidates:
            cfg = _with_choice(self.cfg, dict(values))
            with _failures_told(values):
                trial = Trial(cfg, self.training, count=self.count)
                if self._agrees(values, cfg, trial.result().detach().double().cpu()):
                    works[values], first[values] = trial, seconds_of(trial, 1, device)
        first = _slowest(first)
        bound = _FIRST_OUT_OF_RACE * min(first.values(), default=0.0)
        return {values: works[values] for values, value in first.items() if value <= bound}, first

    def _agrees(self, values: Values, cfg: Any, result: Tensor) -> bool:
        """Return True if the results are those of the plain setting in all processes, whose inputs differ."""
        full = _TOLERANCE if device_of(cfg).type == "cpu" else _TF32_TOLERANCE
        own = _MIXED_TOLERANCE if cfg.TRAIN.MIXED_PRECISION else full
        if self.plain is None:
            self.plain, self.tolerance = result, own
        apart = float((result - self.plain).abs().max() / self.plain.abs().max().clamp_min(1e-12))
        wrong = [each for each in all_gather_object(apart) if not each <= max(own, self.tolerance)]  # also NaN
        if wrong:
            logger.warning("%s is not taken: its results differ by %.2g of the largest", _in_words(values), wrong[0])
        return not wrong


def _slowest(own: dict[Values, float]) -> dict[Values, float]:
    """Return the seconds of each candidate in the slowest process."""
    told = all_gather_object(own)
    return {values: max(each[values] for each in told) for values in own}


@contextlib.contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Leave the random generators as they were."""
    state = rng_state(device)
    try:
        yield
    finally:
        set_rng_state(state, device)


@contextlib.contextmanager
def _failures_told(values: Values) -> Iterator[None]:
    """Warn of a candidate that cannot be run, and go on; with several processes fail, since the others wait."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # out of memory and CompileError are RuntimeErrors
        if get_world_size() > 1:
            raise RuntimeError(f"with {_in_words(values)} a batch of noise failed; set these keys: {error}") from error
        logger.warning("%s is not taken: it fails here (%s)", _in_words(values), first_line(error))


def _winner(seconds: dict[Values, float]) -> Choice:
    """Return the fastest candidate; the first one if no other is faster beyond noise."""
    first, best = next(iter(seconds)), min(seconds, key=seconds.get)
    return dict(first if seconds[first] <= _MARGIN * seconds[best] else best)
