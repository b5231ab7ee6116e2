/* All pictures of a class, page by page: select, move to another class, delete. */

import { askingButton } from "./ask.js";
import { get, post, query, thumbnail } from "./api.js";
import { attribute, keyed, make, say, shown } from "./dom.js";
import { attempt, tell } from "./notices.js";
import { count } from "./words.js";

const PAGE = 60;

/** The gallery; `open(name)` shows a class, `show(state)` follows the board. */
export function gallery() {
  const title = make("h2", { tabindex: "-1" });
  const pictures = make("ul", { class: "pictures" });
  const empty = make("p", { class: "soft", text: "No pictures yet.", hidden: true });
  const selected = new Set();
  let name = "";
  let from = 0;
  let total = 0;
  let known = null;
  let busy = false;

  const pager = pagerButtons(turnTo);
  const tools = selectionTools({ chosen: () => Array.from(selected), move, remove, all, none });
  const back = make("a", { href: "#", text: "Back to the classes" });
  const element = make(
    "section",
    { class: "view", "aria-label": "Pictures of a class" },
    make("p", {}, back),
    title,
    tools.element,
    empty,
    pictures,
    pager.element
  );

  async function load() {
    busy = true;
    const asked = { class: name, from, limit: PAGE };
    await attempt(async () => {
      const some = await get(query("/api/pictures", asked));
      if (asked.class === name && asked.from === from) {
        draw(some);
      }
    });
    busy = false;
  }

  function draw(some) {
    total = some.total;
    if (from >= total && from > 0) {
      turnTo(Math.max(0, Math.floor((total - 1) / PAGE) * PAGE));
      return;
    }
    const ids = new Set(some.pictures.map((one) => one.id));
    selected.forEach((id) => ids.has(id) || selected.delete(id));
    const parts = keyed(pictures, some.pictures, (one) => one.id, (one) => tile(one.id, choose));
    parts.forEach((part, at) => part.show(selected.has(some.pictures[at].id), from + at + 1, name));
    say(title, `${name}: ${count(total, "picture")}`);
    shown(empty, total === 0);
    pager.show(from, some.pictures.length, total);
    tools.select(selected.size, some.pictures.length);
  }

  function choose(id, on) {
    if (on) {
      selected.add(id);
    } else {
      selected.delete(id);
    }
    tools.select(selected.size, pictures.children.length);
  }
  function mark(on) {
    pictures.parts.forEach((part, id) => {
      part.mark(on);
      choose(id, on);
    });
  }
  function all() {
    mark(true);
  }
  function none() {
    mark(false);
  }
  function turnTo(first) {
    from = first;
    selected.clear();
    load();
    title.focus();
  }
  async function move(to) {
    const ids = Array.from(selected);
    if (await attempt(() => post("/api/pictures/move", { ids, to }))) {
      tell(`Moved ${count(ids.length, "picture")} to ${to}.`);
      selected.clear();
      load();
    }
  }
  async function remove() {
    const ids = Array.from(selected);
    if (await attempt(() => post("/api/pictures/delete", { ids }))) {
      tell(`Deleted ${count(ids.length, "picture")}.`);
      selected.clear();
      load();
    }
  }

  return {
    element,
    open(next) {
      name = next;
      from = 0;
      known = null;
      selected.clear();
      keyed(pictures, [], String, null);
      say(title, name);
      load();
      title.focus();
    },
    show(state) {
      const others = state.classes.map((one) => one.name).filter((one) => one !== name);
      tools.classes(others);
      const own = state.classes.find((one) => one.name === name);
      const number = own ? own.count : 0;
      // Pictures that come or go elsewhere are seen here, too.
      if (known !== null && known !== number && number !== total && !busy) {
        load();
      }
      known = number;
    },
  };
}

function tile(id, choose) {
  const box = make("input", { type: "checkbox" });
  const image = make("img", {
    src: thumbnail(id),
    alt: "",
    loading: "lazy",
    decoding: "async",
    width: "160",
    height: "160",
  });
  const element = make("li", {}, make("label", {}, box, image));
  box.addEventListener("change", () => choose(id, box.checked));
  return {
    element,
    mark(on) {
      box.checked = on;
    },
    show(on, number, name) {
      box.checked = on;
      attribute(box, "aria-label", `Picture ${number} of ${name}`);
    },
  };
}

function selectionTools({ chosen, move, remove, all, none }) {
  const words = make("span", { role: "status" });
  const every = make("button", { type: "button", class: "small", text: "Select all here" });
  const to = make("select", { class: "small", "aria-label": "Class to move to" });
  const go = make("button", { type: "button", class: "small", text: "Move" });
  const full = make("a", { target: "_blank", rel: "noopener", text: "Full size" });
  const ask = askingButton({
    label: "Delete",
    name: "Delete the selected pictures",
    question: () => `Delete ${count(chosen().length, "picture")} for good?`,
    yes: "Delete",
    act: remove,
  });
  const acts = make(
    "span",
    { class: "line" },
    make("span", { class: "soft", text: "Move to" }),
    to,
    go,
    ask.element,
    full
  );
  const element = make("div", { class: "line tools" }, every, words, acts);
  let everything = false;
  every.addEventListener("click", () => (everything ? none() : all()));
  go.addEventListener("click", () => to.value && move(to.value));
  return {
    element,
    classes(names) {
      const parts = names.map((name) => ({ name }));
      keyed(to, parts, (one) => one.name, (one) => ({
        element: make("option", { value: one.name, text: one.name }),
      }));
      go.disabled = names.length === 0;
    },
    select(number, here) {
      everything = number === here && here > 0;
      say(every, everything ? "Select none" : "Select all here");
      shown(every, here > 0);
      say(words, number ? `${number} selected` : here ? "Select pictures to move or delete them." : "");
      shown(acts, number > 0);
      shown(full, number === 1);
      attribute(full, "href", number === 1 ? `/api/pictures/${chosen()[0]}` : null);
    },
  };
}

function pagerButtons(turnTo) {
  const newer = make("button", { type: "button", class: "small", text: "Newer" });
  const older = make("button", { type: "button", class: "small", text: "Older" });
  const words = make("span", { class: "soft" });
  const element = make("nav", { class: "line pager", "aria-label": "Pages" }, newer, words, older);
  let at = 0;
  newer.addEventListener("click", () => turnTo(Math.max(0, at - PAGE)));
  older.addEventListener("click", () => turnTo(at + PAGE));
  return {
    element,
    show(from, here, total) {
      at = from;
      shown(element, total > PAGE);
      say(words, `${from + 1} to ${from + here} of ${total}`);
      newer.disabled = from === 0;
      older.disabled = from + here >= total;
    },
  };
}
