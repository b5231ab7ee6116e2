/* How likely each class is, as bars, and whether it is none of them. */

import { attribute, keyed, make, say, shown } from "./dom.js";
import { count, isNumber, percent, sentence } from "./words.js";
import { likeliest } from "./stage.js";

/** The bars; `show(state)` and `answer(document)` move them. */
export function answerBars() {
  const heading = make("p", { class: "status" });
  const progress = make("progress", { max: "1", value: "0", "aria-label": "Learning", hidden: true });
  const list = make("ul", { class: "bars", "aria-label": "How likely each class is" });
  const source = make("p", { class: "soft small" });
  const element = make("div", { class: "answer" }, heading, progress, list, source);
  let last = null;
  let state = null;

  function draw() {
    if (!state) {
      return;
    }
    const live = state.camera.state === "live" && last !== null;
    const rows = live ? rowsOf(last) : [];
    keyed(list, rows, (row) => row.key, bar).forEach((part, at) => part.show(rows[at]));
    shown(list, rows.length > 0);
    say(source, state.camera.state === "live" ? sourceOf(live ? last : null, state) : "");
    const teaching = state.teaching;
    const learning = teaching.state === "learning" && teaching.total > 0;
    shown(progress, learning);
    if (learning) {
      progress.value = teaching.done / teaching.total;
    }
    say(heading, teachingWords(state));
    shown(heading, heading.textContent !== "");
  }
  return {
    element,
    answer(document) {
      last = document;
      draw();
    },
    show(next) {
      state = next;
      draw();
    },
  };
}

function rowsOf(answer) {
  const best = answer.unknown || !answer.labels.length ? null : likeliest(answer.labels).label;
  // By name: bars that change places cannot be read.
  const rows = answer.labels
    .slice()
    .sort((one, other) => one.label.localeCompare(other.label))
    .map((one) => ({
      key: `class ${one.label}`,
      name: one.label,
      share: one.probability,
      text: percent(one.probability),
      best: one.label === best,
    }));
  const unknown = {
    key: "unknown",
    name: "unknown",
    share: answer.unknown ? 1 : 0,
    text: answer.unknown ? "yes" : "no",
    best: answer.unknown,
  };
  return rows.concat([unknown]);
}

function bar(first) {
  const name = make("span", { class: "name" }, make("bdi", { text: first.name }));
  const fill = make("span", { class: "fill" });
  const text = make("span", { class: "figure" });
  const track = make("span", { class: "track", "aria-hidden": "true" }, fill);
  const element = make("li", {}, name, track, text);
  return {
    element,
    show(row) {
      fill.style.transform = `scaleX(${Math.max(0, Math.min(1, row.share))})`;
      say(text, row.text);
      attribute(element, "class", row.best ? "best" : null);
    },
  };
}

function teachingWords(state) {
  const { teaching } = state;
  if (teaching.message && teaching.state !== "ready") {
    return sentence(teaching.message);
  }
  if (teaching.state === "learning") {
    return `Learning: ${teaching.done} of ${count(teaching.total, "picture")}`;
  }
  return teaching.state === "needs" ? "Answers appear here as soon as two classes have pictures." : "";
}

function sourceOf(answer, state) {
  const parts = [];
  if (answer) {
    const version = state.versions.find((one) => one.id === answer.version);
    const who = version ? `${version.kind} version` : "live";
    parts.push(who + rate(answer.fps, "answers"));
  }
  parts.push(`camera${rate(state.camera.fps, "pictures")}`);
  return sentence(parts.join(" · "));
}

function rate(fps, noun) {
  return isNumber(fps) && fps > 0 ? `, ${fps.toFixed(fps < 3 ? 1 : 0)} ${noun}/s` : "";
}
