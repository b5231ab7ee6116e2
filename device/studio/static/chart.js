/* Loss and accuracy over the epochs, drawn as two small charts. */

import { draw, make, say, shown } from "./dom.js";
import { isNumber, loss, percent } from "./words.js";

const WIDTH = 320;
const HEIGHT = 132;
const LEFT = 40;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;

/** The charts; `show(history)` draws them again where the history has grown. */
export function historyChart() {
  const accuracy = plot("Right", ["train_accuracy", "val_accuracy"], percent, () => 1);
  const losses = plot("Loss", ["train_loss", "val_loss"], loss, highest);
  const legend = make(
    "p",
    { class: "legend soft small" },
    make("span", {}, make("span", { class: "key train" }), "pictures trained on"),
    make("span", {}, make("span", { class: "key val" }), "pictures kept back")
  );
  const element = make("div", { class: "charts" }, accuracy.element, losses.element, legend);
  let drawn = "";
  return {
    element,
    show(history) {
      const trained = history.filter((one) => one.epoch > 0);
      shown(element, trained.length > 0);
      const last = JSON.stringify(history[history.length - 1] || null);
      if (`${history.length} ${last}` !== drawn) {
        drawn = `${history.length} ${last}`;
        accuracy.show(history);
        losses.show(history);
      }
    },
  };
}

function highest(values) {
  return Math.max(...values, 1e-6);
}

function plot(title, keys, words, topOf) {
  const caption = make("figcaption", { text: title });
  const drawing = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const element = make("figure", {}, caption, drawing);
  return {
    element,
    show(history) {
      while (drawing.firstChild) {
        drawing.firstChild.remove();
      }
      const series = keys.map((key) => history.filter((one) => isNumber(one[key])));
      const values = keys.reduce((all, key, at) => all.concat(series[at].map((one) => one[key])), []);
      if (!values.length) {
        return;
      }
      const top = topOf(values);
      const epochs = Math.max(1, ...history.map((one) => one.epoch));
      const x = (epoch) => LEFT + ((WIDTH - LEFT - RIGHT) * epoch) / epochs;
      const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
      drawing.append(...axes(top, epochs, x, y, words));
      keys.forEach((key, at) => {
        const points = series[at].map((one) => [x(one.epoch), y(one[key])]);
        drawing.append(...curve(points, at === 0 ? "train" : "val"));
      });
      const ends = keys.map((key, at) => lastOf(series[at], key, words));
      const sentence = `${title}: ${ends[0]} of the pictures trained on, ${ends[1]} of those kept back.`;
      drawing.setAttribute("aria-label", sentence);
      say(caption, `${title} ${ends[1]}`);
    },
  };
}

function lastOf(rows, key, words) {
  return rows.length ? words(rows[rows.length - 1][key]) : words(null);
}

function axes(top, epochs, x, y, words) {
  const lines = [0, top / 2, top].map((value) =>
    draw("line", { class: "grid", x1: x(0), x2: x(epochs), y1: y(value), y2: y(value) })
  );
  const sides = [0, top / 2, top].map((value) =>
    draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end", text: words(value) })
  );
  const feet = [0, epochs].map((epoch) =>
    draw("text", {
      x: x(epoch),
      y: HEIGHT - 6,
      "text-anchor": epoch ? "end" : "start",
      text: epoch ? `epoch ${epoch}` : "before",
    })
  );
  return lines.concat(sides, feet);
}

function curve(points, kind) {
  if (!points.length) {
    return [];
  }
  const path = points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  const [x, y] = points[points.length - 1];
  return [draw("path", { class: `curve ${kind}`, d: path }), draw("circle", { class: kind, cx: x, cy: y, r: 3 })];
}
