/**
 * Text that a person decides about: the same JSON, laid out, and with nothing in it that cannot be
 * seen. No number is read, because a number of JavaScript may be another one than is written.
 */

const DEEPEST = 40; // levels that are indented: or 64 KiB of brackets would fill the memory
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g;
const OPENING = new Set(["{", "["]);
const CLOSING = new Set(["}", "]"]);
/** Controls, what is drawn as nothing, and blanks; not the space, the tab and the end of a line. */
const UNSEEN = /(?! |\t|\r?\n)[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\p{Z}\u2800]/gu;

/** JSON laid out for reading, its strings and numbers as they are written; other text as it is. */
export function laidOut(text) {
  return visible(isJson(text) ? indented(text) : text);
}

/** The text, with what cannot be seen in it as escapes of JSON. */
export function visible(text) {
  return text.replace(UNSEEN, (character) => character.replace(/[^]/g, escaped));
}

const escaped = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function indented(text) {
  const line = () => `\n${"  ".repeat(Math.min(depth, DEEPEST))}`;
  let [written, depth, last] = ["", 0, ""];
  for (const [token] of text.matchAll(TOKEN)) {
    if (CLOSING.has(token)) depth--;
    if (OPENING.has(last) ? !CLOSING.has(token) : CLOSING.has(token) || last === ",")
      written += line();
    else if (last === ":") written += " ";
    if (OPENING.has(token)) depth++;
    written += token;
    last = token;
  }
  return written;
}
