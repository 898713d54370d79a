// The timeline of a run: a lane of its processes, then a row an operation with a bar an attempt.

import { makeAxis, place, ticks } from "./axis.js";
import { h, icon, now, span, utc } from "./dom.js";

const INSTANT = new Set(["now", "uuid4", "random", "event"]); // kinds of operations that take no time

const IDLE = new Set(["waiting", "waited"]); // bars in which nothing executes
const ICON_PIXELS = 22; // that the mark of a death needs
const PID_PIXELS = 60; // and the number of a process

/** A name for an operation that stays the same while it is in the journal. */
export const keyOf = (row) => `${row.position}${row.branch}`;

export class Timeline {
  /** `onChoose(row)` is called when an operation is chosen, `onOpen(id)` for the run of a child. */
  constructor({ onChoose, onOpen }) {
    this.onChoose = onChoose;
    this.onOpen = onOpen;
    this.chosen = null; // the key of an operation
    this.panel = null; // what is shown below the row of the chosen one
    this.lines = []; // of the rows: {row, element, bars}
    this.lane = h("div.track");
    this.scale = h("div.track.scale");
    this.shade = h("div.shade");
    this.body = h("div.rows", { role: "list" });
    this.element = h(
      "div.timeline",
      {},
      h("div.line.lane", {}, h("div.label.quiet", {}, "process"), this.lane),
      h("div.line.head", {}, h("div.label.quiet", {}, "step"), this.scale, h("div.result.quiet", {}, "result")),
      this.body,
      this.shade,
    );
    new ResizeObserver(() => this.layout()).observe(this.element);
  }

  /** Draw a run as the server told it. */
  show(run) {
    this.run = run;
    this.lines = run.rows.map((row) => this.line(row));
    this.body.replaceChildren(...this.lines.map((line) => line.element));
    this.placePanel();
    this.layout();
  }

  get operations() {
    return this.lines.filter((line) => line.row.position !== undefined);
  }

  // -- choosing -------------------------------------------------------------------------------------------------------

  /** Mark an operation; `panel` is shown below it, `null` for nothing. */
  mark(key, panel) {
    this.chosen = key;
    this.panel?.remove();
    this.panel = panel;
    for (const { row, element } of this.lines) element.classList.toggle("chosen", keyOf(row) === key);
    this.placePanel();
    this.layout();
  }

  placePanel() {
    const line = this.lines.find(({ row }) => keyOf(row) === this.chosen);
    if (line && this.panel) line.element.after(this.panel);
  }

  /** The operation `by` rows further down, or the first or last one. */
  next(by) {
    const all = this.operations;
    const at = all.findIndex(({ row }) => keyOf(row) === this.chosen);
    const wanted = at < 0 ? (by > 0 && by !== Infinity ? 0 : all.length - 1) : at + by;
    const line = all[Math.max(0, Math.min(all.length - 1, wanted))];
    line?.element.scrollIntoView({ block: "nearest" });
    return line?.row ?? null;
  }

  // -- rows -----------------------------------------------------------------------------------------------------------

  line(row) {
    if (row.kind === "hidden") {
      const words = `${row.count.toLocaleString("en")} operations between these are not drawn; durable show lists them`;
      return { row, element: h("div.line.hidden", { role: "listitem" }, words), bars: [] };
    }
    const inset = { style: { paddingLeft: `${8 + row.depth * 18}px` } };
    if (row.kind === "branch") {
      const label = h("div.label", inset, icon("branch"), h("span.name", {}, row.name));
      return { row, element: h("div.line.branch-head", { role: "listitem" }, label), bars: [] };
    }
    const bars = row.bars.map((bar) => ({ bar, element: this.bar(row, bar) }));
    const waits = backOffs(row).map((wait) => ({ bar: wait, element: h("i.back-off", { title: waitWords(wait) }) }));
    const element = h(
      "div.line.operation",
      {
        role: "listitem",
        tabindex: "-1",
        click: () => this.onChoose(row),
        title: row.branch ? `position ${row.position} of ${row.branch}` : `position ${row.position}`,
      },
      h(
        "div.label",
        inset,
        icon(row.status),
        h("span.name", {}, row.name, row.item ? h("span.quiet", {}, ` [${row.position}]`) : null),
        row.kind === "step" || row.kind === row.name ? null : h("span.kind", {}, row.kind),
        row.attempt > 1 ? h("span.count", { title: `${row.attempt} attempts` }, `×${row.attempt}`) : null,
      ),
      h("div.track", {}, waits.map((wait) => wait.element), bars.map((bar) => bar.element)),
      this.result(row),
    );
    element.classList.toggle("chosen", keyOf(row) === this.chosen);
    return { row, element, bars: [...waits, ...bars] };
  }

  bar(row, bar) {
    const to = bar.to === null ? "until now" : `to ${utc(bar.to)}, ${span(bar.to - bar.from)}`;
    if (bar.state === "died") return h("i.bar.is-died", { title: `attempt ${bar.attempt}: the process died in it\n${utc(bar.from)}` });
    const dot = INSTANT.has(row.kind) ? ".instant" : "";
    return h(`i.bar.is-${bar.state}${dot}`, { title: `attempt ${bar.attempt}: ${bar.state}\n${utc(bar.from)} ${to}` });
  }

  result(row) {
    if (row.child === null) {
      const failed = row.status === "failed" ? ".is-failed" : "";
      return h(`div.result${failed}`, { title: row.result }, row.status === "interrupted" ? "the process died in it" : row.result);
    }
    const link = h("a", { href: `#run=${encodeURIComponent(row.child.id)}`, title: "open the run that was called" });
    link.append(icon(row.child.status), h("code", {}, row.child.id));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.onOpen(row.child.id);
    });
    return h("div.result", {}, link);
  }

  // -- time -----------------------------------------------------------------------------------------------------------

  /** Put everything where its time is. Called again while time goes on. */
  layout() {
    if (!this.run || !this.element.isConnected) return;
    const { run } = this;
    const end = run.finished_at ?? (run.status === "blocked" ? Math.max(...run.lives.map((life) => life.last_sign_at)) : now());
    const all = run.rows.flatMap((row) => row.bars ?? []);
    const busy = all.filter((bar) => !IDLE.has(bar.state)).map((bar) => [bar.from, bar.to ?? end]);
    const start = Math.min(run.created_at, ...all.map((bar) => bar.from));
    const axis = makeAxis(start, end, busy);
    for (const { bars } of this.lines) {
      for (const { bar, element } of bars) put(element, axis, bar.from, untilOf(bar, end));
    }
    const pixels = this.scale.clientWidth;
    this.scale.replaceChildren(
      ...ticks(axis, pixels).map(({ at, seconds }) => {
        const tick = h("span.tick", {}, seconds ? span(seconds) : "0");
        tick.style.left = `${at * 100}%`;
        return tick;
      }),
      ...squeezed(axis, pixels),
    );
    this.processes(axis, end, pixels);
  }

  processes(axis, end, pixels) {
    const { run } = this;
    const lives = [];
    const shades = [];
    run.lives.forEach((life, index) => {
      const to = { died: life.last_sign_at, stopped: life.ended_at ?? life.last_sign_at }[life.end] ?? end;
      const from = Math.max(life.began_at, axis.start);
      const length = (place(axis, to) - place(axis, from)) * pixels;
      const bar = h(`i.life.is-${life.end}`, { title: lifeWords(life) }, length > PID_PIXELS ? String(life.pid) : "");
      put(bar, axis, from, Math.max(from, to));
      lives.push(bar);
      if (life.end !== "died" && life.end !== "stopped") return;
      const after = run.lives[index + 1];
      const until = after ? after.began_at : end;
      const shade = h(`div.gap.is-${life.end}`, { title: lifeWords(life) });
      put(shade, axis, to, until);
      shades.push(shade);
      const wide = (place(axis, until) - place(axis, to)) * pixels;
      const words = wide > 110 ? `${life.pid} ${life.end}` : wide > 50 ? life.end : "";
      const before = wide < ICON_PIXELS ? ".before" : ""; // on the end of the life itself, where that has room
      if (before && length < PID_PIXELS + ICON_PIXELS) return;
      const death = h(`span.death.is-${life.end}${before}`, { title: lifeWords(life) }, life.end === "died" ? icon("interrupted") : null, words);
      death.style.left = `${place(axis, to) * 100}%`;
      lives.push(death);
    });
    this.lane.replaceChildren(...lives);
    this.shade.replaceChildren(...shades);
  }
}

/** Where a bar ends: that of an attempt in which the process died fades out, since nobody knows when that was. */
function untilOf(bar, end) {
  return (bar.state === "died" ? bar.until : bar.to) ?? end;
}

function put(element, axis, from, to) {
  const [left, right] = [place(axis, from), place(axis, to)];
  element.style.left = `${left * 100}%`;
  element.style.width = `${Math.max(0, right - left) * 100}%`;
}

/** The waits between the attempts of an operation, the one that it is in included. */
function backOffs(row) {
  const waits = [];
  row.bars.forEach((bar, index) => {
    const next = row.bars[index + 1];
    if (bar.state !== "failed" || bar.to === null) return;
    if (next) waits.push({ from: bar.to, to: next.from });
    else if (row.status === "retrying") waits.push({ from: bar.to, to: null, due: row.retry_at });
  });
  return waits;
}

function waitWords(wait) {
  return wait.to === null ? `waits to be tried again, due ${utc(wait.due)}` : `waited ${span(wait.to - wait.from)} to be tried again`;
}

function lifeWords(life) {
  const process = `process ${life.pid}, from ${utc(life.began_at)}`;
  if (life.end === "stopped") return `${process}, stopped at ${utc(life.ended_at)}`;
  if (life.end !== "died") return process;
  const by = life.next_at === null ? "" : `, before ${utc(life.next_at)}`;
  return `${process}, died after ${utc(life.last_sign_at)}${by}`;
}

/** The lengths of the stretches that are squeezed, where there is room for them. */
function squeezed(axis, pixels) {
  return axis.pieces
    .filter((piece) => piece.squeezed && (piece.width / axis.width) * pixels > 34)
    .map((piece) => {
      const mark = h("span.squeezed", { title: `${span(piece.to - piece.from)}, drawn shorter than it was` }, span(piece.to - piece.from));
      mark.style.left = `${(piece.at / axis.width) * 100}%`;
      mark.style.width = `${(piece.width / axis.width) * 100}%`;
      return mark;
    });
}
