/* Requests to the board. */

/* How long a file is kept for the browser that saves it. */
const KEPT_MS = 60000;

/** The board said no, or could not be reached (`status` 0). The message is one line for a person. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the JSON that the board answers. Throws Refused. */
export function get(path) {
  return answered(path, { headers: { Accept: "application/json" } });
}

/** Send JSON; return the JSON of the answer, null where it is empty. Throws Refused. */
export function post(path, document) {
  return answered(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Mobiletl": "1" },
    body: JSON.stringify(document),
  });
}

/** Send the bytes of a file; return the JSON of the answer. Throws Refused. */
export function postFile(path, file) {
  return answered(path, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream", "X-Mobiletl": "1" },
    body: file,
  });
}

/**
 * Fetch a file and have the browser save it, under the name that the board gives it. A link would
 * do that, too, but could not say why there is no file. Throws Refused.
 */
export async function save(path) {
  const response = await asked(path, {});
  if (!response.ok) {
    throw refused(response, await response.text());
  }
  const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = named ? named[1] : "download";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}

/** Make a path with a query; names may hold anything. */
export function query(path, parameters) {
  return `${path}?${new URLSearchParams(parameters)}`;
}

/** The address of a picture's thumbnail. */
export function thumbnail(id) {
  return `/api/pictures/${encodeURIComponent(id)}/thumbnail`;
}

async function answered(path, options) {
  const response = await asked(path, options);
  const text = await response.text();
  if (!response.ok) {
    throw refused(response, text);
  }
  return text ? JSON.parse(text) : null;
}

async function asked(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    throw new Refused(0, "The board does not answer. Is it on, and on this network?");
  }
}

function refused(response, text) {
  if (response.status === 401) {
    // The session is over; the board then answers with the page that asks for its code.
    window.dispatchEvent(new Event("unpaired"));
  }
  return new Refused(response.status, lineOf(text) || `The board answered ${response.status}.`);
}

function lineOf(text) {
  try {
    return JSON.parse(text).error;
  } catch (error) {
    return "";
  }
}
