/* What a version gets wrong, and which labels look wrong. */

import { get, post, thumbnail } from "./api.js";
import { confusionTable } from "./confusion.js";
import { make, shown } from "./dom.js";
import { attempt } from "./notices.js";
import { wide } from "./tables.js";
import { percent } from "./words.js";

const MOST = 24;

/** The review; `open(id)` shows that of a version. */
export function review() {
  const title = make("h2", { tabindex: "-1", text: "Review" });
  const busy = make("p", { class: "busy", role: "status" });
  const body = make("div");
  const back = make("a", { href: "#", text: "Back to the classes" });
  const element = make("section", { class: "view", "aria-label": "Review" }, make("p", {}, back), title, busy, body);
  let asked = "";

  function clear() {
    while (body.firstChild) {
      body.firstChild.remove();
    }
  }
  return {
    element,
    async open(id) {
      asked = id;
      clear();
      title.focus();
      busy.textContent = "The version looks at all pictures again. On a board this can take a minute or two …";
      shown(busy, true);
      try {
        const found = await get(`/api/versions/${encodeURIComponent(id)}/review`);
        if (asked === id) {
          shown(busy, false);
          body.append(...sections(found));
        }
      } catch (error) {
        if (asked === id) {
          busy.textContent = error.message;
        }
      }
    },
  };
}

function sections(found) {
  const parts = [summary(found), classTable(found.classes)];
  if (found.classes.length > 1) {
    parts.push(confusionTable(found.classes.map((one) => one.name), found.confusion));
  }
  const names = found.classes.map((one) => one.name);
  parts.push(
    pictures("Labels that look wrong", "The other pictures contradict them. Look at each of them.", found.suspects, names),
    pictures("Named wrong", "Pictures kept back that the version names wrong.", found.worst, names)
  );
  return parts;
}

function summary(found) {
  const { best, held_out: heldOut } = found.accuracy;
  const element = make("div", { class: "results" });
  element.append(
    result("Pictures kept back from training", best),
    result("Every picture, by a head that has not seen it", heldOut)
  );
  const notes = make("ul", { class: "soft" }, ...found.notes.map((text) => make("li", { text })));
  const sentence = make("p", { text: found.curve ? found.curve.sentence : "" });
  return make("div", {}, element, notes, sentence);
}

function result(title, share) {
  return make(
    "div",
    { class: "result" },
    make("h3", { text: title }),
    make("p", { class: "big", text: percent(share.share) }),
    make("p", {
      class: "soft small",
      text: `${share.right} of ${share.total} right; the true share is ${percent(share.low)} to ${percent(share.high)}, 19 times out of 20`,
    })
  );
}

function classTable(classes) {
  const head = ["Class", "Pictures", "Right", "From, to"].map((text) => make("th", { scope: "col", text }));
  const rows = classes.map((one) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("bdi", { text: one.name })),
      make("td", { text: String(one.train + one.val) }),
      make("td", { text: `${one.best.right} of ${one.best.total}` }),
      make("td", {}, interval(one.best), `${percent(one.best.low)} to ${percent(one.best.high)}`)
    )
  );
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  return make("div", {}, make("h3", { text: "Class by class" }), wide(table, "Class by class"));
}

function interval(share) {
  const inner = make("span", { class: "inner" });
  const mark = make("span", { class: "mark" });
  if (share.total) {
    inner.style.left = `${share.low * 100}%`;
    inner.style.width = `${(share.high - share.low) * 100}%`;
    mark.style.left = `${share.share * 100}%`;
  }
  shown(inner, share.total > 0);
  shown(mark, share.total > 0);
  return make("span", { class: "interval", "aria-hidden": "true" }, inner, mark);
}

function pictures(title, words, answers, names) {
  const listed = answers.filter((one) => one.id).slice(0, MOST);
  const element = make("div", {}, make("h3", { text: `${title} (${answers.length})` }));
  if (!listed.length) {
    element.append(make("p", { class: "soft", text: "None." }));
    return element;
  }
  const more = answers.length > listed.length ? ` The first ${listed.length} are shown.` : "";
  element.append(
    make("p", { class: "soft", text: words + more }),
    make("ul", { class: "suspects" }, ...listed.map((one) => suspect(one, names)))
  );
  return element;
}

function suspect(answer, names) {
  const { id } = answer;
  const said = answer.said;
  const image = make("img", { src: thumbnail(id), loading: "lazy", width: "160", height: "160" });
  image.alt = `Labelled ${answer.label}, said ${said}`;
  const words = make(
    "p",
    { class: "small" },
    "labelled ",
    make("strong", { text: answer.label }),
    make("br"),
    "said ",
    make("strong", { text: said })
  );
  const move = make("button", { type: "button", class: "small", text: `Move to ${said}` });
  const remove = make("button", { type: "button", class: "small", text: "Delete" });
  const done = make("p", { class: "small soft", role: "status" });
  const buttons = make("div", { class: "line" }, move, remove);
  async function act(path, document, text) {
    if (await attempt(() => post(path, document))) {
      done.textContent = text;
      shown(buttons, false);
    }
  }
  shown(move, names.includes(said));
  move.addEventListener("click", () =>
    act("/api/pictures/move", { ids: [id], to: said }, `Moved to ${said}.`)
  );
  remove.addEventListener("click", () => act("/api/pictures/delete", { ids: [id] }, "Deleted."));
  remove.setAttribute("aria-label", `Delete this picture of ${answer.label}`);
  return make("li", {}, image, words, buttons, done);
}
