/* The page that asks for the board's code. */

import { post } from "./api.js";

const form = document.getElementById("pair");
const code = document.getElementById("code");
const trouble = document.getElementById("trouble");
const button = form.querySelector("button");

const WORDS = {
  403: "This is not the code. Look at the terminal of the board again.",
};

async function pair(given) {
  button.disabled = true;
  trouble.textContent = "";
  try {
    await post("/pair", { code: given });
    // The address without the code; what was asked for stands behind its #.
    window.location.replace("/");
  } catch (error) {
    trouble.textContent = WORDS[error.status] || error.message;
    button.disabled = false;
    code.select();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // It is easier to read, and to type, in two groups.
  pair(code.value.replace(/\s/g, ""));
});

// The QR code on the terminal has the code behind the #, which is never sent to anybody.
const scanned = new URLSearchParams(window.location.hash.slice(1)).get("code");
if (scanned) {
  code.value = scanned;
  pair(scanned);
}
