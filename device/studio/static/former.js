/* Whether the version that answers knows the classes of now: it was made before they were changed. */

import { make, say, shown } from "./dom.js";
import { post } from "./api.js";
import { attempt } from "./notices.js";

const LIVE = "live";
const MOST_NAMED = 3;

/** The line, and what can be done; `show(state)` updates it. */
export function formerClasses() {
  const words = make("p", { role: "status" });
  const live = make("button", { type: "button", class: "small", text: "Answer live" });
  const train = make("a", { href: "#training-title", text: "Train" });
  const line = make("div", { class: "line" }, live, train);
  const element = make("div", { class: "former small" }, words, line);
  live.addEventListener("click", () => attempt(() => post("/api/versions/use", { id: LIVE })));
  return {
    element,
    show(state) {
      const text = formerWords(state);
      say(words, text);
      shown(line, text !== "");
      element.className = text ? "former remark small" : "former";
      live.disabled = state.teaching.state !== "ready";
    },
  };
}

/** What the version in use does not know, or knows by a former name; nothing where it knows all. */
export function formerWords({ using, versions, classes }) {
  const version = versions.find((one) => one.id === using);
  if (!version) {
    return "";
  }
  const now = classes.map((one) => one.name);
  const lacking = now.filter((name) => !version.classes.includes(name));
  const former = version.classes.filter((name) => !now.includes(name));
  const parts = [];
  if (lacking.length) {
    parts.push(`does not know ${named(lacking)}`);
  }
  if (former.length) {
    const what = former.length === 1 ? "which is no class any more" : "which are no classes any more";
    parts.push(`still says ${named(former)}, ${what}`);
  }
  return parts.length
    ? `The version in use was made before the classes were changed: it ${parts.join(", and ")}.`
    : "";
}

function named(names) {
  const shownOnes = names.slice(0, MOST_NAMED).map((name) => `'${name}'`);
  const more = names.length - MOST_NAMED;
  return more > 0 ? `${shownOnes.join(", ")} and ${more} more` : shownOnes.join(" and ");
}
