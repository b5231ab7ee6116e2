/* The classes, how to add one, and what to do next. */

import { post } from "./api.js";
import { classCard } from "./card.js";
import { keyed, make, say, shown } from "./dom.js";
import { attempt } from "./notices.js";

const ENOUGH = 20;

/** The section; `show(state)` updates it. */
export function classes() {
  const next = make("p", { class: "next", role: "status" });
  const list = make("ul", { class: "cards" });
  const add = addForm();
  const element = make("div", {}, next, list, add.element);
  return {
    element,
    show(state) {
      say(next, nextStep(state));
      shown(next, next.textContent !== "");
      const parts = keyed(list, state.classes, (one) => one.name, classCard);
      parts.forEach((part, at) => part.show(state.classes[at], state));
      shown(list, state.classes.length > 0);
      add.show(state);
    },
    focus(name) {
      const part = list.parts && list.parts.get(name);
      if (part) {
        part.focus();
      }
    },
  };
}

/** What a person does next, in one sentence or two. */
export function nextStep(state) {
  const { classes: all, camera } = state;
  const how =
    camera.state === "none" ? "upload a few pictures" : "show it to the camera and hold its button";
  if (all.length === 0) {
    return "Name two things that you want to tell apart: a mug and a plant, say.";
  }
  if (all.length === 1) {
    return "Name a second class. “Nothing”, for what is there otherwise, is often a good one.";
  }
  const empty = all.filter((one) => one.count === 0);
  if (empty.length) {
    return `For ${empty[0].name}: ${how}, for a few seconds and from several sides.`;
  }
  const few = all.filter((one) => one.count < ENOUGH);
  if (few.length) {
    return `Some ${ENOUGH} pictures of each class make a good start; ${few[0].name} has ${few[0].count}.`;
  }
  return "";
}

function addForm() {
  const input = make("input", {
    type: "text",
    id: "new-class",
    maxlength: "60",
    autocomplete: "off",
    placeholder: "mug",
  });
  const button = make("button", { type: "submit", text: "Add class" });
  const label = make("label", { for: "new-class", text: "New class" });
  const element = make("form", { class: "add" }, label, make("div", { class: "line" }, input, button));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = input.value.trim().normalize("NFC");
    if (name && (await attempt(() => post("/api/classes", { name })))) {
      input.value = "";
    }
    input.focus();
  });
  return {
    element,
    show(state) {
      button.className = state.classes.length < 2 ? "primary" : "";
    },
  };
}
