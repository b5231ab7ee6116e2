/* One class: its name, how many pictures it has, the newest of them, and how to add more. */

import { askingButton } from "./ask.js";
import { get, post, query, thumbnail } from "./api.js";
import { attribute, keyed, make, say, shown } from "./dom.js";
import { attempt } from "./notices.js";
import { recordButton } from "./record.js";
import { takeDrops, uploader } from "./upload.js";
import { count } from "./words.js";
import { galleryAddress } from "./routes.js";

const NEWEST = 6;
/* While pictures stream in, the strip follows at this pace. */
const STRIP_MS = 1000;

/** A card; `show(class, state)` updates it. */
export function classCard(first) {
  let now = first;
  let limits = { picture_mb: Infinity };
  const nameOf = () => now.name;
  const name = nameField(nameOf);
  const number = make("a", { class: "count" });
  const strip = newest(nameOf);
  const record = recordButton(nameOf);
  const upload = uploader(nameOf, () => limits);
  const remove = askingButton({
    label: "Delete",
    name: `Delete ${now.name}`,
    question: () =>
      now.count ? `Delete ${now.name} and its ${count(now.count, "picture")}?` : `Delete ${now.name}?`,
    yes: "Delete",
    act: () => attempt(() => post("/api/classes/delete", { name: now.name })),
  });
  const element = make(
    "li",
    { class: "card" },
    make("div", { class: "line" }, name.element, number),
    strip.element,
    record.element,
    upload.report.element,
    make("div", { class: "line foot" }, ...upload.buttons, remove.element)
  );
  takeDrops(element, upload.add);
  return {
    element,
    focus: () => number.focus(),
    show(next, state) {
      now = next;
      limits = state.limits;
      name.show();
      say(number, count(now.count, "picture"));
      strip.show(now.count);
      record.show(state);
      attribute(element, "data-recording", state.recording === now.name);
      // An anchor without an address is no link.
      attribute(number, "href", now.count ? galleryAddress(now.name) : null);
      attribute(number, "aria-label", now.count ? `See all ${number.textContent} of ${now.name}` : null);
      attribute(remove.button, "aria-label", `Delete ${now.name}`);
    },
  };
}

/** The name as a heading, and as a field while it is changed. */
function nameField(nameOf) {
  const text = make("bdi");
  const edit = make("button", { type: "button", class: "plain name", title: "Rename" }, text);
  const input = make("input", { type: "text", maxlength: "60", hidden: true });
  const element = make("h3", {}, edit, input);

  function back() {
    shown(input, false);
    shown(edit, true);
  }
  async function keep() {
    const to = input.value.trim().normalize("NFC");
    if (input.hidden) {
      return;
    }
    back();
    if (to && to !== nameOf()) {
      await attempt(() => post("/api/classes/rename", { name: nameOf(), to }));
    }
  }
  edit.addEventListener("click", () => {
    input.value = nameOf();
    shown(input, true);
    shown(edit, false);
    input.select();
  });
  input.addEventListener("blur", keep);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      keep();
      edit.focus();
    } else if (event.key === "Escape") {
      back();
      edit.focus();
    }
  });
  return {
    element,
    show() {
      say(text, nameOf());
      attribute(edit, "aria-label", `${nameOf()}, rename`);
      attribute(input, "aria-label", `New name of ${nameOf()}`);
    },
  };
}

/** The newest pictures of a class; asks for them when their number has changed. */
function newest(nameOf) {
  const element = make("ul", { class: "strip", "aria-hidden": "true" });
  let wanted = null;
  let asking = false;

  async function ask() {
    asking = true;
    const number = wanted;
    try {
      // The newest come first.
      const some = await get(query("/api/pictures", { class: nameOf(), from: 0, limit: NEWEST }));
      keyed(element, some.pictures, (one) => one.id, (one) => ({ element: picture(one.id) }));
    } catch (error) {
      // The next state asks again; a class that is gone has no pictures to show.
    }
    setTimeout(() => {
      asking = false;
      if (wanted !== number) {
        ask();
      }
    }, STRIP_MS);
  }
  return {
    element,
    show(number) {
      const changed = number !== wanted;
      wanted = number;
      shown(element, number > 0);
      if (changed && !asking && number > 0) {
        ask();
      }
    },
  };
}

function picture(id) {
  const properties = { src: thumbnail(id), alt: "", loading: "lazy", width: "160", height: "160" };
  return make("li", {}, make("img", properties));
}
