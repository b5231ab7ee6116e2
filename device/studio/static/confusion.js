/* Which class is taken for which. */

import { make } from "./dom.js";
import { wide } from "./tables.js";
import { count } from "./words.js";

/* A larger table cannot be read; the commonest confusions are listed instead. */
const MOST_CLASSES = 15;
const MOST_LISTED = 20;

/** Show `counts[is][said]` for classes `names`, as a table or a list. */
export function confusionTable(names, counts) {
  const title = make("h3", { text: "What is taken for what" });
  const body = names.length > MOST_CLASSES ? listed(names, counts) : table(names, counts);
  return make("div", {}, title, body);
}

function table(names, counts) {
  const corner = make("td", { class: "soft small", text: "is ↓ said →" });
  const head = names.map((name) => make("th", { scope: "col" }, make("bdi", { text: name })));
  const rows = counts.map((row, is) => {
    const all = row.reduce((sum, one) => sum + one, 0);
    const cells = row.map((number, said) => cell(number, all, is === said));
    return make("tr", {}, make("th", { scope: "row" }, make("bdi", { text: names[is] })), ...cells);
  });
  const element = make(
    "table",
    { class: "confusion" },
    make("thead", {}, make("tr", {}, corner, ...head)),
    make("tbody", {}, ...rows)
  );
  return wide(element, "What is taken for what");
}

function cell(number, all, right) {
  const element = make("td", { class: right ? "right" : "wrong", text: number ? String(number) : "·" });
  if (number) {
    element.style.setProperty("--share", String(number / all));
  }
  return element;
}

function listed(names, counts) {
  const found = [];
  counts.forEach((row, is) =>
    row.forEach((number, said) => {
      if (number && is !== said) {
        found.push({ number, is, said });
      }
    })
  );
  found.sort((one, other) => other.number - one.number);
  const items = found
    .slice(0, MOST_LISTED)
    .map(({ number, is, said }) =>
      make("li", { text: `${names[is]} taken for ${names[said]}: ${count(number, "picture")}` })
    );
  return items.length ? make("ol", {}, ...items) : make("p", { class: "soft", text: "Nothing is." });
}
