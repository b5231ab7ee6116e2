/* The page: its parts, and what moves them. */

import { answerBars } from "./answer.js";
import { get } from "./api.js";
import { classes } from "./classes.js";
import { keyed, make, say, shown } from "./dom.js";
import { formerClasses } from "./former.js";
import { gallery } from "./gallery.js";
import { listen } from "./live.js";
import { tell, warn } from "./notices.js";
import { review } from "./review.js";
import { route } from "./routes.js";
import { stage } from "./stage.js";
import { training } from "./training.js";
import { versions } from "./versions.js";
import { count, megabytes } from "./words.js";

const at = (id) => document.getElementById(id);

const seen = stage();
const bars = answerBars();
const taught = classes();
const pictures = gallery();
const former = formerClasses();
const parts = [seen, bars, taught, training(), versions(), pictures, former];
const reviewed = review();

at("stage").append(seen.element);
at("answer").append(seen.remark, former.element, bars.element, seen.controls);
at("classes").append(taught.element);
at("training").append(parts[3].element);
at("versions").append(parts[4].element);
at("gallery").append(pictures.element);
at("review").append(reviewed.element);

let left = "";

/** Show what the address means. */
function go() {
  const { kind, name } = route();
  shown(at("home"), kind === "home");
  shown(at("gallery"), kind === "class");
  shown(at("review"), kind === "review");
  seen.watch(kind === "home");
  if (kind === "class") {
    pictures.open(name);
  } else if (kind === "review") {
    reviewed.open(name);
  } else if (left) {
    taught.focus(left);
  }
  left = kind === "class" ? name : "";
  if (kind !== "home") {
    window.scrollTo(0, 0);
  }
}

function show(state) {
  parts.forEach((part) => part.show(state));
  const { bundle, limits } = state;
  const facts = [bundle.name, count(state.pictures, "picture"), `${megabytes(limits.free_mb)} free`];
  say(at("facts"), facts.join(" · "));
  document.title = `${state.recording ? "● " : ""}${bundle.name} · Studio`;
  keyed(at("notes"), state.notes, String, (text) => ({ element: make("li", { text }) }));
  shown(at("notes"), state.notes.length > 0);
}

function connected(yes) {
  const line = at("connection");
  if (yes && line.textContent) {
    tell("The board is there again.");
    seen.again();
  }
  say(line, yes ? "" : "Connection lost, trying again …");
  if (!yes) {
    seen.answer(null);
    bars.answer(null);
  }
}

function answer(document) {
  seen.answer(document);
  bars.answer(document);
}

async function begin() {
  if (window.location.hash.startsWith("#code=")) {
    // A paired device has scanned the code again; it need not stand in the address.
    window.history.replaceState(null, "", "/");
  }
  go();
  window.addEventListener("hashchange", go);
  window.addEventListener("unpaired", () => window.location.reload());
  // A picture that is dropped beside a card would else take the page's place.
  ["dragover", "drop"].forEach((name) =>
    window.addEventListener(name, (event) => event.preventDefault())
  );
  try {
    show(await get("/api/state"));
  } catch (error) {
    warn(error.message);
  }
  listen({ state: show, answer, connected });
}

begin();
