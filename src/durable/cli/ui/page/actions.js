// What changes a run. Shown only where `durable ui --write` serves the page, and its token came along in the address.

import { post, token } from "./api.js";
import { h } from "./dom.js";

const MAY_CANCEL = new Set(["queued", "running", "waiting", "blocked", "interrupted"]);
const SURE_MS = 4000;

/** Where the answer to a change is told. */
export function answerLine() {
  return h("span.answer", { role: "status" });
}

/** The buttons of a run. `answer`: the line that stays when they are drawn anew, since the change itself redraws them. */
export function actionsOf(run, answer) {
  if (!run.writes) return "";
  if (!token()) return h("p.quiet.read-only", {}, "To change runs, open the address that durable ui --write printed.");
  const ask = (name, more) => async () => {
    answer.textContent = "…";
    try {
      answer.textContent = (await post(name, { id: run.id, ...more?.() })).done;
    } catch (error) {
      answer.textContent = error.message;
    }
  };
  return h(
    "div.actions",
    {},
    MAY_CANCEL.has(run.status) ? sure("Cancel", "Really cancel?", ask("cancel")) : null,
    run.may_retry ? h("button", { type: "button", click: ask("retry") }, "Retry") : null,
    MAY_CANCEL.has(run.status) ? signalForm(run, ask) : null,
    answer,
  );
}

/** The buttons of a step. */
export function stepActionsOf(run, row) {
  if (!run.writes || !token()) return [];
  const answer = answerLine();
  const fork = async () => {
    answer.textContent = "…";
    try {
      const { done, id } = await post("fork", { id: run.id, branch: row.branch, position: row.position });
      answer.replaceChildren(`${done} `, h("a", { href: `#run=${encodeURIComponent(id)}` }, id));
    } catch (error) {
      answer.textContent = error.message;
    }
  };
  const words = "A new run that keeps everything before this step, and begins here with the code of today";
  return [h("button", { type: "button", title: words, click: fork }, "Fork from here"), answer];
}

/** A button that has to be pressed twice. */
function sure(name, question, act) {
  const button = h("button", { type: "button" }, name);
  let asked = false;
  button.addEventListener("click", () => {
    if (asked) act();
    asked = !asked;
    button.textContent = asked ? question : name;
    button.classList.toggle("asked", asked);
    if (asked) setTimeout(() => asked && reset(), SURE_MS);
  });
  const reset = () => {
    asked = false;
    button.textContent = name;
    button.classList.remove("asked");
  };
  return button;
}

function signalForm(run, ask) {
  const awaited = run.rows.find((row) => row.kind === "signal" && row.status === "waiting");
  const name = h("input", { placeholder: "signal", "aria-label": "Name of the signal", required: true, size: 12 });
  name.value = awaited?.name ?? "";
  const value = h("input", { placeholder: "value, as JSON", "aria-label": "Value of the signal, as JSON", size: 18 });
  const send = ask("signal", () => ({ name: name.value, value: value.value || "null" }));
  const form = h("form.signal", {}, name, value, h("button", {}, "Send"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  return form;
}
