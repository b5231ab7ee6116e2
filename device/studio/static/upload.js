/* Pictures from files: chosen, a folder of them, or dropped; sent one after another. */

import { keyed, make, say, shown } from "./dom.js";
import { postFile, query } from "./api.js";
import { count } from "./words.js";

const BYTES_PER_MB = 1e6;
const MOST_ERRORS = 50;

/* One upload at a time on the whole page: a board has one small processor. */
let queue = Promise.resolve();

/** The upload of a class; `nameOf()` returns its name, `limits()` the board's. */
export function uploader(nameOf, limits) {
  const report = uploadReport();
  let stopped = false;
  report.stop.addEventListener("click", () => {
    stopped = true;
  });

  async function send(files) {
    const total = { done: 0, all: files.length, added: 0, known: 0, errors: [] };
    stopped = false;
    for (const file of files) {
      report.show(total, true);
      if (stopped) {
        break;
      }
      await sendOne(file, nameOf(), limits(), total);
      total.done += 1;
    }
    report.show(total, false);
  }

  function add(files) {
    const chosen = files.filter((file) => !file.name.startsWith("."));
    if (chosen.length) {
      queue = queue.then(() => send(chosen));
    }
  }
  return { buttons: [fileButton(nameOf, add, false), fileButton(nameOf, add, true)], report, add };
}

async function sendOne(file, name, limits, total) {
  const problem = problemOf(file, limits);
  if (problem) {
    total.errors.push({ name: file.name, problem });
    return;
  }
  try {
    const answer = await postFile(query("/api/pictures", { class: name }), file);
    if (answer && answer.known) {
      total.known += 1;
    } else {
      total.added += 1;
    }
  } catch (error) {
    total.errors.push({ name: file.name, problem: error.message });
  }
}

/* What the board would refuse anyway, told before it is sent. */
function problemOf(file, limits) {
  if (file.type && !file.type.startsWith("image/")) {
    return "is no picture";
  }
  if (file.size > limits.picture_mb * BYTES_PER_MB) {
    const size = (file.size / BYTES_PER_MB).toFixed(1);
    return `has ${size} MB; a picture may have ${limits.picture_mb} MB`;
  }
  return "";
}

function fileButton(nameOf, add, folder) {
  const input = make("input", {
    type: "file",
    multiple: true,
    accept: "image/*",
    webkitdirectory: folder,
    hidden: true,
    tabindex: "-1",
  });
  const button = make("button", {
    type: "button",
    class: folder ? "small folder" : "small",
    text: folder ? "Folder" : "Upload",
  });
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    add(Array.from(input.files));
    // The same file can be chosen again.
    input.value = "";
  });
  const label = () => (folder ? "Upload a folder of pictures to" : "Upload pictures to");
  button.addEventListener("focus", () => {
    button.setAttribute("aria-label", `${label()} ${nameOf()}`);
  });
  button.setAttribute("aria-label", `${label()} ${nameOf()}`);
  input.setAttribute("aria-label", button.getAttribute("aria-label"));
  return make("span", { class: folder ? "folder" : "" }, button, input);
}

function uploadReport() {
  const words = make("p", { class: "small", role: "status" });
  const progress = make("progress", { max: "1", value: "0", "aria-label": "Upload" });
  const stop = make("button", { type: "button", class: "plain small", text: "Stop" });
  const errors = make("ul", { class: "errors" });
  const close = make("button", { type: "button", class: "plain small", text: "Close" });
  const line = make("div", { class: "line" }, words, stop, close);
  const element = make("div", { class: "upload", hidden: true }, line, progress, errors);
  close.addEventListener("click", () => shown(element, false));
  return {
    element,
    stop,
    show(total, running) {
      shown(element, true);
      shown(progress, running);
      shown(stop, running);
      shown(close, !running);
      progress.value = total.done / total.all;
      say(words, running ? `Sending ${total.done + 1} of ${total.all} …` : summary(total));
      const listed = total.errors.slice(0, MOST_ERRORS);
      keyed(errors, listed, (one) => `${one.name} ${one.problem}`, (one) => ({
        element: make("li", {}, make("bdi", { text: one.name }), `: ${one.problem}`),
      }));
      shown(errors, listed.length > 0);
    },
  };
}

function summary(total) {
  const parts = [`${count(total.added, "picture")} added`];
  if (total.known) {
    parts.push(`${total.known} already there`);
  }
  if (total.errors.length) {
    parts.push(`${total.errors.length} not taken`);
  }
  const left = total.all - total.done;
  if (left) {
    parts.push(`${left} not sent`);
  }
  return `${parts.join(", ")}.`;
}

/** Make `element` take files and folders that are dropped on it. */
export function takeDrops(element, add) {
  const over = (on) => element.classList.toggle("over", on);
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  element.addEventListener("dragleave", () => over(false));
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    over(false);
    // Entries are only there until the event is over.
    const entries = Array.from(event.dataTransfer.items || [])
      .map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry())
      .filter(Boolean);
    const files = entries.length ? await filesOf(entries) : Array.from(event.dataTransfer.files);
    add(files);
  });
}

async function filesOf(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    } else {
      found.push(...(await filesOf(await inFolder(entry))));
    }
  }
  return found;
}

async function inFolder(entry) {
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    // A reader gives a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) {
      return all;
    }
    all.push(...some);
  }
}
