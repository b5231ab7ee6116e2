/* Training: start it, watch it, stop it, go on. */

import { post } from "./api.js";
import { historyChart } from "./chart.js";
import { attribute, keyed, make, say, shown } from "./dom.js";
import { attempt } from "./notices.js";
import { wide } from "./tables.js";
import { count, duration, isNumber, loss, megabytes, percent, sentence } from "./words.js";

const UNDER_WAY = ["starting", "training", "stopping"];

/** The panel; `show(state)` updates it. */
export function training() {
  const words = make("p", { class: "status", role: "status" });
  const progress = make("progress", { max: "1", value: "0", "aria-label": "Training" });
  const detail = make("p", { class: "soft" });
  const form = startForm();
  const stop = make("button", { type: "button", text: "Stop" });
  const goOn = make("button", { type: "button", class: "primary", text: "Go on" });
  const buttons = make("div", { class: "line" }, stop, goOn);
  const memory = memoryTable();
  const chart = historyChart();
  const epochs = epochTable();
  const figures = make("div", { class: "figures" }, memory.element, chart.element);
  const element = make("div", {}, words, progress, detail, buttons, form.element, figures, epochs.element);
  stop.addEventListener("click", () => attempt(() => post("/api/train/stop", {})));
  goOn.addEventListener("click", () => attempt(() => post("/api/train/go-on", {})));

  return {
    element,
    show(state) {
      const run = state.training;
      const running = run !== null && UNDER_WAY.includes(run.state);
      say(words, runWords(run));
      say(detail, run ? detailWords(run) : "");
      shown(detail, detail.textContent !== "");
      attribute(element, "data-state", run ? run.state : "none");
      shown(progress, running || (run !== null && run.state === "stopped"));
      attribute(progress, "value", run && run.steps ? Math.min(1, run.step / run.steps) : null);
      shown(stop, running);
      stop.disabled = run !== null && run.state === "stopping";
      shown(goOn, run !== null && run.state === "stopped" && !run.cannot_go_on);
      shown(buttons, !stop.hidden || !goOn.hidden);
      form.show(state, running);
      shown(figures, run !== null);
      memory.show(run);
      chart.show(run ? run.history : []);
      epochs.show(run ? run.history : []);
    },
  };
}

function runWords(run) {
  if (run === null) {
    return (
      "Training adapts the network itself to your pictures. It takes minutes and often makes the " +
      "answers better; you can stop it and go on at any time."
    );
  }
  const epoch = `epoch ${run.epoch}${run.epochs ? ` of ${run.epochs}` : ""}`;
  return {
    starting: "Starting: the pictures are looked through …",
    training: run.epoch ? `Training, ${epoch}.` : "Training begins …",
    stopping: "Stopping: the state is being saved …",
    stopped: stoppedWords(run, epoch),
    finished: finishedWords(run),
    failed: `The training ended early. ${sentence(run.message)}`,
  }[run.state];
}

function stoppedWords(run, epoch) {
  if (run.cannot_go_on) {
    return `Stopped in ${epoch}. It cannot go on.`;
  }
  return `Stopped in ${epoch}.${run.message ? "" : " Nothing is lost."}`;
}

function finishedWords(run) {
  const best = Math.max(...run.history.map((one) => one.val_accuracy).filter(isNumber));
  const right = isFinite(best) ? ` The best epoch names ${percent(best)} of the pictures kept back right.` : "";
  return `Finished.${right}`;
}

function detailWords(run) {
  const parts = [];
  if (run.state === "training") {
    if (isNumber(run.loss)) {
      parts.push(`loss ${loss(run.loss)}`);
    }
    if (isNumber(run.accuracy)) {
      parts.push(`${percent(run.accuracy)} right so far`);
    }
    if (isNumber(run.seconds_left)) {
      parts.push(`about ${duration(run.seconds_left)} left`);
    }
  }
  const line = parts.length ? `${sentence(parts.join(", "))}.` : "";
  if (run.state === "failed") {
    return line;
  }
  const message = run.cannot_go_on ? `${sentence(run.cannot_go_on)}.` : sentence(run.message);
  return [line, message].filter(Boolean).join(" ");
}

function startForm() {
  const epochs = make("input", { type: "number", min: "1", max: "1000", placeholder: "auto" });
  const minutes = make("input", { type: "number", min: "1", max: "10000", placeholder: "any" });
  const start = make("button", { type: "submit", class: "primary", text: "Start training" });
  const why = make("p", { class: "soft", id: "why-not" });
  attribute(start, "aria-describedby", "why-not");
  const element = make(
    "form",
    { class: "start" },
    make(
      "div",
      { class: "line" },
      make("label", {}, "Epochs", epochs),
      make("label", {}, "Minutes at most", minutes),
      start
    ),
    why
  );
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    const number = (input) => (input.value === "" ? null : Number(input.value));
    attempt(() => post("/api/train", { epochs: number(epochs), minutes: number(minutes) }));
  });
  return {
    element,
    show(state, running) {
      shown(element, !running);
      const problem = whyNot(state.classes);
      say(why, problem);
      shown(why, problem !== "");
      start.disabled = problem !== "";
      say(start, state.training === null ? "Start training" : "Train anew");
    },
  };
}

function whyNot(classes) {
  const filled = classes.filter((one) => one.count > 0);
  if (filled.length >= 2) {
    const empty = classes.find((one) => one.count === 0);
    return empty ? `${empty.name} has no pictures yet.` : "";
  }
  return "Training needs two classes with pictures.";
}

/* What was planned and what was measured never share a column. */
function memoryTable() {
  const planned = make("td");
  const measured = make("td");
  const head = (text) => make("th", { scope: "col", text });
  const element = make(
    "table",
    { class: "memory" },
    make("thead", {}, make("tr", {}, make("td"), head("planned"), head("measured"))),
    make("tbody", {}, make("tr", {}, make("th", { scope: "row", text: "Memory" }), planned, measured))
  );
  return {
    element,
    show(run) {
      say(planned, megabytes(run && run.planned_mb));
      say(measured, megabytes(run && run.measured_mb));
    },
  };
}

function epochTable() {
  const body = make("tbody");
  const head = ["Epoch", "Loss", "Right", "Loss, kept back", "Right, kept back"];
  const row = make("tr", {}, ...head.map((text) => make("th", { scope: "col", text })));
  const table = make("table", {}, make("thead", {}, row), body);
  const summary = make("summary");
  const element = make("details", {}, summary, wide(table, "Figures of each epoch"));
  return {
    element,
    show(history) {
      shown(element, history.length > 0);
      say(summary, count(history.filter((one) => one.epoch > 0).length, "epoch"));
      const key = (one) => `${one.epoch} ${one.val_loss}`;
      keyed(body, history, key, (one) => ({ element: epochRow(one) }));
    },
  };
}

function epochRow(one) {
  const cells = [
    loss(one.train_loss),
    percent(one.train_accuracy),
    loss(one.val_loss),
    percent(one.val_accuracy),
  ];
  const name = one.epoch === 0 ? "before" : String(one.epoch);
  return make(
    "tr",
    {},
    make("th", { scope: "row", text: name }),
    ...cells.map((text) => make("td", { text }))
  );
}
