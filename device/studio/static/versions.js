/* The versions that are kept: which one answers, and what can be had of each. */

import { askingButton } from "./ask.js";
import { post, save } from "./api.js";
import { keyed, make, say, shown } from "./dom.js";
import { attempt, tell } from "./notices.js";
import { reviewAddress } from "./routes.js";
import { count, isNumber, moment, percent } from "./words.js";

const LIVE = "live";

/** The panel; `show(state)` updates it. */
export function versions() {
  const empty = make("p", {
    class: "soft",
    text: "Nothing is kept yet. Keep what was learned, or train: each becomes a version here.",
  });
  const live = liveRow();
  const list = make("ul", { class: "versions" });
  const element = make("div", {}, live.element, list, empty);
  return {
    element,
    show(state) {
      live.show(state);
      shown(empty, state.versions.length === 0);
      keyed(list, state.versions, (one) => one.id, versionRow).forEach((part, at) =>
        part.show(state.versions[at], state)
      );
    },
  };
}

/** The head that is taught anew with every picture; it is kept on request. */
function liveRow() {
  const words = make("span", { class: "soft small" });
  const use = useButton(() => LIVE, "what was learned live");
  const keep = make("button", { type: "button", class: "small", text: "Keep as a version" });
  keep.addEventListener("click", () =>
    attempt(async () => {
      await post("/api/teach", {});
      tell("Kept: what was learned is a version now.");
    })
  );
  const element = make(
    "div",
    { class: "version" },
    make("div", { class: "line" }, make("strong", { text: "Live" }), use.tag, words),
    make("div", { class: "line" }, use.element, keep)
  );
  return {
    element,
    show(state) {
      const ready = state.teaching.state === "ready";
      say(words, "Learns from every new picture.");
      use.show(state.using === LIVE, ready);
      keep.disabled = !ready;
    },
  };
}

function useButton(idOf, what) {
  const tag = make("span", { class: "tag", text: "in use" });
  const element = make("button", { type: "button", class: "small", text: "Use", "aria-label": `Use ${what}` });
  element.addEventListener("click", () => attempt(() => post("/api/versions/use", { id: idOf() })));
  return {
    tag,
    element,
    show(used, able) {
      shown(tag, used);
      shown(element, !used);
      element.disabled = !able;
    },
  };
}

function saveButton(text, path, name) {
  const element = make("button", { type: "button", class: "small", text, "aria-label": name });
  element.addEventListener("click", async () => {
    // The board makes some files when they are asked for, which takes a while.
    element.disabled = true;
    say(element, `${text} …`);
    await attempt(() => save(path));
    say(element, text);
    element.disabled = false;
  });
  return element;
}

function versionRow(first) {
  const id = first.id;
  const what = `the version of ${moment(first.made)}`;
  const title = make("strong");
  const words = make("span", { class: "soft small" });
  const unfit = make("p", { class: "soft small", text: "It belongs to another bundle and can only be deleted." });
  const use = useButton(() => id, what);
  const base = `/api/versions/${encodeURIComponent(id)}`;
  const review = make("a", { href: reviewAddress(id), text: "Review", "aria-label": `Review ${what}` });
  const onnx = saveButton("ONNX", `${base}/onnx`, `Download ONNX of ${what}`);
  const file = saveButton("State", `${base}/state`, `Download the state of ${what}`);
  const remove = askingButton({
    label: "Delete",
    name: `Delete ${what}`,
    question: "Delete this version?",
    yes: "Delete",
    act: () => attempt(() => post("/api/versions/delete", { id })),
  });
  const downloads = make("span", { class: "line" }, make("span", { class: "soft small", text: "Download" }), onnx, file);
  const element = make(
    "li",
    { class: "version" },
    make("div", { class: "line" }, title, use.tag, words),
    unfit,
    make("div", { class: "line" }, use.element, review, downloads, remove.element)
  );
  return {
    element,
    show(version, state) {
      const right = isNumber(version.accuracy) ? `, ${percent(version.accuracy)} right` : "";
      say(title, `${version.kind === "trained" ? "Trained" : "Taught"}${right}`);
      const parts = [moment(version.made), count(version.pictures, "picture"), version.classes.join(", ")];
      say(words, parts.join(" · "));
      use.show(state.using === id, version.fits);
      shown(unfit, !version.fits);
      shown(review, version.kind === "trained" && version.fits);
      shown(downloads, version.fits);
      shown(remove.element, state.using !== id);
    },
  };
}
