/* Short messages at the foot of the page. */

import { make } from "./dom.js";

const STAYS_MS = 6000;
const MOST = 4;

/** Say what happened; it goes away by itself. */
export function tell(text) {
  const notice = add("said", text);
  setTimeout(() => notice.remove(), STAYS_MS);
}

/** Say what went wrong; it stays until somebody closes it. */
export function warn(text) {
  add("alerts", text);
}

function add(id, text) {
  const list = document.getElementById(id);
  Array.from(list.children)
    .filter((notice) => notice.firstElementChild.textContent === text)
    .forEach((notice) => notice.remove());
  const close = make("button", {
    type: "button",
    class: "plain small",
    text: "Close",
    "aria-label": `Close the message: ${text}`,
  });
  const notice = make("div", { class: "notice" }, make("p", { text }), close);
  close.addEventListener("click", () => notice.remove());
  list.append(notice);
  while (list.children.length > MOST) {
    list.firstElementChild.remove();
  }
  return notice;
}

/** Do `action`, a function that returns a promise; say why where it fails. Returns success. */
export async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    warn(error.message);
    return false;
  }
}
