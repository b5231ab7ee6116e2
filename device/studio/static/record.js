/* The button that adds the camera's pictures to a class for as long as it is held. */

import { attribute, make, say } from "./dom.js";
import { post } from "./api.js";
import { warn } from "./notices.js";

/* The board stops by itself after two seconds without a word. */
const BEAT_MS = 500;
/* A tap is long enough for one picture. */
const SHORTEST_MS = 350;
const KEYS = [" ", "Enter"];

/** The button for a class; `nameOf()` returns its name, `show(state)` updates it. */
export function recordButton(nameOf) {
  const element = make("button", { type: "button", class: "record" });
  const recorder = new Recorder(nameOf, (held) => {
    attribute(element, "aria-pressed", String(held));
    say(element, held ? "Recording …" : "Hold to record");
  });
  attribute(element, "aria-pressed", "false");
  say(element, "Hold to record");
  hearPointer(element, recorder);
  hearKeys(element, recorder);
  // Somebody who switches to another window lets go of the button, too.
  window.addEventListener("blur", () => recorder.release());
  return {
    element,
    show(state) {
      const able = state.camera.state === "live";
      element.disabled = !able && !recorder.held;
      attribute(element, "aria-label", `Hold to record ${nameOf()}`);
      attribute(element, "title", able ? null : "The camera gives no picture now");
    },
    end() {
      recorder.release();
    },
  };
}

function hearPointer(element, recorder) {
  let pressed = false;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) {
      return;
    }
    pressed = true;
    element.setPointerCapture(event.pointerId);
    recorder.press();
  });
  ["pointerup", "pointercancel", "lostpointercapture"].forEach((name) =>
    element.addEventListener(name, () => recorder.release())
  );
  // A long touch opens no menu.
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("click", () => {
    // A click without a press is that of a screen reader or a switch, which cannot hold:
    // the first one starts, the next one ends.
    if (!pressed) {
      recorder.toggle();
    }
    pressed = false;
  });
}

function hearKeys(element, recorder) {
  element.addEventListener("keydown", (event) => {
    if (KEYS.includes(event.key)) {
      event.preventDefault();
      if (!event.repeat) {
        recorder.press();
      }
    }
  });
  element.addEventListener("keyup", (event) => {
    if (KEYS.includes(event.key)) {
      event.preventDefault();
      recorder.release();
    }
  });
  element.addEventListener("blur", () => recorder.release());
}

/** Says "on" again and again while held, then "off"; one request at a time keeps their order. */
class Recorder {
  constructor(nameOf, changed) {
    this.nameOf = nameOf;
    this.changed = changed;
    this.held = false;
    this.running = false;
    this.wake = () => {};
  }

  press() {
    if (!this.held) {
      this.held = true;
      this.changed(true);
      this.run();
    }
  }

  release() {
    if (this.held) {
      this.held = false;
      this.changed(false);
      this.wake();
    }
  }

  toggle() {
    if (this.held) {
      this.release();
    } else {
      this.press();
    }
  }

  async run() {
    if (this.running) {
      return;
    }
    this.running = true;
    while (this.held) {
      await this.round(this.nameOf());
    }
    this.running = false;
  }

  async round(name) {
    const began = Date.now();
    try {
      while (this.held) {
        await this.beat(name);
        await this.pause(BEAT_MS);
      }
      await this.pauseLonger(SHORTEST_MS - (Date.now() - began));
      await post("/api/record", { class: name, on: false });
    } catch (error) {
      this.release();
      warn(error.message);
    }
  }

  /** Say "on"; a radio or a camera that is away for a moment gets a second chance. */
  async beat(name) {
    try {
      await post("/api/record", { class: name, on: true });
    } catch (error) {
      await this.pause(BEAT_MS);
      if (this.held) {
        await post("/api/record", { class: name, on: true });
      }
    }
  }

  pause(ms) {
    return new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, this.held ? ms : 0);
    });
  }

  pauseLonger(ms) {
    return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
  }
}
