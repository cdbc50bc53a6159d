"""The page in a real Chromium, on a real `tools/serve.py`."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from slowfast.apps.predict.predictor import load
from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.synthetic.render import render_video
from slowfast.apps.visualize.evidence import evidence

playwright_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; on Debian: apt install chromium"),
]

PGT = "sweep_pgt_36x1"
STEPS = [(0, 8), (8, 15), (15, 22), (22, 29), (29, 36)]  # frames of the steps of a video of 36, at 4 a second
COLOR = (190, 60, 90)  # RGB, of the camera's picture
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
TIMEOUT_MS = 60_000
_FAILED = re.compile("Failed to load resource|WebSocket connection")  # what Chromium says of a request that failed
DONE = "#downloads:not([hidden])"  # shown when a stream has ended


@contextlib.contextmanager
def serving(repo, port=0):
    """Start the server; yields its address and its process."""
    command = [sys.executable, str(repo / "tools/serve.py"), "--checkpoint", f"zoo://{PGT}", "--device", "cpu"]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r"http://\S+", line):
                    break
            else:
                pytest.fail("the server did not start:\n" + "".join(lines))
            yield found[0], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(repo):
    """Address of a server that all tests share."""
    with serving(repo) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, with a camera that shows one color."""
    trial = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True)
    if trial.returncode:  # such as Ubuntu's stub, which asks for a snap
        pytest.skip(f"{CHROMIUM} --version: status {trial.returncode}: {(trial.stderr or trial.stdout).strip()}")
    film = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    film.write_bytes(4 * cv2.imencode(".jpg", np.full((240, 320, 3), COLOR[::-1], np.uint8))[1].tobytes())
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera.append(f"--use-file-for-fake-video-capture={film}")
    with playwright_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), *camera])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """`visit(refused=False, url=address, **options) -> page`: open the page in a profile of its own.

    At the end it has reported no fault, and asked no other host. `refused`: requests may fail, which Chromium reports.
    """
    pages, faults, hosts = [], [], set()

    def run(refused=False, url=address, **options):
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: (
                faults.append(message.text)
                if message.type in ("error", "warning") and not (refused and _FAILED.search(message.text))
                else None
            ),
        )
        page.on("request", lambda request: hosts.add(urllib.parse.urlsplit(request.url)))
        page.goto(url)
        page.wait_for_selector("#samples button")
        pages.append(page)
        return page

    yield run
    for page in pages:
        page.context.close()
    assert faults == []
    assert {url.hostname for url in hosts if url.scheme not in ("data", "blob")} == {"127.0.0.1"}


@pytest.fixture(scope="module")
def predictor():
    """The model of the server."""
    return load(f"zoo://{PGT}", "cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of 9 s: files, and their frames as decoded."""
    made = []
    for number in range(2):
        path = tmp_path_factory.mktemp("videos") / f"sweep {number}.mp4"
        encode_video(path, render_video(1, "val", number, 64)[0])
        made.append((path, frames_of(path)))
    return made


def frames_of(path):
    with av.open(str(path) if isinstance(path, Path) else path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def truth(predictor, frames, wiped=False):
    """Scores of each step of a video by the library."""
    session, rows = predictor.session(4), []
    for start, stop in STEPS:
        if wiped:
            session.memory = None
        rows += [answer.all_scores for answer in session.push(frames[start:stop])]
    return np.array(rows)


def send(page, path):
    """Upload a file, and wait for its answers."""
    page.set_input_files("#file", str(path))
    page.wait_for_selector(f"#answers-title:has-text('{path.name}')")
    page.wait_for_selector(DONE)


def until(page, condition):
    """Wait until an expression of JavaScript is true (Playwright's own wait needs eval, which the page forbids)."""
    page.evaluate(
        f"""new Promise((resolve, reject) => {{
            const end = performance.now() + {TIMEOUT_MS};
            const look = () => {{
                if ({condition}) resolve();
                else if (performance.now() > end) reject(Error({condition!r}));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
    )


def scores_of(page):
    return np.array(page.evaluate("answers.map((answer) => answer.all)"))


def check_bars(page, predictor, scores):
    """Compare the five bars that the page shows with scores."""
    shown = page.evaluate(
        "[...$('bars').children].map((one) => [...one.querySelectorAll('span')].map((t) => t.textContent))"
    )
    numbers = [predictor.class_names.index(name) for name, _ in shown]
    assert len(shown) == 5 and numbers[:2] == np.argsort(-scores)[:2].tolist()
    np.testing.assert_allclose([float(text.rstrip(" %")) for _, text in shown], 100 * scores[numbers], atol=0.51)


def tab_to(page, selector):
    """Press Tab until an element has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def luminance(page, variable):
    """Relative luminance of a color of the style (WCAG 2.2)."""
    digits = page.evaluate("(name) => getComputedStyle(document.documentElement).getPropertyValue(name)", variable)
    channels = np.array([int(digits.strip()[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_an_upload_is_answered_and_bars_follow_the_playback(visit, predictor, videos):
    path, frames = videos[0]
    page, scores = visit(), truth(predictor, frames)
    send(page, path)
    np.testing.assert_allclose(scores_of(page), scores, atol=1e-4)
    page.evaluate("video.playbackRate = 4; video.play()")
    until(page, "video.ended")
    until(page, "$('when').textContent === 'From 0:07.3 to 0:09.0'")
    check_bars(page, predictor, scores[-1])


def test_a_click_on_the_timeline_moves_the_video_and_the_bars(visit, predictor, videos):
    path, frames = videos[0]
    page, scores = visit(), truth(predictor, frames)
    send(page, path)
    bands = page.locator("#bands")
    for share, step in ((0.7, 3), (0.3, 1)):
        bands.click(position={"x": share * bands.bounding_box()["width"], "y": 20})
        until(page, f"!video.seeking && video.paused && Math.abs(video.currentTime - 9 * {share}) < 0.1")
        start, stop = STEPS[step]
        until(page, f"$('when').textContent === 'From 0:0{start / 4 + 1e-9:.1f} to 0:0{stop / 4 + 1e-9:.1f}'")
        check_bars(page, predictor, scores[step])


def test_a_wiped_memory_changes_the_answers_and_leaves_a_line_to_compare(visit, predictor, videos):
    path, frames = videos[0]
    page = visit()
    send(page, path)
    page.check("[name=memory][value=wipe]")
    page.wait_for_selector(DONE)
    wiped = truth(predictor, frames, wiped=True)
    np.testing.assert_allclose(scores_of(page), wiped, atol=1e-4)
    assert page.locator("#compare-help").is_visible()
    np.testing.assert_allclose(page.evaluate("own.map((one) => one.all)"), truth(predictor, frames), atol=1e-4)
    page.check("[name=memory][value=on]")
    page.wait_for_selector(DONE)
    np.testing.assert_allclose(scores_of(page), truth(predictor, frames), atol=1e-4)


def test_the_memory_of_another_video_is_taken_from_the_moment_shown(visit, predictor, videos):
    page = visit()
    send(page, videos[1][0])
    send(page, videos[0][0])
    page.focus("#timeline")
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.select_option("#other", label=videos[1][0].name)
    page.check("[name=memory][value=other]")
    page.wait_for_selector(DONE)
    own, other, scores = predictor.session(4), predictor.session(4), []
    for number, (start, stop) in enumerate(STEPS):
        if number == 3:
            own.memory = other.memory
        scores += [answer.all_scores for answer in own.push(videos[0][1][start:stop])]
        other.push(videos[1][1][start:stop])
    np.testing.assert_allclose(scores_of(page), scores, atol=1e-4)
    assert page.evaluate("answers.map((one) => one.memory)") == ["on", "on", "on", "other", "other"]
    assert np.abs(truth(predictor, videos[0][1])[3] - scores[3]).max() > 0.1


def test_evidence_of_earlier_steps_is_shown_and_leads_to_its_frames(visit, predictor, videos):
    path, frames = videos[0]
    page = visit()
    send(page, path)
    page.focus("#timeline")
    page.keyboard.press("End")
    until(page, "$('when').textContent === 'From 0:07.3 to 0:09.0'")
    page.click("#ask button")
    page.wait_for_selector("#evidence:not([hidden])")
    found = evidence(predictor, frames, int(np.argmax(truth(predictor, frames)[-1])), len(STEPS) - 1, fps=4)
    shares = [float(text.rstrip(" %")) for text in page.locator("#curve span").all_text_contents()]
    np.testing.assert_allclose(shares, [100 * step.value for step in found.steps], atol=0.6)
    assert page.locator(".operator").count() == len(found.operators)
    assert page.evaluate("[...document.querySelectorAll('#frames img')].every((one) => one.naturalWidth && one.alt)")
    best = max(found.frames, key=lambda frame: frame.value)
    page.click(f"#frames button:has-text('{100 * best.value:.0f} %')")
    until(page, f"!video.seeking && Math.abs(video.currentTime - {best.time_s}) < 0.01")


def test_a_dropped_file_is_answered_and_removed(visit):
    page = visit()
    page.evaluate(
        """async () => {
            const data = new DataTransfer(), reply = await fetch(`/api/videos/${info.samples[0].id}/file`);
            data.items.add(new File([await reply.blob()], "dropped.mp4"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
        }"""
    )
    page.wait_for_selector("#answers-title:has-text('dropped.mp4')")
    page.wait_for_selector(DONE)
    assert page.evaluate("answers.length") == len(STEPS)
    page.click("[aria-label='Remove dropped.mp4']")
    page.wait_for_selector("#uploads", state="hidden")


def test_answers_are_saved_as_files(visit, predictor, videos):
    page = visit()
    send(page, videos[0][0])
    files = {}
    for kind in ("json", "csv", "vtt", "mp4"):
        with page.expect_download() as download:
            page.click(f"[data-kind={kind}]")
        files[kind] = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename == f"answers.{kind}"
    best = [predictor.class_names[number] for number in np.argmax(truth(predictor, videos[0][1]), 1)]
    told = json.loads(files["json"])
    assert [answer["names"][0] for answer in told["answers"]] == best
    assert len(files["csv"].decode().splitlines()) > len(STEPS) and files["vtt"].startswith(b"WEBVTT")
    assert len(frames_of(io.BytesIO(files["mp4"]))) == len(videos[0][1])


def test_boxes_lie_over_the_picture_with_the_names_of_what_persons_do(visit):
    page = visit()
    page.click("#samples button >> nth=0")
    page.wait_for_selector(DONE)
    until(page, "video.videoWidth")
    page.evaluate(
        """() => {
            const names = [{name: "walk", score: 0.75}, {name: "talk", score: 0.5}];
            answers.forEach((one) => { one.boxes = [{box: [0.25, 0.5, 0.75, 1], id: 7, names}]; });
            seek(1);
        }"""
    )
    until(page, "document.querySelector('#boxes rect')")
    box, stage = page.evaluate(
        "['#boxes rect', '#stage'].map((one) => document.querySelector(one).getBoundingClientRect().toJSON())"
    )
    side = min(stage["width"], stage["height"])  # of the square picture
    assert box["height"] == pytest.approx(side / 2, abs=4) and box["width"] == pytest.approx(side / 2, abs=4)
    assert box["x"] + box["width"] / 2 == pytest.approx(stage["x"] + stage["width"] / 2, abs=1)
    assert page.inner_text("#persons") == "7: walk 75 %, talk 50 %"


def test_two_viewers_at_once_have_their_own_answers(visit, predictor, videos):
    pages = [visit(), visit()]
    for page, (path, _) in zip(pages, videos, strict=True):
        page.set_input_files("#file", str(path))
    for page, (_, frames) in zip(pages, videos, strict=True):
        page.wait_for_selector(DONE)
        np.testing.assert_allclose(scores_of(page), truth(predictor, frames), atol=1e-4)


def test_the_camera_sends_its_pictures_and_its_memory_is_wiped(visit):
    page, sent = visit(), []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    page.click("#camera")
    until(page, "answers.length >= 1")
    page.check("[name=memory][value=wipe]")
    until(page, "answers.at(-1).memory === 'wiped'")
    page.click("#stop")
    assert page.evaluate("video.srcObject.getTracks()[0].readyState") == "ended"
    pictures = [data for data in sent if isinstance(data, bytes)]
    times = [np.frombuffer(data[:8], "<f8")[0] for data in pictures]
    assert times == sorted(times) and times[0] >= 0
    picture = cv2.imdecode(np.frombuffer(pictures[-1][8:], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)
    np.testing.assert_allclose(picture.mean((0, 1))[::-1], COLOR, atol=12)


def test_a_broken_file_is_told_and_the_page_goes_on(visit, tmp_path):
    page = visit(refused=True)
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video" * 1000)
    page.set_input_files("#file", str(path))
    page.wait_for_selector("#alert:not([hidden])")
    assert page.inner_text("#alert-text").startswith("broken.mp4: ")
    page.click("#samples button >> nth=1")
    page.wait_for_selector(DONE)
    assert page.evaluate("answers.length") == len(STEPS)
    assert page.locator("#alert").is_hidden()


def test_a_file_that_the_browser_cannot_play_is_answered_all_the_same(visit, predictor, videos, tmp_path):
    path, frames = tmp_path / "old.avi", videos[0][1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.height, stream.width = frames.shape[1:3]
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    page = visit(refused=True)
    send(page, path)
    page.wait_for_selector("#unplayable:not([hidden])")
    page.focus("#timeline")
    page.keyboard.press("End")
    until(page, "$('when').textContent === 'From 0:07.3 to 0:09.0'")
    check_bars(page, predictor, truth(predictor, frames_of(path))[-1])


def test_a_lost_connection_is_told_and_found_again(visit, repo, free_port):
    with serving(repo, free_port) as (url, process):
        page = visit(refused=True, url=url)
        page.check("#live")
        page.click("#samples button >> nth=0")
        until(page, "running && session")
        process.kill()
        page.wait_for_selector("#alert:not([hidden])")
        assert "tools/serve.py" in page.inner_text("#alert-text")
        process.wait()
    with serving(repo, free_port):
        page.wait_for_selector("#alert", state="hidden")
        page.uncheck("#live")
        page.click("#samples button >> nth=0")
        page.wait_for_selector(DONE)
        assert page.evaluate("answers.length") == len(STEPS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read_and_a_choice_is_kept(visit, scheme):
    page = visit(color_scheme=scheme)
    assert (luminance(page, "--back") < luminance(page, "--ink")) == (scheme == "dark")
    for ink, back in (("--ink", "--card"), ("--quiet", "--back"), ("--on-accent", "--accent"), ("--bad", "--bad-soft")):
        low, high = sorted((luminance(page, ink), luminance(page, back)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, back)
    page.click("#theme")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == {"light": "dark", "dark": "light"}[scheme]


def test_a_phone_shows_one_column_that_does_not_scroll_sideways(visit, tmp_path):
    page = visit(refused=True, viewport={"width": 360, "height": 740})

    def fits():
        return page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    assert fits()
    page.click("#samples button >> nth=0")
    page.wait_for_selector(DONE)
    assert fits()
    assert page.locator("#memory").bounding_box()["y"] > page.locator("#timeline").bounding_box()["y"]
    path = tmp_path / ("a_very_long_name_without_a_space_" * 4 + ".mp4")
    path.write_bytes(b"no video" * 1000)
    page.set_input_files("#file", str(path))
    page.wait_for_selector("#alert:not([hidden])")
    assert fits()


def test_everything_is_reached_by_the_keyboard(visit):
    page = visit()
    tab_to(page, "#samples button:first-child")
    page.keyboard.press("Enter")
    page.wait_for_selector(DONE)
    tab_to(page, "#timeline")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    until(page, "$('when').textContent === 'From 0:02.0 to 0:03.8'")
    assert page.get_attribute("#timeline", "aria-valuenow") == "2.00"
    assert page.get_attribute("#timeline", "aria-valuetext").startswith("0:02.0: ")
    tab_to(page, "[name=memory][value=on]")
    page.keyboard.press("ArrowDown")
    until(page, "answers.length === 5 && answers.every((answer) => answer.memory === 'wiped')")
