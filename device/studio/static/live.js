/* What the board tells by itself: its state, and the answer for each frame. */

import { get } from "./api.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
/* A laptop that slept has a connection that is dead and does not say so. */
const SILENCE_MS = 60000;

/**
 * Hear the board's events for as long as the page is open, through lost connections.
 * `hear` has `state(document)`, `answer(document)` and `connected(boolean)`.
 */
export function listen(hear) {
  let source = null;
  let pause = FIRST_WAIT_MS;
  let last = Date.now();

  function open() {
    source = new EventSource("/api/events");
    last = Date.now();
    source.onopen = () => {
      pause = FIRST_WAIT_MS;
      last = Date.now();
      hear.connected(true);
    };
    source.addEventListener("state", (event) => take(event, hear.state));
    source.addEventListener("answer", (event) => take(event, hear.answer));
    source.onerror = lost;
  }

  function take(event, to) {
    last = Date.now();
    to(JSON.parse(event.data));
  }

  // The browser's own attempts end at some answers of a server that restarts: ours go on.
  function lost() {
    source.close();
    hear.connected(false);
    setTimeout(async () => {
      try {
        // Finds out, too, whether the session is over.
        hear.state(await get("/api/state"));
      } catch (error) {
        pause = Math.min(pause * 2, LONGEST_WAIT_MS);
        lost();
        return;
      }
      open();
    }, pause);
  }

  setInterval(() => {
    if (source.readyState === EventSource.OPEN && Date.now() - last > SILENCE_MS) {
      source.close();
      open();
    }
  }, SILENCE_MS / 4);
  open();
}
