// A journaled value as a tree. Nodes are those of durable/cli/ui/_nodes.py.

import { h } from "./dom.js";

const OPEN_LEVELS = 2;
const OPEN_ITEMS = 12; // a part with more than these is closed at first
const AT_ONCE = 100;
const LONG_TEXT = 600;

/** The tree of a node. */
export function tree(node, level = 0) {
  const [kind, name, parts] = node;
  if (kind === "text") return text(name);
  if (kind === "number" || kind === "word") return h(`code.value.${kind}`, {}, name);
  if (kind === "leaf") return h("span", {}, h("code.value.leaf", {}, parts), h("span.type", {}, name));
  if (kind === "cut") return cut(name, parts);
  return branch(kind, name, parts, level);
}

function text(value) {
  const shown = h("code.value.text", {}, `“${value.slice(0, LONG_TEXT)}${value.length > LONG_TEXT ? "…" : ""}”`);
  if (value.length <= LONG_TEXT) return shown;
  const more = h("button.more", { type: "button" }, `all ${value.length.toLocaleString("en")} letters`);
  more.addEventListener("click", () => {
    shown.textContent = `“${value}”`;
    more.remove();
  });
  return h("span", {}, shown, more);
}

function cut(beginning, length) {
  const words = `The beginning of ${length.toLocaleString("en")} letters; durable show --json has them all.`;
  return h("div", {}, h("p.quiet", {}, words), h("pre", {}, beginning));
}

function branch(kind, name, parts, level) {
  const isList = kind === "list";
  const brackets = isList ? (name === "tuple" ? "()" : name ? "{}" : "[]") : name && name !== "dict" ? "()" : "{}";
  if (!parts.length) return h("code.value.word", {}, `${name}${brackets}`);
  const count = `${parts.length.toLocaleString("en")} ${isList ? "item" : "field"}${parts.length === 1 ? "" : "s"}`;
  const body = h("div.parts");
  let drawn = 0;
  const draw = () => {
    for (const end = Math.min(parts.length, drawn + AT_ONCE); drawn < end; drawn += 1) {
      const [key, part] = isList ? [String(drawn), parts[drawn]] : parts[drawn];
      body.append(h("div.part", {}, h("span.key", {}, key), tree(part, level + 1)));
    }
    if (drawn < parts.length) {
      const more = h("button.more", { type: "button" }, `${(parts.length - drawn).toLocaleString("en")} more`);
      more.addEventListener("click", () => {
        more.remove();
        draw();
      });
      body.append(more);
    }
  };
  const open = level < OPEN_LEVELS && (level === 0 || parts.length <= OPEN_ITEMS);
  const details = h("details.branch", { open }, h("summary", {}, h("span.type", {}, name || (isList ? "list" : "dict")), ` ${count}`), body);
  const fill = () => details.open && !drawn && draw();
  details.addEventListener("toggle", fill);
  fill();
  return details;
}

/** The arguments of a call, or whatever the node is: the outermost level without a frame of its own. */
export function fields(node) {
  if (node === null) return h("p.quiet", {}, "nothing");
  const [kind, name, parts] = node;
  if (kind !== "object" || name || parts.length > OPEN_ITEMS) return tree(node);
  if (!parts.length) return h("p.quiet", {}, "no arguments");
  return h("div.parts.outermost", {}, parts.map(([key, part]) => h("div.part", {}, h("span.key", {}, key), tree(part, 1))));
}
