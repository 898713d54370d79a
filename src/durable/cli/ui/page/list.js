// The list of runs: only the rows in sight are elements, and pages are fetched as they come near.

import { get } from "./api.js";
import { age, h, icon, now, setNow, span } from "./dom.js";
import { PAGE } from "./first.js";

const ROW = 60; // the height of a row, as in page.css
const AHEAD = 20; // rows before the end at which the next page is fetched

export class RunList {
  /** `element` scrolls; `onChoose(id)` is called when a run is chosen, `onState()` when there are newer ones. */
  constructor(element, { onChoose, onNewer }) {
    this.element = element;
    this.onChoose = onChoose;
    this.onNewer = onNewer;
    this.filters = {};
    this.chosen = null;
    this.rows = [];
    this.end = null; // the key below which the next page is
    this.version = 0; // counts changes of the filters: answers to older ones are dropped
    this.loading = false;
    this.space = h("div.space");
    this.note = h("p.note");
    element.append(this.space, this.note);
    element.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(element);
  }

  /** Show the runs of these filters, from the newest on. `asked`: the answer to that, where it is on its way. */
  async restart(filters, asked = null) {
    this.filters = filters;
    this.version += 1;
    this.loading = false;
    this.element.scrollTop = 0;
    this.element.setAttribute("aria-busy", "true");
    await this.fetchTop(true, asked);
  }

  /** The journal has changed: read again what is in sight. */
  async refresh() {
    const first = this.firstInSight();
    if (first === 0) return this.fetchTop(false);
    const version = this.version;
    const below = this.rows[first].seq + 1;
    const [page, newest] = await Promise.all([
      get("runs", { ...this.filters, below, limit: this.inSight() }),
      get("runs", { ...this.filters, limit: 1 }),
    ]);
    if (version !== this.version) return;
    this.replace(page, below);
    this.onNewer(newest.runs.length > 0 && newest.runs[0].seq > this.rows[0].seq);
    this.draw();
  }

  async fetchTop(fresh, asked = null) {
    const version = this.version;
    const page = await (asked ?? get("runs", { ...this.filters, limit: Math.max(PAGE, this.inSight()) }));
    if (version !== this.version) return;
    setNow(page.now);
    const older = fresh ? [] : this.rows.filter((row) => page.end !== null && row.seq < page.end);
    const connected = older.length > 0 && this.rows.some((row) => row.seq >= page.end);
    this.rows = connected ? [...page.runs, ...older] : page.runs;
    if (!connected) this.end = page.end;
    this.element.removeAttribute("aria-busy");
    this.onNewer(false);
    this.draw();
  }

  /** The next page, where its beginning is near; a search goes on until it has filled the screen. */
  async fetchMore() {
    const near = this.firstInSight() + this.inSight() + AHEAD >= this.rows.length;
    if (!near || this.end === null || this.loading) return;
    const { version, end: below } = this;
    this.loading = true;
    try {
      const page = await get("runs", { ...this.filters, below, limit: PAGE });
      if (version !== this.version) return;
      if (below === this.end) { // else the rows were read anew meanwhile, and end elsewhere
        this.rows.push(...page.runs);
        this.end = page.end;
      }
    } finally {
      if (version === this.version) this.loading = false;
    }
    this.draw();
  }

  /** The rows that a page looked at give way to those that it found. */
  replace(page, below) {
    const end = page.end ?? 0;
    const newer = this.rows.filter((row) => row.seq >= below);
    const older = this.rows.filter((row) => row.seq < end);
    this.rows = [...newer, ...page.runs, ...older];
  }

  firstInSight() {
    return Math.min(Math.floor(this.element.scrollTop / ROW), Math.max(0, this.rows.length - 1));
  }

  inSight() {
    return Math.ceil(this.element.clientHeight / ROW) + 2;
  }

  // -- choosing -------------------------------------------------------------------------------------------------------

  /** Mark a run as the chosen one. */
  mark(id) {
    this.chosen = id;
    this.draw();
  }

  /** Choose the run `by` rows further down, or the first or last one loaded (`Infinity`). */
  move(by) {
    if (!this.rows.length) return;
    const at = this.rows.findIndex((row) => row.id !== null && row.id === this.chosen);
    const wanted = at < 0 ? (by > 0 && by !== Infinity ? 0 : at + by) : at + by;
    const index = Math.max(0, Math.min(this.rows.length - 1, wanted));
    this.show(index);
    if (this.rows[index].id !== null) this.onChoose(this.rows[index].id);
  }

  show(index) {
    const { scrollTop, clientHeight } = this.element;
    if (index * ROW < scrollTop) this.element.scrollTop = index * ROW;
    if ((index + 1) * ROW > scrollTop + clientHeight) this.element.scrollTop = (index + 1) * ROW - clientHeight;
  }

  // -- drawing --------------------------------------------------------------------------------------------------------

  draw() {
    const first = Math.max(0, this.firstInSight() - 4);
    const shown = this.rows.slice(first, first + this.inSight() + 8);
    this.space.style.height = `${this.rows.length * ROW}px`;
    this.space.replaceChildren(...shown.map((row, index) => this.row(row, first + index)));
    this.note.textContent = this.words();
    this.fetchMore().catch(() => {}); // asked again when something changes, and then told
  }

  words() {
    if (this.element.hasAttribute("aria-busy")) return "";
    if (this.end !== null) return this.filters.text ? "Searching further back…" : "…";
    if (this.rows.length) return "";
    return Object.values(this.filters).some(Boolean) ? "No run is like that." : "No runs yet.";
  }

  row(run, index) {
    const chosen = run.id !== null && run.id === this.chosen;
    const line = h(
      `button.row${chosen ? ".chosen" : ""}`,
      {
        type: "button",
        role: "option",
        tabindex: "-1",
        "aria-selected": String(chosen),
        "aria-posinset": index + 1,
        style: { top: `${index * ROW}px` },
        click: () => run.id !== null && this.onChoose(run.id, true),
      },
      icon(run.status),
      h("span.name", {}, run.workflow ?? "damaged record"),
      h(`span.word.is-${run.status}`, {}, run.status),
      h("span.about", {}, h("code", {}, run.id ?? `number ${run.seq}`), h("span", {}, about(run))),
      h("span.age", {}, run.created_at ? age(now() - run.created_at) : ""),
    );
    line.dataset.id = run.id ?? "";
    return line;
  }
}

/** What a run does, or how it ended, beside its id. */
function about(run) {
  if (run.status === "damaged") return run.why;
  if (run.status === "completed") return `${steps(run.done)} in ${span(run.finished_at - run.created_at)}`;
  const attempt = run.attempt > 1 ? ` #${run.attempt}` : "";
  const others = run.under_way > 1 && run.status !== "failed" ? ` +${run.under_way - 1}` : "";
  const step = run.step === null ? "" : `${run.step}${attempt}${others}`;
  return [step, run.why].filter(Boolean).join(" · ") || steps(run.done);
}

function steps(count) {
  return `${count.toLocaleString("en")} step${count === 1 ? "" : "s"}`;
}
