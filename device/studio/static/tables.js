/* Tables. */

import { make } from "./dom.js";

/** Put a table that may be wider than the page where it can be scrolled, by keyboard as well. */
export function wide(table, name) {
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, table);
}
