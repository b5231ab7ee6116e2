/* Which part of the page is seen stands behind the # of its address: a reload and "back" work. */

/** The address of the pictures of a class. */
export function galleryAddress(name) {
  return `#class/${encodeURIComponent(name)}`;
}

/** The address of the review of a version. */
export function reviewAddress(id) {
  return `#review/${encodeURIComponent(id)}`;
}

/** What the address of now means: `{kind: "home" | "class" | "review", name}`. */
export function route() {
  const [kind, name] = window.location.hash.slice(1).split("/");
  if ((kind === "class" || kind === "review") && name) {
    try {
      return { kind, name: decodeURIComponent(name) };
    } catch (error) {
      // Somebody typed it: a lone % means nothing.
    }
  }
  return { kind: "home", name: "" };
}
