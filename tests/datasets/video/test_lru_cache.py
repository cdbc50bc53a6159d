"""Test the LRU cache, and how many bytes of facts about videos it holds."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from types import SimpleNamespace

import pytest

from slowfast.datasets.video import pyav
from slowfast.datasets.video.cache import LRUCache
from slowfast.datasets.video.facts import FileFacts
from slowfast.datasets.video.packet_index import index_packets


def test_the_longest_unused_is_forgotten():
    recent = LRUCache(3)
    for key in "abc":
        recent.keep(key, key.upper())
    assert recent.get("a") == "A"
    recent.keep("d", "D")
    assert [recent.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    recent.keep("a", "again")
    assert (recent.get("a"), len(recent)) == ("again", 3)


def test_threads_may_share_it():
    recent = LRUCache(7)

    def work(seed):
        for number in range(2000):
            recent.keep((seed * number) % 11, number)
            recent.get(number % 11)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 5)))
    assert len(recent) == 7


def test_sizes_are_bounded_by_their_sum():
    recent = LRUCache(10)
    for key, size in (("a", 4), ("b", 4), ("a", 5), ("c", 3)):
        recent.keep(key, key, size)
    assert (len(recent), recent.total, recent.get("b")) == (2, 8, None)
    recent.keep("whale", "large", 50)  # kept alone: a file that is read again and again is indexed once
    assert (len(recent), recent.total, recent.get("whale")) == (1, 50, "large")
    recent.keep("d", "d", 1)
    assert (len(recent), recent.total) == (1, 1)


def facts_of(count: int, key_interval: int) -> FileFacts:
    """Return the facts of a video of `count` packets, a key packet every `key_interval`."""
    container = SimpleNamespace(format=SimpleNamespace(name="matroska,webm", flags=0))
    codec = SimpleNamespace(name="h264", has_b_frames=0)
    stream = SimpleNamespace(codec_context=codec, frames=count, time_base=Fraction(1, 15360), container=container)
    packets = (
        SimpleNamespace(
            **{"size": 5000, "is_corrupt": False, "is_discard": False, "duration": 512},
            **{"pts": 512 * i, "dts": 512 * i, "is_keyframe": i % key_interval == 0},
        )
        for i in range(count)
    )
    index = index_packets(packets, stream, "matroska,webm")
    assert not index.doubt and len(index.pts) == count
    return FileFacts(0, index, None, 1 / 15360, 30.0, (64, 48), True, {})


@pytest.mark.parametrize(
    "count, key_interval, most",
    [(108_000, 1, 0.9e6), (108_000, 2, 1.8e6), (300, 12, 5e3), (300, 250, 5e3)],  # an hour of MJPEG, ten seconds
)
def test_facts_of_a_video_take_the_memory_that_is_counted(count, key_interval, most):
    taken = []
    for _ in range(3):  # what a first call or another thread keeps is not of the facts
        tracemalloc.start()
        facts = facts_of(count, key_interval)
        taken.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert 0.5 * facts.nbytes < min(taken) <= facts.nbytes < most


def test_facts_of_many_videos_are_bounded():
    facts = facts_of(108_000, 1)
    cache = LRUCache(pyav.FACTS_BYTES)
    for number in range(4096):
        cache.keep(number, facts, facts.nbytes)
    assert len(cache) == pyav.FACTS_BYTES // facts.nbytes == 38
    assert pyav._known.limit == pyav.FACTS_BYTES == 32 * 2**20
