/** Small helpers over the DOM. Text always goes in as text: nothing here reads HTML. */

/** The element with that id of the page. */
export const byId = (id) => document.getElementById(id);

/** An element: `make("p", {class: "x", hidden: true, onclick}, "text", child)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** One of the symbols of index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Say something to those who listen to the page: states and endings, never the text that streams.
 */
export function announce(text) {
  byId("announce").textContent = text;
}

/** What this browser kept under that name; null where there is nothing, or nothing may be kept. */
export function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(`tokenwire.${name}`));
  } catch {
    return null;
  }
}

/** Keep something for `recall`, if it may be kept. */
export function keep(name, value) {
  try {
    localStorage.setItem(`tokenwire.${name}`, JSON.stringify(value));
  } catch {
    // private windows and full disks: the page works without
  }
}

/**
 * Copy to the clipboard, also where the page has no secure context (a phone on the local network).
 */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea", { class: "unseen" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Show on a copy button that it was done. */
export function copied(button) {
  button.replaceChildren(icon("check"), "Copied");
  announce("Copied");
  setTimeout(() => button.replaceChildren(icon("copy"), "Copy"), 1600);
}
