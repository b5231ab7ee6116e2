/* A button for what cannot be undone: it asks once more, in its own place. */

import { make, shown } from "./dom.js";

/**
 * Make such a button. `question` and `yes` are texts, or functions that return them when they are
 * needed; `act` is called after the second step. Escape and "Keep" lead back.
 */
export function askingButton({ label, name, question, yes, act }) {
  const first = make("button", {
    type: "button",
    class: "plain small",
    text: label,
    "aria-label": name,
  });
  const words = make("span");
  const sure = make("button", { type: "button", class: "danger small" });
  const keep = make("button", { type: "button", class: "small", text: "Keep" });
  const second = make("span", { class: "ask", role: "group", hidden: true }, words, sure, keep);
  const element = make("span", { class: "asking" }, first, second);

  function turn(asked) {
    shown(first, !asked);
    shown(second, asked);
  }
  function back() {
    turn(false);
    first.focus();
  }
  first.addEventListener("click", () => {
    words.textContent = typeof question === "function" ? question() : question;
    sure.textContent = typeof yes === "function" ? yes() : yes;
    second.setAttribute("aria-label", words.textContent);
    turn(true);
    keep.focus();
  });
  keep.addEventListener("click", back);
  second.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      back();
    }
  });
  sure.addEventListener("click", () => {
    back();
    act();
  });
  return { element, button: first };
}
