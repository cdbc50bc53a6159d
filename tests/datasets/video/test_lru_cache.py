"""Test the LRU cache."""

from concurrent.futures import ThreadPoolExecutor

from slowfast.datasets.video.cache import LRUCache


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
