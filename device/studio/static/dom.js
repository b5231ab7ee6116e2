/* Elements, made and kept. Whatever comes from outside enters as text, never as markup. */

/**
 * Make an element. `properties` are attributes, besides `text` (its text), `on` (listeners by
 * event) and booleans (present or not). Children that are strings become text.
 */
export function make(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an element of a drawing; as `make`. */
export function draw(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  Object.entries(properties).forEach(([name, value]) => {
    if (name === "text") {
      element.textContent = value;
    } else if (name === "on") {
      Object.entries(value).forEach(([event, hear]) => element.addEventListener(event, hear));
    } else {
      attribute(element, name, value);
    }
  });
  element.append(...children);
  return element;
}

/** Set an attribute where it differs; false, null and undefined take it away. */
export function attribute(element, name, value) {
  if (value === false || value === null || value === undefined) {
    element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) {
      element.setAttribute(name, text);
    }
  }
}

/** Set the text where it differs: screen readers hear of a change, and a selection survives. */
export function say(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Show or hide. */
export function shown(element, visible) {
  element.hidden = !visible;
}

/**
 * Make the children of `parent` stand for `items`, in their order. A child whose `key` stays is
 * kept, and so keeps its focus; `create` makes a new part, an object with an `element`.
 * Returns the parts in order.
 */
export function keyed(parent, items, key, create) {
  const parts = parent.parts || new Map();
  const next = new Map();
  items.forEach((item) => {
    const name = key(item);
    next.set(name, parts.get(name) || create(item));
  });
  parts.forEach((part, name) => {
    if (!next.has(name)) {
      part.element.remove();
    }
  });
  let at = parent.firstElementChild;
  next.forEach((part) => {
    if (part.element === at) {
      at = at.nextElementSibling;
    } else {
      parent.insertBefore(part.element, at);
    }
  });
  parent.parts = next;
  return Array.from(next.values());
}

/** Return a promise that is kept after `ms` milliseconds. */
export function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
