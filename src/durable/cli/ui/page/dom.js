// Elements, and times as people say them. Text goes in as text: nothing here, or anywhere in the page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("p.note", {title: "…"}, "text", child)`. Functions become listeners, `null` children are left out. */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key === "style") Object.assign(element.style, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// -- status -----------------------------------------------------------------------------------------------------------

const CIRCLE = "M8 2.2a5.8 5.8 0 1 0 .01 0";
const ICONS = {
  queued: ["M3.5 8h.01M8 8h.01M12.5 8h.01"],
  running: ["M5.5 3.5v9l7-4.5z"],
  waiting: [CIRCLE, "M8 4.8V8l2.2 1.4"],
  retrying: ["M12.6 8a4.6 4.6 0 1 1-1.4-3.3", "M12.8 2.4v2.9H9.9"],
  completed: ["M3 8.6l3.2 3.2L13 4.8"],
  failed: ["M4 4l8 8M12 4l-8 8"],
  cancelled: [CIRCLE, "M4.2 4.2l7.6 7.6"],
  cut: [CIRCLE, "M4.2 4.2l7.6 7.6"],
  blocked: [CIRCLE, "M5 8h6"],
  interrupted: ["M9.2 1.8L3.8 9h3.6l-.9 5.2L12.2 7H8.4z"],
  branch: ["M4.5 2.5v11M4.5 9.5c0-3 7-1.5 7-6"],
  damaged: ["M5.6 6a2.4 2.4 0 1 1 3.3 2.2c-.7.3-.9.8-.9 1.6M8 12.6h.01"],
};

/** The picture of a status, in its colour. The word stands beside it, or in its title. */
export function icon(status) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon is-${status}`);
  svg.setAttribute("aria-hidden", "true");
  for (const line of ICONS[status] ?? ICONS.damaged) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}

// -- times: seconds, as durable/cli/_text.py says them ------------------------------------------------------------------

let skew = 0;

/** Keep in step with the clock of the server. */
export function setNow(seconds) {
  skew = seconds - Date.now() / 1000;
}

/** The time of the server, in seconds since 1970. */
export function now() {
  return Date.now() / 1000 + skew;
}

const two = (number) => String(number).padStart(2, "0");

/** A length of time: <1ms, 3ms, 2.1s, 42s, 4m 10s, 2h 03m, 3d 4h. */
export function span(seconds) {
  const ms = Math.round(Math.max(0, seconds) * 1000);
  if (ms < 1000) return ms ? `${ms}ms` : "<1ms";
  if (ms < 10_000) return `${Math.floor(ms / 100) / 10}s`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86_400).toLocaleString("en")}d ${Math.floor((s % 86_400) / 3600)}h`;
}

/** How long ago, in one unit: now, 5s, 3m, 2h, 4d. */
export function age(seconds) {
  const s = Math.floor(Math.max(0, seconds));
  if (s < 1) return "now";
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86_400).toLocaleString("en")}d`;
}

/** A moment for people, where they are: 14:03:22, with the date where it is not of today. */
export function clock(seconds) {
  const at = new Date(seconds * 1000);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date(now() * 1000).toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** The same in UTC, exactly. */
export function utc(seconds) {
  return new Date(seconds * 1000).toISOString();
}

/** A moment with its exact time in the title. */
export function moment(seconds) {
  return h("time", { datetime: utc(seconds), title: utc(seconds) }, clock(seconds));
}

/** A text that a click copies. */
export function copyable(text, name) {
  const button = h("button.copy", { type: "button", title: `Copy the ${name}` }, "Copy");
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return h("span.copyable", {}, h("code", {}, text), button);
}
