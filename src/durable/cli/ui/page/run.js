// One run: how it stands in words, what went in and came out, and its timeline with the step that is open.

import { actionsOf, answerLine, stepActionsOf } from "./actions.js";
import { get } from "./api.js";
import { age, copyable, h, icon, moment, now, setNow, span } from "./dom.js";
import { card, errorOf, stepPanel } from "./step.js";
import { Timeline, keyOf } from "./timeline.js";
import { fields, tree } from "./values.js";

export class RunView {
  /** `onOpen(id)` opens another run, `onStep(key)` is called when a step is opened or closed (`null`). */
  constructor(element, { onOpen, onStep, onBack }) {
    this.element = element;
    this.onOpen = onOpen;
    this.onStep = onStep;
    this.onBack = onBack;
    this.id = null;
    this.opened = null; // the key of the step that is open
    this.drawn = ""; // what the head was drawn from
    this.head = h("div.head-of-run");
    this.timeline = new Timeline({ onChoose: (row) => this.toggle(row), onOpen });
    setInterval(() => this.tick(), 1000);
  }

  /** Show a run, `null` for none; `step` is the key of the step to open. */
  async open(id, step = null) {
    if (id === this.id) {
      if (step !== this.opened) await this.show(step);
      return;
    }
    this.id = id;
    this.run = null;
    this.opened = step;
    this.drawn = "";
    this.answer = answerLine();
    this.timeline.mark(null, null);
    this.element.scrollTop = 0;
    this.element.replaceChildren(id === null ? nothingChosen() : h("p.note", {}, "…"));
    await this.refresh();
  }

  /** The journal has changed: read the run again. */
  async refresh() {
    const id = this.id;
    if (id === null) return;
    let run;
    try {
      run = await get("run", { id });
    } catch (error) {
      if (error.code !== 404 || id !== this.id) throw error;
      this.run = null;
      this.drawn = "";
      this.element.replaceChildren(h("p.note", {}, error.message));
      return;
    }
    if (id !== this.id) return;
    setNow(run.now);
    this.run = run;
    this.drawHead();
    if (!this.timeline.element.isConnected) this.element.replaceChildren(this.head, this.timeline.element);
    this.timeline.show(run);
    if (this.opened !== null) await this.show(this.opened);
  }

  tick() {
    if (!this.run || this.run.finished_at !== null || document.hidden) return;
    this.timeline.layout();
    this.facts?.replaceWith((this.facts = factsOf(this.run)));
  }

  // -- steps ----------------------------------------------------------------------------------------------------------

  /** Go to the step `by` rows further down, without opening it. */
  move(by) {
    const row = this.timeline.next(by);
    if (row) this.timeline.mark(keyOf(row), keyOf(row) === this.opened ? this.timeline.panel : null);
    if (row && keyOf(row) !== this.opened) this.opened = null;
  }

  /** Open the step that is marked, or close it. */
  toggle(row = this.timeline.operations.find((line) => keyOf(line.row) === this.timeline.chosen)?.row) {
    if (row) this.onStep(keyOf(row) === this.opened ? null : keyOf(row));
  }

  /** Show the step of a key, `null`: close the one that is open. */
  async show(key) {
    const id = this.id;
    this.opened = key;
    const row = this.run?.rows.find((each) => each.position !== undefined && keyOf(each) === key);
    if (!row) {
      this.timeline.mark(key === null ? this.timeline.chosen : null, null);
      return;
    }
    const step = await get("step", { id, branch: row.branch, position: row.position });
    if (id !== this.id || key !== this.opened) return;
    const before = this.timeline.panel;
    const drawn = JSON.stringify({ ...step, now: 0 });
    if (before?.dataset.of === key && before.drawn === drawn) return; // what is open in it stays open
    const panel = h("div.panel", {}, stepPanel(step, stepActionsOf(this.run, row)));
    panel.dataset.of = key;
    panel.drawn = drawn;
    this.timeline.mark(key, panel);
    if (before?.dataset.of !== key) panel.scrollIntoView({ block: "nearest" });
  }

  // -- head -----------------------------------------------------------------------------------------------------------

  drawHead() {
    const { rows, lives, now: at, ...told } = this.run;
    const drawn = JSON.stringify(told);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const { run } = this;
    const [first, ...others] = run.sentences;
    this.facts = factsOf(run);
    this.head.replaceChildren(
      h("button.back.quiet", { type: "button", click: this.onBack }, "← Runs"),
      run.parent ? this.parentOf(run.parent) : "",
      h(
        "h1",
        {},
        h("span", {}, run.workflow),
        h(`span.pill.is-${run.status}`, {}, icon(run.status), run.status),
      ),
      h("p.id", {}, copyable(run.id, "id")),
      h("p.story", {}, first, others.length ? h("span.quiet", {}, ` ${others.join(" ")}`) : null),
      this.facts,
      actionsOf(run, this.answer),
      ...run.damage.map((words) => h("p.trouble", {}, words)),
      run.error ? h(`div.card.wide.is-${run.status}`, {}, h("h3", {}, run.status === "blocked" ? "Why it is blocked" : "Error"), errorOf(run.error)) : "",
      h("div.cards", {}, card("Input", fields(run.input)), run.output === null ? null : card("Result", tree(run.output))),
    );
  }

  parentOf(parent) {
    const link = h("a", { href: `#run=${encodeURIComponent(parent.id)}` }, `${parent.workflow} `, h("code", {}, parent.id));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.onOpen(parent.id);
    });
    return h("p.parent.quiet", {}, "called by ", link);
  }
}

function factsOf(run) {
  const facts = [
    ["Created", [moment(run.created_at), h("span.quiet", {}, now() - run.created_at < 1 ? " now" : ` ${age(now() - run.created_at)} ago`)]],
    run.finished_at === null ? null : ["Finished", [moment(run.finished_at)]],
    run.finished_at === null
      ? ["running", "waiting"].includes(run.status) ? ["For", [span(now() - run.created_at)]] : null
      : ["Took", [span(run.finished_at - run.created_at)]],
    run.wake_at === null || run.status !== "waiting" ? null : ["Due", [moment(run.wake_at)]],
    run.pid === null ? null : ["Process", [String(run.pid)]],
    ["Module", [run.module]],
  ];
  return h("dl.facts", {}, facts.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function nothingChosen() {
  return h("div.nothing", {}, h("p", {}, "Choose a run to see what happened in it."), h("p.quiet", {}, "j and k go through the list, / searches, ? shows all keys."));
}
