// One operation: what went in, what came out, every attempt with its traceback, and the idempotency key.

import { clock, copyable, h, icon, moment, now, span } from "./dom.js";
import { fields, tree } from "./values.js";

/** The panel of an operation; `tools` are buttons that change the run, if there are any. */
export function stepPanel(step, tools) {
  const attempts = step.kind === "step" ? step.attempts.filter((attempt) => attempt.attempt > 0) : [];
  return [
    h(
      "div.cards",
      {},
      step.input === null ? null : card("Input", fields(step.input)),
      step.output === null ? null : card(step.kind === "event" ? "Value" : "Output", tree(step.output)),
    ),
    step.error && !attempts.some((attempt) => attempt.error) ? errorOf(step.error) : null,
    attempts.length ? null : h("p.quiet", {}, ...timeWords(step)),
    attempts.length ? h("ol.attempts", {}, attempts.map((attempt, index) => attemptOf(attempt, attempts.length, index === attempts.length - 1))) : null,
    step.retry_at === null ? null : h("p", {}, ...dueWords(step)),
    step.idempotency_key === null
      ? null
      : h("p.key-line", {}, h("span.quiet", {}, "Idempotency key "), copyable(step.idempotency_key, "key")),
    tools.length ? h("p.tools", {}, tools) : null,
  ];
}

function timeWords({ started_at: from, finished_at: to }) {
  if (to === null) return ["Since ", moment(from), `, for ${span(now() - from)}`];
  return to - from < 0.001 ? ["At ", moment(from)] : ["From ", moment(from), " to ", moment(to), `, ${span(to - from)}`];
}

function dueWords(step) {
  const words = { sleep: "Sleeps until ", signal: "Waits no longer than until " }[step.kind] ?? "Next attempt at ";
  return [words, moment(step.retry_at), step.retry_at > now() ? `, in ${span(step.retry_at - now())}` : ""];
}

function attemptOf(attempt, count, isLast) {
  const { started_at: from, finished_at: to, status } = attempt;
  const took = to === null || status === "retrying" ? "" : `, ${span(to - from)}`;
  const words = { interrupted: "the process died in it", running: `running for ${span(now() - from)}` }[status] ?? status;
  return h(
    "li",
    {},
    h(
      "div.attempt",
      {},
      icon(status),
      h("strong", {}, count > 1 ? `Attempt ${attempt.attempt}` : "One attempt"),
      h("span.quiet", { title: clock(from) }, moment(from), took, " · ", words),
    ),
    attempt.error ? errorOf(attempt.error, isLast) : null,
  );
}

/** An error with its traceback, which is open or not. */
export function errorOf(error, open = false) {
  const name = h("strong", { title: error.module }, error.type);
  return h(
    "div.error",
    {},
    h("p.message", {}, name, error.message ? `: ${error.message}` : ""),
    error.traceback ? h("details", { open }, h("summary", {}, "Traceback"), h("pre", {}, error.traceback)) : null,
  );
}

/** A titled box. */
export function card(title, ...content) {
  return h("div.card", {}, h("h3", {}, title), content);
}
