// The page: a stream of answers over a WebSocket, drawn beside the video. docs/web.md describes the protocol.
"use strict";

const MOST_ANSWERS = 10000, LANES = 5, TOP = 5, SHOWN_FRAMES = 12, LEAST_SHARE = 0.01, LABELED_STEPS = 12;
const CAMERA_SIDE = 480, CAMERA_RATE = 30, MOST_BUFFERED = 200000, CAMERA_SPAN_S = 60, RETRY_MS = 1000;
// Okabe and Ito's colors, told apart by color-blind people.
const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const OTHERS = "#8a939d"; // of classes without a lane
const $ = (id) => document.getElementById(id);
const video = $("video");

let info = null; // what the server offers
let chosen = null; // {kind: "video" | "camera" | "source", id, title, seconds, width, height, address}
let socket = null, session = "", running = false;
let answers = [], own = []; // of this run, and of the last one with the video's own memory
let lanes = []; // numbers of the classes with a lane of the timeline
let position = 0, playable = false, following = false, told = "";
let cameraStream = null, cameraTimer = 0, unsent = 0;

function element(tag, attributes = {}, ...children) {
  const made = tag === "svg:rect" || tag === "svg:text"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor((tenths % 600) / 10)).padStart(2, "0")}.${tenths % 10}`;
}
function bytes(count) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return `${count} bytes`;
}

function fail(text) {
  $("alert-text").textContent = text;
  $("alert").hidden = false;
  $("alert").scrollIntoView({ block: "nearest" });
}
function say(text) { $("status").textContent = text; }
const dismiss = () => { $("alert").hidden = true; };

// Requests ------------------------------------------------------------------------------------------------------------

const LOST = "The connection to the server was lost. See whether tools/serve.py still runs, and start it again if not; "
  + "this page connects by itself. Answers so far stay here.";
let retrying = 0;

async function request(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    lost();
    throw new Error(LOST);
  }
  const found = await reply.json().catch(() => ({ error: `the server answered with status ${reply.status}` }));
  if (!reply.ok) throw new Error(found.error || `the server answered with status ${reply.status}`);
  return found;
}

function lost() {
  fail(LOST);
  say("Not connected.");
  if (retrying) return;
  retrying = setInterval(async () => {
    const reply = await fetch("/api/info").catch(() => null);
    if (!reply || !reply.ok || !retrying) return;
    clearInterval(retrying);
    retrying = 0;
    offer(await reply.json());
    dismiss();
    say("Connected again. Choose a video to go on.");
  }, RETRY_MS);
}

const model = () => info.models.find((one) => one.name === $("model").value);

function offer(found) {
  const before = $("model").value;
  info = found;
  uploads = [];
  $("model").replaceChildren(...info.models.map((one) => element("option", { value: one.name }, one.title)));
  if (info.models.some((one) => one.name === before)) $("model").value = before;
  $("samples").replaceChildren(...info.samples.map((sample, number) => pick(
    { ...sample, title: sample.title.replace(/\.mp4$/, "") }, number ? {} : { class: "first" }, number ? "" : "Start with ")));
  $("samples-help").hidden = !info.samples.length;
  const { upload_bytes: most, seconds } = info.limits;
  $("limits").textContent = `Up to ${bytes(most)} and ${seconds >= 120 ? `${Math.floor(seconds / 60)} minutes` : `${seconds} s`}.`;
  $("source").hidden = !info.sources;
  list();
  offerModel();
}

function offerModel() {
  $("class").replaceChildren(...model().classes.map((name, number) => element("option", { value: number }, name)));
  for (const input of document.querySelectorAll("[name=memory]")) input.disabled = !model().memory;
  $("no-memory").hidden = model().memory;
  offerOthers();
}

// Choosing ------------------------------------------------------------------------------------------------------------

let uploads = [];

function pick(one, attributes = {}, before = "") {
  return element("button", { type: "button", "data-video": one.id, "aria-pressed": "false", ...attributes,
    onclick: () => choose({ kind: "video", ...one }) }, before + one.title);
}

function list() {
  $("uploads").hidden = !uploads.length;
  $("uploads").replaceChildren(...uploads.map((one) => element("span", { class: "pair" }, pick(one),
    element("button", { type: "button", "aria-label": `Remove ${one.title}`, onclick: () => remove(one) }, "✕"))));
}

async function remove(one) {
  try {
    await request(`/api/videos/${one.id}`, { method: "DELETE" });
    uploads = uploads.filter((other) => other !== one);
    list();
    offerOthers();
  } catch (error) { fail(error.message); }
}

function offerOthers() {
  const others = [...info.samples, ...uploads].filter((one) => !chosen || one.id !== chosen.id);
  const before = $("other").value;
  $("other").replaceChildren(...others.map((one) => element("option", { value: one.id }, one.title)));
  if (others.some((one) => one.id === before)) $("other").value = before;
  $("other").disabled = !others.length || !model().memory;
  document.querySelector("[name=memory][value=other]").disabled = $("other").disabled;
}

function upload(file) {
  if (!file || !info) return;
  dismiss();
  if (file.size > info.limits.upload_bytes) {
    fail(`${file.name} has ${bytes(file.size)}; the server takes up to ${bytes(info.limits.upload_bytes)}.`);
    return;
  }
  const sending = new XMLHttpRequest(); // fetch tells no progress
  sending.open("POST", `/api/videos?name=${encodeURIComponent(file.name)}`);
  sending.upload.onprogress = (event) => { $("upload").value = event.lengthComputable ? event.loaded / event.total : 0; };
  sending.onerror = lost;
  sending.onloadend = () => {
    $("upload").hidden = true;
    $("file").value = "";
    if (!sending.status) return;
    let found = {};
    try { found = JSON.parse(sending.responseText); } catch { /* told below */ }
    if (sending.status !== 201) {
      say("");
      fail(`${file.name}: ${found.error || `the server answered with status ${sending.status}`}`);
      return;
    }
    uploads.push(found);
    list();
    choose({ kind: "video", ...found });
  };
  $("upload").value = 0;
  $("upload").hidden = false;
  say(`Sending ${file.name} …`);
  sending.send(file);
}

async function useCamera() {
  dismiss();
  if (!navigator.mediaDevices) {
    fail("The browser gives its camera only to pages of this machine (127.0.0.1) and to pages by HTTPS.");
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    fail(error.name === "NotAllowedError" ? "The camera was not allowed. Allow it beside the address of the page, then try again."
      : `No camera can be used (${error.message}). Connect one, or close the program that uses it.`);
    return;
  }
  choose({ kind: "camera", title: "Camera" });
  cameraStream = video.srcObject = stream;
  video.play();
}

function choose(what) {
  dismiss();
  disconnect();
  stopCamera();
  chosen = what;
  own = [];
  lanes = [];
  position = 0;
  document.querySelector("[name=memory][value=on]").checked = true;
  for (const button of document.querySelectorAll("[data-video]")) {
    button.setAttribute("aria-pressed", String(button.dataset.video === what.id));
  }
  const isVideo = what.kind === "video";
  video.srcObject = null;
  playable = isVideo;
  $("unplayable").hidden = true;
  $("no-picture").hidden = what.kind !== "source";
  $("no-picture").textContent = "The server reads this source; its pictures stay there.";
  video.controls = isVideo;
  video.classList.toggle("tiny", isVideo && what.width <= 128);
  video.setAttribute("aria-label", `Video: ${what.title}`);
  if (isVideo) video.src = `/api/videos/${what.id}/file`;
  else video.removeAttribute("src");
  $("answers").hidden = false;
  $("why").hidden = !isVideo;
  $("evidence").hidden = true;
  $("answers-title").textContent = `2. Watch the answer: ${what.title}`;
  offerOthers();
  run();
  if (isVideo) video.play().catch(() => { /* the viewer starts it */ });
}

// The stream ----------------------------------------------------------------------------------------------------------

const memory = () => document.querySelector("[name=memory]:checked").value;
function wish() {
  return { value: memory(), ...(memory() === "other" ? { video: $("other").value, at_s: position } : {}) };
}

function disconnect() {
  if (socket) socket.onclose = socket.onmessage = null;
  if (socket) socket.close();
  socket = null;
  running = false;
}

function stopCamera() {
  clearInterval(cameraTimer);
  for (const track of cameraStream ? cameraStream.getTracks() : []) track.stop();
  cameraStream = null;
}

function run() {
  disconnect();
  answers = [];
  session = told = "";
  unsent = 0;
  following = chosen.kind !== "video";
  running = true;
  $("downloads").hidden = true;
  $("stop").hidden = false;
  $("follow").hidden = true;
  say(`Reading ${chosen.title} …`);
  const hello = { model: $("model").value, pace: $("live").checked ? "live" : "fast" };
  if (chosen.kind === "video") hello.video = chosen.id;
  else if (chosen.kind === "camera") hello.camera = true;
  else hello.source = chosen.address;
  if (model().memory && memory() !== "on") hello.memory = wish();
  const opened = socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/stream`);
  opened.onopen = () => opened.send(JSON.stringify(hello));
  opened.onmessage = (event) => receive(JSON.parse(event.data));
  opened.onclose = () => { ended(); lost(); };
  draw();
}

function receive(message) {
  if (message.type === "started") {
    session = message.session;
    say(`Watching ${chosen.title}.`);
    if (chosen.kind === "camera") sendCamera(message.fps);
  } else if (message.type === "answer") {
    answers.push(message);
    if (answers.length > MOST_ANSWERS) answers.shift();
    chooseLanes(message);
    if (following) position = message.end_s;
    $("rate").textContent = message.steps_per_s.toFixed(1);
    $("delay").textContent = message.delay_s < 1 ? `${Math.round(1000 * message.delay_s)} ms` : `${message.delay_s.toFixed(1)} s`;
    $("state").textContent = bytes(message.state_bytes);
    $("dropped").textContent = message.dropped + unsent;
    draw();
  } else if (message.type === "end") {
    ended();
    say(`Done: ${message.steps} ${message.steps === 1 ? "answer" : "answers"} about ${chosen.title}.`);
  } else if (message.type === "error") {
    fail(message.error);
    if (!session) say("");
    // The server closes after an error that ends the stream, and goes on after a wrong wish.
    socket.onclose = ended;
  }
}

function ended() {
  disconnect();
  stopCamera();
  $("stop").hidden = true;
  if (memory() === "on") own = answers;
  $("downloads").hidden = !answers.length;
  for (const link of document.querySelectorAll("#downloads a")) {
    link.href = `/api/sessions/${session}/answers.${link.dataset.kind}`;
    link.hidden = link.dataset.kind === "mp4" && chosen.kind !== "video";
  }
  draw();
}

function sendCamera(fps) {
  const canvas = document.createElement("canvas"), start = performance.now();
  let coding = false;
  cameraTimer = setInterval(() => {
    if (!socket || !video.videoWidth) return;
    // The newest wins: what cannot leave now is not kept.
    if (coding || socket.bufferedAmount > MOST_BUFFERED) { unsent += 1; return; }
    const scale = Math.min(1, CAMERA_SIDE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const seconds = new DataView(new ArrayBuffer(8));
    seconds.setFloat64(0, (performance.now() - start) / 1000, true);
    coding = true;
    canvas.toBlob(async (jpeg) => {
      const message = jpeg && await new Blob([seconds, jpeg]).arrayBuffer();
      coding = false;
      if (message && socket && socket.readyState === WebSocket.OPEN) socket.send(message);
    }, "image/jpeg", 0.85);
  }, 1000 / Math.min(CAMERA_RATE, Math.max(1, fps)));
}

function changeMemory() {
  if (!chosen) return;
  dismiss();
  if (running && socket.readyState === WebSocket.OPEN && (chosen.kind !== "video" || $("live").checked)) {
    if (!own.length) own = answers.slice();
    socket.send(JSON.stringify({ type: "memory", ...wish() }));
  } else if (chosen.kind === "video") run();
}

// Drawing -------------------------------------------------------------------------------------------------------------

function chooseLanes(answer) {
  for (const { name } of answer.scores.slice(0, 1)) {
    const number = model().classes.indexOf(name);
    if (lanes.length < LANES && !lanes.includes(number)) lanes.push(number);
  }
}
function color(number) {
  const lane = lanes.indexOf(number);
  return lane < 0 ? OTHERS : COLORS[lane];
}

// The answer at a time: the first that ends after it. Answers are in the order of their ends.
function indexAt(seconds) {
  let low = 0, high = answers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (answers[middle].end_s > seconds + 1e-6) high = middle;
    else low = middle + 1;
  }
  return Math.min(low, answers.length - 1);
}

function span() {
  const last = answers.length ? answers[answers.length - 1].end_s : 0;
  if (chosen && chosen.kind === "video") return [0, Math.max(chosen.seconds || 0, last, 0.1)];
  return [Math.max(0, last - CAMERA_SPAN_S), Math.max(last, 1)];
}

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; if (chosen) { drawTimeline(); drawAnswer(); } });
}

function drawTimeline() {
  const canvas = $("bands"), height = 14 + Math.max(1, lanes.length) * 34, [start, end] = span();
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  const style = getComputedStyle(document.documentElement);
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = style.getPropertyValue("--track");
  pen.fillRect(0, 0, width, height);
  const x = (seconds) => (seconds - start) / (end - start) * width;
  answers.forEach((answer) => {
    const number = model().classes.indexOf(answer.scores[0].name);
    const left = x(answer.start_s), wide = Math.max(1, x(answer.end_s) - left - 1);
    pen.fillStyle = color(number);
    pen.fillRect(left, 0, wide, 10);
    lanes.forEach((lane, row) => {
      const tall = 30 * answer.all[lane];
      pen.fillStyle = color(lane);
      pen.fillRect(left, 14 + row * 34 + 31 - tall, wide, tall);
    });
  });
  const compares = own.length && own !== answers && memory() !== "on";
  $("compare-help").hidden = !compares;
  if (compares) {
    pen.strokeStyle = style.getPropertyValue("--ink");
    pen.globalAlpha = 0.55;
    pen.lineWidth = 1.5;
    lanes.forEach((lane, row) => {
      pen.beginPath();
      for (const answer of own) {
        const y = 14 + row * 34 + 31 - 30 * answer.all[lane];
        pen.lineTo(x(answer.start_s), y);
        pen.lineTo(x(answer.end_s), y);
      }
      pen.stroke();
    });
    pen.globalAlpha = 1;
  }
  pen.fillStyle = style.getPropertyValue("--ink");
  pen.fillRect(Math.min(width - 2, Math.max(0, x(position) - 1)), 0, 2, height);
  $("lanes").replaceChildren(...lanes.map((lane) => {
    const mark = element("i");
    mark.style.background = color(lane);
    return element("span", {}, mark, model().classes[lane]);
  }));
}

function drawAnswer() {
  const timeline = $("timeline"), answer = answers[indexAt(position)], [, end] = span();
  timeline.setAttribute("aria-valuemax", end.toFixed(2));
  timeline.setAttribute("aria-valuenow", position.toFixed(2));
  timeline.setAttribute("aria-valuetext", answer
    ? `${clock(position)}: ${answer.scores[0].name}, ${percent(answer.scores[0].score)}` : clock(position));
  $("when").textContent = answer ? `From ${clock(answer.start_s)} to ${clock(answer.end_s)}` : "No answer yet";
  $("at").textContent = answer ? `at step ${indexAt(position) + 1} (${clock(answer.end_s)})` : "";
  $("bars").replaceChildren(...(answer ? answer.scores : []).slice(0, TOP).map(({ name, score }) => {
    const bar = element("div");
    bar.style.width = percent(score).replace(" ", "");
    bar.style.background = color(model().classes.indexOf(name));
    return element("li", {}, element("div", { class: "row" }, element("span", {}, name),
      element("span", { class: "number" }, percent(score))), element("div", { class: "track" }, bar));
  }));
  drawBoxes(answer ? answer.boxes : []);
  const top = answer ? answer.scores[0].name : "";
  if (top && top !== told && (!running || following)) say(`${clock(answer.end_s)}: ${top}, ${percent(answer.scores[0].score)}`);
  if (top !== told) {
    told = top;
    if (top) $("class").value = model().classes.indexOf(top);
  }
}

function drawBoxes(boxes) {
  const stage = $("stage"), wide = stage.clientWidth, high = stage.clientHeight;
  const scale = Math.min(wide / (video.videoWidth || wide), high / (video.videoHeight || high));
  const w = (video.videoWidth || wide) * scale, h = (video.videoHeight || high) * scale;
  const left = (wide - w) / 2, top = (high - h) / 2;
  const text = ({ id, names }) => `${id}: ${names.map(({ name, score }) => `${name} ${percent(score)}`).join(", ")}`;
  $("people").hidden = !boxes.length;
  $("persons").replaceChildren(...boxes.map((one) => element("li", {}, text(one))));
  $("boxes").replaceChildren(...boxes.flatMap((one, number) => {
    const [x1, y1, x2, y2] = one.box, x = left + x1 * w, y = top + y1 * h;
    return [element("svg:rect", { x, y, width: (x2 - x1) * w, height: (y2 - y1) * h, stroke: COLORS[number % 6] }),
      element("svg:text", { x: x + 4, y: Math.max(16, y - 6) }, text({ ...one, names: one.names.slice(0, 1) }))];
  }));
}

// Moving in time ------------------------------------------------------------------------------------------------------

function seek(seconds) {
  const [start, end] = span();
  position = Math.min(end, Math.max(start, seconds));
  following = false;
  $("follow").hidden = !chosen || chosen.kind === "video" || !running;
  if (playable) {
    video.pause();
    video.currentTime = Math.min(position, Number.isFinite(video.duration) ? video.duration : position);
  }
  draw();
}

function byKey(event) {
  const here = indexAt(position);
  const to = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1, PageUp: here + 5,
    PageDown: here - 5, Home: 0, End: answers.length - 1 }[event.key];
  if (event.key === " " && playable) {
    if (video.paused) video.play();
    else video.pause();
  } else if (to === undefined || !answers.length) return;
  else seek(answers[Math.min(answers.length - 1, Math.max(0, to))].start_s);
  event.preventDefault();
}

function follow() {
  if (playable && !video.paused) { position = video.currentTime; draw(); requestAnimationFrame(follow); }
}

// Evidence ------------------------------------------------------------------------------------------------------------

async function explain(event) {
  event.preventDefault();
  if (!answers.length) { fail("There is no answer yet to explain."); return; }
  dismiss();
  const button = $("ask").querySelector("button"), step = indexAt(position), asks = chosen;
  button.disabled = true;
  $("evidence").hidden = true;
  say("Looking back through the memory …");
  try {
    const found = await request("/api/evidence", { method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: $("model").value, video: chosen.id, step, class: model().classes[$("class").value] }) });
    if (chosen === asks) drawEvidence(found, step);
    say("The evidence is below the answers.");
  } catch (error) {
    fail(error.message);
    say("");
  }
  button.disabled = false;
}

function drawEvidence(found, step) {
  const most = Math.max(...found.steps.map((one) => one.value), 1e-9);
  $("curve-title").textContent = `When: the share of each step in "${$("class").selectedOptions[0].text}" at step ${step + 1}`;
  $("curve").setAttribute("aria-label", "Share of the evidence by step; choose one to go to it");
  $("curve").replaceChildren(...found.steps.map((one) => {
    const bar = element("i"), text = `${clock(one.start_s)} to ${clock(one.end_s)}: ${percent(one.value)}`;
    bar.style.height = `${80 * one.value / most}%`;
    return element("button", { type: "button", title: text, "aria-label": text, onclick: () => seek(one.start_s) },
      found.steps.length > LABELED_STEPS ? "" : element("span", {}, percent(one.value)), bar);
  }));
  const ranked = found.frames.filter((one) => one.map).sort((a, b) => b.value - a.value);
  const best = ranked.filter((one, place) => place === 0 || (place < SHOWN_FRAMES && one.value >= LEAST_SHARE))
    .sort((a, b) => a.time_s - b.time_s);
  $("frames").replaceChildren(...best.map((one) => element("button", { type: "button", onclick: () => seek(one.time_s) },
    element("img", { src: one.map, alt: `Frame at ${clock(one.time_s)} with the evidence in it marked` }),
    `${clock(one.time_s)} · ${percent(one.value)}`)));
  $("operators-part").hidden = !found.operators.length;
  const darkest = Math.max(...found.operators.flatMap((one) => one.steps), 1e-9);
  $("operators").replaceChildren(...found.operators.map((one) => {
    const peak = one.steps.indexOf(Math.max(...one.steps));
    const cells = element("div", { role: "img", "aria-label": `most after step ${peak + 1}, ${percent(one.steps[peak])}` },
      ...one.steps.map((value) => {
        const cell = element("i", { title: percent(value) });
        cell.style.opacity = 0.06 + 0.94 * value / darkest;
        return cell;
      }));
    return element("div", { class: "operator" }, element("span", {}, one.name), cells);
  }));
  $("from").textContent = clock(found.steps[0].start_s);
  $("to").textContent = clock(found.steps.at(-1).end_s);
  $("evidence").hidden = false;
  $("why").scrollIntoView({ block: "nearest" });
}

// Start ---------------------------------------------------------------------------------------------------------------

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  draw();
}

function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = null; // the viewer's own choice
  try { theme = localStorage.getItem("theme"); } catch { /* storage is off */ }
  setTheme(theme || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => { if (!theme) setTheme(dark.matches ? "dark" : "light"); });
  $("theme").onclick = () => {
    theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", theme); } catch { /* storage is off */ }
    setTheme(theme);
  };
  $("alert-close").onclick = dismiss;
  $("model").onchange = () => { offerModel(); own = []; lanes = []; $("evidence").hidden = true; if (chosen && chosen.kind === "video") run(); };
  $("file").onchange = () => upload($("file").files[0]);
  const drop = $("drop");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    upload(event.dataTransfer.files[0]);
  });
  $("camera").onclick = useCamera;
  $("source").onsubmit = (event) => {
    event.preventDefault();
    choose({ kind: "source", title: $("address").value, address: $("address").value });
  };
  $("stop").onclick = () => { ended(); say("Stopped."); };
  $("follow").onclick = () => { following = true; $("follow").hidden = true; position = span()[1]; draw(); };
  for (const input of document.querySelectorAll("[name=memory]")) input.onchange = changeMemory;
  $("other").onchange = () => { if (memory() === "other") changeMemory(); };
  $("timeline").onpointerdown = (event) => {
    const box = $("bands").getBoundingClientRect(), [from, to] = span();
    seek(from + (event.clientX - box.left) / box.width * (to - from));
  };
  $("timeline").onkeydown = byKey;
  video.onplay = follow;
  video.onseeked = video.ontimeupdate = () => { if (playable && !video.paused) { position = video.currentTime; draw(); } };
  video.onseeking = () => { if (playable && video.paused && Math.abs(video.currentTime - position) > 0.05) { position = video.currentTime; draw(); } };
  video.onloadedmetadata = () => { if (chosen && chosen.kind === "video" && !video.videoWidth) unplayable(); };
  video.onerror = () => { if (chosen && chosen.kind === "video") unplayable(); };
  addEventListener("resize", draw);
  $("ask").onsubmit = explain;
  request("/api/info").then((found) => {
    offer(found);
    say(info.samples.length ? "Ready. Start with a sample, or bring your own video." : "Ready. Choose a file, or use the camera.");
  }).catch((error) => fail(error.message));
}

function unplayable() {
  playable = false;
  $("unplayable").hidden = false;
}

start();
