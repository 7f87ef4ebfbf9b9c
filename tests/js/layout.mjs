const TEXTS = { __proto__: null, text: "text", reasoning: "text", tool_call: "input" };

/** Parts as the wire has them: with lengths, and without the texts of content and reasoning. */
export function layout(parts) {
  return parts.map((part) => {
    const name = TEXTS[part.type];
    if (!name) return part;
    const entry = { ...part, length: part[name].length };
    if (name === "text") delete entry.text;
    return entry;
  });
}
