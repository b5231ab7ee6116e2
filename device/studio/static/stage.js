/* The camera's live picture with the answer over it, and what can be done with the camera. */

import { attribute, make, say, shown } from "./dom.js";
import { post } from "./api.js";
import { percent, sentence } from "./words.js";
import { attempt } from "./notices.js";

const WHOLE = [0, 0, 1, 1];
const MIDDLE = [0.25, 0.25, 0.5, 0.5];
const AGAIN_MS = 2000;
/* A label must last before a screen reader says it: live labels change many times a second. */
const SPOKEN_AFTER_MS = 1200;

/**
 * The stage; `show(state)`, `answer(document)`, `watch(boolean)` and `again()` move it. `remark` is
 * the line for what is odd about a camera that works.
 */
export function stage() {
  const image = make("img", { class: "live", alt: "Live picture of the camera" });
  const empty = make("div", { class: "empty" });
  const emptyText = make("p", { "aria-hidden": "true" });
  const turnOn = make("button", { type: "button", class: "primary", text: "Turn the camera on" });
  empty.append(emptyText, turnOn);
  const label = make("strong", { class: "label" });
  const sure = make("span", { class: "sure" });
  const overlay = make("div", { class: "overlay", "aria-hidden": "true" }, label, sure);
  const spoken = make("p", { class: "unseen", role: "status" });
  // A region that is always there: what appears together with its words is often not read out.
  const heard = make("p", { class: "unseen", role: "status" });
  const remark = make("p", { class: "remark small", "aria-hidden": "true", hidden: true });
  const recording = make("span", { class: "recording", hidden: true });
  const element = make("div", { class: "stage" }, image, empty, recording, overlay, spoken, heard);
  const controls = cameraControls(image);

  const watch = watching(image);
  let last = null;
  let state = null;

  turnOn.addEventListener("click", () => attempt(() => post("/api/camera", { on: true })));

  function showAnswer() {
    const words = said(last, state);
    say(label, words.label);
    say(sure, words.sure);
    attribute(overlay, "data-kind", words.kind);
    shown(overlay, words.label !== "");
    speak(spoken, words.kind === "sure" || words.kind === "unknown" ? words.label : "");
  }

  return {
    element,
    remark,
    controls: controls.element,
    watch: watch.wanted,
    again: watch.again,
    answer(document) {
      last = document;
      showAnswer();
    },
    show(next) {
      state = next;
      const camera = state.camera;
      watch.running(["live", "lost", "waiting"].includes(camera.state));
      attribute(element, "data-state", camera.state);
      // Of a camera that is lost the last picture stays, dimmed.
      shown(image, camera.state === "live" || camera.state === "lost");
      shown(empty, camera.state !== "live");
      say(emptyText, emptyWords(camera));
      say(remark, remarkWords(state));
      shown(remark, remark.textContent !== "");
      say(heard, remark.textContent || emptyText.textContent);
      shown(turnOn, camera.state === "paused");
      shown(recording, Boolean(state.recording));
      say(recording, recordingWords(state));
      controls.show(camera);
      showAnswer();
    },
  };
}

/** What the overlay says of an answer: its label, how sure it is, and its kind. */
function said(answer, state) {
  if (!state || state.camera.state !== "live") {
    return { label: "", sure: "", kind: "none" };
  }
  if (answer && answer.unknown) {
    return { label: "Unknown", sure: "none of the classes", kind: "unknown" };
  }
  if (answer && answer.labels.length) {
    const best = likeliest(answer.labels);
    return { label: best.label, sure: percent(best.probability), kind: "sure" };
  }
  if (state.teaching.state === "learning") {
    return { label: "Learning …", sure: "", kind: "none" };
  }
  return { label: "", sure: "", kind: "none" };
}

/** The likeliest of some labels. */
export function likeliest(labels) {
  return labels.reduce((best, one) => (one.probability > best.probability ? one : best));
}

function speak(spoken, label) {
  if (spoken.waiting === label) {
    return;
  }
  spoken.waiting = label;
  clearTimeout(spoken.timer);
  spoken.timer = setTimeout(() => say(spoken, label), SPOKEN_AFTER_MS);
}

function recordingWords(state) {
  const { recording, recording_note: note } = state;
  return recording ? `Recording ${recording}${note ? `: ${note}` : ""}` : "";
}

/** What is odd about a camera that works: its pictures are black, or of another size. */
function remarkWords({ camera, recording_note: note }) {
  const lines = camera.state === "live" ? [camera.message, note] : [];
  return lines.filter(Boolean).map((line) => `${sentence(line)}.`).join(" ");
}

function emptyWords(camera) {
  if (camera.message && camera.state !== "live") {
    return `${sentence(camera.message)}.`;
  }
  return {
    lost: "The camera is lost; it is tried again.",
    none: "There is no camera. Pictures can be uploaded to the classes all the same.",
    paused: "The camera is paused.",
    waiting: "Waiting for the camera …",
    live: "",
  }[camera.state];
}

/** Keep the stream open while somebody looks at it: it is the page's dearest request. */
function watching(image) {
  let wanted = true;
  let running = false;
  let address = "";
  let round = 0;

  function settle() {
    const watched = wanted && running && !document.hidden;
    if (watched === (address !== "")) {
      return;
    }
    round += 1;
    address = watched ? `/camera.mjpg?${round}` : "";
    if (watched) {
      image.src = address;
    } else {
      // Taking the address away is what ends the request.
      image.removeAttribute("src");
    }
  }
  image.addEventListener("error", () => {
    if (address !== "") {
      address = "";
      setTimeout(settle, AGAIN_MS);
    }
  });
  document.addEventListener("visibilitychange", settle);
  return {
    /** Ask anew: a stream that has died shows its last picture and may not say so. */
    again() {
      address = "";
      settle();
    },
    wanted(value) {
      wanted = value;
      settle();
    },
    running(value) {
      running = value;
      settle();
    },
  };
}

function cameraControls(image) {
  const pause = make("button", { type: "button", class: "small", text: "Pause" });
  const turn = make("button", { type: "button", class: "small", text: "Turn" });
  const cut = make(
    "select",
    { class: "small", "aria-label": "Part of the picture that is used" },
    make("option", { value: "whole", text: "Whole picture" }),
    make("option", { value: "square", text: "Middle square" }),
    make("option", { value: "middle", text: "Middle, twice as near" }),
    make("option", { value: "other", text: "As it was set", hidden: true, disabled: true })
  );
  const element = make("div", { class: "controls" }, pause, turn, cut);
  let camera = null;

  function look(rotate, region) {
    attempt(() => post("/api/camera", { rotate, region }));
  }
  pause.addEventListener("click", () =>
    attempt(() => post("/api/camera", { on: camera.state === "paused" }))
  );
  turn.addEventListener("click", () => look((camera.view.rotate + 90) % 360, WHOLE));
  cut.addEventListener("change", () => {
    const square = () => middleSquare(image, camera.view.region);
    const region = { whole: () => WHOLE, square, middle: () => MIDDLE }[cut.value]();
    look(camera.view.rotate, region);
  });
  return {
    element,
    show(next) {
      camera = next;
      shown(element, camera.state !== "none");
      const paused = camera.state === "paused";
      say(pause, paused ? "Go on" : "Pause");
      attribute(pause, "aria-label", paused ? "Turn the camera on" : "Pause the camera");
      attribute(turn, "aria-label", "Turn the picture by 90 degrees");
      turn.disabled = camera.state !== "live";
      cut.disabled = camera.state !== "live";
      if (document.activeElement !== cut) {
        cut.value = partOf(camera.view.region);
      }
    },
  };
}

function partOf(region) {
  const [left, top, width, height] = region;
  if (width === 1 && height === 1) {
    return "whole";
  }
  if (String(region) === String(MIDDLE)) {
    return "middle";
  }
  const centred = Math.abs(2 * left + width - 1) < 0.01 && Math.abs(2 * top + height - 1) < 0.01;
  return centred && (width === 1 || height === 1) ? "square" : "other";
}

/** The largest square in the middle, as shares of the turned frame, of which `region` is seen. */
function middleSquare(image, region) {
  const width = image.naturalWidth / region[2];
  const height = image.naturalHeight / region[3];
  const share = Math.min(width, height) / Math.max(width, height);
  const start = (1 - share) / 2;
  return width > height ? [start, 0, share, 1] : [0, start, 1, share];
}
